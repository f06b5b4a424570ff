//! One client's connection, from its first byte to its last, as one task.
//!
//! It reads packets, checks what the client may publish, hands messages to the hub, and writes what
//! its session has for the client. It never waits for another client: reading goes on while
//! writing is blocked, up to `Limits::answer_bytes` of answers.
//!
//! A publish without the right is dropped and counted. With QoS 1, 5.0 gets a PUBACK that says so;
//! 3.1.1 has no way to say so and gets a plain PUBACK, since without one it would send the message
//! again for ever. The first refusals of a connection are logged, with their topics.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytestring::ByteString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::codec::packet::{Disconnect, Packet, Publish, QoS, Subscribe, Unsubscribe, Version};
use crate::codec::reason::Reason;
use crate::codec::{DecodeError, Decoder, writer};
use crate::counters::Refusal;
use crate::entrance::Place;
use crate::handshake::{TOPIC_ALIAS_MAXIMUM, Unwelcome, Welcome, shake_hands};
use crate::hub::Hub;
use crate::message::Message;
use crate::session::Drained;
use crate::subscriber;
use crate::transport::Transport;

/// Messages are added to the write buffer while it is shorter than this.
const WRITE_AHEAD_BYTES: usize = 64 * 1024;

/// How long the last packets to a client may take.
const LINGER: Duration = Duration::from_secs(1);

/// A connection on which nothing moves for so long has nothing on its way when the broker stops.
const CALM: Duration = Duration::from_millis(100);

/// Refused topics that are logged, for each connection.
const MAX_LOGGED_TOPICS: usize = 8;

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    /// The client said goodbye.
    Goodbye {
        with_will: bool,
        expiry: Option<Duration>,
    },
    /// The stream broke, or the client closed it.
    Lost,
    /// The client sent what it may not send.
    Wrong(DecodeError),
    /// The broker ends it.
    Told(Reason),
    /// The client does not read its answers.
    Unread,
    /// The broker stops.
    Stopping,
}

impl End {
    /// What a 5.0 client is told.
    fn reason(self) -> Option<Reason> {
        match self {
            Self::Goodbye { .. } | Self::Lost => None,
            Self::Wrong(error) => Some(error.reason()),
            Self::Told(reason) => Some(reason),
            Self::Unread => Some(Reason::QUOTA_EXCEEDED),
            Self::Stopping => Some(Reason::SERVER_SHUTTING_DOWN),
        }
    }
}

/// Serves one client until it leaves or `token` is cancelled. It holds `place` until CONNECT is
/// answered.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    peer: SocketAddr,
    hub: &Hub,
    place: Place,
    token: CancellationToken,
) {
    let mut transport = Transport::new(stream);
    let mut decoder = Decoder::new(hub.limits().max_packet_bytes);
    let handshake = shake_hands(&mut transport, &mut decoder, peer, hub);
    let welcome = tokio::select! {
        welcome = timeout_at(place.deadline.into(), handshake) => welcome,
        () = place.leave.cancelled() => {
            debug!("no CONNECT in time for the next client");
            hub.counters().refuse_connection(Refusal::Crowded);
            return;
        }
        () = token.cancelled() => return,
    };
    drop(place);
    match welcome {
        Ok(Ok(welcome)) => {
            let mut connection = Connection {
                transport,
                decoder,
                hub,
                version: welcome.version,
                welcome,
                heard: Instant::now(),
                aliases: Vec::new(),
                refused: HashSet::new(),
            };
            connection.run(token).await;
        }
        Ok(Err(unwelcome)) => {
            refuse(&unwelcome, peer, hub);
            // Too late or not, there is nothing more to do for this client.
            let _ = timeout(LINGER, transport.close()).await;
        }
        Err(_) => {
            debug!("no CONNECT in time");
            hub.counters().refuse_connection(Refusal::TooSlow);
        }
    }
}

