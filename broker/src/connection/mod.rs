//! One client's connection, from its first byte to its last, as one task.
//!
//! | module | owns |
//! |---|---|
//! | this one | its life: beginning, reading and writing side by side, end |
//! | `packets` | what each packet of the client does |
//! | `answers` | acknowledgements that wait until something is on disk |
//! | `aliases` | topic aliases, in both directions |
//! | `pace` | how fast the client may publish |
//!
//! It never waits for another client: reading goes on while writing is blocked, up to
//! `Limits::answer_bytes` of answers. It stops reading while too many of its own answers wait for
//! the disk, and while the client publishes faster than it may.

mod aliases;
mod answers;
mod pace;
mod packets;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytestring::ByteString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, debug, info, info_span, warn};

use crate::codec::reason::Reason;
use crate::codec::{DecodeError, Decoder, writer};
use crate::counters::{Refusal, Tally};
use crate::entrance::Place;
use crate::handshake::{Unwelcome, Welcome, shake_hands};
use crate::hub::Hub;
use crate::session::Drained;
use crate::transport::{READ_BYTES, Transport};
use crate::window::Ready;

pub(crate) use aliases::TOPIC_ALIAS_MAXIMUM;
use aliases::{GivenAliases, TakenAliases};
use answers::{Answer, Answers};
use pace::Pace;

/// Messages are added to the write buffer while it is shorter than this.
const WRITE_AHEAD_BYTES: usize = 64 * 1024;

/// More than a topic alias adds to a packet.
const ALIAS_BYTES: usize = 16;

/// A client that sends without a pause has so many bytes taken, then it is the others' turn: those
/// who get what it sent, or it would fill their queues before they run again.
const TURN_BYTES: usize = 64 * 1024;

/// How long the last packets to a client may take.
const LINGER: Duration = Duration::from_secs(1);

/// A connection on which nothing moves for so long has nothing on its way when the broker stops.
const CALM: Duration = Duration::from_millis(100);

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
    /// Its CONNECT could not be answered.
    NotLetIn,
    /// The client does not read its answers.
    Unread,
    /// The broker stops.
    Stopping,
}

