//! Which actors play, and how every run ends: all that is due arrives, nothing wrong was seen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::packet::Version;
use super::publisher::Publisher;
use super::stage::{Phase, Stage};
use super::subscriber::Subscriber;

/// No message for so long: nothing more will come.
const SILENCE: Duration = Duration::from_secs(2);

/// How long nothing may arrive while something is due.
const DRAIN: Duration = Duration::from_secs(120);

/// How the checked actors are.
#[derive(Debug, Clone, Copy)]
pub struct Cast {
    /// Publishers.
    pub publishers: usize,
    /// The longest pause between their bursts, in milliseconds.
    pub pause_ms: u64,
    /// Everybody dies once in so many steps.
    pub misbehaves_in: u64,
    /// The longest time that a subscriber stays away, in milliseconds.
    pub away_ms: u64,
}

/// The actors that are at work.
#[derive(Debug, Default)]
pub struct Playing {
    publishers: JoinSet<()>,
    subscribers: JoinSet<()>,
}

fn version(number: usize) -> Version {
    [Version::V5, Version::V311][number % 2]
}

impl Cast {
    /// Lets the subscribers begin, waits until the shared groups stand, and lets the publishers
    /// begin.
    ///
    /// # Panics
    /// The groups do not come to stand.
    pub async fn enter(self, stage: &Arc<Stage>) -> Playing {
        let mut playing = Playing::default();
        for (actor, subscriber) in (0..).zip(self.sessions(stage)) {
            let run = subscriber.run(Arc::clone(stage), actor);
            playing.subscribers.spawn(run);
        }
        let (steady, churning) = self.groups(stage);
        let begun = Instant::now();
        for (actor, subscriber) in (100..).zip(steady.into_iter().chain(churning)) {
            let receiver = subscriber.receiver;
            let run = subscriber.run(Arc::clone(stage), actor);
            playing.subscribers.spawn(run);
            // The first of a group is the one that is always a member.
            while !stage.ledger().has_subscription(receiver) {
                assert!(
                    begun.elapsed() < DRAIN,
                    "no shared group: {:#?}",
                    stage.ledger().violations()
                );
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        for index in 0..self.publishers {
            let publisher = Publisher {
                number: stage.ledger().add_publisher(),
                version: version(index),
                pause_ms: self.pause_ms,
                misbehaves_in: self.misbehaves_in,
            };
            playing.publishers.spawn(publisher.run(Arc::clone(stage)));
        }
        playing
    }

    /// Sessions, each for itself.
    fn sessions(self, stage: &Stage) -> Vec<Subscriber> {
        let filters: [&[(&str, u8)]; 6] = [
            &[("chaos/t/#", 2)],
            &[("chaos/t/0/+", 2), ("chaos/t/+/1", 1)],
            &[("chaos/t/+/0", 1), ("chaos/t/1/#", 2)],
            &[("chaos/t/#", 1)],
            &[("chaos/+/2/#", 2)],
            &[("chaos/t/2/0", 0), ("chaos/t/3/#", 1)],
        ];
        let toggled = [None, Some("chaos/t/3/#"), Some("chaos/t/+/2"), None];
        (0..12)
            .map(|number| {
                let id = format!("subscriber-{number}");
                Subscriber {
                    version: version(number / 6),
                    receiver: stage.ledger().add_session(&id),
                    id,
                    filters: filters[number % 6]
                        .iter()
                        .map(|(filter, qos)| ((*filter).to_owned(), *qos))
                        .collect(),
                    toggled: toggled[number % 4].map(str::to_owned),
                    persistent: true,
                    misbehaves_in: self.misbehaves_in,
                    slow: number % 6 == 3,
                    away_ms: self.away_ms,
                }
            })
            .collect()
    }

    /// A group whose members stay, and one whose members die, leave for good and come back.
    fn groups(self, stage: &Stage) -> (Vec<Subscriber>, Vec<Subscriber>) {
        let of_group = |name: &str, filter: &str, dies: bool| -> Vec<Subscriber> {
            let receiver = stage.ledger().add_group(&format!("group {name}"), dies);
            let filter = format!("$share/{name}/{filter}");
            let members = (0..4).map(|number| Subscriber {
                id: format!("{name}-{number}"),
                version: version(number),
                receiver,
                filters: vec![(filter.clone(), 2)],
                toggled: None,
                // What was given to a session that ends with the broker may end with it.
                persistent: !dies || number < 2 || stage.broker_dies(),
                misbehaves_in: if dies { self.misbehaves_in } else { 0 },
                slow: false,
                away_ms: self.away_ms,
            });
            members.collect()
        };
        (
            of_group("steady", "chaos/t/#", false),
            of_group("churning", "chaos/t/+/+", true),
        )
    }
}

impl Playing {
    /// Lets everybody come to an end. Returns once all that is due has arrived.
    ///
    /// # Panics
    /// Something that was acknowledged did not arrive, or an actor failed.
    pub async fn settle(mut self, stage: &Stage) {
        stage.begin(Phase::Settle);
        let publishers = async {
            while let Some(ended) = self.publishers.join_next().await {
                ended.expect("a publisher");
            }
        };
        let ended = tokio::time::timeout(DRAIN, publishers).await;
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            // A slow reader on a busy machine may take long; what counts is that it goes on.
            let silence = stage.ledger().last_receipt().elapsed();
            let (some, count) = stage.ledger().missing();
            if silence > SILENCE && count == 0 {
                break;
            }
            assert!(
                silence < DRAIN,
                "{count} messages that were acknowledged did not arrive:\n{}\nand seen before: {:#?}",
                some.join("\n"),
                stage.ledger().violations()
            );
        }
        stage.begin(Phase::Over);
        assert!(ended.is_ok(), "publishers wait for answers that don't come");
        while let Some(ended) = self.subscribers.join_next().await {
            ended.expect("a subscriber");
        }
    }
}

/// Fails when anything wrong was seen.
///
/// # Panics
/// Something was.
#[track_caller]
pub fn expect_no_violations(stage: &Stage) {
    let ledger = stage.ledger();
    let (violations, more) = ledger.violations();
    assert!(
        violations.is_empty(),
        "{} violations and {more} more:\n{}",
        violations.len(),
        violations.join("\n")
    );
}
