//! Each channel against a stand-in of its service: what is sent passes the service's own checks, and
//! what the service says is understood.

#![expect(clippy::unwrap_used, reason = "test code")]

#[path = "../standin/mod.rs"]
mod standin;

mod dingtalk;
mod feishu;
mod openings;
mod storm;
mod telegram;
mod webhook;
mod wecom;

use std::time::Duration;

use hostbus_notifier::channels::Verdict;

/// What a verdict must be.
#[derive(Debug)]
enum Wanted {
    Delivered,
    /// To be tried again, not before so many seconds if that is known, for a reason that says this.
    Retry(Option<u64>, &'static str),
    /// The channel is at fault, with a hint that says this.
    Broken(&'static str),
    /// The message is at fault, with a hint that says this.
    Refused(&'static str),
}

/// Holds a verdict to what was wanted; no secret may stand in it.
fn judge(verdict: &Verdict, wanted: &Wanted, secrets: &[&str]) {
    let said = match (verdict, wanted) {
        (Verdict::Delivered, Wanted::Delivered) => return,
        (Verdict::Retry { reason, after }, Wanted::Retry(seconds, part)) => {
            assert_eq!(*after, seconds.map(Duration::from_secs), "{reason}");
            (reason, part)
        }
        (Verdict::Broken { reason }, Wanted::Broken(part))
        | (Verdict::Refused { reason }, Wanted::Refused(part)) => (reason, part),
        _ => panic!("{verdict:?} is not {wanted:?}"),
    };
    assert!(said.0.contains(said.1), "`{}` lacks `{}`", said.0, said.1);
    for secret in secrets {
        assert!(!said.0.contains(secret), "{} shows a secret", said.0);
    }
}
