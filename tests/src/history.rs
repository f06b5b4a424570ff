//! What stands in Redis, read without hostbus.

use std::collections::BTreeMap;

use anyhow::Context;
use redis::streams::StreamRangeReply;
use redis::{Client, FromRedisValue};

/// One row of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The time in its id, in milliseconds since 1970.
    pub ms: u64,
    /// The number after the time in its id.
    pub number: u64,
    /// Its fields.
    pub fields: BTreeMap<String, String>,
}

/// A Redis to read from. Each question opens a connection, so that a server may come and go.
#[derive(Debug, Clone)]
pub struct History {
    client: Client,
}

impl History {
    /// The Redis at `url`.
    ///
    /// # Panics
    /// The URL is none of Redis.
    #[must_use]
    pub fn at(url: &str) -> Self {
        Self {
            client: Client::open(url).expect("a URL of Redis"),
        }
    }

    /// Asks one command.
    ///
    /// # Errors
    /// Redis is away, or refuses it.
    pub fn ask<T: FromRedisValue>(&self, command: &[&str]) -> anyhow::Result<T> {
        let mut connection = self.client.get_connection()?;
        let (name, arguments) = command.split_first().context("a command has a name")?;
        Ok(redis::cmd(name).arg(arguments).query(&mut connection)?)
    }

    /// All raw rows of a series of the node `node`, such as `home.web1`, oldest first.
    ///
    /// # Errors
    /// Redis is away.
    pub fn rows(&self, node: &str, series: &str) -> anyhow::Result<Vec<Row>> {
        let key = format!("hb:{{{node}}}:raw:{series}");
        let reply: StreamRangeReply = self.ask(&["XRANGE", &key, "-", "+"])?;
        reply
            .ids
            .into_iter()
            .map(|entry| {
                let (ms, number) = entry.id.split_once('-').context("an id has two parts")?;
                let fields = entry
                    .map
                    .iter()
                    .map(|(field, value)| {
                        Ok((field.clone(), redis::from_redis_value_ref::<String>(value)?))
                    })
                    .collect::<anyhow::Result<_>>()?;
                Ok(Row {
                    ms: ms.parse()?,
                    number: number.parse()?,
                    fields,
                })
            })
            .collect()
    }

    /// How many raw rows a series has.
    ///
    /// # Errors
    /// Redis is away.
    pub fn count(&self, node: &str, series: &str) -> anyhow::Result<u64> {
        self.ask(&["XLEN", &format!("hb:{{{node}}}:raw:{series}")])
    }

    /// The hash `info` of a node.
    ///
    /// # Errors
    /// Redis is away.
    pub fn info(&self, node: &str) -> anyhow::Result<BTreeMap<String, String>> {
        self.ask(&["HGETALL", &format!("hb:{{{node}}}:info")])
    }

    /// The committed mark of a node: boot and sequence number.
    ///
    /// # Errors
    /// Redis is away, or there is no mark yet.
    pub fn committed(&self, node: &str) -> anyhow::Result<(u64, u64)> {
        let info = self.info(node)?;
        let number = |field: &str| -> anyhow::Result<u64> {
            Ok(info
                .get(field)
                .with_context(|| format!("no {field}"))?
                .parse()?)
        };
        Ok((number("committed_boot")?, number("committed_seq")?))
    }
}
