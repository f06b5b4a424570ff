//! Writer, keeper and reader together, whatever happens to them, against a plain model.
//!
//! A case is a list of steps; `HOSTBUS_WHOLE_CASES` tells how many cases are tried.

#![expect(clippy::unwrap_used, reason = "what is not there fails the test")]

mod cluster;
#[path = "../fixture/mod.rs"]
mod fixture;
mod memory;
mod model;
mod reading;
mod samples;
mod server;
mod site;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};
use server::Server;
use site::{DAY, HOUR, MINUTE, SETTINGS, Site};
use tokio::sync::Mutex;

/// How many cases are tried when nobody says.
const CASES: u32 = 12;

#[derive(Debug, Clone)]
enum Step {
    /// Samples as they come.
    Live {
        node: usize,
        seed: u64,
        every_ms: u64,
        count: u64,
        commit: bool,
    },
    /// Samples that waited with their publisher, in order.
    Backlog {
        node: usize,
        seed: u64,
        every_ms: u64,
        count: u64,
    },
    /// Samples from before the newest.
    Late {
        node: usize,
        seed: u64,
        back_ms: u64,
        every_ms: u64,
        count: u64,
    },
    /// Another sample of a time that has one.
    Beside {
        node: usize,
        seed: u64,
        back_rows: usize,
    },
    /// A sample without a time of its own.
    Timeless {
        node: usize,
        seed: u64,
    },
    /// Samples as they come, while the keeper visits.
    Both {
        node: usize,
        seed: u64,
        every_ms: u64,
        count: u64,
        series: usize,
    },
    Silence(u64),
    RestartWriter,
    Forget(usize),
    RestartRedis,
    RestartKeeper,
    Settings(usize),
    /// A visit; one that is killed after so many waits.
    Visit {
        node: usize,
        series: usize,
        waits: Option<usize>,
    },
    /// All is brought up to date, and all tiers are looked at.
    Tend {
        range: (u64, u64),
    },
    /// Rows as they came are looked at.
    Read {
        range: (u64, u64),
    },
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 0..2_usize;
    let every = || {
        prop::sample::select(vec![
            1_000,
            10_000,
            10_000,
            MINUTE,
            7 * MINUTE,
            HOUR,
            11 * HOUR,
        ])
    };
    let length = || prop_oneof![3 => 0..2 * HOUR, 2 => 0..DAY, 1 => 0..50 * DAY];
    let range = || prop_oneof![1 => Just((u64::MAX, 0)), 2 => (length(), length())];
    prop_oneof![
        8 => (node(), any::<u64>(), every(), 1..100_u64, any::<bool>()).prop_map(|(node, seed, every_ms, count, commit)| Step::Live { node, seed, every_ms, count, commit }),
        2 => (node(), any::<u64>(), every(), 1..100_u64).prop_map(|(node, seed, every_ms, count)| Step::Backlog { node, seed, every_ms, count }),
        4 => (node(), any::<u64>(), length(), every(), 1..20_u64).prop_map(|(node, seed, back_ms, every_ms, count)| Step::Late { node, seed, back_ms, every_ms, count }),
        1 => (node(), any::<u64>(), 1..200_usize).prop_map(|(node, seed, back_rows)| Step::Beside { node, seed, back_rows }),
        1 => (node(), any::<u64>()).prop_map(|(node, seed)| Step::Timeless { node, seed }),
        2 => (node(), any::<u64>(), every(), 1..50_u64, any::<usize>()).prop_map(|(node, seed, every_ms, count, series)| Step::Both { node, seed, every_ms, count, series }),
        2 => length().prop_map(Step::Silence),
        2 => Just(Step::RestartWriter),
        1 => node().prop_map(Step::Forget),
        1 => prop::bool::weighted(0.3).prop_map(|killed| if killed { Step::RestartRedis } else { Step::RestartKeeper }),
        2 => (0..SETTINGS.len()).prop_map(Step::Settings),
        4 => (node(), any::<usize>(), prop::option::weighted(0.4, 1..60_usize)).prop_map(|(node, series, waits)| Step::Visit { node, series, waits }),
        4 => range().prop_map(|range| Step::Tend { range }),
        2 => range().prop_map(|range| Step::Read { range }),
    ]
}

/// The times from so long ago on, for so long.
fn range(site: &Site<'_>, (back_ms, length_ms): (u64, u64)) -> (u64, u64) {
    if back_ms == u64::MAX {
        return (0, u64::MAX);
    }
    let from_ms = site.now_ms - back_ms;
    (from_ms, from_ms + length_ms)
}

