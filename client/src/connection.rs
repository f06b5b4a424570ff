//! One connection to the bus that comes back by itself.

use std::time::Duration;

use bytes::Bytes;
use hostbus_wire::QoS;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, EventLoop, LastWill, MqttOptions, Packet,
    SubscribeFilter, SubscribeReasonCode, Transport,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::BusConfig;
use crate::error::ClientError;
use crate::returns::Returns;
use crate::sender::{Sender, less_one, library_qos};
use crate::tls::{Failure, Tunnel};

/// The largest packet we take, in bytes. A packet beyond it breaks the connection, and a retained one
/// would do so again at each return, so this lies far above what brokers let pass by default.
const MAX_INCOMING_BYTES: usize = 64 * 1024 * 1024;
/// The largest packet we send, in bytes: a payload of the contract with room to spare.
const MAX_OUTGOING_BYTES: usize = 1024 * 1024;
/// How many events wait for the component, and how many publishes for the socket. When the events
/// are full the connection reads no more until the component takes some; when the publishes are
/// full [`Sender::publish`] waits.
const CHANNEL: usize = 1024;
/// How long saying good-bye may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// What the broker publishes for us when it loses us.
#[derive(Debug, Clone)]
pub struct Will {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
    /// How sure.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
}

/// What a component wants of its connection.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The component's name; the client id begins with it.
    pub component: String,
    /// The filters to subscribe to, at each connect.
    pub filters: Vec<(String, QoS)>,
    /// The last will.
    pub will: Option<Will>,
    /// Over how long clients of this kind come back when they all lose their broker at once. Zero:
    /// each comes back at once.
    pub return_within: Duration,
}

/// A message from the bus.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: Bytes,
    /// It stood retained when we subscribed.
    pub retained: bool,
}

/// What happens on a connection.
#[derive(Debug)]
pub enum Event {
    /// We are connected and subscribed. A new session: what was not acknowledged is forgotten.
    Connected,
    /// The connection is lost; we try again.
    Disconnected,
    /// A message.
    Message(Message),
}

/// Why there is no connection at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// In words for people; no secret in it.
    pub reason: String,
    /// The broker was reached and refuses who we are.
    pub refused: bool,
}

/// A connection to the bus. Its events must be taken, else it comes to a halt.
#[derive(Debug)]
pub struct Connection {
    events: mpsc::Receiver<Event>,
    sender: Sender,
    trouble: watch::Receiver<Option<Trouble>>,
    token: CancellationToken,
    task: JoinHandle<()>,
}

