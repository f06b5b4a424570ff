//! What a writer remembers of each node's streams: which it has seen, which fields were ever known
//! there, when each is due for trimming.

use std::collections::HashMap;

use hostbus_wire::{Series, Value};

use crate::keys::NodeKeys;
use crate::mark::Mark;
use crate::minute::Minute;
use crate::names::{Learnt, Names};
use crate::resp::write_argument;

/// Every how many rows a stream is trimmed. Trimming with each row costs Redis twice the time.
const TRIM_EVERY: u8 = 60;

/// A stream is tended after so long, however few rows it has.
pub(crate) const TEND_EVERY_MS: u64 = 15 * 60_000;

/// How often room for a new series is looked for. In between it is refused without a look at all.
const LOOK_EVERY_MS: u64 = 60_000;

/// One node's streams.
#[derive(Debug)]
pub(crate) struct NodeStreams {
    pub(crate) keys: NodeKeys,
    /// The mark of what is written.
    pub(crate) mark: Option<Mark>,
    /// The mark as Redis has it. It follows.
    pub(crate) committed: Option<Mark>,
    /// The node stands among those whose marks are to be written.
    pub(crate) listed: bool,
    streams: Vec<Stream>,
    /// Where each series stands in `streams`.
    places: HashMap<Box<str>, usize>,
    /// Where the next series most likely stands: samples of one node come with the same series.
    cursor: usize,
    /// When room was last looked for.
    looked_ms: Option<u64>,
}

#[derive(Debug)]
struct Stream {
    name: Box<str>,
    /// The stream's key, as it stands in a command.
    raw: Box<[u8]>,
    fields: Fields,
    /// Of a series whose fields are instances.
    names: Option<Box<Names>>,
    minute: Minute,
    /// This process sent a row there.
    has_rows: bool,
    rows_to_trim: u8,
    tended_ms: u64,
    /// When the last row went there.
    used_ms: u64,
}

/// Where the next row of a series goes.
#[derive(Debug)]
pub(crate) struct Slot<'n> {
    /// The series' name.
    pub(crate) name: &'n str,
    /// The stream's key, as it stands in a command.
    pub(crate) raw: &'n [u8],
    /// The fields that the row has.
    pub(crate) fields: Fields,
    /// How many of them are known now.
    pub(crate) points: u32,
    /// The names of the fields, of a series whose fields are instances.
    pub(crate) names: Option<&'n Names>,
    /// The minute that the row belongs to.
    pub(crate) minute: &'n mut Minute,
    /// This row also sets the stream's expiry, and puts its name among the node's series. The first
    /// row of this process does, about every 60th, and the first after a quarter of an hour, so that all
    /// of it heals when the stream or the set is removed by somebody.
    pub(crate) tend: bool,
    /// This row also trims the stream. About every 60th does, never the first of a stream.
    pub(crate) trim: bool,
}

/// The fields of a series that were ever known, by their place in the contract. Only those have room
/// in a row: a field that a host does not have costs nothing. Beyond the 64th all have, and of instances
/// all do once one of them was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fields {
    known: u64,
}

impl Fields {
    /// Adds the fields that `series` knows now. Gives how many these are.
    pub(crate) fn learn(&mut self, series: &Series<'_>) -> u32 {
        let (mut place, mut known, mut beyond) = (0, 0, 0);
        series.for_each_field(|_, value| {
            if value.is_some() {
                known |= bit(place);
                beyond += u32::from(place >= 64);
            }
            place += 1;
        });
        let points = known.count_ones() + beyond;
        if series.has_instances() && points > 0 {
            known = u64::MAX;
        }
        self.known |= known;
        points
    }

    /// Tells whether the field at this place has room in a row.
    pub(crate) fn has(self, place: usize) -> bool {
        place >= 64 || self.known & bit(place) != 0
    }

    /// How many of the fields of `series` have room in its row.
    pub(crate) fn count(self, series: &Series<'_>) -> usize {
        let width = series.width();
        let within = if width < 64 { bit(width) - 1 } else { u64::MAX };
        (self.known & within).count_ones() as usize + width.saturating_sub(64)
    }

    /// Visits these fields of `series`.
    pub(crate) fn for_each(self, series: &Series<'_>, mut visit: impl FnMut(&str, Option<Value>)) {
        let mut place = 0;
        series.for_each_field(|name, value| {
            if self.has(place) {
                visit(name, value);
            }
            place += 1;
        });
    }
}

fn bit(place: usize) -> u64 {
    if place < 64 { 1 << place } else { 0 }
}

impl NodeStreams {
    pub(crate) fn new(keys: NodeKeys, mark: Option<Mark>) -> Self {
        Self {
            keys,
            mark,
            committed: mark,
            listed: false,
            streams: Vec::new(),
            places: HashMap::new(),
            cursor: 0,
            looked_ms: None,
        }
    }

