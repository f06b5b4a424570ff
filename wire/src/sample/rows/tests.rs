//! The fast way of a sample against [`Sample::decode`], for what publishers send, for what anybody might,
//! and for what is damaged.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use super::*;
use crate::encode;
use crate::sample::sections::{
    Cpu, Custom, Disk, Fan, Filesystem, Gpu, Memory, Network, PowerSupply, Pressure, Sensor,
    Voltage,
};

/// All that a reader sees of a sample, to the last bit.
type Seen = (Head, Vec<String>);

fn series_seen(seen: &mut Vec<String>, series: &Series<'_>) {
    let places = 0..series.width();
    let values: Vec<_> = places
        .map(|place| (series.instance_at(place), series.value(place)))
        .collect();
    let mut fields = Vec::new();
    series.for_each_field(|field, _| fields.push(field.to_owned()));
    let (section, instance) = (series.section(), series.instance());
    let points = series.points();
    seen.push(format!(
        "{section} {instance:?} {values:?} {fields:?} {points}"
    ));
}

fn by_rows(rows: &Rows) -> Seen {
    let mut seen = Vec::new();
    rows.for_each_series(|series| series_seen(&mut seen, &series));
    (rows.head(), seen)
}

fn by_sample(sample: &Sample) -> Seen {
    let mut seen = Vec::new();
    sample.for_each_series(|series| series_seen(&mut seen, &series));
    (sample.head(), seen)
}

/// Reads `bytes` both ways, the fast one over the remains of `rows`.
fn check(rows: &mut Rows, bytes: &[u8]) -> Result<(), TestCaseError> {
    let expected = Sample::decode(bytes);
    let read = rows.read(bytes);
    prop_assert_eq!(
        read.map(|()| by_rows(rows)),
        expected.as_ref().map(by_sample).map_err(Clone::clone)
    );
    if expected.is_err() {
        prop_assert_eq!(by_rows(rows), (Head::default(), Vec::new()));
    }
    Ok(())
}

/// Two of each section, with all that they can have, and one with nothing.
fn whole() -> Sample {
    let name = |text: &str| text.parse().expect("the name of a test is well formed");
    let mut number = 0.0;
    let mut next = || {
        number += 0.25;
        number
    };
    macro_rules! filled {
        ($section:expr, $($field:ident)*) => {{
            let mut section = $section;
            $( section.$field = Some(next()); )*
            section
        }};
    }
    let mut cpu = filled!(Cpu::new(), usage_percent user_percent load1 temperature_celsius);
    cpu.cores = vec![0.5, 100.0, 33.33];
    let mut memory = filled!(Memory::new(), used_percent major_faults_per_second);
    (memory.total_bytes, memory.oom_kills) = (Some(u64::MAX), Some(0));
    let mut filesystem = Filesystem::new(name("/été"), Some(name("/dev/vda1")), Some(name("ext4")));
    (filesystem.total_bytes, filesystem.read_only) = (Some(1 << 40), Some(1));
    let mut network = filled!(Network::new(name("eth0")), rx_packets_per_second);
    network.up = Some(1);
    let mut fan = Fan::new(name("n"));
    fan.rpm = Some(900);
    let mut supply = PowerSupply::new(name("BAT0"), Some(name("battery")));
    supply.charge_percent = Some(99.9);
    Sample {
        ts: Some(1_763_630_000_123),
        boot: Some(1_763_600_000),
        seq: Some(42),
        first: Some(40),
        interval_ms: Some(10_000),
        cpu: Some(cpu),
        memory: Some(memory),
        pressure: Some(filled!(Pressure::new(), io_full_percent)),
        filesystems: vec![filesystem, Filesystem::new(name("/"), None, None)],
        disks: vec![
            filled!(Disk::new(name("vda")), await_ms queue),
            Disk::new(name("vdb")),
        ],
        networks: vec![network],
        gpus: vec![filled!(
            Gpu::new(name("0"), Some(name("H 100"))),
            power_watts
        )],
        sensors: (0..20)
            .map(|number| filled!(Sensor::new(name(&format!("core {number}"))), celsius))
            .collect(),
        fans: vec![fan],
        voltages: vec![
            filled!(Voltage::new(name("vcore")), volts),
            Voltage::new(name("v")),
        ],
        power_supplies: vec![supply],
        custom: vec![filled!(Custom::new(name("mine")), value)],
        ..Sample::default()
    }
}

