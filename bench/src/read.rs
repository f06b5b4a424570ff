//! `read`: what a reader waits for, what comes over the wire, and what Redis spends on it.
//!
//! One node has a past at the default retention, made by writer and keeper; a thousand others have a
//! sample each. Every question is asked many times, each answer is waited for before the next.

use std::io::Write;
use std::sync::Arc;

use anyhow::ensure;
use hostbus_daemon::clock;
use hostbus_store::chart::{ChartQuery, Line};
use hostbus_store::{Appender, Entry, Reader, Tier};
use hostbus_wire::NodePath;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::load;
use crate::meter::Meter;
use crate::past::{DAY_MS, Days, HOUR_MS, Past};
use crate::store::Fresh;

/// The series that is read, and one of its fields.
const SERIES: &str = "cpu";
const FIELD: &str = "usage_percent";
/// How many points a chart wants.
const CHART_POINTS: usize = 500;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many nodes have a newest sample.
    #[arg(long, default_value_t = 1_000)]
    nodes: u32,
    /// How many days of the node with a past have a sample every ten seconds, 1 to 399.
    #[arg(long, default_value_t = 31)]
    days: u64,
    /// How often each question is asked.
    #[arg(long, default_value_t = 200)]
    times: u32,
    /// Within a minute: a past of 35 days, each question 20 times.
    #[arg(long)]
    quick: bool,
    /// Print the figures as JSON on the last line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let figures = runtime.block_on(measure(args))?;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{:<40} {:>10} {:>9} {:>9} {:>12} {:>10} {:>10}",
        "question", "answers", "p50 ms", "p99 ms", "bytes", "Redis ms", "reader ms"
    )?;
    for told in figures["questions"].as_array().into_iter().flatten() {
        let question = told["question"].as_str().unwrap_or_default();
        let number = |name: &str| told[name].as_f64().unwrap_or_default();
        writeln!(
            out,
            "{question:<40} {:>10.0} {:>9.2} {:>9.2} {:>12.0} {:>10.3} {:>10.3}",
            number("answers"),
            number("p50_ms"),
            number("p99_ms"),
            number("bytes"),
            number("redis_cpu_ms"),
            number("own_cpu_ms")
        )?;
    }
    if args.json {
        writeln!(out, "{figures}")?;
    }
    Ok(())
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
enum Question {
    /// The newest sample of every node.
    Latest,
    /// The rows of one series in a tier, one field or all of them.
    Rows {
        tier: Tier,
        whole: bool,
        span_ms: u64,
    },
    /// A chart of one field.
    Chart { span_ms: u64 },
    /// Charts of all fields of all series.
    Page { span_ms: u64 },
}

const QUESTIONS: [(&str, Question); 15] = {
    const fn rows(tier: Tier, whole: bool, span_ms: u64) -> Question {
        Question::Rows {
            tier,
            whole,
            span_ms,
        }
    }
    const fn chart(span_ms: u64) -> Question {
        Question::Chart { span_ms }
    }
    [
        ("latest of all nodes", Question::Latest),
        ("chart of a field, 1 h", chart(HOUR_MS)),
        ("chart of a field, 24 h", chart(DAY_MS)),
        ("chart of a field, 7 d", chart(7 * DAY_MS)),
        ("chart of a field, 30 d", chart(30 * DAY_MS)),
        ("chart of a field, 400 d", chart(400 * DAY_MS)),
        (
            "a host's page: all series, 24 h",
            Question::Page { span_ms: DAY_MS },
        ),
        ("every row of a field, 1 h", rows(Tier::Raw, false, HOUR_MS)),
        ("every row of a field, 24 h", rows(Tier::Raw, false, DAY_MS)),
        (
            "every row of a field, 7 d",
            rows(Tier::Raw, false, 7 * DAY_MS),
        ),
        (
            "every row of a field, 30 d",
            rows(Tier::Raw, false, 30 * DAY_MS),
        ),
        ("every row of a series, 24 h", rows(Tier::Raw, true, DAY_MS)),
        (
            "every row of a series, 30 d",
            rows(Tier::Raw, true, 30 * DAY_MS),
        ),
        (
            "every ten minutes of a series, 90 d",
            rows(Tier::TenMinutes, true, 90 * DAY_MS),
        ),
        (
            "every hour of a series, 400 d",
            rows(Tier::Hour, true, 400 * DAY_MS),
        ),
    ]
};

