//! Questions to the kernel that may hang, each on a thread that is given up with its question.
//!
//! What a dead server or a dead FUSE process does not answer can't be taken back. A thread that is
//! stuck with a question stays with it, and the other questions go on with another thread. Of the
//! threads that are stuck there are never more than [`MAX_THREADS`]: from there on questions are
//! left unasked.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// The most threads there are at one time.
pub(crate) const MAX_THREADS: usize = 16;
/// How long the next question waits for a thread before another one is started: far longer than
/// an answer takes.
const NEXT_THREAD_AFTER: Duration = Duration::from_millis(30);
/// Room for one system call.
const STACK_BYTES: usize = 64 * 1024;

/// Counts the threads of all [`Errands`] that share it: those that are stuck outlive theirs.
pub(crate) type Threads = AtomicUsize;

/// Questions of one kind, each known by its key.
pub(crate) struct Errands<K, A> {
    question: Arc<dyn Fn(&K) -> A + Send + Sync>,
    threads: &'static Threads,
    /// How many were started by this.
    started: usize,
    idle: Vec<Thread<K>>,
    busy: Vec<Thread<K>>,
    /// When each question was asked that has no answer yet.
    under_way: HashMap<K, Instant>,
    done: mpsc::Sender<Done<K, A>>,
    answers: mpsc::Receiver<Done<K, A>>,
}

/// A thread, which ends with this, once it is not stuck.
struct Thread<K> {
    number: usize,
    todo: mpsc::Sender<K>,
}

struct Done<K, A> {
    thread: usize,
    key: K,
    answer: A,
}

