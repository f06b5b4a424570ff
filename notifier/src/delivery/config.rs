//! The `[notifier.delivery]` section.

use std::time::Duration;

use serde::Deserialize;

use crate::error::Error;

/// How long is tried.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeliveryConfig {
    /// How long after a notice was formed it is given up when its channel did not take it, 60 to
    /// 2,592,000 seconds. It is tried once at least, unless its channel is broken. Default 86,400.
    pub give_up_seconds: u64,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            give_up_seconds: 86_400,
        }
    }
}

impl DeliveryConfig {
    /// Checks the range.
    ///
    /// # Errors
    /// A value is out of range; the error names it.
    pub fn check(&self) -> Result<(), Error> {
        if (60..=2_592_000).contains(&self.give_up_seconds) {
            return Ok(());
        }
        Err(Error::Setting {
            key: "notifier.delivery.give_up_seconds",
            value: self.give_up_seconds.to_string(),
            expected: "60 to 2592000 seconds",
        })
    }

    /// What the lines work by.
    #[must_use]
    pub fn patience(&self) -> Patience {
        Patience {
            give_up: Duration::from_secs(self.give_up_seconds),
            ..Patience::default()
        }
    }
}

/// How long the lines wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// After that long a notice that is not taken is given up. A day.
    pub give_up: Duration,
    /// The wait after the first failure. 1 second.
    pub first_wait: Duration,
    /// The longest wait between two tries. 5 minutes.
    pub longest_wait: Duration,
    /// The wait after a channel was found broken. 30 seconds.
    pub first_calm_wait: Duration,
    /// The longest wait between two tries of a broken channel. 15 minutes.
    pub longest_calm_wait: Duration,
    /// How often the files of a broken channel are looked at. 5 seconds.
    pub look_every: Duration,
    /// How long a service that asks to be left alone is left alone at most. An hour.
    pub longest_asked: Duration,
    /// How long one message may take, whatever its channel does. A minute.
    pub send_within: Duration,
    /// How long a stop waits for messages that are being sent. 5 seconds.
    pub stop_within: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            give_up: Duration::from_secs(86_400),
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(300),
            first_calm_wait: Duration::from_secs(30),
            longest_calm_wait: Duration::from_secs(900),
            look_every: Duration::from_secs(5),
            longest_asked: Duration::from_secs(3600),
            send_within: Duration::from_secs(60),
            stop_within: Duration::from_secs(5),
        }
    }
}
