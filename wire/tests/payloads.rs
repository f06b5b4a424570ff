//! The payloads as other programs see them: bytes that must not change, readers and writers of
//! other ages, and every sample that can be.

use hostbus_wire::sample::{
    Cpu, Custom, Disk, Fan, Filesystem, Gpu, MAX_POINTS, Memory, Network, SampleError, Sensor,
    all_fields, shared_field,
};
use hostbus_wire::{DecodeError, Sample, Unit, codec, decode, encode};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn name(text: &str) -> hostbus_wire::Name {
    text.parse().expect("the name of a test is well formed")
}

fn small() -> Sample {
    let mut cpu = Cpu::new();
    cpu.usage_percent = Some(12.5);
    cpu.load1 = Some(0.51);
    cpu.cores = vec![25.0, 0.0];
    let mut root = Filesystem::new(name("/"), Some(name("/dev/vda1")), None);
    root.total_bytes = Some(270_553_153_536);
    Sample {
        ts: Some(1_763_630_000_123),
        boot: Some(1_763_600_000),
        seq: Some(42),
        first: Some(40),
        interval_ms: Some(10_000),
        cpu: Some(cpu),
        filesystems: vec![root],
        ..Sample::default()
    }
}

#[test]
fn the_bytes_of_a_sample_never_change() {
    // {"v": 1, "ts": 1763630000123, "boot": 1763600000, "seq": 42, "first": 40,
    //  "interval_ms": 10000, "cpu": {"usage_percent": 12.5_1, "load1": 0.51_2, "cores": [25.0_1, 0.0_1]},
    //  "filesystems": [{"name": "/", "device": "/dev/vda1", "total_bytes": 270553153536}]}
    let golden = "a8617601627473\
                  1b0000019aa08a27fb64626f6f741a691e6680637365711 82a6566697273741828\
                  6b696e74657276616c5f6d73192710\
                  63637075a36d75736167655f70657263656e74f94a40656c6f616431fa3f028f5c65636f72657382f94e40f90000\
                  6b66696c6573797374656d7381a3646e616d65612f66646576696365692f6465762f76646131\
                  6b746f74616c5f62797465731b0000003efe398000";
    let golden: String = golden.split_whitespace().collect();
    let bytes = encode(&small()).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden);
    assert_eq!(Sample::decode(&bytes).unwrap(), small());
}

#[test]
fn an_unknown_field_is_passed_over_wherever_it_stands() {
    // {"v": 1, "new": {"x": [1, 2]}, "cpu": {"usage_percent": 1.5, "novelty": "y"}}
    let bytes = b"\xa3\x61v\x01\x63new\xa1\x61x\x82\x01\x02\x63cpu\xa2\x6dusage_percent\xf9\x3e\x00\x67novelty\x61y";
    let sample = Sample::decode(bytes).unwrap();
    assert_eq!(sample.cpu.unwrap().usage_percent, Some(1.5));
}

#[test]
fn an_integer_passes_for_a_float_and_a_whole_float_for_an_integer() {
    // {"cpu": {"usage_percent": 5, "load1": -1}, "memory": {"total_bytes": 1024.0}}
    let bytes = b"\xa2\x63cpu\xa2\x6dusage_percent\x05\x65load1\x20\x66memory\xa1\x6btotal_bytes\xf9\x64\x00";
    let sample = Sample::decode(bytes).unwrap();
    let cpu = sample.cpu.unwrap();
    assert_eq!((cpu.usage_percent, cpu.load1), (Some(5.0), Some(-1.0)));
    assert_eq!(sample.memory.unwrap().total_bytes, Some(1024));
}

