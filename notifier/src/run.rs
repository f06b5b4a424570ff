//! The notifier's task: messages in, publications and notices out.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hostbus_client::{BusConfig, ClientError, Connection, Event, Options, Sender, Will};
use hostbus_daemon::reload::Reloads;
use hostbus_daemon::{CancellationToken, Running, Secret, clock};
use hostbus_wire::{Kind, SiteTopic, encode};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tracing::{info, warn};

use crate::bus;
use crate::config::Config;
use crate::dead_man::DeadMan;
use crate::delivery::Delivery;
use crate::dispatcher::Dispatcher;
use crate::engine::{Engine, Now, Place, Turn};
use crate::error::Error;
use crate::evaluator::{Evaluator, Options as Bounds};
use crate::health::{self, Footing};
use crate::http::HttpSender;
use crate::outgoing::Publication;
use crate::rules::Rules;
use crate::spool::Spool;
use crate::ways;
use crate::windows::Windows;

const HEALTH_EVERY: Duration = Duration::from_secs(10);
/// How often the files of rules are looked at.
const RULES_EVERY: Duration = Duration::from_secs(10);
/// The longest time between two turns: the lease needs them.
const TURN_EVERY: Duration = Duration::from_millis(500);
/// How many messages are taken before a turn.
const AT_ONCE: usize = 256;

