//! How long tasks waited for want of processors, memory and disks, from `/proc/pressure`
//! (`Documentation/accounting/psi.rst`).
//!
//! ```text
//! some avg10=16.40 avg60=6.30 avg300=3.67 total=5526886870     total: microseconds
//! full avg10=0.00 avg60=0.00 avg300=0.00 total=0               for cpu: absent before Linux 5.13
//! ```
//! The averages decay over times of their own; the totals give the share of the very time between
//! two samples.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hostbus_wire::sample::Pressure;

use super::{Collector, Pass, Presence};
use crate::error::CollectorError;
use crate::rates::{percent, rise};

const OFF: &str = "the kernel counts no pressure: start it with psi=1 (Linux 4.20 or newer)";
/// What a kernel answers that counts pressure only when told to at its start.
const NOT_SUPPORTED: i32 = rustix::io::Errno::OPNOTSUPP.raw_os_error();

/// Reads pressure.
pub(crate) struct Pressures {
    folder: PathBuf,
    before: Option<(Instant, Totals)>,
}

/// The microseconds in which tasks waited, since the start of the host.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    cpu: Total,
    memory: Total,
    io: Total,
}

/// Those of one resource.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Total {
    some_us: u64,
    full_us: Option<u64>,
}

impl Pressures {
    pub(crate) fn new() -> Self {
        Self::below(Path::new("/"))
    }

    fn below(root: &Path) -> Self {
        Self {
            folder: root.join("proc/pressure"),
            before: None,
        }
    }

    fn total(&self, resource: &str) -> Result<Option<Total>, CollectorError> {
        let path = self.folder.join(resource);
        match fs::read_to_string(&path) {
            Ok(text) => match Total::parse(&text) {
                Some(total) => Ok(Some(total)),
                None => Err(CollectorError::parse(&path)),
            },
            Err(error) if is_off(&error) => Ok(None),
            Err(error) => Err(CollectorError::read(&path, error)),
        }
    }
}

impl Collector for Pressures {
    fn collect(&mut self, pass: &mut Pass) -> Result<Presence, CollectorError> {
        let (Some(cpu), Some(memory), Some(io)) =
            (self.total("cpu")?, self.total("memory")?, self.total("io")?)
        else {
            return Ok(Presence::Nothing(OFF.to_owned()));
        };
        let after = Totals { cpu, memory, io };
        if let Some((at, before)) = self.before.replace((pass.now, after)) {
            let elapsed = pass.now.saturating_duration_since(at);
            pass.sample.pressure = Some(pressure(&before, &after, elapsed));
        }
        Ok(Presence::Here)
    }
}

fn is_off(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(NOT_SUPPORTED)
}

impl Total {
    /// `None` when there is not even a line for some.
    fn parse(text: &str) -> Option<Self> {
        let of = |kind: &str| {
            let mut words = text
                .lines()
                .find_map(|line| line.strip_prefix(kind))?
                .split_ascii_whitespace();
            words
                .find_map(|word| word.strip_prefix("total="))?
                .parse()
                .ok()
        };
        Some(Self {
            some_us: of("some ")?,
            full_us: of("full "),
        })
    }
}

/// The share of the time between two readings. A total may run ahead of the clock by the moment
/// that lies between reading the one and the other, so that a share is cut at 100 %.
fn pressure(before: &Totals, after: &Totals, elapsed: Duration) -> Pressure {
    let share = |before: u64, after: u64| {
        percent(
            rise(before, after)?,
            u64::try_from(elapsed.as_micros()).ok()?,
        )
    };
    let some = |before: Total, after: Total| share(before.some_us, after.some_us);
    let full = |before: Total, after: Total| share(before.full_us?, after.full_us?);
    let mut pressure = Pressure::new();
    pressure.cpu_some_percent = some(before.cpu, after.cpu);
    pressure.memory_some_percent = some(before.memory, after.memory);
    pressure.memory_full_percent = full(before.memory, after.memory);
    pressure.io_some_percent = some(before.io, after.io);
    pressure.io_full_percent = full(before.io, after.io);
    pressure
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::machines::Machine;
    use crate::collectors::tests::collect_once;

    fn lines(some_us: u64, full_us: u64) -> String {
        let averages = "avg10=16.40 avg60=6.30 avg300=3.67";
        format!("some {averages} total={some_us}\nfull {averages} total={full_us}\n")
    }

    fn turn(pressures: &mut Pressures, now: Instant) -> Option<Pressure> {
        let (mut pass, outcome) = collect_once(pressures, now);
        assert_eq!(outcome.unwrap(), Presence::Here);
        pass.sample.round();
        pass.sample.pressure
    }

    #[test]
    fn the_share_comes_from_the_totals_of_two_readings() {
        let machine = Machine::new();
        // A kernel before 5.13 has no full line for processors.
        machine.write(
            "proc/pressure/cpu",
            "some avg10=9.00 avg60=9.00 avg300=9.00 total=1000\n",
        );
        machine.write("proc/pressure/memory", &lines(500, 400));
        machine.write("proc/pressure/io", &lines(70_000_000, 60_000_000));
        let mut pressures = Pressures::below(machine.root());
        let start = Instant::now();
        assert_eq!(turn(&mut pressures, start), None);

        machine.write(
            "proc/pressure/cpu",
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=2501000\n",
        );
        machine.write("proc/pressure/memory", &lines(10_000_800, 400));
        machine.write("proc/pressure/io", &lines(71_000_000, 5));
        let pressure = turn(&mut pressures, start + Duration::from_secs(10)).unwrap();
        assert_eq!(pressure.cpu_some_percent, Some(25.0));
        assert_eq!(
            pressure.memory_some_percent,
            Some(100.0),
            "300 microseconds too many"
        );
        assert_eq!(pressure.memory_full_percent, Some(0.0));
        assert_eq!(pressure.io_some_percent, Some(10.0));
        assert_eq!(pressure.io_full_percent, None, "the total fell");
    }

    #[test]
    fn a_kernel_that_counts_no_pressure_is_no_failure_and_the_cure_is_named() {
        let machine = Machine::new();
        let (pass, outcome) = collect_once(&mut Pressures::below(machine.root()), Instant::now());
        let Ok(Presence::Nothing(why)) = outcome else {
            panic!("{outcome:?}");
        };
        assert!(why.contains("psi=1"), "{why}");
        assert_eq!(pass.sample.pressure, None);
        assert!(is_off(&io::Error::from_raw_os_error(NOT_SUPPORTED)));
        assert!(!is_off(&io::ErrorKind::PermissionDenied.into()));
    }

    #[test]
    fn text_that_is_no_pressure_is_a_failure_with_its_file() {
        for text in [
            "",
            "some\n",
            "some avg10=0.00 total=\n",
            "full avg10=0.00 total=5\n",
        ] {
            assert_eq!(Total::parse(text), None, "{text}");
        }
        let machine = Machine::new();
        machine.write("proc/pressure/cpu", "none\n");
        let mut pressures = Pressures::below(machine.root());
        let (_, outcome) = collect_once(&mut pressures, Instant::now());
        assert!(
            outcome
                .unwrap_err()
                .to_string()
                .contains("proc/pressure/cpu")
        );
    }
}
