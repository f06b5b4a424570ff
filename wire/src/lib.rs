//! The hostbus contract: what travels on the bus, on which topic, and who may write or read it.
//!
//! | module | owns |
//! |---|---|
//! | [`ids`] | site and node names, and the names of instances |
//! | [`table`] | every topic: shape, QoS, retained, durable, writers and readers |
//! | [`root`], [`topic`] | topics as text, both ways |
//! | [`pattern`] | matching of topics and of subscription filters against the table's shapes |
//! | [`role`] | what clients are on the bus |
//! | [`access`] | what one identity may publish, subscribe to and receive |
//! | [`number`] | how numbers travel: rounding, the shortest float, the shortest decimal text |
//! | [`decimal`] | that text, written without allocation |
//! | [`sample`] | `metrics`: the sample, its sections and their series |
//! | [`field`] | the description of a field: unit, kind, decimals, meaning |
//! | [`status`], [`info`], [`event`], [`details`] | the other payloads a publisher writes |
//! | [`committed`], [`control`], [`health`], [`lease`] | the payloads of the other parts |
//! | [`alert`], [`silence`], [`told`] | alerts, what people say to them, what people were told of them |
//! | [`guard`] | the scan that every received payload passes before anything is decoded |
//! | [`codec`] | CBOR in and out; the only place that knows the CBOR library |
//!
//! `hostbus.cddl` beside this crate describes the payloads in RFC 8610 for other languages.
//! This crate does no I/O and reads no clock.

pub mod access;
pub mod alert;
pub mod codec;
pub mod committed;
pub mod control;
pub mod decimal;
pub mod details;
pub mod event;
pub mod field;
pub mod guard;
pub mod health;
pub mod ids;
pub mod info;
pub mod lease;
pub mod number;
pub mod pattern;
pub mod role;
pub mod root;
pub mod sample;
pub mod silence;
pub mod status;
pub mod table;
pub mod told;
pub mod topic;

mod cbor;
mod scalar;
mod section;

pub use access::{Access, Coverage};
pub use codec::{DecodeError, EncodeError, Open, decode, decode_open, encode};
pub use decimal::Decimal;
pub use field::{Field, FieldKind, Unit};
pub use ids::{IdError, Name, NodeId, NodePath, SiteId};
pub use number::Value;
pub use role::{Identity, Role};
pub use root::{RootError, TopicRoot};
pub use sample::{Sample, Series};
pub use scalar::Scalar;
pub use table::{Kind, QoS};
pub use topic::{NodeTopic, SiteTopic, Topic, TopicError};