impl Connection {
    /// Begins to connect. Returns at once: [`Event::Connected`] tells of success, and failures are
    /// logged and tried again, with growing waits.
    ///
    /// # Errors
    /// The settings are wrong. A broker that is away is no error.
    pub fn open(config: &BusConfig, options: Options) -> Result<Self, ClientError> {
        let endpoint = config.endpoint()?;
        let client_id = config
            .client_id
            .clone()
            .unwrap_or_else(|| format!("hostbus-{}-{:08x}", options.component, random()));
        let mut tunnel = None;
        let mut mqtt = if endpoint.tls {
            let tunnel = tunnel.insert(Tunnel::open(endpoint, config.ca_file.as_deref())?);
            let mut mqtt = MqttOptions::new(client_id, tunnel.path(), 0);
            mqtt.set_transport(Transport::Unix);
            mqtt
        } else {
            MqttOptions::new(client_id, endpoint.host, endpoint.port)
        };
        mqtt.set_keep_alive(Duration::from_secs(
            config.keep_alive_seconds.clamp(5, 3600).into(),
        ))
        .set_clean_session(true)
        .set_max_packet_size(MAX_INCOMING_BYTES, MAX_OUTGOING_BYTES);
        if let Some((user, password)) = config.credentials()? {
            mqtt.set_credentials(user, password.reveal());
        }
        if let Some(will) = options.will {
            let qos = library_qos(will.qos);
            mqtt.set_last_will(LastWill::new(will.topic, will.payload, qos, will.retain));
        }
        let (client, mut event_loop) = AsyncClient::new(mqtt, CHANNEL);
        event_loop.network_options.set_tcp_nodelay(true);
        event_loop.network_options.set_connection_timeout(10);
        let (event_sender, events) = mpsc::channel(CHANNEL);
        let (connected_sender, connected) = watch::channel(false);
        let (unacknowledged, _) = watch::channel(0);
        let (trouble_sender, trouble) = watch::channel(None);
        let token = CancellationToken::new();
        let driver = Driver {
            event_loop,
            client: client.clone(),
            filters: options.filters,
            events: event_sender,
            connected: connected_sender,
            unacknowledged: unacknowledged.clone(),
            returns: Returns::new(options.return_within),
            component: options.component,
            url: config.url.clone(),
            trouble: trouble_sender,
            tls_failure: tunnel.as_ref().map(Tunnel::failure),
        };
        let run = token.clone();
        let task = tokio::spawn(async move {
            let Some(tunnel) = tunnel else {
                return driver.run(run).await;
            };
            let carrying = run.child_token();
            let driven = async {
                driver.run(run).await;
                carrying.cancel();
            };
            tokio::join!(driven, tunnel.run(carrying.clone()));
        });
        Ok(Self {
            events,
            sender: Sender {
                client,
                connected,
                unacknowledged,
            },
            trouble,
            token,
            task,
        })
    }

