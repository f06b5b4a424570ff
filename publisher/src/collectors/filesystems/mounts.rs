//! The lines of the table of mounts: which filesystems are worth a question, and which may not
//! answer it.
//!
//! ```text
//! 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//!       device root point options   optional   kind source    options        proc_pid_mountinfo(5)
//! ```
//! The table is read line by line and only what is taken is kept: a container host has ten
//! thousand lines.

use std::collections::HashMap;
use std::io::{self, BufRead};

use super::FilesystemsConfig;
use crate::selection::{Selection, globs};

/// Kinds whose data is on another machine, or in a process that may not answer.
const NETWORK_KINDS: [&str; 26] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "ceph",
    "afs",
    "auristorfs",
    "coda",
    "ncpfs",
    "9p",
    "virtiofs",
    "vboxsf",
    "prl_fs",
    "lustre",
    "gpfs",
    "beegfs",
    "fhgfs",
    "orangefs",
    "pvfs2",
    "ocfs2",
    "gfs2",
    "davfs",
    "drvfs",
    "fuse",
    "fuse.*",
];
/// A disk of this host behind a process, which may not answer either.
const LOCAL_PROCESS_KIND: &str = "fuseblk";
/// The most filesystems of one sample: they must leave room for everything else.
pub(super) const MAX_FILESYSTEMS: usize = 256;

/// What is taken of the table.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// By their point.
    pub(super) taken: Vec<Mount>,
    /// How many are left out because there are too many.
    pub(super) left_out: usize,
}

/// One mount that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) device: String,
    /// The folder of the filesystem that is mounted; `/` unless it is a bind mount or a subvolume.
    root: String,
    pub(super) point: String,
    pub(super) kind: String,
    pub(super) source: String,
    /// The mount itself can't be written to. Below a service that is shut in all are so.
    pub(super) mount_read_only: bool,
    /// The whole filesystem can't be written to.
    pub(super) read_only: bool,
    /// A question about it may hang: it, or one on the way to it, is not on a disk of this host.
    pub(super) may_hang: bool,
}

impl Mount {
    /// Of the mounts of one filesystem the least stands for it.
    fn rank(&self) -> (bool, usize, &str) {
        (self.root != "/", self.point.len(), &self.point)
    }

    /// Whether its data is on a block device of this host.
    fn on_device(&self) -> bool {
        self.source.starts_with("/dev/")
    }
}

/// Which mounts are taken.
pub(super) struct Choice {
    points: Selection,
    kinds: Selection,
    /// Points are picked by name, those that an automounter watches too.
    picked: bool,
}

impl Choice {
    pub(super) fn new(config: &FilesystemsConfig) -> Self {
        let mut kinds = config.exclude_kinds.clone();
        if !config.network {
            kinds.extend(globs(NETWORK_KINDS));
        }
        Self {
            points: Selection::new(&config.include, &config.exclude),
            kinds: Selection::new(&[], &kinds),
            picked: !config.include.is_empty(),
        }
    }
}

