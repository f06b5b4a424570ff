//! `collectors`: every collector with its state, its interval and what a turn of it costs here.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use hostbus_publisher::{CollectorReport, Config};
use serde::Serialize;

/// All collectors of this host.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    collectors: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    /// `on`, or why there is nothing from it.
    state: String,
    interval_seconds: f64,
    /// How many numbers its turn gave.
    points: usize,
    /// What its turn took; absent when it had none.
    #[serde(skip_serializing_if = "Option::is_none")]
    elapsed_us: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_us: Option<u128>,
}

impl Table {
    /// Asks every collector twice, `apart` from each other: rates need two readings.
    pub(crate) async fn of(config: &Config, apart: Duration) -> Result<Self> {
        let (_, reports) = hostbus_publisher::once(config, apart).await?;
        let rows = reports.into_iter().map(|report| Row::of(config, &report));
        Ok(Self {
            collectors: rows.collect(),
        })
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let width = self.collectors.iter().map(|row| row.name.len()).max();
        let width = width.unwrap_or(0).max("COLLECTOR".len());
        let mut text = format!(
            "{:width$}  {:>10}  {:>6}  {:>8}  {:>8}  STATE",
            "COLLECTOR", "INTERVAL", "POINTS", "TOOK", "CPU"
        );
        let time = |us: Option<u128>| us.map_or("-".to_owned(), |us| format!("{us} µs"));
        for row in &self.collectors {
            let _ = write!(
                text,
                "\n{:width$}  {:>10}  {:>6}  {:>8}  {:>8}  {}",
                row.name,
                format!("{} s", row.interval_seconds),
                row.points,
                time(row.elapsed_us),
                time(row.cpu_us),
                row.state
            );
        }
        text
    }
}

impl Row {
    fn of(config: &Config, report: &CollectorReport) -> Self {
        Self {
            name: report.name,
            state: report.state.to_string(),
            interval_seconds: config.interval_of(report.name).as_secs_f64(),
            points: report.points,
            elapsed_us: report.cost.map(|cost| cost.elapsed.as_micros()),
            cpu_us: report.cost.map(|cost| cost.cpu.as_micros()),
        }
    }
}
