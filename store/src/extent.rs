//! How much history there is: nodes, series, and what a node takes of memory, by looking at a few.

use hostbus_wire::NodePath;
use redis::{Pipeline, Value};

use crate::connection::Connection;
use crate::error::StoreError;
use crate::keys::{self, NodeKeys};
use crate::row::{items, text};
use crate::tier::Tier;

/// At most so many nodes' series are counted, in pieces.
const NODES_COUNTED: usize = 10_000;
const NODES_AT_ONCE: usize = 500;
/// How many nodes are measured, and at most how many series of each.
const NODES_MEASURED: usize = 5;
const SERIES_MEASURED: usize = 200;

/// How much history there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// The nodes.
    pub nodes: u64,
    /// The series of all nodes.
    pub series: u64,
    /// What the rows of a node take of memory on average, in bytes, in all tiers; `None` when no node
    /// was measured, or we may not.
    pub bytes_per_node: Option<u64>,
}

impl Extent {
    /// Asks Redis. Some nodes from the first heard of to the last are measured; what is told of all is
    /// an estimate.
    ///
    /// # Errors
    /// Redis failed.
    pub async fn ask(connection: &Connection) -> Result<Self, StoreError> {
        let mut query = redis::cmd("ZRANGE");
        query.arg(keys::NODES).arg(0).arg(NODES_COUNTED - 1);
        let reply = connection.command(&query).await?;
        let names = items(&reply).ok_or_else(|| StoreError::reply("ZRANGE"))?;
        let nodes: Vec<NodeKeys> = names
            .iter()
            .filter_map(|name| text(name)?.parse::<NodePath>().ok())
            .map(|node| NodeKeys::new(&node))
            .collect();
        let count = connection
            .command(redis::cmd("ZCARD").arg(keys::NODES))
            .await?;
        let mut extent = Self {
            nodes: number(&count),
            ..Self::default()
        };
        for part in nodes.chunks(NODES_AT_ONCE) {
            let mut pipeline = Pipeline::with_capacity(part.len());
            for node in part {
                pipeline.cmd("SCARD").arg(node.series());
            }
            let counts = connection.pipeline(&pipeline).await?;
            extent.series += counts.iter().map(number).sum::<u64>();
        }
        let every = nodes.len().div_ceil(NODES_MEASURED).max(1);
        let measured: Vec<&NodeKeys> = nodes.iter().step_by(every).collect();
        let mut bytes = 0;
        for node in &measured {
            match bytes_of(connection, node).await? {
                Some(of_node) => bytes += of_node,
                None => return Ok(extent),
            }
        }
        extent.bytes_per_node = bytes.checked_div(measured.len() as u64);
        Ok(extent)
    }
}

/// The memory that the rows of one node take; `None` when we may not ask.
async fn bytes_of(connection: &Connection, node: &NodeKeys) -> Result<Option<u64>, StoreError> {
    let mut query = redis::cmd("SRANDMEMBER");
    query.arg(node.series()).arg(SERIES_MEASURED);
    let mut pipeline = Pipeline::new();
    pipeline.add_command(query);
    pipeline.cmd("SCARD").arg(node.series());
    let replies = connection.pipeline(&pipeline).await?;
    let [names, count] = &replies[..] else {
        return Err(StoreError::reply("SRANDMEMBER"));
    };
    let names: Vec<&str> = items(names)
        .unwrap_or_default()
        .iter()
        .filter_map(text)
        .collect();
    let mut pipeline = Pipeline::with_capacity(names.len() * 9);
    for name in &names {
        let tiers = Tier::ALL
            .iter()
            .flat_map(|tier| [node.rows(*tier, name), node.packed(*tier, name)]);
        for key in tiers.chain([node.late(name)]) {
            pipeline.cmd("MEMORY").arg("USAGE").arg(key);
        }
    }
    let replies = match connection.pipeline(&pipeline).await {
        Ok(replies) => replies,
        Err(StoreError::Denied { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    if replies
        .iter()
        .any(|reply| matches!(reply, Value::ServerError(_)))
    {
        return Ok(None);
    }
    let bytes: u64 = replies.iter().map(number).sum();
    // Those that were not measured are like those that were.
    let all = number(count).max(names.len() as u64);
    Ok(Some(
        bytes.saturating_mul(all) / (names.len() as u64).max(1),
    ))
}

fn number(reply: &Value) -> u64 {
    match reply {
        Value::Int(number) => u64::try_from(*number).unwrap_or_default(),
        _ => 0,
    }
}
