//! The MQTT channel against a broker of a few bytes: a notice counts as delivered when it is acknowledged.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::time::Duration;

use hostbus_notifier::channels::{Channel, ChannelConfig, Verdict};
use hostbus_notifier::notice::{Line, Notice, Reason};
use hostbus_notifier::template::Language;
use hostbus_wire::alert::{Alert, AlertKey};
use jiff::tz::TimeZone;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(60);

fn notice(nodes: &[&str]) -> Notice {
    let line = |node: &&str| {
        let key = AlertKey {
            node: format!("home.{node}").parse().unwrap(),
            rule: "disk-full".into(),
            instance: None,
        };
        let alert = Alert {
            fingerprint: key.fingerprint(),
            since: 1_763_630_000_000,
            summary: "/data is full".to_owned(),
            ..Alert::default()
        };
        Line {
            key,
            alert,
            firing_since: 1_763_630_000_000,
            was: None,
            flaps: 0,
            repeated: false,
        }
    };
    Notice {
        id: 42,
        channel: "lamp".to_owned(),
        reason: Reason::Firing,
        group: "rule disk-full".to_owned(),
        formed_ms: 1_763_630_000_123,
        lines: nodes.iter().map(line).collect(),
        still_firing: 0,
    }
}

async fn broker(more: &str) -> (TcpListener, Channel) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let text = format!(
        "type = \"mqtt\"\ntopic = \"lamps/{{node}}\"\n{more}\n\
         [bus]\nurl = \"mqtt://{address}\"\nuser = \"lamp\"\npassword = \"hunter2\""
    );
    (listener, open(&text).unwrap())
}

fn open(text: &str) -> Result<Channel, String> {
    let config: ChannelConfig = toml::from_str(text).unwrap();
    let opened = Channel::open("lamp", &config, Language::default(), &TimeZone::UTC);
    opened.map_err(|error| error.to_string())
}

/// One packet: its first byte and what follows its length.
async fn packet(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let first = stream.read_u8().await.unwrap();
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = stream.read_u8().await.unwrap();
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await.unwrap();
    (first, rest)
}

/// Takes a client and its message: topic, flags, packet identifier, payload. Not yet acknowledged.
async fn take(listener: &TcpListener) -> (TcpStream, String, u8, [u8; 2], Vec<u8>) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let (first, connect) = packet(&mut stream).await;
    assert_eq!(first >> 4, 1, "CONNECT");
    let login = b"\x00\x04lamp\x00\x07hunter2";
    assert!(connect.ends_with(login), "{connect:?}");
    stream.write_all(&[0x20, 2, 0, 0]).await.unwrap();
    let (first, publish) = packet(&mut stream).await;
    assert_eq!(first >> 4, 3, "PUBLISH");
    let length = usize::from(u16::from_be_bytes([publish[0], publish[1]]));
    let topic = String::from_utf8(publish[2..2 + length].to_vec()).unwrap();
    let rest = &publish[2 + length..];
    let (id, payload) = match first & 6 {
        0 => ([0, 0], rest),
        _ => ([rest[0], rest[1]], &rest[2..]),
    };
    (stream, topic, first & 0x0f, id, payload.to_vec())
}

async fn send(channel: &Channel, nodes: &[&str]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for message in channel.messages(&notice(nodes), "main") {
        let sent = timeout(DEADLINE, channel.send(&message)).await.unwrap();
        verdicts.push(sent.expect("MQTT is no HTTP"));
    }
    verdicts
}

#[tokio::test]
async fn a_notice_is_published_as_text_and_delivered_when_it_is_acknowledged() {
    let (listener, channel) = broker("retain = true").await;
    let serve = async {
        let (mut stream, topic, flags, id, payload) = take(&listener).await;
        assert_eq!((topic.as_str(), flags), ("lamps/web1", 0x03));
        let text = String::from_utf8(payload).unwrap();
        assert!(
            text.contains("disk-full") && text.contains("/data is full"),
            "{text}"
        );
        stream.write_all(&[0x40, 2, id[0], id[1]]).await.unwrap();
        assert_eq!(packet(&mut stream).await.0 >> 4, 14, "DISCONNECT");
    };
    let (verdicts, ()) = tokio::join!(send(&channel, &["web1"]), serve);
    assert_eq!(verdicts, [Verdict::Delivered]);
}

#[tokio::test]
async fn exactly_once_goes_through_its_four_steps() {
    let (listener, channel) = broker("qos = 2").await;
    let serve = async {
        let (mut stream, _, flags, id, _) = take(&listener).await;
        assert_eq!(flags, 0x04);
        stream.write_all(&[0x50, 2, id[0], id[1]]).await.unwrap();
        assert_eq!(packet(&mut stream).await, (0x62, id.to_vec()), "PUBREL");
        stream.write_all(&[0x70, 2, id[0], id[1]]).await.unwrap();
        assert_eq!(packet(&mut stream).await.0 >> 4, 14, "DISCONNECT");
    };
    let (verdicts, ()) = tokio::join!(send(&channel, &["web1"]), serve);
    assert_eq!(verdicts, [Verdict::Delivered]);
}

