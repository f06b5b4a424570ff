//! Python reads what we write, and we read what Python writes.

use hostbus_store::{Row, block};
use hostbus_tests::mosquitto::{VERSIONS, hex_of_bytes};
use hostbus_tests::pipeline::Pipeline;
use hostbus_tests::{poll, python, tool};
use hostbus_wire::sample::{Cpu, Custom, Filesystem, Memory};
use hostbus_wire::{Sample, encode};
use serde_json::{Value, json};

#[test]
fn python_reads_every_field_of_a_sample() {
    let mut cpu = Cpu::new();
    cpu.usage_percent = Some(12.5);
    cpu.load1 = Some(0.51);
    cpu.cores = vec![25.0, 33.33];
    let mut memory = Memory::new();
    memory.total_bytes = Some(270_553_153_536);
    let mut root = Filesystem::new("/".parse().unwrap(), None, Some("ext4".parse().unwrap()));
    root.used_percent = Some(81.25);
    let mut custom = Custom::new("Küche".parse().unwrap());
    custom.value = Some(0.1 + 0.2);
    let sample = Sample {
        ts: Some(1_763_630_000_123),
        boot: Some(1_763_600_000),
        seq: Some(42),
        first: Some(40),
        interval_ms: Some(10_000),
        cpu: Some(cpu),
        memory: Some(memory),
        filesystems: vec![root],
        custom: vec![custom],
        ..Sample::default()
    };
    let expected = json!({
        "v": 1, "ts": 1_763_630_000_123_u64, "boot": 1_763_600_000, "seq": 42, "first": 40,
        "interval_ms": 10_000,
        "cpu": {"usage_percent": 12.5, "load1": 0.51, "cores": [25.0, 33.33]},
        "memory": {"total_bytes": 270_553_153_536_u64},
        "filesystems": [{"name": "/", "kind": "ext4", "used_percent": 81.25}],
        "custom": [{"name": "Küche", "value": 0.1 + 0.2}],
    });
    let hex = hex_of_bytes(&encode(&sample).unwrap());
    let got: Value = serde_json::from_str(&python::run("decode.py", &[], &hex)).unwrap();
    // A float that fits 32 bits arrives with the digits that 32 bits have.
    assert!(equal_as_sent(&got, &expected), "{got:#}");
}

/// Compares with what an f32 can hold.
fn equal_as_sent(got: &Value, expected: &Value) -> bool {
    match (got, expected) {
        (Value::Object(got), Value::Object(expected)) => {
            got.len() == expected.len()
                && expected
                    .iter()
                    .all(|(key, value)| got.get(key).is_some_and(|got| equal_as_sent(got, value)))
        }
        (Value::Array(got), Value::Array(expected)) => {
            got.len() == expected.len()
                && got
                    .iter()
                    .zip(expected)
                    .all(|(got, value)| equal_as_sent(got, value))
        }
        (Value::Number(got), Value::Number(expected)) => {
            #[expect(clippy::cast_possible_truncation, reason = "that is what is compared")]
            let short = |value: &serde_json::Number| value.as_f64().map(|value| value as f32);
            got == expected || (got.is_f64() && short(got) == short(expected))
        }
        _ => got == expected,
    }
}

#[test]
fn we_read_what_python_writes() {
    let printed = python::run("encode.py", &[], "");
    let samples: Vec<(&str, Sample)> = printed
        .lines()
        .map(|line| {
            let (name, hex) = line.split_once(' ').unwrap();
            let bytes = hostbus_tests::mosquitto::bytes_of_hex(hex).unwrap();
            (
                name,
                Sample::decode(&bytes).unwrap_or_else(|error| panic!("{name}: {error}")),
            )
        })
        .collect();
    let sample = |wanted: &str| &samples.iter().find(|(name, _)| *name == wanted).unwrap().1;
    let plain = sample("plain");
    let cpu = plain.cpu.as_ref().unwrap();
    assert_eq!((cpu.usage_percent, cpu.load1), (Some(12.5), Some(0.51)));
    assert_eq!(cpu.cores, [25.0, 0.0]);
    assert_eq!((plain.ts, plain.seq), (Some(1_763_630_000_123), Some(42)));
    assert_eq!(sample("canonical"), plain);
    assert_eq!(sample("unknown-fields"), plain);
    let cpu = sample("integers-for-floats").cpu.as_ref().unwrap();
    assert_eq!((cpu.usage_percent, cpu.load1), (Some(5.0), Some(-1.0)));
    assert_eq!(cpu.cores, [25.0, 0.0]);
    let memory = sample("floats-for-integers").memory.as_ref().unwrap();
    assert_eq!(
        (memory.total_bytes, memory.used_bytes),
        (Some(1024), Some(1 << 53))
    );
    let custom = &sample("only-a-value").custom[0];
    assert_eq!(
        (custom.name.as_str(), custom.value),
        ("temperature", Some(21.3))
    );
}

