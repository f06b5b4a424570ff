//! The power that all processor packages draw, by their energy counters
//! (`Documentation/power/powercap/powercap.rst`).
//!
//! ```text
//! intel-rapl:0/name                  package-0       AMD's processors too stand under this name
//! intel-rapl:0/energy_uj             1000000000      microjoules, for root only on most kernels
//! intel-rapl:0/max_energy_range_uj   262143328850    after this it begins again at 0
//! intel-rapl:0:0/name                core            a part of package-0
//! intel-rapl:1/name                  psys            the whole board
//! intel-rapl-mmio:0/name             package-0       the same package by another way
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::collectors::attribute;

/// Drivers may be loaded after the publisher's start.
const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// No package draws as much as this. A counter that would have had to rise faster was reset, as
/// suspending a host does; and one that could have gone round unseen at this power tells nothing.
const MOST_WATTS: u64 = 1000;

pub(super) struct Packages {
    folder: PathBuf,
    packages: Vec<Package>,
    looked_at: Option<Instant>,
    before: Option<Reading>,
}

struct Package {
    energy: PathBuf,
    range_uj: u64,
}

/// The energy counters of all packages at one moment.
struct Reading {
    at: Instant,
    energies_uj: Vec<u64>,
}

impl Packages {
    pub(super) fn below(root: &Path) -> Self {
        Self {
            folder: root.join("sys/class/powercap"),
            packages: Vec::new(),
            looked_at: None,
            before: None,
        }
    }

    /// The power since the last call. `None` when a package's counter can't be read, or was reset.
    pub(super) fn watts(&mut self, now: Instant) -> Option<f64> {
        if self.packages.is_empty()
            && self
                .looked_at
                .is_none_or(|at| now.saturating_duration_since(at) >= LOOK_AGAIN)
        {
            self.packages = packages(&self.folder);
            self.looked_at = Some(now);
        }
        let energies = self.packages.iter().map(Package::energy_uj);
        let after = Reading {
            at: now,
            energies_uj: energies.collect::<Option<_>>().unwrap_or_default(),
        };
        let before = self.before.replace(after)?;
        let after = self.before.as_ref()?;
        let elapsed = now.saturating_duration_since(before.at);
        let sides = before.energies_uj.iter().zip(&after.energies_uj);
        let mut risen_uj = 0;
        for (package, (before, after)) in self.packages.iter().zip(sides) {
            risen_uj += rise_uj(*before, *after, package.range_uj, elapsed)?;
        }
        // Nothing was compared when a counter could not be read.
        (risen_uj > 0).then(|| risen_uj as f64 / elapsed.as_micros() as f64)
    }
}

impl Package {
    fn energy_uj(&self) -> Option<u64> {
        attribute::required_number(&self.energy).ok()
    }
}

/// The packages whose counters may be read.
fn packages(folder: &Path) -> Vec<Package> {
    let Ok(zones) = fs::read_dir(folder) else {
        return Vec::new();
    };
    // A package's parts stand beside it, under names of their own.
    let mut packages: Vec<Package> = zones
        .flatten()
        .filter(|zone| {
            let folder = zone.file_name();
            folder.as_encoded_bytes().starts_with(b"intel-rapl:")
        })
        .map(|zone| zone.path())
        .filter(|path| {
            attribute::text(&path.join("name")).is_some_and(|name| name.starts_with("package-"))
        })
        .filter_map(|path| {
            let range_uj = attribute::required_number(&path.join("max_energy_range_uj")).ok()?;
            let energy = path.join("energy_uj");
            let package = Package { energy, range_uj };
            package.energy_uj().map(|_| package)
        })
        .collect();
    packages.sort_unstable_by(|a, b| a.energy.cmp(&b.energy));
    packages
}

/// How far a counter went that begins again at 0 after `range_uj`.
fn rise_uj(before: u64, after: u64, range_uj: u64, elapsed: Duration) -> Option<u64> {
    let most_uj = u64::try_from(elapsed.as_micros())
        .ok()?
        .checked_mul(MOST_WATTS)
        .filter(|most_uj| *most_uj < range_uj)?;
    let rise = match after.checked_sub(before) {
        Some(rise) => rise,
        None => range_uj.checked_sub(before)?.checked_add(after)?,
    };
    (rise <= most_uj).then_some(rise)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::machines::{Machine, amd_server, intel_desktop, raspberry_pi};

    const TEN: Duration = Duration::from_secs(10);

    #[test]
    fn a_counter_that_begins_again_at_0_goes_on_and_one_that_was_reset_tells_nothing() {
        let range = 262_143_328_850;
        for (before, after, elapsed, rise) in [
            (1_000_000_000, 1_350_000_000, TEN, Some(350_000_000)),
            (1_000, 1_000, TEN, Some(0)),
            (range - 100_000_000, 250_000_000, TEN, Some(350_000_000)),
            // Reset in its middle: this rise would take 13 kilowatts.
            (131_000_000_000, 250_000_000, TEN, None),
            // Beyond its own range.
            (range + 5, 10, TEN, None),
            // So long that it may have gone round unseen.
            (1_000_000_000, 2_000_000_000, TEN * 30, None),
            (1_000, 2_000, Duration::ZERO, None),
        ] {
            assert_eq!(rise_uj(before, after, range, elapsed), rise, "{before}");
        }
    }

    #[test]
    fn all_packages_count_once_and_nothing_else_does() {
        let check = |machine: &Machine, count: usize| {
            let folder = machine.root().join("sys/class/powercap");
            assert_eq!(packages(&folder).len(), count);
        };
        check(&intel_desktop(), 1);
        check(&amd_server(), 2);
        check(&raspberry_pi(), 0);
    }

    #[test]
    fn the_power_of_two_packages_is_their_sum_even_when_one_counter_begins_again() {
        let machine = amd_server();
        let mut packages = Packages::below(machine.root());
        let start = Instant::now();
        assert_eq!(packages.watts(start), None);
        // 610,987 up to the end, and 999,389,013 from 0.
        machine.energy("intel-rapl:0", "package-0", "999389013", "65532610987");
        machine.energy("intel-rapl:1", "package-1", "501000000", "65532610987");
        assert_eq!(packages.watts(start + TEN), Some(150.0));
    }

    #[test]
    fn a_counter_that_cannot_be_read_makes_the_power_unknown_until_it_can() {
        let machine = amd_server();
        let mut packages = Packages::below(machine.root());
        let start = Instant::now();
        packages.watts(start);
        machine.remove("sys/class/powercap/intel-rapl:1/energy_uj");
        assert_eq!(packages.watts(start + TEN), None);
        machine.energy("intel-rapl:0", "package-0", "1000000", "65532610987");
        machine.energy("intel-rapl:1", "package-1", "2000000", "65532610987");
        assert_eq!(packages.watts(start + TEN * 2), None);
        machine.energy("intel-rapl:0", "package-0", "401000000", "65532610987");
        assert_eq!(packages.watts(start + TEN * 3), Some(40.0));
    }

    #[test]
    fn counters_for_root_only_are_no_failure() {
        let machine = intel_desktop();
        machine.remove("sys/class/powercap/intel-rapl:0/energy_uj");
        let mut packages = Packages::below(machine.root());
        let start = Instant::now();
        assert_eq!(packages.watts(start), None);
        assert_eq!(packages.watts(start + TEN), None);
    }
}
