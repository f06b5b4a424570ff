//! Filesystems, disks, networks and the inventory against independent tools, and rates against a
//! known transfer.
//!
//! Others use this machine too. So a rate is held between what an independent reading counted just
//! around the transfer and what another one counted around the whole, over the times that it can
//! have taken.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod namespace;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hostbus_publisher::collectors::CollectorsConfig;
use hostbus_publisher::{Config, inventory, once};
use hostbus_wire::Sample;
use hostbus_wire::sample::{Disk, Network};
use rustix::mount::{MountFlags, mount};
use serde_json::Value;

/// What `tool` of the Debian package `package` prints.
fn output(tool: &str, package: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool)
        .args(arguments)
        .env("LC_ALL", "C")
        .output();
    let output =
        output.unwrap_or_else(|e| panic!("{tool}: {e}; install it: apt-get install {package}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Settings under which only what `change` turns on is collected.
fn only(change: impl Fn(&mut CollectorsConfig)) -> Config {
    let off = serde_json::json!({
        "cpu": {"enabled": false}, "memory": {"enabled": false},
        "filesystems": {"enabled": false}, "disks": {"enabled": false},
        "networks": {"enabled": false}, "gpus": {"enabled": false},
        "sensors": {"enabled": false},
    });
    let mut collectors: CollectorsConfig = serde_json::from_value(off).unwrap();
    change(&mut collectors);
    Config {
        collectors,
        ..Config::default()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

/// A sample from two readings `apart`, with `meanwhile` after the first one. Returns how long it
/// took from the first to the last moment.
fn sample(config: &Config, apart: Duration, meanwhile: impl FnOnce()) -> (Sample, Duration) {
    let runtime = runtime();
    let began = Instant::now();
    let (read, ()) = runtime.block_on(async {
        let work = async {
            tokio::time::sleep(apart / 4).await;
            meanwhile();
        };
        tokio::join!(once(config, apart), work)
    });
    (read.unwrap().0, began.elapsed())
}

fn at_once(config: &Config) -> Sample {
    sample(config, Duration::from_millis(20), || {}).0
}

/// By mount point: size, used, available, and inodes used and in all.
fn df() -> BTreeMap<String, [u64; 5]> {
    let columns = "--output=size,used,avail,iused,itotal,target";
    let text = output("df", "coreutils", &["-B1", columns]);
    let rows = text.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let numbers: Vec<u64> = words
            .iter()
            .take(5)
            .filter_map(|w| w.parse().ok())
            .collect();
        let point = words.get(5..)?.join(" ");
        Some((point, numbers.try_into().ok()?))
    });
    rows.collect()
}

#[test]
fn filesystems_are_those_of_df() {
    let config = only(|collectors| {
        collectors.filesystems.enabled = true;
        // One that others use, and one that hardly anybody does.
        collectors.filesystems.include = vec!["/".to_owned(), "/dev/shm".to_owned()];
        collectors.filesystems.exclude_kinds = Vec::new();
    });
    let (mut exact, mut compared) = (0, 0);
    for _ in 0..20 {
        let before = df();
        let sample = at_once(&config);
        let after = df();
        for filesystem in &sample.filesystems {
            let point = filesystem.name.as_str();
            let ([size, used, available, inodes_used, inodes], later) =
                (before[point], after[point]);
            assert_eq!(filesystem.total_bytes, Some(size), "{point}");
            // Others write: only where nothing changed meanwhile the rest must be the same.
            compared += 1;
            if before[point] != later {
                continue;
            }
            exact += 1;
            assert_eq!(filesystem.used_bytes, Some(used), "{point}");
            assert_eq!(filesystem.available_bytes, Some(available), "{point}");
            let percent = |part: u64, whole: u64| part as f64 / whole as f64 * 100.0;
            let near = |found: Option<f64>, expected: f64| {
                let found = found.unwrap();
                assert!(
                    (found - expected).abs() < 0.006,
                    "{point}: {found} {expected}"
                );
            };
            near(filesystem.used_percent, percent(used, used + available));
            near(filesystem.inodes_used_percent, percent(inodes_used, inodes));
        }
    }
    assert!(
        compared >= 20 && exact > 0,
        "{exact} of {compared} readings stood still"
    );
}

/// Name, size and whether it turns, of whole disks.
fn lsblk() -> BTreeMap<String, (u64, bool)> {
    let arguments = ["-b", "-d", "-J", "-o", "NAME,SIZE,TYPE,ROTA"];
    let text = output("lsblk", "util-linux", &arguments);
    let tree: Value = serde_json::from_str(&text).unwrap();
    let devices = tree["blockdevices"].as_array().unwrap().iter();
    let disks = devices.filter(|device| device["type"] == "disk");
    let row = |device: &Value| {
        let name = device["name"].as_str().unwrap().to_owned();
        (
            name,
            (device["size"].as_u64().unwrap(), device["rota"] == true),
        )
    };
    disks.map(row).collect()
}

#[test]
fn disks_of_the_inventory_and_of_samples_are_those_of_lsblk() {
    let known = lsblk();
    let info = inventory::info(BTreeMap::new(), Duration::from_secs(10), 1);
    for disk in &info.disks {
        let (size, rotational) = known[&disk.name];
        assert_eq!(disk.size_bytes, Some(size), "{disk:?}");
        assert!(
            disk.rotational.is_none_or(|turns| turns == rotational),
            "{disk:?}"
        );
    }
    // Those that lsblk knows and we leave out hold nothing, or stand in memory or on other disks.
    for (name, (size, _)) in &known {
        let listed = info.disks.iter().any(|disk| disk.name == *name);
        let ours = ["zram", "ram", "zd"]
            .iter()
            .all(|begin| !name.starts_with(begin));
        let part = name.contains("boot") || name.contains("rpmb");
        assert!(listed || *size == 0 || !ours || part, "{name}");
    }
    let sample = at_once(&only(|collectors| collectors.disks.enabled = true));
    for disk in &sample.disks {
        let name = disk.name.as_str();
        assert!(known.contains_key(name) || name.starts_with("md"), "{name}");
    }
}

#[test]
fn interfaces_of_the_inventory_are_those_of_ip() {
    let text = output("ip", "iproute2", &["-j", "address"]);
    let known: Vec<Value> = serde_json::from_str(&text).unwrap();
    let info = inventory::info(BTreeMap::new(), Duration::from_secs(10), 1);
    for interface in &info.networks {
        let found = known
            .iter()
            .find(|k| k["ifname"] == *interface.name)
            .unwrap();
        if let Some(mac) = &interface.mac {
            assert_eq!(found["address"], **mac);
        }
        let addresses = found["addr_info"].as_array().unwrap().iter();
        let global = addresses.filter(|address| address["scope"] != "link");
        let mut global: Vec<_> = global.map(|a| a["local"].as_str().unwrap()).collect();
        let mut ours: Vec<_> = interface.addresses.iter().map(String::as_str).collect();
        global.sort_unstable();
        ours.sort_unstable();
        assert_eq!(ours, global, "{interface:?}");
    }
}

/// Requests and bytes read, then written, of each device.
fn diskstats(name: &str) -> [u64; 4] {
    let text = fs::read_to_string("/proc/diskstats").unwrap();
    let words = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let words = words.into_iter().find(|words| words[2] == name).unwrap();
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    [number(3), number(5) * 512, number(7), number(9) * 512]
}

/// The whole disk that holds `path`.
fn disk_of(path: &Path) -> String {
    let device = fs::metadata(path).unwrap().dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let folder = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}"));
    let mut folder = folder.unwrap_or_else(|_| {
        panic!(
            "{} is on no disk of this host: set CARGO_TARGET_DIR to a folder that is",
            path.display()
        )
    });
    if folder.join("partition").exists() {
        folder.pop();
    }
    folder.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn what_is_written_to_a_disk_is_its_rate() {
    const BYTES: u64 = 16 * 1024 * 1024;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let name = disk_of(folder.path());
    let config = only(|collectors| {
        collectors.disks.enabled = true;
        collectors.disks.include = vec![name.clone()];
    });
    for attempt in 1.. {
        let apart = Duration::from_secs(2 * attempt);
        let mut around = None;
        let before = diskstats(&name);
        let (sample, took) = sample(&config, apart, || {
            let (began, from) = (Instant::now(), diskstats(&name));
            let mut file = File::create(folder.path().join("written")).unwrap();
            let block: Vec<u8> = (0..BYTES).map(|n| ((n * 31) >> 7) as u8).collect();
            file.write_all(&block).unwrap();
            file.sync_all().unwrap();
            around = Some((from, diskstats(&name), began.elapsed()));
        });
        let after = diskstats(&name);
        let (from, to, writing) = around.unwrap();
        if writing > apart / 2 {
            // It may have ended after the second reading: the disk is too busy.
            assert!(attempt < 8, "{name} took {writing:?} for {BYTES} bytes");
            continue;
        }
        let [.., wrote] = [from, to].map(|stats| stats[3]);
        assert!(
            wrote - from[3] >= BYTES,
            "the transfer itself was not counted"
        );
        let disk = &sample.disks[0];
        let check = |field: fn(&Disk) -> f64, at: usize, slack: f64| {
            let rate = field(disk);
            let least = (to[at] - from[at]) as f64 / took.as_secs_f64();
            let most = (after[at] - before[at]) as f64 / apart.as_secs_f64();
            assert!(
                rate >= least - slack && rate <= most + slack,
                "{name}, number {at}: {rate} is not within {least} and {most}"
            );
        };
        // What rounding takes away.
        check(|disk| disk.write_bytes_per_second.unwrap() as f64, 3, 1.0);
        check(|disk| disk.read_bytes_per_second.unwrap() as f64, 1, 1.0);
        check(|disk| disk.writes_per_second.unwrap(), 2, 0.01);
        check(|disk| disk.reads_per_second.unwrap(), 0, 0.01);
        assert!(disk.await_ms.unwrap() > 0.0 && disk.busy_percent.unwrap() > 0.0);
        return;
    }
}

/// Packets and bytes received, then sent, of each interface, and its state.
fn ip_links() -> HashMap<String, ([u64; 4], String)> {
    let text = output("ip", "iproute2", &["-s", "-j", "link"]);
    let links: Vec<Value> = serde_json::from_str(&text).unwrap();
    let row = |link: &Value| {
        let number = |way: &str, what: &str| link["stats64"][way][what].as_u64().unwrap();
        let numbers = [
            number("rx", "packets"),
            number("rx", "bytes"),
            number("tx", "packets"),
            number("tx", "bytes"),
        ];
        let state = link["operstate"].as_str().unwrap().to_owned();
        (
            link["ifname"].as_str().unwrap().to_owned(),
            (numbers, state),
        )
    };
    links.iter().map(row).collect()
}

#[test]
fn what_goes_over_a_link_is_its_rate_and_its_state_is_that_of_ip() {
    let name = "what_goes_over_a_link_is_its_rate_and_its_state_is_that_of_ip";
    let kinds = ["--net", "--mount", "--propagation", "private"];
    if !namespace::inside(name, &kinds) {
        return;
    }
    const PACKETS: u64 = 1000;
    const PAYLOAD: usize = 1000;
    /// Heads of Ethernet, IPv4 and UDP.
    const HEADS: u64 = 14 + 20 + 8;

    let ip = |arguments: &str| {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        output("ip", "iproute2", &arguments);
    };
    // The one that is mounted tells of the network outside.
    mount("sysfs", "/sys", "sysfs", MountFlags::empty(), None).unwrap();
    ip("link add hb0 type veth peer name hb1");
    for interface in ["hb0", "hb1"] {
        // Nobody but this test speaks.
        let own = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
        if Path::new(&own).exists() {
            fs::write(own, "1").unwrap();
        }
        ip(&format!("link set {interface} up"));
    }
    ip("address add 10.99.0.1/24 dev hb0");
    ip("neighbor add 10.99.0.2 lladdr 02:00:00:00:00:02 dev hb0");
    let socket = UdpSocket::bind("10.99.0.1:0").unwrap();
    let send = |packets: u64| {
        for _ in 0..packets {
            socket.send_to(&[7; PAYLOAD], "10.99.0.2:9").unwrap();
        }
    };
    // An interface that never carried a packet is no instance.
    send(1);
    let config = only(|collectors| {
        collectors.networks.enabled = true;
        collectors.networks.include = vec!["hb?".to_owned()];
    });
    let apart = Duration::from_secs(1);
    let before = ip_links();
    let (sample, took) = sample(&config, apart, || send(PACKETS));
    let after = ip_links();
    let names: Vec<&str> = sample.networks.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["hb0", "hb1"]);
    let bytes = PACKETS * (PAYLOAD as u64 + HEADS);
    let check = |network: &Network, rate: f64, expected: u64, slack: f64| {
        let (least, most) = (
            expected as f64 / took.as_secs_f64(),
            expected as f64 / apart.as_secs_f64(),
        );
        assert!(
            rate >= least - slack && rate <= most + slack,
            "{rate} is not within {least} and {most}: {network:?}"
        );
    };
    for network in &sample.networks {
        let (from, to) = (
            before[network.name.as_str()].0,
            after[network.name.as_str()].0,
        );
        let counted: Vec<u64> = to.iter().zip(from).map(|(to, from)| to - from).collect();
        let sends = network.name.as_str() == "hb0";
        let (received, sent) = if sends { (0, 1) } else { (1, 0) };
        assert_eq!(
            counted,
            [
                PACKETS * received,
                bytes * received,
                PACKETS * sent,
                bytes * sent
            ],
            "ip itself counts otherwise"
        );
        check(
            network,
            network.rx_packets_per_second.unwrap(),
            counted[0],
            0.01,
        );
        check(
            network,
            network.rx_bytes_per_second.unwrap() as f64,
            counted[1],
            1.0,
        );
        check(
            network,
            network.tx_packets_per_second.unwrap(),
            counted[2],
            0.01,
        );
        check(
            network,
            network.tx_bytes_per_second.unwrap() as f64,
            counted[3],
            1.0,
        );
        assert_eq!(after[network.name.as_str()].1, "UP");
        assert_eq!(network.up, Some(1));
        let speed = fs::read_to_string(format!("/sys/class/net/{}/speed", network.name)).unwrap();
        let speed: u64 = speed.trim().parse().unwrap();
        assert_eq!(network.speed_bits_per_second, Some(speed * 1_000_000));
    }
    // One end is set down: the other one has no carrier, and stays.
    ip("link set hb1 down");
    let sample = at_once(&config);
    let links = ip_links();
    for network in &sample.networks {
        let state = links[network.name.as_str()].1.as_str();
        assert!(["DOWN", "LOWERLAYERDOWN"].contains(&state), "{state}");
        assert_eq!(network.up, Some(0), "{network:?}");
    }
    assert_eq!(sample.networks.len(), 2);
}
