//! Rows that a stream is already past: duplicates told from late ones, and the late ones put aside.

use redis::{Pipeline, Value};

use crate::batch::Outcome;
use crate::connection::Connection;
use crate::error::StoreError;
use crate::keys;
use crate::resp::Arguments;
use crate::row::{UNKNOWN, bytes, items, late_member};

/// A row that its stream refused.
#[derive(Debug, Clone)]
pub(crate) struct Refusal<'r> {
    /// Its time.
    pub(crate) at_ms: u64,
    /// Its publisher numbers its samples.
    pub(crate) numbered: bool,
    /// The command that tried to add it.
    pub(crate) row: Arguments<'r>,
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
    for Refusal { at_ms, row, .. } in refused {
        let id = format!("{at_ms}-0");
        look.cmd("XRANGE").arg(key_of(row)).arg(&id).arg(&id);
        look.cmd("ZCOUNT")
            .arg(late_key_of(row))
            .arg(*at_ms)
            .arg(*at_ms);
    }
    let found = connection.pipeline(&look).await?;
    let mut put = Pipeline::new();
    for (refusal, found) in refused.iter().zip(found.chunks_exact(2)) {
        let Refusal {
            at_ms,
            numbered,
            row,
        } = refusal;
        let in_stream = items(&found[0]).and_then(<[Value]>::first);
        let duplicate = match in_stream {
            Some(have) => !numbered || is_same(have, row),
            None => !numbered && matches!(found[1], Value::Int(rows) if rows > 0),
        };
        if duplicate {
            outcome.duplicate_rows += 1;
        } else {
            outcome.late_rows += 1;
            outcome.rows += 1;
            add(&mut put, row, *at_ms, expiry_seconds);
            put.cmd("ZREMRANGEBYSCORE")
                .arg(late_key_of(row))
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

/// Adds the commands that put `row` among the late ones.
pub(crate) fn add(pipeline: &mut Pipeline, row: &Arguments<'_>, at_ms: u64, expiry_seconds: u64) {
    let key = late_key_of(row);
    let fields = fields_of(row);
    let known = fields.iter().filter(|(_, value)| is_known(value));
    // Which unknown fields a row has room for may differ when it is written again: they are left
    // out, so that it is one member still. A row without a known value keeps what it has.
    let member = if known.clone().count() > 0 {
        late_member(at_ms, known.flat_map(|(field, value)| [*field, *value]))
    } else {
        late_member(
            at_ms,
            fields.iter().flat_map(|(field, value)| [*field, *value]),
        )
    };
    pipeline.cmd("ZADD").arg(&key).arg(at_ms).arg(member);
    pipeline.cmd("EXPIRE").arg(&key).arg(expiry_seconds);
}

/// The stream that an XADD adds to.
pub(crate) fn key_of<'r>(row: &Arguments<'r>) -> &'r str {
    let key = row.clone().nth(1).unwrap_or_default();
    std::str::from_utf8(key).unwrap_or_default()
}

fn late_key_of(row: &Arguments<'_>) -> String {
    keys::late_of(key_of(row)).unwrap_or_default()
}

/// The fields and values of an XADD.
fn fields_of<'r>(row: &Arguments<'r>) -> Vec<(&'r [u8], &'r [u8])> {
    // XADD <key> [MINID ~ <ms>] <id> <field> <value> ...
    let trims = row.clone().nth(2) == Some(b"MINID");
    let mut texts = row.clone().skip(if trims { 6 } else { 3 });
    let mut fields = Vec::new();
    while let (Some(field), Some(value)) = (texts.next(), texts.next()) {
        fields.push((field, value));
    }
    fields
}

fn is_known(value: &[u8]) -> bool {
    value != UNKNOWN.as_bytes()
}

/// Tells whether a row of XRANGE says the same as `row`. Which unknown fields they have room for may
/// differ.
fn is_same(have: &Value, row: &Arguments<'_>) -> bool {
    let texts = items(have)
        .and_then(|have| items(have.get(1)?))
        .unwrap_or_default();
    let texts: Vec<&[u8]> = texts.iter().filter_map(bytes).collect();
    let have = texts.chunks_exact(2).map(|pair| (pair[0], pair[1]));
    let fields = fields_of(row);
    let fields = fields.into_iter().filter(|(_, value)| is_known(value));
    have.filter(|(_, value)| is_known(value)).eq(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Commands;

    fn command(arguments: &[&str]) -> Commands {
        let mut commands = Commands::default();
        commands.begin(arguments.len());
        for argument in arguments {
            commands.argument(argument.as_bytes());
        }
        commands
    }

    #[test]
    fn the_fields_of_a_row_are_found_with_and_without_trimming() {
        let plain = ["XADD", "hb:{a.b}:raw:cpu", "1", "x", "1"];
        let trimming = ["XADD", "hb:{a.b}:raw:cpu", "MINID", "~", "5", "1", "x", "1"];
        for arguments in [&plain[..], &trimming] {
            let commands = command(arguments);
            let row = commands.arguments(0);
            assert_eq!(fields_of(&row), [(&b"x"[..], &b"1"[..])]);
            assert_eq!(late_key_of(&row), "hb:{a.b}:late:cpu");
        }
    }

    #[test]
    fn rows_are_the_same_whatever_unknown_fields_they_have_room_for() {
        let bulk = |text: &&str| Value::BulkString(text.as_bytes().to_vec());
        let check = |have: &[&str], wrote: &[&str], same: bool| {
            let id = Value::BulkString(b"1-0".to_vec());
            let have = Value::Array(vec![id, Value::Array(have.iter().map(bulk).collect())]);
            let commands = command(&[&["XADD", "hb:{a.b}:raw:cpu", "1"], wrote].concat());
            assert_eq!(is_same(&have, &commands.arguments(0)), same, "{wrote:?}");
        };
        check(&["x", "1"], &["x", "1"], true);
        check(&["x", "1", "y", "nan"], &["x", "1"], true);
        check(&["x", "1"], &["w", "nan", "x", "1"], true);
        check(&["x", "1"], &["x", "2"], false);
        check(&["x", "1"], &["x", "1", "y", "2"], false);
        check(&["x", "1", "y", "2"], &["x", "1", "y", "nan"], false);
    }
}
