//! Traffic, errors, drops and links of network interfaces, from `/proc/net/dev` and
//! `/sys/class/net`; in `details/traffic` what each carried in each month.
//!
//! Interfaces that never carried a packet are left out. Where there are too many, those without
//! hardware go first.

mod ledger;
mod link;
mod traffic;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hostbus_wire::sample::Network;
use procfs::FromRead;
use procfs::net::{DeviceStatus, InterfaceDeviceStatus};
use serde::Deserialize;

use self::ledger::Ledger;
use self::link::Link;
use self::traffic::{Counters, Reading};
use super::{Collector, Pass, Presence, Public};
use crate::error::CollectorError;
use crate::events;
use crate::rates::{per_second, rise, whole_per_second};
use crate::selection::{Selection, globs};

const DEVICES: &str = "/proc/net/dev";
const CLASSES: &str = "/sys/class/net";
/// The name of the table of traffic.
pub(super) const TRAFFIC: &str = "traffic";
/// The time between two tables of traffic.
const DETAILS_AFTER: Duration = Duration::from_secs(60);

/// The most interfaces of a sample. They take a third of its numbers.
const MAX_INTERFACES: usize = 128;

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
    /// The file that keeps the traffic of the months over restarts. No setting of its own: it is
    /// the node's, in the publisher's folder.
    #[serde(skip)]
    pub traffic_file: Option<PathBuf>,
}

impl Default for NetworksConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            interval_seconds: None,
            include: Vec::new(),
            exclude: globs([
                "lo",
                "veth*",
                "vnet*",
                "tap*",
                "cali*",
                "cni*",
                "flannel*",
                "docker*",
                "br-*",
                "virbr*",
                "ifb*",
                "dummy*",
                "sit*",
                "lxc*",
                "cilium_*",
                "fwbr*",
                "fwpr*",
                "fwln*",
                "podman*",
                "vxlan.calico",
                "kube-ipvs0",
                "azv*",
            ]),
            traffic_file: None,
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
    links: HashMap<String, Link>,
    traffic_file: Option<PathBuf>,
    /// Read with the first sample: a file on a disk that hangs must not hold up the start.
    ledger: Option<Ledger>,
    read_at: Option<Instant>,
    details_at: Option<Instant>,
    left_out: usize,
}

impl Networks {
    pub(crate) fn new(config: &NetworksConfig) -> Self {
        Self {
            selection: Selection::new(&config.include, &config.exclude),
            before: HashMap::new(),
            links: HashMap::new(),
            traffic_file: config.traffic_file.clone(),
            ledger: None,
            read_at: None,
            details_at: None,
            left_out: 0,
        }
    }

