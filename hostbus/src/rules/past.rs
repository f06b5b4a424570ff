//! A node's history as the samples that it came from: rows of its series, put together by their time.
//!
//! ```text
//! cpu, filesystem:/                     a section, or one instance of it
//! cores, sensors, fans, voltages        an instance a field
//! ```
//! An instance among fields is written as in a URL where a row could not say it otherwise.

use std::collections::BTreeSet;

use hostbus_notifier::rule::metric::plural;
use hostbus_notifier::rule::{Rule, Source, Watch};
use hostbus_store::{Frame, Reader, Scan, StoreError, Tier};
use hostbus_wire::sample::CORES;
use hostbus_wire::{NodePath, Sample};
use serde_json::{Map, Value, json};

/// Series of which each sample has a row. A node without any of them is heard by all that it has.
const HEARTBEATS: [&str; 2] = ["cpu", "memory"];

/// Series whose fields are instances, with the one field that each of these has in a sample.
const TOGETHER: [(&str, &str); 3] = [
    ("sensors", "celsius"),
    ("fans", "rpm"),
    ("voltages", "volts"),
];

/// What of a node is read, and from when until when.
pub(super) struct Wanted<'w> {
    pub(super) node: &'w NodePath,
    pub(super) rules: &'w [&'w Rule],
    pub(super) tier: Tier,
    pub(super) from_ms: u64,
    pub(super) until_ms: u64,
}

/// The samples of a range, in the order of time.
pub(super) struct Past {
    tracks: Vec<Track>,
    /// Rows and blocks that can't be read.
    pub(super) malformed: u64,
}

/// One series on its way.
struct Track {
    series: Name,
    scan: Scan,
    page: Frame,
    row: usize,
    ended: bool,
}

/// The name of a series in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    section: String,
    instance: Option<String>,
}

impl Past {
    /// The series that the rules watch, and those that tell when the node was heard.
    pub(super) async fn open(reader: &Reader, wanted: &Wanted<'_>) -> Result<Self, StoreError> {
        let sources: Vec<Source> = wanted
            .rules
            .iter()
            .flat_map(|rule| match rule.watch {
                Watch::Field(source) => vec![source],
                Watch::Ratio { part, whole } => vec![part, whole],
                Watch::Down | Watch::ClockOffset => Vec::new(),
            })
            .collect();
        let mut rules = wanted.rules.iter();
        let waits = rules.any(|rule| matches!(rule.watch, Watch::Down));
        let all = reader.series(wanted.node).await?;
        let has_heartbeat = all
            .iter()
            .any(|series| HEARTBEATS.contains(&series.as_str()));
        let mut tracks = Vec::new();
        for series in all {
            let name = Name::of(&series);
            let heard = waits && (!has_heartbeat || HEARTBEATS.contains(&series.as_str()));
            let own = sources
                .iter()
                .filter(|source| plural(source.section) == plural(&name.section));
            let fields: BTreeSet<&str> = own.map(|source| source.field.name).collect();
            if fields.is_empty() && !heard {
                continue;
            }
            let fields: Vec<&str> = fields.into_iter().collect();
            let some = !fields.is_empty() && !name.has_instances();
            let fields = some.then_some(fields.as_slice());
            let (from_ms, until_ms) = (wanted.from_ms, wanted.until_ms);
            tracks.push(Track {
                scan: reader.scan_tier(
                    wanted.node,
                    &series,
                    wanted.tier,
                    fields,
                    from_ms,
                    until_ms,
                ),
                series: name,
                page: Frame::default(),
                row: 0,
                ended: false,
            });
        }
        Ok(Self {
            tracks,
            malformed: 0,
        })
    }

    /// The next sample with its time; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<(u64, Sample)>, StoreError> {
        let mut at_ms = None;
        for track in &mut self.tracks {
            self.malformed += track.fill().await?;
            at_ms = at_ms.into_iter().chain(track.time_ms()).min();
        }
        let Some(at_ms) = at_ms else {
            return Ok(None);
        };
        let mut sample = Map::from_iter([("ts".to_owned(), json!(at_ms))]);
        for track in &mut self.tracks {
            // Of two rows with one time the later one is what was meant.
            while track.time_ms() == Some(at_ms) {
                let last = track.page.times_ms.get(track.row + 1) != Some(&at_ms);
                if last {
                    let names = track.page.fields.iter().map(String::as_str);
                    add(
                        &mut sample,
                        &track.series,
                        names.zip(track.page.row(track.row)),
                    );
                }
                track.row += 1;
            }
        }
        // Rows of somebody else's that make no sample are as unreadable as others.
        match serde_json::from_value(Value::Object(sample)) {
            Ok(sample) => Ok(Some((at_ms, sample))),
            Err(_) => {
                self.malformed += 1;
                let ts = Some(at_ms);
                Ok(Some((
                    at_ms,
                    Sample {
                        ts,
                        ..Sample::default()
                    },
                )))
            }
        }
    }
}

impl Track {
    /// Reads on until there is a row, or no more. Returns how many rows could not be read.
    async fn fill(&mut self) -> Result<u64, StoreError> {
        let mut malformed = 0;
        while self.row >= self.page.len() && !self.ended {
            match self.scan.next_frame().await? {
                Some(page) => {
                    malformed += page.malformed + page.broken_blocks;
                    (self.page, self.row) = (page.frame, 0);
                }
                None => self.ended = true,
            }
        }
        Ok(malformed)
    }

