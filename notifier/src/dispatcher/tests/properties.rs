//! Whatever happens, in whatever order: the dispatcher tells what the plain model tells, and what people
//! get makes sense in itself.

use std::collections::BTreeMap;

use hostbus_wire::alert::{AlertKey, AlertSeverity, AlertState};
use proptest::prelude::*;

use super::model::Model;
use super::world::{Step, Told, World, key, seconds_of_a_step, steps};

/// Follows what people were told, knowing nothing of how it came about.
#[derive(Default)]
pub(super) struct Reader {
    told: BTreeMap<(String, AlertKey), (AlertSeverity, u64)>,
    /// Repetitions may come before their time: two notifiers took turns.
    pub(super) early_repeats: bool,
    /// How far the clock was set back.
    behind_ms: u64,
}

impl Reader {
    pub(super) fn read(&mut self, told: &Told) {
        let repeat_ms = match told.channel.as_str() {
            "mail" => 600_000,
            "pager" => 120_000,
            _ => u64::MAX,
        };
        assert!(!told.lines.is_empty());
        let formed_ms = told.formed_ms + self.behind_ms;
        let mut oldest_ms = u64::MAX;
        for line in &told.lines {
            let place = (told.channel.clone(), line.key.clone());
            let before = self.told.get(&place).copied();
            if line.state == AlertState::Resolved {
                assert!(before.is_some(), "over, but never told: {told:?}");
                self.told.remove(&place);
                continue;
            }
            if let Some((_, at_ms)) = before.filter(|(severity, _)| *severity >= line.severity) {
                oldest_ms = oldest_ms.min(at_ms);
            }
            if line.repeated {
                let severity = before.map(|(severity, _)| severity);
                assert_eq!(severity, Some(line.severity), "{told:?}");
            } else if told.channel != "chat" {
                // Chat is not told of ends, so there a new beginning may look like a repetition.
                let same = before.is_some_and(|(severity, _)| severity == line.severity);
                assert!(!same, "told twice without a change: {told:?}");
            }
            self.told.insert(place, (line.severity, formed_ms));
        }
        if !self.early_repeats && told.lines.iter().any(|line| line.repeated) {
            let due = oldest_ms.saturating_add(repeat_ms) <= formed_ms;
            assert!(due, "repeated before its time: {told:?}");
        }
    }
}

impl Reader {
    fn knows(&self, channel: &str, key: &AlertKey) -> bool {
        let place = (channel.to_owned(), key.clone());
        let told = self.told.get(&place);
        told.is_some_and(|(severity, _)| *severity == AlertSeverity::Critical)
    }

    /// Chat is told of no ends.
    pub(super) fn assert_all_over(&self) {
        let left: Vec<_> = self
            .told
            .keys()
            .filter(|(channel, _)| channel != "chat")
            .collect();
        assert!(left.is_empty(), "never told to be over: {left:?}");
    }
}

fn run(steps: &[Step], restarts: bool) -> World {
    let mut world = World::new();
    let mut model = Model::default();
    let mut reader = Reader::default();
    for step in steps {
        if !restarts && matches!(step, Step::Restart) {
            continue;
        }
        if let Step::Back(seconds) = step {
            reader.behind_ms += seconds * 1_000;
        }
        let told = world.step(step, Some(&mut model));
        if !matches!(step, Step::Wait(_)) {
            assert_eq!(told, model.tick(world.now_ms), "{step:?}");
        }
        for told in &told {
            reader.read(told);
            for line in &told.lines {
                let silence = model.silenced(&line.key, told.formed_ms);
                assert_eq!(silence, None, "told while silenced: {told:?}");
            }
        }
    }
    // In the end all is over, and nothing holds it back any longer than a silence of a quarter of an hour.
    let mut rest: Vec<Step> = Vec::new();
    for node in ["a", "b", "c"] {
        for rule in ["node-down", "cpu", "disk", "fan"] {
            rest.push(Step::Over(key(node, rule)));
        }
    }
    rest.push(Step::Wait(2_000));
    for step in &rest {
        let told = world.step(step, Some(&mut model));
        if !matches!(step, Step::Wait(_)) {
            assert_eq!(told, model.tick(world.now_ms), "{step:?}");
        }
        told.iter().for_each(|told| reader.read(told));
    }
    reader.assert_all_over();
    world
}

/// The clock is only ever set back while the notifier is away, so that nobody can say by how much.
fn run_with_clock_set_back_at_restarts(steps: &[Step], last: u64) {
    const NODES: [&str; 3] = ["a", "b", "c"];
    const RULES: [&str; 3] = ["cpu", "disk", "fan"];
    let mut world = World::new();
    let mut reader = Reader::default();
    let mut happen = |steps: &[Step], reader: &mut Reader| {
        for step in steps {
            let told = match step {
                Step::Back(seconds) => {
                    reader.behind_ms += seconds * 1_000;
                    world.restart_set_back(*seconds)
                }
                step => world.step(step, None),
            };
            told.iter().for_each(|told| reader.read(told));
        }
    };
    happen(steps, &mut reader);
    let keys: Vec<AlertKey> = NODES
        .iter()
        .flat_map(|node| RULES.map(|rule| key(node, rule)))
        .collect();
    let mut rest = NODES
        .map(|node| Step::Over(key(node, "node-down")))
        .to_vec();
    rest.push(Step::Back(last));
    rest.extend(
        keys.iter()
            .map(|key| Step::Fire(key.clone(), AlertSeverity::Critical)),
    );
    // The longest silence, what settles after a node that was down, and some for the groups.
    rest.push(Step::Wait(900 + 60 + 120));
    happen(&rest, &mut reader);
    for key in &keys {
        for channel in ["mail", "pager"] {
            assert!(reader.knows(channel, key), "{channel} never heard of {key}");
        }
    }
    let over: Vec<Step> = keys.iter().cloned().map(Step::Over).collect();
    happen(&over, &mut reader);
    happen(&[Step::Wait(300)], &mut reader);
    reader.assert_all_over();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_dispatcher_tells_what_a_plain_model_tells(steps in steps()) {
        run(&steps, true);
    }

    #[test]
    fn a_clock_set_back_while_the_notifier_is_away_holds_nothing_for_longer_and_tells_nothing_twice(
        steps in steps(),
        last in seconds_of_a_step(),
    ) {
        run_with_clock_set_back_at_restarts(&steps, last);
    }

    #[test]
    fn a_restart_changes_nothing(steps in steps()) {
        prop_assert_eq!(run(&steps, true).told, run(&steps, false).told);
    }
}
