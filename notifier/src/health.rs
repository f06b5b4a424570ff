//! How the notifier is doing, as it stands at `_system/notifier/<instance>`.

use hostbus_wire::health::{Health, HealthState};

use crate::engine::Engine;
use crate::rules::Rules;
use crate::spool::Spool;

/// The longest reason, in bytes.
const MAX_REASON_BYTES: usize = 2_048;

/// The health of a notifier that works, or works in part.
#[must_use]
pub fn health(ts: u64, engine: &Engine, rules: &Rules, spool: &Spool) -> Health {
    let mut wrong = Vec::new();
    if !engine.is_active() {
        wrong.push(match engine.holder() {
            Some(holder) => format!("standing by for {holder}"),
            None => "standing by".to_owned(),
        });
    }
    let standing_by = !wrong.is_empty();
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
    let figures = engine.figures();
    let counters = engine.counters();
    let looked_after = engine.looked_after();
    let (pending, firing) = engine.alerts();
    let mut counted = vec![
        ("active", u64::from(engine.is_active())),
        ("silences", number(looked_after.silences)),
        ("acknowledgements", number(looked_after.acknowledgements)),
        ("groups", number(looked_after.groups)),
        ("rules", number(figures.rules)),
        ("nodes", number(figures.nodes)),
        ("alerts_pending", number(pending)),
        ("alerts_firing", number(firing)),
        ("samples_judged", figures.judged),
        ("samples_late", figures.late),
        ("samples_old", figures.old),
        ("left_out", figures.left_out + counters.left_out),
        ("refused_messages", counters.refused),
    ];
    let mut channels = Vec::new();
    for (channel, figures) in spool.figures() {
        if let Some(reason) = &figures.failing {
            wrong.push(format!("channel {channel}: {reason}"));
        }
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
    }
    // To stand by is what a second notifier is there for.
    let ok = wrong.len() == usize::from(standing_by);
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
        reason: (!wrong.is_empty()).then(|| cut(wrong.join("; "))),
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

/// A text of the contract has 4,096 bytes at most.
fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_REASON_BYTES));
    text
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
