//! Waiting for a condition, with a deadline: a slow machine makes a test slow, not red.

use std::thread;
use std::time::{Duration, Instant};

/// How long a condition may take to come true.
pub const DEADLINE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(50);

/// Looks again and again until `look` succeeds, and returns what it found. An error says what was
/// there instead; the last one is shown when [`DEADLINE`] is over.
///
/// # Panics
/// The deadline is over.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> anyhow::Result<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(error) if Instant::now() > deadline => {
                panic!(
                    "within {} s not seen: {what}; instead: {error:#}",
                    DEADLINE.as_secs()
                )
            }
            Err(_) => thread::sleep(STEP),
        }
    }
}
