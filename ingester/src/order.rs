//! Which sample of a node is next, seen before, or beyond a gap. No I/O, no clock.
//!
//! ```text
//! accepted (B, Q), sample (b, q, first)
//!   b < B, or b = B and q <= Q     duplicate
//!   b = B and q = Q + 1            take
//!   b = B and q > Q + 1            take if q = first: the outbox was full and let go what lies
//!                                  between; else a gap after (B, Q)
//!   b > B, or nothing accepted     take if q = first: nothing older is left to be sent; else a
//!                                  gap after (b, 0)
//! ```

use hostbus_store::{Mark, Step};
use hostbus_wire::sample::Place;

/// How far the samples of one node were accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    accepted: Option<Mark>,
}

/// What to do with a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is next.
    Take {
        /// Its step, to be [accepted](Order::accept) once it has its place on the way to Redis.
        step: Step,
        /// How many samples its publisher let go before it.
        skipped: u64,
    },
    /// It was accepted before.
    Duplicate,
    /// Something before it is missing.
    Gap {
        /// What the publisher is to send again from.
        after: Mark,
    },
}

impl Order {
    /// The order as Redis knows it.
    #[must_use]
    pub fn new(mark: Option<Mark>) -> Self {
        Self { accepted: mark }
    }

    /// The last sample that was accepted.
    #[must_use]
    pub fn accepted(&self) -> Option<Mark> {
        self.accepted
    }

    /// Tells what to do with the sample at `place`.
    #[must_use]
    pub fn judge(&self, place: Place) -> Verdict {
        let Place { boot, seq, first } = place;
        let take = |skipped| {
            let step = Step {
                after: self.accepted,
                mark: place.into(),
            };
            Verdict::Take { step, skipped }
        };
        match self.accepted {
            Some(accepted) if boot < accepted.boot => Verdict::Duplicate,
            Some(accepted) if boot == accepted.boot => match seq.checked_sub(accepted.seq) {
                None | Some(0) => Verdict::Duplicate,
                Some(1) => take(0),
                Some(ahead) if seq == first => take(ahead - 1),
                Some(_) => Verdict::Gap { after: accepted },
            },
            _ if seq == first => take(0),
            _ => Verdict::Gap {
                after: Mark { boot, seq: 0 },
            },
        }
    }

