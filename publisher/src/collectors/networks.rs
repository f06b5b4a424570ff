//! Traffic, errors and drops of network interfaces, from `/proc/net/dev`.
//!
//! Interfaces that never carried a packet are left out.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use hostbus_wire::sample::Network;
use procfs::FromRead;
use procfs::net::{DeviceStatus, InterfaceDeviceStatus};
use serde::Deserialize;

use super::{Collector, Pass, Presence, Public};
use crate::error::CollectorError;
use crate::rates::{per_second, whole_per_second};
use crate::selection::{Selection, globs};

const DEVICES: &str = "/proc/net/dev";

/// The `[publisher.collectors.networks]` section.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworksConfig {
    /// Whether to collect. Default true.
    pub enabled: bool,
    /// The time from reading to reading, 0.1 to 3600 seconds. Absent: that of the samples.
    pub interval_seconds: Option<f64>,
    /// Globs of interface names. If given, only these are taken, whatever `exclude` says.
    pub include: Vec<String>,
    /// Globs of interface names to leave out. Default: loopback, and what containers and virtual
    /// machines use inside the host.
    pub exclude: Vec<String>,
}

impl Default for NetworksConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            interval_seconds: None,
            include: Vec::new(),
            exclude: globs([
                "lo", "veth*", "vnet*", "tap*", "cali*", "cni*", "flannel*", "docker*", "br-*",
                "virbr*", "ifb*", "dummy*", "sit*",
            ]),
        }
    }
}

impl NetworksConfig {
    pub(super) fn public(&mut self) -> Public<'_> {
        Public {
            enabled: &mut self.enabled,
            interval_seconds: &mut self.interval_seconds,
            include: Some(&mut self.include),
            exclude: Some(&mut self.exclude),
        }
    }
}

/// Reads network interfaces.
pub(crate) struct Networks {
    selection: Selection,
    before: HashMap<String, DeviceStatus>,
    read_at: Option<Instant>,
}

impl Networks {
    pub(crate) fn new(config: &NetworksConfig) -> Self {
        Self {
            selection: Selection::new(&config.include, &config.exclude),
            before: HashMap::new(),
            read_at: None,
        }
    }
}

impl Collector for Networks {
    fn collect(&mut self, pass: &mut Pass) -> Result<Presence, CollectorError> {
        let text = fs::read(DEVICES).map_err(|e| CollectorError::read(DEVICES, e))?;
        let InterfaceDeviceStatus(mut after) =
            InterfaceDeviceStatus::from_read(&*text).map_err(|source| CollectorError::Proc {
                what: DEVICES,
                source,
            })?;
        after.retain(|name, device| self.selection.takes(name) && !unused(device));
        if let Some(read_at) = self.read_at {
            let elapsed = pass.now.saturating_duration_since(read_at);
            let networks = after
                .iter()
                .filter_map(|(name, device)| network(self.before.get(name)?, device, elapsed));
            pass.sample.networks.extend(networks);
            pass.sample
                .networks
                .sort_unstable_by(|a, b| a.name.cmp(&b.name));
        }
        self.before = after;
        self.read_at = Some(pass.now);
        if self.before.is_empty() {
            return Ok(Presence::Nothing("no network interface in use".to_owned()));
        }
        Ok(Presence::Here)
    }
}

fn unused(device: &DeviceStatus) -> bool {
    device.recv_packets == 0 && device.sent_packets == 0
}

/// What an interface did between two readings. `None` when its name is no name.
fn network(before: &DeviceStatus, after: &DeviceStatus, elapsed: Duration) -> Option<Network> {
    let mut network = Network::new(after.name.parse().ok()?);
    let rate = |before, after| per_second(before, after, elapsed);
    network.rx_bytes_per_second = whole_per_second(before.recv_bytes, after.recv_bytes, elapsed);
    network.tx_bytes_per_second = whole_per_second(before.sent_bytes, after.sent_bytes, elapsed);
    network.rx_packets_per_second = rate(before.recv_packets, after.recv_packets);
    network.tx_packets_per_second = rate(before.sent_packets, after.sent_packets);
    network.rx_errors_per_second = rate(before.recv_errs, after.recv_errs);
    network.tx_errors_per_second = rate(before.sent_errs, after.sent_errs);
    network.rx_drops_per_second = rate(before.recv_drop, after.recv_drop);
    network.tx_drops_per_second = rate(before.sent_drop, after.sent_drop);
    Some(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(lines: &str) -> HashMap<String, DeviceStatus> {
        let text = format!("Inter-|   Receive\n face |bytes\n{lines}");
        InterfaceDeviceStatus::from_read(text.as_bytes()).unwrap().0
    }

    #[test]
    fn rates_come_from_two_readings() {
        let before = devices("  eth0: 1000 10 0 0 0 0 0 0 2000 20 0 0 0 0 0 0\n");
        let after = devices("  eth0: 6000 60 5 10 0 0 0 0 12000 40 0 0 0 0 0 0\n");
        let network = network(&before["eth0"], &after["eth0"], Duration::from_secs(5)).unwrap();
        assert_eq!(network.rx_bytes_per_second, Some(1000));
        assert_eq!(network.tx_bytes_per_second, Some(2000));
        assert_eq!(network.rx_packets_per_second, Some(10.0));
        assert_eq!(network.rx_errors_per_second, Some(1.0));
        assert_eq!(network.rx_drops_per_second, Some(2.0));
        assert_eq!(network.tx_drops_per_second, Some(0.0));
    }

    #[test]
    fn an_interface_that_was_made_anew_has_no_rates_for_one_sample() {
        let before = devices(" wg0: 900000 900 0 0 0 0 0 0 900000 900 0 0 0 0 0 0\n");
        let after = devices(" wg0: 10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n");
        let network = network(&before["wg0"], &after["wg0"], Duration::from_secs(5)).unwrap();
        assert_eq!(network.rx_bytes_per_second, None);
        assert_eq!(network.tx_packets_per_second, None);
    }

    #[test]
    fn the_default_takes_real_interfaces_and_tunnels_only() {
        let config = NetworksConfig::default();
        let selection = Selection::new(&config.include, &config.exclude);
        for (name, taken) in [
            ("eth0", true),
            ("enp3s0", true),
            ("wlan0", true),
            ("wg0", true),
            ("bond0", true),
            ("lo", false),
            ("veth12ab", false),
            ("br-0123", false),
        ] {
            assert_eq!(selection.takes(name), taken, "{name}");
        }
    }

    #[test]
    fn this_hosts_loopback_can_be_taken_when_asked_for() {
        let config = NetworksConfig {
            include: vec!["lo".to_owned()],
            ..Default::default()
        };
        let sample = super::super::tests::collect_twice(&mut Networks::new(&config));
        for network in &sample.networks {
            assert_eq!(network.name.as_str(), "lo");
            assert!(network.rx_bytes_per_second.is_some());
        }
    }
}
