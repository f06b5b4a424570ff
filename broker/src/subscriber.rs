//! A session as a subscriber: its filters change here, together with the broker's subscriptions.
//!
//! Both change under the session's lock, so that a session which ended or changed hands leaves no
//! subscription behind.

use std::sync::Arc;

use hostbus_wire::Coverage;

use crate::codec::packet::{Request, RetainHandling, Subscribe};
use crate::codec::reason::Reason;
use crate::disk::{Options, Ticket};
use crate::limits::Limits;
use crate::retained::Cursor;
use crate::session::{Backlog, SHARE, Session, State};
use crate::subscriptions::{Subscription, Subscriptions, split_share};

/// The answer to a SUBSCRIBE or UNSUBSCRIBE: a code for each filter, and when that is safe.
#[derive(Debug)]
pub(crate) struct Codes {
    pub(crate) codes: Vec<Reason>,
    pub(crate) ticket: Ticket,
}

/// Adds the subscriptions that are allowed. `None` when the connection `generation` no longer has
/// this session. `last_sequence` is asked once they stand.
pub(crate) fn subscribe(
    session: &Arc<Session>,
    generation: u64,
    packet: &Subscribe,
    limits: &Limits,
    subscriptions: &Subscriptions,
    last_sequence: impl FnOnce() -> u64,
) -> Option<Codes> {
    let mut state = session.state();
    if !state.is_open_to(generation) {
        return None;
    }
    let mut ticket = Ticket::NONE;
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
        let qos = request.qos;
        codes.push(Reason(qos as u8));
        let options = Options {
            qos,
            no_local: request.no_local,
            retain_as_published: request.retain_as_published,
            identifier: packet.identifier,
        };
        let (new, safe) = session.add_filter(&mut state, &request.filter, options);
        ticket = ticket.max(safe);
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
            // A shared subscription gets none: it is not known whose they would be.
            _ if request.filter.starts_with(SHARE) => {}
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
    Some(Codes { codes, ticket })
}

/// Whether a subscription is allowed, and whether its messages must be checked one by one.
fn admit(
    session: &Session,
    state: &State,
    request: &Request,
    limits: &Limits,
) -> Result<bool, Reason> {
    let whole = &*request.filter;
    let (share, filter) = split_share(whole);
    let well_shared = share.is_some_and(|name| !name.is_empty() && !name.contains(['+', '#']));
    let shared_wrongly = whole.starts_with(SHARE) && (!well_shared || filter.is_empty());
    let too_long = !limits.allow_topic(filter) || whole.len() > limits.max_topic_bytes;
    if shared_wrongly || too_long {
        return Err(Reason::TOPIC_FILTER_INVALID);
    }
    let filters = state.filters();
    if filters.len() >= limits.max_subscriptions && !filters.contains(whole) {
        return Err(Reason::QUOTA_EXCEEDED);
    }
    match session.access().subscription(filter) {
        Coverage::Refused => Err(Reason::NOT_AUTHORIZED),
        Coverage::Filtered => Ok(true),
        Coverage::Full => Ok(false),
    }
}

/// Removes subscriptions. `None` as for [`subscribe`].
pub(crate) fn unsubscribe<'f>(
    session: &Session,
    generation: u64,
    filters: impl Iterator<Item = &'f str>,
    subscriptions: &Subscriptions,
) -> Option<Codes> {
    let mut state = session.state();
    if !state.is_open_to(generation) {
        return None;
    }
    let mut ticket = Ticket::NONE;
    let mut gone = Vec::new();
    let codes = filters
        .map(|filter| {
            let (there, safe) = session.remove_filter(&mut state, filter);
            ticket = ticket.max(safe);
            if !there {
                return Reason::NO_SUBSCRIPTION_EXISTED;
            }
            gone.push(filter);
            Reason::SUCCESS
        })
        .collect();
    if !gone.is_empty() {
        subscriptions.remove(session.key(), gone);
    }
    Some(Codes { codes, ticket })
}

/// Ends the session and removes its subscriptions. Returns when that is safe.
pub(crate) fn end(session: &Session, subscriptions: &Subscriptions) -> Ticket {
    let mut state = session.state();
    let (filters, ticket) = session.end(&mut state);
    if !filters.is_empty() {
        subscriptions.remove(session.key(), filters.iter().map(|filter| &**filter));
    }
    ticket
}

/// Subscribes a session that was on disk to the filters that it had. One that its user may no
/// longer read is left out.
pub(crate) fn restore(
    session: &Arc<Session>,
    filters: &[(Box<str>, Options)],
    subscriptions: &Subscriptions,
) {
    let added = filters.iter().filter_map(|(filter, options)| {
        let filtered = match session.access().subscription(split_share(filter).1) {
            Coverage::Refused => return None,
            Coverage::Filtered => true,
            Coverage::Full => false,
        };
        let subscription = Subscription {
            session: Arc::clone(session),
            qos: options.qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            identifier: options.identifier,
            filtered,
        };
        Some((&**filter, subscription))
    });
    subscriptions.insert(added.collect());
}
