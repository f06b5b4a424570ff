//! Packed blocks: what goes in comes out, in few bytes, and hostile bytes do no harm.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use super::*;
use crate::frame::known;

fn named(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("field_{number}")).collect()
}

fn row(at_ms: u64, values: &[f64]) -> Row {
    Row {
        at_ms,
        values: values.iter().map(|value| known(*value)).collect(),
    }
}

#[track_caller]
fn comes_back(fields: &[String], rows: &[Row]) -> usize {
    let bytes = encode(fields, rows);
    let expected = Block {
        fields: fields.to_vec(),
        rows: rows.to_vec(),
    };
    assert_eq!(decode(&bytes, None), Ok(expected));
    bytes.len()
}

/// What a small server measures: noise, slow amounts in pages of memory, things that never change.
fn measured(rows: u32) -> Vec<Row> {
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 16) / 65_536.0
    };
    let mut used = 2_000_000.0;
    (0..rows)
        .map(|number| {
            used += (noise() * 100.0).round() - 50.0;
            let load = (noise() * 100.0).round() / 100.0;
            let at_ms = 1_763_629_200_000 + 10_000 * u64::from(number);
            row(at_ms, &[12.0 + load, used * 4096.0, 17_179_869_184.0, 0.0])
        })
        .collect()
}

#[test]
fn what_is_measured_takes_little_room() {
    let bytes = comes_back(&named(4), &measured(360));
    assert!(bytes < 360 * 4, "{bytes} bytes for 1440 points");
    // Half of the columns never change: they take no room at all.
    let fields = named(2);
    let still: Vec<Row> = (0..360).map(|at| row(at * 10_000, &[0.0, 5e9])).collect();
    let bytes = comes_back(&fields, &still);
    assert!(bytes < 130, "{bytes} bytes for two still columns");
}

#[test]
fn any_shape_of_rows_comes_back() {
    let fields = named(2);
    comes_back(&[], &[]);
    comes_back(&fields, &[]);
    comes_back(&[], &[row(5, &[]), row(5, &[])]);
    comes_back(&fields, &[row(u64::MAX, &[f64::NAN, f64::NAN])]);
    comes_back(
        &fields,
        &[row(7, &[1.0, f64::NAN]), row(7, &[f64::NAN, 2.5])],
    );
    let many: Vec<Row> = (0..300_000_u32)
        .map(|at| row(at.into(), &[f64::from(at % 7), 0.1]))
        .collect();
    comes_back(&fields, &many);
}

#[test]
fn a_value_is_the_very_same_float() {
    let fields = named(1);
    for values in [
        &[0.1, 0.2, 0.1 + 0.2][..],
        &[9_007_199_254_740_992.0, 1.0],
        &[1e300, -1e-300, 0.5],
        &[12.51, 99.99, 0.01],
        &[-4096.0, 8192.0, 12288.0],
        &[f64::MAX, f64::MIN, f64::MIN_POSITIVE],
        &[0.000_001, 0.000_002, 1e9],
    ] {
        let rows: Vec<Row> = values.iter().map(|value| row(1, &[*value])).collect();
        comes_back(&fields, &rows);
    }
}

#[test]
fn what_no_redis_row_holds_is_unknown() {
    let fields = named(2);
    let odd = Row {
        at_ms: 1,
        values: vec![Some(f64::INFINITY)],
    };
    let block = decode(&encode(&fields, &[odd]), None).unwrap();
    assert_eq!(block.rows, [row(1, &[f64::NAN, f64::NAN])]);
}

#[test]
fn only_the_wanted_columns_are_unpacked() {
    let fields = named(4);
    let rows = measured(360);
    let mut bytes = encode(&fields, &rows);
    let block = decode(&bytes, Some(&["field_2", "field_0", "other"])).unwrap();
    assert_eq!(block.fields, ["field_0", "field_2"]);
    for (row, whole) in block.rows.iter().zip(&rows) {
        assert_eq!(row.values, [whole.values[0], whole.values[2]]);
    }
    assert_eq!(decode(&bytes, Some(&[])).unwrap().rows.len(), 360);
    assert_eq!(names(&bytes), Ok(fields.clone()));
    // A column that is broken harms those alone who want it.
    *bytes.last_mut().unwrap() = 0xff;
    let last = bytes.len() - 9;
    bytes[last] = 77;
    assert!(decode(&bytes, Some(&["field_0"])).is_ok());
    assert_eq!(
        decode(&bytes, Some(&["field_3"])),
        Err(BlockError::Column {
            column: "field_3".to_owned()
        })
    );
}

