//! Space and inodes of mounted filesystems, from `/proc/self/mountinfo` and `statvfs`.
//!
//! Each filesystem stands there once, whatever else it is bound to. Network and FUSE filesystems
//! are asked on threads of their own: one whose server is gone does not answer, and holds up no
//! other. It is left out until it answers, and told about.

mod mounts;
mod table;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hostbus_wire::Name;
use hostbus_wire::event::Event;
use hostbus_wire::sample::Filesystem;
use rustix::fs::{StatVfs, StatVfsMountFlags};
use rustix::io::Errno;
use serde::Deserialize;

use self::mounts::{MAX_FILESYSTEMS, Mount, Mounts};
use self::table::{MOUNTS, Table};
use super::{Collector, Pass, Presence, Public};
use crate::errands::{Errands, Threads};
use crate::error::CollectorError;
use crate::events;
use crate::rates::percent;
use crate::selection::globs;

/// How long a sample waits for the filesystems that may hang, all together. Shorter than what a
/// sample waits for a collector, and far longer than a server takes that is well.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long one of them may be silent before people hear of it.
const TELL_AFTER: Duration = Duration::from_secs(5);
/// All threads that ask filesystems. Those that hang stay when the settings change.
static THREADS: Threads = Threads::new(0);

/// The `[publisher.collectors.filesystems]` section.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilesystemsConfig {
    /// Whether to collect. Default true.
    pub enabled: bool,
    /// The time from reading to reading, 0.1 to 3600 seconds. Absent: that of the samples.
    pub interval_seconds: Option<f64>,
    /// Globs of mount points. If given, only these are taken, whatever `exclude` says.
    pub include: Vec<String>,
    /// Globs of mount points to leave out. Default: snaps, container layers and the files that
    /// container engines bind into a container.
    pub exclude: Vec<String>,
    /// Globs of kinds to leave out. Default: those that hold no data of their own, read-only
    /// images, and the doors that desktops and container engines open with FUSE.
    pub exclude_kinds: Vec<String>,
    /// Whether to take network and FUSE filesystems. Default true. What an automounter unmounts
    /// when nobody uses it is left out all the same, unless `include` picks it.
    pub network: bool,
}

impl Default for FilesystemsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            interval_seconds: None,
            include: Vec::new(),
            exclude: globs([
                "/snap/*",
                "/var/snap/*",
                "/var/lib/docker/*",
                "/var/lib/containers/*",
                "/var/lib/kubelet/*",
                "/run/*",
                "/etc/hosts",
                "/etc/hostname",
                "/etc/resolv.conf",
            ]),
            exclude_kinds: globs([
                "autofs",
                "binfmt_misc",
                "bpf",
                "cgroup*",
                "configfs",
                "debugfs",
                "devpts",
                "devtmpfs",
                "efivarfs",
                "fusectl",
                "hugetlbfs",
                "mqueue",
                "nsfs",
                "overlay",
                "proc",
                "pstore",
                "ramfs",
                "rootfs",
                "rpc_pipefs",
                "securityfs",
                "selinuxfs",
                "squashfs",
                "sysfs",
                "tmpfs",
                "tracefs",
                "iso9660",
                "udf",
                "erofs",
                "fuse.gvfsd-fuse",
                "fuse.portal",
                "fuse.lxcfs",
                "fuse.snapfuse",
                "fuse.squashfuse*",
                "fuse.fuse-overlayfs",
                "fuse.*.AppImage",
            ]),
            network: true,
        }
    }
}

impl FilesystemsConfig {
    pub(super) fn public(&mut self) -> Public<'_> {
        Public {
            enabled: &mut self.enabled,
            interval_seconds: &mut self.interval_seconds,
            include: Some(&mut self.include),
            exclude: Some(&mut self.exclude),
        }
    }
}

/// A filesystem where it is mounted: another one may come to the same place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    point: String,
    device: String,
}

type Answer = Result<StatVfs, Errno>;
type Ask = Arc<dyn Fn(&Place) -> Answer + Send + Sync>;

/// Reads mounted filesystems.
pub(crate) struct Filesystems {
    table: Table,
    ask: Ask,
    errands: Errands<Place, Answer>,
    known: HashMap<Place, Known>,
    left_out: usize,
}

/// What is known of a filesystem from the passes before.
#[derive(Debug, Default)]
struct Known {
    /// People were told that it hangs, and since when it does.
    hangs_since: Option<Instant>,
    read_only: Option<bool>,
}

impl Filesystems {
    pub(crate) fn new(config: &FilesystemsConfig) -> Self {
        let ask = |place: &Place| rustix::fs::statvfs(place.point.as_str());
        Self::with(config, Arc::new(ask), &THREADS)
    }

    fn with(config: &FilesystemsConfig, ask: Ask, threads: &'static Threads) -> Self {
        let asked = Arc::clone(&ask);
        Self {
            table: Table::new(config),
            ask,
            errands: Errands::new(threads, move |place| asked(place)),
            known: HashMap::new(),
            left_out: 0,
        }
    }

