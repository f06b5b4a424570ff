//! Reading back: nodes, inventory, the names of series, rows of one series.
//!
//! Whatever stands in Redis is hostile until it is parsed: what can't be read is left out and counted.

use std::collections::BTreeMap;

use hostbus_wire::status::Status;
use hostbus_wire::{NodePath, Sample};
use redis::{Pipeline, Value};

use crate::block;
use crate::config::{Retention, StoreConfig};
use crate::connection::Connection;
use crate::error::StoreError;
use crate::keys::{self, NodeKeys, info};
use crate::mark::Mark;
use crate::row::{Columns, Point, Row, bytes, items, text};
use crate::scan::{Scan, Wanted};
use crate::tier::Tier;

/// How many nodes are asked for in one pipeline.
const NODES_AT_ONCE: usize = 500;

/// Reads what hostbus keeps. Clones share one connection.
#[derive(Debug, Clone)]
pub struct Reader {
    connection: Connection,
    /// How long rows are kept, as far as this side knows: it helps to choose a tier, no more.
    retention: Retention,
}

/// A node as the list of nodes shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSummary {
    /// Which.
    pub node: NodePath,
    /// When its last sample arrived, in milliseconds since 1970-01-01 UTC; of a node that never
    /// sent one, when it was first heard of.
    pub seen_ms: u64,
    /// Whether its publisher is connected; `None` when it never said.
    pub status: Option<Status>,
    /// Its last sample; `None` when there is none, or it is older than some intervals.
    pub last: Option<Sample>,
}

/// Rows of one series.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Range {
    /// The names of the fields, in the order of each row's values.
    pub fields: Vec<String>,
    /// The rows by time; each has a value for every field.
    pub rows: Vec<Row>,
    /// Rows in Redis that can't be read.
    pub malformed: u64,
    /// Packed blocks in Redis that can't be read.
    pub broken_blocks: u64,
    /// There are more rows than were asked for.
    pub more: bool,
}

impl Range {
    /// The points of one field; none when there is no such field.
    pub fn points(&self, field: &str) -> impl Iterator<Item = Point> {
        let column = self.fields.iter().position(|name| name == field);
        let rows = if column.is_some() {
            self.rows.as_slice()
        } else {
            &[]
        };
        rows.iter().map(move |row| Point {
            at_ms: row.at_ms,
            value: column.and_then(|column| row.values.get(column).copied().flatten()),
        })
    }
}

impl Reader {
    /// A reader with a connection of its own.
    ///
    /// # Errors
    /// The settings are wrong.
    pub fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        Ok(Self {
            connection: Connection::open(config)?,
            retention: config.retention.clone(),
        })
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn retention(&self) -> &Retention {
        &self.retention
    }

    /// All nodes, the one heard of last first.
    ///
    /// # Errors
    /// Redis failed.
    pub async fn nodes(&self) -> Result<Vec<NodeSummary>, StoreError> {
        let mut query = redis::cmd("ZRANGE");
        query
            .arg(keys::NODES)
            .arg(0)
            .arg(-1)
            .arg("REV")
            .arg("WITHSCORES");
        let reply = self.connection.command(&query).await?;
        let pairs = items(&reply).ok_or_else(|| StoreError::reply("ZRANGE"))?;
        let seen: Vec<(NodePath, u64)> = pairs
            .chunks_exact(2)
            .filter_map(|pair| {
                Some((
                    text(&pair[0])?.parse().ok()?,
                    milliseconds(text(&pair[1])?)?,
                ))
            })
            .collect();
        let mut nodes = Vec::with_capacity(seen.len());
        for part in seen.chunks(NODES_AT_ONCE) {
            let mut pipeline = Pipeline::with_capacity(2 * part.len());
            for (node, _) in part {
                let keys = NodeKeys::new(node);
                pipeline.cmd("HGET").arg(keys.info()).arg(info::STATUS);
                pipeline.cmd("GET").arg(keys.last());
            }
            let replies = self.connection.pipeline(&pipeline).await?;
            for ((node, seen_ms), replies) in part.iter().zip(replies.chunks_exact(2)) {
                let status = bytes(&replies[0]).and_then(|status| Status::decode(status).ok());
                let last = read_last(&replies[1]);
                nodes.push(NodeSummary {
                    node: node.clone(),
                    seen_ms: *seen_ms,
                    status,
                    last,
                });
            }
        }
        Ok(nodes)
    }

    /// A node's last sample; `None` when there is none, or it is older than some intervals.
    ///
    /// # Errors
    /// Redis failed.
    pub async fn last(&self, node: &NodePath) -> Result<Option<Sample>, StoreError> {
        let key = NodeKeys::new(node).last();
        Ok(read_last(
            &self.connection.command(redis::cmd("GET").arg(key)).await?,
        ))
    }

    /// All that is known of a node besides its series, as it stands in Redis; empty for an unknown
    /// node.
    ///
    /// # Errors
    /// Redis failed.
    pub async fn info(&self, node: &NodePath) -> Result<BTreeMap<String, String>, StoreError> {
        let key = NodeKeys::new(node).info();
        let reply = self
            .connection
            .command(redis::cmd("HGETALL").arg(key))
            .await?;
        let pairs = items(&reply).ok_or_else(|| StoreError::reply("HGETALL"))?;
        let pairs = pairs.chunks_exact(2);
        Ok(pairs
            .filter_map(|pair| Some((text(&pair[0])?.to_owned(), text(&pair[1])?.to_owned())))
            .collect())
    }

