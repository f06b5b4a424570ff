//! Claims about embeddable MQTT brokers, each a program's worth of clients that shows whether it is
//! true of the broker at an address.
//!
//! | module | owns |
//! |---|---|
//! | [`client`] | a client that does only what it is told |
//! | [`claim`] | what a claim is, and the list of them |
//! | `death`, `loss`, `hold` | the claims: what kills a broker, what it loses, what holds others up |
//! | [`run`] | the command line: a fresh broker in a process of its own for each claim |

pub mod claim;
pub mod client;
mod death;
mod hold;
mod loss;
pub mod run;
