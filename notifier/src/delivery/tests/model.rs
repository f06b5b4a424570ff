//! Any sequence of answers, lost answers and kills: every notice is delivered or given up, once, in
//! order, and what was told twice had lost an answer.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use proptest::prelude::*;
use tokio::runtime::Builder;

use super::*;

/// What happens at one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Take,
    Busy,
    Revoke,
    Lose,
    Refuse,
    /// The process is killed before the service took the message.
    KillBefore,
    /// The service took it and the process is killed before it hears so.
    KillAfter,
}

/// What the services saw, beyond the death of any process.
#[derive(Debug, Default)]
struct World {
    script: VecDeque<Event>,
    taken: Vec<(String, String)>,
    /// How often the answer to a message was lost.
    lost: BTreeMap<(String, String), usize>,
    refused: Vec<(String, String)>,
    /// The highest notice of which a message was sent.
    newest: u64,
    /// The last message that was sent: a kill may come before its answer was noted.
    last: BTreeMap<String, String>,
}

struct Service {
    channel: &'static str,
    world: Arc<Mutex<World>>,
    killed: CancellationToken,
}

impl Carrier for Service {
    fn messages(&self, notice: &Notice) -> Vec<Message> {
        (1..=1 + notice.id % 3)
            .map(|piece| message(notice, piece))
            .collect()
    }

    fn pace(&self) -> Pace {
        Pace::FREE
    }

    fn send<'a>(&'a self, message: &'a Message, _: u64) -> Sending<'a> {
        let mut world = self.world.lock().unwrap();
        let event = world.script.pop_front().unwrap_or(Event::Take);
        world.newest = world.newest.max(message.notice.id);
        let name = (self.channel.to_owned(), message.key.clone());
        if matches!(event, Event::Take | Event::Lose | Event::KillAfter) {
            world.taken.push(name.clone());
        }
        if matches!(event, Event::Lose | Event::KillAfter) {
            *world.lost.entry(name.clone()).or_default() += 1;
        }
        world.last.insert(name.0.clone(), name.1.clone());
        let verdict = match event {
            Event::Take => Verdict::Delivered,
            Event::Busy => retry("busy"),
            Event::Revoke => Verdict::Broken {
                reason: "unknown token".to_owned(),
            },
            Event::Lose => retry("no answer"),
            Event::Refuse => {
                world.refused.push(name);
                Verdict::Refused {
                    reason: "no".to_owned(),
                }
            }
            Event::KillBefore | Event::KillAfter => {
                // Whether this one was taken is known.
                world.last.remove(self.channel);
                self.killed.cancel();
                return Box::pin(std::future::pending());
            }
        };
        Box::pin(async move { verdict })
    }
}

const CHANNELS: [&str; 2] = ["ops", "mail"];

/// One life of the notifier: until all has ended, or a kill.
async fn live(
    folder: &Path,
    world: &Arc<Mutex<World>>,
    new: &mut u64,
    ends: &mut BTreeMap<(String, u64), Ended>,
    count: u64,
) -> Result<bool, TestCaseError> {
    let (spool, found) = Spool::open(Some(folder), "main", &SpoolConfig::default()).unwrap();
    let state = found
        .entries
        .first()
        .map_or(0, |(_, value)| value[0].into());
    // What the dispatcher says it told is what the spool has or had: it forms the rest anew.
    prop_assert!(state >= found.last_id, "{state} {}", found.last_id);
    let newest = world.lock().unwrap().newest;
    prop_assert!(state >= newest, "{newest} was sent before it was on disk");
    *new = state;
    let killed = CancellationToken::new();
    let channels = CHANNELS.map(|channel| {
        let service = Service {
            channel,
            world: Arc::clone(world),
            killed: killed.clone(),
        };
        let carrier: Arc<dyn Carrier> = Arc::new(service);
        (channel.to_owned(), carrier)
    });
    let active = watch::Sender::new(true);
    let gate = active.subscribe();
    let token = CancellationToken::new();
    let delivery = Delivery::start(channels.to_vec(), &spool, &gate, QUICK, || 0, &token);
    let work = async {
        while *new < count {
            *new += 1;
            let changes = Changes {
                entries: vec![("state".to_owned(), Some(vec![u8::try_from(*new).unwrap()]))],
                notices: CHANNELS.map(|channel| notice(*new, channel)).to_vec(),
            };
            spool.commit(changes, 0);
            tokio::task::yield_now().await;
        }
        while ends.len() < 2 * usize::try_from(count).unwrap() {
            let outcome = spool.outcome().await;
            let name = (outcome.channel.clone(), outcome.notice.id);
            if let Some(known) = ends.insert(name, outcome.ended.clone()) {
                prop_assert_eq!(known, outcome.ended.clone(), "an end has changed");
            }
            spool.told(&outcome);
        }
        Ok(())
    };
    let done = tokio::select! {
        done = timeout(DEADLINE, work) => {
            done.map_err(|_| TestCaseError::fail("it hangs"))??;
            true
        }
        () = killed.cancelled() => false,
    };
    if done {
        delivery.stop().await;
        spool.close().await;
    } else {
        drop(delivery);
        spool.kill();
        // What the kill cut off: its answer may not have been noted.
        let mut world = world.lock().unwrap();
        for (channel, key) in std::mem::take(&mut world.last) {
            *world.lost.entry((channel, key)).or_default() += 1;
        }
    }
    Ok(done)
}

fn check(events: Vec<Event>, count: u64) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let world = Arc::new(Mutex::new(World {
        script: events.into(),
        ..World::default()
    }));
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut ends = BTreeMap::new();
    let mut new = 0;
    while !runtime.block_on(live(folder.path(), &world, &mut new, &mut ends, count))? {}
    let world = world.lock().unwrap();
    for channel in CHANNELS {
        let mut order: Vec<&str> = Vec::new();
        for (_, key) in world.taken.iter().filter(|(of, _)| of == channel) {
            if !order.contains(&key.as_str()) {
                order.push(key);
            }
        }
        let mut wanted = Vec::new();
        for id in 1..=count {
            let keys: Vec<String> = (1..=1 + id % 3)
                .map(|piece| format!("{id}-{piece}"))
                .collect();
            let end = ends.get(&(channel.to_owned(), id));
            let refused = world
                .refused
                .iter()
                .filter(|(of, key)| of == channel && keys.contains(key));
            let is_refused = refused.count() > 0;
            let is_delivered = end == Some(&Ended::Delivered);
            prop_assert!(is_delivered || is_refused, "{channel} {id}: {end:?}");
            for key in keys {
                let name = (channel.to_owned(), key.clone());
                let taken = world.taken.iter().filter(|taken| **taken == name).count();
                let lost = world.lost.get(&name).copied().unwrap_or(0);
                prop_assert!(
                    taken <= 1 + lost,
                    "{name:?}: {taken} times, {lost} answers lost"
                );
                if is_delivered {
                    prop_assert!(taken > 0, "{name:?} is missing");
                }
                if taken > 0 {
                    wanted.push(key);
                }
            }
        }
        prop_assert_eq!(order, wanted, "the order of {}", channel);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn every_notice_ends_once_and_in_order_whatever_dies(
        events in proptest::collection::vec(
            prop_oneof![
                6 => Just(Event::Take),
                2 => Just(Event::Busy),
                1 => Just(Event::Revoke),
                1 => Just(Event::Lose),
                1 => Just(Event::Refuse),
                1 => Just(Event::KillBefore),
                1 => Just(Event::KillAfter),
            ],
            0..60,
        ),
        count in 1..8_u64,
    ) {
        check(events, count)?;
    }
}