/// The mounts that are taken. Lines that can't be understood are left out.
///
/// The last one at each point counts: it hides those below. Each device stands there once, with
/// its root before a part of it, then with the shortest path. Where there are too many, those that
/// are on no disk of this host go first.
pub(super) fn take(mut table: impl BufRead, choice: &Choice) -> io::Result<Mounts> {
    let mut by_point: HashMap<String, Mount> = HashMap::new();
    let mut kinds: HashMap<String, (bool, bool)> = HashMap::new();
    // Points with all below them that may hang, and those that an automounter lets go when nobody
    // asks.
    let (mut hanging, mut automatic) = (Vec::new(), Vec::new());
    let mut line = Vec::new();
    loop {
        line.clear();
        if table.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        let Some(row) = Row::parse(text.trim_end_matches('\n')) else {
            continue;
        };
        if !kinds.contains_key(row.kind) {
            let network = NETWORK_KINDS.iter().any(|glob| matches(glob, row.kind));
            let hangs = network || row.kind == LOCAL_PROCESS_KIND;
            kinds.insert(row.kind.to_owned(), (choice.kinds.takes(row.kind), hangs));
        }
        let (kind_taken, hangs) = kinds[row.kind];
        let point = unescape(row.point);
        if hangs {
            hanging.push(point.clone());
        } else if row.kind == "autofs" && row.lets_go() {
            automatic.push(point.clone());
        }
        // Inside a container the root is an overlay, and all there is.
        let root = row.kind == "overlay" && point == "/";
        if (kind_taken || root) && choice.points.takes(&point) {
            let mount = row.mount(&point);
            by_point.insert(point, mount);
        } else {
            by_point.remove(&point);
        }
    }
    let mut by_device: HashMap<String, Mount> = HashMap::new();
    for (_, mount) in by_point {
        if !choice.picked && automatic.iter().any(|point| is_within(&mount.point, point)) {
            continue;
        }
        match by_device.get(&mount.device) {
            Some(have) if have.rank() <= mount.rank() => {}
            _ => {
                by_device.insert(mount.device.clone(), mount);
            }
        }
    }
    let mut taken: Vec<Mount> = by_device.into_values().collect();
    let left_out = taken.len().saturating_sub(MAX_FILESYSTEMS);
    if left_out > 0 {
        let rank = |mount: &Mount| (mount.point != "/", !mount.on_device(), mount.point.len());
        taken.sort_unstable_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.point.cmp(&b.point)));
        taken.truncate(MAX_FILESYSTEMS);
    }
    for mount in &mut taken {
        mount.may_hang = hanging.iter().any(|point| is_within(&mount.point, point));
    }
    taken.sort_unstable_by(|a, b| a.point.cmp(&b.point));
    Ok(Mounts { taken, left_out })
}

/// One line of the table.
struct Row<'t> {
    device: &'t str,
    root: &'t str,
    point: &'t str,
    options: &'t str,
    kind: &'t str,
    source: &'t str,
    super_options: &'t str,
}

impl<'t> Row<'t> {
    fn parse(line: &'t str) -> Option<Self> {
        let mut fields = line.split(' ').skip(2);
        let (device, root, point) = (fields.next()?, fields.next()?, fields.next()?);
        let options = fields.next()?;
        let mut fields = fields.skip_while(|field| *field != "-").skip(1);
        Some(Self {
            device,
            root,
            point,
            options,
            kind: fields.next()?,
            source: fields.next()?,
            super_options: fields.next().unwrap_or_default(),
        })
    }

    fn mount(&self, point: &str) -> Mount {
        Mount {
            device: self.device.to_owned(),
            root: unescape(self.root),
            point: point.to_owned(),
            kind: self.kind.to_owned(),
            source: unescape(self.source),
            mount_read_only: has_option(self.options, "ro"),
            read_only: has_option(self.super_options, "ro"),
            may_hang: false,
        }
    }

    /// Whether an automounter unmounts what is there when nobody asked for a while. Then asking
    /// each few seconds would keep it mounted for ever, unless only use counts.
    fn lets_go(&self) -> bool {
        let timeout = self
            .super_options
            .split(',')
            .find_map(|option| option.strip_prefix("timeout="));
        timeout.is_some_and(|seconds| seconds != "0")
            && !has_option(self.super_options, "strictexpire")
    }
}

fn has_option(options: &str, wanted: &str) -> bool {
    options.split(',').any(|option| option == wanted)
}

fn matches(glob: &str, kind: &str) -> bool {
    match glob.strip_suffix('*') {
        Some(begin) => kind.starts_with(begin),
        None => kind == glob,
    }
}

