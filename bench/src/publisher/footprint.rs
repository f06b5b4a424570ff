//! What a process takes, as the kernel counts it: proc(5).

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::Context;
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// Memory and threads of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footprint {
    /// What of it is in memory, shared pages counted in full.
    pub(crate) resident_bytes: u64,
    /// The most that was.
    pub(crate) peak_bytes: u64,
    /// Of the resident, what belongs to no file: heap and stacks.
    pub(crate) anonymous_bytes: u64,
    /// The resident, each shared page divided by those who share it.
    pub(crate) proportional_bytes: u64,
    pub(crate) threads: u64,
    /// All files that it has mapped, whole: the program, its libraries and plugins.
    pub(crate) mapped_files_bytes: u64,
}

impl Footprint {
    pub(crate) fn read(process: u32) -> anyhow::Result<Self> {
        let read = |name: &str| {
            let path = format!("/proc/{process}/{name}");
            fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))
        };
        let (status, rollup) = (read("status")?, read("smaps_rollup")?);
        let kib = |text: &str, name: &str| -> anyhow::Result<u64> {
            Ok(number(text, name)?.saturating_mul(1024))
        };
        let maps = read("maps")?;
        let files = mapped(&maps)
            .into_iter()
            .filter_map(|path| fs::metadata(path).ok());
        Ok(Self {
            resident_bytes: kib(&status, "VmRSS")?,
            peak_bytes: kib(&status, "VmHWM")?,
            anonymous_bytes: kib(&status, "RssAnon")?,
            proportional_bytes: kib(&rollup, "Pss")?,
            threads: number(&status, "Threads")?,
            mapped_files_bytes: files.map(|file| file.len()).sum(),
        })
    }
}

/// The number in the line `name: 123 kB`.
fn number(text: &str, name: &str) -> anyhow::Result<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let word = line.and_then(|line| line.split_whitespace().next());
    let word = word.with_context(|| format!("no {name}"))?;
    word.parse()
        .with_context(|| format!("{name} is `{word}`, expected a number"))
}

/// The files in a memory map, each once.
fn mapped(maps: &str) -> BTreeSet<&str> {
    // Address, rights, offset, device, inode, and then a path, which may hold spaces.
    let paths = maps
        .lines()
        .filter_map(|line| Some(&line[line.find('/')?..]));
    paths.collect()
}

/// CPU time that a process has used in all its threads, those that have ended included.
pub(crate) fn cpu_time(process: u32) -> anyhow::Result<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(process.try_into()?))?;
    Ok(clock.now()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_by_its_whole_name() {
        let status = "Name:\tcollectd\nVmRSS:\t    5912 kB\nRssAnon:\t     1320 kB\nThreads:\t11\n";
        assert_eq!(number(status, "VmRSS").unwrap(), 5912);
        assert_eq!(number(status, "Threads").unwrap(), 11);
        assert!(number(status, "Rss").is_err());
        assert!(number(status, "Name").is_err());
        let rollup = "Rss:    6248 kB\nPss:    4696 kB\nPss_Dirty:  4448 kB\n";
        assert_eq!(number(rollup, "Pss").unwrap(), 4696);
    }

    #[test]
    fn a_file_that_is_mapped_in_pieces_counts_once() {
        let maps = "\
560c68142000-560c681e2000 r--p 00000000 fd:00 1711 /usr/bin/an agent
560c681e2000-560c685fe000 r-xp 000a0000 fd:00 1711 /usr/bin/an agent
560c69d25000-560c69d53000 rw-p 00000000 00:00 0 [heap]
7f1d1c000000-7f1d1c021000 rw-p 00000000 00:00 0
7f1d22a6f000-7f1d22a95000 r--p 00000000 fd:00 99 /usr/lib/libc.so.6
";
        let files: Vec<&str> = mapped(maps).into_iter().collect();
        assert_eq!(files, ["/usr/bin/an agent", "/usr/lib/libc.so.6"]);
    }

    #[test]
    fn this_process_has_a_footprint() {
        let before = cpu_time(std::process::id()).unwrap();
        let footprint = Footprint::read(std::process::id()).unwrap();
        assert!(
            footprint.peak_bytes >= footprint.anonymous_bytes,
            "{footprint:?}"
        );
        assert!(footprint.threads > 0 && footprint.mapped_files_bytes > 0);
        assert!(cpu_time(std::process::id()).unwrap() > before);
    }
}
