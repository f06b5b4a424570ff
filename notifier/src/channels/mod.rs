//! The ways to people: one folder each, its settings beside its code.
//!
//! Most services take one HTTP request a message. Such a channel is two pure functions, [`Http::request`]
//! and [`Http::judge`]; sending, time limits and trying again stand outside.

use std::time::Duration;

use hostbus_daemon::secret::Secret;

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The service took it.
    Delivered,
    /// It may be taken later.
    Retry {
        /// What was wrong, for people; no secret in it.
        reason: String,
        /// The service said when to come back.
        after: Option<Duration>,
    },
    /// It will never be taken as it is: a wrong address, a revoked token, a refused text.
    Refused {
        /// What was wrong and how to mend it; no secret in it.
        reason: String,
    },
}

/// A channel that is one HTTP request a message.
pub trait Http {
    /// The request that tells `message`.
    fn request(&self, message: &Message, now_ms: u64) -> Request;

    /// What the service's answer means, by its own success code.
    fn judge(&self, answer: &Answer) -> Verdict;
}

/// One message, written for people and short enough for its channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// A key that stays the same when the message is sent again: `main-42`, or `main-42-2` for the second
    /// piece of a notice that is too long for one message.
    pub key: String,
    /// One line.
    pub title: String,
    /// The rest, in the channel's own markup.
    pub text: String,
    /// What it tells, for channels with fields of their own (colours, priorities, deduplication keys).
    pub notice: crate::notice::Notice,
}

/// An HTTP request. Its address and headers may hold secrets, so it is never shown.
pub struct Request {
    /// `POST`, `PUT` …
    pub method: &'static str,
    /// Where to, with what it may hold of tokens.
    pub url: Secret,
    /// Its headers.
    pub headers: Vec<(String, Secret)>,
    /// Its body.
    pub body: Vec<u8>,
}

/// The answer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body's first 64 KiB.
    pub body: Vec<u8>,
}
