//! The figures in the text format of Prometheus, version 0.0.4.
//!
//! ```text
//! # HELP hostbus_broker_messages_dropped_total Messages that did not …
//! # TYPE hostbus_broker_messages_dropped_total counter
//! hostbus_broker_messages_dropped_total{cause="queue_full"} 17
//! ```
//! Nothing in it comes from a client: names, labels and texts are the broker's own.

use std::fmt::{Display, Write};

use crate::figures::{Figure, Kind, figures};
use crate::histogram::{BOUNDS_NS, Measured};
use crate::hub::Hub;
use crate::process::{self, Usage};

/// What HTTP calls this format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const MATCHING: &str = "hostbus_broker_matching_seconds";

/// The name of a figure: a counter's ends with `_total`.
pub(crate) fn name(figure: &Figure) -> String {
    let total = match figure.kind {
        Kind::Counter => "_total",
        Kind::Gauge => "",
    };
    format!("hostbus_broker_{}{total}", figure.name)
}

/// All that the broker tells.
pub(crate) fn text(hub: &Hub) -> String {
    let mut page = Page::default();
    page.family(
        "hostbus_broker_info",
        Kind::Gauge.text(),
        "The broker's version; always 1.",
    );
    let version = concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}");
    page.value("hostbus_broker_info", version, 1);
    let mut last = None;
    for figure in figures(hub) {
        let name = name(&figure);
        if last != Some(figure.name) {
            page.family(&name, figure.kind.text(), figure.help);
            last = Some(figure.name);
        }
        match figure.cause {
            Some(cause) => page.value(&name, &format!("{{cause=\"{cause}\"}}"), figure.value),
            None => page.value(&name, "", figure.value),
        }
    }
    page.matching(&hub.counters().matching.measured());
    if let Some(usage) = process::usage() {
        page.process(&usage);
    }
    page.text
}

impl Kind {
    fn text(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

#[derive(Debug, Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.text
            .write_fmt(line)
            .expect("writing to a string never fails");
        self.text.push('\n');
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {}", help.trim()));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn value(&mut self, name: &str, labels: &str, value: impl Display) {
        self.line(format_args!("{name}{labels} {value}"));
    }

    fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind.text(), help);
        self.value(name, "", value);
    }

    fn matching(&mut self, measured: &Measured) {
        let help = "Time to find a message's subscribers; one message in 64 is timed.";
        self.family(MATCHING, "histogram", help);
        let bucket = format!("{MATCHING}_bucket");
        let mut so_far = 0;
        for (bound, count) in BOUNDS_NS.into_iter().zip(measured.buckets) {
            so_far += count;
            let bound = seconds(bound);
            self.value(&bucket, &format!("{{le=\"{bound}\"}}"), so_far);
        }
        let count = measured.count();
        self.value(&bucket, "{le=\"+Inf\"}", count);
        self.value(&format!("{MATCHING}_sum"), "", seconds(measured.sum_ns));
        self.value(&format!("{MATCHING}_count"), "", count);
    }

    /// Names and meanings are those of the Prometheus client libraries.
    fn process(&mut self, usage: &Usage) {
        self.single(
            "process_resident_memory_bytes",
            Kind::Gauge,
            "Resident memory size in bytes.",
            usage.resident_bytes,
        );
        self.single(
            "process_cpu_seconds_total",
            Kind::Counter,
            "Total user and system CPU time spent in seconds.",
            usage.cpu_seconds,
        );
        self.single(
            "process_start_time_seconds",
            Kind::Gauge,
            "Start time of the process since unix epoch in seconds.",
            usage.started_seconds,
        );
        self.single(
            "process_open_fds",
            Kind::Gauge,
            "Number of open file descriptors.",
            usage.open_files,
        );
        if let Some(most) = usage.most_open_files {
            self.single(
                "process_max_fds",
                Kind::Gauge,
                "Maximum number of open file descriptors.",
                most,
            );
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to 104 days of matching"
)]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