    /// The next event. May be dropped and called again.
    ///
    /// # Panics
    /// When the connection's own task panicked.
    pub async fn next(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            None => panic!("the connection's task ended without being told to"),
        }
    }

    /// An event that is there already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// Why there is no connection: `None` while there is one, or before the first try has failed.
    #[must_use]
    pub fn trouble(&self) -> watch::Receiver<Option<Trouble>> {
        self.trouble.clone()
    }

    /// A handle to publish with.
    #[must_use]
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// Sends what was published before, waits a moment until the broker has acknowledged what it
    /// must, says good-bye, and ends. The will is not fired.
    pub async fn close(mut self) {
        // Events nobody will take must not hold up the good-bye.
        self.events.close();
        let mut unacknowledged = self.sender.unacknowledged.subscribe();
        let all = unacknowledged.wait_for(|count| *count == 0);
        // What is not acknowledged in time is said to nobody: the bus is going away, too.
        let _ = tokio::time::timeout(CLOSE_WITHIN, all).await;
        if self.sender.is_connected() && self.sender.client.disconnect().await.is_ok() {
            let _ = tokio::time::timeout(CLOSE_WITHIN, &mut self.task).await;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

fn random() -> u32 {
    // Without random numbers the process id alone tells components apart on one host.
    getrandom::u32().unwrap_or_else(|_| std::process::id())
}

/// The task behind a connection.
struct Driver {
    event_loop: EventLoop,
    client: AsyncClient,
    filters: Vec<(String, QoS)>,
    events: mpsc::Sender<Event>,
    connected: watch::Sender<bool>,
    unacknowledged: watch::Sender<usize>,
    returns: Returns,
    component: String,
    url: String,
    trouble: watch::Sender<Option<Trouble>>,
    /// Why the broker can't be reached through TLS.
    tls_failure: Option<Failure>,
}

impl Driver {
    async fn run(mut self, token: CancellationToken) {
        loop {
            let polled = tokio::select! {
                polled = self.event_loop.poll() => polled,
                () = token.cancelled() => return,
            };
            match polled {
                Ok(rumqttc::Event::Incoming(packet)) => {
                    if self.take(packet).await {
                        self.returns.on_connected();
                    }
                }
                Ok(rumqttc::Event::Outgoing(rumqttc::Outgoing::Disconnect)) => return,
                Ok(rumqttc::Event::Outgoing(_)) => {}
                Err(ConnectionError::RequestsDone) => return,
                Err(error) => {
                    self.lost(&error).await;
                    tokio::select! {
                        () = tokio::time::sleep(self.returns.next_wait()) => {}
                        () = token.cancelled() => return,
                    }
                }
            }
        }
    }

    /// Handles what came in. Tells whether the connection has now become usable.
    async fn take(&mut self, packet: Packet) -> bool {
        match packet {
            Packet::ConnAck(_) if self.filters.is_empty() => self.up().await,
            Packet::ConnAck(_) => {
                let filters: Vec<SubscribeFilter> = self
                    .filters
                    .iter()
                    .map(|(filter, qos)| SubscribeFilter::new(filter.clone(), library_qos(*qos)))
                    .collect();
                // The channel is empty here: nobody publishes before we are up.
                if self.client.try_subscribe_many(filters).is_err() {
                    error!("failed to queue the subscriptions");
                }
                return false;
            }
            Packet::SubAck(ack) if *self.connected.borrow() => {
                if ack.return_codes.contains(&SubscribeReasonCode::Failure) {
                    error!(
                        component = self.component,
                        "the broker refused a subscription that was added"
                    );
                }
                return false;
            }
            Packet::SubAck(ack) => {
                for ((filter, _), code) in self.filters.iter().zip(&ack.return_codes) {
                    if *code == SubscribeReasonCode::Failure {
                        error!(
                            component = self.component,
                            filter, "the broker refused a subscription"
                        );
                    }
                }
                self.up().await;
            }
            Packet::Publish(publish) => {
                let message = Message {
                    topic: publish.topic,
                    payload: publish.payload,
                    retained: publish.retain,
                };
                self.tell(Event::Message(message)).await;
                return false;
            }
            Packet::PubAck(_) | Packet::PubComp(_) => {
                self.unacknowledged.send_modify(less_one);
                return false;
            }
            _ => return false,
        }
        true
    }

    async fn up(&mut self) {
        self.trouble.send_replace(None);
        info!(
            component = self.component,
            url = self.url,
            "connected to the bus"
        );
        self.connected.send_replace(true);
        self.tell(Event::Connected).await;
    }

    async fn lost(&mut self, error: &ConnectionError) {
        let told = self.tls_failure.as_ref().and_then(Failure::take);
        let text = told.unwrap_or_else(|| explain(error));
        let trouble = Some(Trouble {
            reason: text,
            refused: is_refusal(error),
        });
        if *self.trouble.borrow() != trouble {
            let text = trouble.as_ref().map(|trouble| &*trouble.reason);
            warn!(
                url = self.url,
                error = text,
                "no connection to the bus, trying again"
            );
            self.trouble.send_replace(trouble);
        }
        // An answer that was read but not yet taken must not count for the next connection.
        self.event_loop
            .state
            .events
            .retain(|event| matches!(event, rumqttc::Event::Incoming(Packet::Publish(_))));
        let was_connected = self.connected.send_replace(false);
        // After that: who waits for acknowledgements must not take this for them.
        self.unacknowledged.send_replace(0);
        if was_connected {
            self.tell(Event::Disconnected).await;
        }
    }

    async fn tell(&mut self, event: Event) {
        // The receiver is gone only while the connection closes.
        let _ = self.events.send(event).await;
    }
}

/// Whether the broker refuses who we are (MQTT 3.1.1, section 3.2.2.3: codes 4, 5 and, of the client id, 2).
fn is_refusal(error: &ConnectionError) -> bool {
    matches!(
        error,
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::BadUserNamePassword
                | ConnectReturnCode::NotAuthorized
                | ConnectReturnCode::BadClientId
        )
    )
}

fn explain(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized,
        ) => "the broker refuses this user name or password".to_owned(),
        ConnectionError::ConnectionRefused(code) => format!("the broker refuses us: {code:?}"),
        other => other.to_string(),
    }
}