#[test]
fn a_number_that_its_field_can_not_hold_is_refused_and_said() {
    let check = |bytes: &[u8], expected: &str| match Sample::decode(bytes) {
        Err(DecodeError::Unexpected { message }) => {
            assert!(message.contains(expected), "{message}");
        }
        other => panic!("{other:?}"),
    };
    // {"memory": {"total_bytes": -1}}, 1.5, "x", null
    check(
        b"\xa1\x66memory\xa1\x6btotal_bytes\x20",
        "a whole number from 0",
    );
    check(
        b"\xa1\x66memory\xa1\x6btotal_bytes\xf9\x3e\x00",
        "a whole number from 0",
    );
    check(
        b"\xa1\x66memory\xa1\x6btotal_bytes\x61x",
        "a whole number from 0",
    );
    check(b"\xa1\x63cpu\xa1\x65load1\xf6", "a finite number");
}

#[test]
fn a_sample_of_a_newer_version_is_refused() {
    let error = Sample::decode(b"\xa1\x61v\x02").unwrap_err();
    assert_eq!(error, DecodeError::Sample(SampleError::Version { v: 2 }));
}

#[test]
fn boot_seq_and_first_stand_together() {
    let check = |boot: Option<u64>, seq: Option<u64>, first: Option<u64>, good: bool| {
        let sample = Sample {
            boot,
            seq,
            first,
            ..Sample::default()
        };
        let got = Sample::decode(&encode(&sample).unwrap());
        assert_eq!(got.is_ok(), good, "{boot:?} {seq:?} {first:?}");
    };
    check(None, None, None, true);
    check(Some(1), Some(1), Some(1), true);
    check(Some(1), Some(5), Some(2), true);
    check(Some(1), Some(0), Some(0), false);
    check(Some(1), Some(1), Some(2), false);
    check(None, Some(1), Some(1), false);
    check(Some(1), Some(1), None, false);
}

#[test]
fn a_sample_carries_at_most_4096_points() {
    let with = |points: usize| {
        let mut cpu = Cpu::new();
        cpu.cores = vec![1.0; points];
        encode(&Sample {
            cpu: Some(cpu),
            ..Sample::default()
        })
        .unwrap()
    };
    assert!(Sample::decode(&with(MAX_POINTS)).is_ok());
    assert_eq!(
        Sample::decode(&with(MAX_POINTS + 1)),
        Err(DecodeError::Sample(SampleError::Points {
            points: MAX_POINTS + 1
        }))
    );
}

#[test]
fn an_instance_without_a_value_counts_as_a_point() {
    let check = |sensors: usize, gpus: usize, refused: Option<&str>| {
        let named = |number: usize| name(&number.to_string());
        let mut sample = Sample {
            sensors: (0..sensors)
                .map(|number| Sensor::new(named(number)))
                .collect(),
            gpus: (0..gpus)
                .map(|number| Gpu::new(named(number), None))
                .collect(),
            ..Sample::default()
        };
        if let Some(known) = sample.gpus.first_mut() {
            known.usage_percent = Some(1.0);
        }
        let read = Sample::decode(&encode(&sample).unwrap());
        let told = read.err().map(|error| error.to_string());
        match (&told, refused) {
            (None, None) => {}
            (Some(told), Some(refused)) => assert!(told.contains(refused), "{told}"),
            _ => panic!("{sensors} {gpus}: {told:?}"),
        }
    };
    check(MAX_POINTS, 0, None);
    check(MAX_POINTS - 9, 9, None);
    check(MAX_POINTS + 1, 0, Some("4097 points"));
    check(MAX_POINTS - 9, 10, Some("4097 points"));
    // Not even read.
    check(20_000, 0, Some("items in the lists"));
    check(3_000, 3_000, Some("items in the lists"));
}

#[test]
fn an_instance_stands_once_in_its_section() {
    let disk = Disk::new(name("vda"));
    let bytes = encode(&Sample {
        disks: vec![disk.clone(), disk],
        ..Sample::default()
    })
    .unwrap();
    let error = Sample::decode(&bytes).unwrap_err();
    assert_eq!(
        error,
        DecodeError::Sample(SampleError::Duplicate {
            section: "disk",
            name: name("vda")
        })
    );
}

