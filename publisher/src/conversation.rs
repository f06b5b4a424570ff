//! What is heard and said besides samples and marks: it carries words between the bus, those who
//! decide ([`control`](crate::control), [`neighbour`](crate::neighbour)), and those who say
//! ([`announcer`](crate::announcer), [`health`](crate::health)). Decides and sends nothing itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hostbus_daemon::clock;
use hostbus_wire::event::Event;
use hostbus_wire::info::Info;
use hostbus_wire::{EncodeError, codec};
use tokio::sync::{Notify, watch};
use tracing::{debug, error, info, warn};

use crate::announcer::{Announcer, Letter, Word};
use crate::collectors;
use crate::control::{self, Control};
use crate::events;
use crate::health::{self, Condition, Figures, Teller};
use crate::inventory;
use crate::neighbour::{Neighbour, News, Step};
use crate::sampler::{self, CollectorReport, CollectorState, Reading};
use crate::survey::{Found, Present, Surveyor};
use crate::tuning::Tuning;

/// How the schedule is told what to do.
#[derive(Debug)]
pub(crate) struct Orders {
    /// How to take samples.
    pub(crate) tuning: watch::Sender<Tuning>,
    /// A sample is wanted now.
    pub(crate) fresh: Arc<Notify>,
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Conversation {
    control: Control,
    orders: Orders,
    neighbour: Neighbour,
    announcer: Announcer,
    surveyor: Surveyor,
    teller: Teller,
    pub(crate) condition: Condition,
    /// How each collector was doing last; empty before the first reading.
    collectors: Vec<CollectorReport>,
    /// This run, as in its samples.
    boot: u64,
    /// The interval that the inventory tells.
    described: Option<Duration>,
    connected: bool,
}

impl Conversation {
    pub(crate) fn new(settings: Tuning, orders: Orders, boot: u64) -> Self {
        Self {
            control: Control::new(settings),
            orders,
            neighbour: Neighbour::default(),
            announcer: Announcer::default(),
            surveyor: Surveyor::new(),
            teller: Teller::default(),
            condition: Condition::default(),
            collectors: Vec::new(),
            boot,
            described: None,
            connected: false,
        }
    }

    /// The time from sample to sample by the settings.
    pub(crate) fn interval(&self) -> Duration {
        self.control.interval()
    }

    pub(crate) fn on_connected(&mut self, now: Instant) {
        self.connected = true;
        self.control.on_connected(now);
        self.neighbour.on_connected(now);
        self.teller.on_connected();
        self.announcer.on_connected();
    }

    pub(crate) fn on_disconnected(&mut self) {
        self.connected = false;
        self.control.on_disconnected();
    }

    /// The host's own settings were read again.
    pub(crate) fn on_settings(&mut self, settings: Tuning) {
        self.control.rebase(settings);
    }

    /// `config/desired`.
    pub(crate) fn on_desired(&mut self, payload: &[u8]) {
        self.control.on_desired(payload);
    }

    /// `command/<name>`.
    pub(crate) fn on_command(
        &mut self,
        name: &str,
        payload: &[u8],
        retained: bool,
        now: Instant,
    ) -> Result<(), EncodeError> {
        let now_ms = clock::unix_ms();
        let outcome = self
            .control
            .on_command(name, payload, retained, now, now_ms);
        if let Some(reply) = outcome.reply {
            self.announcer.reply(&reply)?;
        }
        if outcome.order == Some(control::Order::Refresh) {
            self.describe()?;
            self.announcer.repeat_all_but_info();
            self.orders.fresh.notify_one();
        }
        Ok(())
    }

    /// `info` of this node: our own, or another's under our name.
    pub(crate) fn on_info(&mut self, payload: &[u8], retained: bool, now: Instant) {
        if retained || payload.is_empty() {
            return;
        }
        match codec::decode::<Info>(payload) {
            Ok(Info {
                boot: Some(boot), ..
            }) => {
                let step = self.neighbour.on_info(boot, now);
                self.follow(step);
            }
            // Somebody else's, who knows nothing of runs.
            Ok(_) => {}
            Err(error) => debug!(%error, "unreadable info"),
        }
    }

    /// The ingester has taken samples of the run `boot`.
    pub(crate) fn on_mark(&mut self, boot: u64) {
        self.condition.overruled = boot > self.boot;
    }

