//! Which broker serves: ours, or another one in its place.

#[cfg(feature = "rumqttd")]
pub(crate) mod rumqttd;

use serde::Deserialize;

use crate::config::Config;
use crate::error::Error;

/// The setting `broker.engine`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The broker that this crate is. The default.
    #[default]
    Hostbus,
    /// rumqttd 0.20, for those who want its speed on one machine and can live with its limits.
    ///
    /// It is there when the crate was built with the feature `rumqttd`, and listens on loopback
    /// only. Of the other settings it knows `listen`, `data`, `identities`, `anonymous`, and of
    /// the limits `max_connections`, `max_packet_bytes`, `connect_timeout_seconds` (65 at most),
    /// `queue_bytes`, `password_checks` and `failed_logins_per_minute`; the rest has no effect.
    ///
    /// - Identities only open the door: it has no topic rights, so that whoever may log in may
    ///   read and write everything. With `anonymous` it lets everyone in, whatever the password.
    /// - It speaks MQTT 3.1.1. Its 5.0 would need a second port, and a 5.0 message with a property
    ///   would cut off every 3.1.1 subscriber of its topic.
    /// - There is no TLS, no WebSocket and no `$SYS`. A refused client is cut off without an
    ///   answer, one without keep alive is refused.
    /// - Everything is in memory. A subscription's messages stand in a log of `queue_bytes`; a
    ///   reader that falls further behind misses messages, is not told, and nobody counts them.
    /// - A new subscription is sent 10,000 retained messages at most, with QoS 1 100.
    /// - One message to a topic that begins with a letter beyond ASCII ends it, and so do some
    ///   sequences of shared subscriptions, slow readers and rejected clients. The broker ends
    ///   with an error when it sees that, for a supervisor to start it again; it can't see all.
    /// - It has no way to stop. Its listener and connections end with the broker's token; a thread
    ///   stays behind, with the messages it holds, until the process ends.
    Rumqttd,
}

impl Engine {
    /// Checks that this engine is there and may listen where `config` says.
    pub(crate) fn check(self, config: &Config) -> Result<(), Error> {
        if self == Self::Hostbus {
            return Ok(());
        }
        if !cfg!(feature = "rumqttd") {
            return Err(Error::EngineMissing);
        }
        match config.listen {
            Some(listen) if !listen.ip().is_loopback() => Err(Error::EngineOffLoopback { listen }),
            Some(_) if config.listeners.is_empty() => Ok(()),
            _ => Err(Error::EngineListeners),
        }
    }
}

#[cfg(all(test, not(feature = "rumqttd")))]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_was_not_built_in_is_refused_with_how_to_build_it() {
        let config = Config {
            engine: Engine::Rumqttd,
            ..Config::default()
        };
        let text = config.check().unwrap_err().to_string();
        for part in ["broker.engine", "--features rumqttd", "`hostbus`"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
