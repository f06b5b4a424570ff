//! Shared subscriptions: which member gets a message, and what becomes of one whose member died.
//!
//! A message goes to the connected member with the fewest messages waiting or under way, in turn
//! among equals; so a slow member gets less than a fast one, and none is left out. It then lies in
//! that member's queue like any other. When the member's connection ends, what it has not
//! acknowledged goes to the members that are there; only a QoS 2 message that went out already stays
//! with the member it went to, as MQTT 5.0 asks (section 4.8.2). While no member is there, messages
//! wait with those whose sessions live on, and the first to come back gets all.

use std::sync::Arc;

use crate::codec::packet::QoS;
use crate::disk::Ticket;
use crate::message::{Message, Outgoing};
use crate::session::Session;
use crate::subscriptions::{Group, Subscription};

/// Gives a message to one member. Returns when it is safe.
pub(crate) fn publish(group: &Group, message: &Arc<Message>) -> Ticket {
    let outgoing = Outgoing {
        message: Arc::clone(message),
        qos: message.qos,
        retain: message.retain,
        identifiers: Vec::new(),
        shared: Some(Arc::clone(&group.filter)),
        stored: None,
        frames: None,
    };
    let (ticket, left_over) = give(group, outgoing, None);
    if left_over {
        group.note_left_over();
    }
    ticket
}

/// Hands what was given to absent members just as another one came to that one.
pub(crate) fn tidy(group: &Group) {
    if group.take_left_over() {
        gather(group);
    }
}

/// Hands what waits for absent members to those that are there, if any.
pub(crate) fn gather(group: &Group) {
    if !group
        .members
        .iter()
        .any(|member| member.session.is_served())
    {
        return;
    }
    for member in group
        .members
        .iter()
        .filter(|member| !member.session.is_served())
    {
        for outgoing in member.session.take_shared(&group.filter) {
            give(group, outgoing, None);
        }
    }
}

/// Hands what waits for `leaving`, whose session ends, to another member.
pub(crate) fn leave(group: &Group, leaving: &Arc<Session>) {
    for outgoing in leaving.take_shared(&group.filter) {
        give(group, outgoing, Some(leaving));
    }
}

/// Gives a message to a member other than `without`: one that is connected, or else one whose
/// session waits for its client. Returns when it is safe, and whether the latter was so.
fn give(group: &Group, mut outgoing: Outgoing, without: Option<&Arc<Session>>) -> (Ticket, bool) {
    let may_get = |member: &Subscription| {
        without.is_none_or(|session| session.key() != member.session.key())
            && (!member.filtered || member.session.access().may_read(&outgoing.message.topic))
    };
    let mut members: Vec<&Arc<Subscription>> =
        group.in_turn().filter(|member| may_get(member)).collect();
    // Stable: among equals the turn decides.
    members.sort_by_key(|member| (!member.session.is_served(), member.session.load()));
    for stays in [false, true] {
        for member in &members {
            let qos = outgoing.message.qos.min(member.qos);
            if stays && qos == QoS::AtMostOnce {
                continue;
            }
            outgoing.qos = qos;
            outgoing.retain = member.retain_as_published && outgoing.message.retain;
            outgoing.identifiers.clear();
            outgoing.identifiers.extend(member.identifier);
            outgoing = match member.session.push(outgoing, stays) {
                Ok(ticket) => return (ticket, stays),
                Err(back) => back,
            };
        }
    }
    (Ticket::NONE, false)
}
