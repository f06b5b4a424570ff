//! Walks all nodes and their series, so that each is visited every few minutes, beside the samples' way
//! and with a connection of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hostbus_daemon::{Backoff, CancellationToken, clock};
use hostbus_store::{Keeper, StoreError, Tended};
use hostbus_wire::NodePath;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::warn;

use crate::counters::{Counters, add};

/// How long a walk through all nodes takes.
const WALK_SECONDS: u64 = 600;
/// No visit follows the one before it sooner.
const LEAST_WAIT: Duration = Duration::from_millis(1);
/// When a series is visited again of which there was more to do.
const MORE_AFTER: Duration = Duration::from_millis(50);
/// When a series is visited again whose late rows wait for their minute to be over.
const WAITING_AFTER: Duration = Duration::from_secs(60);
/// The longest wait between two visits while Redis is full.
const WAIT_WHILE_FULL: Duration = Duration::from_millis(20);
/// How many series wait to be visited again; others wait for the next walk.
const AGAIN: usize = 10_000;
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// Visits series until it is told to stop.
#[derive(Debug)]
pub struct KeeperTask {
    keeper: Keeper,
    counters: Arc<Counters>,
    again: Again,
    backoff: Backoff,
    told_refusal: bool,
    /// Redis has given us an answer.
    served: bool,
    /// Redis was full when a series was visited last.
    full: bool,
}

/// A series to be visited.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    node: NodePath,
    series: String,
}

/// The series to be visited again before the walk comes by. Each list is in the order of time.
#[derive(Debug, Default)]
struct Again {
    more: VecDeque<(Instant, Place)>,
    waiting: VecDeque<(Instant, Place)>,
}

impl Again {
    /// Notes a series of which a visit at `now` left something to do.
    fn note(&mut self, place: Place, tended: Tended, now: Instant) {
        let (list, after) = if tended.more {
            (&mut self.more, MORE_AFTER)
        } else if tended.waiting {
            (&mut self.waiting, WAITING_AFTER)
        } else {
            return;
        };
        let known = list.iter().any(|(_, have)| *have == place);
        if !known && list.len() < AGAIN {
            list.push_back((now + after, place));
        }
    }

    /// The next series that is due.
    fn next(&mut self, now: Instant) -> Option<Place> {
        for list in [&mut self.more, &mut self.waiting] {
            if list.front().is_some_and(|(due, _)| *due <= now) {
                return list.pop_front().map(|(_, place)| place);
            }
        }
        None
    }

    /// When the next one is due.
    fn due(&self) -> Option<Instant> {
        let first = |list: &VecDeque<(Instant, Place)>| list.front().map(|(due, _)| *due);
        first(&self.more)
            .into_iter()
            .chain(first(&self.waiting))
            .min()
    }
}

impl KeeperTask {
    /// A task that keeps with `keeper`.
    #[must_use]
    pub fn new(keeper: Keeper, counters: Arc<Counters>) -> Self {
        Self {
            keeper,
            counters,
            again: Again::default(),
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            told_refusal: false,
            served: false,
            full: false,
        }
    }

