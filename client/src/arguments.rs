//! The flags of the `[bus]` section, the same in every program of a component.

use std::path::PathBuf;

use clap::Args;
use hostbus_daemon::config::Loader;

/// The settings of the bus that have a flag.
#[derive(Debug, Default, Args)]
pub struct BusFlags {
    /// Where the bus is, mqtt://host[:port] or mqtts://host[:port] [default: mqtt://127.0.0.1:1883]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// PEM file of those who sign the certificate of an mqtts:// bus [default: the system's]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// User name on the bus
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// File with the password for the bus
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl BusFlags {
    /// Adds the flags that were given. They win over those that were added before.
    #[must_use]
    pub fn add_to(&self, loader: Loader) -> Loader {
        let shown = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        loader
            .flag("--url", "bus.url", self.url.as_ref())
            .flag("--ca-file", "bus.ca_file", shown(&self.ca_file))
            .flag("--user", "bus.user", self.user.as_ref())
            .flag(
                "--password-file",
                "bus.password_file",
                shown(&self.password_file),
            )
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde::Deserialize;

    use super::*;
    use crate::config::BusConfig;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        bus: BusFlags,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Settings {
        bus: BusConfig,
    }

    fn flags(words: &[&str]) -> BusFlags {
        Program::parse_from([&["program"], words].concat()).bus
    }

    #[test]
    fn a_flag_becomes_its_setting_and_the_later_one_wins() {
        let before = flags(&["--url", "mqtts://a", "--user", "u", "--ca-file", "ca.pem"]);
        let after = flags(&["--url", "mqtts://b", "--password-file", "u.secret"]);
        let nothing = std::iter::empty::<(String, String)>();
        let loader = before.add_to(Loader::with_environment(nothing));
        let bus = after.add_to(loader).load::<Settings>().unwrap().bus;
        assert_eq!(bus.url, "mqtts://b");
        assert_eq!(bus.user.as_deref(), Some("u"));
        assert_eq!(bus.ca_file, Some("ca.pem".into()));
        assert_eq!(bus.password_file, Some("u.secret".into()));
    }
}
