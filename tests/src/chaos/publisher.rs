//! A publisher whose every message is in the ledger. It dies in mid-packet, is taken over, comes
//! back, and sends again what was not answered.

use std::sync::Arc;
use std::time::Duration;

use super::client::{Client, Event, Lost};
use super::packet::{Message, Version};
use super::stage::{EXPIRY_SECONDS, Phase, Stage};
use crate::random::Random;

/// Where publishers write: `chaos/t/<area>/<publisher>`.
pub const AREAS: u64 = 4;

/// How a publisher is.
#[derive(Debug, Clone)]
pub struct Publisher {
    /// Its number in the ledger.
    pub number: usize,
    /// Its version.
    pub version: Version,
    /// The longest pause between its bursts, in milliseconds; above 0.
    pub pause_ms: u64,
    /// It misbehaves once in so many bursts.
    pub misbehaves_in: u64,
}

impl Publisher {
    /// Publishes until the stage settles and all is answered; then ends its session.
    pub async fn run(self, stage: Arc<Stage>) {
        let mut random = stage.random(1_000 + self.number as u64);
        let id = format!("publisher-{}", self.number);
        let mut client = Client::new(stage.address, self.version, &id, EXPIRY_SECONDS);
        let mut known = false;
        while stage.phase() < Phase::Over {
            if !client.is_connected() {
                if stage.connect(&mut client, known).await.is_none() {
                    break;
                }
                known = true;
            }
            if stage.phase() == Phase::Settle && client.under_way() == 0 {
                break;
            }
            if let Err(lost) = self.act(&stage, &mut client, &mut random).await {
                stage.lost(&client, &lost);
            }
        }
        if client.under_way() > 0 {
            let text = format!("{id}: {} messages were never answered", client.under_way());
            stage.ledger().violation(text);
        }
        if let Err(lost) = client.end_session().await {
            stage.lost(&client, &lost);
        }
    }

    async fn act(
        &self,
        stage: &Stage,
        client: &mut Client,
        random: &mut Random,
    ) -> Result<(), Lost> {
        if stage.phase() == Phase::Storm {
            for _ in 0..random.within(1..6) {
                self.publish(stage, client, random, None).await?;
            }
            if random.once_in(self.misbehaves_in) {
                self.misbehave(stage, client, random).await?;
            }
        }
        if !client.is_connected() {
            return Ok(());
        }
        let mut within = Duration::from_millis(random.within(0..self.pause_ms));
        while let Some(event) = client.next(within).await? {
            if let Event::Answered(token, reason) = event {
                stage.ledger().answered(token, reason);
            }
            within = within.min(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Publishes one message; with `upto`, dies after so many of its bytes.
    async fn publish(
        &self,
        stage: &Stage,
        client: &mut Client,
        random: &mut Random,
        upto: Option<usize>,
    ) -> Result<(), Lost> {
        let qos = if client.may_publish() {
            random.qos()
        } else {
            0
        };
        let topic = format!("chaos/t/{}/{}", random.within(0..AREAS), self.number);
        let name = stage.ledger().publishing(self.number, &topic, qos);
        let message = Message {
            topic,
            alias: 0,
            payload: name.payload(),
            qos,
            retain: false,
            dup: false,
            packet_id: 0,
        };
        client.publish(name.token(), message, upto).await
    }

    async fn misbehave(
        &self,
        stage: &Stage,
        client: &mut Client,
        random: &mut Random,
    ) -> Result<(), Lost> {
        match random.within(0..4) {
            0 => {
                stage.did("publisher dies");
                client.die();
            }
            1 => {
                stage.did("publisher dies in mid-packet");
                let upto = random.place(300) + 1;
                self.publish(stage, client, random, Some(upto)).await?;
            }
            2 => {
                stage.did("publisher is taken over");
                stage.connect(client, true).await;
            }
            _ => {
                stage.did("publisher leaves");
                self.receive_answers(stage, client).await?;
                client.die_politely().await?;
            }
        }
        Ok(())
    }

    /// Takes the answers that are there before it says goodbye.
    async fn receive_answers(&self, stage: &Stage, client: &mut Client) -> Result<(), Lost> {
        while let Some(event) = client.next(Duration::from_millis(1)).await? {
            if let Event::Answered(token, reason) = event {
                stage.ledger().answered(token, reason);
            }
        }
        Ok(())
    }
}