/// Starts the notifier. It ends when `token` is cancelled.
///
/// # Errors
/// The settings are wrong, or another notifier uses the spool. A broker that is away is no error.
pub async fn start(
    config: Config,
    bus: BusConfig,
    token: CancellationToken,
) -> Result<Running<Error>, Error> {
    config.spool.check()?;
    config.delivery.check()?;
    let http = HttpSender::new(&config.http)?;
    let routing = config.routing()?;
    let zone = config.zone()?;
    let instance = config.instance.as_str().to_owned();
    let style = (config.language, &zone);
    let channels = ways::open(&config.channels, style, &http, &instance)?;
    let dead_man = DeadMan::open(&config.dead_man, http)?;

    let (spool, found) = {
        let (instance, config) = (instance.clone(), config.spool.clone());
        let folder = config.folder();
        let open = move || Spool::open(folder.as_deref(), &instance, &config);
        match tokio::task::spawn_blocking(open).await {
            Ok(opened) => opened?,
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    };
    if config.spool.folder().is_none() && !config.channels.is_empty() {
        warn!(
            "notices wait in memory only, and are lost with this process: set notifier.spool.folder"
        );
    }
    if let Some((aside, reason)) = &found.set_aside {
        let aside = aside.display();
        warn!(%aside, reason, "the spool could not be read, a new one is begun");
    }
    let now_ms = clock::unix_ms();
    let mut dispatcher = Dispatcher::new(routing);
    let restored = dispatcher.restore(found.entries, now_ms);
    dispatcher.next_id_is_above(found.last_id);
    let damaged = found.damaged + u64::try_from(restored.unreadable).unwrap_or(u64::MAX);
    if damaged > 0 {
        warn!(
            damaged,
            "entries of the spool can't be read and are left out"
        );
    }

    let system = SiteTopic::System {
        component: "notifier".into(),
        instance: instance.as_str().into(),
    };
    let health_topic = system.text(&bus.root, &config.site);
    let row = Kind::System.row();
    let will = Will {
        topic: health_topic.clone(),
        payload: encode(&health::stopped(0))?,
        qos: row.qos,
        retain: row.retain,
    };
    let options = Options {
        component: "notifier".to_owned(),
        filters: bus::filters(&bus.root, &config.site),
        will: Some(will),
        ..Options::default()
    };
    let connection = Connection::open(&bus, options)?;

    let folder = config.spool.folder();
    let (windows, kept) = Windows::open(folder.as_deref(), &instance, now_ms).await;
    let rules = Rules::new(config.default_rules, &config.rules);
    let place = Place {
        root: bus.root,
        site: config.site.clone(),
        instance,
    };
    let run = Secret::random().reveal()[..8].to_owned();
    let evaluator = Evaluator::new(Bounds::default());
    let mut engine = Engine::new(place, &run, evaluator, dispatcher, config.groups());
    engine.set_rules(rules.in_force(), now_ms);
    if let Some(kept) = kept {
        engine.take_back(kept);
    }
    let (gate, active) = watch::channel(false);
    let patience = config.delivery.patience();
    let delivery = Delivery::start(channels, &spool, &active, patience, clock::unix_ms, &token);
    let mut tasks = JoinSet::new();
    let (well, is_well) = watch::channel(false);
    let dead_man_failing = dead_man.as_ref().map(DeadMan::failing);
    if let Some(dead_man) = dead_man {
        let is_well = move || *is_well.borrow();
        tasks.spawn(dead_man.run(is_well, token.child_token()));
    }
    info!(
        rules = rules.in_force().len(),
        channels = config.channels.len(),
        "notifier starts"
    );
    let task = Task {
        sender: connection.sender(),
        connection,
        engine,
        rules,
        spool,
        windows,
        delivery,
        gate,
        well,
        channels: config.channels.len(),
        dead_man_failing,
        health_topic,
        sending: None,
        begun: Instant::now(),
        _tasks: tasks,
    };
    let running = tokio::spawn(task.run(token.clone()));
    Ok(Running::new("notifier", Vec::new(), token, running))
}

type Handing = Pin<Box<dyn Future<Output = (Publication, Result<(), ClientError>)> + Send>>;

struct Task {
    connection: Connection,
    sender: Sender,
    engine: Engine,
    rules: Rules,
    spool: Spool,
    windows: Windows,
    delivery: Delivery,
    gate: watch::Sender<bool>,
    /// Whether the dead man's switch may be told that all is well.
    well: watch::Sender<bool>,
    channels: usize,
    /// Why the dead man's switch can't be reached.
    dead_man_failing: Option<watch::Receiver<Option<Arc<str>>>>,
    health_topic: String,
    /// A publication on its way to the connection.
    sending: Option<Handing>,
    begun: Instant,
    _tasks: JoinSet<()>,
}

impl Task {
    async fn run(mut self, token: CancellationToken) -> Result<(), Error> {
        let mut healths = every(HEALTH_EVERY);
        let mut readings = every(RULES_EVERY);
        let mut reloads = Reloads::listen().ok();
        let mut turn_at = Instant::now();
        loop {
            let reload = async {
                match &mut reloads {
                    Some(reloads) => reloads.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = self.connection.next() => self.events(event),
                handed = handed(&mut self.sending) => self.handed(handed),
                outcome = self.spool.outcome() => self.engine.outcome(outcome, clock::unix_ms()),
                changed = self.rules.read() => if changed { self.set_rules() },
                _ = healths.tick() => self.say_health(clock::unix_ms()),
                _ = readings.tick() => self.rules.read_again(),
                () = reload => self.rules.read_again(),
                () = sleep_until(turn_at) => {}
                () = token.cancelled() => break,
            }
            turn_at = self.turn();
        }
        self.end().await
    }

    fn now(&self) -> Now {
        let steady = self.begun.elapsed().as_millis();
        Now {
            unix_ms: clock::unix_ms(),
            steady_ms: u64::try_from(steady).unwrap_or(u64::MAX),
        }
    }

    /// Takes an event, and those that wait behind it.
    fn events(&mut self, event: Event) {
        let now = self.now();
        let mut next = Some(event);
        let mut left = AT_ONCE;
        while let Some(event) = next {
            match event {
                Event::Message(message) => self.engine.message(&message, now),
                Event::Connected => {
                    self.engine.connected(now.unix_ms, now);
                    self.say_health(now.unix_ms);
                }
                Event::Disconnected => {
                    // What was on its way may be lost: the engine compares the bus with what it knows, and
                    // tells of ended notices again.
                    self.sending = None;
                    self.engine.disconnected();
                }
            }
            left -= 1;
            next = if left > 0 {
                self.connection.try_next()
            } else {
                None
            };
        }
    }

    fn handed(&mut self, (publication, result): (Publication, Result<(), ClientError>)) {
        self.sending = None;
        if result.is_err() {
            self.engine.outgoing().put_back(publication);
        }
    }

    fn set_rules(&mut self) {
        let rules = self.rules.in_force();
        info!(rules = rules.len(), "other rules hold now");
        self.engine.set_rules(rules, clock::unix_ms());
    }

    fn say_health(&mut self, ts: u64) {
        let failing = self.dead_man_failing.as_ref();
        let footing = Footing {
            channels: self.channels,
            dead_man: failing.and_then(|failing| failing.borrow().clone()),
        };
        let health = health::health(ts, &self.engine, &self.rules, &self.spool, &footing);
        self.engine.say_health(&health);
    }

    /// Decides, and lets what was decided go its ways. Returns when to come again at the latest.
    fn turn(&mut self) -> Instant {
        let now = self.now();
        if let Some(bus) = self.engine.rules_of_bus() {
            let bus: BTreeMap<Box<str>, String> = bus.clone();
            if self.rules.set_bus(&bus) {
                self.set_rules();
            }
        }
        let Turn {
            changes,
            told,
            covers,
            active,
            next_ms,
        } = self.engine.turn(now);
        for (channel, told) in &covers {
            self.spool.cover(channel, told);
        }
        for outcome in &told {
            self.spool.told(outcome);
        }
        if !changes.entries.is_empty() || !changes.notices.is_empty() {
            self.spool.commit(changes, now.unix_ms);
        }
        let set = |to: bool| move |is: &mut bool| std::mem::replace(is, to) != to;
        self.gate.send_if_modified(set(active));
        self.well
            .send_if_modified(set(active && self.engine.is_synced()));
        self.ask();
        self.hand_over();
        let soon = self.windows.turn(self.engine.evaluator(), now);
        let wait = Duration::from_millis(next_ms.saturating_sub(now.unix_ms));
        Instant::now() + wait.min(soon.unwrap_or(TURN_EVERY))
    }

    /// Asks for the retained copy of our own health, where the engine waits for it.
    fn ask(&mut self) {
        // One that can't be queued now is tried again at the next turn.
        if self.engine.asks()
            && self
                .sender
                .subscribe(&self.health_topic, Kind::System.row().qos)
                .is_ok()
        {
            self.engine.asked();
        }
    }

    /// Hands the next publication to the connection. One at a time, so that they keep their order; never
    /// waited for here, so that a connection that waits for us to take messages gets its way.
    fn hand_over(&mut self) {
        if self.sending.is_some() || !self.sender.is_connected() {
            return;
        }
        let Some(publication) = self.engine.outgoing().pop() else {
            return;
        };
        let sender = self.sender.clone();
        self.sending = Some(Box::pin(async move {
            let Publication {
                topic,
                qos,
                retain,
                payload,
                ..
            } = publication.clone();
            let result = sender.publish(topic, qos, retain, payload).await;
            (publication, result)
        }));
    }

    /// What has been decided is published and kept; messages on their way to people may arrive.
    async fn end(mut self) -> Result<(), Error> {
        self.delivery.stop().await;
        while let Ok(outcome) = timeout(Duration::ZERO, self.spool.outcome()).await {
            self.engine.outcome(outcome, clock::unix_ms());
        }
        let now_ms = clock::unix_ms();
        let stopped = Publication::new(
            Kind::System,
            self.health_topic.clone(),
            encode(&health::stopped(now_ms))?,
        );
        let release = self.engine.release(now_ms);
        let mut last = Vec::new();
        while let Some(publication) = self.engine.outgoing().pop() {
            last.push(publication);
        }
        for publication in last.into_iter().chain(release).chain([stopped]) {
            let Publication {
                topic,
                qos,
                retain,
                payload,
                ..
            } = publication;
            // A bus that is away hears of it when we come back.
            let said = self.sender.publish(topic, qos, retain, payload);
            let _ = timeout(Duration::from_millis(500), said).await;
        }
        self.windows.close(self.engine.evaluator(), now_ms).await;
        self.spool.close().await;
        self.connection.close().await;
        Ok(())
    }
}

/// The end of a publication's way to the connection; never, while there is none.
async fn handed(sending: &mut Option<Handing>) -> (Publication, Result<(), ClientError>) {
    match sending {
        Some(sending) => sending.await,
        None => std::future::pending().await,
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