#[test]
fn python_reads_every_value_of_a_packed_block() {
    let fields: Vec<String> = [
        "decimals",
        "pages",
        "never changes",
        "any",
        "unknown",
        "Küche",
    ]
    .map(str::to_owned)
    .into();
    let rows: Vec<Row> = (0..360_u32)
        .map(|row| {
            let wave = f64::from(row) * 0.1;
            let values = [
                Some((wave.sin() * 5_000.0).round() / 100.0),
                Some(4096.0 * f64::from(row * row % 1_000)),
                Some(17_179_869_184.0),
                Some(wave.cos() * 1e-9),
                None,
                (row % 7 > 0).then_some(21.5 + f64::from(row % 3)),
            ];
            Row {
                at_ms: 1_763_629_200_000 + 10_000 * u64::from(row) + u64::from(row % 3),
                values: values.into(),
            }
        })
        .collect();
    let blocks = [
        block::encode(&fields, &rows),
        block::encode(&fields, &rows[..1]),
        block::encode(&fields, &[]),
    ];
    let input: Vec<String> = blocks.iter().map(|block| hex_of_bytes(block)).collect();
    let printed = python::run("block.py", &[], &input.join("\n"));
    let read: Vec<Value> = printed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(read.len(), 3);
    for (read, rows) in read.iter().zip([&rows[..], &rows[..1], &[]]) {
        let times: Vec<u64> = rows.iter().map(|row| row.at_ms).collect();
        assert_eq!(read["times"], json!(times));
        for (place, field) in fields.iter().enumerate() {
            let values: Vec<Option<f64>> = read["columns"][field]
                .as_array()
                .unwrap()
                .iter()
                .map(|text| text.as_str().unwrap().parse().unwrap())
                .map(|value: f64| (!value.is_nan()).then_some(value))
                .collect();
            let expected: Vec<Option<f64>> = rows.iter().map(|row| row.values[place]).collect();
            assert_eq!(values, expected, "{field}");
        }
    }
}

#[test]
fn the_documented_reader_of_blocks_is_the_one_that_is_tested() {
    let script = std::fs::read_to_string(tool::workspace().join("tests/python/block.py")).unwrap();
    let (_, code) = script.split_once("# read_block begins\n").unwrap();
    let (code, _) = code.split_once("\n\n\n# read_block ends").unwrap();
    let document = std::fs::read_to_string(tool::workspace().join("docs/redis.md")).unwrap();
    assert!(
        document.contains(code),
        "docs/redis.md differs from tests/python/block.py"
    );
}

#[test]
fn a_script_without_sequence_numbers_is_stored_by_its_time() {
    let pipeline = Pipeline::start();
    let account = pipeline.account("home.web1");
    let (host, port) = (
        account.address.ip().to_string(),
        account.address.port().to_string(),
    );
    let history = pipeline.history();
    let now = hostbus_daemon::clock::unix_ms();
    for (version, ms) in VERSIONS.into_iter().zip([now - 20_000, now - 10_000]) {
        let mut custom = Custom::new("temperature".parse().unwrap());
        custom.value = Some(21.3);
        let sample = Sample {
            ts: Some(ms),
            custom: vec![custom],
            ..Sample::default()
        };
        let payload = hex_of_bytes(&encode(&sample).unwrap());
        let topic = "hostbus/v1/home/web1/metrics";
        // The ingester may connect after the message has passed by.
        let mut tries = 0_u32;
        poll::until("the row of a script's sample", || {
            if tries.is_multiple_of(40) {
                let arguments = [
                    &*host,
                    &port,
                    &account.user,
                    &account.password,
                    version.as_str(),
                    topic,
                    &payload,
                ];
                let said = python::run("publish.py", &arguments, "");
                assert_eq!(said.trim(), "acknowledged");
            }
            tries += 1;
            let rows = history.rows("home.web1", "custom:temperature")?;
            let row = rows.iter().find(|row| row.ms == ms);
            anyhow::ensure!(row.is_some(), "{rows:?}");
            assert_eq!(row.unwrap().fields["value"], "21.3");
            Ok(())
        });
    }
    let rows = history.rows("home.web1", "custom:temperature").unwrap();
    let times: Vec<u64> = rows.iter().map(|row| row.ms).collect();
    assert!(times.is_sorted(), "{times:?}");
}
