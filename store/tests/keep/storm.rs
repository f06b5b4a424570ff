//! Whatever happens to a series: late rows, doubles, restarts, other settings.

use std::collections::BTreeSet;

use std::pin::pin;
use std::task::Poll;

use crate::site::*;
use hostbus_store::{StoreError, Tended, Tier};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    /// Rows every ten seconds for so many minutes.
    Steady(u64),
    /// Silence for so many minutes.
    Silence(u64),
    /// A row so many seconds before the newest.
    Late(u64),
    /// Rows that were written before, from so many rows back on.
    Again(usize),
    Tend,
    /// A visit that ends after so many waits, whatever it is in, and another keeper after it.
    Killed(usize),
    RestartKeeper,
    Settings(usize),
}

const SETTINGS: [[(u64, Option<u64>); 4]; 4] = [
    [
        (10 * 86_400, Some(3 * 3600)),
        (10 * 86_400, None),
        (10 * 86_400, Some(86_400)),
        (20 * 86_400, Some(86_400)),
    ],
    [
        (10 * 86_400, Some(3600)),
        (10 * 86_400, Some(3600)),
        (10 * 86_400, None),
        (20 * 86_400, None),
    ],
    [
        (10 * 86_400, None),
        (10 * 86_400, Some(12 * 3600)),
        (10 * 86_400, Some(3600)),
        (20 * 86_400, Some(3600)),
    ],
    [
        (10 * 86_400, Some(7200)),
        (86_400, None),
        (10 * 86_400, Some(7200)),
        (20 * 86_400, None),
    ],
];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..90_u64).prop_map(Step::Steady),
        2 => (1..600_u64).prop_map(Step::Silence),
        4 => (1..40_000_u64).prop_map(Step::Late),
        1 => (1..300_usize).prop_map(Step::Again),
        4 => Just(Step::Tend),
        3 => (1..40_usize).prop_map(Step::Killed),
        1 => Just(Step::RestartKeeper),
        1 => (0..SETTINGS.len()).prop_map(Step::Settings),
    ]
}

/// Drops a visit after so many waits for Redis.
async fn kill_after(waits: usize, visit: impl Future<Output = Result<Tended, StoreError>>) {
    let mut visit = pin!(visit);
    let mut waited = 0;
    std::future::poll_fn(|context| {
        waited += 1;
        match visit.as_mut().poll(context) {
            Poll::Pending if waited <= waits => Poll::Pending,
            Poll::Pending | Poll::Ready(_) => Poll::Ready(()),
        }
    })
    .await;
}

/// Runs `steps`, and holds what is in Redis against the model.
async fn run(steps: Vec<Step>) {
    let mut site = Site::new().await;
    let mut kept = SETTINGS[0];
    let keeper = |site: &Site, kept: &[(u64, Option<u64>); 4]| {
        let kept: Vec<_> = Tier::ALL
            .into_iter()
            .zip(kept)
            .map(|(tier, kept)| (tier, kept.0, kept.1))
            .collect();
        site.keeper(&kept)
    };
    let mut tending = keeper(&site, &kept);
    let mut raw: Vec<(u64, Vec<Option<f64>>)> = Vec::new();
    let mut now_ms = T + 3 * MINUTE;
    let mut number = 0;
    let mut late_times = BTreeSet::new();
    // Before this rows are gone, or may be: a longer retention does not bring them back.
    let mut gone = [0; 4];
    for step in steps {
        for (gone, kept) in gone.iter_mut().zip(kept) {
            *gone = (now_ms - kept.0 * 1000).next_multiple_of(HOUR).max(*gone);
        }
        match step {
            Step::Steady(minutes) => {
                for _ in 0..minutes * 6 {
                    now_ms += 10_000;
                    number += 1;
                    site.write(now_ms, &row(number));
                    raw.push((now_ms, row(number)));
                }
            }
            Step::Silence(minutes) => now_ms += minutes * MINUTE,
            Step::Late(seconds) => {
                let newest = raw.iter().map(|(at_ms, _)| *at_ms).max();
                let Some(at_ms) = newest
                    .map(|newest| newest.saturating_sub(seconds * 1000))
                    .filter(|at_ms| *at_ms > T)
                else {
                    continue;
                };
                if !late_times.insert(at_ms) {
                    continue;
                }
                number += 1;
                site.write(at_ms, &row(number));
                raw.push((at_ms, row(number)));
            }
            Step::Again(back) => {
                for (at_ms, row) in raw.clone().iter().rev().take(back).rev() {
                    site.write(*at_ms, row);
                }
            }
            Step::Tend => {
                let _ = tending.tend(&site.node, SERIES, now_ms).await.unwrap();
            }
            Step::Killed(waits) => {
                kill_after(waits, tending.tend(&site.node, SERIES, now_ms)).await;
                tending = keeper(&site, &kept);
            }
            Step::RestartKeeper => tending = keeper(&site, &kept),
            Step::Settings(which) => {
                kept = SETTINGS[which];
                tending = keeper(&site, &kept);
            }
        }
    }
    if raw.is_empty() {
        return;
    }
    raw.sort_by_key(|(at_ms, _)| *at_ms);
    // The next day goes on, so that all is closed.
    now_ms = Tier::Hour.bucket(now_ms) + HOUR;
    site.write(now_ms, &row(0));
    raw.push((now_ms, row(0)));
    site.tend(&mut tending, now_ms).await;
    assert_eq!(site.late(), 0);
    let expected = model(&raw, now_ms);
    for tier in Tier::ALL {
        let from = (now_ms - kept[tier as usize].0 * 1000)
            .next_multiple_of(HOUR)
            .max(gone[tier as usize]);
        let after = |rows: Rows| {
            rows.into_iter()
                .filter(|(at_ms, _)| *at_ms >= from)
                .collect::<Rows>()
        };
        let (have, want) = (
            after(site.rows(tier)),
            after(expected[tier as usize].clone()),
        );
        assert_eq!(have.len(), want.len(), "rows of {tier}");
        for (have, want) in have.iter().zip(&want) {
            let have_row = &have.1;
            assert_eq!((have.0, have_row), (want.0, &want.1), "{tier}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_each_tier_is_what_the_model_says(steps in prop::collection::vec(step(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}