    /// Asks each mount of the table.
    fn read(&mut self, mounts: &Mounts, pass: &mut Pass) -> Result<Presence, CollectorError> {
        self.tell_left_out(mounts.left_out, pass);
        let mounts = &mounts.taken;
        let slow = mounts.iter().filter(|mount| mount.may_hang).map(place);
        let mut answers = self.errands.ask(slow, pass.now, PATIENCE);
        let mut known_after = HashMap::new();
        let (mut silent, mut unasked, mut failed) = (Vec::new(), 0, None);
        for mount in mounts {
            let place = place(mount);
            let mut known = self.known.remove(&place).unwrap_or_default();
            let answer = if mount.may_hang {
                answers.remove(&place)
            } else {
                Some((self.ask)(&place))
            };
            match (answer, self.errands.unanswered_since(&place)) {
                (Some(answer), _) => {
                    pass.events.extend(known.answers(mount, pass));
                    if let Err(error) = known.take(mount, answer, pass) {
                        failed.get_or_insert(error);
                    }
                }
                (None, Some(since)) => {
                    pass.events.extend(known.is_silent(mount, since, pass));
                    if known.hangs_since.is_some() {
                        silent.push(mount.point.clone());
                    }
                }
                (None, None) => unasked += 1,
            }
            known_after.insert(place, known);
        }
        self.known = known_after;
        if let Some(error) = failed {
            return Err(error);
        }
        if !silent.is_empty() || unasked > 0 {
            return Ok(Presence::Partly(silence(&silent, unasked)));
        }
        if pass.sample.filesystems.is_empty() {
            return Ok(Presence::Nothing(
                "no filesystem that holds data".to_owned(),
            ));
        }
        Ok(Presence::Here)
    }

    /// Tells once that there are too many.
    fn tell_left_out(&mut self, left_out: usize, pass: &mut Pass) {
        if left_out > 0 && self.left_out == 0 {
            let event = events::filesystems_left_out(pass.ts, MAX_FILESYSTEMS, left_out);
            pass.events.push(event);
        }
        self.left_out = left_out;
    }
}

impl Collector for Filesystems {
    fn collect(&mut self, pass: &mut Pass) -> Result<Presence, CollectorError> {
        let mounts = self.table.read(pass.now);
        let mounts = mounts.map_err(|e| CollectorError::read(MOUNTS, e))?;
        self.read(&mounts, pass)
    }
}

impl Known {
    /// It answers, perhaps again.
    fn answers(&mut self, mount: &Mount, pass: &Pass) -> Option<Event> {
        let since = self.hangs_since.take()?;
        let silence = pass.now.saturating_duration_since(since);
        Some(events::filesystem_answers(pass.ts, &mount.point, silence))
    }

    /// It does not answer.
    fn is_silent(&mut self, mount: &Mount, since: Instant, pass: &Pass) -> Option<Event> {
        let silence = pass.now.saturating_duration_since(since);
        if silence < TELL_AFTER || self.hangs_since.is_some() {
            return None;
        }
        self.hangs_since = Some(since);
        Some(events::filesystem_hangs(pass.ts, &mount.point, silence))
    }

    fn take(
        &mut self,
        mount: &Mount,
        answer: Answer,
        pass: &mut Pass,
    ) -> Result<(), CollectorError> {
        let stat = match answer {
            Ok(stat) => stat,
            // Unmounted since, or somebody else's.
            Err(Errno::NOENT | Errno::ACCESS | Errno::PERM) => return Ok(()),
            Err(error) => return Err(CollectorError::read(&mount.point, error.into())),
        };
        let read_only = is_read_only(mount, &stat);
        let before = self.read_only.replace(read_only);
        if before.is_some_and(|before| before != read_only) {
            let event = events::filesystem_flips(pass.ts, &mount.point, read_only);
            pass.events.push(event);
        }
        if let Some(mut filesystem) = filesystem(mount, &stat) {
            filesystem.read_only = Some(u64::from(read_only));
            pass.sample.filesystems.push(filesystem);
        }
        Ok(())
    }
}

fn place(mount: &Mount) -> Place {
    Place {
        point: mount.point.clone(),
        device: mount.device.clone(),
    }
}

/// The table may be older than the answer, which in turn can't tell a filesystem from a mount that
/// a service manager made read-only for this service alone.
fn is_read_only(mount: &Mount, stat: &StatVfs) -> bool {
    let told = stat.f_flag.contains(StatVfsMountFlags::RDONLY);
    mount.read_only || (told && !mount.mount_read_only)
}

/// `silent` is where those are mounted that do not answer, `unasked` is how many are not asked for
/// want of threads. The text stays the same as long as the same filesystems hang.
fn silence(silent: &[String], unasked: usize) -> String {
    const NAMED: usize = 3;
    let mut text = match silent.len() {
        0 => "filesystems are left out".to_owned(),
        1 => format!("the filesystem at {} does not answer", silent[0]),
        all => {
            let named = silent[..all.min(NAMED)].join(", ");
            let more = if all > NAMED { " and others" } else { "" };
            format!("{all} filesystems do not answer: {named}{more}")
        }
    };
    if unasked > 0 {
        text += &format!("; {unasked} are not asked, for too many hang");
    }
    text
}

/// `None` when it has no size, or its mount point is too long for a name.
fn filesystem(mount: &Mount, stat: &StatVfs) -> Option<Filesystem> {
    let name: Name = mount.point.parse().ok()?;
    let bytes = |blocks: u64| blocks.checked_mul(stat.f_frsize);
    let total = bytes(stat.f_blocks).filter(|total| *total > 0)?;
    let available = bytes(stat.f_bavail)?;
    let used = total.saturating_sub(bytes(stat.f_bfree)?);
    let mut filesystem = Filesystem::new(name, mount.source.parse().ok(), mount.kind.parse().ok());
    filesystem.total_bytes = Some(total);
    filesystem.used_bytes = Some(used);
    filesystem.available_bytes = Some(available);
    filesystem.used_percent = percent(used, used.saturating_add(available));
    // Some filesystems make inodes as they need them, and show none.
    filesystem.inodes_used_percent =
        percent(stat.f_files.saturating_sub(stat.f_ffree), stat.f_files);
    Some(filesystem)
}

#[cfg(test)]
mod tests;
