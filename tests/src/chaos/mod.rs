//! Chaos for a broker, with a model that knows what must arrive all the same.
//!
//! | module | owns |
//! |---|---|
//! | [`packet`] | MQTT packets as a client sees them |
//! | [`link`] | one connection |
//! | [`client`] | a client that knows exactly what was acknowledged, and can behave badly |
//! | [`ledger`] | the model: who published, who had subscribed, who got what |
//! | [`broker`] | the broker as a process: killed, started again, watched |
//! | [`stage`] | what all actors of one run share |
//! | [`publisher`], [`subscriber`] | actors whose every message is in the ledger |
//! | [`retained`], [`will`], [`watchdog`] | actors that keep a model of their own |
//! | [`crowd`] | actors that only make trouble |
//! | [`cast`] | which actors play, and the end of every run |

pub mod broker;
pub mod cast;
pub mod client;
pub mod crowd;
pub mod ledger;
pub mod link;
pub mod packet;
pub mod publisher;
pub mod retained;
pub mod stage;
pub mod subscriber;
pub mod watchdog;
pub mod will;