    /// The slot of the next row of `series`; `None` when the node has as many series as it may, or the
    /// series as many instances. Those without a row since `cutoff_ms` are forgotten for new ones: theirs
    /// are gone by now.
    pub(crate) fn next(
        &mut self,
        series: &Series<'_>,
        most: usize,
        now_ms: u64,
        cutoff_ms: u64,
    ) -> Option<Slot<'_>> {
        let place = match self.find(series) {
            Some(place) => place,
            None => self.insert(&series.name(), most, now_ms, cutoff_ms)?,
        };
        self.cursor = place + 1;
        let stream = self.streams.get_mut(place)?;
        stream.used_ms = now_ms;
        if series.has_instances() {
            let names = stream.names.get_or_insert_default();
            let learnt = names.learn(series, now_ms, cutoff_ms);
            if learnt != Learnt::All {
                stream.minute.forget();
            }
            if learnt == Learnt::TooMany {
                return None;
            }
        }
        let points = stream.fields.learn(series);
        // Of what was never known there is no row.
        let first = !stream.has_rows && stream.fields != Fields::default();
        stream.has_rows |= first;
        let mut due = false;
        if !first && stream.has_rows {
            stream.rows_to_trim -= 1;
            due = stream.rows_to_trim == 0;
            if due {
                stream.rows_to_trim = TRIM_EVERY;
            }
        }
        let long_ago = now_ms.saturating_sub(stream.tended_ms) >= TEND_EVERY_MS;
        let tend = first || due || (stream.has_rows && long_ago);
        if tend {
            stream.tended_ms = now_ms;
        }
        Some(Slot {
            name: &stream.name,
            raw: &stream.raw,
            fields: stream.fields,
            names: stream.names.as_deref(),
            points,
            minute: &mut stream.minute,
            tend,
            trim: due,
        })
    }

    /// Notes that Redis refused a row of `series`.
    pub(crate) fn refused(&mut self, series: &str) {
        let place = self.places.get(series).copied();
        if let Some(stream) = place.and_then(|place| self.streams.get_mut(place)) {
            stream.minute.forget();
        }
    }

    fn find(&self, series: &Series<'_>) -> Option<usize> {
        for place in [self.cursor, 0] {
            if self
                .streams
                .get(place)
                .is_some_and(|stream| stream.is(series))
            {
                return Some(place);
            }
        }
        self.places.get(&*series.name()).copied()
    }

    fn insert(&mut self, name: &str, most: usize, now_ms: u64, cutoff_ms: u64) -> Option<usize> {
        if self.streams.len() >= most {
            self.make_room(now_ms, cutoff_ms);
        }
        if self.streams.len() >= most {
            return None;
        }
        let place = self.streams.len();
        // Spread over time, so that not all streams of a node are trimmed with one sample.
        let stagger = u8::try_from(place % usize::from(TRIM_EVERY)).unwrap_or(0);
        let mut raw = Vec::new();
        write_argument(&mut raw, self.keys.raw(name).as_bytes());
        self.streams.push(Stream {
            name: name.into(),
            raw: raw.into(),
            fields: Fields::default(),
            names: None,
            minute: Minute::default(),
            has_rows: false,
            rows_to_trim: TRIM_EVERY - stagger,
            tended_ms: now_ms,
            used_ms: now_ms,
        });
        self.places.insert(name.into(), place);
        Some(place)
    }

    fn make_room(&mut self, now_ms: u64, cutoff_ms: u64) {
        let lately = |at: u64| now_ms.saturating_sub(at) < LOOK_EVERY_MS;
        if self.looked_ms.is_some_and(lately) {
            return;
        }
        self.looked_ms = Some(now_ms);
        self.streams.retain(|stream| stream.used_ms >= cutoff_ms);
        self.places.clear();
        for (place, stream) in self.streams.iter().enumerate() {
            self.places.insert(stream.name.clone(), place);
        }
    }
}