    /// Takes the interfaces of one reading.
    fn read(&mut self, mut after: HashMap<String, DeviceStatus>, classes: &Path, pass: &mut Pass) {
        after.retain(|name, device| {
            // Some drivers forget their counts when the link goes down.
            self.selection.takes(name) && (self.before.contains_key(name) || !unused(device))
        });
        self.keep_most_wanted(&mut after, classes, pass);
        self.links.retain(|name, _| after.contains_key(name));
        let read_at = self.read_at.replace(pass.now);
        let elapsed = read_at.map(|at| pass.now.saturating_duration_since(at));
        let mut readings = Vec::with_capacity(after.len());
        for (name, device) in &after {
            let link = self.links.entry(name.clone()).or_default();
            if let Some(up) = link.refresh(classes, name, pass.now) {
                pass.events.push(events::link_flips(pass.ts, name, up));
            }
            let risen = self
                .before
                .get(name)
                .map(|before| Risen::of(before, device));
            readings.push(Reading {
                interface: name,
                counters: Counters {
                    rx_bytes: device.recv_bytes,
                    tx_bytes: device.sent_bytes,
                },
                rise: risen.as_ref().and_then(Risen::bytes),
            });
            if let (Some(before), Some(risen), Some(elapsed)) =
                (self.before.get(name), risen, elapsed)
            {
                let found = network(before, device, &risen, elapsed);
                pass.sample.networks.extend(found.map(|mut network| {
                    network.up = link.up.map(u64::from);
                    network.speed_bits_per_second = link.speed_bits_per_second;
                    network
                }));
            }
        }
        // A sample that is too large is cut at the end.
        let rank = |network: &Network| {
            let link = self.links.get(network.name.as_str());
            !link.is_some_and(|link| link.physical)
        };
        pass.sample
            .networks
            .sort_unstable_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.name.cmp(&b.name)));
        let file = &self.traffic_file;
        let ledger = self
            .ledger
            .get_or_insert_with(|| Ledger::open(file.clone()));
        ledger.traffic.count(pass.ts, readings);
        self.before = after;
        ledger.keep(pass.ts, pass.now);
        let due = self
            .details_at
            .is_none_or(|at| pass.now.saturating_duration_since(at) >= DETAILS_AFTER);
        if due && !self.before.is_empty() {
            self.details_at = Some(pass.now);
            let table = ledger.traffic.details(pass.ts);
            pass.details.push((TRAFFIC, table));
        }
    }

    /// Leaves out what is too much: interfaces with hardware behind them stay first, then those that
    /// were there before, so that rates do not break off.
    fn keep_most_wanted(
        &mut self,
        after: &mut HashMap<String, DeviceStatus>,
        classes: &Path,
        pass: &mut Pass,
    ) {
        let left_out = after.len().saturating_sub(MAX_INTERFACES);
        if left_out > 0 {
            let physical = |name: &str| match self.links.get(name) {
                Some(link) => link.physical,
                None => classes.join(name).join("device").exists(),
            };
            let mut ranked: Vec<_> = after
                .keys()
                .map(|name| {
                    (
                        !physical(name),
                        !self.before.contains_key(name),
                        name.clone(),
                    )
                })
                .collect();
            ranked.sort_unstable();
            for (_, _, name) in ranked.drain(MAX_INTERFACES..) {
                after.remove(&name);
            }
            if self.left_out == 0 {
                let event = events::interfaces_left_out(pass.ts, MAX_INTERFACES, left_out);
                pass.events.push(event);
            }
        }
        self.left_out = left_out;
    }
}

impl Collector for Networks {
    fn collect(&mut self, pass: &mut Pass) -> Result<Presence, CollectorError> {
        let text = fs::read(DEVICES).map_err(|e| CollectorError::read(DEVICES, e))?;
        let InterfaceDeviceStatus(devices) =
            InterfaceDeviceStatus::from_read(&*text).map_err(|source| CollectorError::Proc {
                what: DEVICES,
                source,
            })?;
        self.read(devices, Path::new(CLASSES), pass);
        if self.before.is_empty() {
            return Ok(Presence::Nothing("no network interface in use".to_owned()));
        }
        Ok(Presence::Here)
    }
}

fn unused(device: &DeviceStatus) -> bool {
    device.recv_packets == 0 && device.sent_packets == 0
}

/// By how much the counters of bytes rose from one reading to the next; unknown when the interface
/// was made anew meanwhile.
struct Risen {
    rx_bytes: Option<u64>,
    tx_bytes: Option<u64>,
}

impl Risen {
    /// Old drivers count in 32 bits, of which a fast link makes a round in half a minute. Bytes that
    /// fell while packets rose went round once; all that fell together began anew.
    fn of(before: &DeviceStatus, after: &DeviceStatus) -> Self {
        let anew =
            after.recv_packets < before.recv_packets || after.sent_packets < before.sent_packets;
        let bytes = |before: u64, after: u64| {
            let round = u64::from(u32::MAX) + 1;
            if before > after && !anew && before < round {
                return Some(round - before + after);
            }
            rise(before, after)
        };
        Self {
            rx_bytes: bytes(before.recv_bytes, after.recv_bytes),
            tx_bytes: bytes(before.sent_bytes, after.sent_bytes),
        }
    }