fn is_within(path: &str, folder: &str) -> bool {
    let below = path.strip_prefix(folder.trim_end_matches('/'));
    below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Space, tab, newline, backslash and `#` stand there as three octal digits.
fn unescape(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    let mut out = text.to_owned();
    for (escaped, plain) in [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\043", "#"),
        ("\\134", "\\"),
    ] {
        out = out.replace(escaped, plain);
    }
    out
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) const TABLE: &str = "\
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
37 32 8:33 / /net/disk rw - ext4 /dev/sdd1 rw
38 27 8:34 / /netdisk rw - ext4 /dev/sde1 rw
39 27 0:70 / /run/user/1000/doc rw - fuse.portal portal rw
40 27 0:71 / /home/ada/.gvfs rw - fuse.gvfsd-fuse gvfsd-fuse rw
";

    fn mounts(config: &FilesystemsConfig, table: &str) -> Vec<Mount> {
        take(table.as_bytes(), &Choice::new(config)).unwrap().taken
    }

    fn points(config: &FilesystemsConfig, table: &str) -> Vec<String> {
        let mounts = mounts(config, table).into_iter();
        mounts.map(|mount| mount.point).collect()
    }

    #[test]
    fn each_real_filesystem_stands_there_once() {
        // `/data` is hidden by a tmpfs, `/var/www` is a part of `/`, `/home` and `/pool` are one.
        assert_eq!(
            points(&FilesystemsConfig::default(), TABLE),
            [
                "/",
                "/home",
                "/mnt/Et\\303\\251 1",
                "/net",
                "/net/disk",
                "/netdisk"
            ]
        );
    }

    #[test]
    fn network_filesystems_can_be_left_out() {
        let config = FilesystemsConfig {
            network: false,
            ..Default::default()
        };
        let points = points(&config, TABLE);
        assert!(!points.contains(&"/net".to_owned()) && points.contains(&"/net/disk".to_owned()));
    }

    #[test]
    fn what_is_on_the_network_or_behind_it_may_hang() {
        let mounts = mounts(&FilesystemsConfig::default(), TABLE);
        let hanging = mounts.iter().filter(|mount| mount.may_hang);
        let points: Vec<&str> = hanging.map(|mount| mount.point.as_str()).collect();
        assert_eq!(points, ["/net", "/net/disk"]);
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
    fn the_filesystem_is_read_only_not_the_mount_of_a_service_that_is_shut_in() {
        let table = "\
400 1 8:1 / / ro,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
401 400 8:2 / /data ro,nosuid - ext4 /dev/sda2 ro,errors=remount-ro
402 400 8:3 / /fine rw - ext4 /dev/sda3 rw
";
        let found: Vec<_> = mounts(&FilesystemsConfig::default(), table)
            .into_iter()
            .map(|mount| (mount.point, mount.mount_read_only, mount.read_only))
            .collect();
        let row = |point: &str, mount, whole| (point.to_owned(), mount, whole);
        assert_eq!(
            found,
            [
                row("/", true, false),
                row("/data", true, true),
                row("/fine", false, false)
            ]
        );
    }

    #[test]
    fn what_an_automounter_would_let_go_is_not_kept_mounted_by_questions() {
        let check = |options: &str, include: &[&str], taken: bool| {
            let table = format!(
                "50 27 0:80 / /auto rw - autofs systemd-1 rw,fd=50,pgrp=1,{options}\n\
                 51 50 0:81 / /auto rw - nfs4 server:/export rw\n"
            );
            let config = FilesystemsConfig {
                include: include.iter().map(|&glob| glob.to_owned()).collect(),
                ..Default::default()
            };
            assert_eq!(points(&config, &table).len(), usize::from(taken), "{table}");
        };
        check("timeout=0,direct", &[], true);
        check("timeout=300,direct", &[], false);
        check("timeout=300,strictexpire,direct", &[], true);
        check("timeout=300,direct", &["/auto"], true);
        // Only the trigger: nothing is mounted there.
        let trigger = "50 27 0:80 / /auto rw - autofs systemd-1 rw,timeout=0,direct\n";
        assert!(points(&FilesystemsConfig::default(), trigger).is_empty());
    }

    #[test]
    fn escaped_characters_are_read_back() {
        assert_eq!(unescape("/a\\040b\\134c\\043"), "/a b\\c#");
        assert_eq!(unescape("/plain"), "/plain");
    }

    #[test]
    fn a_table_of_ten_thousand_lines_is_read_whole() {
        let mut table = TABLE.to_owned();
        for n in 0..10_000 {
            table += &format!(
                "{} 27 0:{} / /var/lib/docker/overlay2/{n:064x}/merged rw,relatime - overlay \
                 overlay rw,lowerdir=/var/lib/docker/overlay2/l/{n:026x}\n",
                n + 1000,
                n + 1000
            );
        }
        let config = FilesystemsConfig::default();
        let mounts = take(table.as_bytes(), &Choice::new(&config)).unwrap();
        assert_eq!(mounts.taken.len(), 6);
    }
}
