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

/// How often a transaction is tried when the mark moves under it.
const TRANSACTION_TRIES: usize = 3;

impl Appender {
    /// Writes one sample and its mark in one transaction.
    pub(super) async fn write_whole(
        &mut self,
        entry: &Entry,
        now_ms: u64,
        outcome: &mut Outcome,
    ) -> Result<(), StoreError> {
        let Some(mark) = entry.step.map(|step| step.mark) else {
            return Ok(());
        };
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
                return Ok(());
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
                    return Ok(());
                }
                // The mark moved: a write from before an interruption arrived only now.
                Some(Value::Nil) => {}
                _ => return Err(StoreError::reply("EXEC")),
            }
        }
        Err(StoreError::Unavailable {
            reason: "the mark keeps moving".to_owned(),
        })
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
