//! A broker with its HTTP port, an HTTP client as simple as can be, and a strict reader of
//! Prometheus's text format.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    clippy::unwrap_used,
    reason = "test code of which each binary uses its own part"
)]

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hostbus_broker::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::raw::{Broker, DEADLINE, broker};

/// A broker with its HTTP port. It publishes its figures at its start and then no more, unless
/// `change` says so.
pub async fn measured(change: impl FnOnce(&mut Config)) -> (Broker, SocketAddr) {
    let broker = broker(|config| {
        config.metrics_listen = Some(([127, 0, 0, 1], 0).into());
        config.sys_interval_seconds = 86_400;
        change(config);
    })
    .await;
    let metrics = *broker.running.addresses().last().unwrap();
    assert_ne!(metrics, broker.address);
    let begun = Instant::now();
    while value(metrics, "hostbus_broker_retained_messages").await < 50.0 {
        assert!(begun.elapsed() < DEADLINE, "the first figures");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (broker, metrics)
}

/// One figure.
pub async fn value(metrics: SocketAddr, name: &str) -> f64 {
    let figures = figures(metrics).await;
    *figures
        .get(name)
        .unwrap_or_else(|| panic!("{name} in {figures:?}"))
}

/// Waits until the figure is as expected.
pub async fn reaches(metrics: SocketAddr, name: &str, expected: f64) {
    let begun = Instant::now();
    loop {
        let now = value(metrics, name).await;
        if now == expected {
            return;
        }
        assert!(
            begun.elapsed() < DEADLINE,
            "{name} is {now}, not {expected}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// Sends `request` as it is and reads until the other end closes. `None` when that came before any
/// answer.
pub async fn ask(address: SocketAddr, request: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(request).await;
    let mut bytes = Vec::new();
    // A reset after the answer is no matter.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut bytes))
        .await
        .expect("the answer in time");
    if bytes.is_empty() {
        return None;
    }
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap();
    let status = status
        .strip_prefix("HTTP/1.1 ")
        .or(status.strip_prefix("HTTP/1.0 "));
    let headers = lines.map(|line| line.split_once(": ").unwrap());
    Some(Answer {
        status: status.unwrap()[..3].parse().unwrap(),
        headers: headers
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect(),
        body: body.to_owned(),
    })
}

/// `GET path`.
pub async fn get(address: SocketAddr, path: &str) -> Option<Answer> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    ask(address, request.as_bytes()).await
}

/// The figures, by name with labels.
pub async fn figures(address: SocketAddr) -> BTreeMap<String, f64> {
    let answer = get(address, "/metrics").await.expect("an answer");
    assert_eq!(answer.status, 200);
    read(&answer.body)
}

/// Reads the text format 0.0.4, and accepts no more than it says and no less than Prometheus asks
/// of good names.
pub fn read(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with('\n') && !text.contains('\r'));
    let mut samples = BTreeMap::new();
    let mut families = HashSet::new();
    let (mut family, mut kind) = ("", "");
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect(line);
            assert!(is_name(name) && !help.trim().is_empty(), "{line}");
            assert!(!help.contains('\\'), "{line}");
            assert!(families.insert(name), "a family twice: {line}");
            (family, kind) = (name, "");
            continue;
        }
        if let Some(told) = line.strip_prefix("# TYPE ") {
            let (name, told) = told.split_once(' ').expect(line);
            assert_eq!((name, kind), (family, ""), "{line}");
            assert!(["counter", "gauge", "histogram"].contains(&told), "{line}");
            assert_eq!(told == "counter", name.ends_with("_total"), "{line}");
            kind = told;
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect(line);
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').expect(line)),
            None => (series, ""),
        };
        assert!(is_name(name), "{line}");
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (label, value) = label.split_once('=').expect(line);
            assert!(is_name(label) && !label.contains(':'), "{line}");
            let inner = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
            assert!(!inner.expect(line).contains(['"', '\\', '\n']), "{line}");
        }
        let of_family = match kind {
            "histogram" => ["_bucket", "_sum", "_count"]
                .iter()
                .any(|end| name.strip_suffix(end) == Some(family)),
            _ => name == family,
        };
        assert!(of_family && !kind.is_empty(), "outside its family: {line}");
        let value: f64 = value.parse().expect(line);
        assert!(value.is_finite() && value >= 0.0, "{line}");
        let twice = samples.insert(series.to_owned(), value);
        assert_eq!(twice, None, "a sample twice: {line}");
    }
    check_histogram(text, &samples);
    samples
}

fn check_histogram(text: &str, samples: &BTreeMap<String, f64>) {
    let (mut last, mut last_bound) = (0.0, 0.0);
    let mut buckets = 0;
    for line in text.lines().filter(|line| line.contains("_bucket{le=")) {
        let bound = line.split('"').nth(1).unwrap();
        let bound: f64 = bound.replace('+', "").to_lowercase().parse().unwrap();
        let value: f64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
        assert!(value >= last && bound > last_bound, "{line}");
        (last, last_bound) = (value, bound);
        buckets += 1;
    }
    assert!(buckets > 2 && last_bound.is_infinite());
    assert_eq!(samples["hostbus_broker_matching_seconds_count"], last);
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}
