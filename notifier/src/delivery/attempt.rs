//! What follows from what became of a message.

use std::time::Duration;

use super::Patience;
use crate::channels::Verdict;
use crate::notice::Notice;
use crate::spool::{End, Ended, Progress};

/// What is to be done after a try.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Next {
    /// The next message of the notice.
    Message(Progress),
    /// The same message again, after `wait` at least.
    Again {
        progress: Progress,
        reason: String,
        wait: Duration,
    },
    /// The notice has come to its end.
    End(End),
}

/// Decides it. `progress` is how things stood before the try, `wait` how long the line would wait by
/// itself after a failure.
pub(super) fn after(
    notice: &Notice,
    mut progress: Progress,
    verdict: Verdict,
    wait: Duration,
    patience: Patience,
    now_ms: u64,
) -> Next {
    let again = |mut progress: Progress, reason: String, asked: Duration| {
        progress.tries = progress.tries.saturating_add(1);
        if let Some(end) = expired(notice, &reason, patience, now_ms) {
            return Next::End(end);
        }
        let asked = asked.min(patience.longest_asked);
        if !asked.is_zero() {
            let asked_ms = u64::try_from(asked.as_millis()).unwrap_or(u64::MAX);
            progress.not_before_ms = now_ms.saturating_add(asked_ms);
        }
        Next::Again {
            progress,
            reason,
            wait: wait.max(asked),
        }
    };
    match verdict {
        Verdict::Delivered => done(progress, now_ms),
        Verdict::Refused { reason } => {
            // One alert that a service does not take must not cost the others of its notice.
            progress.refused.get_or_insert(reason);
            done(progress, now_ms)
        }
        Verdict::Broken { reason } => again(progress, reason, Duration::ZERO),
        Verdict::Retry { reason, after } => again(progress, reason, after.unwrap_or_default()),
    }
}

/// The end of a notice that is too old to be tried again; `reason` is why its channel did not take it, or
/// takes nothing.
pub(super) fn expired(
    notice: &Notice,
    reason: &str,
    patience: Patience,
    now_ms: u64,
) -> Option<End> {
    let age_ms = u128::from(now_ms.saturating_sub(notice.formed_ms));
    if age_ms < patience.give_up.as_millis() {
        return None;
    }
    let hours = patience.give_up.as_secs_f64() / 3600.0;
    let reason = format!("not taken within {hours:.1} hours; at last: {reason}");
    Some(End {
        at_ms: now_ms,
        how: Ended::GivenUp { reason },
    })
}

/// What follows when a message was taken or refused.
fn done(mut progress: Progress, now_ms: u64) -> Next {
    progress.delivered += 1;
    progress.not_before_ms = 0;
    if progress.delivered < progress.pieces {
        return Next::Message(progress);
    }
    let how = match progress.refused {
        None => Ended::Delivered,
        Some(reason) => Ended::GivenUp { reason },
    };
    Next::End(End { at_ms: now_ms, how })
}

/// How things stand before a notice that makes `pieces` messages is tried at `now_ms`. When it made
/// another number of messages before, as after a change of its template, it begins anew.
pub(super) fn before(mut progress: Progress, pieces: usize, now_ms: u64) -> Progress {
    if progress.pieces != pieces {
        progress.pieces = pieces;
        progress.delivered = 0;
        progress.refused = None;
    }
    progress.first_try_ms.get_or_insert(now_ms);
    progress
}