impl End {
    /// What a 5.0 client is told.
    fn reason(self) -> Option<Reason> {
        match self {
            Self::Goodbye { .. } | Self::Lost | Self::NotLetIn => None,
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
    let span = info_span!("connection", %peer);
    let mut transport = Transport::new(stream);
    let mut decoder = Decoder::new(hub.limits().max_packet_bytes);
    let handshake = shake_hands(&mut transport, &mut decoder, peer, hub).instrument(span.clone());
    let welcome = tokio::select! {
        welcome = timeout_at(place.deadline.into(), handshake) => welcome,
        () = place.leave.cancelled() => {
            debug!(parent: &span, "no CONNECT in time for the next client");
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
                span,
                heard: Instant::now(),
                answers: Answers::new(hub),
                given: GivenAliases::new(welcome.topic_alias_maximum),
                taken: TakenAliases::default(),
                pace: Pace::new(hub.limits(), welcome.attached.session.identity()),
                stopped_short: false,
                refused: HashSet::new(),
                tally: Tally::default(),
                welcome,
            };
            connection.run(token).await;
        }
        Ok(Err(unwelcome)) => {
            span.in_scope(|| refuse(&unwelcome, peer, hub));
            let written_bytes = transport.close(LINGER).await;
            hub.counters().bytes_sent.add(written_bytes);
        }
        Err(_) => {
            debug!(parent: &span, "no CONNECT in time");
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
    /// Entered where something is logged: at each poll it would cost more than the poll.
    span: Span,
    welcome: Welcome,
    /// When the last bytes came in.
    heard: Instant,
    answers: Answers,
    given: GivenAliases,
    taken: TakenAliases,
    pace: Pace,
    /// Packets that were read wait until the client may go on.
    stopped_short: bool,
    /// Topics whose refusal was logged.
    refused: HashSet<ByteString>,
    tally: Tally,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    async fn run(&mut self, token: CancellationToken) {
        let session = Arc::clone(&self.welcome.attached.session);
        let user = short(&session.name().user);
        let client = short(&session.name().client_id);
        let version = self.welcome.dialect.version;
        debug!(parent: &self.span, user, client, ?version, "client connected");
        self.hub.counters().client_came();
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
                | End::NotLetIn
        );
        let expiry = match end {
            End::Goodbye { expiry, .. } => expiry,
            _ => None,
        };
        self.hub.detach(&self.welcome.attached, fire, expiry);
        self.hub.counters().clients_connected.subtract(1);
        self.span.in_scope(|| match end {
            End::Goodbye { .. } | End::Stopping => debug!(user, client, "client disconnected"),
            End::Lost | End::NotLetIn => debug!(user, client, "connection lost"),
            End::Wrong(error) => info!(user, client, %error, "client cut off"),
            End::Unread => warn!(user, client, "client cut off: it does not read its answers"),
            End::Told(reason) => {
                let reason = format_args!("{:#04x}", reason.0);
                info!(user, client, reason, "client cut off");
            }
        });
        if let Some(reason) = end.reason() {
            let dialect = self.welcome.dialect;
            writer::disconnect(&mut self.transport.outgoing, dialect, reason);
            let told = dialect.version.is_v5();
            self.hub.counters().packets_sent.add(told.into());
        }
        if end != End::Lost {
            let written_bytes = self.transport.close(LINGER).await;
            self.hub.counters().bytes_sent.add(written_bytes);
        }
    }

    /// Reads and writes until something ends the connection.
    async fn exchange(&mut self, token: CancellationToken) -> End {
        let wake = Arc::clone(&self.welcome.wake);
        let silence = self.welcome.silence;
        let far = Duration::from_secs(365 * 86_400);
        let quiet = tokio::time::sleep(silence.unwrap_or(far));
        let stop = token.cancelled();
        // What it is for depends: the calm before the end, or the end of a rest.
        let timer = tokio::time::sleep(far);
        tokio::pin!(quiet, stop, timer);
        let mut stopping = None;
        let mut unbroken = 0;
        if let Err(end) = self.welcomed(&wake, stop.as_mut()).await {
            return end;
        }
        loop {
            if unbroken >= TURN_BYTES {
                unbroken = 0;
                tokio::task::yield_now().await;
            }
            let drained = match self.handle_incoming().and_then(|()| self.fill()) {
                Ok(drained) => drained,
                Err(end) => return end,
            };
            let room =
                drained == Drained::More && self.transport.outgoing.len() < WRITE_AHEAD_BYTES;
            // Not asked whether it is over by now: then the timer is at once, and what was read
            // already is handled.
            let rest = self.pace.rests_until();
            let reads = rest.is_none() && !self.answers.are_many();
            if reads && self.stopped_short {
                // What was read already may be handled now; maybe nothing more ever comes.
                continue;
            }
            if let (Some(until), None) = (rest, stopping) {
                timer.as_mut().reset(until.into());
            }
            let waits_for_disk = drained == Drained::UntilSafe || !self.answers.is_empty();
            tokio::select! {
                biased;
                () = &mut stop, if stopping.is_none() => {
                    // What is on its way, such as the last word of a publisher, still arrives.
                    stopping = Some(Instant::now());
                    timer.as_mut().reset(tokio::time::Instant::now() + CALM);
                }
                () = &mut timer, if rest.is_some() || stopping.is_some() => {
                    let Some(begun) = stopping else { continue };
                    if self.answers.is_empty() || begun.elapsed() >= LINGER {
                        return End::Stopping;
                    }
                    timer.as_mut().reset(tokio::time::Instant::now() + CALM);
                }
                progress = self.transport.progress(reads) => {
                    let Ok(progress) = progress else { return End::Lost };
                    if stopping.is_some_and(|begun| begun.elapsed() < LINGER) {
                        timer.as_mut().reset(tokio::time::Instant::now() + CALM);
                    }
                    self.hub.counters().bytes_sent.add(progress.written_bytes as u64);
                    if progress.read_bytes > 0 {
                        self.hub.counters().bytes_received.add(progress.read_bytes as u64);
                        self.heard = Instant::now();
                        // A full read: more is there already.
                        let full = progress.read_bytes == READ_BYTES;
                        unbroken = if full { unbroken + READ_BYTES } else { 0 };
                    }
                }
                () = wake.notified() => {}
                () = self.answers.safer(), if waits_for_disk => {}
                () = tokio::task::yield_now(), if room => {}
                () = &mut quiet => {
                    let silence = silence.unwrap_or(far);
                    if !reads {
                        // It may well have spoken.
                        self.heard = Instant::now();
                    }
                    let passed = self.heard.elapsed();
                    if passed >= silence {
                        return End::Told(Reason::KEEP_ALIVE_TIMEOUT);
                    }
                    quiet.as_mut().reset(tokio::time::Instant::now() + (silence - passed));
                }
            }
        }
    }

    /// Sends CONNACK once the session is as safe as it says.
    async fn welcomed(&mut self, wake: &Notify, stop: impl Future<Output = ()>) -> Result<(), End> {
        let attached = &self.welcome.attached;
        tokio::select! {
            biased;
            safe = timeout(
                self.hub.limits().connect_timeout(),
                self.answers.until(attached.ticket),
            ) => if safe.is_err() {
                warn!(parent: &self.span, "session can't be written to disk: its client was not let in");
                return Err(End::NotLetIn);
            },
            // The session has a new connection, or has ended.
            () = wake.notified() => return Err(End::NotLetIn),
            () = stop => return Err(End::NotLetIn),
        }
        self.transport
            .outgoing
            .unsplit(std::mem::take(&mut self.welcome.connack));
        Ok(())
    }

    /// Moves answers that are due and messages from the session to the write buffer.
    fn fill(&mut self) -> Result<Drained, End> {
        let attached = &self.welcome.attached;
        let (session, generation) = (&attached.session, attached.generation);
        let (dialect, safe) = (self.welcome.dialect, self.answers.safe());
        let out = &mut self.transport.outgoing;
        self.answers.write_due(safe, out, dialect);
        if out.len() >= WRITE_AHEAD_BYTES {
            // Even then it must notice that it has to end.
            return match session.must_end(generation) {
                Some(reason) => Err(End::Told(reason)),
                None => Ok(Drained::More),
            };
        }
        let (now, counters) = (Instant::now(), self.hub.counters());
        let mut ready = Vec::new();
        let drained = session.drain(generation, self.hub.retained(), safe, now, &mut ready);
        let (mut messages, mut payload_bytes) = (0, 0);
        for ready in &ready {
            match ready {
                Ready::Publish {
                    outgoing,
                    packet_id,
                    dup,
                } => {
                    let cost = outgoing.message.cost_bytes();
                    // With an alias a packet may be longer; its cost says more than its length.
                    let alias = if cost + ALIAS_BYTES < dialect.max_packet_bytes {
                        self.given.of(&outgoing.message.topic)
                    } else {
                        None
                    };
                    match outgoing.shared_frame(dialect.version) {
                        Some(frame) if alias.is_none() => out.extend_from_slice(frame),
                        _ => {
                            let mut delivery = outgoing.delivery(*packet_id, *dup, now);
                            delivery.alias = alias;
                            delivery.write(out, dialect.version);
                        }
                    }
                    messages += 1;
                    payload_bytes += outgoing.message.payload.len();
                }
                Ready::Release { packet_id, ticket } => {
                    let answer = Answer::PubRel(*packet_id, Reason::SUCCESS);
                    self.answers.give(*ticket, answer, out, dialect);
                }
            }
        }
        counters.messages_go(messages, payload_bytes);
        counters.packets_sent.add(self.answers.take_written());
        match drained {
            Drained::Ended(reason) => Err(End::Told(reason)),
            other => Ok(other),
        }
    }

    /// Sends what waits and needs no further acknowledgement, before the broker stops.
    async fn deliver_rest(&mut self) -> std::io::Result<()> {
        loop {
            let drained = self.fill();
            let bytes = self.transport.flush().await?;
            self.hub.counters().bytes_sent.add(bytes as u64);
            // A flush of nothing does not wait, and the time for this must be able to end.
            tokio::task::yield_now().await;
            if drained != Ok(Drained::More) {
                return Ok(());
            }
        }
    }
}
