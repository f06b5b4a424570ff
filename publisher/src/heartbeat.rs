//! Whether the publisher still turns, for whoever watches it.
//!
//! Each part that must not stand still has a pulse, which it waits for beside its own work. The one
//! who watches asks all of them, as often as it wants to know; there is no timer in here, so a
//! publisher that nobody watches does nothing for it. How long a sample takes or how seldom one is
//! due does not matter: a part that waits for its next sample answers.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// The side of the one who watches.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    question: watch::Sender<u64>,
    answers: Vec<Arc<AtomicU64>>,
}

/// The side of one part.
#[derive(Debug)]
pub(crate) struct Pulse {
    question: watch::Receiver<u64>,
    answer: Arc<AtomicU64>,
}

impl Heartbeat {
    pub(crate) fn new() -> Self {
        Self {
            question: watch::Sender::new(0),
            answers: Vec::new(),
        }
    }

    /// The pulse of one more part.
    pub(crate) fn pulse(&mut self) -> Pulse {
        let answer = Arc::new(AtomicU64::new(0));
        self.answers.push(Arc::clone(&answer));
        Pulse {
            question: self.question.subscribe(),
            answer,
        }
    }

    /// Tells whether every part has answered the last question, and then asks the next one. The
    /// first question counts as answered.
    pub(crate) fn beats(&self) -> bool {
        let asked = *self.question.borrow();
        let answered = |answer: &Arc<AtomicU64>| answer.load(Ordering::Relaxed) == asked;
        let beats = self.answers.iter().all(answered);
        if beats {
            self.question.send_replace(asked + 1);
        }
        beats
    }
}

impl Pulse {
    /// Answers each question, for as long as this is waited for. May be dropped and called again.
    pub(crate) async fn answer(&mut self) -> Infallible {
        while self.question.changed().await.is_ok() {
            let asked = *self.question.borrow_and_update();
            self.answer.store(asked, Ordering::Relaxed);
        }
        // Nobody watches any more.
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn it_beats_only_while_every_part_answers() {
        let mut heartbeat = Heartbeat::new();
        let (mut one, mut other) = (heartbeat.pulse(), heartbeat.pulse());
        let lively = tokio::spawn(async move { one.answer().await });
        assert!(heartbeat.beats(), "nothing was asked yet");
        yield_now().await;
        assert!(!heartbeat.beats(), "the other part does not answer");
        assert!(!heartbeat.beats());
        let late = tokio::spawn(async move { other.answer().await });
        yield_now().await;
        assert!(heartbeat.beats());
        yield_now().await;
        assert!(heartbeat.beats());
        yield_now().await;
        late.abort();
        assert!(late.await.unwrap_err().is_cancelled());
        assert!(heartbeat.beats(), "it had answered before it was gone");
        yield_now().await;
        assert!(!heartbeat.beats());
        lively.abort();
    }
}
