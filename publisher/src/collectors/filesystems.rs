//! Space and inodes of mounted filesystems, from `/proc/self/mountinfo` and `statvfs`.
//!
//! ```text
//! 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//!       device root point options   optional   kind source    options        proc_pid_mountinfo(5)
//! ```
//! Each filesystem stands there once, whatever else it is bound to. Network filesystems are left
//! out unless asked for: asking one whose server is gone hangs.

use std::collections::HashMap;
use std::fs;
use std::io;

use hostbus_wire::Name;
use hostbus_wire::sample::Filesystem;
use rustix::fs::StatVfs;
use rustix::io::Errno;
use serde::Deserialize;

use super::{Collector, Pass, Presence, Public};
use crate::error::CollectorError;
use crate::rates::percent;
use crate::selection::{Selection, globs};

const MOUNTS: &str = "/proc/self/mountinfo";

/// Kinds whose data is on another machine, or in a process that may not answer.
const NETWORK_KINDS: [&str; 15] = [
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "afs", "ncpfs", "9p", "lustre", "gpfs",
    "beegfs", "ocfs2", "fuse", "fuse.*",
];

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
    /// Globs of kinds to leave out. Default: those that hold no data of their own, and read-only
    /// images.
    pub exclude_kinds: Vec<String>,
    /// Whether to take network and FUSE filesystems. Default false: one whose server is gone
    /// would hold up all samples.
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
            ]),
            network: false,
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

/// Reads mounted filesystems.
pub(crate) struct Filesystems {
    points: Selection,
    kinds: Selection,
}

impl Filesystems {
    pub(crate) fn new(config: &FilesystemsConfig) -> Self {
        let mut kinds = config.exclude_kinds.clone();
        if !config.network {
            kinds.extend(globs(NETWORK_KINDS));
        }
        Self {
            points: Selection::new(&config.include, &config.exclude),
            kinds: Selection::new(&[], &kinds),
        }
    }

    fn takes(&self, mount: &Mount) -> bool {
        // Inside a container the root is an overlay, and all there is.
        let root = mount.point == "/" && mount.kind == "overlay";
        self.points.takes(&mount.point) && (root || self.kinds.takes(&mount.kind))
    }
}

impl Collector for Filesystems {
    fn collect(&mut self, pass: &mut Pass) -> Result<Presence, CollectorError> {
        let text = fs::read_to_string(MOUNTS).map_err(|e| CollectorError::read(MOUNTS, e))?;
        let mut failed = None;
        for mount in distinct(parse(&text), |mount| self.takes(mount)) {
            match rustix::fs::statvfs(mount.point.as_str()) {
                Ok(stat) => pass.sample.filesystems.extend(filesystem(&mount, &stat)),
                // Unmounted since, or somebody else's.
                Err(Errno::NOENT | Errno::ACCESS | Errno::PERM) => {}
                Err(error) => {
                    let error = io::Error::from(error);
                    failed.get_or_insert(CollectorError::read(&mount.point, error));
                }
            }
        }
        match failed {
            Some(error) => Err(error),
            None if pass.sample.filesystems.is_empty() => Ok(Presence::Nothing(
                "no filesystem on a device of this host".to_owned(),
            )),
            None => Ok(Presence::Here),
        }
    }
}

/// One line of the table of mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    device: String,
    /// The folder of the filesystem that is mounted; `/` unless it is a bind mount or a subvolume.
    root: String,
    point: String,
    kind: String,
    source: String,
}

/// Lines that can't be understood are left out.
fn parse(text: &str) -> impl Iterator<Item = Mount> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(2);
        let (device, root, point) = (fields.next()?, fields.next()?, fields.next()?);
        let mut fields = fields.skip_while(|field| *field != "-").skip(1);
        let (kind, source) = (fields.next()?, fields.next()?);
        Some(Mount {
            device: device.to_owned(),
            root: unescape(root),
            point: unescape(point),
            kind: kind.to_owned(),
            source: unescape(source),
        })
    })
}

/// Space, tab, newline and backslash stand there as three octal digits.
fn unescape(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    let mut out = text.to_owned();
    for (escaped, plain) in [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ] {
        out = out.replace(escaped, plain);
    }
    out
}

