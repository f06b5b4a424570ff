//! Disks and network interfaces: what they are, not what they do.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use hostbus_wire::info::{DiskInfo, InterfaceInfo};

use super::platform::read;
use crate::collectors::{DisksConfig, NetworksConfig};
use crate::selection::Selection;

/// The kernel counts in these, whatever a disk's own sectors are.
const SECTOR_BYTES: u64 = 512;

/// The disks that the collector takes by default. Their serial numbers are nobody's business.
pub(super) fn disks(root: &Path) -> Vec<DiskInfo> {
    let config = DisksConfig::default();
    let selection = Selection::new(&config.include, &config.exclude);
    let mut disks = Vec::new();
    for file in names(root, "sys/block") {
        let name = file.replace('!', "/");
        let tell = |path: &str| read(root, &format!("sys/block/{file}/{path}"));
        let sectors: u64 = tell("size").and_then(|size| size.parse().ok()).unwrap_or(0);
        if !selection.takes(&name) || sectors == 0 {
            continue;
        }
        // Hypervisors' disks say that they turn, for they don't know.
        let virtual_disk = name.starts_with("vd") || name.starts_with("xvd");
        let rotational = tell("queue/rotational").filter(|_| !virtual_disk);
        // A memory card has a name.
        let model = tell("device/model").or_else(|| tell("device/name"));
        disks.push(DiskInfo {
            model: model.filter(|model| !model.is_empty()),
            size_bytes: sectors.checked_mul(SECTOR_BYTES),
            rotational: rotational.map(|flag| flag == "1"),
            name,
        });
    }
    disks
}

/// The interfaces that the collector takes by default, with those of `addresses` that reach beyond
/// the link.
pub(super) fn interfaces(root: &Path, addresses: &[(String, IpAddr)]) -> Vec<InterfaceInfo> {
    let config = NetworksConfig::default();
    let selection = Selection::new(&config.include, &config.exclude);
    let mut interfaces = Vec::new();
    for name in names(root, "sys/class/net") {
        if !selection.takes(&name) {
            continue;
        }
        let mac = read(root, &format!("sys/class/net/{name}/address"));
        // Tunnels have zeros, or their own IP address.
        let mac = mac.filter(|mac| mac.len() == 17 && mac != "00:00:00:00:00:00");
        let own = addresses.iter().filter(|(of, _)| *of == name);
        let mut own: Vec<IpAddr> = own.map(|(_, ip)| *ip).filter(reaches_beyond).collect();
        own.sort_unstable();
        own.dedup();
        interfaces.push(InterfaceInfo {
            mac,
            addresses: own.iter().map(IpAddr::to_string).collect(),
            name,
        });
    }
    interfaces
}

/// The addresses of this process's network, by interface.
pub(super) fn addresses() -> Vec<(String, IpAddr)> {
    let found = if_addrs::get_if_addrs().unwrap_or_default();
    found
        .into_iter()
        .map(|i| (i.name.clone(), i.ip()))
        .collect()
}

fn reaches_beyond(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local() && !ip.is_unspecified(),
    }
}

fn names(root: &Path, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root.join(folder))
        .into_iter()
        .flatten()
        .flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn host(files: &[(&str, &str)]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn whole_disks_that_hold_something_are_listed() {
        let root = host(&[
            ("sys/block/nvme0n1/size", "1953525168\n"),
            (
                "sys/block/nvme0n1/device/model",
                "Samsung SSD 970 EVO Plus 1TB            \n",
            ),
            ("sys/block/nvme0n1/device/serial", "S4EWNX0R123456\n"),
            ("sys/block/nvme0n1/queue/rotational", "0\n"),
            ("sys/block/sda/size", "7814037168\n"),
            ("sys/block/sda/device/model", "WDC WD40EFRX-68N\n"),
            ("sys/block/sda/queue/rotational", "1\n"),
            ("sys/block/mmcblk0/size", "62333952\n"),
            ("sys/block/mmcblk0/device/name", "SC32G\n"),
            ("sys/block/vda/size", "536870912\n"),
            ("sys/block/vda/queue/rotational", "1\n"),
            ("sys/block/cciss!c0d0/size", "8\n"),
            ("sys/block/sdb/size", "0\n"),
            ("sys/block/loop0/size", "8\n"),
            ("sys/block/dm-0/size", "8\n"),
        ]);
        let disk = |name: &str, model: Option<&str>, size_bytes, rotational| DiskInfo {
            name: name.to_owned(),
            model: model.map(str::to_owned),
            size_bytes: Some(size_bytes),
            rotational,
        };
        assert_eq!(
            disks(root.path()),
            [
                disk("cciss/c0d0", None, 4096, None),
                disk("mmcblk0", Some("SC32G"), 31_914_983_424, None),
                disk(
                    "nvme0n1",
                    Some("Samsung SSD 970 EVO Plus 1TB"),
                    1_000_204_886_016,
                    Some(false)
                ),
                disk(
                    "sda",
                    Some("WDC WD40EFRX-68N"),
                    4_000_787_030_016,
                    Some(true)
                ),
                disk("vda", None, 274_877_906_944, None),
            ]
        );
    }

    #[test]
    fn interfaces_have_the_addresses_that_reach_beyond_their_link() {
        let root = host(&[
            ("sys/class/net/eth0/address", "52:54:00:12:34:56\n"),
            ("sys/class/net/wg0/address", "\n"),
            ("sys/class/net/lo/address", "00:00:00:00:00:00\n"),
            ("sys/class/net/veth12/address", "52:54:00:12:34:57\n"),
        ]);
        let address = |name: &str, ip: &str| (name.to_owned(), ip.parse().unwrap());
        let addresses = [
            address("eth0", "2001:db8::5"),
            address("eth0", "192.0.2.7"),
            address("eth0", "fe80::1"),
            address("eth0", "169.254.3.4"),
            address("wg0", "10.0.0.2"),
            address("lo", "127.0.0.1"),
        ];
        let interface = |name: &str, mac: Option<&str>, addresses: &[&str]| InterfaceInfo {
            name: name.to_owned(),
            mac: mac.map(str::to_owned),
            addresses: addresses.iter().map(|&ip| ip.to_owned()).collect(),
        };
        assert_eq!(
            interfaces(root.path(), &addresses),
            [
                interface(
                    "eth0",
                    Some("52:54:00:12:34:56"),
                    &["192.0.2.7", "2001:db8::5"]
                ),
                interface("wg0", None, &["10.0.0.2"]),
            ]
        );
    }
}
