//! The log of alerts, written: what became of each alert, who acknowledged it, who was told.
//!
//! ```text
//! hb:alerts:log   ts node rule instance kind severity message value channel by     about 100,000 entries
//!
//! kind   pending, firing, resolved, gone                   the alert itself
//!        acknowledged, unacknowledged                      `by` a person
//!        told-firing, told-resolved, given-up              through `channel`
//! ```
//! Every entry has all fields; those that don't apply are empty. What stands retained on the bus is heard
//! again at each connection. So that nothing is logged twice, the last entry of each subject is
//! remembered, and read back from the log itself at the start and after any failure.

use std::collections::HashMap;

use redis::Value;

use crate::config::StoreConfig;
use crate::error::StoreError;
use crate::events::{Log, Order, Record};
use crate::keys;
use crate::read::Reader;

/// How many of the newest entries are read back.
const READ_BACK: usize = 20_000;
const PAGE: usize = 1_000;
/// The fields of an entry, in their order.
const FIELDS: [&str; 10] = [
    "ts", "node", "rule", "instance", "kind", "severity", "message", "value", "channel", "by",
];

/// One entry of the log.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transition {
    /// When it happened, in milliseconds since 1970-01-01 UTC.
    pub ts: u64,
    /// Whose alert it is, `home.web1`.
    pub node: String,
    /// The rule.
    pub rule: String,
    /// The instance; empty for the whole node.
    pub instance: String,
    /// What happened; see above.
    pub kind: &'static str,
    /// How bad it is; empty where it does not matter.
    pub severity: &'static str,
    /// One sentence.
    pub message: String,
    /// The value that decided, as decimal text; empty without one.
    pub value: String,
    /// Through which channel people were told; empty for the alert itself.
    pub channel: String,
    /// Who did it; empty for the alert itself.
    pub by: String,
}

impl Transition {
    fn texts(&self) -> [String; 10] {
        [
            self.ts.to_string(),
            self.node.clone(),
            self.rule.clone(),
            self.instance.clone(),
            self.kind.to_owned(),
            self.severity.to_owned(),
            self.message.clone(),
            self.value.clone(),
            self.channel.clone(),
            self.by.clone(),
        ]
    }
}

/// What follows what: the alert's own changes, what people said to it, and what each channel told are
/// three histories.
fn subject<'t>(field: impl Fn(&str) -> &'t str) -> String {
    let history = match field("kind") {
        "acknowledged" | "unacknowledged" => "\u{1}",
        _ => field("channel"),
    };
    let names = [history, field("node"), field("rule"), field("instance")];
    names.join("\0")
}

/// What tells one entry of a subject from the next.
fn gist<'t>(field: impl Fn(&str) -> &'t str) -> String {
    [field("kind"), field("severity"), field("ts")].join("\0")
}

/// Writes the log.
#[derive(Debug)]
pub struct AlertLog {
    reader: Reader,
    /// The gist of each subject's last entry; `None` until it is read back.
    last: Option<HashMap<String, String>>,
}

impl AlertLog {
    /// A writer with a connection of its own.
    ///
    /// # Errors
    /// The settings are wrong.
    pub fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        Ok(Self {
            reader: Reader::open(config)?,
            last: None,
        })
    }

    /// Adds a transition, unless it is the last one that stands there of its subject. One that is
    /// `undated` may be heard again with another time, as retained messages are at each connection: its
    /// author gave none, and it has that of its arrival.
    ///
    /// # Errors
    /// Redis failed; may be called again, and the transition will stand there once.
    pub async fn append(
        &mut self,
        transition: &Transition,
        undated: bool,
    ) -> Result<bool, StoreError> {
        let texts = transition.texts();
        let field = |name: &str| {
            let at = FIELDS.iter().position(|field| *field == name);
            at.map_or("", |at| texts[at].as_str())
        };
        let (subject, gist) = (subject(field), gist(field));
        if self.last.is_none() {
            self.last = Some(self.read_back().await?);
        }
        let last = self.last.as_mut().expect("it was just read back");
        if let Some(known) = last.get(&subject) {
            let same = |a: &str, b: &str| {
                a.rsplit_once('\0').map(|a| a.0) == b.rsplit_once('\0').map(|b| b.0)
            };
            if *known == gist || (undated && same(known, &gist)) {
                return Ok(false);
            }
        }
        let mut add = redis::cmd("XADD");
        add.arg(keys::ALERTS)
            .arg("MAXLEN")
            .arg("~")
            .arg(keys::ALERTS_KEPT)
            .arg("*");
        for (name, text) in FIELDS.iter().zip(&texts) {
            add.arg(*name).arg(text);
        }
        match self.reader.connection().command(&add).await {
            Ok(Value::ServerError(error)) => Err(StoreError::Refused {
                command: "XADD".to_owned(),
                reason: error.to_string(),
            }),
            Ok(_) => {
                if last.len() >= READ_BACK {
                    // Who is not remembered is at worst logged twice.
                    last.clear();
                }
                last.insert(subject, gist);
                Ok(true)
            }
            Err(error) => {
                // Whether it stands there is not known.
                self.last = None;
                Err(error)
            }
        }
    }

    async fn read_back(&self) -> Result<HashMap<String, String>, StoreError> {
        let (mut last, mut after) = (HashMap::new(), None);
        for _ in 0..READ_BACK / PAGE {
            let all = (0, u64::MAX);
            let page = self
                .reader
                .records(Log::Alerts, Order::Newest, all, after.as_deref(), PAGE);
            let page = page.await?;
            for record in &page.records {
                let field = |name: &str| text(record, name);
                last.entry(subject(field)).or_insert_with(|| gist(field));
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(last)
    }
}

fn text<'r>(record: &'r Record, name: &str) -> &'r str {
    record.fields.get(name).map_or("", String::as_str)
}
