//! Retained messages: a publisher changes and clears its topics all the time, and whoever looks
//! must find the last value that was answered, or one sent later.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::client::{Client, Event, Lost};
use super::packet::{Message, Version};
use super::stage::{EXPIRY_SECONDS, Phase, Stage};

/// Topics of one publisher.
const TOPICS: usize = 8;

/// What one topic had: each value sent, `None` for cleared.
#[derive(Debug, Default, Clone)]
struct History {
    sent: Vec<Option<u64>>,
    /// Up to here all were answered.
    answered: usize,
}

/// What all topics had.
#[derive(Debug, Default)]
pub struct Histories(Mutex<HashMap<String, History>>);

/// What must be found at least, noted at one time.
#[derive(Debug)]
pub struct Expected(HashMap<String, History>);

impl Histories {
    fn held(&self) -> MutexGuard<'_, HashMap<String, History>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What must be found from now on.
    #[must_use]
    pub fn expected(&self) -> Expected {
        Expected(self.held().clone())
    }

    /// What is wrong with what was found: a value older than the last that was answered when
    /// `expected` was noted, or one that was never sent.
    #[must_use]
    pub fn check(&self, expected: &Expected, found: &HashMap<String, u64>) -> Vec<String> {
        let histories = self.held();
        let mut wrong = Vec::new();
        for (topic, before) in &expected.0 {
            let value = found.get(topic).copied();
            // Before its first value a topic is as if cleared.
            let sent = std::iter::once(&None).chain(&histories[topic].sent);
            let allowed: Vec<&Option<u64>> = sent.skip(before.answered).collect();
            if !allowed.contains(&&value) {
                wrong.push(format!("{topic} has {value:?}, not one of {allowed:?}"));
            }
        }
        let strangers = found.keys().filter(|topic| !histories.contains_key(*topic));
        wrong.extend(strangers.map(|topic| format!("{topic} was never published")));
        wrong
    }
}

/// Publishes retained messages under `chaos/kept/<number>/` until the stage settles and all is
/// answered; then ends its session.
pub async fn keep(stage: Arc<Stage>, histories: Arc<Histories>, number: u64) {
    let mut random = stage.random(3_000 + number);
    let version = [Version::V311, Version::V5][random.place(2)];
    let id = format!("keeper-{number}");
    let mut client = Client::new(stage.address, version, &id, EXPIRY_SECONDS);
    let mut keeper = Keeper {
        histories: &histories,
        topics: (0..TOPICS)
            .map(|n| format!("chaos/kept/{number}/{n}"))
            .collect(),
        under_way: HashMap::new(),
        token: 0,
    };
    let mut known = false;
    while stage.phase() < Phase::Over {
        if !client.is_connected() {
            if stage.connect_unlisted(&mut client, known).await.is_none() {
                break;
            }
            known = true;
        }
        let storm = stage.phase() == Phase::Storm;
        if !storm && client.under_way() == 0 {
            break;
        }
        let act = async {
            if storm && client.may_publish() {
                // One QoS above 0 for each topic keeps the order on it.
                let place = random.place(TOPICS);
                let clear = random.once_in(5);
                keeper.publish(&mut client, place, clear).await?;
            }
            let within = Duration::from_millis(random.within(0..20));
            while let Some(event) = client.next(within).await? {
                if let Event::Answered(token, _) = event {
                    keeper.answered(token);
                }
            }
            Ok(())
        };
        match act.await {
            Ok(()) if storm && random.once_in(200) => client.die(),
            Ok(()) => {}
            Err(lost) => stage.lost(&client, &lost),
        }
    }
    if let Err(lost) = client.end_session().await {
        stage.lost(&client, &lost);
    }
}

struct Keeper<'h> {
    histories: &'h Histories,
    topics: Vec<String>,
    /// The topic and the place in its history, by token.
    under_way: HashMap<u64, (usize, usize)>,
    token: u64,
}

impl Keeper<'_> {
    async fn publish(
        &mut self,
        client: &mut Client,
        place: usize,
        clear: bool,
    ) -> Result<(), Lost> {
        self.token += 1;
        let topic = self.topics[place].clone();
        let value = (!clear).then_some(self.token);
        {
            let mut histories = self.histories.held();
            let history = histories.entry(topic.clone()).or_default();
            history.sent.push(value);
            self.under_way
                .insert(self.token, (place, history.sent.len()));
        }
        let message = Message {
            topic,
            alias: 0,
            payload: value.map_or_else(Vec::new, |value| value.to_string().into_bytes()),
            qos: 1 + u8::from(place.is_multiple_of(2)),
            retain: true,
            dup: false,
            packet_id: 0,
        };
        client.publish(self.token, message, None).await
    }

    fn answered(&mut self, token: u64) {
        let Some((place, upto)) = self.under_way.remove(&token) else {
            return;
        };
        if let Some(history) = self.histories.held().get_mut(&self.topics[place]) {
            history.answered = history.answered.max(upto);
        }
    }
}

/// The values that a new subscriber finds.
///
/// # Errors
/// There is no connection, or something came that is not retained.
pub async fn look(stage: &Stage, id: &str) -> Result<HashMap<String, u64>, Lost> {
    let mut client = Client::new(stage.address, Version::V5, id, 0);
    client.connect().await?;
    client.subscribe(&[("chaos/kept/#", 1)]).await?;
    let mut found = HashMap::new();
    let mut subscribed = None;
    loop {
        match client.next(Duration::from_millis(200)).await? {
            Some(Event::Subscribed(..)) => subscribed = Some(Instant::now()),
            Some(Event::Message(message)) => {
                let text = String::from_utf8_lossy(&message.payload);
                match text.parse() {
                    Ok(value) => drop(found.insert(message.topic, value)),
                    // It was cleared while we looked.
                    Err(_) => drop(found.remove(&message.topic)),
                }
            }
            Some(_) => {}
            None if subscribed.is_some() => break,
            None => {}
        }
        // Publishing may go on for ever.
        if subscribed.is_some_and(|since| since.elapsed() > Duration::from_secs(2)) {
            break;
        }
    }
    client.leave().await;
    Ok(found)
}

/// Looks again and again until the storm is over.
pub async fn inspect(stage: Arc<Stage>, histories: Arc<Histories>) {
    while stage.phase() == Phase::Storm {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stage.did("retained messages are looked at");
        let expected = histories.expected();
        match look(&stage, "inspector").await {
            Ok(found) => {
                for wrong in histories.check(&expected, &found) {
                    stage.ledger().violation(wrong);
                }
            }
            Err(lost) => stage.ledger().violation(format!("inspector: {lost:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_value_and_a_value_from_nowhere_are_wrong() {
        let histories = Histories::default();
        let history = History {
            sent: vec![Some(1), None, Some(3), Some(4)],
            answered: 3,
        };
        histories.held().insert("a".to_owned(), history);
        let check = |found: Option<u64>, expected: bool| {
            let found = found
                .map(|value| ("a".to_owned(), value))
                .into_iter()
                .collect();
            let wrong = histories.check(&histories.expected(), &found);
            assert_eq!(wrong.is_empty(), expected, "{found:?}: {wrong:?}");
        };
        check(Some(1), false);
        check(None, false);
        check(Some(3), true);
        check(Some(4), true);
        check(Some(9), false);
    }
}