impl<K, A> Errands<K, A>
where
    K: Clone + Eq + Hash + Send + 'static,
    A: Send + 'static,
{
    /// `question` is what may hang. It must not panic: its key would count as hanging.
    pub(crate) fn new(
        threads: &'static Threads,
        question: impl Fn(&K) -> A + Send + Sync + 'static,
    ) -> Self {
        let (done, answers) = mpsc::channel();
        Self {
            question: Arc::new(question),
            threads,
            started: 0,
            idle: Vec::new(),
            busy: Vec::new(),
            under_way: HashMap::new(),
            done,
            answers,
        }
    }

    /// Asks about each of `keys` that is not under way, and waits up to `patience` for them all.
    /// Returns what was answered since the last call. Late answers to earlier questions are among
    /// them, and their keys are not asked about again before the next call.
    pub(crate) fn ask(
        &mut self,
        keys: impl IntoIterator<Item = K>,
        now: Instant,
        patience: Duration,
    ) -> HashMap<K, A> {
        let mut answered = HashMap::new();
        while let Ok(done) = self.answers.try_recv() {
            self.take(done, &mut answered);
        }
        let mut waiting: Vec<K> = keys.into_iter().collect();
        waiting.retain(|key| !self.under_way.contains_key(key) && !answered.contains_key(key));
        let mut asked: Vec<K> = Vec::new();
        let deadline = Instant::now() + patience;
        loop {
            while let Some(key) = waiting.pop() {
                // Without a stuck thread in the way the first one is started at once.
                if self.idle.is_empty() && asked.is_empty() {
                    self.start();
                }
                let Some(thread) = self.idle.pop() else {
                    waiting.push(key);
                    break;
                };
                self.under_way.insert(key.clone(), now);
                asked.push(key.clone());
                // The thread lives as long as this end does.
                let _ = thread.todo.send(key);
                self.busy.push(thread);
            }
            // Nothing to ask, or no thread to be had.
            if asked.is_empty() {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let step = if waiting.is_empty() {
                left
            } else {
                left.min(NEXT_THREAD_AFTER)
            };
            match self.answers.recv_timeout(step) {
                Ok(done) => {
                    asked.retain(|key| *key != done.key);
                    self.take(done, &mut answered);
                }
                Err(_) if left.is_zero() => break,
                Err(_) if !waiting.is_empty() => self.start(),
                Err(_) => {}
            }
        }
        // While all answer, one is enough.
        self.idle.truncate(1);
        answered
    }

    /// Since when a question has no answer.
    pub(crate) fn unanswered_since(&self, key: &K) -> Option<Instant> {
        self.under_way.get(key).copied()
    }

    fn take(&mut self, done: Done<K, A>, answered: &mut HashMap<K, A>) {
        if let Some(position) = self.busy.iter().position(|t| t.number == done.thread) {
            self.idle.push(self.busy.swap_remove(position));
        }
        self.under_way.remove(&done.key);
        answered.insert(done.key, done.answer);
    }

    /// Starts one more thread, if there may be one and one can be had.
    fn start(&mut self) {
        let Some(place) = Place::take(self.threads) else {
            return;
        };
        let (todo, keys) = mpsc::channel::<K>();
        let (question, done) = (Arc::clone(&self.question), self.done.clone());
        self.started += 1;
        let number = self.started;
        let thread = thread::Builder::new()
            .name("errands".to_owned())
            .stack_size(STACK_BYTES);
        let run = move || {
            let _place = place;
            for key in keys {
                let answer = question(&key);
                let answered = Done {
                    thread: number,
                    key,
                    answer,
                };
                if done.send(answered).is_err() {
                    return;
                }
            }
        };
        if thread.spawn(run).is_ok() {
            self.idle.push(Thread { number, todo });
        }
    }
}

/// One of the places for threads, free again when this is gone.
struct Place(&'static Threads);

impl Place {
    fn take(threads: &'static Threads) -> Option<Self> {
        let place = Self(threads);
        // Over the limit the place is given back as it is dropped.
        let taken = threads.fetch_add(1, Ordering::Relaxed);
        (taken < MAX_THREADS).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Condvar, Mutex};

    use super::*;

    /// Holds up whoever asks about a number that is shut.
    #[derive(Default)]
    pub(crate) struct Gate<K> {
        shut: Mutex<Vec<K>>,
        changed: Condvar,
    }

    impl<K: PartialEq + Clone> Gate<K> {
        pub(crate) fn shut(&self, keys: impl IntoIterator<Item = K>) {
            self.shut.lock().unwrap().extend(keys);
        }

        pub(crate) fn open(&self) {
            self.shut.lock().unwrap().clear();
            self.changed.notify_all();
        }

        pub(crate) fn pass(&self, key: &K) {
            let mut shut = self.shut.lock().unwrap();
            while shut.contains(key) {
                shut = self.changed.wait(shut).unwrap();
            }
        }
    }

    /// A count of its own: tests run side by side.
    pub(crate) fn threads() -> &'static Threads {
        Box::leak(Box::default())
    }

    const PATIENCE: Duration = Duration::from_millis(200);
    const DEADLINE: Duration = Duration::from_secs(20);

    fn squares(gate: &Arc<Gate<u32>>, threads: &'static Threads) -> Errands<u32, u32> {
        let gate = Arc::clone(gate);
        Errands::new(threads, move |key| {
            gate.pass(key);
            key * key
        })
    }

    fn sorted(answers: HashMap<u32, u32>) -> Vec<(u32, u32)> {
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.sort_unstable();
        answers
    }

    #[test]
    fn all_that_answer_share_one_thread() {
        let (gate, threads) = (Arc::default(), threads());
        let mut errands = squares(&gate, threads);
        for _ in 0..3 {
            let answers = errands.ask([1, 2, 3], Instant::now(), DEADLINE);
            assert_eq!(sorted(answers), [(1, 1), (2, 4), (3, 9)]);
        }
        assert_eq!(errands.idle.len(), 1);
    }

    #[test]
    fn what_hangs_holds_up_no_other_and_is_not_asked_again() {
        let (gate, threads) = (Arc::new(Gate::default()), threads());
        let mut errands = squares(&gate, threads);
        gate.shut([2, 4]);
        let (first, start) = (Instant::now(), Instant::now());
        let mut answers = errands.ask([1, 2, 3, 4], first, PATIENCE);
        while answers.len() < 2 {
            assert!(start.elapsed() < DEADLINE, "1 and 3 are held up");
            answers.extend(errands.ask([], first, PATIENCE));
        }
        assert_eq!(sorted(answers), [(1, 1), (3, 9)]);
        for _ in 0..3 {
            errands.ask([2, 4], first + DEADLINE, PATIENCE);
        }
        assert_eq!(errands.busy.len(), 2);
        assert_eq!(errands.unanswered_since(&2), Some(first));
        assert_eq!(errands.unanswered_since(&1), None);
        gate.open();
    }

    #[test]
    fn a_late_answer_counts_at_the_next_call() {
        let (gate, threads) = (Arc::new(Gate::default()), threads());
        let mut errands = squares(&gate, threads);
        gate.shut([5]);
        assert!(errands.ask([5], Instant::now(), PATIENCE).is_empty());
        gate.open();
        let start = Instant::now();
        loop {
            let answers = errands.ask([], Instant::now(), PATIENCE);
            if answers.get(&5) == Some(&25) {
                break;
            }
            assert!(start.elapsed() < DEADLINE, "the answer never came");
        }
        assert_eq!(errands.unanswered_since(&5), None);
    }

    #[test]
    fn there_are_never_more_threads_than_allowed() {
        let (gate, threads) = (Arc::new(Gate::default()), threads());
        let all: Vec<u32> = (0..MAX_THREADS as u32 + 8).collect();
        gate.shut(all.iter().copied());
        let mut errands = squares(&gate, threads);
        errands.ask(all.iter().copied(), Instant::now(), DEADLINE / 20);
        assert_eq!(errands.under_way.len(), MAX_THREADS);
        assert_eq!(threads.load(Ordering::Relaxed), MAX_THREADS);
        // Those of one that is gone still count.
        drop(errands);
        let mut errands = squares(&gate, threads);
        assert!(errands.ask([1000], Instant::now(), PATIENCE).is_empty());
        assert_eq!(errands.unanswered_since(&1000), None);
        gate.open();
        let start = Instant::now();
        while threads.load(Ordering::Relaxed) > 0 {
            assert!(start.elapsed() < DEADLINE, "a thread did not end");
            thread::yield_now();
        }
        let answers = errands.ask([1000], Instant::now(), DEADLINE);
        assert_eq!(sorted(answers), [(1000, 1_000_000)]);
    }
}
