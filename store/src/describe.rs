//! Writing what is no time series: inventory, status, events, the fields' meaning.
//!
//! All of it may be written twice without harm, but for events: each write is an entry. So of what is
//! written at once each is answered for itself, and only what Redis did not take is written again.

use hostbus_wire::NodePath;
use hostbus_wire::event::{Event, Severity};
use hostbus_wire::info::Info;
use hostbus_wire::sample::all_fields;
use hostbus_wire::status::Status;
use redis::{Cmd, Pipeline, Value};
use serde::Serialize;

use crate::config::StoreConfig;
use crate::connection::{Connection, judge};
use crate::error::StoreError;
use crate::keys::{self, NodeKeys, info};
use crate::row::{items, text};

/// What is told of a node.
#[derive(Debug, Clone, Copy)]
pub enum Told<'t> {
    /// Its inventory.
    Info(&'t Info),
    /// Whether its publisher is connected.
    Status(Status),
    /// Something that happened.
    Event(&'t Event),
}

/// Writes descriptions.
#[derive(Debug, Clone)]
pub struct Describer {
    connection: Connection,
}

impl Describer {
    /// A writer with a connection of its own.
    ///
    /// # Errors
    /// The settings are wrong.
    pub fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        Ok(Self {
            connection: Connection::open(config)?,
        })
    }

    /// Writes unit and meaning of every field.
    ///
    /// # Errors
    /// Redis failed; may be called again.
    pub async fn fields(&self) -> Result<(), StoreError> {
        let mut set = redis::cmd("HSET");
        set.arg(keys::FIELDS);
        for (section, field) in all_fields() {
            set.arg(format!("{section}.{}", field.name));
            set.arg(format!("{} {}", field.unit, field.meaning));
        }
        self.connection.command(&set).await.map(drop)
    }

    /// How many fields have their meaning in Redis; none of one that was emptied.
    ///
    /// # Errors
    /// Redis failed; may be called again.
    pub async fn known_fields(&self) -> Result<u64, StoreError> {
        let mut count = redis::cmd("HLEN");
        count.arg(keys::FIELDS);
        match self.connection.command(&count).await? {
            Value::Int(known) => Ok(known.unsigned_abs()),
            _ => Err(StoreError::reply("HLEN")),
        }
    }

    /// Writes what is told of nodes, all at once, and gives of each why Redis did not take it, if it did
    /// not: for good, or for now ([`StoreError::may_retry`]). Of one node there may be one inventory.
    ///
    /// # Errors
    /// The connection failed, or Redis serves nobody. Called again with the same, an event may stand there
    /// twice.
    pub async fn write(
        &self,
        told: &[(&NodePath, Told<'_>)],
        now_ms: u64,
    ) -> Result<Vec<Option<StoreError>>, StoreError> {
        let mut look = Pipeline::new();
        for (node, told) in told {
            if let Told::Info(_) = told {
                look.cmd("HKEYS").arg(NodeKeys::new(node).info());
            }
        }
        let known = self.look(&look).await?;
        let (mut known, mut pipeline) = (known.iter(), Pipeline::new());
        let mut owners = Vec::new();
        for (number, (node, told)) in told.iter().enumerate() {
            match told {
                Told::Info(inventory) => {
                    add_info(&mut pipeline, node, inventory, known.next(), now_ms);
                }
                Told::Status(status) => add_status(&mut pipeline, node, *status, now_ms),
                Told::Event(event) => add_event(&mut pipeline, node, event),
            }
            owners.resize(pipeline.len(), number);
        }
        let mut refused: Vec<_> = told.iter().map(|_| None).collect();
        for (number, reply) in owners
            .into_iter()
            .zip(self.connection.replies(&pipeline).await?)
        {
            if let Value::ServerError(error) = reply {
                refused[number] = Some(judge("a description", &error));
            }
        }
        Ok(refused)
    }

    /// Writes a node's inventory. What the former one told and this one does not is removed. The
    /// units of fields stand in `hb:fields`, and are not repeated for each node.
    ///
    /// # Errors
    /// Redis failed; may be called again.
    pub async fn info(
        &self,
        node: &NodePath,
        inventory: &Info,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        self.one(node, Told::Info(inventory), now_ms).await
    }

    /// Writes whether a node's publisher is connected.
    ///
    /// # Errors
    /// Redis failed; may be called again.
    pub async fn status(
        &self,
        node: &NodePath,
        status: Status,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        self.one(node, Told::Status(status), now_ms).await
    }

    /// Adds an event to its node's events and to those of all nodes.
    ///
    /// # Errors
    /// Redis failed; called again, the event may stand there twice.
    pub async fn event(&self, node: &NodePath, event: &Event) -> Result<(), StoreError> {
        self.one(node, Told::Event(event), 0).await
    }

    async fn one(&self, node: &NodePath, told: Told<'_>, now_ms: u64) -> Result<(), StoreError> {
        let refused = self.write(&[(node, told)], now_ms).await?;
        refused.into_iter().flatten().next().map_or(Ok(()), Err)
    }

    /// The replies to a pipeline that only reads; those among them that say that Redis can't serve now make
    /// it fail.
    async fn look(&self, pipeline: &Pipeline) -> Result<Vec<Value>, StoreError> {
        let replies = self.connection.replies(pipeline).await?;
        for reply in &replies {
            if let Value::ServerError(error) = reply {
                let error = judge("a description", error);
                // What we may not do there concerns that key alone.
                if error.may_retry() && !matches!(error, StoreError::Denied { .. }) {
                    return Err(error);
                }
            }
        }
        Ok(replies)
    }
}

/// Adds the commands that write a node's inventory, of which the fields in `known` stand there.
fn add_info(
    pipeline: &mut Pipeline,
    node: &NodePath,
    inventory: &Info,
    known: Option<&Value>,
    now_ms: u64,
) {
    let key = NodeKeys::new(node).info();
    let told = flatten(inventory);
    let mut set = redis::cmd("HSET");
    set.arg(&key);
    for (field, value) in &told {
        set.arg(field).arg(value);
    }
    pipeline.add_command(set).add_command(appear(node, now_ms));
    let known = known.and_then(items).unwrap_or_default();
    let gone: Vec<&str> = known
        .iter()
        .filter_map(text)
        .filter(|field| is_inventory(field) && told.iter().all(|(name, _)| name != field))
        .collect();
    if !gone.is_empty() {
        pipeline.cmd("HDEL").arg(&key).arg(gone);
    }
}

fn add_status(pipeline: &mut Pipeline, node: &NodePath, status: Status, now_ms: u64) {
    pipeline
        .cmd("HSET")
        .arg(NodeKeys::new(node).info())
        .arg(info::STATUS)
        .arg(status.as_str());
    pipeline.add_command(appear(node, now_ms));
}

fn add_event(pipeline: &mut Pipeline, node: &NodePath, event: &Event) {
    let severity = match event.severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    // Scalars hold nothing that JSON can't say.
    let details = serde_json::to_string(&event.details).unwrap_or_default();
    let own = NodeKeys::new(node).events();
    for (key, kept, of) in [
        (own.as_str(), keys::NODE_EVENTS_KEPT, None),
        (keys::EVENTS, keys::EVENTS_KEPT, Some(node.to_string())),
    ] {
        pipeline
            .cmd("XADD")
            .arg(key)
            .arg("MAXLEN")
            .arg("~")
            .arg(kept)
            .arg("*");
        if let Some(node) = of {
            pipeline.arg("node").arg(node);
        }
        pipeline
            .arg("ts")
            .arg(event.ts)
            .arg("kind")
            .arg(&event.kind);
        pipeline
            .arg("severity")
            .arg(severity)
            .arg("message")
            .arg(&event.message);
        pipeline.arg("details").arg(&details);
    }
}

/// Puts a node among all nodes, unless a sample of it did.
fn appear(node: &NodePath, now_ms: u64) -> Cmd {
    let mut add = redis::cmd("ZADD");
    add.arg(keys::NODES)
        .arg("NX")
        .arg(now_ms)
        .arg(node.to_string());
    add
}

fn is_inventory(field: &str) -> bool {
    ![
        info::STATUS,
        info::COMMITTED_BOOT,
        info::COMMITTED_SEQ,
        info::SEEN,
    ]
    .contains(&field)
}

/// A list as JSON; `None` when it is empty.
fn json<T: Serialize>(list: &[T]) -> Option<String> {
    // The lists of an inventory hold nothing that JSON can't say.
    (!list.is_empty()).then(|| serde_json::to_string(list).unwrap_or_default())
}

/// The inventory as fields of a hash: plain texts and numbers, lists as JSON.
fn flatten(inventory: &Info) -> Vec<(String, String)> {
    let texts = [
        ("hostname", &inventory.hostname),
        ("machine", &inventory.machine),
        ("os", &inventory.os),
        ("kernel", &inventory.kernel),
        ("arch", &inventory.arch),
        ("virtualization", &inventory.virtualization),
        ("container", &inventory.container),
        ("cpu_model", &inventory.cpu_model),
        ("publisher", &inventory.publisher),
    ];
    let numbers = [
        ("ts", Some(inventory.ts)),
        ("cpu_cores", inventory.cpu_cores.map(u64::from)),
        (
            "cpu_physical_cores",
            inventory.cpu_physical_cores.map(u64::from),
        ),
        ("memory_bytes", inventory.memory_bytes),
        ("boot_time", inventory.boot_time),
        ("interval_ms", inventory.interval_ms.map(u64::from)),
    ];
    let mut fields = Vec::new();
    for (name, text) in texts {
        if let Some(text) = text {
            fields.push((name.to_owned(), text.clone()));
        }
    }
    for (name, number) in numbers {
        if let Some(number) = number {
            fields.push((name.to_owned(), number.to_string()));
        }
    }
    for (name, list) in [
        ("memory_modules", json(&inventory.memory_modules)),
        ("disks", json(&inventory.disks)),
        ("networks", json(&inventory.networks)),
    ] {
        if let Some(list) = list {
            fields.push((name.to_owned(), list));
        }
    }
    for (collector, state) in &inventory.collectors {
        fields.push((format!("{}{collector}", info::COLLECTOR), state.clone()));
    }
    fields
}

#[cfg(test)]
mod tests {
    use hostbus_wire::info::DiskInfo;

    use super::*;

    #[test]
    fn an_inventory_becomes_texts_numbers_and_lists_as_json() {
        let inventory = Info {
            ts: 7,
            container: Some("podman".to_owned()),
            cpu_physical_cores: Some(4),
            disks: vec![DiskInfo {
                name: "vda".to_owned(),
                ..DiskInfo::default()
            }],
            collectors: [("cpu".to_owned(), "on".to_owned())].into(),
            ..Info::default()
        };
        let expected = [
            ("container", "podman"),
            ("ts", "7"),
            ("cpu_physical_cores", "4"),
            ("disks", r#"[{"name":"vda"}]"#),
            ("collector.cpu", "on"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(flatten(&inventory), expected);
    }
}
