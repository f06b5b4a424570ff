//! One sample and its mark in one transaction: for samples whose rows can't tell a second writing.

use std::sync::Arc;

use redis::{Cmd, Pipeline, Value};

use super::rows::Owner;
use super::{Appender, expiry_seconds, mark_query, read_mark};
use crate::batch::{Entry, Outcome};
use crate::error::StoreError;
use crate::keys::{NodeKeys, info};
use crate::late;
use crate::mark::Mark;
use crate::resp::Arguments;
use crate::row::{id_ms, items, text};

/// How often a transaction is tried. Whatever else is written of the node stands in the same hash as its
/// mark, so it may come to nothing though the mark has not moved.
const TRANSACTION_TRIES: usize = 24;

impl Appender {
    /// Writes one sample and its mark in one transaction. Tells whether they stand there: the order of
    /// a node whose hash is never left alone for so long is broken, and nobody else's.
    pub(super) async fn write_whole(
        &mut self,
        entry: &Entry,
        now_ms: u64,
        outcome: &mut Outcome,
    ) -> Result<bool, StoreError> {
        let Some(step) = entry.step else {
            return Ok(true);
        };
        let mark = step.mark;
        self.rows.clear();
        self.add_rows(0, entry, now_ms, None, outcome);
        let keys = NodeKeys::new(&entry.node);
        let expiry = expiry_seconds(self.retention.raw);
        for _ in 0..TRANSACTION_TRIES {
            let mut look = Pipeline::new();
            look.cmd("WATCH").arg(keys.info());
            look.add_command(mark_query(&keys));
            for row in self
                .commands()
                .filter_map(|(row, adds)| adds.then_some(row))
            {
                look.cmd("XREVRANGE")
                    .arg(late::key_of(&row))
                    .arg("+")
                    .arg("-")
                    .arg("COUNT")
                    .arg(1);
            }
            let seen = self.connection.pipeline(&look).await?;
            let have = seen.get(1).and_then(read_mark);
            if let Some(have) = have.filter(|have| mark <= *have) {
                outcome.stored_before += 1;
                self.connection.command(&redis::cmd("UNWATCH")).await?;
                self.marked(entry, have, outcome);
                return Ok(true);
            }
            let mut whole = Pipeline::new();
            whole.atomic();
            let mut late_rows = 0;
            let mut tops = seen.iter().skip(2).map(newest_ms);
            let mut rows = 0;
            for (command, adds) in self.commands() {
                rows += u64::from(adds);
                let past = adds
                    && tops
                        .next()
                        .flatten()
                        .is_some_and(|newest| newest >= entry.at_ms);
                if past {
                    late_rows += 1;
                    late::add(&mut whole, &command, entry.at_ms, expiry);
                } else {
                    whole.add_command(as_command(command));
                }
            }
            whole
                .cmd("HSET")
                .arg(keys.info())
                .arg(info::COMMITTED_BOOT)
                .arg(mark.boot)
                .arg(info::COMMITTED_SEQ)
                .arg(mark.seq);
            let replies = self.connection.pipeline(&whole).await?;
            match replies.first() {
                Some(Value::Array(replies)) => {
                    for reply in replies {
                        if let Value::ServerError(error) = reply {
                            outcome.refused_rows += 1;
                            outcome.refusal = Some(error.to_string());
                        }
                    }
                    outcome.samples += 1;
                    outcome.rows += rows;
                    outcome.late_rows += late_rows;
                    self.marked(entry, mark, outcome);
                    return Ok(true);
                }
                // A write from before an interruption arrived only now, or something else of the node.
                Some(Value::Nil) => {}
                _ => return Err(StoreError::reply("EXEC")),
            }
        }
        if let Some(node) = self.nodes.get_mut(&entry.node) {
            node.mark = step.after;
        }
        outcome.broken.push(Arc::clone(&entry.node));
        Ok(false)
    }

    /// The commands in hand, and whether each adds a row.
    fn commands(&self) -> impl Iterator<Item = (Arguments<'_>, bool)> {
        let rows = &self.rows;
        let owners = rows.owners.iter().enumerate();
        owners.map(|(index, owner)| {
            (
                rows.commands.arguments(index),
                matches!(owner, Owner::Row(_)),
            )
        })
    }

    /// Notes that Redis has the mark of `entry`, or a later one.
    fn marked(&mut self, entry: &Entry, mark: Mark, outcome: &mut Outcome) {
        if let Some(node) = self.nodes.get_mut(&entry.node) {
            node.committed = Some(mark);
            node.mark = node.mark.max(Some(mark));
        }
        outcome.marks.push((Arc::clone(&entry.node), mark));
    }
}

fn as_command(arguments: Arguments<'_>) -> Cmd {
    let mut command = Cmd::new();
    for argument in arguments {
        command.arg(argument);
    }
    command
}

/// The time of the newest row in a reply of XREVRANGE.
fn newest_ms(reply: &Value) -> Option<u64> {
    id_ms(text(items(items(reply)?.first()?)?.first()?)?)
}