    /// Moves on to a step that this order gave.
    pub fn accept(&mut self, step: Step) {
        debug_assert_eq!(
            step.after, self.accepted,
            "a step is accepted in the order it was given"
        );
        self.accepted = Some(step.mark);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn mark(boot: u64, seq: u64) -> Mark {
        Mark { boot, seq }
    }

    #[test]
    fn each_sample_has_its_verdict() {
        let check = |accepted: Option<(u64, u64)>, place: (u64, u64, u64), expected: &str| {
            let order = Order::new(accepted.map(|(boot, seq)| mark(boot, seq)));
            let (boot, seq, first) = place;
            let verdict = match order.judge(Place { boot, seq, first }) {
                Verdict::Take { step, skipped } => {
                    assert_eq!(step.mark, mark(boot, seq));
                    format!("take {skipped}")
                }
                Verdict::Duplicate => "duplicate".to_owned(),
                Verdict::Gap { after } => format!("gap {} {}", after.boot, after.seq),
            };
            assert_eq!(verdict, expected, "{accepted:?} {place:?}");
        };
        check(Some((7, 10)), (6, 99, 1), "duplicate");
        check(Some((7, 10)), (7, 10, 1), "duplicate");
        check(Some((7, 10)), (7, 3, 3), "duplicate");
        check(Some((7, 10)), (7, 11, 8), "take 0");
        check(Some((7, 10)), (7, 11, 11), "take 0");
        check(Some((7, 10)), (7, 15, 15), "take 4");
        check(Some((7, 10)), (7, 15, 11), "gap 7 10");
        check(Some((7, 10)), (8, 1, 1), "take 0");
        check(Some((7, 10)), (8, 2, 1), "gap 8 0");
        check(Some((7, 10)), (8, 500, 500), "take 0");
        check(None, (7, 500, 500), "take 0");
        check(None, (7, 500, 400), "gap 7 0");
    }

    /// A publisher with its outbox, as the design tells it.
    #[derive(Debug)]
    struct Publisher {
        boot: u64,
        seq: u64,
        /// What is not committed, oldest first, of all boots.
        outbox: VecDeque<Mark>,
        /// How many of the outbox were sent.
        sent: usize,
        let_go: Vec<Mark>,
    }

    impl Publisher {
        fn sample(&mut self, room: usize) {
            self.seq += 1;
            self.outbox.push_back(mark(self.boot, self.seq));
            if self.outbox.len() > room {
                self.let_go.extend(self.outbox.pop_front());
                self.sent = self.sent.saturating_sub(1);
            }
        }

        /// The next sample to send: the oldest boot that is left comes first.
        fn send(&mut self) -> Option<Place> {
            let next = *self.outbox.get(self.sent)?;
            let oldest = self.outbox[0];
            if next.boot != oldest.boot {
                return None;
            }
            self.sent += 1;
            Some(Place {
                boot: next.boot,
                seq: next.seq,
                first: oldest.seq,
            })
        }

        fn committed(&mut self, upto: Mark, resend: bool) {
            while self.outbox.front().is_some_and(|oldest| *oldest <= upto) {
                self.outbox.pop_front();
                self.sent = self.sent.saturating_sub(1);
            }
            if resend {
                self.sent = 0;
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Act {
        Sample,
        Send { lost: bool, twice: bool },
        Write,
        TellMark { lost: bool },
        Timeout,
        IngesterRestart,
        PublisherRestart,
    }

    fn act() -> impl Strategy<Value = Act> {
        let lost = || prop::bool::weighted(0.3);
        prop_oneof![
            4 => Just(Act::Sample),
            6 => (lost(), lost()).prop_map(|(lost, twice)| Act::Send { lost, twice }),
            2 => Just(Act::Write),
            2 => lost().prop_map(|lost| Act::TellMark { lost }),
            2 => Just(Act::Timeout),
            1 => Just(Act::IngesterRestart),
            1 => Just(Act::PublisherRestart),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn every_sample_is_stored_once_in_order_whatever_is_lost_or_restarted(
            acts in prop::collection::vec(act(), 1..120),
            room in 3_usize..20,
        ) {
            let mut publisher = Publisher {
                boot: 5, seq: 0, outbox: VecDeque::new(), sent: 0, let_go: Vec::new(),
            };
            let mut order = Order::new(None);
            let mut queue: Vec<Mark> = Vec::new();
            let mut stored: Vec<Mark> = Vec::new();
            let mut made: Vec<Mark> = Vec::new();
            // In the end all links work, and everything is sent until nothing is left.
            let end = (0..400).map(|turn| match turn % 4 {
                0 => Act::Timeout,
                1 => Act::Send { lost: false, twice: false },
                2 => Act::Write,
                _ => Act::TellMark { lost: false },
            });
            for act in acts.into_iter().chain(end) {
                match act {
                    Act::Sample => {
                        publisher.sample(room);
                        made.push(mark(publisher.boot, publisher.seq));
                    }
                    Act::Send { lost, twice } => {
                        let Some(place) = publisher.send() else { continue };
                        let copies = usize::from(!lost) + usize::from(twice && !lost);
                        for _ in 0..copies {
                            match order.judge(place) {
                                Verdict::Take { step, .. } => {
                                    order.accept(step);
                                    queue.push(step.mark);
                                }
                                Verdict::Duplicate => {}
                                // The word of the gap may be lost; the timeout is the way then.
                                Verdict::Gap { .. } => {}
                            }
                        }
                    }
                    Act::Write => stored.append(&mut queue),
                    Act::TellMark { lost } => if let (Some(last), false) = (stored.last(), lost) {
                        publisher.committed(*last, true);
                    },
                    Act::Timeout => publisher.sent = 0,
                    Act::IngesterRestart => {
                        queue.clear();
                        order = Order::new(stored.last().copied());
                    }
                    Act::PublisherRestart => {
                        // Its outbox was on disk.
                        publisher.boot += 1;
                        publisher.seq = 0;
                        publisher.sent = 0;
                    }
                }
            }
            prop_assert!(publisher.outbox.is_empty(), "{publisher:?}");
            let in_order = stored.windows(2).all(|pair| pair[0] < pair[1]);
            prop_assert!(in_order, "{stored:?}");
            for sample in made {
                let once = stored.contains(&sample) || publisher.let_go.contains(&sample);
                prop_assert!(once, "{sample:?} is neither stored nor was it let go");
            }
        }
    }
}