impl Stream {
    fn is(&self, series: &Series<'_>) -> bool {
        match (self.name.strip_prefix(series.section()), series.instance()) {
            (Some(rest), None) => rest.is_empty(),
            (Some(rest), Some(instance)) => rest.strip_prefix(':') == Some(instance),
            (None, _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use hostbus_wire::Sample;
    use hostbus_wire::sample::{Cpu, Custom};

    use super::*;

    fn node() -> NodeStreams {
        NodeStreams::new(NodeKeys::new(&"home.a".parse().unwrap()), None)
    }

    /// Gives the slot of the next row of a custom series to `look`.
    fn next<T>(
        node: &mut NodeStreams,
        name: &str,
        (most, now_ms, cutoff_ms): (usize, u64, u64),
        look: impl Fn(Slot<'_>) -> T,
    ) -> Option<T> {
        let mut custom = Custom::new(name.parse().unwrap());
        custom.value = Some(1.0);
        let sample = Sample {
            custom: vec![custom],
            ..Sample::default()
        };
        let mut seen = None;
        sample.for_each_series(|series| {
            seen = node.next(&series, most, now_ms, cutoff_ms).map(&look);
        });
        seen
    }

    #[test]
    fn the_first_row_and_every_60th_tend_the_stream() {
        let mut node = node();
        assert_eq!(
            next(&mut node, "first", (10, 0, 0), |slot| slot.trim),
            Some(false)
        );
        let tended: Vec<usize> = (0..181)
            .filter(|_| next(&mut node, "second", (10, 0, 0), |slot| slot.tend).unwrap())
            .collect();
        assert_eq!(tended, [0, 59, 119, 179]);
    }

    #[test]
    fn a_stream_of_few_rows_is_tended_by_time() {
        let mut node = node();
        let minutes = [0, 14, 15, 16, 29, 30, 90, 100];
        let tended = minutes.map(|minute| {
            let now_ms = minute * 60_000;
            next(&mut node, "a", (10, now_ms, 0), |slot| {
                (slot.tend, slot.trim)
            })
            .unwrap()
        });
        let tended = tended.map(|(tend, trim)| {
            assert!(!trim);
            tend
        });
        assert_eq!(tended, [true, false, true, false, false, true, true, false]);
    }

    #[test]
    fn a_series_is_found_wherever_it_stands() {
        let mut node = node();
        for name in ["a", "b", "c", "b", "a", "c", "c", "b"] {
            let raw = next(&mut node, name, (3, 0, 0), |slot| slot.raw.to_vec());
            let key = format!("hb:{{home.a}}:raw:custom:{name}");
            assert_eq!(
                raw,
                Some(format!("${}\r\n{key}\r\n", key.len()).into_bytes())
            );
        }
        assert_eq!(node.streams.len(), 3);
    }

    #[test]
    fn a_node_has_no_more_series_than_it_may() {
        let mut node = node();
        for name in ["a", "b"] {
            assert!(next(&mut node, name, (2, 0, 0), |_| ()).is_some());
        }
        assert!(next(&mut node, "c", (2, 0, 0), |_| ()).is_none());
        assert!(next(&mut node, "a", (2, 0, 0), |_| ()).is_some());
    }

    #[test]
    fn a_new_series_takes_the_place_of_one_whose_rows_are_gone() {
        let mut node = node();
        let mut check = |name, now_ms: u64, cutoff_ms, taken| {
            let slot = next(&mut node, name, (2, now_ms, cutoff_ms), |_| ());
            assert_eq!(slot.is_some(), taken, "{name} at {now_ms}");
        };
        check("idle", 1_000, 0, true);
        check("used", 1_000, 0, true);
        check("new", 2_000, 0, false);
        check("used", 90_000, 0, true);
        // Looked for a moment ago.
        check("new", 61_999, 50_000, false);
        check("new", 100_000, 50_000, true);
        check("used", 100_000, 50_000, true);
        check("idle", 200_000, 100_000, false);
        check("idle", 300_000, 100_001, true);
    }

    #[test]
    fn a_row_has_the_fields_that_were_ever_known_in_their_order() {
        let mut node = node();
        let mut row = |user: Option<f64>, load: Option<f64>, cores: usize| {
            let mut cpu = Cpu::new();
            (cpu.user_percent, cpu.load1) = (user, load);
            cpu.cores = vec![1.0; cores];
            let sample = Sample {
                cpu: Some(cpu),
                ..Sample::default()
            };
            let (mut names, mut counts) = (Vec::new(), Vec::new());
            sample.for_each_series(|series| {
                let fields = node.next(&series, 9, 0, 0).unwrap().fields;
                let mut seen = 0;
                fields.for_each(&series, |name, _| {
                    seen += 1;
                    if series.section() == "cpu" {
                        names.push(name.to_owned());
                    }
                });
                assert_eq!(fields.count(&series), seen);
                counts.push(seen);
            });
            (names.join(" "), counts)
        };
        let text = |text: &str, counts: &[usize]| (text.to_owned(), counts.to_vec());
        assert_eq!(row(None, Some(1.0), 0), text("load1", &[1]));
        assert_eq!(row(Some(1.0), None, 2), text("user_percent load1", &[2, 2]));
        assert_eq!(row(None, None, 70), text("user_percent load1", &[2, 70]));
        assert_eq!(row(None, None, 3), text("user_percent load1", &[2, 3]));
        assert_eq!(row(None, None, 64), text("user_percent load1", &[2, 64]));
    }
}
