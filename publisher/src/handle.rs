//! What whoever runs a publisher may ask of it while it runs.

use tokio::sync::watch;

use crate::config::Config;
use crate::error::Error;
use crate::heartbeat::Heartbeat;
use crate::tuning::Tuning;

/// Changes a running publisher, and tells whether it still turns. Dropping it changes nothing.
#[derive(Debug)]
pub struct Handle {
    /// The host's own settings. What comes from the bus lies on top of them.
    pub(crate) settings: watch::Sender<Tuning>,
    pub(crate) heartbeat: Heartbeat,
}

impl Handle {
    /// Takes over what may change while it runs: the interval and the collectors. What
    /// `config/desired` asks for stays on top. The rest of `config` waits for the next start.
    ///
    /// # Errors
    /// A value is out of range. Nothing has changed then.
    pub fn reload(&self, config: &Config) -> Result<(), Error> {
        config.check()?;
        let mut tuning = Tuning::new(config);
        self.settings.send_if_modified(|current| {
            // The file goes with the node and the folder, which this run keeps.
            let file = &current.collectors.networks.traffic_file;
            tuning.collectors.networks.traffic_file.clone_from(file);
            let changed = *current != tuning;
            *current = tuning;
            changed
        });
        Ok(())
    }

    /// Tells whether the publisher has turned since this was last asked; true at first.
    #[must_use]
    pub fn beats(&self) -> bool {
        self.heartbeat.beats()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_node_or_folder_waits_for_the_next_start() {
        let mut config = Config {
            node: Some("web1".parse().unwrap()),
            ..Config::default()
        };
        config.outbox.folder = Some("/var/lib/hostbus-publisher".into());
        let before = Tuning::new(&config);
        let handle = Handle {
            settings: watch::Sender::new(before.clone()),
            heartbeat: Heartbeat::new(),
        };
        config.node = Some("web2".parse().unwrap());
        config.outbox.folder = Some("/srv".into());
        handle.reload(&config).unwrap();
        assert_eq!(*handle.settings.borrow(), before);
        config.interval_seconds = 3.0;
        handle.reload(&config).unwrap();
        assert_ne!(*handle.settings.borrow(), before);
    }
}
