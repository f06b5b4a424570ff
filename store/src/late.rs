//! Rows that a stream is already past: duplicates told from late ones, and the late ones put aside.

use redis::{Arg, Cmd, Pipeline, Value};

use crate::batch::{Entry, Outcome};
use crate::connection::Connection;
use crate::error::StoreError;
use crate::keys;
use crate::row::{bytes, items, late_member};

/// A row that its stream refused, as the command that tried to add it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal<'r> {
    pub(crate) entry: &'r Entry,
    pub(crate) command: &'r Cmd,
}

/// Looks each refused row up in its stream. One that is there with the same values is a duplicate;
/// any other is kept among the late rows. A publisher that does not number its samples has one
/// sample a millisecond: another one is a duplicate, whatever its values.
pub(crate) async fn put_aside(
    connection: &Connection,
    refused: &[Refusal<'_>],
    cutoff_ms: u64,
    expiry_seconds: u64,
    outcome: &mut Outcome,
) -> Result<(), StoreError> {
    let mut look = Pipeline::with_capacity(2 * refused.len());
    for Refusal { entry, command } in refused {
        let id = format!("{}-0", entry.at_ms);
        look.cmd("XRANGE").arg(key_of(command)).arg(&id).arg(&id);
        look.cmd("ZCOUNT")
            .arg(late_key_of(command))
            .arg(entry.at_ms)
            .arg(entry.at_ms);
    }
    let found = connection.pipeline(&look).await?;
    let mut put = Pipeline::new();
    for (Refusal { entry, command }, found) in refused.iter().zip(found.chunks_exact(2)) {
        let in_stream = items(&found[0]).and_then(<[Value]>::first);
        let numbered = entry.step.is_some();
        let duplicate = match in_stream {
            Some(row) => !numbered || is_same(row, command),
            None => !numbered && matches!(found[1], Value::Int(rows) if rows > 0),
        };
        if duplicate {
            outcome.duplicate_rows += 1;
        } else {
            outcome.late_rows += 1;
            outcome.rows += 1;
            add(&mut put, command, entry.at_ms, expiry_seconds);
            put.cmd("ZREMRANGEBYSCORE")
                .arg(late_key_of(command))
                .arg("-inf");
            put.arg(format!("({cutoff_ms}"));
        }
    }
    for reply in connection.pipeline(&put).await? {
        if let Value::ServerError(error) = reply {
            outcome.refused_rows += 1;
            outcome.refusal = Some(error.to_string());
        }
    }
    Ok(())
}

/// Adds the commands that put the row of `command` among the late ones.
pub(crate) fn add(pipeline: &mut Pipeline, command: &Cmd, at_ms: u64, expiry_seconds: u64) {
    let key = late_key_of(command);
    let member = late_member(at_ms, fields_of(command));
    pipeline.cmd("ZADD").arg(&key).arg(at_ms).arg(member);
    pipeline.cmd("EXPIRE").arg(&key).arg(expiry_seconds);
}

/// The stream that an XADD adds to.
pub(crate) fn key_of(command: &Cmd) -> &str {
    let key = arguments(command).nth(1).unwrap_or_default();
    std::str::from_utf8(key).unwrap_or_default()
}

fn late_key_of(command: &Cmd) -> String {
    keys::late_of(key_of(command)).unwrap_or_default()
}

/// The fields and values of an XADD, in turn.
fn fields_of(command: &Cmd) -> impl Iterator<Item = &[u8]> {
    // XADD <key> [MINID ~ <ms>] <id> <field> <value> ...
    let trims = arguments(command).nth(2) == Some(b"MINID");
    arguments(command).skip(if trims { 6 } else { 3 })
}

fn arguments(command: &Cmd) -> impl Iterator<Item = &[u8]> {
    command.args_iter().map(|argument| match argument {
        Arg::Simple(argument) => argument,
        _ => b"",
    })
}

/// Tells whether a row of XRANGE has the fields and values of `command`.
fn is_same(row: &Value, command: &Cmd) -> bool {
    let fields = items(row)
        .and_then(|row| items(row.get(1)?))
        .unwrap_or_default();
    fields.iter().filter_map(bytes).eq(fields_of(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_a_row_are_found_with_and_without_trimming() {
        let mut plain = redis::cmd("XADD");
        plain.arg("hb:{a.b}:raw:cpu").arg("1-0").arg("x").arg("1");
        let mut trimming = redis::cmd("XADD");
        trimming
            .arg("hb:{a.b}:raw:cpu")
            .arg("MINID")
            .arg("~")
            .arg(5)
            .arg("1-0")
            .arg("x")
            .arg("1");
        for command in [plain, trimming] {
            assert_eq!(fields_of(&command).collect::<Vec<_>>(), [b"x", b"1"]);
            assert_eq!(late_key_of(&command), "hb:{a.b}:late:cpu");
        }
    }
}