    /// The ingester takes the samples of the run `boot` in place of ours.
    pub(crate) fn on_foreign_mark(&mut self, boot: u64, now: Instant) {
        let step = self.neighbour.on_foreign_mark(boot, now);
        self.follow(step);
    }

    /// Our samples carry another run from now on.
    pub(crate) fn on_boot_moved(&mut self, boot: u64) -> Result<(), EncodeError> {
        self.boot = boot;
        self.describe()
    }

    /// A reading: what it tells besides its sample.
    pub(crate) fn on_reading(&mut self, reading: Reading) -> Result<(), EncodeError> {
        for event in reading.events {
            self.announcer.event(event);
        }
        for (name, table) in reading.details {
            self.announcer.details(name, &table)?;
        }
        self.collectors = reading.collectors;
        let off = |report: &&CollectorReport| report.state == CollectorState::Off;
        for report in self.collectors.iter().filter(off) {
            for name in collectors::details(report.name) {
                self.announcer.end_details(name);
            }
        }
        if reading.collectors_changed {
            self.condition.on_collectors(&self.collectors);
            self.describe()?;
        }
        Ok(())
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.announcer.event(event);
    }

    pub(crate) fn repeat_status(&mut self) {
        self.announcer.repeat_status();
    }

    /// Does what is due at `now`.
    pub(crate) fn tick(&mut self, now: Instant) -> Result<(), EncodeError> {
        self.control.tick(now);
        if let Some(tuning) = self.control.take_change(now) {
            self.orders.tuning.send_if_modified(|current| {
                let changed = *current != tuning;
                *current = tuning;
                changed
            });
            if self.described.is_some_and(|told| told != self.interval()) {
                self.describe()?;
            }
        }
        if self.connected {
            let step = self.neighbour.tick(now);
            self.follow(step);
        }
        Ok(())
    }

    /// When to [`tick`](Self::tick) next, or to tell the health.
    pub(crate) fn wake(&self) -> Option<Instant> {
        let connected = || {
            let health = self.teller.due_at(&self.condition);
            health.into_iter().chain(self.neighbour.wake())
        };
        let mut wakes: Vec<Instant> = self.control.wake().into_iter().collect();
        if self.connected {
            wakes.extend(connected());
        }
        wakes.into_iter().min()
    }

    /// What to say next. `figures` are asked for when the health is due.
    pub(crate) fn next(
        &mut self,
        now: Instant,
        figures: impl FnOnce() -> Figures,
    ) -> Result<Option<Letter>, EncodeError> {
        if let Some(report) = self.control.report() {
            self.announcer.report(&report)?;
            self.control.reported();
        }
        // Before the first reading there is nothing to tell.
        let due = self
            .teller
            .due_at(&self.condition)
            .is_none_or(|at| at <= now);
        if due && !self.collectors.is_empty() {
            let health = self
                .condition
                .health(clock::unix_ms(), figures(), &self.collectors);
            self.announcer.health(&health)?;
            self.teller.told(&self.condition, now);
        }
        self.announcer.next()
    }

    /// The letter went out.
    pub(crate) fn told(&mut self, word: &Word) {
        if let Word::Info { boot: Some(boot) } = word {
            self.neighbour.on_published(*boot);
        }
    }

    /// The letter did not go out.
    pub(crate) fn put_back(&mut self, letter: Letter) {
        self.announcer.put_back(letter);
    }

    /// The health of a clean stop, as payload.
    pub(crate) fn last_health(&self, figures: Figures) -> Result<Vec<u8>, EncodeError> {
        codec::encode(&health::stopped(
            clock::unix_ms(),
            figures,
            &self.collectors,
        ))
    }

    /// What came of describing the host, when it comes. May be dropped and called again.
    pub(crate) async fn surveyed(&mut self) -> Found {
        self.surveyor.found().await
    }

    /// The host is described, or can't be.
    pub(crate) fn on_surveyed(&mut self, found: Found) -> Result<(), EncodeError> {
        match found {
            Found::Info(info) => {
                if self.condition.inventory.take().is_some() {
                    info!("the inventory can be read again");
                    self.event(events::inventory_recovered(clock::unix_ms()));
                }
                self.announcer.describe(&info)
            }
            Found::Nothing(why) => {
                if self.condition.inventory != Some(why) {
                    warn!(why, "the inventory can't be read");
                    self.event(events::inventory_failed(clock::unix_ms(), why));
                }
                self.condition.inventory = Some(why);
                self.describe_unread()
            }
        }
    }

