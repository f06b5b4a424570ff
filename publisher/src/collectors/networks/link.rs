//! Whether an interface can carry traffic, and how much: `/sys/class/net/<interface>`.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::collectors::attribute;

/// Some drivers ask their hardware, under a lock that all of networking waits for.
const SPEED_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What is known of one interface's link.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// `None` where the kernel does not tell.
    pub(super) up: Option<bool>,
    /// `None` where it has no speed: wireless, virtual, or down.
    pub(super) speed_bits_per_second: Option<u64>,
    /// There is hardware behind it, or a hypervisor's idea of it.
    pub(super) physical: bool,
    speed_read_at: Option<Instant>,
}

impl Link {
    /// Reads again what may have changed. `classes` is `/sys/class/net`. Tells whether the link of
    /// a physical interface went up or down.
    pub(super) fn refresh(
        &mut self,
        classes: &Path,
        interface: &str,
        now: Instant,
    ) -> Option<bool> {
        let folder = classes.join(interface);
        let read = |file: &str| attribute::text(&folder.join(file));
        let before = self.up;
        self.up = read("operstate").and_then(|state| is_up(&state, || read("carrier")));
        let old = self.speed_read_at.is_none_or(|at| {
            before != self.up || now.saturating_duration_since(at) >= SPEED_AGAIN_AFTER
        });
        if old {
            self.physical = folder.join("device").exists();
            self.speed_bits_per_second = read("speed").and_then(|mbits| bits_per_second(&mbits));
            self.speed_read_at = Some(now);
        }
        let flipped = before.is_some() && self.up.is_some() && before != self.up;
        self.up.filter(|_| flipped && self.physical)
    }
}

/// RFC 2863's states. Tunnels and loopback do not keep one, and have a carrier or none.
fn is_up(state: &str, carrier: impl FnOnce() -> Option<String>) -> Option<bool> {
    match state {
        "up" => Some(true),
        "unknown" => Some(carrier().is_some_and(|carrier| carrier == "1")),
        "down" | "lowerlayerdown" | "dormant" | "notpresent" | "testing" => Some(false),
        _ => None,
    }
}

/// The file holds Mbit/s. Unknown is -1, which older kernels cut to 32 or 16 bits.
fn bits_per_second(mbits: &str) -> Option<u64> {
    let mbits: u64 = mbits.parse().ok()?;
    let known = mbits != 0 && mbits != u64::from(u16::MAX) && mbits < u64::from(u32::MAX);
    known.then_some(mbits * 1_000_000)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_state_tells_whether_traffic_can_flow() {
        let check = |state: &str, carrier: Option<&str>, up: Option<bool>| {
            let found = is_up(state, || carrier.map(str::to_owned));
            assert_eq!(found, up, "{state} {carrier:?}");
        };
        check("up", None, Some(true));
        check("down", Some("1"), Some(false));
        check("dormant", Some("1"), Some(false));
        check("lowerlayerdown", None, Some(false));
        // A tunnel, or loopback: up with a carrier; set down it tells none.
        check("unknown", Some("1"), Some(true));
        check("unknown", Some("0"), Some(false));
        check("unknown", None, Some(false));
        check("", None, None);
    }

    #[test]
    fn an_unknown_speed_is_absent_in_each_of_its_disguises() {
        assert_eq!(bits_per_second("1000"), Some(1_000_000_000));
        assert_eq!(bits_per_second("400000"), Some(400_000_000_000));
        for unknown in ["-1", "0", "65535", "4294967295", "", "?"] {
            assert_eq!(bits_per_second(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn only_a_flip_of_a_physical_interface_is_worth_telling() {
        let folder = tempfile::tempdir().unwrap();
        let write = |interface: &str, file: &str, text: &str| {
            let path = folder.path().join(interface).join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        fs::create_dir_all(folder.path().join("eth0/device")).unwrap();
        write("eth0", "speed", "1000\n");
        let (mut wire, mut tunnel) = (Link::default(), Link::default());
        for (state, told) in [
            ("up\n", None),
            ("up\n", None),
            ("down\n", Some(false)),
            ("down\n", None),
            ("up\n", Some(true)),
        ] {
            write("eth0", "operstate", state);
            write("wg0", "operstate", state);
            let now = Instant::now();
            assert_eq!(wire.refresh(folder.path(), "eth0", now), told, "{state}");
            assert_eq!(tunnel.refresh(folder.path(), "wg0", now), None);
        }
        assert_eq!(wire.speed_bits_per_second, Some(1_000_000_000));
        assert_eq!(
            (tunnel.up, tunnel.speed_bits_per_second),
            (Some(true), None)
        );
    }
}
