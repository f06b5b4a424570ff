//! One row of a series as text, both ways. What comes from Redis is hostile until it is parsed.
//!
//! ```text
//! in a stream       id <ms>-0, then field, value, field, value ...
//! among late rows   <ms> <field> <value> <field> <value> ...
//! a value           a decimal number, or `nan` when unknown
//! ```

use redis::Value as Reply;

/// The text of a value that nobody knows.
pub const UNKNOWN: &str = "nan";

/// One row: the values of a series at one time, in the order of the fields that come with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// When, in milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
    /// A value a field; `None` is unknown.
    pub values: Vec<Option<f64>>,
}

/// One value of one field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// When, in milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
    /// The value; `None` is unknown.
    pub value: Option<f64>,
}

/// The member that keeps a row among the late ones.
pub(crate) fn late_member<'f>(at_ms: u64, fields: impl Iterator<Item = &'f [u8]>) -> Vec<u8> {
    let mut member = at_ms.to_string().into_bytes();
    for text in fields {
        member.push(b' ');
        member.extend_from_slice(text);
    }
    member
}

/// The fields of the rows read so far. A row with new fields adds them; the rows before it have
/// nothing there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) names: Vec<String>,
    /// Only these are read; all when absent.
    wanted: Option<Vec<String>>,
}

/// More fields than any series of the contract has rows of; a stream with more is somebody else's.
const MAX_COLUMNS: usize = 8192;

impl Columns {
    /// Only the fields `wanted`, or all of them.
    pub(crate) fn of(wanted: Option<Vec<String>>) -> Self {
        Self {
            names: Vec::new(),
            wanted,
        }
    }

    /// The fields that are read; all when absent.
    pub(crate) fn wanted(&self) -> Option<&[String]> {
        self.wanted.as_deref()
    }

    /// Reads one entry of XRANGE. `None`: it is no row of ours.
    pub(crate) fn stream_row(&mut self, entry: &Reply) -> Option<Row> {
        let Reply::Array(entry) = entry else {
            return None;
        };
        let [id, Reply::Array(fields)] = entry.as_slice() else {
            return None;
        };
        let at_ms = id_ms(text(id)?)?;
        let texts: Option<Vec<&str>> = fields.iter().map(text).collect();
        self.row(at_ms, &texts?)
    }

    /// Reads one member of the late rows. `None`: it is no row of ours.
    pub(crate) fn late_row(&mut self, member: &Reply) -> Option<Row> {
        let (at_ms, fields) = text(member)?.split_once(' ')?;
        let fields: Vec<&str> = fields.split(' ').collect();
        self.row(at_ms.parse().ok()?, &fields)
    }

    fn row(&mut self, at_ms: u64, fields: &[&str]) -> Option<Row> {
        if fields.is_empty() || !fields.len().is_multiple_of(2) {
            return None;
        }
        let mut parsed = Vec::with_capacity(fields.len() / 2);
        for pair in fields.chunks_exact(2) {
            let wanted = self.wanted.as_ref();
            if wanted.is_none_or(|wanted| wanted.iter().any(|name| name == pair[0])) {
                parsed.push((pair[0], value(pair[1])?));
            }
        }
        let mut values = vec![None; self.names.len()];
        for (position, (name, value)) in parsed.into_iter().enumerate() {
            let column = self.column(position, name)?;
            if column >= values.len() {
                values.resize(column + 1, None);
            }
            values[column] = value;
        }
        Some(Row { at_ms, values })
    }

    /// The column of the field `name`, most likely the one at `position`.
    pub(crate) fn column(&mut self, position: usize, name: &str) -> Option<usize> {
        if self.names.get(position).is_some_and(|have| have == name) {
            return Some(position);
        }
        if let Some(column) = self.names.iter().position(|have| have == name) {
            return Some(column);
        }
        if self.names.len() >= MAX_COLUMNS {
            return None;
        }
        self.names.push(name.to_owned());
        Some(self.names.len() - 1)
    }
}

