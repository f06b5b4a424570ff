//! Rows as JSON or CSV, one after the other as they come: memory does not grow with their number.

use std::io::Write;

use hostbus_store::Frame;
use serde_json::{Map, Value, json};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// One array with an object a row: `ts` in milliseconds, then the fields, `null` when unknown.
    Json,
    /// A line a row under a head line; unknown is empty.
    Csv,
}

/// Writes the rows of one or several nodes.
pub(crate) struct RowWriter<W: Write> {
    form: Form<W>,
    /// The columns after node and time.
    fields: Vec<String>,
    /// Rows tell their node.
    with_node: bool,
    /// Fields that came too late to get a column.
    left_out: Vec<String>,
}

enum Form<W: Write> {
    Json { out: W, first: bool },
    Csv(Box<csv::Writer<W>>),
}

impl<W: Write> RowWriter<W> {
    /// Begins with what stands before the rows. CSV has the columns `fields`.
    pub(crate) fn new(
        mut out: W,
        format: Format,
        fields: Vec<String>,
        with_node: bool,
    ) -> anyhow::Result<Self> {
        let form = match format {
            Format::Json => {
                write!(out, "[")?;
                Form::Json { out, first: true }
            }
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(out);
                let node = with_node.then_some("node");
                let names = fields.iter().map(String::as_str);
                writer.write_record(node.into_iter().chain(["ts"]).chain(names))?;
                Form::Csv(Box::new(writer))
            }
        };
        Ok(Self {
            form,
            fields,
            with_node,
            left_out: Vec::new(),
        })
    }

    /// Writes the rows of `frame`.
    pub(crate) fn write(&mut self, node: &str, frame: &Frame) -> anyhow::Result<()> {
        let node = self.with_node.then_some(node);
        match &mut self.form {
            Form::Json { out, first } => {
                for (row, at_ms) in frame.times_ms.iter().enumerate() {
                    let mut object = Map::new();
                    if let Some(node) = node {
                        object.insert("node".to_owned(), json!(node));
                    }
                    object.insert("ts".to_owned(), json!(at_ms));
                    for (field, value) in frame.fields.iter().zip(frame.row(row)) {
                        object.insert(field.clone(), json!(value));
                    }
                    let comma = if std::mem::take(first) { "" } else { "," };
                    write!(out, "{comma}{}", Value::Object(object))?;
                }
            }
            Form::Csv(writer) => {
                for field in &frame.fields {
                    if !self.fields.contains(field) && !self.left_out.contains(field) {
                        self.left_out.push(field.clone());
                    }
                }
                let place = |name: &String| frame.fields.iter().position(|field| field == name);
                let places: Vec<Option<usize>> = self.fields.iter().map(place).collect();
                for (row, at_ms) in frame.times_ms.iter().enumerate() {
                    let values: Vec<Option<f64>> = frame.row(row).collect();
                    let cell = |place: &Option<usize>| {
                        let value = values.get((*place)?).copied().flatten();
                        value.map(|value| value.to_string())
                    };
                    let cells = places.iter().map(|place| cell(place).unwrap_or_default());
                    let head = node.map(str::to_owned).into_iter();
                    writer.write_record(head.chain([at_ms.to_string()]).chain(cells))?;
                }
            }
        }
        Ok(())
    }

    /// Ends with what stands after the rows. Returns the fields that have no column.
    pub(crate) fn finish(self) -> anyhow::Result<Vec<String>> {
        match self.form {
            Form::Json { mut out, .. } => {
                writeln!(out, "]")?;
                out.flush()?;
            }
            Form::Csv(mut writer) => writer.flush()?,
        }
        Ok(self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(fields: &[&str], times_ms: &[u64], values: &[&[f64]]) -> Frame {
        Frame {
            fields: fields.iter().map(|&field| field.to_owned()).collect(),
            times_ms: times_ms.to_vec(),
            values: values.iter().map(|column| column.to_vec()).collect(),
        }
    }

    fn written(format: Format, with_node: bool, frames: &[(&str, Frame)]) -> (String, Vec<String>) {
        let mut out = Vec::new();
        let fields = frames.first().map(|(_, frame)| frame.fields.clone());
        let fields = fields.unwrap_or_default();
        let mut writer = RowWriter::new(&mut out, format, fields, with_node).unwrap();
        for (node, frame) in frames {
            writer.write(node, frame).unwrap();
        }
        let left_out = writer.finish().unwrap();
        (String::from_utf8(out).unwrap(), left_out)
    }

    #[test]
    fn unknown_is_null_or_empty_and_never_0() {
        let rows = frame(
            &["a", "b"],
            &[1000, 2000],
            &[&[1.0, 3.0], &[f64::NAN, 12.51]],
        );
        let (text, _) = written(Format::Csv, false, &[("x", rows.clone())]);
        assert_eq!(text, "ts,a,b\n1000,1,\n2000,3,12.51\n");
        let (text, _) = written(Format::Json, false, &[("x", rows)]);
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            read,
            json!([{"ts": 1000, "a": 1.0, "b": null}, {"ts": 2000, "a": 3.0, "b": 12.51}])
        );
        assert_eq!(written(Format::Json, false, &[]).0, "[]\n");
    }

    #[test]
    fn rows_of_several_nodes_tell_their_node_and_keep_the_columns() {
        let frames = [
            ("home.a", frame(&["a", "b"], &[1], &[&[1.0], &[2.0]])),
            ("home.b", frame(&["b", "c"], &[2], &[&[3.0], &[4.0]])),
        ];
        let (text, left_out) = written(Format::Csv, true, &frames);
        assert_eq!(text, "node,ts,a,b\nhome.a,1,1,2\nhome.b,2,,3\n");
        assert_eq!(left_out, ["c"]);
        let (text, left_out) = written(Format::Json, true, &frames);
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            read[1],
            json!({"node": "home.b", "ts": 2, "b": 3.0, "c": 4.0})
        );
        assert!(left_out.is_empty());
    }
}
