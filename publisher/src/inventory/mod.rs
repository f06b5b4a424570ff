//! `info`: what this host is, and what is collected here.
//!
//! What changes from sample to sample is not its business. It is put together seldom, reads its
//! files in small pieces, and keeps nothing.

mod devices;
mod memory_modules;
mod platform;
mod processor;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use hostbus_daemon::clock;
use hostbus_wire::codec;
use hostbus_wire::info::Info;
use hostbus_wire::sample::all_fields;
use sysinfo::System;

use self::processor::CpuInfo;
use crate::collectors::memory;
use crate::survey::Present;

/// The largest inventory: it stands retained on the bus, once for each host.
const MAX_BYTES: usize = 16 * 1024;
/// The longest text in it.
const MAX_TEXT_BYTES: usize = 200;

/// The name this host gives itself.
#[must_use]
pub fn hostname() -> Option<String> {
    System::host_name().ok()
}

/// What this host is. `collectors` tells the state of each collector, `boot` is the publisher's run.
#[must_use]
pub fn info(collectors: BTreeMap<String, String>, interval: Duration, boot: u64) -> Info {
    of(Present {
        collectors,
        interval,
        boot,
    })
}

/// As [`info`]. It reads files, any of which may hang.
pub(crate) fn of(present: Present) -> Info {
    let root = Path::new("/");
    let processor = CpuInfo::read(root);
    let mut info = Info {
        machine: platform::machine(root),
        os: System::long_os_version().ok(),
        virtualization: platform::virtualization(root, processor.hypervisor).map(str::to_owned),
        container: platform::container(root, |name| std::env::var(name).ok()),
        cpu_cores: processor.cores(root),
        cpu_physical_cores: processor::physical_cores(root),
        cpu_model: processor.model,
        memory_bytes: memory::read().ok().and_then(|memory| memory.total_bytes),
        memory_modules: memory_modules::memory_modules(root),
        disks: devices::disks(root),
        networks: devices::interfaces(root, &devices::addresses()),
        boot_time: System::boot_time().ok().filter(|time| *time > 0),
        ..bare(present)
    };
    fit(&mut info);
    info
}

/// What can be told without reading a file: what is `known` from before, as far as it is, with what
/// holds at present.
pub(crate) fn unread(known: Option<Info>, present: Present) -> Info {
    let bare = bare(present);
    let mut info = match known {
        Some(known) => Info {
            ts: bare.ts,
            boot: bare.boot,
            interval_ms: bare.interval_ms,
            collectors: bare.collectors,
            ..known
        },
        None => bare,
    };
    fit(&mut info);
    info
}

/// What the kernel tells without a file.
fn bare(present: Present) -> Info {
    let units = all_fields()
        .into_iter()
        .map(|(section, field)| (format!("{section}.{}", field.name), field.unit.to_string()))
        .collect();
    Info {
        v: 1,
        ts: clock::unix_ms(),
        hostname: hostname(),
        kernel: System::kernel_version().ok(),
        arch: Some(System::cpu_arch()).filter(|arch| !arch.is_empty()),
        boot: Some(present.boot),
        publisher: Some(env!("CARGO_PKG_VERSION").to_owned()),
        interval_ms: u32::try_from(present.interval.as_millis()).ok(),
        collectors: present.collectors,
        units,
        ..Info::default()
    }
}