/// A value's text: `Some(None)` is unknown, `None` no value at all.
fn value(text: &str) -> Option<Option<f64>> {
    if text == UNKNOWN {
        return Some(None);
    }
    let value: f64 = text.parse().ok()?;
    value.is_finite().then_some(Some(value))
}

/// The milliseconds of a stream id `<ms>-<seq>`.
pub(crate) fn id_ms(id: &str) -> Option<u64> {
    id.split_once('-')?.0.parse().ok()
}

/// A reply that is text.
pub(crate) fn text(reply: &Reply) -> Option<&str> {
    match reply {
        Reply::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Reply::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// A reply that is bytes.
pub(crate) fn bytes(reply: &Reply) -> Option<&[u8]> {
    match reply {
        Reply::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

/// A reply that is a list.
pub(crate) fn items(reply: &Reply) -> Option<&[Reply]> {
    match reply {
        Reply::Array(items) => Some(items),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bulk(text: &str) -> Reply {
        Reply::BulkString(text.as_bytes().to_vec())
    }

    fn entry(id: &str, fields: &[&str]) -> Reply {
        Reply::Array(vec![
            bulk(id),
            Reply::Array(fields.iter().map(|field| bulk(field)).collect()),
        ])
    }

    #[test]
    fn a_row_reads_back_from_stream_and_late_alike() {
        let mut columns = Columns::default();
        let expected = Row {
            at_ms: 1500,
            values: vec![Some(12.5), None],
        };
        assert_eq!(
            columns.stream_row(&entry("1500-0", &["a", "12.5", "b", "nan"])),
            Some(expected.clone())
        );
        let member = late_member(1500, [&b"a"[..], b"12.5", b"b", b"nan"].into_iter());
        assert_eq!(columns.late_row(&Reply::BulkString(member)), Some(expected));
        assert_eq!(columns.names, ["a", "b"]);
    }

    #[test]
    fn a_field_that_comes_later_gets_a_column_of_its_own() {
        let mut columns = Columns::default();
        columns
            .stream_row(&entry("1-0", &["a", "1", "b", "2"]))
            .unwrap();
        let row = columns
            .stream_row(&entry("2-0", &["b", "3", "c", "4"]))
            .unwrap();
        assert_eq!(row.values, [None, Some(3.0), Some(4.0)]);
        assert_eq!(columns.names, ["a", "b", "c"]);
    }

    #[test]
    fn a_field_that_nobody_wants_is_passed_over() {
        let mut columns = Columns::of(Some(vec!["b".to_owned(), "d".to_owned()]));
        let row = columns.stream_row(&entry("1-0", &["a", "x", "b", "3"]));
        assert_eq!(row.unwrap().values, [Some(3.0)]);
        let row = columns.stream_row(&entry("2-0", &["a", "1"])).unwrap();
        assert_eq!(row.values, [None]);
        assert_eq!(columns.names, ["b"]);
    }

    #[test]
    fn what_is_no_row_is_none() {
        let mut columns = Columns::default();
        for (id, fields) in [
            ("1", &["a", "1"][..]),
            ("x-0", &["a", "1"]),
            ("1-0", &["a"]),
            ("1-0", &[]),
            ("1-0", &["a", "inf"]),
            ("1-0", &["a", "1", "b", ""]),
        ] {
            assert_eq!(
                columns.stream_row(&entry(id, fields)),
                None,
                "{id} {fields:?}"
            );
        }
        for member in ["", "1", "x a 1", "1 a", "1 a b"] {
            assert_eq!(columns.late_row(&bulk(member)), None, "{member}");
        }
        assert_eq!(columns.stream_row(&Reply::Nil), None);
        assert_eq!(columns.late_row(&Reply::BulkString(vec![0xff])), None);
        assert!(columns.names.is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_a_row_or_none(member in any::<Vec<u8>>(), fields in any::<Vec<String>>()) {
            let mut columns = Columns::default();
            columns.late_row(&Reply::BulkString(member));
            let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
            columns.stream_row(&entry("1-0", &fields));
        }
    }
}
