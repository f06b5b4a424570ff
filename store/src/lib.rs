//! Everything hostbus keeps in Redis: what it looks like there, writing it, reading it back.
//!
//! | module | owns |
//! |---|---|
//! | [`chart`] | series over a range, in no more points than asked for |
//! | [`config`] | the `[redis]` section |
//! | [`dial`] | a stream to Redis, through TCP, TLS or a socket, that has said who we are |
//! | `tls` | TLS to Redis |
//! | [`connection`] | one connection that comes back, and which failures may be tried again |
//! | `circuit` | many answers at once, as they came |
//! | `answers` | these answers, read where they lie |
//! | [`events`] | events and the log of alerts, read back |
//! | [`facts`] | what Redis says of itself |
//! | [`frame`] | rows of one series, column by column |
//! | [`caution`] | what about a Redis can cost history |
//! | [`extent`] | how much history there is |
//! | [`rights`] | what hostbus may do in a Redis that has users |
//! | [`forget`] | removing a node whole |
//! | [`keys`] | every key, and what stands behind it |
//! | [`tier`] | the resolutions in which a series is kept |
//! | [`rollup`] | summing up: many rows become the one row of their bucket |
//! | [`mark`] | the committed mark of a node |
//! | [`row`] | one row of a series as text, both ways |
//! | [`chain`] | which of the samples in hand continue what Redis holds |
//! | [`claim`] | whether another ingester writes to the same Redis |
//! | [`batch`] | samples to be written, and what became of them |
//! | [`block`] | a packed block of rows, both ways |
//! | [`alert_log`] | the log of alerts, written |
//! | [`append`] | writing samples: rows first, then the mark |
//! | [`keep`] | keeping the series in order: rollups, late rows, packing, retention |
//! | [`describe`] | writing what is no time series: inventory, status, events, fields |
//! | [`read`] | nodes, series and rows, read back |
//! | [`scan`] | a range of one series, page by page |
//! | [`server`] | the private redis-server of `hostbus up` |
//!
//! Only this crate knows Redis keys. It reads no clock: the time comes from the caller.

pub mod alert_log;
pub mod append;
pub mod batch;
pub mod block;
pub mod caution;
pub mod chain;
pub mod chart;
pub mod claim;
pub mod config;
pub mod connection;
pub mod describe;
pub mod dial;
pub mod error;
pub mod events;
pub mod extent;
pub mod facts;
pub mod forget;
pub mod frame;
pub mod keep;
pub mod keys;
pub mod mark;
pub mod read;
pub mod rights;
pub mod rollup;
pub mod row;
pub mod scan;
pub mod server;
pub mod tier;

mod answers;
mod circuit;
mod late;
mod latest;
mod minute;
mod names;
mod pipe;
mod resp;
mod streams;
mod tls;

pub use alert_log::{AlertLog, Transition};
pub use append::Appender;
pub use batch::{Entry, Outcome};
pub use block::{Block, BlockError};
pub use caution::{Caution, cautions};
pub use chain::Step;
pub use chart::{Chart, ChartQuery, Curve, Line};
pub use claim::Claim;
pub use config::{Kept, Retention, StoreConfig};
pub use connection::Connection;
pub use describe::{Describer, Told};
pub use error::StoreError;
pub use events::{Log, Order, Record, Records};
pub use extent::Extent;
pub use facts::{Facts, append_fsync};
pub use forget::Forgotten;
pub use frame::Frame;
pub use keep::{Keeper, Tended};
pub use mark::Mark;
pub use read::{NodeSummary, Range, Reader};
pub use row::{Point, Row};
pub use scan::{FramePage, Page, Scan};
pub use server::{PrivateServer, ServerError};
pub use tier::Tier;