#[test]
fn an_instance_name_has_at_most_128_bytes() {
    // {"sensors": [{"name": "x…"}]}
    let with = |bytes: u8| {
        let mut payload = b"\xa1\x67sensors\x81\xa1\x64name\x78".to_vec();
        payload.push(bytes);
        payload.extend(vec![b'x'; bytes.into()]);
        Sample::decode(&payload)
    };
    assert!(with(128).is_ok());
    assert!(matches!(with(129), Err(DecodeError::Unexpected { .. })));
}

#[test]
fn any_payload_shows_as_json_with_the_numbers_that_were_meant() {
    let check = |bytes: &[u8], json: &str| assert_eq!(codec::to_json(bytes).as_deref(), Ok(json));
    check(&encode(&12.51_f32).unwrap(), "12.51");
    check(
        b"\xa2\x61b\x82\x01\x20\x61a\xf5",
        r#"{"b":[1,-1],"a":true}"#,
    );
    check(b"\x42\x00\xff", r#""00ff""#);
    check(b"\xc0\x61\x22", r#""\"""#);
    check(b"\xf7", "null");
    assert!(codec::to_json(b"\xa1").is_err());
}

#[test]
fn rows_have_a_constant_field_set_and_name_their_series() {
    let sample = small();
    let mut seen = Vec::new();
    sample.for_each_series(|series| {
        let mut fields = Vec::new();
        series.for_each_field(|field, value| {
            fields.push((field.to_owned(), value.map(|value| value.to_string())));
        });
        assert_eq!(fields.len(), series.width());
        seen.push((series.name().into_owned(), fields.len(), fields[0].clone()));
    });
    let row = |field: &str, value: Option<&str>| (field.to_owned(), value.map(str::to_owned));
    assert_eq!(
        seen,
        [
            ("cpu".to_owned(), 13, row("usage_percent", Some("12.5"))),
            ("cores".to_owned(), 2, row("0", Some("25"))),
            (
                "filesystem:/".to_owned(),
                6,
                row("total_bytes", Some("270553153536"))
            ),
        ]
    );
    assert_eq!(sample.points(), 5);
}

#[test]
fn sensors_fans_and_voltages_have_a_row_each_with_a_field_an_instance() {
    let mut fan = Fan::new(name("n"));
    fan.rpm = Some(900);
    let sample = Sample {
        sensors: vec![
            Sensor {
                celsius: Some(45.5),
                ..Sensor::new(name("coretemp/package 0"))
            },
            Sensor::new(name("nvme/composite")),
        ],
        fans: vec![fan],
        ..Sample::default()
    };
    let mut seen = Vec::new();
    sample.for_each_series(|series| {
        assert!(series.has_instances());
        series.for_each_field(|field, value| {
            let value = value.map_or_else(|| "?".to_owned(), |value| value.to_string());
            seen.push(format!("{} {field} {value}", series.name()));
        });
        seen.push(format!("{} of {}", series.points(), series.width()));
    });
    let expected = [
        "sensors coretemp/package%200 45.5",
        "sensors nvme/composite ?",
        "1 of 2",
        "fans %6E 900",
        "1 of 1",
    ];
    assert_eq!(seen, expected);
    assert_eq!(sample.points(), 2);
}

#[test]
fn what_instances_share_stands_once_among_all_fields() {
    let fields = all_fields();
    for (section, name, unit) in [
        ("cores", "<core>", Unit::Percent),
        ("sensors", "<sensor>", Unit::Celsius),
        ("fans", "<fan>", Unit::PerMinute),
        ("voltages", "<voltage>", Unit::Volts),
    ] {
        let shared = shared_field(section).unwrap();
        assert_eq!((shared.name, shared.unit), (name, unit));
        let of_section = fields.iter().filter(|(of, _)| *of == section);
        assert_eq!(of_section.collect::<Vec<_>>(), [&(section, shared)]);
    }
    assert_eq!(shared_field("cpu"), None);
}

prop_compose! {
    fn percent()(value in 0_u32..=10_000) -> f64 { hostbus_wire::number::round(f64::from(value) / 100.0, 2) }
}

fn number() -> impl Strategy<Value = f64> {
    any::<f64>()
        .prop_filter("finite", |value| value.is_finite())
        // The sign of zero is not kept.
        .prop_map(|value| if value == 0.0 { 0.0 } else { value })
}

fn names() -> impl Strategy<Value = Vec<hostbus_wire::Name>> {
    proptest::collection::btree_set("[^\\p{Cc}]{1,32}", 0..4)
        .prop_map(|names| names.iter().map(|text| name(text)).collect())
}

prop_compose! {
    fn cpu()(
        usage_percent in option::of(percent()),
        load1 in option::of(number()),
        frequency_mhz in option::of(0.0_f64..9e9),
        cores in vec(percent(), 0..64),
    ) -> Cpu {
        let mut cpu = Cpu::new();
        (cpu.usage_percent, cpu.load1, cpu.frequency_mhz) = (usage_percent, load1, frequency_mhz);
        cpu.cores = cores;
        cpu
    }
}

prop_compose! {
    fn memory()(total_bytes in option::of(any::<u64>()), used_percent in option::of(percent())) -> Memory {
        let mut memory = Memory::new();
        (memory.total_bytes, memory.used_percent) = (total_bytes, used_percent);
        memory
    }
}

prop_compose! {
    fn sample()(
        (ts, boot, seq, behind) in (option::of(any::<u64>()), option::of(any::<u64>()), 1_u64.., any::<u64>()),
        interval_ms in option::of(any::<u32>()),
        cpu in option::of(cpu()),
        memory in option::of(memory()),
        (filesystems, disks, networks, gpus, sensors, custom) in (names(), names(), names(), names(), names(), names()),
        value in option::of(number()),
        bytes in option::of(any::<u64>()),
    ) -> Sample {
        let each = |names: Vec<hostbus_wire::Name>| names.into_iter();
        Sample {
            ts,
            boot,
            seq: boot.map(|_| seq),
            first: boot.map(|_| seq - behind % seq),
            interval_ms,
            cpu,
            memory,
            filesystems: each(filesystems).map(|name| {
                let mut item = Filesystem::new(name.clone(), Some(name), None);
                item.used_bytes = bytes;
                item
            }).collect(),
            disks: each(disks).map(|name| Disk { await_ms: value, ..Disk::new(name) }).collect(),
            networks: each(networks).map(|name| Network { rx_bytes_per_second: bytes, ..Network::new(name) }).collect(),
            gpus: each(gpus).map(|name| Gpu { power_watts: value, ..Gpu::new(name.clone(), Some(name)) }).collect(),
            sensors: each(sensors).map(|name| Sensor { celsius: value, ..Sensor::new(name) }).collect(),
            custom: each(custom).map(|name| Custom { value, ..Custom::new(name) }).collect(),
            ..Sample::default()
        }
    }
}

proptest! {
    #[test]
    fn every_sample_reads_back_as_it_was_written(sample in sample()) {
        let bytes = encode(&sample).unwrap();
        prop_assert_eq!(Sample::decode(&bytes), Ok(sample));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in vec(any::<u8>(), 0..512)) {
        let _ = Sample::decode(&bytes);
        let _ = codec::to_json(&bytes);
        let _ = decode::<hostbus_wire::info::Info>(&bytes);
    }

    #[test]
    fn a_damaged_sample_is_refused_or_still_sane(sample in sample(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = encode(&sample).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(read) = Sample::decode(&bytes) {
            prop_assert!(read.points() <= MAX_POINTS);
            prop_assert_eq!(Sample::decode(&encode(&read).unwrap()), Ok(read));
        }
    }
}