    /// Walks until `token` ends it. What it is in the middle of is done by the next visit.
    pub async fn run(mut self, token: CancellationToken) -> &'static str {
        token
            .run_until_cancelled(async {
                loop {
                    self.walk().await;
                    self.keeper.forget_unvisited();
                }
            })
            .await;
        "keeper"
    }

    /// Visits all series of all nodes once.
    async fn walk(&mut self) {
        let begun = Instant::now();
        let mut a_node;
        let mut next_at = begun;
        let mut from = 0;
        loop {
            // There may be more than when the walk began.
            let count = self.count().await.max(1);
            a_node = Duration::from_secs(WALK_SECONDS).div_f64(count as f64);
            let (nodes, next) = self.nodes(from).await;
            for node in nodes {
                self.node(&node, next_at, a_node).await;
                next_at += a_node;
            }
            from = next;
            if from == 0 {
                break;
            }
        }
        // Without a node there is nothing to wait for in between.
        self.wait(next_at.max(begun + a_node.min(Duration::from_secs(WALK_SECONDS))))
            .await;
    }

    /// Visits the series of one node that have something to do, evenly from `begin` on.
    async fn node(&mut self, node: &NodePath, begin: Instant, within: Duration) {
        let mut from = 0;
        loop {
            let (series, next) = self.series(node, from).await;
            let series = self.due(node, series).await;
            let count = u32::try_from(series.len()).unwrap_or(u32::MAX).max(1);
            for (number, series) in (0..).zip(series) {
                self.wait(begin + within * number / count).await;
                self.visit(Place {
                    node: node.clone(),
                    series,
                })
                .await;
                sleep(LEAST_WAIT).await;
            }
            from = next;
            if from == 0 {
                return;
            }
        }
    }

    /// Waits, and meanwhile visits what is to be visited again. While Redis is full the next one is not
    /// waited for: it may make room.
    async fn wait(&mut self, until: Instant) {
        let until = if self.full {
            until.min(Instant::now() + WAIT_WHILE_FULL)
        } else {
            until
        };
        loop {
            let now = Instant::now();
            if let Some(place) = self.again.next(now) {
                self.visit(place).await;
                sleep(LEAST_WAIT).await;
                if Instant::now() >= until {
                    return;
                }
                continue;
            }
            if now >= until {
                return;
            }
            sleep_until(self.again.due().map_or(until, |due| due.min(until))).await;
        }
    }

    /// Visits one series, again and again while Redis is away.
    async fn visit(&mut self, place: Place) {
        let counters = Arc::clone(&self.counters);
        loop {
            let now_ms = clock::unix_ms();
            let tended = self.keeper.tend(&place.node, &place.series, now_ms).await;
            match self.judge(tended).await {
                Some(Some(tended)) => {
                    self.full = false;
                    for (counter, count) in [
                        (&counters.keeper_visits, 1),
                        (&counters.keeper_rolled_up_rows, tended.rolled_up_rows),
                        (&counters.keeper_merged_rows, tended.merged_rows),
                        (&counters.keeper_packed_blocks, tended.packed_blocks),
                        (&counters.keeper_contended, u64::from(tended.contended)),
                        (&counters.keeper_malformed, tended.malformed),
                        (&counters.keeper_refused, tended.refused),
                    ] {
                        add(counter, count);
                    }
                    return self.again.note(place, tended, Instant::now());
                }
                Some(None) => return,
                None => {}
            }
        }
    }

    async fn count(&mut self) -> u64 {
        loop {
            let count = self.keeper.count_nodes().await;
            if let Some(count) = self.judge(count).await {
                return count.unwrap_or(0);
            }
        }
    }

    async fn nodes(&mut self, from: u64) -> (Vec<NodePath>, u64) {
        loop {
            let nodes = self.keeper.nodes(from).await;
            if let Some(nodes) = self.judge(nodes).await {
                return nodes.unwrap_or_default();
            }
        }
    }

    async fn series(&mut self, node: &NodePath, from: u64) -> (Vec<String>, u64) {
        loop {
            let series = self.keeper.series(node, from).await;
            if let Some(series) = self.judge(series).await {
                return series.unwrap_or_default();
            }
        }
    }

    /// Those of `series` that have something to do; all when Redis refuses to tell.
    async fn due(&mut self, node: &NodePath, series: Vec<String>) -> Vec<String> {
        loop {
            let now_ms = clock::unix_ms();
            let due = self.keeper.due(node, series.clone(), now_ms).await;
            if let Some(due) = self.judge(due).await {
                return due.unwrap_or(series);
            }
        }
    }

    /// What came of a request: nothing yet when Redis is away, after a wait; and nothing at all when it
    /// refuses. That Redis is away is told by the writer; a refusal is told here, once.
    async fn judge<T>(&mut self, result: Result<T, StoreError>) -> Option<Option<T>> {
        match result {
            Ok(done) => {
                self.backoff.reset();
                self.served = true;
                Some(Some(done))
            }
            Err(StoreError::Full) => {
                // What was too old here is gone. That it is full is told by the writer.
                self.full = true;
                Some(None)
            }
            Err(error) if self.may_retry(&error) => {
                if matches!(error, StoreError::Denied { .. }) && !self.counters.redis_away() {
                    self.tell(&error);
                }
                sleep(self.backoff.next_wait()).await;
                None
            }
            Err(error) => {
                add(&self.counters.keeper_refused, 1);
                self.tell(&error);
                Some(None)
            }
        }
    }

    /// Tells whether to try again. What is denied us while samples are written, and after Redis has served
    /// us, is some keys alone: the others are not to wait for them.
    fn may_retry(&self, error: &StoreError) -> bool {
        let denied = matches!(error, StoreError::Denied { .. })
            && self.served
            && !self.counters.redis_away();
        error.may_retry() && !denied
    }

    fn tell(&mut self, error: &StoreError) {
        if !std::mem::replace(&mut self.told_refusal, true) {
            warn!(%error, "redis refuses the keeper; other refusals are only counted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(series: &str) -> Place {
        Place {
            node: "home.a".parse().unwrap(),
            series: series.to_owned(),
        }
    }

    #[test]
    fn what_is_left_to_do_is_done_before_the_next_walk() {
        let mut again = Again::default();
        let now = Instant::now();
        let more = Tended {
            more: true,
            ..Tended::default()
        };
        let waiting = Tended {
            waiting: true,
            ..Tended::default()
        };
        again.note(place("done"), Tended::default(), now);
        assert_eq!(again.due(), None);
        again.note(place("waits"), waiting, now);
        again.note(place("more"), more, now);
        again.note(place("more"), more, now);
        assert_eq!(again.due(), Some(now + MORE_AFTER));
        assert_eq!(again.next(now), None);
        assert_eq!(again.next(now + MORE_AFTER), Some(place("more")));
        assert_eq!(again.next(now + MORE_AFTER), None);
        assert_eq!(again.next(now + WAITING_AFTER), Some(place("waits")));
        assert_eq!(again.due(), None);
    }

    #[test]
    fn no_more_series_wait_than_there_is_room_for() {
        let mut again = Again::default();
        let now = Instant::now();
        let more = Tended {
            more: true,
            ..Tended::default()
        };
        for number in 0..AGAIN {
            again.more.push_back((now, place(&number.to_string())));
        }
        again.note(place("one more"), more, now);
        assert_eq!(again.more.len(), AGAIN);
    }
}
