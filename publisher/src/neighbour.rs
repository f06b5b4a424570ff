//! Another live publisher with this node's id: heard, said, and not fought over. Reads no clock
//! itself.
//!
//! A publisher hears its own node's `info`. A retained one is the past, ours or another's. A live
//! one of another run comes from somebody who is connected now:
//!
//! ```text
//!   hear another run, 1st time   publish our own info again, so that the other one hears us too
//!                    2nd time   the same, and say it
//!                    after that   nothing
//! ```
//! Each answers twice, so both hear each other twice, and then it ends. One hearing alone is not
//! enough: it may be the last word of our own run before this one. While it holds, our info goes out
//! once a [`REPEAT`], by which each knows that the other one is still there; when nothing was heard
//! for [`QUIET`] it is over.
//!
//! Two that began in the same second have the same run. They are told apart by count: what we hear
//! and did not publish is another's.

use std::time::{Duration, Instant};

/// How often our info goes out while there is another publisher.
const REPEAT: Duration = Duration::from_secs(60);
/// How long the other one is silent before it counts as gone.
const QUIET: Duration = Duration::from_secs(180);
/// How often a live info of another run is answered.
const ANSWERS: u32 = 2;
/// How often one run must be heard to be believed.
const BELIEVED: u32 = 2;
/// How many runs are told apart, and how many of our own are known.
const MOST_RUNS: usize = 16;

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Neighbour {
    /// The runs under which we published. Usually one: a run moves behind a later one of the past.
    own: Vec<u64>,
    /// How many of our own infos are on their way back to us on this connection.
    echoes: u32,
    heard: Vec<Heard>,
    answered: u32,
    last_heard: Option<Instant>,
    /// When our info goes out again; there is another publisher as long as this is set.
    repeat_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    boot: u64,
    times: u32,
}

/// What is to be done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// Publish our info.
    pub(crate) publish: bool,
    /// Say this.
    pub(crate) news: Option<News>,
}

/// What people should hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// Another publisher of this node is connected.
    InUse { boot: u64 },
    /// It is gone.
    Over,
}

impl Neighbour {
    /// A new connection. What was under way on the last one does not come back, and nothing could
    /// be heard meanwhile.
    pub(crate) fn on_connected(&mut self, now: Instant) {
        self.echoes = 0;
        if self.last_heard.is_some() {
            self.last_heard = Some(now);
        }
    }

    /// Our info goes out under the run `boot`.
    pub(crate) fn on_published(&mut self, boot: u64) {
        self.echoes = self.echoes.saturating_add(1);
        if !self.own.contains(&boot) {
            if self.own.len() == MOST_RUNS {
                self.own.remove(0);
            }
            self.own.push(boot);
        }
    }

    /// A live info of this node under the run `boot`.
    pub(crate) fn on_info(&mut self, boot: u64, now: Instant) -> Step {
        if self.own.contains(&boot) && self.echoes > 0 {
            self.echoes -= 1;
            return Step::default();
        }
        self.last_heard = Some(now);
        let times = self.count(boot);
        let mut step = self.answer();
        if times >= BELIEVED {
            step.news = self.believe(boot, now);
        }
        step
    }

    /// The ingester takes the samples of the run `boot` in place of ours: somebody sends them.
    pub(crate) fn on_foreign_mark(&mut self, boot: u64, now: Instant) -> Step {
        self.last_heard = Some(now);
        let mut step = self.answer();
        step.news = self.believe(boot, now);
        step
    }

    /// Does what is due at `now`, while there is a connection.
    pub(crate) fn tick(&mut self, now: Instant) -> Step {
        let mut step = Step::default();
        if self.last_heard.is_some_and(|at| at + QUIET <= now) {
            self.last_heard = None;
            self.heard.clear();
            self.answered = 0;
            step.news = self.repeat_at.take().map(|_| News::Over);
        }
        if self.repeat_at.is_some_and(|at| at <= now) {
            self.repeat_at = Some(now + REPEAT);
            step.publish = true;
        }
        step
    }

    /// When to [`tick`](Self::tick) next.
    pub(crate) fn wake(&self) -> Option<Instant> {
        let quiet = self.last_heard.map(|at| at + QUIET);
        [quiet, self.repeat_at].into_iter().flatten().min()
    }

    /// How often the run was heard, this time included.
    fn count(&mut self, boot: u64) -> u32 {
        if let Some(heard) = self.heard.iter_mut().find(|heard| heard.boot == boot) {
            heard.times = heard.times.saturating_add(1);
            return heard.times;
        }
        if self.heard.len() == MOST_RUNS {
            self.heard.remove(0);
        }
        self.heard.push(Heard { boot, times: 1 });
        1
    }

    fn answer(&mut self) -> Step {
        let publish = self.answered < ANSWERS;
        self.answered += u32::from(publish);
        Step {
            publish,
            news: None,
        }
    }

