//! Reads the rows of a sample from its bytes in one go: what the [guard](crate::guard) refuses, what a
//! sample's own checks refuse and what the values are is found on the same way.
//!
//! It takes what publishers send. Whatever else may stand in a payload, mistakes and what is merely rare
//! (tags, `null`, many keys that nobody knows), makes it give up, and [`Sample::decode`](super::Sample::decode)
//! decides: which error it is, or that it is none.

use super::rows::{Row, Rows};
use super::shape::{Form, SECTIONS, Shape};
use super::{Head, MAX_POINTS, VERSION, repeated};
use crate::cbor::half;
use crate::guard::{MAX_KEY_BYTES, MAX_KEYS, MAX_TEXT_BYTES, Scan};
use crate::ids::is_name;
use crate::number::{Point, Value};

/// The keys of a sample: its head's, then those of [`SECTIONS`].
const KEYS: [&str; HEAD.len() + SECTIONS.len()] = {
    let mut keys = [""; HEAD.len() + SECTIONS.len()];
    let mut place = 0;
    while place < keys.len() {
        keys[place] = match place.checked_sub(HEAD.len()) {
            None => HEAD[place],
            Some(section) => SECTIONS[section].key,
        };
        place += 1;
    }
    keys
};
const HEAD: [&str; 6] = ["v", "ts", "boot", "seq", "first", "interval_ms"];

/// How many keys that nobody knows are remembered of one map.
const STRANGE: usize = 4;

/// Reads the rows of the sample `bytes` into `rows`, which are empty. `None`: it gave up, and what stands in
/// `rows` is of no use.
pub(super) fn walk(bytes: &[u8], rows: &mut Rows) -> Option<()> {
    let scan = Scan::new(bytes).ok()?;
    let mut walk = Walk {
        scan,
        rows,
        points: 0,
    };
    walk.sample()?;
    walk.scan.end().ok()
}

struct Walk<'b, 'r> {
    scan: Scan<'b>,
    rows: &'r mut Rows,
    /// How many values the sections have, and instances without any.
    points: usize,
}

/// A number as it lies there.
#[derive(Clone, Copy)]
enum Number {
    Unsigned(u64),
    Negative(i64),
    Float(f64),
}

impl<'b> Walk<'b, '_> {
    fn sample(&mut self) -> Option<()> {
        let mut head = Numbers::default();
        let mut version = None;
        let mut keys = Keys::new(&KEYS);
        let mut sorted = true;
        for _ in 0..self.map()? {
            let key = self.key()?;
            let slot = match keys.find(key)? {
                Found::Strange => {
                    self.scan.item(1).ok()?;
                    continue;
                }
                Found::At(0) => &mut version,
                Found::At(1) => &mut head.ts,
                Found::At(2) => &mut head.boot,
                Found::At(3) => &mut head.seq,
                Found::At(4) => &mut head.first,
                Found::At(5) => &mut head.interval_ms,
                Found::At(place) => {
                    let number = u8::try_from(place - HEAD.len()).ok()?;
                    sorted &= self.rows.rows.last().is_none_or(|row| row.section < number);
                    self.section(number)?;
                    continue;
                }
            };
            match self.number()? {
                Number::Unsigned(value) => *slot = Some(value),
                Number::Negative(_) | Number::Float(_) => return None,
            }
        }
        if version.is_some_and(|version| version > VERSION.into()) {
            return None;
        }
        self.rows.head = head.checked()?;
        if !sorted {
            self.rows.rows.sort_by_key(|row| row.section);
        }
        Some(())
    }

    /// Reads the section that has this place in [`SECTIONS`].
    fn section(&mut self, number: u8) -> Option<()> {
        let section = &SECTIONS[usize::from(number)];
        if section.form == Form::Once {
            return self.row(number, &section.shape, 1);
        }
        let first = self.rows.rows.len();
        for _ in 0..self.open(4)? {
            self.row(number, &section.shape, 2)?;
        }
        let names = self.rows.rows[first..].iter();
        match repeated(names.map(|row| self.rows.name(row))) {
            Some(_) => None,
            None => Some(()),
        }
    }

    /// Reads one map of a section, which stands `depth` containers deep.
    fn row(&mut self, section: u8, shape: &'static Shape, depth: usize) -> Option<()> {
        let entries = self.map()?;
        let (name, values) = (self.rows.names.len(), self.rows.values.len());
        let least = self.points + usize::from(shape.labels > 0);
        self.rows.values.resize(values + shape.fields.len(), None);
        let mut keys = Keys::new(shape.keys);
        for _ in 0..entries {
            let key = self.key()?;
            let place = match keys.find(key)? {
                Found::At(place) => place,
                Found::Strange => {
                    self.scan.item(depth + 1).ok()?;
                    continue;
                }
            };
            if place < shape.labels {
                let label = self.name()?;
                if place == 0 {
                    self.rows.names.push_str(label);
                }
            } else if let Some(is_whole) = shape.whole.get(place - shape.labels) {
                let value = value(self.number()?, *is_whole)?;
                self.rows.values[values + place - shape.labels] = Some(value);
                self.points += 1;
            } else {
                self.list()?;
            }
        }
        // An instance without any counts as one.
        self.points = self.points.max(least);
        if self.points > MAX_POINTS {
            return None;
        }
        let name_bytes = self.rows.names.len() - name;
        // A name has at least a letter.
        if shape.labels > 0 && name_bytes == 0 {
            return None;
        }
        self.rows.rows.push(Row {
            section,
            name,
            name_bytes,
            values,
        });
        Some(())
    }

    /// Reads the list of numbers that one section has.
    fn list(&mut self) -> Option<()> {
        for _ in 0..self.open(4)? {
            let Value::Float(number) = value(self.number()?, false)? else {
                return None;
            };
            self.rows.list.push(number);
            self.points += 1;
        }
        Some(())
    }

    /// Opens a map. Gives how many entries it has.
    fn map(&mut self) -> Option<u64> {
        let entries = self.open(5)?;
        (entries <= MAX_KEYS as u64).then_some(entries)
    }

    /// Opens an array or a map by its major type. Gives its length.
    #[inline]
    fn open(&mut self, major: u8) -> Option<u64> {
        let byte = self.scan.byte().ok()?;
        if byte >> 5 != major {
            return None;
        }
        self.scan.argument(byte).ok()
    }

    #[inline]
    fn key(&mut self) -> Option<&'b [u8]> {
        let byte = self.scan.byte().ok()?;
        if byte >> 5 != 3 {
            return None;
        }
        self.scan.bytes(byte, MAX_KEY_BYTES).ok()
    }

    fn name(&mut self) -> Option<&'b str> {
        let byte = self.scan.byte().ok()?;
        if byte >> 5 != 3 {
            return None;
        }
        let bytes = self.scan.bytes(byte, MAX_TEXT_BYTES).ok()?;
        let text = std::str::from_utf8(bytes).ok()?;
        is_name(text).then_some(text)
    }

    #[inline]
    fn number(&mut self) -> Option<Number> {
        let byte = self.scan.byte().ok()?;
        self.scan.number().ok()?;
        Some(match byte {
            0xf9 => {
                let bits = u16::from_be_bytes(self.scan.take().ok()?);
                Number::Float(half(bits.into()))
            }
            0xfa => Number::Float(f32::from_be_bytes(self.scan.take().ok()?).into()),
            0xfb => Number::Float(f64::from_be_bytes(self.scan.take().ok()?)),
            ..0x20 => Number::Unsigned(self.scan.argument(byte).ok()?),
            0x20..0x40 => {
                let argument = i64::try_from(self.scan.argument(byte).ok()?).ok()?;
                Number::Negative(-1 - argument)
            }
            _ => return None,
        })
    }
}

