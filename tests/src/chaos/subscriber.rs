//! A session whose every message goes to the ledger, alone or as a member of a shared group. It
//! dies with messages unacknowledged, is taken over, stays away, and changes its subscriptions.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::{Client, Event, Lost};
use super::ledger::ReceiverId;
use super::packet::{self, Version};
use super::stage::{EXPIRY_SECONDS, Phase, Stage};
use crate::random::Random;

/// How a subscriber is.
#[derive(Debug, Clone)]
pub struct Subscriber {
    /// Its client id.
    pub id: String,
    /// Its version.
    pub version: Version,
    /// Where its messages go in the ledger.
    pub receiver: ReceiverId,
    /// Filters, each with its QoS.
    pub filters: Vec<(String, u8)>,
    /// A filter that it adds and removes again and again.
    pub toggled: Option<String>,
    /// Its session outlives its connection.
    pub persistent: bool,
    /// It misbehaves once in so many steps; 0 for never.
    pub misbehaves_in: u64,
    /// It reads seldom.
    pub slow: bool,
    /// The longest time that it stays away, in milliseconds; above 0.
    pub away_ms: u64,
}

/// What an answer will be about.
#[derive(Debug)]
enum Asked {
    Subscribe(Vec<(String, u8)>),
    Unsubscribe(String),
}

/// A subscriber at work.
struct Work<'s> {
    habits: Subscriber,
    stage: &'s Stage,
    client: Client,
    random: Random,
    asked: HashMap<u16, Asked>,
    /// The session has its filters for certain.
    stands: bool,
    /// The session is there for certain.
    known: bool,
    toggled_on: bool,
}

impl Subscriber {
    /// Subscribes and receives until all is over; then ends its session.
    pub async fn run(self, stage: Arc<Stage>, actor: u64) {
        let expiry = if self.persistent { EXPIRY_SECONDS } else { 0 };
        let mut client = Client::new(stage.address, self.version, &self.id, expiry);
        client.small = self.slow;
        let mut work = Work {
            random: stage.random(2_000 + actor),
            habits: self,
            stage: &stage,
            client,
            asked: HashMap::new(),
            stands: false,
            known: false,
            toggled_on: false,
        };
        while stage.phase() < Phase::Over {
            if let Err(lost) = work.step().await {
                stage.lost(&work.client, &lost);
            }
        }
        if let Err(lost) = work.client.end_session().await {
            stage.lost(&work.client, &lost);
        }
    }
}

impl Work<'_> {
    async fn step(&mut self) -> Result<(), Lost> {
        if !self.client.is_connected() {
            self.client.withholds = false;
            self.asked.clear();
            let expected = self.known && self.habits.persistent;
            let Some(present) = self.stage.connect(&mut self.client, expected).await else {
                return Ok(());
            };
            self.stands &= present;
            self.known = true;
        }
        if !self.stands && self.asked.is_empty() {
            self.subscribe(self.habits.filters.clone()).await?;
        }
        let storm = self.stage.phase() == Phase::Storm;
        if storm && self.habits.slow {
            let pause = Duration::from_millis(self.random.within(0..1_500));
            tokio::time::sleep(pause).await;
        }
        self.receive(Duration::from_millis(20)).await?;
        let often = self.habits.misbehaves_in;
        if storm && self.stands && often > 0 && self.random.once_in(often) {
            self.misbehave().await?;
        }
        Ok(())
    }

    /// Takes what comes within this time.
    async fn receive(&mut self, within: Duration) -> Result<(), Lost> {
        let end = Instant::now() + within;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Some(event) = self.client.next(left).await? else {
                return Ok(());
            };
            match event {
                Event::Message(message) => {
                    self.stage.ledger().arrived(self.habits.receiver, &message);
                }
                Event::Subscribed(id, codes) => self.subscribed(id, &codes)?,
                Event::Unsubscribed(id) => self.unsubscribed(id)?,
                Event::Answered(..) | Event::Pong => {}
            }
        }
    }

    async fn subscribe(&mut self, filters: Vec<(String, u8)>) -> Result<(), Lost> {
        for (filter, qos) in &filters {
            let mut ledger = self.stage.ledger();
            ledger.subscribing(self.habits.receiver, filter, *qos);
        }
        let borrowed: Vec<(&str, u8)> = filters.iter().map(|(f, qos)| (&**f, *qos)).collect();
        let id = self.client.subscribe(&borrowed).await?;
        self.asked.insert(id, Asked::Subscribe(filters));
        Ok(())
    }

    fn subscribed(&mut self, id: u16, codes: &[u8]) -> Result<(), Lost> {
        let Some(Asked::Subscribe(filters)) = self.asked.remove(&id) else {
            return Err(Lost::Wrong(format!("SUBACK {id} for nothing")));
        };
        let granted: Vec<u8> = filters.iter().map(|(_, qos)| *qos).collect();
        if granted != codes {
            return Err(Lost::Wrong(format!("SUBACK {codes:?} for {filters:?}")));
        }
        self.stands = true;
        for (filter, _) in &filters {
            self.stage.ledger().subscribed(self.habits.receiver, filter);
        }
        Ok(())
    }

    fn unsubscribed(&mut self, id: u16) -> Result<(), Lost> {
        let Some(Asked::Unsubscribe(filter)) = self.asked.remove(&id) else {
            return Err(Lost::Wrong(format!("UNSUBACK {id} for nothing")));
        };
        self.stage.ledger().left(self.habits.receiver, &filter);
        Ok(())
    }

    async fn misbehave(&mut self) -> Result<(), Lost> {
        match self.random.within(0..7) {
            0 => {
                self.stage.did("subscriber dies");
                self.client.die();
            }
            1 => {
                self.stage
                    .did("subscriber dies with messages unacknowledged");
                self.client.withholds = true;
                self.receive(Duration::from_millis(100)).await?;
                self.client.die();
            }
            2 => {
                self.stage.did("subscriber dies in mid-packet");
                let bytes = packet::subscribe(self.client.version, 1, &[("never/asked", 0)]);
                let upto = self.random.place(bytes.len());
                self.client.send(&bytes[..upto]).await?;
                self.client.die();
            }
            3 => {
                self.stage.did("subscriber is taken over");
                self.asked.clear();
                if self
                    .stage
                    .connect(&mut self.client, self.habits.persistent)
                    .await
                    == Some(false)
                {
                    self.stands = false;
                }
                return Ok(());
            }
            4 => {
                self.stage.did("subscriber leaves");
                self.client.die_politely().await?;
            }
            _ => return self.toggle().await,
        }
        let away = Duration::from_millis(self.random.within(0..self.habits.away_ms));
        tokio::time::sleep(away).await;
        Ok(())
    }

    /// Adds the filter that comes and goes, or removes it.
    async fn toggle(&mut self) -> Result<(), Lost> {
        let Some(filter) = self.habits.toggled.clone() else {
            return Ok(());
        };
        self.toggled_on = !self.toggled_on;
        if self.toggled_on {
            self.stage.did("subscriber subscribes");
            return self.subscribe(vec![(filter, 2)]).await;
        }
        self.stage.did("subscriber unsubscribes");
        self.stage.ledger().leaving(self.habits.receiver, &filter);
        let id = self.client.unsubscribe(&[&filter]).await?;
        self.asked.insert(id, Asked::Unsubscribe(filter));
        Ok(())
    }
}
