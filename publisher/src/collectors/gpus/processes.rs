//! Memory of GPUs by process, as a table for `details/gpu-processes`.
//!
//! ```text
//! gpu | pid  | name    | memory_bytes | kind
//! 0   | 4711 | python3 | 1073741824   | compute
//! ```
//! What is not known is null: the name of a process that ended meanwhile or runs outside the
//! publisher's container, the memory where the driver does not count it. The largest come first;
//! one that computes and draws has two rows.

use std::fs;
use std::time::{Duration, Instant};

use hostbus_wire::details::Details;
use hostbus_wire::{Name, Scalar};

/// The last level of the table's topic.
pub(crate) const NAME: &str = "gpu-processes";
/// How often the table is made at most.
const EVERY: Duration = Duration::from_secs(60);
/// How many rows the table has at most.
const MAX_ROWS: usize = 256;

/// A process that uses a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// `None` where the driver does not count it.
    pub(super) memory_bytes: Option<u64>,
    pub(super) kind: Kind,
}

/// What it uses the GPU for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Compute,
    Graphics,
}

/// When the table is due.
#[derive(Debug, Default)]
pub(super) struct Turns {
    last: Option<Instant>,
}

impl Turns {
    /// Whether it is due, and takes the turn.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let due = self
            .last
            .is_none_or(|last| now.saturating_duration_since(last) >= EVERY);
        if due {
            self.last = Some(now);
        }
        due
    }
}

/// The table of the processes of all GPUs. `name_of` gives the name of a process.
pub(super) fn table(
    ts: u64,
    mut processes: Vec<(Name, Process)>,
    name_of: impl Fn(u32) -> Option<String>,
) -> Details {
    processes.sort_by_key(|(_, process)| std::cmp::Reverse(process.memory_bytes));
    processes.truncate(MAX_ROWS);
    let rows = processes.into_iter().map(|(gpu, process)| {
        let kind = match process.kind {
            Kind::Compute => "compute",
            Kind::Graphics => "graphics",
        };
        vec![
            Scalar::Text(gpu.as_str().to_owned()),
            Scalar::Integer(process.pid.into()),
            name_of(process.pid).map_or(Scalar::Null, Scalar::Text),
            process.memory_bytes.map_or(Scalar::Null, Scalar::Integer),
            Scalar::Text(kind.to_owned()),
        ]
    });
    Details {
        ts,
        columns: ["gpu", "pid", "name", "memory_bytes", "kind"]
            .map(str::to_owned)
            .to_vec(),
        rows: rows.collect(),
    }
}

/// The name of a process as the kernel has it, 15 bytes at most.
pub(super) fn name_of(pid: u32) -> Option<String> {
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_first_and_what_is_unknown_is_null() {
        let process = |pid, memory_bytes, kind| {
            let gpu = "0".parse().unwrap();
            let process = Process {
                pid,
                memory_bytes,
                kind,
            };
            (gpu, process)
        };
        let processes = vec![
            process(1, None, Kind::Graphics),
            process(2, Some(5), Kind::Graphics),
            process(3, Some(7), Kind::Compute),
        ];
        let name_of = |pid| (pid == 3).then(|| "python3".to_owned());
        let table = table(9, processes, name_of);
        let text = |text: &str| Scalar::Text(text.to_owned());
        assert_eq!(
            table.rows,
            [
                vec![
                    text("0"),
                    Scalar::Integer(3),
                    text("python3"),
                    Scalar::Integer(7),
                    text("compute")
                ],
                vec![
                    text("0"),
                    Scalar::Integer(2),
                    Scalar::Null,
                    Scalar::Integer(5),
                    text("graphics")
                ],
                vec![
                    text("0"),
                    Scalar::Integer(1),
                    Scalar::Null,
                    Scalar::Null,
                    text("graphics")
                ],
            ]
        );
        assert_eq!(table.columns.len(), table.rows[0].len());
    }

    #[test]
    fn a_table_is_made_once_a_minute() {
        let start = Instant::now();
        let mut turns = Turns::default();
        let due = [0, 10, 59, 60, 119, 200].map(|s| turns.take(start + Duration::from_secs(s)));
        assert_eq!(due, [true, false, false, true, false, true]);
    }
}
