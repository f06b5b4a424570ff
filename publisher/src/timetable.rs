//! When samples are taken, and which collectors take part in each. Reads no clock itself.
//!
//! Each collector has an interval, its own or that of the samples, and all intervals are counted
//! from one moment: those of 1 and of 10 seconds meet in every tenth sample.

use std::time::{Duration, Instant};

/// Timers fire a little late or early. What is due within this is due now.
const TOLERANCE: Duration = Duration::from_millis(2);

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Timetable {
    start: Instant,
    rows: Vec<Row>,
    /// The turn that was taken last, from the start.
    turn: Duration,
}

#[derive(Debug)]
struct Row {
    interval: Duration,
    /// When it is due next, from the start.
    next: Duration,
}

impl Timetable {
    /// Begins at `start`, when all are due.
    pub(crate) fn new(start: Instant, intervals: impl IntoIterator<Item = Duration>) -> Self {
        let rows = intervals.into_iter().map(|interval| Row {
            interval,
            next: Duration::ZERO,
        });
        Self {
            start,
            rows: rows.collect(),
            turn: Duration::ZERO,
        }
    }

    /// The same with other intervals, each counted from `now`. One whose interval stays keeps its
    /// next turn, and none has it put off: changes that come faster than turns would leave no turn.
    pub(crate) fn change(&mut self, now: Instant, intervals: impl IntoIterator<Item = Duration>) {
        let passed = now.saturating_duration_since(self.start);
        let mut rows = Vec::with_capacity(self.rows.len());
        for (row, interval) in self.rows.iter().zip(intervals) {
            let left = row.next.saturating_sub(passed);
            let next = if row.interval == interval {
                left
            } else {
                left.min(interval)
            };
            rows.push(Row { interval, next });
        }
        self.start = now;
        self.rows = rows;
        self.turn = Duration::ZERO;
    }

    /// When the next sample is due.
    pub(crate) fn wake(&self) -> Instant {
        let next = self.rows.iter().map(|row| row.next).min();
        self.start + next.unwrap_or_default()
    }

    /// Which take part in the sample at `now`, and sets their next turns. Turns that were missed
    /// are left out.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<bool> {
        let passed = now.saturating_duration_since(self.start);
        let reached = passed + TOLERANCE;
        let mut turn = None;
        let due = self.rows.iter_mut().map(|row| {
            let due = row.next <= reached;
            if due {
                let missed = (reached - row.next).as_nanos() / row.interval.as_nanos().max(1);
                let missed = u32::try_from(missed).unwrap_or(u32::MAX);
                let own_turn = row.next.saturating_add(row.interval.saturating_mul(missed));
                row.next = own_turn.saturating_add(row.interval);
                turn = turn.max(Some(own_turn));
            }
            due
        });
        let due = due.collect();
        self.turn = turn.unwrap_or(passed);
        due
    }

    /// The time from the sample that was taken last to the next one, as planned: when timers fire
    /// is another moment each time. From a sample out of turn on it is what is left.
    pub(crate) fn to_next(&self) -> Duration {
        let next = self.rows.iter().map(|row| row.next).min();
        next.unwrap_or_default().saturating_sub(self.turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn collectors_meet_where_their_intervals_do() {
        let start = Instant::now();
        let mut table = Timetable::new(start, [SECOND * 2, SECOND * 3]);
        let mut turns = Vec::new();
        while turns.len() < 6 {
            let now = table.wake();
            turns.push(((now - start).as_secs(), table.due(now)));
        }
        assert_eq!(
            turns,
            [
                (0, vec![true, true]),
                (2, vec![true, false]),
                (3, vec![false, true]),
                (4, vec![true, false]),
                (6, vec![true, true]),
                (8, vec![true, false]),
            ]
        );
    }

    #[test]
    fn turns_that_were_missed_are_left_out() {
        let start = Instant::now();
        let mut table = Timetable::new(start, [SECOND]);
        table.due(start);
        assert_eq!(table.due(start + SECOND * 60 + SECOND / 2), [true]);
        assert_eq!(table.wake(), start + SECOND * 61);
    }

    #[test]
    fn the_time_to_the_next_turn_is_the_planned_one_however_late_the_timer() {
        let start = Instant::now();
        let late = Duration::from_micros(1300);
        let mut table = Timetable::new(start, [SECOND * 2, SECOND * 3]);
        for (at, to_next) in [(0, 2), (2, 1), (3, 1), (4, 2), (6, 2)] {
            table.due(start + SECOND * at + late);
            assert_eq!(table.to_next(), SECOND * to_next, "at {at} s");
        }
        // Those at 8, 9, … and 60 s were missed.
        table.due(start + SECOND * 60 + SECOND / 2);
        assert_eq!(table.to_next(), SECOND * 2);
        // Out of turn.
        table.due(start + SECOND * 60 + SECOND * 3 / 4);
        assert_eq!(table.to_next(), SECOND * 5 / 4);
    }

    #[test]
    fn a_timer_that_fires_a_moment_early_counts() {
        let start = Instant::now();
        let mut table = Timetable::new(start, [SECOND]);
        table.due(start);
        assert_eq!(table.due(start + SECOND - TOLERANCE / 2), [true]);
        assert_eq!(table.wake(), start + SECOND * 2);
    }

    #[test]
    fn other_intervals_count_from_the_change_and_the_rest_stays() {
        let start = Instant::now();
        let mut table = Timetable::new(start, [SECOND * 10, SECOND * 60]);
        table.due(start);
        table.change(start + SECOND * 4, [SECOND, SECOND * 60]);
        assert_eq!(table.wake(), start + SECOND * 5);
        assert_eq!(table.due(start + SECOND * 5), [true, false]);
        assert_eq!(table.due(start + SECOND * 60), [true, true]);
    }

    #[test]
    fn changes_that_come_faster_than_turns_put_no_turn_off() {
        let start = Instant::now();
        let mut table = Timetable::new(start, [SECOND * 3]);
        table.due(start);
        for seconds in 1..3 {
            let interval = SECOND * (3 + seconds);
            table.change(start + SECOND * seconds, [interval]);
            assert_eq!(table.wake(), start + SECOND * 3);
        }
    }
}
