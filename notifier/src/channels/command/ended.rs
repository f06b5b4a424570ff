//! What the end of a program means. Pure.

use std::time::Duration;

use crate::channels::Verdict;
use crate::channels::answer::excerpt;

/// "Temporary failure, the user is invited to retry" (`sysexits.h`).
const EX_TEMPFAIL: i32 = 75;

/// "Permission denied" and "configuration error" (`sysexits.h`).
const EX_NOPERM: i32 = 77;
const EX_CONFIG: i32 = 78;
/// What a shell makes of a command that it may not run or does not find (POSIX, "Exit status for commands").
const SHELL_NOT_RUN: [i32; 2] = [126, 127];

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// It could not be started.
    NotStarted(String),
    /// By itself.
    Code(i32),
    /// By a signal: killed by somebody, short of memory, or because the notifier's service stops.
    Signal(i32),
    /// It was killed because it took longer than this.
    TooLong(Duration),
}

/// The verdict of a program that ended so and printed `last_line` last.
pub(super) fn judge(ended: &Ended, last_line: &str) -> Verdict {
    let said = match excerpt(last_line) {
        line if line.is_empty() => String::new(),
        line => format!(": {line}"),
    };
    let retry = |reason| Verdict::Retry {
        reason,
        after: None,
    };
    match ended {
        Ended::Code(0) => Verdict::Delivered,
        Ended::Code(EX_TEMPFAIL) => retry(format!("the program asks to be tried again (75){said}")),
        Ended::Code(code)
            if matches!(*code, EX_NOPERM | EX_CONFIG) || SHELL_NOT_RUN.contains(code) =>
        {
            Verdict::Broken {
                reason: format!(
                    "the program says that it can't work ({code}){said}; mend what it calls or how it is set up"
                ),
            }
        }
        Ended::Code(code) => Verdict::Refused {
            reason: format!(
                "the program ended with {code}{said}; it must end with 0 when it has told, with 75 to be \
                 tried again, and with 78 while it is not set up"
            ),
        },
        Ended::Signal(signal) => retry(format!("the program was ended by signal {signal}{said}")),
        Ended::TooLong(limit) => retry(format!(
            "the program took longer than {} s and was killed (`timeout_seconds`){said}",
            limit.as_secs()
        )),
        Ended::NotStarted(error) => Verdict::Broken {
            reason: format!(
                "the program could not be started: {error}; see that it is there and may be run (`chmod +x`)"
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_zero_is_success_and_only_a_programs_own_word_is_final() {
        let check = |ended: Ended, expected: &str, word: &str| {
            let verdict = judge(&ended, "no\tsuch room\n");
            let (kind, reason) = match &verdict {
                Verdict::Delivered => ("delivered", ""),
                Verdict::Retry { reason, .. } => ("retry", reason.as_str()),
                Verdict::Broken { reason } => ("broken", reason.as_str()),
                Verdict::Refused { reason } => ("refused", reason.as_str()),
            };
            assert_eq!(kind, expected, "{ended:?}");
            assert!(reason.contains(word), "{word} in {reason}");
        };
        check(Ended::Code(0), "delivered", "");
        check(Ended::Code(75), "retry", "no such room");
        check(Ended::Code(1), "refused", "ended with 1: no such room");
        check(Ended::Code(2), "refused", "75");
        for code in [77, 78, 126, 127] {
            check(Ended::Code(code), "broken", "no such room");
        }
        check(Ended::Signal(9), "retry", "signal 9");
        check(Ended::TooLong(Duration::from_secs(30)), "retry", "30 s");
        check(Ended::NotStarted("gone".into()), "broken", "gone");
    }
}