#[test]
fn what_publishers_send_is_read_the_fast_way() {
    let mut rows = Rows::default();
    for sample in [whole(), Sample::default()] {
        let bytes = encode(&sample).unwrap();
        rows.clear();
        assert_eq!(walk::walk(&bytes, &mut rows), Some(()));
        assert_eq!(by_rows(&rows), by_sample(&sample));
        assert_eq!(by_rows(&Rows::from(&sample)), by_sample(&sample));
    }
    // {"new": {"x": [1(0)]}, "memory": {"y": null}, "cpu": {"load1": 1}}: of a later version, in its own order.
    let bytes = b"\xa3\x63new\xa1\x61x\x81\xc1\x00\x66memory\xa1\x61y\xf6\x63cpu\xa1\x65load1\x01";
    rows.clear();
    assert_eq!(walk::walk(bytes, &mut rows), Some(()));
    assert_eq!(by_rows(&rows), by_sample(&Sample::decode(bytes).unwrap()));
}

#[test]
fn what_is_rare_is_read_as_well() {
    let mut rows = Rows::default();
    let mut rare = |bytes: &[u8]| {
        assert!(Sample::decode(bytes).is_ok(), "{bytes:02x?}");
        check(&mut rows, bytes).unwrap();
        rows.clear();
        assert_eq!(walk::walk(bytes, &mut rows), None, "{bytes:02x?}");
    };
    // Tags, no value, and more keys than are remembered.
    rare(b"\xa1\x62ts\xc1\x07");
    rare(b"\xa1\x62ts\xf6");
    rare(b"\xa1\x63cpu\xf6");
    rare(b"\xa1\x63cpu\xa1\x65load1\xc1\x01");
    rare(b"\xa5\x61a\x01\x61b\x01\x61c\x01\x61d\x01\x61e\x01");
}

#[test]
fn a_limit_is_met_one_past_its_bound() {
    let mut rows = Rows::default();
    let mut accepted = |bytes: &[u8]| {
        check(&mut rows, bytes).unwrap();
        rows.read(bytes).is_ok()
    };
    // What nobody knows, in a sample, in a section and in an instance, nested ever deeper.
    for (around, depth) in [
        (&b"\xa1\x61x"[..], 7),
        (b"\xa1\x63cpu\xa1\x61x", 6),
        (b"\xa1\x64fans\x81\xa2\x64name\x61a\x61x", 5),
    ] {
        for (nested, taken) in [(depth, true), (depth + 1, false)] {
            let bytes = [around, &vec![0x81; nested], b"\xf6"].concat();
            assert_eq!(accepted(&bytes), taken, "{around:02x?} {nested}");
        }
    }
    // A key that stands twice: known or not, in a sample, in a section and in an instance.
    for twice in [
        &b"\xa2\x63seq\x01\x63seq\x01"[..],
        b"\xa2\x63cpu\xa0\x63cpu\xa0",
        b"\xa2\x61x\x01\x61x\x01",
        b"\xa1\x63cpu\xa2\x65load1\x01\x65load1\x01",
        b"\xa1\x64fans\x81\xa2\x64name\x61a\x64name\x61a",
    ] {
        assert!(!accepted(twice), "{twice:02x?}");
    }
    for (points, taken) in [(MAX_POINTS, true), (MAX_POINTS + 1, false)] {
        let mut cpu = Cpu::new();
        (cpu.load1, cpu.cores) = (Some(1.5), vec![0.5; points - 1]);
        let sample = Sample {
            cpu: Some(cpu),
            ..Sample::default()
        };
        assert_eq!(accepted(&encode(&sample).unwrap()), taken, "{points}");
        // An instance without a value counts as one.
        let named = |number: usize| number.to_string().parse().unwrap();
        let fans = (0..points - 1).map(|number| Fan::new(named(number)));
        let sample = Sample {
            fans: fans.collect(),
            custom: vec![Custom::new(named(0))],
            ..Sample::default()
        };
        assert_eq!(accepted(&encode(&sample).unwrap()), taken, "{points} names");
    }
    for (length, taken) in [(1, true), (128, true), (0, false), (129, false)] {
        let mut bytes = b"\xa1\x64fans\x81\xa1\x64name".to_vec();
        Item::Text("x".repeat(length)).write(&mut bytes);
        assert_eq!(accepted(&bytes), taken, "{length}");
    }
    for (names, taken) in [(17, true), (18, false)] {
        let named = |number: usize| (number % 17).to_string().parse().unwrap();
        let fans = (0..names).map(|number| Fan::new(named(number)));
        let sample = Sample {
            fans: fans.collect(),
            ..Sample::default()
        };
        assert_eq!(accepted(&encode(&sample).unwrap()), taken, "{names}");
    }
}