    /// Has the host described. That comes later.
    fn describe(&mut self) -> Result<(), EncodeError> {
        if self.collectors.is_empty() {
            return Ok(());
        }
        let present = self.present();
        self.described = Some(present.interval);
        self.surveyor.ask(present);
        if self.surveyor.hangs() {
            return self.describe_unread();
        }
        Ok(())
    }

    /// Describes the host by what is known: others must know of this run, whatever hangs.
    fn describe_unread(&mut self) -> Result<(), EncodeError> {
        let known = self.announcer.described();
        let info = inventory::unread(known, self.present());
        self.announcer.describe(&info)
    }

    fn present(&self) -> Present {
        Present {
            collectors: sampler::states(&self.collectors),
            interval: self.interval(),
            boot: self.boot,
        }
    }

    fn follow(&mut self, step: Step) {
        if step.publish {
            self.announcer.repeat_info();
            // Should the other one have stopped, it said that this node is offline.
            self.announcer.repeat_status();
        }
        match step.news {
            Some(News::InUse { boot }) => {
                error!(
                    boot,
                    "another publisher uses this node's name: give one of them another publisher.node"
                );
                self.condition.in_use = true;
                let event = events::node_in_use(clock::unix_ms(), boot);
                self.announcer.event(event);
            }
            Some(News::Over) => {
                info!("the other publisher of this node is gone");
                self.condition.in_use = false;
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use hostbus_wire::Sample;
    use hostbus_wire::health::{Health, HealthState};

    use super::*;
    use crate::config::Config;
    use crate::sampler::CollectorState;

    fn conversation() -> Conversation {
        let settings = Tuning::new(&Config::default());
        let (tuning, _) = watch::channel(settings.clone());
        let fresh = Arc::new(Notify::new());
        let mut conversation = Conversation::new(settings, Orders { tuning, fresh }, 7);
        let report = CollectorReport {
            name: "cpu",
            state: CollectorState::On,
            points: 1,
            cost: None,
        };
        let reading = Reading {
            sample: Sample::default(),
            events: Vec::new(),
            details: Vec::new(),
            collectors: vec![report],
            collectors_changed: true,
        };
        conversation.on_reading(reading).unwrap();
        conversation.on_connected(Instant::now());
        conversation
    }

    /// All that is to be said: the runs of the inventories, the events, and the state of the health.
    fn said(
        conversation: &mut Conversation,
        now: Instant,
    ) -> (Vec<Option<u64>>, Vec<String>, Vec<HealthState>) {
        let (mut infos, mut events, mut healths) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(letter) = conversation.next(now, Figures::default).unwrap() {
            match letter.word {
                Word::Info { boot } => infos.push(boot),
                Word::Event(event) => events.push(event.kind),
                Word::Health => {
                    let health: Health = codec::decode(&letter.payload).unwrap();
                    healths.push(health.state);
                }
                _ => {}
            }
        }
        (infos, events, healths)
    }

    #[tokio::test]
    async fn a_host_that_cannot_be_described_is_told_once_and_announced_all_the_same() {
        let mut conversation = conversation();
        let mut now = Instant::now();
        let mut said_next = |conversation: &mut Conversation| {
            // Late enough for whatever waits a moment.
            now += Duration::from_secs(2);
            said(conversation, now)
        };
        let (infos, events, healths) = said_next(&mut conversation);
        assert!(infos.is_empty() && events.is_empty());
        assert_eq!(healths, [HealthState::Ok]);
        let info = tokio::time::timeout(Duration::from_secs(20), conversation.surveyed());
        let Ok(Found::Info(info)) = info.await else {
            panic!("no inventory of this host");
        };
        for (kinds, state) in [
            (vec!["inventory-failed"], vec![HealthState::Degraded]),
            (vec![], vec![]),
        ] {
            conversation.on_surveyed(Found::Nothing("hangs")).unwrap();
            let (infos, events, healths) = said_next(&mut conversation);
            assert_eq!((infos, healths), (vec![Some(7)], state));
            assert_eq!(events, kinds);
        }
        conversation.on_surveyed(Found::Info(info)).unwrap();
        let (infos, events, healths) = said_next(&mut conversation);
        assert_eq!(infos, [Some(7)]);
        assert_eq!(events, ["inventory-recovered"]);
        assert_eq!(healths, [HealthState::Ok]);
    }
}
