//! Payloads that break the contract: each is counted, the log does not fill with them, and the next
//! good sample is stored.

use anyhow::ensure;
use hostbus_tests::mosquitto::Version;
use hostbus_tests::pipeline::Pipeline;
use hostbus_tests::poll;
use hostbus_wire::health::Health;
use hostbus_wire::sample::{Cpu, Custom};
use hostbus_wire::{Sample, decode, encode};

const TOPIC: &str = "hostbus/v1/home/web1/metrics";
const HEALTH: &str = "hostbus/v1/home/_system/ingester/main";

fn sample_of_cores(count: usize) -> Vec<u8> {
    let mut cpu = Cpu::new();
    cpu.cores = vec![1.0; count];
    encode(&Sample {
        cpu: Some(cpu),
        ..Sample::default()
    })
    .expect("a sample")
}

/// A text of `length` bytes in CBOR, which may be no text that the contract allows.
fn text(length: u16) -> Vec<u8> {
    [
        &[0x79][..],
        &length.to_be_bytes(),
        &vec![b'x'; length.into()],
    ]
    .concat()
}

/// What is wrong, and the payload.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let nested = |depth: usize| [b"\xa1\x61x".to_vec(), vec![0x81; depth - 1], vec![0]].concat();
    let good = sample_of_cores(2);
    let padded = |bytes: usize| -> Vec<u8> {
        // {"x": [h'00…', …]}: large, and nothing else wrong with it.
        let chunk = [&[0x59, 0x0f, 0xff][..], &vec![0; 0x0fff]].concat();
        let chunks = u8::try_from(bytes / chunk.len() + 1).expect("below 256 chunks");
        [
            b"\xa1\x61x\x98".to_vec(),
            vec![chunks],
            chunk.repeat(chunks.into()),
        ]
        .concat()
    };
    vec![
        ("larger than 256 KiB", padded(256 * 1024)),
        ("nine levels deep", nested(9)),
        ("4,097 points", sample_of_cores(4_097)),
        (
            "a key of 129 bytes",
            [vec![0xa1], text(129), vec![0]].concat(),
        ),
        (
            "a name of 129 bytes",
            [b"\xa1\x66custom\x81\xa1\x64name".to_vec(), text(129)].concat(),
        ),
        (
            "an empty name",
            b"\xa1\x66custom\x81\xa1\x64name\x60".to_vec(),
        ),
        ("a map of indefinite length", b"\xbf\x61v\x01\xff".to_vec()),
        (
            "an array of indefinite length",
            b"\xa1\x65disks\x9f\xff".to_vec(),
        ),
        (
            "a text of indefinite length",
            b"\xa1\x61x\x7f\x61a\xff".to_vec(),
        ),
        ("a key twice", b"\xa2\x61v\x01\x61v\x01".to_vec()),
        (
            "a key twice, deep down",
            b"\xa1\x63cpu\xa2\x65load1\x01\x65load1\x02".to_vec(),
        ),
        ("a key that is no text", b"\xa1\x01\x01".to_vec()),
        ("a byte after the end", [&good[..], b"\x00"].concat()),
        ("two samples", good.repeat(2)),
        ("cut off", good[..good.len() - 1].to_vec()),
        (
            "not a number, 16 bits",
            b"\xa1\x63cpu\xa1\x65load1\xf9\x7e\x00".to_vec(),
        ),
        (
            "infinite, 32 bits",
            b"\xa1\x63cpu\xa1\x65load1\xfa\x7f\x80\x00\x00".to_vec(),
        ),
        (
            "minus infinite, 64 bits",
            b"\xa1\x63cpu\xa1\x65load1\xfb\xff\xf0\0\0\0\0\0\0".to_vec(),
        ),
        ("JSON", br#"{"v": 1, "cpu": {"load1": 1.5}}"#.to_vec()),
        ("plain text", b"21.5".to_vec()),
        ("a zero byte", b"\0".to_vec()),
        ("a list", b"\x80".to_vec()),
        ("a section of the wrong type", b"\xa1\x63cpu\x80".to_vec()),
        (
            "a field of the wrong type",
            b"\xa1\x63cpu\xa1\x65load1\x61x".to_vec(),
        ),
        (
            "null for a number",
            b"\xa1\x63cpu\xa1\x65load1\xf6".to_vec(),
        ),
        (
            "a name that is a number",
            b"\xa1\x66custom\x81\xa1\x64name\x01".to_vec(),
        ),
        ("no name", b"\xa1\x66custom\x81\xa1\x65value\x01".to_vec()),
        ("version 2", b"\xa1\x61v\x02".to_vec()),
        ("seq without boot", b"\xa1\x63seq\x01".to_vec()),
        (
            "first beyond seq",
            b"\xa3\x64boot\x01\x63seq\x01\x65first\x02".to_vec(),
        ),
        (
            "an instance twice",
            b"\xa1\x66custom\x82\xa1\x64name\x61a\xa1\x64name\x61a".to_vec(),
        ),
        (
            "a false claim of length",
            b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        ),
    ]
}

#[test]
fn hostile_payloads_are_counted_logged_once_and_do_no_harm() {
    const TIMES: usize = 3;
    let pipeline = Pipeline::start();
    let health = pipeline
        .account("viewer")
        .subscribe(&pipeline.folder, Version::V5, &[HEALTH])
        .ready();
    health.wait_for("the health of the ingester", |message| {
        message.topic == HEALTH
    });
    let account = pipeline.account("home.web1");
    let publish = |payload: &[u8]| {
        let finished = account.publish(&pipeline.folder, Version::V5, TOPIC, payload);
        assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""));
    };
    let hostile = hostile();
    for (what, payload) in &hostile {
        assert!(
            Sample::decode(payload).is_err(),
            "{what} is no hostile payload"
        );
        for _ in 0..TIMES {
            publish(payload);
        }
    }
    poll::until("a count of every hostile payload", || {
        let last = health.received().pop().expect("it was there before");
        let counters = decode::<Health>(&last.payload)?.counters;
        let refused = counters["refused_payloads"];
        ensure!(
            refused == (hostile.len() * TIMES) as u64,
            "{refused} of {counters:?}"
        );
        Ok(())
    });

    let mut custom = Custom::new("after".parse().unwrap());
    custom.value = Some(1.5);
    publish(
        &encode(&Sample {
            custom: vec![custom],
            ..Sample::default()
        })
        .unwrap(),
    );
    let history = pipeline.history();
    poll::until("the row of the good sample", || {
        let rows = history.rows("home.web1", "custom:after")?;
        ensure!(
            rows.len() == 1 && rows[0].fields["value"] == "1.5",
            "{rows:?}"
        );
        Ok(())
    });
    let series: Vec<String> = history.ask(&["SMEMBERS", "hb:{home.web1}:series"]).unwrap();
    assert_eq!(
        series,
        ["custom:after"],
        "a hostile payload has left something"
    );

    // Three kinds of mistake: no CBOR of the contract, no sample, no usable sample.
    let log = pipeline.ingester.stderr();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("WARN")).collect();
    assert!((1..=3).contains(&lines.len()), "{lines:#?}");
    assert!(
        lines.iter().all(|line| line.contains("home.web1")),
        "{lines:#?}"
    );
    assert!(lines.iter().all(|line| line.len() < 500), "{lines:#?}");
}
