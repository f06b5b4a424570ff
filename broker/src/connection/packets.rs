//! What each packet of the client does.
//!
//! A publish without the right is dropped and counted. With QoS 1 or 2, 5.0 gets an
//! acknowledgement that says so; 3.1.1 has no way to say so and gets a plain one, since without it
//! the client would send the message again for ever. The first refusals of a connection are logged,
//! with their topics.

use std::time::{Duration, Instant};

use bytestring::ByteString;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::warn;

use super::{Answer, Connection, End, WRITE_AHEAD_BYTES, short};
use crate::codec::packet::{Ack, Disconnect, Packet, Publish, QoS, Subscribe, Unsubscribe};
use crate::codec::reason::Reason;
use crate::codec::{DecodeError, writer};
use crate::disk::Ticket;
use crate::hub::Published;
use crate::message::Message;
use crate::session::{Incoming, SHARE};
use crate::subscriber;

/// Refused topics that are logged, for each connection.
const MAX_LOGGED_TOPICS: usize = 8;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    /// Handles what was read, as far as the connection may go on.
    pub(super) fn handle_incoming(&mut self) -> Result<(), End> {
        let handled = self.handle_all();
        self.hub.counters().take(&mut self.tally);
        handled?;
        if self.transport.outgoing.len() > 2 * WRITE_AHEAD_BYTES + self.hub.limits().answer_bytes {
            return Err(End::Unread);
        }
        Ok(())
    }

    fn handle_all(&mut self) -> Result<(), End> {
        loop {
            self.stopped_short = self.answers.are_many() || self.pace.rest(Instant::now).is_some();
            if self.stopped_short {
                return Ok(());
            }
            let incoming = &mut self.transport.incoming;
            let Some(packet) = self.decoder.decode(incoming).map_err(End::Wrong)? else {
                return Ok(());
            };
            self.tally.packets_received += 1;
            self.handle(packet)?;
        }
    }

    fn handle(&mut self, packet: Packet) -> Result<(), End> {
        let attached = &self.welcome.attached;
        let (session, generation) = (&attached.session, attached.generation);
        match packet {
            Packet::Publish(publish) => self.publish(publish),
            Packet::PubAck(ack) => {
                session.acknowledged(generation, ack.packet_id);
                Ok(())
            }
            Packet::PubRec(ack) => {
                let failure = ack.reason.is_failure();
                if let Some((reason, ticket)) = session.received(generation, ack.packet_id, failure)
                {
                    self.answer(ticket, Answer::PubRel(ack.packet_id, reason));
                }
                Ok(())
            }
            Packet::PubRel(ack) => {
                self.release(ack);
                Ok(())
            }
            Packet::PubComp(ack) => {
                session.completed(generation, ack.packet_id);
                Ok(())
            }
            Packet::Subscribe(subscribe) => self.subscribe(&subscribe),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(&unsubscribe),
            Packet::PingReq => {
                writer::pingresp(&mut self.transport.outgoing);
                self.tally.packets_sent += 1;
                Ok(())
            }
            Packet::Disconnect(disconnect) => Err(self.goodbye(disconnect)),
            Packet::Auth => Err(End::Wrong(DecodeError::Protocol(
                "authentication was not agreed on",
            ))),
            Packet::Connect(_) => Err(End::Wrong(DecodeError::Protocol("second CONNECT"))),
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        let out = &mut self.transport.outgoing;
        self.answers.give(ticket, answer, out, self.welcome.dialect);
    }

    fn publish(&mut self, mut publish: Publish) -> Result<(), End> {
        self.tally.messages_received += 1;
        self.tally.payload_bytes_received += publish.payload.len() as u64;
        self.taken.resolve(&mut publish)?;
        if !self.hub.limits().allow_topic(&publish.topic) {
            return Err(End::Wrong(DecodeError::TopicName));
        }
        let bytes = publish.topic.len() + publish.payload.len() + publish.passed_on.len();
        if self.pace.published(bytes, Instant::now) {
            self.hub.counters().rests.add(1);
        }
        let (qos, packet_id) = (publish.qos, publish.packet_id);
        if qos == QoS::ExactlyOnce {
            return self.publish_once(publish);
        }
        let (reason, ticket) = match self.hand_on(publish) {
            Some(published) => (reason_of(&published), published.ticket),
            None => (Reason::NOT_AUTHORIZED, Ticket::NONE),
        };
        if qos == QoS::AtLeastOnce {
            self.answer(ticket, Answer::PubAck(packet_id, reason));
        }
        Ok(())
    }

    /// Takes a QoS 2 message, unless it was taken before.
    fn publish_once(&mut self, publish: Publish) -> Result<(), End> {
        let packet_id = publish.packet_id;
        let attached = &self.welcome.attached;
        let v5 = self.welcome.dialect.version.is_v5();
        if v5 && !attached.session.access().may_write(&publish.topic) {
            self.refuse_publish(&publish.topic);
            self.answer(
                Ticket::NONE,
                Answer::PubRec(packet_id, Reason::NOT_AUTHORIZED),
            );
            return Ok(());
        }
        let most = if v5 {
            self.hub.limits().receive_maximum.into()
        } else {
            // 3.1.1 has no way to agree on fewer.
            usize::from(u16::MAX)
        };
        // The message and its identifier must become safe together: with one alone, it could be
        // lost or come twice.
        let hub = self.hub;
        let disk = hub.disk().filter(|_| attached.session.is_stored());
        let together = disk.map(|disk| disk.together());
        let (session, generation) = (&attached.session, attached.generation);
        let (reason, ticket) = match session.take_incoming(generation, packet_id, most) {
            Incoming::New(ticket) => match self.hand_on(publish) {
                Some(published) => (reason_of(&published), published.ticket.max(ticket)),
                None => (Reason::SUCCESS, ticket),
            },
            Incoming::Known(ticket) => (Reason::SUCCESS, ticket),
            Incoming::TooMany => return Err(End::Told(Reason::RECEIVE_MAXIMUM_EXCEEDED)),
            Incoming::TakenOver => return Err(End::Told(Reason::SESSION_TAKEN_OVER)),
        };
        drop(together);
        self.answer(ticket, Answer::PubRec(packet_id, reason));
        Ok(())
    }

    /// Hands a message to the hub; `None` where the client may not write there.
    fn hand_on(&mut self, publish: Publish) -> Option<Published> {
        let session = &self.welcome.attached.session;
        if !session.access().may_write(&publish.topic) {
            self.refuse_publish(&publish.topic);
            return None;
        }
        let message = Message::from_publish(publish, session.origin(), self.heard);
        Some(self.hub.publish(message))
    }

    fn release(&mut self, ack: Ack) {
        let attached = &self.welcome.attached;
        let (known, ticket) = attached
            .session
            .release_incoming(attached.generation, ack.packet_id);
        let reason = if known {
            Reason::SUCCESS
        } else {
            Reason::PACKET_IDENTIFIER_NOT_FOUND
        };
        self.answer(ticket, Answer::PubComp(ack.packet_id, reason));
    }

    fn refuse_publish(&mut self, topic: &ByteString) {
        self.hub.counters().publishes_refused.add(1);
        if self.refused.len() < MAX_LOGGED_TOPICS && !self.refused.contains(topic) {
            self.refused.insert(ByteString::from(&**topic));
            let session = &self.welcome.attached.session;
            let user = short(&session.name().user);
            let client = short(&session.name().client_id);
            let topic = short(topic);
            warn!(parent: &self.span, user, client, ?topic, "publish refused: no right to this topic");
        }
    }

    /// Checks that SUBACK or UNSUBACK for so many filters is not longer than the client takes.
    fn check_answer(&self, filters: usize) -> Result<(), End> {
        if writer::codes_fit(self.welcome.dialect, filters) {
            Ok(())
        } else {
            Err(End::Told(Reason::PACKET_TOO_LARGE))
        }
    }

    /// Bounds what one packet asks for, and how fast it may ask.
    fn admit_filters<'f>(&mut self, filters: impl Iterator<Item = &'f str>) -> Result<(), End> {
        let mut count = 0;
        for filter in filters {
            count += 1;
            if self.pace.published(filter.len(), Instant::now) {
                self.hub.counters().rests.add(1);
            }
        }
        if count > self.hub.limits().max_subscriptions {
            return Err(End::Told(Reason::QUOTA_EXCEEDED));
        }
        Ok(())
    }

    fn subscribe(&mut self, packet: &Subscribe) -> Result<(), End> {
        self.admit_filters(packet.filters.iter().map(|request| &*request.filter))?;
        self.check_answer(packet.filters.len())?;
        let attached = &self.welcome.attached;
        let hub = self.hub;
        let answer = subscriber::subscribe(
            &attached.session,
            attached.generation,
            packet,
            hub.limits(),
            hub.subscriptions(),
            || hub.last_sequence(),
        )
        .ok_or(End::Told(Reason::SESSION_TAKEN_OVER))?;
        let filters = packet.filters.iter().map(|request| &*request.filter);
        hub.gather(filters.filter(|filter| filter.starts_with(SHARE)));
        self.answer(
            answer.ticket,
            Answer::SubAck(packet.packet_id, answer.codes),
        );
        Ok(())
    }

    fn unsubscribe(&mut self, packet: &Unsubscribe) -> Result<(), End> {
        self.admit_filters(packet.filters.iter().map(|filter| &**filter))?;
        self.check_answer(packet.filters.len())?;
        let attached = &self.welcome.attached;
        let answer = subscriber::unsubscribe(
            &attached.session,
            attached.generation,
            packet.filters.iter().map(|filter| &**filter),
            self.hub.subscriptions(),
        )
        .ok_or(End::Told(Reason::SESSION_TAKEN_OVER))?;
        self.answer(
            answer.ticket,
            Answer::UnsubAck(packet.packet_id, answer.codes),
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

fn reason_of(published: &Published) -> Reason {
    if published.matched {
        Reason::SUCCESS
    } else {
        Reason::NO_MATCHING_SUBSCRIBERS
    }
}
