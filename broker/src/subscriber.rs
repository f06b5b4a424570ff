//! A session as a subscriber: its filters change here, together with the broker's subscriptions.
//!
//! Both change under the session's lock, so that a session which ended or changed hands leaves no
//! subscription behind.

use std::sync::Arc;

use hostbus_wire::Coverage;

use crate::codec::packet::{QoS, Request, RetainHandling, Subscribe};
use crate::codec::reason::Reason;
use crate::limits::Limits;
use crate::retained::Cursor;
use crate::session::{Backlog, Session, State};
use crate::subscriptions::{Subscription, Subscriptions};

/// Adds the subscriptions that are allowed. Returns a code for each filter; `None` when the
/// connection `generation` no longer has this session. `last_sequence` is asked once they stand.
pub(crate) fn subscribe(
    session: &Arc<Session>,
    generation: u64,
    packet: &Subscribe,
    limits: &Limits,
    subscriptions: &Subscriptions,
    last_sequence: impl FnOnce() -> u64,
) -> Option<Vec<Reason>> {
    let mut state = session.state();
    if !state.is_open_to(generation) {
        return None;
    }
    let mut codes = Vec::with_capacity(packet.filters.len());
    let mut added = Vec::new();
    let mut backlogs = Vec::new();
    for request in &packet.filters {
        let filtered = match admit(session, &state, request, limits) {
            Ok(filtered) => filtered,
            Err(reason) => {
                codes.push(reason);
                continue;
            }
        };
        // Until QoS 2 is served, QoS 1 is what is granted for it.
        let qos = request.qos.min(QoS::AtLeastOnce);
        codes.push(Reason(qos as u8));
        let new = state.add_filter(&request.filter);
        added.push((
            &*request.filter,
            Subscription {
                session: Arc::clone(session),
                qos,
                no_local: request.no_local,
                retain_as_published: request.retain_as_published,
                identifier: packet.identifier,
                filtered,
            },
        ));
        match request.retain_handling {
            RetainHandling::Always => backlogs.push((request, qos, filtered)),
            RetainHandling::IfNew if new => backlogs.push((request, qos, filtered)),
            _ => {}
        }
    }
    if !added.is_empty() {
        subscriptions.insert(added);
    }
    // Read after the subscription stands: a message with a higher number finds it.
    let up_to = last_sequence();
    for (request, qos, filtered) in backlogs {
        state.add_backlog(Backlog {
            cursor: Cursor::new(&request.filter, up_to),
            qos,
            identifier: packet.identifier,
            filtered,
        });
    }
    Some(codes)
}

/// Whether a subscription is allowed, and whether its messages must be checked one by one.
fn admit(
    session: &Session,
    state: &State,
    request: &Request,
    limits: &Limits,
) -> Result<bool, Reason> {
    let filter = &*request.filter;
    if filter.starts_with("$share/") {
        return Err(Reason::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED);
    }
    if filter.split('/').count() > limits.max_topic_levels {
        return Err(Reason::TOPIC_FILTER_INVALID);
    }
    let filters = state.filters();
    if filters.len() >= limits.max_subscriptions && !filters.contains(filter) {
        return Err(Reason::QUOTA_EXCEEDED);
    }
    match session.access().subscription(filter) {
        Coverage::Refused => Err(Reason::NOT_AUTHORIZED),
        Coverage::Filtered => Ok(true),
        Coverage::Full => Ok(false),
    }
}

/// Removes subscriptions. Returns a code for each filter; `None` as for [`subscribe`].
pub(crate) fn unsubscribe<'f>(
    session: &Session,
    generation: u64,
    filters: impl Iterator<Item = &'f str>,
    subscriptions: &Subscriptions,
) -> Option<Vec<Reason>> {
    let mut state = session.state();
    if !state.is_open_to(generation) {
        return None;
    }
    let mut gone = Vec::new();
    let codes = filters
        .map(|filter| {
            if !state.remove_filter(filter) {
                return Reason::NO_SUBSCRIPTION_EXISTED;
            }
            gone.push(filter);
            Reason::SUCCESS
        })
        .collect();
    if !gone.is_empty() {
        subscriptions.remove(session.key(), gone);
    }
    Some(codes)
}

/// Ends the session and removes its subscriptions.
pub(crate) fn end(session: &Session, subscriptions: &Subscriptions) {
    let mut state = session.state();
    let filters = state.end();
    if !filters.is_empty() {
        subscriptions.remove(session.key(), filters.iter().map(|filter| &**filter));
    }
}
