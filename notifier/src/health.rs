//! How the notifier is doing, as it stands at `_system/notifier/<instance>`.

use std::sync::Arc;

use hostbus_wire::health::{Health, HealthState};
use jiff::Timestamp;

use crate::engine::Engine;
use crate::rules::Rules;
use crate::spool::Spool;

/// The longest reason, in bytes.
const MAX_REASON_BYTES: usize = 2_048;

/// What the telling stands on besides engine, rules and spool.
#[derive(Debug, Clone, Default)]
pub struct Footing {
    /// How many channels the settings have.
    pub channels: usize,
    /// Why the dead man's switch could not be reached at the last call; `None` when it was, or is not asked.
    pub dead_man: Option<Arc<str>>,
}

/// The health of a notifier that works, or works in part.
///
/// Two things are told that are no trouble, and leave the state as it is: to stand by, which is what a second
/// notifier is there for, and a spool in memory only, which is right for a small site that would rather lose a
/// notice with a crash than have a folder for it.
#[must_use]
pub fn health(ts: u64, engine: &Engine, rules: &Rules, spool: &Spool, footing: &Footing) -> Health {
    let mut told = Vec::new();
    if !engine.is_active() {
        told.push(match engine.holder() {
            Some(holder) => format!("standing by for {holder}"),
            None => "standing by".to_owned(),
        });
    }
    let mut wrong = Vec::new();
    let mistaken = rules.mistaken();
    if mistaken > 0 {
        wrong.push(format!(
            "{mistaken} documents of rules hold mistakes: `hostbus rules check` names them"
        ));
    }
    if engine.is_full() {
        wrong.push("there are more alerts, silences or acknowledgements than are taken".to_owned());
    }
    if engine.has_twin() {
        wrong.push(format!(
            "another notifier of this site is called {} too: give one of them another notifier.instance",
            engine.instance()
        ));
    }
    if engine.is_unheard() {
        wrong.push(
            "what people were told does not come back from the bus, another notifier would tell it again: \
             let this login write and read _told/# of its site"
                .to_owned(),
        );
    }
    if let Some(failure) = spool.failure() {
        wrong.push(format!("notices are not kept on disk: {failure}"));
    }
    if let Some(reason) = &footing.dead_man {
        wrong.push(format!("the dead man's switch can't be reached: {reason}"));
    }
    let on_disk = spool.has_folder() && spool.failure().is_none();
    let figures = engine.figures();
    let counters = engine.counters();
    let looked_after = engine.looked_after();
    let (pending, firing) = engine.alerts();
    let mut counted = vec![
        ("active", u64::from(engine.is_active())),
        ("silences", number(looked_after.silences)),
        ("acknowledgements", number(looked_after.acknowledgements)),
        ("groups", number(looked_after.groups)),
        ("channels", number(footing.channels)),
        ("rules", number(figures.rules)),
        ("nodes", number(figures.nodes)),
        ("alerts_pending", number(pending)),
        ("alerts_firing", number(firing)),
        ("samples_judged", figures.judged),
        ("samples_late", figures.late),
        ("samples_old", figures.old),
        ("left_out", figures.left_out + counters.left_out),
        ("refused_messages", counters.refused),
        ("spool_on_disk", u64::from(on_disk)),
    ];
    let mut channels = Vec::new();
    for (channel, figures) in spool.figures() {
        let since_ms = figures.failing_since_ms.unwrap_or(ts);
        if let Some(reason) = &figures.failing {
            let since = time(since_ms);
            wrong.push(format!(
                "channel {channel} has failed since {since}: {reason}"
            ));
        }
        let failing = figures.failing.is_some();
        for (name, count) in [
            ("queued", number(figures.queued)),
            ("delivered", figures.delivered),
            ("tried_again", figures.tried_again),
            ("given_up", figures.given_up),
        ] {
            channels.push((format!("channel.{channel}.{name}"), count));
        }
        let oldest = figures
            .oldest_ms
            .map_or(0, |formed| ts.saturating_sub(formed));
        channels.push((format!("channel.{channel}.oldest_seconds"), oldest / 1000));
        let failing = if failing {
            ts.saturating_sub(since_ms)
        } else {
            0
        };
        channels.push((format!("channel.{channel}.failing_seconds"), failing / 1000));
    }
    let ok = wrong.is_empty();
    told.append(&mut wrong);
    if footing.channels > 0 && !spool.has_folder() {
        told.push(
            "notices wait in memory only, and a crash loses them: set notifier.spool.folder"
                .to_owned(),
        );
    }
    counted.sort_unstable();
    let counted = counted
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count));
    Health {
        ts,
        state: if ok {
            HealthState::Ok
        } else {
            HealthState::Degraded
        },
        reason: (!told.is_empty()).then(|| cut(told.join("; "))),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        counters: counted.chain(channels).collect(),
    }
}

/// The health of one that stopped, or was lost: then `ts` is 0.
#[must_use]
pub fn stopped(ts: u64) -> Health {
    Health {
        ts,
        state: HealthState::Stopped,
        reason: None,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        counters: [].into(),
    }
}

/// As `2026-11-21T21:48:12Z`.
fn time(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map_or_else(|_| unix_ms.to_string(), |time| time.to_string())
}

/// A text of the contract has 4,096 bytes at most.
fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_REASON_BYTES));
    text
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
