//! Removing a node whole: its rows in all tiers, its inventory, its mark, its place among the nodes.
//!
//! The node's `series` names most of its keys. What it no longer names is found by a look at all keys,
//! which Redis does in small steps. Memory is given back in the background (UNLINK). The place in
//! `hb:nodes` goes after the keys: what was interrupted can be asked for again. Events in `hb:events` stay.

use hostbus_wire::NodePath;
use redis::{Cmd, Value};

use crate::connection::Connection;
use crate::error::StoreError;
use crate::keys::{self, NodeKeys, info};
use crate::row::{bytes, items, text};
use crate::tier::Tier;

/// How many keys go with one command, and how many members of a set are read at once.
const KEYS_AT_ONCE: usize = 100;
/// How many keys Redis looks at before it serves others.
const LOOK_AT_ONCE: usize = 1_000;

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// The series that the node named.
    pub series: u64,
    /// The keys that were there, `hb:nodes` not counted.
    pub keys: u64,
    /// Whether it was among the nodes.
    pub was_listed: bool,
}

/// Tells whether samples of `node` have come of late, and no good-bye since: whoever is forgotten then
/// is there again with the next sample.
///
/// # Errors
/// Redis failed.
pub async fn is_publishing(connection: &Connection, node: &NodePath) -> Result<bool, StoreError> {
    let keys = NodeKeys::new(node);
    let last = connection
        .command(redis::cmd("EXISTS").arg(keys.last()))
        .await?;
    if last != Value::Int(1) {
        return Ok(false);
    }
    let mut query = redis::cmd("HGET");
    query.arg(keys.info()).arg(info::STATUS);
    let status = connection.command(&query).await?;
    Ok(text(&status) != Some("offline"))
}

/// Removes all that Redis holds of `node`.
///
/// # Errors
/// Redis failed. Some of it may be removed; the same call may be made again, and completes it.
pub async fn forget(connection: &Connection, node: &NodePath) -> Result<Forgotten, StoreError> {
    let keys = NodeKeys::new(node);
    let mut forgotten = Forgotten::default();
    forget_named(connection, &keys, &mut forgotten).await?;
    forget_found(connection, &keys, &mut forgotten).await?;
    let mut leave = redis::cmd("ZREM");
    leave.arg(keys::NODES).arg(node.to_string());
    forgotten.was_listed = connection.command(&leave).await? == Value::Int(1);
    // Whoever was busy with the node meanwhile, as the keeper may be, has left something again. From
    // now on nobody begins.
    forget_found(connection, &keys, &mut forgotten).await?;
    Ok(forgotten)
}

/// Removes the keys of the series that the node names.
async fn forget_named(
    connection: &Connection,
    keys: &NodeKeys,
    forgotten: &mut Forgotten,
) -> Result<(), StoreError> {
    let mut cursor = Cursor::default();
    while let Some(names) = cursor
        .next(connection, |cursor| {
            let mut scan = redis::cmd("SSCAN");
            scan.arg(keys.series()).arg(cursor);
            scan.arg("COUNT").arg(KEYS_AT_ONCE);
            scan
        })
        .await?
    {
        let mut found = Vec::new();
        for series in names.iter().filter_map(text) {
            forgotten.series += 1;
            for tier in Tier::ALL {
                found.push(keys.rows(tier, series).into_bytes());
                found.push(keys.packed(tier, series).into_bytes());
            }
            found.push(keys.late(series).into_bytes());
        }
        forgotten.keys += unlink(connection, &found).await?;
    }
    Ok(())
}

/// Looks at all keys of Redis, and removes those of the node.
async fn forget_found(
    connection: &Connection,
    keys: &NodeKeys,
    forgotten: &mut Forgotten,
) -> Result<(), StoreError> {
    let mut cursor = Cursor::default();
    while let Some(found) = cursor
        .next(connection, |cursor| {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(keys.pattern());
            scan.arg("COUNT").arg(LOOK_AT_ONCE);
            scan
        })
        .await?
    {
        let found: Vec<Vec<u8>> = found
            .iter()
            .filter_map(bytes)
            // What Redis says is not trusted with the removal of others.
            .filter(|key| key.starts_with(keys.prefix().as_bytes()))
            .map(<[u8]>::to_vec)
            .collect();
        forgotten.keys += unlink(connection, &found).await?;
    }
    Ok(())
}

/// Removes keys of one node, and tells how many were there.
async fn unlink(connection: &Connection, keys: &[Vec<u8>]) -> Result<u64, StoreError> {
    let mut removed = 0;
    for part in keys.chunks(KEYS_AT_ONCE) {
        let mut unlink = redis::cmd("UNLINK");
        unlink.arg(part);
        match connection.command(&unlink).await? {
            Value::Int(count) => removed += u64::try_from(count).unwrap_or_default(),
            _ => return Err(StoreError::reply("UNLINK")),
        }
    }
    Ok(removed)
}

/// A walk through what Redis gives piece by piece.
#[derive(Default)]
struct Cursor {
    at: u64,
    has_begun: bool,
}

impl Cursor {
    /// The next piece; `None` at the end.
    async fn next(
        &mut self,
        connection: &Connection,
        command: impl FnOnce(u64) -> Cmd,
    ) -> Result<Option<Vec<Value>>, StoreError> {
        if self.has_begun && self.at == 0 {
            return Ok(None);
        }
        self.has_begun = true;
        let reply = connection.command(&command(self.at)).await?;
        let wrong = || StoreError::reply("SCAN");
        let Some([at, found]) = items(&reply) else {
            return Err(wrong());
        };
        self.at = text(at).and_then(|at| at.parse().ok()).ok_or_else(wrong)?;
        Ok(Some(items(found).ok_or_else(wrong)?.to_vec()))
    }
}
