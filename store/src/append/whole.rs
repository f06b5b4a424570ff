//! One sample and its mark in one transaction: for samples whose rows can't tell a second writing.

use redis::{Cmd, Pipeline, Value};

use super::{Appender, EXPIRE_AFTER_SECONDS, mark_query, read_mark, set_mark};
use crate::batch::{Entry, Outcome};
use crate::error::StoreError;
use crate::keys::NodeKeys;
use crate::late;
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
        let (mut rows, mut owners) = (Pipeline::new(), Vec::new());
        self.add_rows(entry, now_ms, &mut rows, &mut owners, outcome);
        let keys = NodeKeys::new(&entry.node);
        let expiry = self
            .retention
            .raw
            .seconds
            .saturating_add(EXPIRE_AFTER_SECONDS);
        for _ in 0..TRANSACTION_TRIES {
            let mut look = Pipeline::new();
            look.cmd("WATCH").arg(keys.info());
            look.add_command(mark_query(&keys));
            for (command, _) in added_rows(&rows, &owners) {
                look.cmd("XREVRANGE")
                    .arg(late::key_of(command))
                    .arg("+")
                    .arg("-")
                    .arg("COUNT")
                    .arg(1);
            }
            let seen = self.connection.pipeline(&look).await?;
            if seen
                .get(1)
                .and_then(read_mark)
                .is_some_and(|have| mark <= have)
            {
                outcome.stored_before += 1;
                self.connection.command(&redis::cmd("UNWATCH")).await?;
                return Ok(());
            }
            let mut whole = Pipeline::new();
            whole.atomic();
            let mut late_rows = 0;
            let mut tops = seen.iter().skip(2).map(newest_ms);
            for (command, owner) in rows.cmd_iter().zip(&owners) {
                let past = owner.is_some()
                    && tops
                        .next()
                        .flatten()
                        .is_some_and(|newest| newest >= entry.at_ms);
                if past {
                    late_rows += 1;
                    late::add(&mut whole, command, entry.at_ms, expiry);
                } else {
                    whole.add_command(command.clone());
                }
            }
            set_mark(whole.cmd("HSET").arg(keys.info()), mark);
            let replies = self.connection.pipeline(&whole).await?;
            match replies.first() {
                Some(Value::Array(replies)) => {
                    for reply in replies {
                        if let Value::ServerError(error) = reply {
                            outcome.refused_rows += 1;
                            outcome.refusal = Some(error.to_string());
                        }
                    }
                    outcome.rows += owners.iter().flatten().count() as u64;
                    outcome.late_rows += late_rows;
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
}

/// The commands of `rows` that add a row.
fn added_rows<'p, 'e>(
    rows: &'p Pipeline,
    owners: &'p [Option<&'e Entry>],
) -> impl Iterator<Item = (&'p Cmd, &'e Entry)> {
    rows.cmd_iter()
        .zip(owners)
        .filter_map(|(command, owner)| Some((command, (*owner)?)))
}

/// The time of the newest row in a reply of XREVRANGE.
fn newest_ms(reply: &Value) -> Option<u64> {
    id_ms(text(items(items(reply)?.first()?)?.first()?)?)
}
