//! Clients with wills: each dies, or leaves, or comes back in time; its will must come exactly when
//! it should.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::{Client, Event, Lost};
use super::packet::{Version, Will};
use super::stage::{Phase, Stage};

/// How long a will may take beyond its delay.
const MOST: Duration = Duration::from_secs(20);

/// How long a will that must not come is waited for.
const ENOUGH: Duration = Duration::from_millis(300);

/// One will after the other until the storm is over.
pub async fn bequeath(stage: Arc<Stage>, actor: u64) {
    let topic = format!("chaos/will/{actor}");
    let mut heir = Client::new(stage.address, Version::V311, &format!("heir-{actor}"), 0);
    if let Err(lost) = live(&stage, &mut heir, actor, &topic).await {
        stage.lost(&heir, &lost);
    }
    heir.leave().await;
}

async fn live(stage: &Stage, heir: &mut Client, actor: u64, topic: &str) -> Result<(), Lost> {
    let mut random = stage.random(actor);
    heir.connect().await?;
    heir.subscribe(&[(topic, 2)]).await?;
    while !matches!(heir.next(MOST).await?, Some(Event::Subscribed(..)) | None) {}
    let mut number = 0_u64;
    while stage.phase() == Phase::Storm {
        number += 1;
        let version = [Version::V311, Version::V5][random.place(2)];
        let delay_seconds = u32::from(version == Version::V5 && random.once_in(2));
        let id = format!("mortal-{actor}");
        let mut mortal = Client::new(stage.address, version, &id, 60);
        mortal.connect.will = Some(Will {
            topic: topic.to_owned(),
            payload: number.to_string().into_bytes(),
            qos: random.qos(),
            delay_seconds,
        });
        mortal.connect().await?;
        let due = match random.within(0..4) {
            0 => {
                stage.did("client with a will leaves");
                mortal.leave().await;
                false
            }
            1 if delay_seconds > 0 => {
                stage.did("client with a will comes back in time");
                mortal.die();
                mortal.connect().await?;
                mortal.leave().await;
                false
            }
            _ => {
                stage.did("client with a will dies");
                mortal.die();
                true
            }
        };
        let begun = Instant::now();
        let delay = Duration::from_secs(delay_seconds.into());
        let came = hear(heir, number, if due { MOST } else { ENOUGH }).await?;
        if came != due {
            let text = format!(
                "will {number} of {id} ({version:?}, delay {delay_seconds} s): \
                 due {due}, came {came}"
            );
            stage.ledger().violation(text);
        }
        if came && begun.elapsed() + Duration::from_millis(100) < delay {
            let text = format!("will {number} of {id} came after {:?}", begun.elapsed());
            stage.ledger().violation(text);
        }
        mortal.end_session().await?;
    }
    Ok(())
}

/// Whether will `number` comes in time.
async fn hear(heir: &mut Client, number: u64, most: Duration) -> Result<bool, Lost> {
    let deadline = Instant::now() + most;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match heir.next(left).await? {
            Some(Event::Message(message)) => {
                let text = String::from_utf8_lossy(&message.payload).into_owned();
                if text.parse() == Ok(number) {
                    return Ok(true);
                }
                return Err(Lost::Wrong(format!("will {text} instead of {number}")));
            }
            Some(_) => {}
            None => return Ok(false),
        }
    }
}