    fn believe(&mut self, boot: u64, now: Instant) -> Option<News> {
        if self.repeat_at.is_some() {
            return None;
        }
        self.repeat_at = Some(now + REPEAT);
        Some(News::InUse { boot })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Publishers of one node on one broker, which hands each info to everyone.
    struct Bus {
        now: Instant,
        publishers: Vec<(u64, Neighbour)>,
        under_way: VecDeque<u64>,
        published: usize,
        news: Vec<(usize, News)>,
    }

    impl Bus {
        fn new() -> Self {
            Self {
                now: Instant::now(),
                publishers: Vec::new(),
                under_way: VecDeque::new(),
                published: 0,
                news: Vec::new(),
            }
        }

        fn join(&mut self, boot: u64) {
            let mut neighbour = Neighbour::default();
            neighbour.on_connected(self.now);
            self.publishers.push((boot, neighbour));
            self.publish(self.publishers.len() - 1);
            self.deliver();
        }

        fn publish(&mut self, index: usize) {
            let (boot, neighbour) = &mut self.publishers[index];
            neighbour.on_published(*boot);
            self.under_way.push_back(*boot);
            self.published += 1;
            assert!(self.published < 1000, "it does not end");
        }

        fn deliver(&mut self) {
            while let Some(boot) = self.under_way.pop_front() {
                for index in 0..self.publishers.len() {
                    let step = self.publishers[index].1.on_info(boot, self.now);
                    self.take(index, step);
                }
            }
        }

        fn take(&mut self, index: usize, step: Step) {
            self.news.extend(step.news.map(|news| (index, news)));
            if step.publish {
                self.publish(index);
            }
        }

        fn pass(&mut self, seconds: u32) {
            for _ in 0..seconds {
                self.now += SECOND;
                for index in 0..self.publishers.len() {
                    let step = self.publishers[index].1.tick(self.now);
                    self.take(index, step);
                }
                self.deliver();
            }
        }

        /// Who says what, in any order.
        fn news(&mut self) -> Vec<(usize, News)> {
            let mut news = std::mem::take(&mut self.news);
            news.sort_by_key(|(index, _)| *index);
            news
        }
    }

    #[test]
    fn one_alone_never_hears_another() {
        let mut bus = Bus::new();
        bus.join(100);
        for _ in 0..10 {
            bus.publish(0);
            bus.publish(0);
            bus.deliver();
        }
        bus.pass(1000);
        assert_eq!(bus.news(), []);
        assert_eq!(bus.published, 21);
    }

    #[test]
    fn two_learn_of_each_other_and_it_ends() {
        for (one, two) in [(100, 200), (200, 100), (100, 100)] {
            let mut bus = Bus::new();
            bus.join(one);
            bus.join(two);
            let heard = [
                (0, News::InUse { boot: two }),
                (1, News::InUse { boot: one }),
            ];
            assert_eq!(bus.news(), heard);
            assert_eq!(bus.published, 2 + 2 * ANSWERS as usize);
        }
    }

    #[test]
    fn it_is_said_once_for_as_long_as_it_holds() {
        let mut bus = Bus::new();
        bus.join(100);
        bus.join(200);
        bus.news();
        let before = bus.published;
        bus.pass(600);
        assert_eq!(bus.news(), []);
        assert_eq!(bus.published - before, 2 * 10, "once a minute each");
        bus.publishers.pop();
        bus.pass(179);
        assert_eq!(bus.news(), []);
        bus.pass(2);
        assert_eq!(bus.news(), [(0, News::Over)]);
        let (_, left) = &bus.publishers[0];
        assert_eq!(left.wake(), None);
        // Should it come back, it is said again.
        bus.join(300);
        assert_eq!(bus.news()[0], (0, News::InUse { boot: 300 }));
    }

    #[test]
    fn many_end_as_well() {
        let mut bus = Bus::new();
        for boot in 0..9 {
            bus.join(100 + boot);
        }
        // Late ones are not answered any more, they hear the repetitions.
        bus.pass(125);
        let mut who: Vec<usize> = bus.news().iter().map(|(index, _)| *index).collect();
        who.dedup();
        assert_eq!(who, (0..9).collect::<Vec<_>>());
    }

    #[test]
    fn the_last_word_of_the_run_before_this_one_is_not_another_publisher() {
        let mut bus = Bus::new();
        bus.under_way.push_back(99);
        bus.join(100);
        bus.pass(1000);
        assert_eq!(bus.news(), []);
        let (_, neighbour) = &bus.publishers[0];
        assert_eq!(neighbour.wake(), None);
        // Long after, another one is another one.
        bus.under_way.push_back(98);
        bus.deliver();
        assert_eq!(bus.news(), []);
    }

    #[test]
    fn our_own_run_under_its_old_number_is_ours() {
        let mut neighbour = Neighbour::default();
        let now = Instant::now();
        neighbour.on_published(100);
        neighbour.on_published(201);
        assert_eq!(neighbour.on_info(100, now), Step::default());
        assert_eq!(neighbour.on_info(201, now), Step::default());
    }

    #[test]
    fn echoes_that_a_lost_connection_took_are_not_waited_for() {
        let mut neighbour = Neighbour::default();
        let now = Instant::now();
        neighbour.on_connected(now);
        neighbour.on_published(100);
        neighbour.on_connected(now);
        neighbour.on_published(100);
        assert_eq!(neighbour.on_info(100, now), Step::default());
        assert!(neighbour.on_info(100, now).publish, "that was another's");
    }

    #[test]
    fn a_mark_of_another_run_is_proof_enough() {
        let mut neighbour = Neighbour::default();
        let now = Instant::now();
        let step = neighbour.on_foreign_mark(200, now);
        assert_eq!(step.news, Some(News::InUse { boot: 200 }));
        assert!(step.publish);
        assert_eq!(neighbour.on_info(200, now).news, None);
        assert_eq!(neighbour.on_info(200, now).news, None);
    }

    #[test]
    fn silence_counts_only_while_connected() {
        let mut bus = Bus::new();
        bus.join(100);
        bus.join(200);
        bus.news();
        let (_, neighbour) = &mut bus.publishers[0];
        let later = bus.now + QUIET * 5;
        neighbour.on_connected(later);
        assert_eq!(neighbour.tick(later).news, None);
        assert_eq!(neighbour.tick(later + QUIET).news, Some(News::Over));
    }
}