async fn take(site: &mut Site<'_>, step: Step) {
    match step {
        Step::Live {
            node,
            seed,
            every_ms,
            count,
            commit,
        } => {
            for batch in 0..count.div_ceil(7) {
                let batch = batch * 7..count.min(batch * 7 + 7);
                let entries = entries(site, node, seed, every_ms, batch.end - batch.start, true);
                site.write(node, entries, commit).await;
            }
        }
        Step::Backlog {
            node,
            seed,
            every_ms,
            count,
        } => {
            let entries = entries(site, node, seed, every_ms, count, false);
            site.write(node, entries, true).await;
        }
        Step::Late {
            node,
            seed,
            back_ms,
            every_ms,
            count,
        } => {
            let newest_ms = site.nodes[node].newest_ms;
            let mut entries = Vec::new();
            for number in 0..count {
                // Never the time of another row: of two late ones of one time neither is the first.
                let at_ms = (newest_ms.saturating_sub(back_ms) + number * every_ms) / 1_000 * 1_000;
                let at_ms = at_ms + 1 + seed % 997;
                let within = at_ms < newest_ms && site.nodes[node].odd_times.insert(at_ms);
                if within {
                    entries.push(site.entry(node, seed, at_ms, false));
                }
            }
            site.write(node, entries, seed.is_multiple_of(2)).await;
        }
        Step::Beside {
            node,
            seed,
            back_rows,
        } => {
            let times = site.nodes[node]
                .series
                .first()
                .map(|series| series.rows.keys());
            let at_ms = times.and_then(|times| times.rev().nth(back_rows).copied());
            let Some(at_ms) =
                at_ms.filter(|at_ms| node == 0 && site.nodes[node].odd_times.insert(*at_ms))
            else {
                return;
            };
            let entry = site.entry(node, seed, at_ms, false);
            site.write(node, vec![entry], true).await;
        }
        Step::Timeless { node, seed } => {
            site.pass(1_000);
            let at_ms = site.now_ms + 999;
            site.pass(1_000);
            let entry = site.entry(node, seed, at_ms, true);
            site.write(node, vec![entry], true).await;
        }
        Step::Both {
            node,
            seed,
            every_ms,
            count,
            series,
        } => {
            let entries = entries(site, node, seed, every_ms, count, false);
            let Some(series) = name(site, node, series) else {
                return site.write(node, entries, true).await;
            };
            site.write_and_visit(node, entries, &series).await;
        }
        Step::Silence(ms) => site.pass(ms),
        Step::RestartWriter => site.restart_writer(),
        Step::Forget(node) => site.forget(node).await,
        Step::RestartRedis => site.restart_redis().await,
        Step::RestartKeeper => site.restart_keeper(),
        Step::Settings(which) => site.settings(which),
        Step::Visit {
            node,
            series,
            waits,
        } => {
            if let Some(series) = name(site, node, series) {
                site.visit(node, &series, waits).await;
            }
        }
        Step::Tend { range: length } => {
            site.tend_all().await;
            let range = range(site, length);
            site.check_raw(range).await;
            site.check_tiers(range).await;
        }
        Step::Read { range: length } => site.check_raw(range(site, length)).await,
    }
}

/// Samples after the newest, at even distances. Time passes with them; they are written one by one,
/// or at their end.
fn entries(
    site: &mut Site<'_>,
    node: usize,
    seed: u64,
    every_ms: u64,
    count: u64,
    live: bool,
) -> Vec<hostbus_store::Entry> {
    if !live {
        site.pass(every_ms * count);
    }
    let mut entries = Vec::new();
    for number in 1..=count {
        if live {
            site.pass(every_ms);
        }
        let back_ms = if live { 0 } else { (count - number) * every_ms };
        // The clock of a node is some ms off, and never goes back.
        let at_ms = (site.now_ms - back_ms) / 1_000 * 1_000;
        if at_ms > site.nodes[node].newest_ms {
            entries.push(site.entry(node, seed, at_ms, false));
        }
    }
    entries
}

fn name(site: &Site<'_>, node: usize, number: usize) -> Option<String> {
    let series = &site.nodes[node].series;
    let place = number.checked_rem(series.len())?;
    Some(series[place].name.clone())
}

#[test]
fn what_is_read_of_every_tier_is_what_the_model_says_whatever_happens() {
    let cases = std::env::var("HOSTBUS_WHOLE_CASES").ok();
    let cases = cases.map_or(CASES, |cases| cases.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = Mutex::new(runtime.block_on(Server::private()));
    let config = Config {
        cases,
        max_shrink_iters: 150,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let tried = runner.run(&prop::collection::vec(step(), 1..24), |steps| {
        runtime.block_on(async {
            let mut server = server.lock().await;
            let mut site = Site::new(&mut server);
            for step in steps {
                take(&mut site, step).await;
            }
            let range = (u64::MAX, 0);
            take(&mut site, Step::Tend { range }).await;
        });
        Ok(())
    });
    if let Err(TestError::Fail(reason, steps)) = tried {
        panic!("{reason}\n{steps:#?}");
    }
}
