//! `hostbus.cddl` and the code say the same. Each payload is written with every field it can have,
//! and held against its rule once the rules are closed to unknown fields; and every key that a
//! rule names must be one that the code writes.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as tests do")]

use std::collections::BTreeSet;

use hostbus_wire::alert::{Alert, AlertKey, AlertSeverity, AlertState};
use hostbus_wire::committed::Committed;
use hostbus_wire::control::{
    CollectorDesired, Command, ConfigDesired, ConfigReported, ConfigSource, Reply,
};
use hostbus_wire::details::Details;
use hostbus_wire::event::{Event, Severity};
use hostbus_wire::health::{Health, HealthState};
use hostbus_wire::info::{DiskInfo, Info, InterfaceInfo, MemoryModule};
use hostbus_wire::lease::Lease;
use hostbus_wire::sample::{
    Cpu, Custom, Disk, Fan, Filesystem, Gpu, Memory, Network, PowerSupply, Pressure, Sensor,
    Voltage,
};
use hostbus_wire::silence::{Acknowledgement, Silence, Weekly};
use hostbus_wire::told::Told;
use hostbus_wire::{Field, Name, Sample, Scalar, encode};
use serde::Serialize;
use serde_json::{Value, json};

const CDDL: &str = include_str!("../hostbus.cddl");

/// The rules without room for fields of the future.
fn closed() -> String {
    CDDL.replace("* future,", "").replace(", * future", "")
}

fn name(text: &str) -> Name {
    text.parse().expect("the name of a test is well formed")
}

/// A section with each of its fields known, made from its own table of fields.
fn full<T: serde::de::DeserializeOwned>(fields: &[Field], labels: Value) -> T {
    let mut section = labels;
    for field in fields {
        section[field.name] = json!(7);
    }
    serde_json::from_value(section).unwrap()
}

fn full_sample() -> Sample {
    let mut cpu: Cpu = full(Cpu::FIELDS, json!({}));
    cpu.cores = vec![1.5, 99.99];
    let disk: Disk = full(Disk::FIELDS, json!({"name": "vda"}));
    Sample {
        ts: Some(1),
        boot: Some(1),
        seq: Some(2),
        first: Some(1),
        interval_ms: Some(10_000),
        cpu: Some(cpu),
        memory: Some(full::<Memory>(Memory::FIELDS, json!({}))),
        pressure: Some(full::<Pressure>(Pressure::FIELDS, json!({}))),
        filesystems: vec![full::<Filesystem>(
            Filesystem::FIELDS,
            json!({"name": "/", "device": "/dev/vda", "kind": "ext4"}),
        )],
        disks: vec![disk, Disk::new(name("vdb"))],
        networks: vec![full::<Network>(Network::FIELDS, json!({"name": "eth0"}))],
        gpus: vec![full::<Gpu>(
            Gpu::FIELDS,
            json!({"name": "0", "model": "A100"}),
        )],
        sensors: vec![full::<Sensor>(Sensor::FIELDS, json!({"name": "coretemp"}))],
        fans: vec![full::<Fan>(Fan::FIELDS, json!({"name": "cpu-fan"}))],
        voltages: vec![full::<Voltage>(Voltage::FIELDS, json!({"name": "vcore"}))],
        power_supplies: vec![full::<PowerSupply>(
            PowerSupply::FIELDS,
            json!({"name": "BAT0", "kind": "battery"}),
        )],
        custom: vec![full::<Custom>(Custom::FIELDS, json!({"name": "x"}))],
        ..Sample::default()
    }
}