#[tokio::test]
async fn each_topic_gets_its_own_alerts_as_json() {
    let (listener, channel) = broker("format = \"json\"\nqos = 0").await;
    let serve = async {
        let mut keys = Vec::new();
        for (topic, count) in [("lamps/web1", 2), ("lamps/web2", 1)] {
            let (mut stream, found, flags, _, payload) = take(&listener).await;
            assert_eq!((found.as_str(), flags), (topic, 0));
            let document: Value = serde_json::from_slice(&payload).unwrap();
            assert_eq!(document["count"], count);
            keys.push(document["key"].as_str().unwrap().to_owned());
            assert_eq!(packet(&mut stream).await.0 >> 4, 14, "DISCONNECT");
        }
        assert_eq!(keys, ["main-42", "main-42-2"]);
    };
    let (verdicts, ()) = tokio::join!(send(&channel, &["web1", "web2", "web1"]), serve);
    assert_eq!(verdicts, [Verdict::Delivered, Verdict::Delivered]);
}

#[tokio::test]
async fn a_notice_whose_answer_is_lost_is_tried_again() {
    let (listener, channel) = broker("").await;
    let serve = async {
        let (stream, ..) = take(&listener).await;
        drop(stream);
        drop(listener);
    };
    let (verdicts, ()) = tokio::join!(send(&channel, &["web1"]), serve);
    let [Verdict::Retry { reason, .. }] = &verdicts[..] else {
        panic!("{verdicts:?}");
    };
    assert!(reason.contains("was lost before its answer"), "{reason}");
}

#[tokio::test]
async fn a_login_that_is_refused_is_told_at_once_and_is_the_channels_fault() {
    let (listener, channel) = broker("").await;
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_eq!(packet(&mut stream).await.0 >> 4, 1, "CONNECT");
        // Bad user name or password.
        stream.write_all(&[0x20, 2, 0, 4]).await.unwrap();
        stream
    };
    let (verdicts, _) = tokio::join!(send(&channel, &["web1"]), serve);
    let [Verdict::Broken { reason }] = &verdicts[..] else {
        panic!("{verdicts:?}");
    };
    assert!(
        reason.contains("refuses this user name or password") && reason.contains("password_file"),
        "{reason}"
    );
}

#[test]
fn a_channel_needs_a_login_of_its_own_and_a_topic_that_is_not_ours() {
    let check = |text: &str, words: &[&str]| {
        let error = open(&format!("type = \"mqtt\"\n{text}"))
            .map(drop)
            .unwrap_err();
        for word in words {
            assert!(error.contains(word), "{text}: {word} in {error}");
        }
        assert!(!error.contains("hunter2"), "{error}");
    };
    let bus = "[bus]\nurl = \"mqtt://127.0.0.1\"\nuser = \"a\"\npassword = \"hunter2\"";
    check(
        "topic = \"a\"",
        &["lamp.bus", "[notifier.channels.lamp.bus]", "may not"],
    );
    check(
        &format!("topic = \"a/#\"\n{bus}"),
        &["lamp.topic", "wildcards"],
    );
    check(
        &format!("topic = \"hostbus/v1/home/web1/alerts/x\"\n{bus}"),
        &["lamp.topic", "own topics"],
    );
    check(
        &format!("topic = \"a\"\nqos = 3\n{bus}"),
        &["lamp.qos", "0, 1 or 2"],
    );
    check(
        "topic = \"a\"\n[bus]\nurl = \"http://x\"",
        &["lamp.bus", "mqtt://"],
    );
}

/// A program of the system, which the Debian package `package` has.
fn program(name: &str, package: &str) -> std::path::PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let mut programs = folders.map(|folder| folder.join(name));
    let found = programs.find(|program| program.is_file());
    found.unwrap_or_else(|| {
        panic!("`{name}` is missing: install it with `apt-get install {package}`")
    })
}

/// Another process, which ends with the test.
struct Process(std::process::Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn mosquitto_keeps_what_is_retained_and_acknowledges_every_quality_of_service() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("mosquitto.conf");
    let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\n");
    std::fs::write(&settings, text).unwrap();
    let broker = std::process::Command::new(program("mosquitto", "mosquitto"))
        .arg("-c")
        .arg(&settings)
        .stderr(std::process::Stdio::null())
        .spawn();
    let _broker = Process(broker.unwrap());
    for qos in 0..=2 {
        let topic = format!("lamps/{qos}");
        let text = format!(
            "type = \"mqtt\"\ntopic = {topic:?}\nretain = true\nqos = {qos}\nformat = \"json\"\n\
             [bus]\nurl = \"mqtt://127.0.0.1:{port}\""
        );
        let channel = open(&text).unwrap();
        // It begins to listen while we try again.
        assert_eq!(
            send(&channel, &["web1"]).await,
            [Verdict::Delivered],
            "{qos}"
        );
        let port = port.to_string();
        let heard = std::process::Command::new(program("mosquitto_sub", "mosquitto-clients"))
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-t",
                &topic,
                "-C",
                "1",
                "-W",
                "60",
            ])
            .output()
            .unwrap();
        let document: Value = serde_json::from_slice(&heard.stdout).unwrap();
        assert_eq!(document["alerts"][0]["node"], "home.web1", "{qos}");
    }
}