/// Cuts texts, and then what a host may have too much of, always from the longest list.
fn fit(info: &mut Info) {
    let texts = [
        &mut info.hostname,
        &mut info.machine,
        &mut info.os,
        &mut info.kernel,
        &mut info.container,
        &mut info.cpu_model,
    ];
    for text in texts.into_iter().flatten() {
        cut(text);
    }
    info.collectors.values_mut().for_each(cut);
    for module in &mut info.memory_modules {
        let texts = [&mut module.slot, &mut module.kind, &mut module.maker];
        texts.into_iter().flatten().for_each(cut);
    }
    for disk in &mut info.disks {
        disk.model.iter_mut().for_each(cut);
    }
    while codec::encode(info).is_ok_and(|bytes| bytes.len() > MAX_BYTES) {
        let most = info.networks.iter().map(|i| i.addresses.len()).max();
        let lists = [
            info.memory_modules.len(),
            info.disks.len(),
            info.networks.len(),
            most.unwrap_or(0),
        ];
        // Half of it at a time: thousands of interfaces are told in a few rounds.
        let longest = lists.into_iter().max().unwrap_or(0);
        let keep = longest / 2;
        if longest == 0 {
            break;
        }
        if longest == lists[0] {
            info.memory_modules.truncate(keep);
        } else if longest == lists[1] {
            info.disks.truncate(keep);
        } else if longest == lists[2] {
            info.networks.truncate(keep);
        } else {
            for interface in &mut info.networks {
                interface.addresses.truncate(keep);
            }
        }
    }
}

fn cut(text: &mut String) {
    let end = (0..=MAX_TEXT_BYTES)
        .rev()
        .find(|end| text.is_char_boundary(*end));
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(end.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use hostbus_wire::info::{DiskInfo, InterfaceInfo, MemoryModule};

    use super::*;

    #[test]
    fn this_host_is_described() {
        let states = BTreeMap::from([("cpu".to_owned(), "on".to_owned())]);
        let info = info(states, Duration::from_secs(10), 7);
        assert_eq!(info.boot, Some(7));
        assert!(
            info.hostname.is_some() && info.kernel.is_some() && info.os.is_some(),
            "{info:?}"
        );
        let (logical, physical) = (info.cpu_cores.unwrap(), info.cpu_physical_cores.unwrap());
        assert!((1..=logical).contains(&physical), "{info:?}");
        assert!(info.memory_bytes.unwrap() > 0, "{info:?}");
        assert_eq!(info.interval_ms, Some(10_000));
        assert_eq!(info.units["cpu.usage_percent"], "%");
        assert_eq!(info.collectors["cpu"], "on");
    }

    #[test]
    fn what_was_known_stays_when_nothing_can_be_read() {
        let present = |boot| Present {
            collectors: BTreeMap::from([("cpu".to_owned(), boot_state(boot))]),
            interval: Duration::from_secs(boot),
            boot,
        };
        let known = of(present(1));
        let later = unread(Some(known.clone()), present(2));
        assert_eq!((later.boot, later.interval_ms), (Some(2), Some(2000)));
        assert_eq!(later.collectors["cpu"], boot_state(2));
        assert_eq!(later.memory_bytes, known.memory_bytes);
        let nothing = unread(None, present(3));
        assert_eq!((nothing.boot, nothing.memory_bytes), (Some(3), None));
        assert!(nothing.hostname.is_some() && !nothing.units.is_empty());
    }

    fn boot_state(boot: u64) -> String {
        format!("on in run {boot}")
    }

    #[test]
    fn the_largest_host_fits() {
        let long = || Some("ü".repeat(3000));
        let mut info = info(BTreeMap::new(), Duration::from_secs(10), 1);
        info.machine = long();
        info.collectors = (0..20).map(|n| (n.to_string(), "x".repeat(4000))).collect();
        info.memory_modules = vec![
            MemoryModule {
                slot: long(),
                maker: long(),
                ..MemoryModule::default()
            };
            64
        ];
        info.disks = vec![DiskInfo::default(); 2000];
        let interface = InterfaceInfo {
            name: "eth0".to_owned(),
            mac: None,
            addresses: vec!["2001:db8:1234:5678:9abc:def0:1234:5678".to_owned(); 500],
        };
        info.networks = vec![interface; 300];
        fit(&mut info);
        let bytes = codec::encode(&info).unwrap().len();
        assert!((MAX_BYTES / 4..=MAX_BYTES).contains(&bytes), "{bytes}");
        assert!(!info.networks.is_empty() && !info.disks.is_empty());
        assert!(!info.memory_modules.is_empty() && !info.networks[0].addresses.is_empty());
        assert_eq!(info.machine.unwrap().len(), MAX_TEXT_BYTES);
    }
}
