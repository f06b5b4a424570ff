//! Watches the bus for threshold breaches and tells people.
//!
//! Two halves meet on the bus: the evaluator turns samples into alerts, which stand there retained; the
//! dispatcher turns alerts, its own or anyone's, into notices for people. All that decides is pure;
//! [`run`] owns the connection, the disk and the time.
//!
//! ```text
//! samples ─ evaluator ─ alerts ─ bus ─ dispatcher ─ spool ─ delivery ─ channels ─ people
//! ```
//! | module | owns |
//! |---|---|
//! | [`config`] | the `[notifier]` section |
//! | [`run`] | the task: messages in, publications and notices out |
//! | [`engine`] | evaluator, dispatcher and lease in step with the bus |
//! | [`bus`] | what is heard on the bus |
//! | [`outgoing`] | what waits for the connection |
//! | [`lease`] | which of several notifiers is the active one |
//! | [`rule`] | what a rule says, and how it is written |
//! | [`rules`] | the rules in force, kept up to date |
//! | [`evaluator`] | samples to alerts |
//! | [`replay`] | what rules would have raised in the past |
//! | [`globs`] | lists of globs |
//! | [`dispatcher`] | from alerts to notices |
//! | [`notice`] | what a channel is to tell people |
//! | [`spool`] | what must survive the notifier's death |
//! | [`windows`] | what the evaluator remembers, on disk |
//! | [`delivery`] | from the spool to people |
//! | [`ways`] | the channels of the settings, opened |
//! | [`channels`] | the ways to people |
//! | [`template`] | how a notice reads |
//! | [`http`] | asking the web |
//! | [`dead_man`] | the dead man's switch |
//! | [`health`] | how the notifier is doing |
//! | [`error`] | what can go wrong |

pub mod bus;
pub mod channels;
pub mod config;
pub mod dead_man;
pub mod delivery;
pub mod dispatcher;
pub mod engine;
pub mod error;
pub mod evaluator;
pub mod globs;
pub mod health;
pub mod http;
pub mod lease;
pub mod notice;
pub mod outgoing;
pub mod replay;
pub mod rule;
pub mod rules;
pub mod run;
pub mod spool;
pub mod template;
pub mod ways;
pub mod windows;

pub use config::Config;
pub use error::Error;
pub use run::start;