/// What a field makes of a number; `None`: it takes no such number.
#[inline]
fn value(number: Number, is_whole: bool) -> Option<Value> {
    if is_whole {
        return point(number).map(Value::Integer);
    }
    point(number).map(Value::Float)
}

#[inline]
fn point<T: Point>(number: Number) -> Option<T> {
    match number {
        Number::Unsigned(value) => T::from_unsigned(value),
        #[expect(
            clippy::cast_precision_loss,
            reason = "a negative integer can only be a float"
        )]
        Number::Negative(value) => T::from_float(value as f64),
        Number::Float(value) => T::from_float(value),
    }
}

/// The numbers of a head as they came.
#[derive(Default)]
struct Numbers {
    ts: Option<u64>,
    boot: Option<u64>,
    seq: Option<u64>,
    first: Option<u64>,
    interval_ms: Option<u64>,
}

impl Numbers {
    fn checked(self) -> Option<Head> {
        let interval_ms = self.interval_ms.map(u32::try_from).transpose().ok()?;
        let place = super::place(self.boot, self.seq, self.first).ok()?;
        Some(Head {
            ts: self.ts,
            interval_ms,
            place,
        })
    }
}

/// What a key is.
enum Found {
    /// The known one of this place.
    At(usize),
    /// One that nobody knows, for the first time in this map.
    Strange,
}

/// The keys of one map on the way through it. Writers keep to the order of the contract, so the next key
/// is looked for where the last one stood.
struct Keys<'b> {
    known: &'static [&'static str],
    next: usize,
    /// A bit for each known one that was there.
    seen: u32,
    strange: [&'b [u8]; STRANGE],
    strangers: usize,
}

impl<'b> Keys<'b> {
    fn new(known: &'static [&'static str]) -> Self {
        Self {
            known,
            next: 0,
            seen: 0,
            strange: [&[]; STRANGE],
            strangers: 0,
        }
    }

    /// What `key` is; `None`: it stands twice, or nobody can tell.
    #[inline]
    fn find(&mut self, key: &'b [u8]) -> Option<Found> {
        let is = |known: &&str| known.as_bytes() == key;
        let (before, after) = self.known.split_at(self.next);
        let place = match after.iter().position(&is) {
            Some(ahead) => self.next + ahead,
            None => match before.iter().position(&is) {
                Some(place) => place,
                None => return self.stranger(key),
            },
        };
        let bit = 1_u32.checked_shl(u32::try_from(place).ok()?)?;
        if self.seen & bit != 0 {
            return None;
        }
        self.seen |= bit;
        self.next = place + 1;
        Some(Found::At(place))
    }

    #[cold]
    fn stranger(&mut self, key: &'b [u8]) -> Option<Found> {
        std::str::from_utf8(key).ok()?;
        if self.strange[..self.strangers].contains(&key) {
            return None;
        }
        *self.strange.get_mut(self.strangers)? = key;
        self.strangers += 1;
        Some(Found::Strange)
    }
}
