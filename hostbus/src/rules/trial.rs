//! `hostbus rules test`: what rules would have raised on a node's history.

use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;

use anyhow::{bail, ensure};
use hostbus_daemon::{clock, exit};
use hostbus_notifier::replay::{Episode, Outcome, Replay, can_replay};
use hostbus_notifier::rule::{Rule, Watch, duration};
use hostbus_store::{Reader, StoreConfig, Tier};
use hostbus_wire::NodePath;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::args::TestArgs;
use super::past::{Past, Wanted};
use super::rules_of;
use crate::history::span::{Stretch, shown};
use crate::{history, reach};

/// The interval of rows as they came whose sample does not tell it.
const USUAL_INTERVAL_MS: u64 = 10_000;

type Rules = Vec<Arc<Rule>>;

/// What was tried, and what came of it.
struct Trial {
    node: NodePath,
    stretch: Stretch,
    tier: Tier,
    tested: Rules,
    untested: Rules,
    outcome: Outcome,
}

pub(super) async fn test(args: &TestArgs) -> anyhow::Result<u8> {
    let (tested, untested) = chosen(args)?;
    let (zone, now_ms) = (TimeZone::system(), clock::unix_ms());
    let stretch = Stretch::read(&args.since, args.until.as_deref(), now_ms, &zone)?;
    let store = reach::store(&args.redis, args.data.as_deref())?;
    let reader = Reader::open(&store)?;
    let node = history::find(&args.node, &reader.nodes().await?)?;
    let tier = args
        .tier
        .unwrap_or_else(|| finest(&store, stretch.from_ms, now_ms));
    let interval_ms = match tier.span_ms() {
        Some(span_ms) => span_ms,
        None => {
            let last = reader.last(&node).await?;
            let told = last.and_then(|sample| sample.interval_ms);
            told.map_or(USUAL_INTERVAL_MS, u64::from)
        }
    };
    let rules: Vec<&Rule> = tested.iter().map(AsRef::as_ref).collect();
    let wanted = Wanted {
        node: &node,
        rules: &rules,
        tier,
        from_ms: stretch.from_ms,
        until_ms: stretch.until_ms,
    };
    let mut past = Past::open(&reader, &wanted).await?;
    let mut replay = Replay::new(&node, tested.clone(), &args.groups);
    while let Some((at_ms, mut sample)) = past.next().await? {
        sample.interval_ms = u32::try_from(interval_ms).ok();
        replay.sample(&sample, at_ms);
    }
    if past.malformed > 0 {
        let malformed = past.malformed;
        tracing::warn!(malformed, "rows in Redis that can't be read were left out");
    }
    let trial = Trial {
        outcome: replay.finish(stretch.until_ms),
        node,
        stretch,
        tier,
        tested,
        untested,
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&trial.object())?)?;
    } else {
        write!(out, "{}", trial.text(&zone))?;
    }
    Ok(exit::OK)
}

/// The rules to test, and those that history says nothing about.
fn chosen(args: &TestArgs) -> anyhow::Result<(Rules, Rules)> {
    let written = rules_of(&args.file)?;
    let names: Vec<String> = written.iter().map(|one| one.name.to_string()).collect();
    let rules = written
        .into_iter()
        .filter(|one| args.rule.as_deref().is_none_or(|name| *one.name == *name))
        .filter_map(|one| one.rule);
    let (tested, untested): (Vec<_>, Vec<_>) = rules.partition(|rule| can_replay(rule));
    if let Some(name) = &args.rule {
        ensure!(
            names.contains(name),
            "{} has no rule `{name}`; it has: {}",
            args.file.display(),
            names.join(", ")
        );
    }
    if tested.is_empty() {
        let reason = match untested.first() {
            Some(rule) => format!("history says nothing about {}", rule.watch.name()),
            None => "they are switched off".to_owned(),
        };
        bail!("no rule of {} can be tested: {reason}", args.file.display());
    }
    Ok((tested, untested))
}

/// The finest tier that reaches back to `from_ms`.
fn finest(store: &StoreConfig, from_ms: u64, now_ms: u64) -> Tier {
    let reaches = |tier: &Tier| store.retention.of(*tier).cutoff_ms(now_ms) <= from_ms;
    let found = Tier::ALL.into_iter().find(reaches);
    found.unwrap_or(Tier::Hour)
}