    fn time_ms(&self) -> Option<u64> {
        self.page.times_ms.get(self.row).copied()
    }
}

impl Name {
    fn of(series: &str) -> Self {
        match series.split_once(':') {
            Some((section, instance)) => Self {
                section: section.to_owned(),
                instance: Some(instance.to_owned()),
            },
            None => Self {
                section: series.to_owned(),
                instance: None,
            },
        }
    }

    fn has_instances(&self) -> bool {
        self.section == CORES || self.shared_field().is_some()
    }

    /// The field that each instance among the fields of this series has in a sample.
    fn shared_field(&self) -> Option<&'static str> {
        let found = TOGETHER.iter().find(|(series, _)| *series == self.section);
        let (_, field) = found.filter(|_| self.instance.is_none())?;
        Some(field)
    }
}

/// Adds a row to a sample.
fn add<'f>(
    sample: &mut Map<String, Value>,
    series: &Name,
    row: impl Iterator<Item = (&'f str, Option<f64>)>,
) {
    let known = row.filter_map(|(field, value)| Some((field, json!(value?))));
    let list_name = plural(&series.section);
    if series.section == CORES {
        let mut cores: Vec<(usize, Value)> = known
            .filter_map(|(core, value)| Some((core.parse().ok()?, value)))
            .collect();
        cores.sort_by_key(|(core, _)| *core);
        let cores: Vec<Value> = cores.into_iter().map(|(_, value)| value).collect();
        let cpu = sample.entry("cpu").or_insert_with(|| json!({}));
        cpu["cores"] = Value::Array(cores);
    } else if let Some(shared) = series.shared_field() {
        let items = known.map(|(field, value)| json!({"name": decoded(field), shared: value}));
        list(sample, list_name).extend(items);
    } else {
        let mut section: Map<String, Value> = known
            .map(|(field, value)| (field.to_owned(), value))
            .collect();
        match &series.instance {
            Some(instance) => {
                section.insert("name".to_owned(), json!(instance));
                list(sample, list_name).push(Value::Object(section));
            }
            None => {
                let whole = sample.entry(list_name).or_insert_with(|| json!({}));
                if let Value::Object(whole) = whole {
                    whole.append(&mut section);
                }
            }
        }
    }
}

fn list<'s>(sample: &'s mut Map<String, Value>, name: &str) -> &'s mut Vec<Value> {
    let list = sample.entry(name).or_insert_with(|| json!([]));
    if !list.is_array() {
        // A series without instance stood under the name of a list: it is nobody's of ours.
        *list = json!([]);
    }
    list.as_array_mut().expect("it was made one")
}

/// An instance's name, of the name of its field.
fn decoded(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let coded = (*first == b'%').then(|| after.get(..2)).flatten();
        let coded = coded.and_then(|digits| std::str::from_utf8(digits).ok());
        match coded.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rows: &[(&str, &[(&str, f64)])]) -> Sample {
        let mut sample = Map::new();
        for (series, row) in rows {
            let row = row.iter().map(|(field, value)| (*field, Some(*value)));
            add(&mut sample, &Name::of(series), row);
        }
        serde_json::from_value(Value::Object(sample)).unwrap()
    }

    #[test]
    fn rows_become_the_sections_that_they_came_from() {
        let sample = sample(&[
            ("cpu", &[("usage_percent", 12.5), ("load1", 1.0)]),
            ("cores", &[("0", 1.0), ("10", 3.0), ("2", 2.0)]),
            ("memory", &[("total_bytes", 1e9)]),
            ("filesystem:/", &[("used_percent", 80.0)]),
            ("filesystem:/a:b", &[("used_bytes", 5.0)]),
            ("power_supply:AC", &[("online", 1.0)]),
        ]);
        let cpu = sample.cpu.unwrap();
        assert_eq!((cpu.usage_percent, cpu.load1), (Some(12.5), Some(1.0)));
        assert_eq!(cpu.cores, [1.0, 2.0, 3.0]);
        assert_eq!(sample.memory.unwrap().total_bytes, Some(1_000_000_000));
        assert_eq!(sample.filesystems[0].used_percent, Some(80.0));
        assert_eq!(sample.filesystems[1].name.as_str(), "/a:b");
        assert_eq!(sample.filesystems[1].used_bytes, Some(5));
        assert_eq!(sample.power_supplies[0].online, Some(1));
    }

    #[test]
    fn sensors_may_be_series_of_their_own_or_fields_of_one() {
        let alone = sample(&[
            ("sensor:a b", &[("celsius", 40.0)]),
            ("fan:x", &[("rpm", 900.0)]),
        ]);
        let together = sample(&[("sensors", &[("a%20b", 40.0)]), ("fans", &[("x", 900.0)])]);
        assert_eq!(alone, together);
        assert_eq!(alone.sensors[0].name.as_str(), "a b");
        assert_eq!(alone.fans[0].rpm, Some(900));
    }

    #[test]
    fn a_field_reads_as_its_instance() {
        let check = |field: &str, name: &str| assert_eq!(decoded(field), name);
        check("coretemp/package-id-0", "coretemp/package-id-0");
        check("fan_mi%6E", "fan_min");
        check("a%2520b", "a%20b");
        check("100%", "100%");
        check("%zz", "%zz");
        check("%C3%A9t%C3%A9", "été");
    }
}
