//! One row of a series as text, both ways. What comes from Redis is hostile until it is parsed.
//!
//! ```text
//! in a stream       id <ms>-0, then field, value, field, value ...
//! among late rows   <ms> <field> <value> <field> <value> ...
//! a value           a decimal number, or `nan` when unknown
//! ```

use redis::Value as Reply;

use crate::answers::Answer;

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
    pub(crate) fn stream_row(&mut self, entry: Answer<'_>) -> Option<Row> {
        let (id, fields) = entry.pair()?;
        let at_ms = id_ms(id.text()?)?;
        self.row(at_ms, fields.list()?.map(Answer::bytes))
    }

    /// Reads one member of the late rows. `None`: it is no row of ours.
    pub(crate) fn late_row(&mut self, member: &[u8]) -> Option<Row> {
        let mut texts = member.split(|byte| *byte == b' ');
        let at_ms = std::str::from_utf8(texts.next()?).ok()?.parse().ok()?;
        self.row(at_ms, texts.map(Some))
    }

    /// Nearly all rows of a series have the fields of the one before, in the same order.
    fn row<'t>(
        &mut self,
        at_ms: u64,
        mut texts: impl Iterator<Item = Option<&'t [u8]>>,
    ) -> Option<Row> {
        let mut values = Vec::with_capacity(self.names.len());
        // What is in no column yet, or not in the one that is next.
        let mut others: Vec<(usize, &str, Option<f64>)> = Vec::new();
        let mut position = 0;
        let mut fields = 0;
        while let Some(name) = texts.next() {
            let (name, text) = (name?, texts.next()??);
            fields += 1;
            let expected = self.names.get(position);
            if expected.is_some_and(|expected| expected.as_bytes() == name) {
                let value = value(text)?;
                if others.is_empty() {
                    values.push(value);
                } else {
                    others.push((position, std::str::from_utf8(name).ok()?, value));
                }
                position += 1;
                continue;
            }
            let name = std::str::from_utf8(name).ok()?;
            let wanted = self.wanted.as_ref();
            if wanted.is_none_or(|wanted| wanted.iter().any(|wanted| wanted == name)) {
                others.push((position, name, value(text)?));
                position += 1;
            } else {
                std::str::from_utf8(text).ok()?;
            }
        }
        if fields == 0 {
            return None;
        }
        values.resize(self.names.len().max(values.len()), None);
        for (position, name, value) in others {
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
fn value(text: &[u8]) -> Option<Option<f64>> {
    if text == UNKNOWN.as_bytes() {
        return Some(None);
    }
    if let Some(value) = short_decimal(text) {
        return Some(Some(value));
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    value.is_finite().then_some(Some(value))
}

/// Up to here all integers are floats.
const EXACT_DIGITS: usize = 15;
/// The powers of ten up to there, which are floats too.
const POWERS: [f64; EXACT_DIGITS + 1] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
];

/// A decimal number of few digits: one division of two numbers that are exact gives the float next to
/// it. `None`: it is something else.
fn short_decimal(text: &[u8]) -> Option<f64> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    if digits.len() > EXACT_DIGITS + 1 {
        return None;
    }
    let (mut number, mut count, mut point) = (0_u64, 0, None);
    for byte in digits {
        match byte {
            b'0'..=b'9' => {
                number = 10 * number + u64::from(byte - b'0');
                count += 1;
            }
            b'.' if point.is_none() => point = Some(count),
            _ => return None,
        }
    }
    if count == 0 || count > EXACT_DIGITS {
        return None;
    }
    let places = point.map_or(0, |point| count - point);
    #[expect(clippy::cast_precision_loss, reason = "below 10^15")]
    let value = number as f64 / POWERS[places];
    Some(if negative { -value } else { value })
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
    use crate::answers::Answers;

    fn entry(id: &str, fields: &[&str]) -> Answers {
        let mut text = format!("*2\r\n${}\r\n{id}\r\n*{}\r\n", id.len(), fields.len());
        for field in fields {
            text += &format!("${}\r\n{field}\r\n", field.len());
        }
        answer(text.as_bytes())
    }

    fn answer(bytes: &[u8]) -> Answers {
        let mut answers = Answers::default();
        answers.room().extend_from_slice(bytes);
        assert_eq!(answers.note(1), Ok(true));
        answers
    }

    #[test]
    fn a_row_reads_back_from_stream_and_late_alike() {
        let mut columns = Columns::default();
        let expected = Row {
            at_ms: 1500,
            values: vec![Some(12.5), None],
        };
        assert_eq!(
            columns.stream_row(entry("1500-0", &["a", "12.5", "b", "nan"]).get(0)),
            Some(expected.clone())
        );
        let member = late_member(1500, [&b"a"[..], b"12.5", b"b", b"nan"].into_iter());
        assert_eq!(columns.late_row(&member), Some(expected));
        assert_eq!(columns.names, ["a", "b"]);
    }

    #[test]
    fn a_field_that_comes_later_gets_a_column_of_its_own() {
        let mut columns = Columns::default();
        columns
            .stream_row(entry("1-0", &["a", "1", "b", "2"]).get(0))
            .unwrap();
        let row = columns
            .stream_row(entry("2-0", &["b", "3", "c", "4"]).get(0))
            .unwrap();
        assert_eq!(row.values, [None, Some(3.0), Some(4.0)]);
        assert_eq!(columns.names, ["a", "b", "c"]);
    }

    #[test]
    fn a_field_that_nobody_wants_is_passed_over() {
        let mut columns = Columns::of(Some(vec!["b".to_owned(), "d".to_owned()]));
        let row = columns.stream_row(entry("1-0", &["a", "x", "b", "3"]).get(0));
        assert_eq!(row.unwrap().values, [Some(3.0)]);
        let row = columns
            .stream_row(entry("2-0", &["a", "1"]).get(0))
            .unwrap();
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
                columns.stream_row(entry(id, fields).get(0)),
                None,
                "{id} {fields:?}"
            );
        }
        for member in ["", "1", "x a 1", "1 a", "1 a b"] {
            assert_eq!(columns.late_row(member.as_bytes()), None, "{member}");
        }
        for wrong in [
            &b"*-1\r\n"[..],
            b"$-1\r\n",
            b"-ERR no\r\n",
            b"$3\r\n1-0\r\n",
            b"*1\r\n$3\r\n1-0\r\n",
            b"*2\r\n$3\r\n1-0\r\n*-1\r\n",
            b"*2\r\n:1\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n",
            b"*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\na\r\n:1\r\n",
            b"*2\r\n$3\r\n1-0\r\n*2\r\n$-1\r\n$1\r\n1\r\n",
            b"*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\n\xff\r\n$1\r\n1\r\n",
            b"*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\na\r\n$1\r\n\xff\r\n",
            b"*3\r\n$3\r\n1-0\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n:1\r\n",
        ] {
            assert_eq!(columns.stream_row(answer(wrong).get(0)), None, "{wrong:?}");
        }
        assert_eq!(columns.late_row(&[0xff]), None);
        assert!(columns.names.is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_a_row_or_none(member in any::<Vec<u8>>(), fields in any::<Vec<String>>()) {
            let mut columns = Columns::default();
            columns.late_row(&member);
            let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
            columns.stream_row(entry("1-0", &fields).get(0));
        }

        #[test]
        fn a_number_is_what_the_standard_library_reads(
            text in prop_oneof!["-?[0-9]{0,20}", "-?[0-9]{0,12}[.][0-9]{0,9}", "[0-9+.e-]{0,9}"],
        ) {
            let theirs = text.parse::<f64>().ok().filter(|value| value.is_finite());
            let ours = value(text.as_bytes()).flatten();
            prop_assert_eq!(ours.map(f64::to_bits), theirs.map(f64::to_bits), "{}", text);
        }

        #[test]
        fn rows_of_whatever_fields_agree_with_a_plain_model(
            rows in prop::collection::vec(prop::collection::vec(("[a-d]", prop::option::of(0..99_u8)), 1..6), 1..6),
            wanted in prop::option::of(prop::collection::vec("[a-d]", 0..3)),
        ) {
            let mut columns = Columns::of(wanted.clone());
            for row in rows {
                let texts: Vec<String> = row.iter().flat_map(|(name, value)| {
                    [name.clone(), value.map_or_else(|| UNKNOWN.to_owned(), |value| value.to_string())]
                }).collect();
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                let read = columns.stream_row(entry("1-0", &texts).get(0)).unwrap();
                // Of a name that is there twice the last value counts.
                let mut expected = std::collections::BTreeMap::new();
                for (name, value) in &row {
                    if wanted.as_ref().is_none_or(|wanted| wanted.contains(name)) {
                        expected.insert(name.as_str(), value.map(f64::from));
                    }
                }
                prop_assert_eq!(read.values.len(), columns.names.len());
                for (name, value) in columns.names.iter().zip(read.values) {
                    prop_assert_eq!(value, expected.remove(name.as_str()).flatten());
                }
                prop_assert!(expected.is_empty());
            }
        }
    }
}