    fn bytes(&self) -> Option<Counters> {
        Some(Counters {
            rx_bytes: self.rx_bytes?,
            tx_bytes: self.tx_bytes?,
        })
    }
}

/// What an interface did between two readings. `None` when its name is no name.
fn network(
    before: &DeviceStatus,
    after: &DeviceStatus,
    risen: &Risen,
    elapsed: Duration,
) -> Option<Network> {
    let mut network = Network::new(after.name.parse().ok()?);
    let rate = |before, after| per_second(before, after, elapsed);
    let bytes = |risen: Option<u64>| whole_per_second(0, risen?, elapsed);
    network.rx_bytes_per_second = bytes(risen.rx_bytes);
    network.tx_bytes_per_second = bytes(risen.tx_bytes);
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
    use hostbus_wire::Scalar;

    use super::*;

    fn devices(lines: &str) -> HashMap<String, DeviceStatus> {
        let text = format!("Inter-|   Receive\n face |bytes\n{lines}");
        InterfaceDeviceStatus::from_read(text.as_bytes()).unwrap().0
    }

    fn between(before: &DeviceStatus, after: &DeviceStatus) -> Network {
        let risen = Risen::of(before, after);
        network(before, after, &risen, Duration::from_secs(5)).unwrap()
    }

    #[test]
    fn rates_come_from_two_readings() {
        let before = devices("  eth0: 1000 10 0 0 0 0 0 0 2000 20 0 0 0 0 0 0\n");
        let after = devices("  eth0: 6000 60 5 10 0 0 0 0 12000 40 0 0 0 0 0 0\n");
        let network = between(&before["eth0"], &after["eth0"]);
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
        let network = between(&before["wg0"], &after["wg0"]);
        assert_eq!(network.rx_bytes_per_second, None);
        assert_eq!(network.tx_packets_per_second, None);
    }

    #[test]
    fn bytes_that_went_round_at_32_bits_keep_their_rate() {
        let before = devices("  eth0: 4294967290 10 0 0 0 0 0 0 2000 20 0 0 0 0 0 0\n");
        let after = devices("  eth0: 4994 60 0 0 0 0 0 0 12000 40 0 0 0 0 0 0\n");
        let network = between(&before["eth0"], &after["eth0"]);
        assert_eq!(network.rx_bytes_per_second, Some(1000));
        assert_eq!(network.tx_bytes_per_second, Some(2000));
        // Too much for 32 bits: it fell for another reason.
        let before = devices("  eth0: 4294967296 10 0 0 0 0 0 0 0 20 0 0 0 0 0 0\n");
        let network = between(&before["eth0"], &after["eth0"]);
        assert_eq!(network.rx_bytes_per_second, None);
    }

    /// A host with one interface whose link a test decides.
    struct Host {
        classes: tempfile::TempDir,
        networks: Networks,
        start: Instant,
    }

    impl Host {
        fn new() -> Self {
            let classes = tempfile::tempdir().unwrap();
            fs::create_dir_all(classes.path().join("eth0/device")).unwrap();
            Self {
                classes,
                networks: Networks::new(&NetworksConfig::default()),
                start: Instant::now(),
            }
        }

        fn pass(&mut self, at_seconds: u64, state: &str, lines: &str) -> Pass {
            fs::write(self.classes.path().join("eth0/operstate"), state).unwrap();
            let now = self.start + Duration::from_secs(at_seconds);
            let mut pass = Pass::at(now, 1_795_000_000_000 + at_seconds * 1000);
            let classes = self.classes.path().to_owned();
            self.networks.read(devices(lines), &classes, &mut pass);
            pass
        }
    }

    #[test]
    fn a_link_that_goes_down_stays_and_is_told_once() {
        let mut host = Host::new();
        let carried = "  eth0: 1000 10 0 0 0 0 0 0 2000 20 0 0 0 0 0 0\n";
        let reset = "  eth0: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
        for (at_seconds, state, lines, told, up) in [
            (0, "up", carried, None, None),
            (10, "up", carried, None, Some(1)),
            (20, "down", carried, Some("link-down"), Some(0)),
            (30, "down", reset, None, Some(0)),
            (40, "down", reset, None, Some(0)),
            (50, "up", reset, Some("link-up"), Some(1)),
        ] {
            let pass = host.pass(at_seconds, state, lines);
            let events: Vec<&str> = pass.events.iter().map(|e| e.kind.as_str()).collect();
            assert_eq!(events, Vec::from_iter(told), "{at_seconds}");
            let network = pass.sample.networks.first();
            assert_eq!(network.and_then(|network| network.up), up, "{at_seconds}");
        }
    }

    #[test]
    fn an_interface_that_never_carried_a_packet_is_left_out() {
        let mut host = Host::new();
        let silent = "  eth0: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
        host.pass(0, "up", silent);
        let pass = host.pass(10, "up", silent);
        assert!(pass.sample.networks.is_empty() && pass.details.is_empty());
    }

    #[test]
    fn hardware_stays_where_there_are_too_many_and_it_is_told_once() {
        let mut host = Host::new();
        fs::create_dir_all(host.classes.path().join("wlan0/device")).unwrap();
        let line = |name: &str| format!("  {name}: 1000 10 0 0 0 0 0 0 2000 20 0 0 0 0 0 0\n");
        let pods = |numbers: std::ops::Range<u32>| {
            numbers
                .map(|n| line(&format!("pod{n:04}")))
                .collect::<String>()
        };
        let lines = pods(0..1400) + &line("wlan0") + &line("eth0");
        for (at_seconds, told) in [(0, vec!["interfaces-left-out"]), (10, vec![])] {
            let pass = host.pass(at_seconds, "up", &lines);
            let events: Vec<&str> = pass.events.iter().map(|e| e.kind.as_str()).collect();
            assert_eq!(events, told, "{at_seconds}");
        }
        let names = |pass: &Pass| {
            let networks = pass.sample.networks.iter();
            networks.map(|n| n.name.to_string()).collect::<Vec<_>>()
        };
        let before = names(&host.pass(20, "up", &lines));
        assert_eq!(before.len(), MAX_INTERFACES);
        assert_eq!(before[..3], ["eth0", "wlan0", "pod0000"]);
        // Others that come do not push out those that are there.
        let more = format!("{lines}{}", line("nat0"));
        assert_eq!(names(&host.pass(30, "up", &more)), before);
    }

    #[test]
    fn the_traffic_of_the_month_is_told_once_a_minute() {
        let mut host = Host::new();
        for (at_seconds, bytes, told) in [
            (0, 1000, Some(0)),
            (10, 1500, None),
            (59, 2000, None),
            (60, 3000, Some(2000)),
            (70, 4000, None),
        ] {
            let lines = format!("  eth0: {bytes} 10 0 0 0 0 0 0 0 20 0 0 0 0 0 0\n");
            let pass = host.pass(at_seconds, "up", &lines);
            let rows = pass.details.first().map(|(name, table)| {
                assert_eq!(*name, "traffic");
                assert_eq!(table.columns.len(), table.rows[0].len());
                table.rows[0][..3].to_vec()
            });
            let expected = told.map(|bytes| {
                let text = |text: &str| Scalar::Text(text.to_owned());
                vec![text("eth0"), text("2026-11"), Scalar::Integer(bytes)]
            });
            assert_eq!(rows, expected, "{at_seconds}");
        }
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
            ("lxc1a2b3c", false),
            ("lxcbr0", false),
            ("cilium_host", false),
            ("fwbr100i0", false),
            ("fwpr100p0", false),
            ("fwln100i0", false),
            ("podman1", false),
            ("vxlan.calico", false),
            ("kube-ipvs0", false),
            ("azv1a2b3c", false),
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
