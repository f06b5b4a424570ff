//! One column of a block: which form its values take, and back.

use pco::data_types::Number;
use pco::standalone::{DecompressorItem, FileDecompressor, simple_compress};
use pco::{ChunkConfig, DeltaSpec, ModeSpec};

use super::cursor::Cursor;

/// All rows have one value.
const ONE_VALUE: u8 = 0;
/// The values are decimal numbers, kept as integers.
const INTEGERS: u8 = 1;
/// The values are any floats.
const FLOATS: u8 = 2;
/// Some values are unknown; which, stands before them.
const SOME_UNKNOWN: u8 = 128;

/// The contract's numbers have two or three places.
const MAX_DECIMALS: u8 = 6;
/// Up to here every integer is a float.
const EXACT: u64 = 1 << 53;
/// More costs time and saves less than a hundredth.
const LEVEL: usize = 4;

pub(super) fn pack_times(times_ms: &[u64]) -> Vec<u8> {
    compress(times_ms, true)
}

pub(super) fn unpack_times(bytes: &[u8], rows: usize) -> Option<Vec<u64>> {
    decompress(bytes, rows)
}

/// Packs a column; NaN is unknown. The values of unknown rows are overwritten with their neighbours'.
pub(super) fn pack(values: &mut [f64]) -> Vec<u8> {
    let Some(first) = values.iter().copied().find(|value| !value.is_nan()) else {
        return one_value(f64::NAN, None);
    };
    let unknown = fill(values, first);
    if values.iter().all(|value| *value == first) {
        // No negative zero: nobody measured its sign.
        return one_value(first + 0.0, unknown.as_deref());
    }
    let mut out = Vec::new();
    match integers(values) {
        Some((decimals, step, integers)) => {
            head(&mut out, INTEGERS, unknown.as_deref());
            out.push(decimals);
            out.extend(step.to_le_bytes());
            out.extend(compress(&integers, deltas_are_smaller(&integers)));
        }
        None => {
            head(&mut out, FLOATS, unknown.as_deref());
            out.extend(compress(values, false));
        }
    }
    out
}

fn one_value(value: f64, unknown: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    head(&mut out, ONE_VALUE, unknown);
    out.extend(value.to_le_bytes());
    out
}

fn head(out: &mut Vec<u8>, form: u8, unknown: Option<&[u8]>) {
    match unknown {
        None => out.push(form),
        Some(bits) => {
            out.push(form | SOME_UNKNOWN);
            out.extend_from_slice(bits);
        }
    }
}

/// Gives each unknown row the value before it, or `first`, which packs to next to nothing. Returns
/// a bit for each row that was unknown; `None` when there is none.
fn fill(values: &mut [f64], first: f64) -> Option<Vec<u8>> {
    let mut unknown: Option<Vec<u8>> = None;
    let (mut before, bytes) = (first, values.len().div_ceil(8));
    for (row, value) in values.iter_mut().enumerate() {
        if value.is_nan() {
            unknown.get_or_insert_with(|| vec![0; bytes])[row / 8] |= 1 << (row % 8);
            *value = before;
        }
        before = *value;
    }
    unknown
}

/// Decimals, step and integers, so that `integer * step / 10^decimals` is each value exactly. `None`
/// when some value is no short decimal number.
fn integers(values: &[f64]) -> Option<(u8, u64, Vec<i64>)> {
    let (decimals, mut integers) = (0..=MAX_DECIMALS).find_map(|decimals| {
        let scale = scale(decimals);
        let integers: Option<Vec<i64>> = values
            .iter()
            .map(|value| {
                let scaled = (value * scale).round();
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_precision_loss,
                    reason = "within 2^53"
                )]
                (scaled.abs() <= EXACT as f64 && scaled / scale == *value).then_some(scaled as i64)
            })
            .collect();
        Some((decimals, integers?))
    })?;
    let step = integers.iter().fold(0, |step, integer| {
        if step == 1 {
            1
        } else {
            common_divisor(integer.unsigned_abs(), step)
        }
    });
    if let Ok(divisor @ 2..) = i64::try_from(step) {
        integers.iter_mut().for_each(|integer| *integer /= divisor);
    }
    Some((decimals, step.max(1), integers))
}

fn scale(decimals: u8) -> f64 {
    10_f64.powi(decimals.into())
}

