//! A client that asks all the time whether the broker still serves: it publishes to itself and
//! notes how long that takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::{Client, Event, Lost};
use super::packet::{Message, Version};
use super::stage::{Phase, Stage};

/// How long its answers took.
#[derive(Debug, Default, Clone)]
pub struct Latencies(pub Vec<Duration>);

impl Latencies {
    /// The time below which so many of a hundred answers came; 100 for the longest.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let place = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        sorted.get(place).copied().unwrap_or_default()
    }
}

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} times, half within {:.1?}, p99 {:.1?}, longest {:.1?}",
            self.0.len(),
            self.percentile(50),
            self.percentile(99),
            self.percentile(100)
        )
    }
}

/// Asks at each `interval` until all is over. An answer that takes longer than `most` is a violation.
pub async fn watch(stage: Arc<Stage>, interval: Duration, most: Duration) -> Latencies {
    let mut latencies = Latencies::default();
    let mut client = Client::new(stage.address, Version::V5, "watchdog", 0);
    if let Err(lost) = ask(&stage, &mut client, interval, most, &mut latencies).await {
        stage.lost(&client, &lost);
    }
    client.leave().await;
    latencies
}

async fn ask(
    stage: &Stage,
    client: &mut Client,
    interval: Duration,
    most: Duration,
    latencies: &mut Latencies,
) -> Result<(), Lost> {
    client.connect().await?;
    client.subscribe(&[("watchdog", 1)]).await?;
    let mut interval = tokio::time::interval(interval);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut number = 0_u64;
    while stage.phase() < Phase::Over {
        interval.tick().await;
        number += 1;
        let begun = Instant::now();
        let message = Message {
            topic: "watchdog".to_owned(),
            alias: 0,
            payload: number.to_string().into_bytes(),
            qos: 1,
            retain: false,
            dup: false,
            packet_id: 0,
        };
        client.publish(number, message, None).await?;
        let (mut arrived, mut answered) = (false, false);
        while !(arrived && answered) {
            match client.next(most).await? {
                Some(Event::Message(message)) => {
                    arrived |= message.payload == number.to_string().as_bytes();
                }
                Some(Event::Answered(token, _)) => answered |= token == number,
                Some(_) => {}
                None => return Err(Lost::Wrong(format!("it was not served within {most:?}"))),
            }
        }
        let took = begun.elapsed();
        if took > most {
            let text = format!("the watchdog was served after {took:?}");
            stage.ledger().violation(text);
        }
        latencies.0.push(took);
    }
    Ok(())
}