    /// The names of a node's series, sorted; empty for an unknown node.
    ///
    /// # Errors
    /// Redis failed.
    pub async fn series(&self, node: &NodePath) -> Result<Vec<String>, StoreError> {
        let key = NodeKeys::new(node).series();
        let reply = self
            .connection
            .command(redis::cmd("SMEMBERS").arg(key))
            .await?;
        let names = items(&reply).ok_or_else(|| StoreError::reply("SMEMBERS"))?;
        let mut names: Vec<String> = names.iter().filter_map(text).map(str::to_owned).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// The fields that the newest rows of a series have, as they came; none when there are no rows.
    ///
    /// # Errors
    /// Redis failed.
    pub async fn series_fields(
        &self,
        node: &NodePath,
        series: &str,
    ) -> Result<Vec<String>, StoreError> {
        let keys = NodeKeys::new(node);
        let packed = keys.packed(Tier::Raw, series);
        let mut newest = Pipeline::new();
        let row = newest.cmd("XREVRANGE").arg(keys.raw(series));
        row.arg("+").arg("-").arg("COUNT").arg(1);
        newest.cmd("HKEYS").arg(&packed);
        let answers = self.connection.ask(&newest).await?;
        let mut columns = Columns::default();
        if let Some(row) = answers.get(0).items().first() {
            columns.stream_row(row);
        }
        let starts = answers.get(1).items();
        let newest = starts.filter_map(|start| start.text()?.parse().ok());
        if let (true, Some(start)) = (columns.names.is_empty(), newest.max()) {
            let start: u64 = start;
            let block = redis::cmd("HGET").arg(packed).arg(start).to_owned();
            let block = self.connection.command(&block).await?;
            let names = bytes(&block).and_then(|block| block::names(block).ok());
            return Ok(names.unwrap_or_default());
        }
        Ok(columns.names)
    }

    /// The mark of a node; `None` when nothing numbered was stored.
    ///
    /// # Errors
    /// Redis failed.
    pub async fn mark(&self, node: &NodePath) -> Result<Option<Mark>, StoreError> {
        let mut query = redis::cmd("HMGET");
        query
            .arg(NodeKeys::new(node).info())
            .arg(info::COMMITTED_BOOT)
            .arg(info::COMMITTED_SEQ);
        let reply = self.connection.command(&query).await?;
        Ok(match items(&reply) {
            Some([boot, seq]) => Mark::parse(bytes(boot), bytes(seq)),
            _ => None,
        })
    }

    /// Unit and meaning of each field, by `section.field`.
    ///
    /// # Errors
    /// Redis failed.
    pub async fn fields(&self) -> Result<BTreeMap<String, (String, String)>, StoreError> {
        let reply = self
            .connection
            .command(redis::cmd("HGETALL").arg(keys::FIELDS))
            .await?;
        let pairs = items(&reply).ok_or_else(|| StoreError::reply("HGETALL"))?;
        let described = pairs.chunks_exact(2).filter_map(|pair| {
            let (unit, meaning) = text(&pair[1])?.split_once(' ')?;
            Some((
                text(&pair[0])?.to_owned(),
                (unit.to_owned(), meaning.to_owned()),
            ))
        });
        Ok(described.collect())
    }

    /// Reads the rows of a series as they came from `from_ms` to `to_ms`, both included, page by page.
    #[must_use]
    pub fn scan(&self, node: &NodePath, series: &str, from_ms: u64, to_ms: u64) -> Scan {
        self.scan_tier(node, series, Tier::Raw, None, from_ms, to_ms)
    }

    /// Reads one tier of a series from `from_ms` to `to_ms`, both included, page by page: the fields
    /// `fields`, or all of them.
    #[must_use]
    pub fn scan_tier(
        &self,
        node: &NodePath,
        series: &str,
        tier: Tier,
        fields: Option<&[&str]>,
        from_ms: u64,
        to_ms: u64,
    ) -> Scan {
        let fields = fields.map(|names| names.iter().map(|&name| name.to_owned()).collect());
        let wanted = Wanted {
            tier,
            fields,
            from_ms,
            to_ms,
        };
        let keys = NodeKeys::new(node);
        Scan::new(self.connection.clone(), &keys, series, wanted)
    }

    /// At most `limit` rows of a series from `from_ms` to `to_ms`, both included, the oldest first.
    ///
    /// # Errors
    /// Redis failed.
    pub async fn range(
        &self,
        node: &NodePath,
        series: &str,
        from_ms: u64,
        to_ms: u64,
        limit: usize,
    ) -> Result<Range, StoreError> {
        let mut scan = self.scan(node, series, from_ms, to_ms);
        let mut range = Range::default();
        while let Some(page) = scan.next_page().await? {
            range.malformed += page.malformed;
            range.broken_blocks += page.broken_blocks;
            range.rows.extend(page.rows);
            if range.rows.len() > limit {
                range.rows.truncate(limit);
                range.more = true;
                break;
            }
        }
        range.fields = scan.into_fields();
        for row in &mut range.rows {
            row.values.resize(range.fields.len(), None);
        }
        Ok(range)
    }
}

fn read_last(reply: &Value) -> Option<Sample> {
    serde_json::from_slice(bytes(reply)?).ok()
}

/// A score of a sorted set, which Redis writes as a float.
fn milliseconds(score: &str) -> Option<u64> {
    let score: f64 = score.parse().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates"
    )]
    (score >= 0.0).then_some(score as u64)
}