impl Trial {
    fn text(&self, zone: &TimeZone) -> String {
        let mut text = String::new();
        if !self.outcome.episodes.is_empty() {
            let head = ["RULE", "INSTANCE", "SEVERITY"];
            let rows: Vec<[&str; 3]> = self
                .outcome
                .episodes
                .iter()
                .map(|one| {
                    let instance = one.instance.as_deref().unwrap_or("-");
                    [&*one.rule, instance, one.severity.as_str()]
                })
                .collect();
            let width = |column: usize| {
                let cells = rows.iter().chain([&head]);
                cells
                    .map(|row| row[column].chars().count())
                    .max()
                    .unwrap_or_default()
            };
            let widths = [width(0), width(1), width(2)];
            let mut line = |cells: &[&str; 3], rest: [&str; 4]| {
                // Writing to a String can't fail, here and below.
                for (cell, width) in cells.iter().zip(widths) {
                    let _ = write!(text, "{cell:<width$}  ");
                }
                let [from, until, lasted, worst] = rest;
                let _ = writeln!(text, "{from:<19}  {until:<19}  {lasted:<9}  {worst}");
            };
            line(&head, ["FIRED", "UNTIL", "FOR", "WORST"]);
            for (cells, one) in rows.iter().zip(&self.outcome.episodes) {
                let until = one
                    .ended_ms
                    .map_or_else(|| "still".to_owned(), |ms| shown(ms, zone));
                let lasted_ms = self.lasted_ms(one);
                // Who looks at hours does not look at milliseconds.
                let lasted = duration::text(lasted_ms - lasted_ms % 1000);
                let fired = shown(one.fired_ms, zone);
                line(cells, [&fired, &until, &lasted, &worst(one)]);
            }
        }
        let Outcome {
            episodes,
            more,
            passed,
            samples,
        } = &self.outcome;
        let fired = episodes.len() as u64 + more;
        let _ = writeln!(
            text,
            "{} on {} since {}: {samples} rows ({}), {fired} would have fired, {passed} passed before their time",
            counted(self.tested.len(), "rule"),
            self.node,
            shown(self.stretch.from_ms, zone),
            self.tier.name(),
        );
        if *more > 0 {
            let _ = writeln!(text, "{more} are not shown");
        }
        if *samples == 0 {
            let _ = writeln!(
                text,
                "no row of what the rules watch: look with `hostbus history {}`",
                self.node
            );
        }
        for name in self.by_holes() {
            let _ = writeln!(
                text,
                "{name} was tested by holes between rows alone: a host that was shut down looks as one that was down"
            );
        }
        for rule in &self.untested {
            let (name, metric) = (&rule.name, rule.watch.name());
            let _ = writeln!(
                text,
                "{name} was not tested: history says nothing about {metric}"
            );
        }
        text
    }

    /// The rules that wait for rows that do not come.
    fn by_holes(&self) -> Vec<String> {
        let rules = self.tested.iter();
        let down = rules.filter(|rule| matches!(rule.watch, Watch::Down));
        down.map(|rule| rule.name.to_string()).collect()
    }

    fn object(&self) -> Value {
        let names = |rules: &[Arc<Rule>]| -> Vec<String> {
            rules.iter().map(|rule| rule.name.to_string()).collect()
        };
        let alerts: Vec<Value> = self
            .outcome
            .episodes
            .iter()
            .map(|one| {
                json!({
                    "rule": one.rule,
                    "instance": one.instance,
                    "severity": one.severity.as_str(),
                    "began": one.began_ms,
                    "fired": one.fired_ms,
                    "ended": one.ended_ms,
                    "lasted_ms": self.lasted_ms(one),
                    "worst": one.worst,
                    "threshold": one.threshold,
                    "summary": one.summary,
                })
            })
            .collect();
        json!({
            "node": self.node,
            "from": self.stretch.from_ms,
            "until": self.stretch.until_ms,
            "tier": self.tier.name(),
            "rows": self.outcome.samples,
            "tested": names(&self.tested),
            "by_holes": self.by_holes(),
            "untested": names(&self.untested),
            "alerts": alerts,
            "alerts_left_out": self.outcome.more,
            "passed": self.outcome.passed,
        })
    }

    fn lasted_ms(&self, episode: &Episode) -> u64 {
        let ended_ms = episode.ended_ms.unwrap_or(self.stretch.until_ms);
        ended_ms.saturating_sub(episode.fired_ms)
    }
}

fn worst(episode: &Episode) -> String {
    match (episode.worst, episode.threshold) {
        (Some(worst), Some(threshold)) => format!("{worst} (threshold {threshold})"),
        (Some(worst), None) => worst.to_string(),
        _ => "-".to_owned(),
    }
}

fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use hostbus_wire::alert::AlertSeverity;

    use super::*;

    #[test]
    fn the_table_tells_when_for_how_long_and_how_bad() {
        let text = b"[[rule]]\nname = \"load\"\nmetric = \"cpu.load1\"\nwarning = { above = 4 }";
        let rules = hostbus_notifier::rule::document::read(text).unwrap();
        let episode = Episode {
            rule: "load".into(),
            instance: None,
            severity: AlertSeverity::Warning,
            began_ms: 500,
            fired_ms: 1_000,
            ended_ms: Some(91_250),
            worst: Some(9.5),
            threshold: Some(4.0),
            summary: "high".to_owned(),
        };
        let open = Episode {
            ended_ms: None,
            worst: None,
            fired_ms: 100_000,
            ..episode.clone()
        };
        let trial = Trial {
            node: "home.web1".parse().unwrap(),
            stretch: Stretch {
                from_ms: 0,
                until_ms: 160_000,
            },
            tier: Tier::Raw,
            tested: rules.into_iter().filter_map(|one| one.rule).collect(),
            untested: Vec::new(),
            outcome: Outcome {
                episodes: vec![episode, open],
                samples: 16,
                passed: 1,
                more: 0,
            },
        };
        let text = trial.text(&TimeZone::UTC);
        assert_eq!(
            text,
            "RULE  INSTANCE  SEVERITY  FIRED                UNTIL                FOR        WORST\n\
             load  -         warning   1970-01-01 00:00:01  1970-01-01 00:01:31  1m30s      9.5 (threshold 4)\n\
             load  -         warning   1970-01-01 00:01:40  still                1m         -\n\
             1 rule on home.web1 since 1970-01-01 00:00:00: 16 rows (raw), 2 would have fired, 1 passed before their time\n"
        );
        assert_eq!(trial.object()["alerts"][1]["lasted_ms"], 60_000);
    }
}