#[test]
fn a_large_sample_leaves_little_memory_behind() {
    let mut sample = Sample::default();
    let name = |number: usize| format!("{number}").parse().unwrap();
    sample.gpus = (0..MAX_POINTS)
        .map(|number| Gpu::new(name(number), None))
        .collect();
    let mut rows = Rows::default();
    rows.read(&encode(&sample).unwrap()).unwrap();
    assert!(rows.values.capacity() > 6 * KEPT);
    rows.read(&encode(&Sample::default()).unwrap()).unwrap();
    assert!(rows.values.capacity() <= KEPT);
}

/// A CBOR item, right or wrong.
#[derive(Debug, Clone)]
enum Item {
    /// Major type, argument, and whether it is written longer than it must be.
    Head(u8, u64, bool),
    Half(u16),
    Single(u32),
    Double(u64),
    Text(String),
    Simple(u8),
    Tagged(Box<Item>),
    List(Vec<Item>),
    Map(Vec<(String, Item)>),
}

impl Item {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Head(major, argument, is_long) => head(out, *major, *argument, *is_long),
            Self::Half(bits) => {
                out.push(0xf9);
                out.extend(bits.to_be_bytes());
            }
            Self::Single(bits) => {
                out.push(0xfa);
                out.extend(bits.to_be_bytes());
            }
            Self::Double(bits) => {
                out.push(0xfb);
                out.extend(bits.to_be_bytes());
            }
            Self::Text(text) => {
                head(out, 3, text.len() as u64, false);
                out.extend(text.as_bytes());
            }
            Self::Simple(number) => out.push(0xe0 | number),
            Self::Tagged(item) => {
                out.push(0xc1);
                item.write(out);
            }
            Self::List(items) => {
                head(out, 4, items.len() as u64, false);
                items.iter().for_each(|item| item.write(out));
            }
            Self::Map(entries) => {
                head(out, 5, entries.len() as u64, false);
                for (key, item) in entries {
                    head(out, 3, key.len() as u64, key.len() % 5 == 0);
                    out.extend(key.as_bytes());
                    item.write(out);
                }
            }
        }
    }
}

fn head(out: &mut Vec<u8>, major: u8, argument: u64, is_long: bool) {
    match u8::try_from(argument) {
        Ok(small @ 0..24) if !is_long => out.push(major << 5 | small),
        Ok(byte) if !is_long => out.extend([major << 5 | 24, byte]),
        _ => {
            out.push(major << 5 | 27);
            out.extend(argument.to_be_bytes());
        }
    }
}

fn number() -> impl Strategy<Value = Item> {
    let whole = |major| {
        (prop_oneof![0..40_u64, any::<u64>()], any::<bool>())
            .prop_map(move |(argument, is_long)| Item::Head(major, argument, is_long))
    };
    prop_oneof![
        8 => whole(0),
        4 => whole(1),
        8 => (0..0x7c00_u16).prop_map(Item::Half),
        8 => (0..100_000_u32).prop_map(|hundredths| Item::Single((hundredths as f32 / 100.0).to_bits())),
        8 => prop::num::f32::NORMAL.prop_map(|value| Item::Single(value.to_bits())),
        4 => prop::num::f64::NORMAL.prop_map(|value| Item::Double(value.to_bits())),
        1 => (0..1_000_u32).prop_map(|value| Item::Double(f64::from(value).to_bits())),
    ]
}

/// What belongs nowhere, or only where nobody looks.
fn odd() -> impl Strategy<Value = Item> {
    let leaf = prop_oneof![
        4 => number(),
        4 => "[a-c\u{7f}é]{0,3}".prop_map(Item::Text),
        4 => (20..24_u8).prop_map(Item::Simple),
        1 => (0..32_u8).prop_map(Item::Simple),
        1 => Just(Item::Head(2, 0, false)),
    ];
    leaf.prop_recursive(9, 16, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|item| Item::Tagged(Box::new(item))),
            vec(inner.clone(), 0..3).prop_map(Item::List),
            vec(("[a-c]{1,2}", inner), 0..3).prop_map(Item::Map),
        ]
    })
}

fn mostly(usual: BoxedStrategy<Item>, odds: u32) -> BoxedStrategy<Item> {
    prop_oneof![odds => usual, 1 => odd()].boxed()
}