/// How long a service that asked to be left alone still is.
pub(super) fn asked_wait(progress: &Progress, patience: Patience, now_ms: u64) -> Duration {
    // A clock that was set back must not stretch it.
    Duration::from_millis(progress.not_before_ms.saturating_sub(now_ms)).min(patience.longest_asked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notice::Reason;

    fn notice(formed_ms: u64) -> Notice {
        Notice {
            id: 1,
            channel: "ops".to_owned(),
            reason: Reason::Firing,
            group: String::new(),
            formed_ms,
            lines: Vec::new(),
            still_firing: 0,
        }
    }

    fn retry(after_seconds: Option<u64>) -> Verdict {
        Verdict::Retry {
            reason: "busy".to_owned(),
            after: after_seconds.map(Duration::from_secs),
        }
    }

    fn progress(pieces: usize, delivered: usize) -> Progress {
        Progress {
            pieces,
            delivered,
            ..Progress::default()
        }
    }

    const WAIT: Duration = Duration::from_secs(8);

    #[test]
    fn a_notice_ends_with_its_last_message_and_says_if_one_was_refused() {
        let decide = |stood: Progress, verdict| {
            after(&notice(0), stood, verdict, WAIT, Patience::default(), 1000)
        };
        let next = decide(progress(3, 1), Verdict::Delivered);
        assert_eq!(next, Next::Message(progress(3, 2)));
        let delivered = End {
            at_ms: 1000,
            how: Ended::Delivered,
        };
        assert_eq!(
            decide(progress(3, 2), Verdict::Delivered),
            Next::End(delivered)
        );
        let reason = "the token was revoked".to_owned();
        let refused = Verdict::Refused {
            reason: reason.clone(),
        };
        let given_up = End {
            at_ms: 1000,
            how: Ended::GivenUp { reason },
        };
        let after_one = Progress {
            refused: Some("the token was revoked".to_owned()),
            ..progress(3, 2)
        };
        assert_eq!(
            decide(progress(3, 1), refused.clone()),
            Next::Message(after_one.clone())
        );
        // The last one is taken, or refused for another reason: the first one counts.
        let other = Verdict::Refused {
            reason: "too long".to_owned(),
        };
        for verdict in [Verdict::Delivered, other] {
            let ended = decide(after_one.clone(), verdict);
            assert_eq!(ended, Next::End(given_up.clone()));
        }
        assert_eq!(decide(progress(1, 0), refused), Next::End(given_up));
    }

    #[test]
    fn a_failure_waits_for_the_longer_of_our_wait_and_the_one_asked_for() {
        let check = |asked, wait_seconds, not_before_ms| {
            let stood = progress(1, 0);
            let next = after(
                &notice(0),
                stood,
                retry(asked),
                WAIT,
                Patience::default(),
                1000,
            );
            let Next::Again { progress, wait, .. } = next else {
                panic!("{next:?}");
            };
            assert_eq!(wait, Duration::from_secs(wait_seconds), "{asked:?}");
            assert_eq!((progress.tries, progress.not_before_ms), (1, not_before_ms));
        };
        check(None, 8, 0);
        check(Some(0), 8, 0);
        check(Some(3), 8, 4000);
        check(Some(30), 30, 31_000);
        check(Some(1_000_000), 3600, 3_601_000);
    }

    #[test]
    fn a_broken_channel_costs_no_notice_before_its_time() {
        let broken = || Verdict::Broken {
            reason: "the token was revoked".to_owned(),
        };
        let decide = |now_ms| {
            let stood = progress(3, 1);
            let patience = Patience::default();
            after(&notice(5), stood, broken(), WAIT, patience, now_ms)
        };
        let waits = Next::Again {
            progress: Progress {
                tries: 1,
                ..progress(3, 1)
            },
            reason: "the token was revoked".to_owned(),
            wait: WAIT,
        };
        assert_eq!(decide(1000), waits);
        let reason = "not taken within 24.0 hours; at last: the token was revoked".to_owned();
        let given_up = Next::End(End {
            at_ms: 86_400_005,
            how: Ended::GivenUp { reason },
        });
        assert_eq!(decide(86_400_005), given_up);
    }

    #[test]
    fn a_notice_that_is_too_old_is_given_up_after_a_try() {
        let day_ms = 86_400_000;
        let check = |now_ms, ends: bool| {
            let stood = progress(1, 0);
            let next = after(
                &notice(5),
                stood,
                retry(None),
                WAIT,
                Patience::default(),
                now_ms,
            );
            match next {
                Next::End(End {
                    how: Ended::GivenUp { reason },
                    ..
                }) => {
                    assert!(ends, "{now_ms}");
                    assert_eq!(reason, "not taken within 24.0 hours; at last: busy");
                }
                other => assert!(!ends, "{other:?}"),
            }
        };
        check(0, false);
        check(day_ms, false);
        check(day_ms + 5, true);
    }

    #[test]
    fn a_notice_whose_messages_have_changed_begins_anew() {
        let stood = before(progress(3, 2), 3, 70);
        assert_eq!((stood.delivered, stood.first_try_ms), (2, Some(70)));
        assert_eq!(
            before(stood, 4, 80),
            Progress {
                first_try_ms: Some(70),
                ..progress(4, 0)
            }
        );
    }

    #[test]
    fn a_clock_set_back_does_not_stretch_a_wait_asked_for() {
        let stood = Progress {
            not_before_ms: 10_000_000,
            ..Progress::default()
        };
        let check = |now_ms, seconds| {
            let wait = asked_wait(&stood, Patience::default(), now_ms);
            assert_eq!(wait, Duration::from_secs(seconds), "{now_ms}");
        };
        check(9_990_000, 10);
        check(10_000_001, 0);
        check(0, 3600);
    }
}
