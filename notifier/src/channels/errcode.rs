//! The answers of DingTalk and WeCom: `{"errcode": 0, "errmsg": "ok"}`, with status 200 whatever became of
//! the message.

use std::time::Duration;

use serde::Deserialize;

use super::Verdict;
use super::answer::{Answer, excerpt};

/// What a code means, as one service documents it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The message was taken.
    Taken,
    /// Too many messages: it is tried again after so long, unless the service names a time.
    TooFast(Duration),
    /// The channel is at fault; how to mend it.
    Broken(&'static str),
    /// The message is at fault; how to mend it.
    Refused(&'static str),
    /// The service is busy, or nobody knows: it is tried again.
    Later,
}

/// An answer.
#[derive(Deserialize)]
struct Reply {
    errcode: i64,
    errmsg: Option<String>,
}

/// The verdict on an answer of `service`, from which secrets are hidden; `meaning` knows its codes and may
/// look at its words.
pub(super) fn judge(
    answer: &Answer,
    service: &str,
    meaning: impl FnOnce(i64, &str) -> Meaning,
) -> Verdict {
    let Some(Reply {
        errcode: code,
        errmsg,
    }) = answer.json()
    else {
        return match answer.status {
            // A page of somebody in between, or nothing: nobody said that the message was taken.
            200..=299 => answer.later(),
            _ => answer.by_status("check the webhook address of the group's robot"),
        };
    };
    let said = excerpt(&errmsg.unwrap_or_default());
    let refused = |hint: &str| format!("{service} refused it, errcode {code}: {said}; {hint}");
    let later = |after| Verdict::Retry {
        reason: format!("{service} did not take it, errcode {code}: {said}"),
        after,
    };
    match meaning(code, &said) {
        Meaning::Taken => Verdict::Delivered,
        Meaning::TooFast(wait) => later(Some(answer.retry_after().unwrap_or(wait))),
        Meaning::Broken(hint) => Verdict::Broken {
            reason: refused(hint),
        },
        Meaning::Refused(hint) => Verdict::Refused {
            reason: refused(hint),
        },
        Meaning::Later => later(answer.retry_after()),
    }
}