/// The mounts that `takes` agrees to, the last one at each point (it hides those below), and of
/// each device only one: its root before a part of it, then the shortest path.
fn distinct(mounts: impl Iterator<Item = Mount>, takes: impl Fn(&Mount) -> bool) -> Vec<Mount> {
    let mut visible: HashMap<String, (usize, Mount)> = HashMap::new();
    for (line, mount) in mounts.enumerate() {
        visible.insert(mount.point.clone(), (line, mount));
    }
    let mut visible: Vec<(usize, Mount)> = visible.into_values().collect();
    visible.sort_unstable_by_key(|(line, _)| *line);
    let mut by_device: HashMap<String, (usize, Mount)> = HashMap::new();
    for (line, mount) in visible.into_iter().filter(|(_, mount)| takes(mount)) {
        let rank = |mount: &Mount| (mount.root != "/", mount.point.len());
        match by_device.get(&mount.device) {
            Some((_, have)) if rank(have) <= rank(&mount) => {}
            _ => {
                by_device.insert(mount.device.clone(), (line, mount));
            }
        }
    }
    let mut mounts: Vec<Mount> = by_device.into_values().map(|(_, mount)| mount).collect();
    mounts.sort_unstable_by(|a, b| a.point.cmp(&b.point));
    mounts
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
mod tests {
    use super::*;

    const TABLE: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
28 27 254:16 / /mnt/Et\\303\\251\\0401 rw - xfs /dev/vdb rw
29 27 254:0 /srv/www /var/www rw,relatime shared:1 master:2 - ext4 /dev/vda rw
30 27 0:44 /@home /home rw - btrfs /dev/sdc1 rw
31 27 0:44 /@ /pool rw - btrfs /dev/sdc1 rw
32 27 0:50 / /net rw - nfs4 server:/export rw
33 27 7:1 / /snap/core/1 ro - squashfs /dev/loop1 ro
34 27 8:1 / /data rw - ext4 /dev/sda1 rw
35 34 0:60 / /data rw - tmpfs tmpfs rw
broken line
36 27 0:61
";

    fn points(config: &FilesystemsConfig, table: &str) -> Vec<String> {
        let filesystems = Filesystems::new(config);
        distinct(parse(table), |m| filesystems.takes(m))
            .into_iter()
            .map(|m| m.point)
            .collect()
    }

    #[test]
    fn each_real_filesystem_stands_there_once() {
        // `/data` is hidden by a tmpfs, `/var/www` is a part of `/`, `/home` and `/pool` are one.
        assert_eq!(
            points(&FilesystemsConfig::default(), TABLE),
            ["/", "/home", "/mnt/Et\\303\\251 1"]
        );
    }

    #[test]
    fn network_filesystems_are_taken_when_asked_for() {
        let config = FilesystemsConfig {
            network: true,
            ..Default::default()
        };
        assert!(points(&config, TABLE).contains(&"/net".to_owned()));
    }

    #[test]
    fn include_picks_mount_points() {
        let config = FilesystemsConfig {
            include: vec!["/mnt/*".to_owned()],
            ..Default::default()
        };
        assert_eq!(points(&config, TABLE), ["/mnt/Et\\303\\251 1"]);
    }

    #[test]
    fn the_root_of_a_container_is_taken_though_it_is_an_overlay() {
        let table = "\
100 1 0:70 / / rw - overlay overlay rw,lowerdir=/x
101 100 254:0 /docker/hosts /etc/hosts rw - ext4 /dev/vda rw
102 100 0:71 / /merged rw - overlay overlay rw
";
        assert_eq!(points(&FilesystemsConfig::default(), table), ["/"]);
    }

    #[test]
    fn escaped_characters_are_read_back() {
        assert_eq!(unescape("/a\\040b\\134c"), "/a b\\c");
        assert_eq!(unescape("/plain"), "/plain");
    }

    #[test]
    fn this_hosts_values_are_sane() {
        let config = FilesystemsConfig::default();
        let sample = super::super::tests::collect_twice(&mut Filesystems::new(&config));
        for filesystem in &sample.filesystems {
            let (total, used) = (
                filesystem.total_bytes.unwrap(),
                filesystem.used_bytes.unwrap(),
            );
            assert!(used <= total, "{filesystem:?}");
            assert!((0.0..=100.0).contains(&filesystem.used_percent.unwrap()));
        }
    }
}
