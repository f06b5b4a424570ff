//! What `state.redb` held when the broker began.

use std::collections::HashMap;
use std::sync::Arc;

use hostbus_tablefile::Fault;
use redb::{Database, ReadableDatabase, ReadableTable};

use super::file::{ENTRIES, FILTERS, INCOMING, MESSAGES, RETAINED, SESSIONS};
use super::rows::{Entry, Now, Options, SessionRow, read_message};
use crate::codec::QoS;
use crate::message::{Message, Outgoing, Stored};

/// A message that waits for a session, as it was read.
#[derive(Debug)]
pub(crate) struct StoredEntry {
    pub(crate) outgoing: Outgoing,
    /// The client has it already; only its packet identifier is still in use.
    pub(crate) released: bool,
}

/// A session as it was read.
#[derive(Debug)]
pub(crate) struct StoredSession {
    pub(crate) key: u64,
    pub(crate) row: SessionRow,
    pub(crate) filters: Vec<(Box<str>, Options)>,
    /// In order.
    pub(crate) entries: Vec<StoredEntry>,
    pub(crate) incoming: Vec<u16>,
}

/// All that was read.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// By key.
    pub(crate) sessions: Vec<StoredSession>,
    pub(crate) retained: Vec<Message>,
    /// The highest sequence number in use.
    pub(crate) last_sequence: u64,
    /// The highest key in use.
    pub(crate) last_key: u64,
    /// How many entries refer to each message.
    pub(super) references: HashMap<u64, u64>,
}

/// Reads all of it.
pub(super) fn read(database: &Database) -> Result<Loaded, Fault> {
    let reading = database.begin_read()?;
    let now = Now::read();
    let mut loaded = Loaded::default();
    let mut messages = HashMap::new();
    let table = reading.open_table(MESSAGES)?;
    for row in table.iter()? {
        let (sequence, row) = row?;
        let sequence = sequence.value();
        let mut message = read_message(row.value(), now).ok_or_else(|| unreadable("messages"))?;
        message.sequence = sequence;
        loaded.last_sequence = loaded.last_sequence.max(sequence);
        messages.insert(sequence, Arc::new(message));
    }
    let table = reading.open_table(RETAINED)?;
    for row in table.iter()? {
        let (topic, row) = row?;
        let message = read_message(row.value(), now).ok_or_else(|| unreadable("retained"))?;
        if *message.topic != *topic.value() {
            return Err(unreadable("retained"));
        }
        loaded.retained.push(message);
    }
    let table = reading.open_table(SESSIONS)?;
    for row in table.iter()? {
        let (key, row) = row?;
        let row = serde_json::from_slice(row.value()).map_err(|_| unreadable("sessions"))?;
        loaded.last_key = loaded.last_key.max(key.value());
        loaded.sessions.push(StoredSession {
            key: key.value(),
            row,
            filters: Vec::new(),
            entries: Vec::new(),
            incoming: Vec::new(),
        });
    }
    let place: HashMap<u64, usize> = loaded
        .sessions
        .iter()
        .enumerate()
        .map(|(place, session)| (session.key, place))
        .collect();
    let session =
        |key: u64, table: &'static str| place.get(&key).copied().ok_or_else(|| unreadable(table));
    let table = reading.open_table(FILTERS)?;
    for row in table.iter()? {
        let (key, row) = row?;
        let (key, filter) = key.value();
        let options = Options::read(row.value()).ok_or_else(|| unreadable("filters"))?;
        let session = &mut loaded.sessions[session(key, "filters")?];
        session.filters.push((filter.into(), options));
    }
    let table = reading.open_table(INCOMING)?;
    for row in table.iter()? {
        let (key, packet_id) = row?.0.value();
        let session = &mut loaded.sessions[session(key, "incoming")?];
        session.incoming.push(packet_id);
    }
    let table = reading.open_table(ENTRIES)?;
    for row in table.iter()? {
        let (key, row) = row?;
        let (key, number) = key.value();
        let entry = Entry::read(row.value()).ok_or_else(|| unreadable("entries"))?;
        let stored = stored_entry(entry, number, &messages).ok_or_else(|| unreadable("entries"))?;
        let session = &mut loaded.sessions[session(key, "entries")?];
        session.entries.push(stored);
    }
    loaded.references = count_references(database)?;
    Ok(loaded)
}

fn unreadable(table: &str) -> Fault {
    Fault::Damaged(format!("unreadable row in table {table}"))
}

/// How many entries refer to each message.
pub(super) fn count_references(database: &Database) -> Result<HashMap<u64, u64>, Fault> {
    let mut references = HashMap::new();
    let table = database.begin_read()?.open_table(ENTRIES)?;
    for row in table.iter()? {
        let message = Entry::message_of(row?.1.value());
        if message != 0 {
            *references.entry(message).or_default() += 1;
        }
    }
    Ok(references)
}

fn stored_entry(
    entry: Entry,
    number: u64,
    messages: &HashMap<u64, Arc<Message>>,
) -> Option<StoredEntry> {
    let stored = Stored {
        entry: number,
        ticket: super::Ticket::NONE,
        packet_id: entry.packet_id,
    };
    if entry.qos == QoS::AtMostOnce || (entry.qos == QoS::ExactlyOnce) != (entry.packet_id > 0) {
        return None;
    }
    let message = if entry.released {
        Arc::new(Message::own("released", String::new()))
    } else {
        Arc::clone(messages.get(&entry.message)?)
    };
    Some(StoredEntry {
        outgoing: Outgoing {
            message,
            qos: entry.qos,
            retain: entry.retain,
            identifiers: entry.identifiers,
            shared: entry.shared,
            stored: Some(stored),
            frames: None,
        },
        released: entry.released,
    })
}