fn refuse(unwelcome: &Unwelcome, peer: SocketAddr, hub: &Hub) {
    match unwelcome {
        Unwelcome::Gone => {}
        Unwelcome::Wrong(error) => debug!(%error, "no MQTT client"),
        Unwelcome::Refused {
            reason,
            user,
            client_id,
        } => {
            hub.counters().connects_refused.add(1);
            let user = user.as_deref().unwrap_or_default();
            if hub.logins().is_news(peer.ip(), user, *reason) {
                let (user, client) = (short(user), short(client_id));
                info!(
                    ?user,
                    ?client,
                    reason = format_args!("{:#04x}", reason.0),
                    "client refused"
                );
            }
        }
    }
}

/// The beginning of a client's text, for a log line.
fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

struct Connection<'h, S> {
    transport: Transport<S>,
    decoder: Decoder,
    hub: &'h Hub,
    version: Version,
    welcome: Welcome,
    /// When the last bytes came in.
    heard: Instant,
    /// Topics by alias, from 1 on.
    aliases: Vec<Option<ByteString>>,
    /// Topics whose refusal was logged.
    refused: HashSet<ByteString>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    async fn run(&mut self, token: CancellationToken) {
        let session = Arc::clone(&self.welcome.attached.session);
        let user = short(&session.name().user);
        let client = short(&session.name().client_id);
        debug!(user, client, version = ?self.version, "client connected");
        self.hub.counters().clients_connected.add(1);
        let end = self.exchange(token).await;
        if end == End::Stopping {
            let _ = timeout(LINGER, self.deliver_rest()).await;
        }
        let fire = !matches!(
            end,
            End::Goodbye {
                with_will: false,
                ..
            } | End::Stopping
        );
        let expiry = match end {
            End::Goodbye { expiry, .. } => expiry,
            _ => None,
        };
        self.hub.detach(&self.welcome.attached, fire, expiry);
        self.hub.counters().clients_connected.subtract(1);
        match end {
            End::Goodbye { .. } | End::Stopping => debug!(user, client, "client disconnected"),
            End::Lost => debug!(user, client, "connection lost"),
            End::Wrong(error) => info!(user, client, %error, "client cut off"),
            End::Unread => warn!(user, client, "client cut off: it does not read its answers"),
            End::Told(reason) => {
                let reason = format_args!("{:#04x}", reason.0);
                info!(user, client, reason, "client cut off");
            }
        }
        if let Some(reason) = end.reason() {
            writer::disconnect(&mut self.transport.outgoing, self.version, reason);
        }
        if end != End::Lost {
            let _ = timeout(LINGER, self.transport.close()).await;
        }
    }

    /// Reads and writes until something ends the connection.
    async fn exchange(&mut self, token: CancellationToken) -> End {
        let wake = Arc::clone(&self.welcome.wake);
        let silence = self.welcome.silence;
        let far = Duration::from_secs(365 * 86_400);
        let quiet = tokio::time::sleep(silence.unwrap_or(far));
        let stop = token.cancelled();
        let calm = tokio::time::sleep(far);
        tokio::pin!(quiet, stop, calm);
        let mut stopping = None;
        // What came together with CONNECT waits already.
        if let Err(end) = self.handle_incoming() {
            return end;
        }
        loop {
            let more = match self.fill() {
                Ok(drained) => drained == Drained::More,
                Err(end) => return end,
            };
            let room = more && self.transport.outgoing.len() < WRITE_AHEAD_BYTES;
            tokio::select! {
                biased;
                () = &mut stop, if stopping.is_none() => {
                    // What is on its way, such as the last word of a publisher, still arrives.
                    stopping = Some(Instant::now());
                    calm.as_mut().reset(tokio::time::Instant::now() + CALM);
                }
                () = &mut calm, if stopping.is_some() => return End::Stopping,
                progress = self.transport.progress() => {
                    let Ok(progress) = progress else { return End::Lost };
                    if stopping.is_some_and(|begun| begun.elapsed() < LINGER) {
                        calm.as_mut().reset(tokio::time::Instant::now() + CALM);
                    }
                    self.hub.counters().bytes_sent.add(progress.written_bytes as u64);
                    if progress.read_bytes > 0 {
                        self.hub.counters().bytes_received.add(progress.read_bytes as u64);
                        self.heard = Instant::now();
                        if let Err(end) = self.handle_incoming() {
                            return end;
                        }
                    }
                }
                () = wake.notified() => {}
                () = tokio::task::yield_now(), if room => {}
                () = &mut quiet => {
                    let silence = silence.unwrap_or(far);
                    let passed = self.heard.elapsed();
                    if passed >= silence {
                        return End::Told(Reason::KEEP_ALIVE_TIMEOUT);
                    }
                    quiet.as_mut().reset(tokio::time::Instant::now() + (silence - passed));
                }
            }
        }
    }

    /// Moves messages from the session to the write buffer.
    fn fill(&mut self) -> Result<Drained, End> {
        if self.transport.outgoing.len() >= WRITE_AHEAD_BYTES {
            // Even then it must notice that it has to end.
            return match self
                .welcome
                .attached
                .session
                .must_end(self.welcome.attached.generation)
            {
                Some(reason) => Err(End::Told(reason)),
                None => Ok(Drained::More),
            };
        }
        let (session, generation) = (
            &self.welcome.attached.session,
            self.welcome.attached.generation,
        );
        let (now, counters) = (Instant::now(), self.hub.counters());
        let mut ready = Vec::new();
        let drained = session.drain(generation, self.hub.retained(), counters, now, &mut ready);
        for message in &ready {
            let delivery = message
                .outgoing
                .delivery(message.packet_id, message.dup, now);
            delivery.write(&mut self.transport.outgoing, self.version);
        }
        counters.messages_sent.add(ready.len() as u64);
        match drained {
            Drained::Ended(reason) => Err(End::Told(reason)),
            other => Ok(other),
        }
    }

    /// Sends what waits and needs no further acknowledgement, before the broker stops.
    async fn deliver_rest(&mut self) -> std::io::Result<()> {
        loop {
            let drained = self.fill();
            self.transport.flush().await?;
            if drained != Ok(Drained::More) {
                return Ok(());
            }
        }
    }

    fn handle_incoming(&mut self) -> Result<(), End> {
        while let Some(packet) = self
            .decoder
            .decode(&mut self.transport.incoming)
            .map_err(End::Wrong)?
        {
            self.handle(packet)?;
        }
        if self.transport.outgoing.len() > 2 * WRITE_AHEAD_BYTES + self.hub.limits().answer_bytes {
            return Err(End::Unread);
        }
        Ok(())
    }

    fn handle(&mut self, packet: Packet) -> Result<(), End> {
        let (session, generation) = (
            &self.welcome.attached.session,
            self.welcome.attached.generation,
        );
        match packet {
            Packet::Publish(publish) => self.publish(publish),
            Packet::PubAck(ack) => {
                session.acknowledged(generation, ack.packet_id);
                Ok(())
            }
            Packet::Subscribe(subscribe) => self.subscribe(&subscribe),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(&unsubscribe),
            Packet::PingReq => {
                writer::pingresp(&mut self.transport.outgoing);
                Ok(())
            }
            Packet::Disconnect(disconnect) => Err(self.goodbye(disconnect)),
            Packet::PubRec(_) | Packet::PubRel(_) | Packet::PubComp(_) => {
                Err(End::Wrong(DecodeError::Protocol("QoS 2 was not agreed on")))
            }
            Packet::Auth => Err(End::Wrong(DecodeError::Protocol(
                "authentication was not agreed on",
            ))),
            Packet::Connect(_) => Err(End::Wrong(DecodeError::Protocol("second CONNECT"))),
        }
    }

    fn publish(&mut self, mut publish: Publish) -> Result<(), End> {
        self.hub.counters().messages_received.add(1);
        if publish.qos == QoS::ExactlyOnce {
            return Err(End::Told(Reason::QOS_NOT_SUPPORTED));
        }
        self.resolve_alias(&mut publish)?;
        let limits = self.hub.limits();
        if publish
            .topic
            .as_bytes()
            .iter()
            .filter(|byte| **byte == b'/')
            .count()
            >= limits.max_topic_levels
        {
            return Err(End::Wrong(DecodeError::TopicName));
        }
        let (qos, packet_id) = (publish.qos, publish.packet_id);
        let session = &self.welcome.attached.session;
        let reason = if !session.access().may_write(&publish.topic) {
            self.refuse_publish(&publish.topic);
            Reason::NOT_AUTHORIZED
        } else {
            let message = Message::from_publish(publish, session.origin(), Instant::now());
            if self.hub.publish(message) {
                Reason::SUCCESS
            } else {
                Reason::NO_MATCHING_SUBSCRIBERS
            }
        };
        if qos != QoS::AtMostOnce {
            writer::puback(
                &mut self.transport.outgoing,
                self.version,
                packet_id,
                reason,
            );
        }
        Ok(())
    }

    fn resolve_alias(&mut self, publish: &mut Publish) -> Result<(), End> {
        let Some(alias) = publish.topic_alias else {
            return Ok(());
        };
        if alias > TOPIC_ALIAS_MAXIMUM {
            return Err(End::Told(Reason::TOPIC_ALIAS_INVALID));
        }
        let place = usize::from(alias) - 1;
        if publish.topic.is_empty() {
            let Some(Some(topic)) = self.aliases.get(place) else {
                return Err(End::Wrong(DecodeError::Protocol(
                    "topic alias that was never set",
                )));
            };
            publish.topic = topic.clone();
        } else {
            if self.aliases.len() <= place {
                self.aliases.resize(place + 1, None);
            }
            // A copy, so that the alias does not keep the message in memory.
            self.aliases[place] = Some(ByteString::from(&*publish.topic));
        }
        Ok(())
    }

    fn refuse_publish(&mut self, topic: &ByteString) {
        self.hub.counters().publishes_refused.add(1);
        if self.refused.len() < MAX_LOGGED_TOPICS && !self.refused.contains(topic) {
            self.refused.insert(ByteString::from(&**topic));
            let session = &self.welcome.attached.session;
            let user = short(&session.name().user);
            let client = short(&session.name().client_id);
            warn!(user, client, topic = ?short(topic), "publish refused: no right to this topic");
        }
    }

    fn subscribe(&mut self, packet: &Subscribe) -> Result<(), End> {
        let attached = &self.welcome.attached;
        let hub = self.hub;
        let codes = subscriber::subscribe(
            &attached.session,
            attached.generation,
            packet,
            hub.limits(),
            hub.subscriptions(),
            || hub.last_sequence(),
        )
        .ok_or(End::Told(Reason::SESSION_TAKEN_OVER))?;
        let out = &mut self.transport.outgoing;
        writer::suback(out, self.version, packet.packet_id, &codes);
        Ok(())
    }

    fn unsubscribe(&mut self, packet: &Unsubscribe) -> Result<(), End> {
        let attached = &self.welcome.attached;
        let filters = packet.filters.iter().map(|filter| &**filter);
        let codes = subscriber::unsubscribe(
            &attached.session,
            attached.generation,
            filters,
            self.hub.subscriptions(),
        )
        .ok_or(End::Told(Reason::SESSION_TAKEN_OVER))?;
        writer::unsuback(
            &mut self.transport.outgoing,
            self.version,
            packet.packet_id,
            &codes,
        );
        Ok(())
    }

    fn goodbye(&self, disconnect: Disconnect) -> End {
        let asked = disconnect.session_expiry_seconds;
        if asked.is_some_and(|seconds| seconds > 0) && !self.welcome.may_expire_later {
            return End::Wrong(DecodeError::Protocol(
                "session expiry above 0 in DISCONNECT only",
            ));
        }
        let most = self.hub.limits().session_expiry_max_seconds;
        End::Goodbye {
            with_will: disconnect.reason != Reason::SUCCESS,
            expiry: asked.map(|seconds| Duration::from_secs(seconds.min(most).into())),
        }
    }
}
