//! What is said of alerts, and what must be told of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::ensure;
use hostbus_tests::random::Random;
use hostbus_tests::sink::{Sink, Taken};
use serde_json::Value;

pub(crate) const NODES: u64 = 20;
/// The alerts of each node.
const NAMES: [&str; 2] = ["backup", "raid"];
const SEVERITIES: [&str; 3] = ["info", "warning", "critical"];
/// The longest pause between two changes.
const PAUSE_MS: u64 = 60;

/// What is told of an alert: how it stands and how bad it is.
type Word = (&'static str, &'static str);

/// One telling of an alert.
#[derive(Debug)]
#[expect(dead_code, reason = "its key is shown when a test fails")]
struct Telling {
    /// The place of its request among all that the endpoint took.
    at: usize,
    /// The message's own: notifier, notice and part.
    key: String,
    channel: String,
    state: String,
    severity: String,
    answered: bool,
}

impl Telling {
    fn word(&self) -> (&str, &str) {
        (&self.state, &self.severity)
    }
}

/// One kill of a notifier: how many requests were taken before it, and how many with those that it had
/// sent.
#[derive(Debug)]
pub(crate) struct Kill {
    pub(crate) before: usize,
    pub(crate) after: usize,
}

/// Requests that told something for a second time.
#[derive(Debug, Default)]
pub(crate) struct Again {
    /// The broker died with a change that it had passed on and not acknowledged: it was taken back, and
    /// said again.
    pub(crate) unsure: BTreeSet<usize>,
    /// The answer to the first time was lost.
    pub(crate) lost: BTreeSet<usize>,
    /// A notifier was killed in between: the requests by channel and kill.
    pub(crate) killed: BTreeMap<(String, usize), BTreeSet<usize>>,
}

/// What is said and what must be told.
#[derive(Default)]
pub(crate) struct Model {
    expected: BTreeMap<String, Vec<Word>>,
    told: BTreeMap<String, Vec<Telling>>,
    /// Changes that were said more than once: the alert, and the place among its words.
    unsure: BTreeSet<(String, usize)>,
    /// How many requests the endpoint took.
    pub(crate) seen: usize,
}

/// A change of one alert: `n1/backup`, and what is published.
pub(crate) struct Saying {
    /// How long it is waited before it is said.
    pub(crate) pause: Duration,
    pub(crate) alert: String,
    pub(crate) payload: String,
}

impl Model {
    /// Some alerts change, each once.
    pub(crate) fn change(&mut self, random: &mut Random) -> Vec<Saying> {
        let mut sayings: BTreeMap<String, String> = BTreeMap::new();
        for _ in 0..random.within(1..6) {
            let name = NAMES[random.place(NAMES.len())];
            let alert = format!("n{}/{name}", random.within(0..NODES));
            if sayings.contains_key(&alert) {
                continue;
            }
            let words = self.expected.entry(alert.clone()).or_default();
            let word = next_word(words.last().copied(), random);
            words.push(word);
            let (state, severity) = word;
            let payload = match state {
                "resolved" if random.once_in(2) => String::new(),
                _ => format!("{{\"state\": \"{state}\", \"severity\": \"{severity}\"}}"),
            };
            sayings.insert(alert, payload);
        }
        let sayings = sayings.into_iter();
        sayings
            .map(|(alert, payload)| Saying {
                pause: Duration::from_millis(random.within(0..PAUSE_MS)),
                alert,
                payload,
            })
            .collect()
    }

    /// How many changes were said.
    pub(crate) fn said(&self) -> usize {
        self.expected.values().map(Vec::len).sum()
    }

    /// The last change of `alert` had to be said more than once.
    pub(crate) fn unsure(&mut self, alert: &str) {
        let last = self.expected[alert].len() - 1;
        self.unsure.insert((alert.to_owned(), last));
    }

    /// Notes what the endpoint took since the last time.
    pub(crate) fn hear(&mut self, sink: &Sink) {
        for taken in sink.taken_from(self.seen) {
            for (alert, telling) in tellings(&taken, self.seen) {
                self.told.entry(alert).or_default().push(telling);
            }
            self.seen += 1;
        }
    }

    /// Compares what was told with what was said. An error where something is missing.
    pub(crate) fn compare(&self, kills: &[Kill]) -> anyhow::Result<Again> {
        let mut again = Again::default();
        for alert in self.told.keys() {
            ensure!(self.expected.contains_key(alert), "nobody raised {alert}");
        }
        for (alert, expected) in &self.expected {
            let told = self.told.get(alert).map_or(&[][..], Vec::as_slice);
            let mut next = 0;
            let mut last: Option<&Telling> = None;
            let mut used = BTreeSet::new();
            for telling in told {
                let word = telling.word();
                if let Some(last) = last.filter(|last| last.word() == word) {
                    let explains = |kill: &Kill| last.at < kill.after && telling.at >= kill.before;
                    let mut kills_of_it = (0..kills.len()).filter(|n| explains(&kills[*n]));
                    if !last.answered {
                        again.lost.insert(telling.at);
                    } else if let Some(kill) = kills_of_it.find(|n| used.insert(*n)) {
                        let place = (telling.channel.clone(), kill);
                        again.killed.entry(place).or_default().insert(telling.at);
                    } else {
                        panic!("{alert} was told twice without need: {told:#?}, kills {kills:?}");
                    }
                } else if expected.get(next).is_some_and(|next| *next == word) {
                    next += 1;
                } else if next > 0 && self.unsure.contains(&(alert.clone(), next - 1)) {
                    again.unsure.insert(telling.at);
                } else {
                    let next = expected.get(next);
                    panic!("{alert} was told {word:?} in the place of {next:?}: {told:#?}");
                }
                last = Some(telling);
            }
            let last = last.map(Telling::word);
            ensure!(
                next == expected.len() && last == expected.last().copied(),
                "{alert} misses {:?}",
                &expected[next..]
            );
        }
        Ok(again)
    }
}

/// What an alert comes to next: it rises, becomes worse, or ends.
fn next_word(last: Option<Word>, random: &mut Random) -> Word {
    let Some(("firing", severity)) = last else {
        return ("firing", SEVERITIES[random.place(SEVERITIES.len())]);
    };
    let worse = SEVERITIES
        .iter()
        .skip_while(|known| **known != severity)
        .nth(1);
    match worse.filter(|_| random.once_in(2)) {
        Some(worse) => ("firing", worse),
        None => ("resolved", severity),
    }
}

/// What a request tells, of each alert.
fn tellings(taken: &Taken, at: usize) -> Vec<(String, Telling)> {
    let text = |of: &Value, key: &str| of[key].as_str().unwrap_or_default().to_owned();
    let alerts = taken.body["alerts"].as_array().into_iter().flatten();
    alerts
        .map(|alert| {
            let node = text(alert, "node");
            let node = node.strip_prefix("home.").unwrap_or(&node);
            let telling = Telling {
                at,
                key: text(&taken.body, "key"),
                channel: text(&taken.body, "channel"),
                state: text(alert, "state"),
                severity: text(alert, "severity"),
                answered: taken.answered,
            };
            (format!("{node}/{}", text(alert, "rule")), telling)
        })
        .collect()
}