fn common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Tells whether neighbours are closer to each other than to the value in the middle, in bits.
fn deltas_are_smaller(integers: &[i64]) -> bool {
    let bits = |a: i64, b: i64| u64::from(u64::BITS - a.abs_diff(b).leading_zeros());
    let mut sorted = integers.to_vec();
    let (_, middle, _) = sorted.select_nth_unstable(integers.len() / 2);
    let middle = *middle;
    let plain: u64 = integers.iter().map(|integer| bits(*integer, middle)).sum();
    let deltas: u64 = integers.windows(2).map(|pair| bits(pair[0], pair[1])).sum();
    deltas < plain
}

fn compress<T: Number>(numbers: &[T], deltas: bool) -> Vec<u8> {
    if numbers.is_empty() {
        return Vec::new();
    }
    let config = ChunkConfig::default()
        .with_compression_level(LEVEL)
        .with_mode_spec(ModeSpec::Classic)
        .with_delta_spec(if deltas {
            DeltaSpec::TryConsecutive(1)
        } else {
            DeltaSpec::NoOp
        });
    simple_compress(numbers, &config).expect("a fixed configuration is valid, and memory takes all")
}

/// Unpacks a column of `rows` values; NaN is unknown. `None`: it is none.
pub(super) fn unpack(bytes: &[u8], rows: usize) -> Option<Vec<f64>> {
    let mut cursor = Cursor(bytes);
    let form = cursor.u8().ok()?;
    let unknown = if form & SOME_UNKNOWN == 0 {
        None
    } else {
        Some(cursor.part(rows.div_ceil(8)).ok()?)
    };
    let mut values = match form & !SOME_UNKNOWN {
        ONE_VALUE => {
            let value = f64::from_le_bytes(cursor.array().ok()?);
            if !cursor.0.is_empty() {
                return None;
            }
            vec![value; rows]
        }
        INTEGERS => {
            let decimals = cursor.u8().ok().filter(|places| *places <= MAX_DECIMALS)?;
            let step = u64::from_le_bytes(cursor.array().ok()?);
            if step == 0 || step > EXACT {
                return None;
            }
            let integers: Vec<i64> = decompress(cursor.0, rows)?;
            #[expect(clippy::cast_precision_loss, reason = "within 2^53 what is written")]
            let (step, scale) = (step as f64, scale(decimals));
            #[expect(clippy::cast_precision_loss, reason = "within 2^53 what is written")]
            let values = integers
                .iter()
                .map(|integer| *integer as f64 * step / scale);
            values.collect()
        }
        FLOATS => decompress(cursor.0, rows)?,
        _ => return None,
    };
    // Neither is anything that hostbus writes.
    for value in &mut values {
        if value.is_infinite() {
            *value = f64::NAN;
        }
    }
    if let Some(unknown) = unknown {
        for (row, value) in values.iter_mut().enumerate() {
            if unknown[row / 8] & 1 << (row % 8) != 0 {
                *value = f64::NAN;
            }
        }
    }
    Some(values)
}

/// Unpacks exactly `rows` numbers. The modes that pco needs tables for, of a size which the bytes
/// only promise, are not taken.
fn decompress<T: Number>(bytes: &[u8], rows: usize) -> Option<Vec<T>> {
    if rows == 0 {
        return bytes.is_empty().then(Vec::new);
    }
    let (file, mut rest) = FileDecompressor::new(bytes).ok()?;
    let mut numbers = vec![T::default(); rows];
    let mut left = &mut numbers[..];
    while !left.is_empty() {
        // The head of a chunk: type, count - 1 in 24 bits, mode and deltas in 4 bits each.
        let [_, low, middle, high, kinds, ..] = rest else {
            return None;
        };
        let count = u32::from_le_bytes([*low, *middle, *high, 0]) + 1;
        let count = usize::try_from(count).ok()?;
        if count > left.len() || kinds & 0x0f != 0 || kinds >> 4 > 1 {
            return None;
        }
        let DecompressorItem::Chunk(mut chunk) = file.chunk_decompressor::<T, _>(rest).ok()? else {
            return None;
        };
        let (part, others) = left.split_at_mut(count);
        chunk.read(part).ok().filter(|progress| progress.finished)?;
        left = others;
        rest = chunk.into_src();
    }
    // The byte that ends a file.
    (rest == [0]).then_some(numbers)
}
