//! What the end-to-end scenarios in `tests/` stand on: real programs, real servers, real clients.
//!
//! | module | owns |
//! |---|---|
//! | [`chaos`] | clients, actors and the model for tests of the broker under stress |
//! | [`random`] | chance that can be had again from a seed |
//! | [`poll`] | waiting for a condition, with a deadline |
//! | [`tool`] | where programs are: ours, the system's, Python |
//! | [`folder`] | a short temporary folder |
//! | [`host`] | a host whose samples and words the test chooses |
//! | [`loopback`] | an address of this host that no other test uses |
//! | [`service`] | one process: starting, signalling, ending it, and its log when a test fails |
//! | [`redis_server`] | a `redis-server` of the test's own |
//! | [`history`] | what stands in Redis, read without hostbus |
//! | [`site`] | a `hostbus up` |
//! | [`pipeline`] | broker, ingester and publisher as separate processes |
//! | [`mosquitto`] | mosquitto's clients |
//! | [`proxy`] | a network that can be cut |
//! | [`sink`] | an HTTP endpoint that takes what is posted to it |
//! | [`simulated`] | a publisher whose samples the test chooses |
//! | [`python`] | scripts with other libraries for CBOR, MQTT and YAML |
//!
//! Everything here panics with a sentence when it fails: it is test code, and a panic shows the
//! logs of the processes that were running.

pub mod chaos;
pub mod folder;
pub mod history;
pub mod host;
pub mod loopback;
pub mod mosquitto;
pub mod pipeline;
pub mod poll;
pub mod proxy;
pub mod python;
pub mod random;
pub mod redis_server;
pub mod service;
pub mod simulated;
pub mod sink;
pub mod site;
pub mod tool;