fn scalars() -> hostbus_wire::codec::Map<Scalar> {
    [
        ("null", Scalar::Null),
        ("bool", Scalar::Bool(true)),
        ("integer", Scalar::Integer(3)),
        ("float", Scalar::Float(0.1)),
        ("text", Scalar::Text("x".to_owned())),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn texts() -> hostbus_wire::codec::Map<String> {
    [("key".to_owned(), "text".to_owned())].into()
}

fn check(rule: &str, payload: &impl Serialize) -> Value {
    let bytes = encode(payload).unwrap();
    if let Err(error) = cddl_cat::cbor::validate_cbor_bytes(rule, &closed(), &bytes) {
        panic!(
            "{rule}: {error}\n{}",
            hostbus_wire::codec::to_json(&bytes).unwrap()
        );
    }
    serde_json::from_str(&hostbus_wire::codec::to_json(&bytes).unwrap()).unwrap()
}

fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                found.insert(key.clone());
                keys(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        _ => {}
    }
}

#[test]
fn every_payload_keeps_its_rule_and_every_rule_its_payload() {
    let text = || "x".to_owned();
    let written = [
        check("sample", &full_sample()),
        check("sample", &Sample::default()),
        check(
            "info",
            &Info {
                v: 1,
                ts: 1,
                boot: Some(1),
                hostname: Some(text()),
                machine: Some(text()),
                os: Some(text()),
                kernel: Some(text()),
                arch: Some(text()),
                virtualization: Some(text()),
                container: Some(text()),
                cpu_model: Some(text()),
                cpu_cores: Some(2),
                cpu_physical_cores: Some(1),
                memory_bytes: Some(1),
                memory_modules: vec![
                    MemoryModule {
                        slot: Some(text()),
                        size_bytes: Some(1),
                        kind: Some(text()),
                        speed_mts: Some(3200),
                        maker: Some(text()),
                    },
                    MemoryModule::default(),
                ],
                disks: vec![
                    DiskInfo {
                        name: text(),
                        model: Some(text()),
                        size_bytes: Some(1),
                        rotational: Some(false),
                    },
                    DiskInfo::default(),
                ],
                networks: vec![
                    InterfaceInfo {
                        name: text(),
                        mac: Some(text()),
                        addresses: vec![text()],
                    },
                    InterfaceInfo::default(),
                ],
                boot_time: Some(1),
                publisher: Some(text()),
                interval_ms: Some(1),
                collectors: texts(),
                units: texts(),
            },
        ),
        check(
            "event",
            &Event {
                ts: 1,
                kind: text(),
                severity: Severity::Warning,
                message: text(),
                details: scalars(),
            },
        ),
        check(
            "details",
            &Details {
                ts: 1,
                columns: vec![text()],
                rows: vec![scalars().into_values().collect()],
            },
        ),
        check(
            "committed",
            &Committed {
                boot: 1,
                seq: 2,
                resend: true,
            },
        ),
        check(
            "alert",
            &Alert {
                fingerprint: text(),
                state: AlertState::Firing,
                severity: AlertSeverity::Critical,
                since: 1,
                summary: text(),
                value: Some(90.5),
                threshold: Some(90.0),
                labels: texts(),
                by: text(),
                held: [("critical".to_owned(), 2)].into(),
                over: Some(3),
            },
        ),
        check(
            "silence",
            &Silence {
                nodes: vec![text()],
                rules: vec![text()],
                instances: vec![text()],
                severities: AlertSeverity::ALL.to_vec(),
                labels: texts(),
                from: Some(1),
                until: Some(2),
                seconds: Some(3),
                weekly: Some(Weekly {
                    days: vec![text()],
                    from: text(),
                    to: text(),
                    zone: Some(text()),
                }),
                by: text(),
                why: text(),
            },
        ),
        check(
            "acknowledgement",
            &Acknowledgement {
                by: text(),
                why: text(),
                at: Some(1),
                until: Some(2),
            },
        ),
        check(
            "told",
            &Told {
                alert: AlertKey {
                    node: "home.nas".parse().unwrap(),
                    rule: "backup".into(),
                    instance: Some("/".into()),
                },
                state: AlertState::Resolved,
                severity: AlertSeverity::Info,
                since: 1,
                at: 2,
                given_up: true,
            },
        ),
        check(
            "lease",
            &Lease {
                holder: text(),
                term: 1,
                at: 2,
                released: true,
            },
        ),
        check(
            "config-desired",
            &ConfigDesired {
                revision: 1,
                interval_ms: Some(1000),
                collectors: [
                    (
                        text(),
                        CollectorDesired {
                            enabled: Some(true),
                            interval_ms: Some(1000),
                            include: Some(vec![text()]),
                            exclude: Some(Vec::new()),
                        },
                    ),
                    (
                        "short".to_owned(),
                        CollectorDesired {
                            enabled: Some(false),
                            ..CollectorDesired::default()
                        },
                    ),
                ]
                .into(),
                ..ConfigDesired::default()
            },
        ),
        check(
            "config-reported",
            &ConfigReported {
                revision: 1,
                source: Some(ConfigSource::Desired),
                interval_ms: Some(1000),
                collectors: [(text(), true)].into(),
                refused: texts(),
            },
        ),
        check(
            "command",
            &Command {
                id: text(),
                expires: 1,
                args: scalars(),
            },
        ),
        check(
            "reply",
            &Reply {
                id: text(),
                ok: false,
                error: Some(text()),
                data: scalars(),
            },
        ),
        check(
            "health",
            &Health {
                ts: 1,
                state: HealthState::Degraded,
                reason: Some(text()),
                version: text(),
                counters: [(text(), 1)].into(),
            },
        ),
    ];
    let mut found = BTreeSet::new();
    written.iter().for_each(|payload| keys(payload, &mut found));
    // Every key of a rule stands as `"key":`.
    let named = CDDL
        .lines()
        .map(|line| line.split(';').next().unwrap_or_default())
        .flat_map(|line| {
            line.split('"')
                .skip(1)
                .step_by(2)
                .zip(line.split('"').skip(2).step_by(2))
        })
        .filter(|(_, after)| after.starts_with(':'))
        .map(|(key, _)| key);
    let mut count = 0;
    for key in named {
        assert!(
            found.contains(key),
            "the rules name `{key}`, which nothing writes"
        );
        count += 1;
    }
    assert!(count > 100, "only {count} keys were read from the rules");
}

#[test]
fn a_closed_rule_refuses_a_field_that_the_rules_do_not_name() {
    let payload = json!({"boot": 1, "seq": 1, "novelty": 1});
    let bytes = encode(&payload).unwrap();
    assert!(cddl_cat::cbor::validate_cbor_bytes("committed", &closed(), &bytes).is_err());
    assert!(cddl_cat::cbor::validate_cbor_bytes("committed", CDDL, &bytes).is_ok());
}