async fn measure(args: &Args) -> anyhow::Result<Value> {
    let (days, times) = if args.quick {
        (Days::quick(), 20)
    } else {
        (Days::whole(args.days)?, args.times.max(1))
    };
    let mut fresh = Fresh::start(days.retention()).await?;
    let now_ms = clock::unix_ms();
    let past = Past::make(&fresh.store, &fresh.server, days, now_ms).await?;
    add_nodes(&fresh, args.nodes, now_ms).await?;
    let asker = Asker {
        reader: Reader::open(&fresh.store)?,
        node: Arc::clone(&past.node),
        series: past.series.iter().map(|(name, _)| name.clone()).collect(),
        now_ms,
    };
    let mut told = Vec::new();
    for (name, question) in QUESTIONS {
        // The first time connects, and warms caches.
        let answers = asker.ask(question).await?;
        ensure!(answers > 0, "`{name}` has no answer");
        let mut took_ms = Vec::new();
        let before = fresh.server.sent_bytes().await?;
        let own = fresh.server.sent_bytes().await? - before;
        let meter = Meter::begin(&fresh.server)?;
        for _ in 0..times {
            let begun = Instant::now();
            asker.ask(question).await?;
            took_ms.push(begun.elapsed().as_secs_f64() * 1_000.0);
        }
        let cost = meter.end(&fresh.server)?;
        // Less what the question about the bytes costs itself, twice.
        let bytes = fresh
            .server
            .sent_bytes()
            .await?
            .saturating_sub(before + 2 * own);
        took_ms.sort_by(f64::total_cmp);
        let each = f64::from(times);
        told.push(json!({
            "question": name,
            "answers": answers,
            "p50_ms": within(&took_ms, 0.5),
            "p99_ms": within(&took_ms, 0.99),
            "bytes": bytes as f64 / each,
            "redis_cpu_ms": cost.redis_cpu * 1_000.0 / each,
            "own_cpu_ms": cost.own_cpu * 1_000.0 / each,
        }));
    }
    fresh.stop().await;
    Ok(json!({
        "nodes": args.nodes,
        "days": days.dense,
        "times": times,
        "questions": told,
    }))
}

/// What `share` of the sorted values stay within.
fn within(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * share).ceil() as usize).copied()
}

struct Asker {
    reader: Reader,
    node: Arc<NodePath>,
    series: Vec<String>,
    now_ms: u64,
}

impl Asker {
    /// Asks, and gives how many nodes, rows or points the answer has.
    async fn ask(&self, question: Question) -> anyhow::Result<usize> {
        match question {
            Question::Latest => Ok(self.reader.nodes().await?.len()),
            Question::Rows {
                tier,
                whole,
                span_ms,
            } => {
                let from_ms = self.now_ms - span_ms;
                let fields = [FIELD];
                let fields = (!whole).then_some(&fields[..]);
                let mut scan =
                    self.reader
                        .scan_tier(&self.node, SERIES, tier, fields, from_ms, self.now_ms);
                let mut rows = 0;
                while let Some(page) = scan.next_frame().await? {
                    ensure!(page.broken_blocks == 0, "a block that can't be read");
                    rows += page.frame.len();
                }
                Ok(rows)
            }
            Question::Chart { span_ms } => {
                let line = self.line(SERIES, &[FIELD]);
                self.chart(vec![line], span_ms).await
            }
            Question::Page { span_ms } => {
                let lines = self.series.iter().map(|series| self.line(series, &[]));
                self.chart(lines.collect(), span_ms).await
            }
        }
    }

    fn line(&self, series: &str, fields: &[&str]) -> Line {
        Line {
            node: NodePath::clone(&self.node),
            series: series.to_owned(),
            fields: fields.iter().map(|&field| field.to_owned()).collect(),
        }
    }

    async fn chart(&self, lines: Vec<Line>, span_ms: u64) -> anyhow::Result<usize> {
        let query = ChartQuery {
            lines,
            from_ms: self.now_ms - span_ms,
            to_ms: self.now_ms,
            points: CHART_POINTS,
            tier: None,
        };
        let mut points = 0;
        for chart in self.reader.chart(&query).await? {
            ensure!(chart.broken_blocks == 0, "a block that can't be read");
            points += chart.times_ms.len() * chart.curves.len();
        }
        Ok(points)
    }
}

/// Adds nodes that have one sample each.
async fn add_nodes(fresh: &Fresh, nodes: u32, now_ms: u64) -> anyhow::Result<()> {
    let mut appender = Appender::open(&fresh.store, 100)?;
    let mut entries = Vec::new();
    for number in 0..nodes {
        entries.push(Entry {
            node: Arc::new(format!("bench.n{number}").parse()?),
            at_ms: now_ms,
            own_time: false,
            sample: load::sample(u64::from(number) + 1),
            step: None,
        });
    }
    appender.append(&mut entries, now_ms).await?;
    appender.commit_all().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_values_stays_within_one_of_them() {
        let sorted: Vec<f64> = (1..=101).map(f64::from).collect();
        assert_eq!(within(&sorted, 0.5), Some(51.0));
        assert_eq!(within(&sorted, 0.99), Some(100.0));
        assert_eq!(within(&sorted, 1.0), Some(101.0));
        assert_eq!(within(&[7.0], 0.99), Some(7.0));
        assert_eq!(within(&[], 0.5), None);
    }
}