#[test]
fn what_is_no_block_is_refused_by_name() {
    let fields = named(2);
    let good = encode(&fields, &[row(1, &[1.0, 2.0]), row(2, &[1.5, 2.0])]);
    let check = |change: &dyn Fn(&mut Vec<u8>), expected: BlockError| {
        let mut bytes = good.clone();
        change(&mut bytes);
        assert_eq!(decode(&bytes, None), Err(expected));
    };
    check(&|bytes| bytes[0] = 2, BlockError::Version(2));
    check(&|bytes| bytes.truncate(20), BlockError::Length);
    check(&|bytes| bytes.clear(), BlockError::Length);
    check(&|bytes| bytes.push(0), BlockError::Length);
    let huge = BlockError::TooLarge {
        rows: 0xffff_ffff,
        fields: 2,
    };
    check(&|bytes| bytes[1..5].fill(0xff), huge);
    let times = BlockError::Column {
        column: "the times".to_owned(),
    };
    check(&|bytes| bytes[1] = 3, times);
    let twice = ["a".to_owned(), "a".to_owned()];
    assert_eq!(decode(&encode(&twice, &[]), None), Err(BlockError::Name));
    let back = encode(&fields, &[row(2, &[1.0, 2.0]), row(1, &[1.5, 2.0])]);
    assert_eq!(decode(&back, None), Err(BlockError::Times));
}

#[test]
fn a_few_bytes_never_become_much_memory() {
    // Rows enough for the limit, columns of one value each.
    let rows = vec![row(1, &[]); 9_000];
    let bytes = encode(&named(1_000), &rows);
    assert!(bytes.len() < 40_000);
    assert!(!fits(1_000, 9_000));
    assert!(matches!(
        decode(&bytes, None),
        Err(BlockError::TooLarge { .. })
    ));
    assert!(decode(&bytes, Some(&["field_7"])).is_ok());
}

fn value() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        2 => Just(None),
        4 => (0_u32..10_000).prop_map(|hundredths| Some(f64::from(hundredths) / 100.0)),
        4 => (0_u64..1 << 40).prop_map(|pages| Some((pages * 4096) as f64)),
        1 => any::<f64>().prop_map(|value| value.is_finite().then_some(value)),
    ]
}

fn rows() -> impl Strategy<Value = (Vec<String>, Vec<Row>)> {
    (0_usize..6).prop_flat_map(|fields| {
        let row = (0_u64..30_000, vec(value(), fields));
        (vec(row, 0..400), any::<u32>()).prop_map(move |(gaps, start)| {
            let mut at_ms = u64::from(start) << 10;
            let rows = gaps.into_iter().map(|(gap, values)| {
                at_ms += gap;
                Row { at_ms, values }
            });
            (named(fields), rows.collect())
        })
    })
}

proptest! {
    #[test]
    fn any_rows_come_back((fields, rows) in rows()) {
        comes_back(&fields, &rows);
    }

    #[test]
    fn any_part_is_that_part_of_the_whole(
        (fields, rows) in rows(),
        part in subsequence(named(6), 0..=6),
    ) {
        let bytes = encode(&fields, &rows);
        let wanted: Vec<&str> = part.iter().map(String::as_str).collect();
        let block = decode(&bytes, Some(&wanted)).unwrap();
        let columns: Vec<usize> = (0..fields.len())
            .filter(|column| part.contains(&fields[*column]))
            .collect();
        prop_assert_eq!(block.rows.len(), rows.len());
        for (got, whole) in block.rows.iter().zip(&rows) {
            let expected: Vec<_> = columns.iter().map(|column| whole.values[*column]).collect();
            prop_assert_eq!(&got.values, &expected);
        }
    }

    #[test]
    fn changed_bytes_are_a_block_or_none(
        (fields, rows) in rows(),
        changes in vec((any::<Index>(), any::<u8>()), 1..8),
        end in any::<Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = encode(&fields, &rows);
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        if let Ok(block) = decode(&bytes, None) {
            prop_assert!(block.rows.is_sorted_by_key(|row| row.at_ms));
            prop_assert!(block.rows.iter().all(|row| row.values.len() == block.fields.len()));
            comes_back(&block.fields, &block.rows);
        }
    }

    #[test]
    fn any_bytes_are_a_block_or_none(mut bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes, None);
        if let Some(version) = bytes.first_mut() {
            *version = VERSION;
        }
        let _ = decode(&bytes, None);
    }
}