/// A map with some of `keys` in any order, the first of them nearly always, and now and then one more.
fn map(keys: Vec<(&'static str, BoxedStrategy<Item>)>, first_odds: u32) -> BoxedStrategy<Item> {
    let places: Vec<usize> = (1..keys.len()).collect();
    let count = places.len();
    let more = prop_oneof![
        40 => Just(Vec::new()),
        1 => vec(("[a-f]{4,5}", odd()), 1..3),
        1 => vec(("[a-f]{4,5}", number()), 4..6),
    ];
    let first = prop_oneof![first_odds => Just(true), 1 => Just(false)];
    let twice = prop_oneof![800 => Just(false), 1 => Just(true)];
    (subsequence(places, 0..=count), any::<bool>(), first, twice)
        .prop_flat_map(move |(mut places, backwards, first, twice)| {
            if backwards {
                places.reverse();
            }
            if first {
                places.insert(0, 0);
            }
            if twice && let Some(place) = places.last() {
                places.push(*place);
            }
            let entries: Vec<_> = places
                .into_iter()
                .map(|place| (Just(keys[place].0.to_owned()), keys[place].1.clone()))
                .collect();
            (entries, more.clone(), any::<Index>())
        })
        .prop_map(|(mut entries, more, at)| {
            let at = at.index(entries.len() + 1);
            entries.splice(at..at, more);
            Item::Map(entries)
        })
        .boxed()
}

fn section(section: &'static crate::sample::shape::Section) -> BoxedStrategy<Item> {
    let shape = &section.shape;
    let name = prop_oneof![
        600 => "[a-d/ é]{1,2}",
        1 => "[é\u{85}]{0,65}",
        1 => "[a\u{7}]{1,3}",
    ];
    let keys = shape.keys.iter().enumerate().map(|(place, key)| {
        let value = if place < shape.labels {
            name.clone().prop_map(Item::Text).boxed()
        } else if place < shape.labels + shape.fields.len() {
            let whole = (0..5_000_u64).prop_map(|value| Item::Head(0, value, false));
            let usual = if shape.whole[place - shape.labels] {
                whole.boxed()
            } else {
                prop_oneof![whole, number()].boxed()
            };
            prop_oneof![300 => usual, 1 => number()].boxed()
        } else {
            vec(number(), 0..4).prop_map(Item::List).boxed()
        };
        (*key, mostly(value, 1_000))
    });
    if section.form == Form::Once {
        let keys = std::iter::once(("x", number().boxed())).chain(keys);
        return mostly(map(keys.collect(), 1), 400);
    }
    let rows = vec(mostly(map(keys.collect(), 800), 400), 0..4);
    let rows = prop_oneof![1 => rows.clone(), 40 => rows.prop_map(named_apart)];
    mostly(rows.prop_map(Item::List).boxed(), 400)
}

/// Gives each row that has a name one of its own.
fn named_apart(mut rows: Vec<Item>) -> Vec<Item> {
    for (number, row) in rows.iter_mut().enumerate() {
        let Item::Map(entries) = row else { continue };
        for (key, item) in entries {
            if key == "name"
                && let Item::Text(text) = item
            {
                text.push_str(&number.to_string());
            }
        }
    }
    rows
}

/// Samples of anybody's making.
fn anybodys() -> impl Strategy<Value = Item> {
    let small = || {
        (0..5_u64)
            .prop_map(|value| Item::Head(0, value, false))
            .boxed()
    };
    let head = [
        ("v", Just(Item::Head(0, 1, false)).boxed()),
        ("ts", small()),
        ("interval_ms", small()),
        ("boot", small()),
        ("seq", small()),
        ("first", small()),
    ];
    let head = head.map(|(key, value)| (key, mostly(value, 200)));
    let mut keys: Vec<_> = head[..3].to_vec();
    keys.extend(SECTIONS.iter().map(|known| (known.key, section(known))));
    let place = prop_oneof![8 => Just(0..0_usize), 4 => Just(3..6), 1 => Just(4..6)];
    (map(keys, 5), place)
        .prop_flat_map(move |(item, place)| {
            let place: Vec<_> = head[place]
                .iter()
                .map(|(key, value)| (Just((*key).to_owned()), value.clone()))
                .collect();
            (Just(item), place)
        })
        .prop_map(|(item, place)| match item {
            Item::Map(mut entries) => {
                entries.extend(place);
                Item::Map(entries)
            }
            other => other,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn samples_of_anybodys_making_are_read_as_whole_ones_are(
        items in vec(anybodys(), 1..3),
        cut in prop::option::weighted(0.05, any::<Index>()),
    ) {
        let mut rows = Rows::default();
        for item in items {
            let mut bytes = Vec::new();
            item.write(&mut bytes);
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            check(&mut rows, &bytes)?;
        }
    }

    #[test]
    fn damaged_samples_are_read_as_whole_ones_are(
        changes in vec((any::<Index>(), any::<u8>()), 0..4),
        moves in vec((any::<Index>(), any::<Index>()), 0..2),
    ) {
        let mut bytes = encode(&whole()).unwrap();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        for (from, to) in moves {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            bytes.swap(from, to);
        }
        check(&mut Rows::default(), &bytes)?;
    }
}
