//! Events and the log of alerts by time, read back page by page, the oldest or the newest first.

use std::collections::BTreeMap;

use hostbus_wire::NodePath;
use redis::Value;

use crate::error::StoreError;
use crate::keys::{self, NodeKeys};
use crate::read::Reader;
use crate::row::{items, text};

/// No page has more records.
const PAGE_RECORDS: usize = 1_000;

/// Where records stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log<'n> {
    /// The events of one node; about the last 1,000.
    Events(&'n NodePath),
    /// The events of all nodes; about the last 10,000.
    AllEvents,
    /// The transitions of alerts.
    Alerts,
}

/// Which comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The oldest.
    Oldest,
    /// The newest.
    Newest,
}

/// One event, or one transition of an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its id in its stream.
    pub id: String,
    /// When it was written, in milliseconds since 1970-01-01 UTC; `ts` among the fields is when it
    /// happened.
    pub at_ms: u64,
    /// What it says. Of events: `ts`, `kind`, `severity`, `message`, `details` as JSON, and `node`
    /// among those of all nodes.
    pub fields: BTreeMap<String, String>,
}

/// Some records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    /// The records, in the order that was asked for.
    pub records: Vec<Record>,
    /// Entries in Redis that can't be read.
    pub malformed: u64,
    /// Where the next page goes on; absent at the end.
    pub next: Option<String>,
}

impl Reader {
    /// At most `limit` records, up to 1,000, written from `from_ms` to `to_ms`, both included.
    /// `after` is where the page before ended.
    ///
    /// # Errors
    /// Redis failed.
    pub async fn records(
        &self,
        log: Log<'_>,
        order: Order,
        (from_ms, to_ms): (u64, u64),
        after: Option<&str>,
        limit: usize,
    ) -> Result<Records, StoreError> {
        let key = match log {
            Log::Events(node) => NodeKeys::new(node).events(),
            Log::AllEvents => keys::EVENTS.to_owned(),
            Log::Alerts => keys::ALERTS.to_owned(),
        };
        let limit = limit.clamp(1, PAGE_RECORDS);
        let begin = |bound: u64| after.map_or_else(|| bound.to_string(), |id| format!("({id}"));
        let mut query = match order {
            Order::Oldest => redis::cmd("XRANGE"),
            Order::Newest => redis::cmd("XREVRANGE"),
        };
        query.arg(key);
        match order {
            Order::Oldest => query.arg(begin(from_ms)).arg(to_ms),
            Order::Newest => query.arg(begin(to_ms)).arg(from_ms),
        };
        query.arg("COUNT").arg(limit);
        let reply = self.connection().command(&query).await?;
        let entries = items(&reply).ok_or_else(|| StoreError::reply("XRANGE"))?;
        let mut page = Records::default();
        for entry in entries {
            match record(entry) {
                Some(record) => page.records.push(record),
                None => page.malformed += 1,
            }
        }
        if entries.len() == limit {
            page.next = entries.last().and_then(id).map(str::to_owned);
        }
        Ok(page)
    }
}

fn id(entry: &Value) -> Option<&str> {
    text(items(entry)?.first()?)
}

fn record(entry: &Value) -> Option<Record> {
    let id = id(entry)?;
    let fields = items(items(entry)?.get(1)?)?;
    let pairs: Option<BTreeMap<String, String>> = fields
        .chunks_exact(2)
        .map(|pair| Some((text(&pair[0])?.to_owned(), text(&pair[1])?.to_owned())))
        .collect();
    Some(Record {
        at_ms: id.split_once('-')?.0.parse().ok()?,
        id: id.to_owned(),
        fields: pairs?,
    })
}
