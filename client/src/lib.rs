//! A component's connection to the MQTT bus: address, credentials, last will, subscriptions, and
//! coming back after the connection is lost.
//!
//! | module | owns |
//! |---|---|
//! | [`config`] | the `[bus]` section |
//! | `arguments` | its flags, with the feature of the same name |
//! | [`connection`] | the connection itself and its events |
//! | `sender` | publishing and subscribing on it |
//! | `returns` | when to try again after a connection is lost |
//! | `tls` | TLS to the broker |
//! | [`error`] | what can go wrong |
//!
//! Every connection is a new session: nothing is queued for an absent client, and nothing that
//! was not sent before a connection was lost is sent after it. What must not be lost is the
//! caller's to send again, when it sees [`Event::Connected`].

#[cfg(feature = "arguments")]
pub mod arguments;
pub mod config;
pub mod connection;
pub mod error;
mod returns;
mod sender;
mod tls;

#[cfg(feature = "arguments")]
pub use arguments::BusFlags;
pub use config::BusConfig;
pub use connection::{Connection, Event, Message, Options, Trouble, Will};
pub use error::ClientError;
pub use sender::Sender;
