//! The processor's model, and how many cores it has.
//!
//! x86 tells its model in `/proc/cpuinfo`. Arm tells numbers of its maker and its part, once for each
//! core, and a chip may have several kinds of cores.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;

/// The keys of `/proc/cpuinfo` that name a model: of x86, and of POWER.
const MODEL_KEYS: [&str; 2] = ["model name", "cpu"];

/// What `/proc/cpuinfo` tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CpuInfo {
    pub(super) model: Option<String>,
    /// It runs on a hypervisor.
    pub(super) hypervisor: bool,
    processors: u32,
}

impl CpuInfo {
    pub(super) fn read(root: &Path) -> Self {
        let file = File::open(root.join("proc/cpuinfo"));
        file.map(|file| Self::parse(BufReader::new(file)))
            .unwrap_or_default()
    }

    /// Line by line: a large machine's table has hundreds of kilobytes.
    fn parse(text: impl BufRead) -> Self {
        let mut info = Self::default();
        // The kinds of Arm cores, as numbers of maker and part.
        let (mut maker, mut parts) = (None, BTreeSet::new());
        for line in text.lines().map_while(Result::ok) {
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            let (key, value) = (key.trim(), value.trim());
            match key {
                "processor" => info.processors += 1,
                "flags" => info.hypervisor |= value.split(' ').any(|flag| flag == "hypervisor"),
                "CPU implementer" => maker = hexadecimal(value),
                "CPU part" => parts.extend(maker.zip(hexadecimal(value))),
                _ if MODEL_KEYS.contains(&key) && info.model.is_none() && !value.is_empty() => {
                    info.model = Some(value.split_whitespace().collect::<Vec<_>>().join(" "));
                }
                _ => {}
            }
        }
        // `ARMv7 Processor rev 3 (v7l)` says less than its part does.
        if !parts.is_empty() {
            let names: Vec<String> = parts.into_iter().map(arm_core).collect();
            info.model = Some(names.join(" + "));
        }
        info
    }

    /// How many logical cores are in use.
    pub(super) fn cores(&self, root: &Path) -> Option<u32> {
        let online = fs::read_to_string(root.join("sys/devices/system/cpu/online")).ok();
        let cores = online.and_then(|list| count(list.trim()));
        cores.or(Some(self.processors)).filter(|cores| *cores > 0)
    }
}

/// How many of them share no core with a lower one.
pub(super) fn physical_cores(root: &Path) -> Option<u32> {
    let mut siblings = BTreeSet::new();
    for entry in fs::read_dir(root.join("sys/devices/system/cpu"))
        .ok()?
        .flatten()
    {
        let topology = entry.path().join("topology");
        let list = fs::read_to_string(topology.join("core_cpus_list"))
            .or_else(|_| fs::read_to_string(topology.join("thread_siblings_list")));
        siblings.extend(list.ok());
    }
    u32::try_from(siblings.len())
        .ok()
        .filter(|cores| *cores > 0)
}

/// How many numbers a list such as `0-3,8` has.
fn count(list: &str) -> Option<u32> {
    let mut all = 0_u32;
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        all = all.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(all)
}

fn hexadecimal(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// The names of Arm's `MIDR` register.
fn arm_core((maker, part): (u32, u32)) -> String {
    let makers = BTreeMap::from([
        (0x41, "ARM"),
        (0x42, "Broadcom"),
        (0x43, "Cavium"),
        (0x46, "Fujitsu"),
        (0x48, "HiSilicon"),
        (0x4e, "NVIDIA"),
        (0x50, "Applied Micro"),
        (0x51, "Qualcomm"),
        (0x53, "Samsung"),
        (0x56, "Marvell"),
        (0x61, "Apple"),
        (0x6d, "Microsoft"),
        (0xc0, "Ampere"),
    ]);
    let parts = BTreeMap::from([
        ((0x41, 0xb76), "ARM1176"),
        ((0x41, 0xc07), "Cortex-A7"),
        ((0x41, 0xc08), "Cortex-A8"),
        ((0x41, 0xc09), "Cortex-A9"),
        ((0x41, 0xc0f), "Cortex-A15"),
        ((0x41, 0xd03), "Cortex-A53"),
        ((0x41, 0xd04), "Cortex-A35"),
        ((0x41, 0xd05), "Cortex-A55"),
        ((0x41, 0xd07), "Cortex-A57"),
        ((0x41, 0xd08), "Cortex-A72"),
        ((0x41, 0xd09), "Cortex-A73"),
        ((0x41, 0xd0a), "Cortex-A75"),
        ((0x41, 0xd0b), "Cortex-A76"),
        ((0x41, 0xd0c), "Neoverse-N1"),
        ((0x41, 0xd40), "Neoverse-V1"),
        ((0x41, 0xd41), "Cortex-A78"),
        ((0x41, 0xd46), "Cortex-A510"),
        ((0x41, 0xd47), "Cortex-A710"),
        ((0x41, 0xd49), "Neoverse-N2"),
        ((0x41, 0xd4f), "Neoverse-V2"),
        ((0x41, 0xd80), "Cortex-A520"),
        ((0x41, 0xd81), "Cortex-A720"),
        ((0xc0, 0xac3), "Ampere-1"),
        ((0xc0, 0xac4), "Ampere-1a"),
    ]);
    let maker_name = makers.get(&maker).map(|name| (*name).to_owned());
    let maker_name = maker_name.unwrap_or_else(|| format!("maker {maker:#x}"));
    match parts.get(&(maker, part)) {
        Some(part) => format!("{maker_name} {part}"),
        None => format!("{maker_name} part {part:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_machine_tells_its_model() {
        let check = |text: &str, model: Option<&str>, hypervisor: bool| {
            let info = CpuInfo::parse(text.as_bytes());
            assert_eq!(info.model.as_deref(), model, "{text}");
            assert_eq!(info.hypervisor, hypervisor, "{text}");
        };
        check(
            "processor\t: 0\nmodel name\t: Intel(R) Xeon(R)   CPU E5-2690 v4 @ 2.60GHz\n\
             flags\t\t: fpu vme hypervisor lahf_lm\n\nprocessor\t: 1\nmodel name\t: other\n",
            Some("Intel(R) Xeon(R) CPU E5-2690 v4 @ 2.60GHz"),
            true,
        );
        // Raspberry Pi 4, 64 bits, and 32 bits.
        check(
            "processor\t: 0\nBogoMIPS\t: 108.00\nCPU implementer\t: 0x41\nCPU architecture: 8\n\
             CPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\nprocessor\t: 1\n\
             CPU implementer\t: 0x41\nCPU part\t: 0xd08\n\nModel\t\t: Raspberry Pi 4 Model B\n",
            Some("ARM Cortex-A72"),
            false,
        );
        check(
            "processor\t: 0\nmodel name\t: ARMv7 Processor rev 3 (v7l)\n\
             CPU implementer\t: 0x41\nCPU part\t: 0xd08\n",
            Some("ARM Cortex-A72"),
            false,
        );
        // Rockchip RK3588: four small cores and four large ones.
        check(
            "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd05\n\
             processor\t: 4\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n",
            Some("ARM Cortex-A55 + ARM Cortex-A76"),
            false,
        );
        check(
            "processor\t: 0\nCPU implementer\t: 0x61\nCPU part\t: 0x022\n",
            Some("Apple part 0x22"),
            false,
        );
        check(
            "processor\t: 0\ncpu\t\t: POWER9, altivec supported\nclock\t\t: 3800MHz\n",
            Some("POWER9, altivec supported"),
            false,
        );
        check(
            "processor\t: 0\nhart\t\t: 0\nisa\t\t: rv64imafdc\n",
            None,
            false,
        );
        check("", None, false);
    }

    #[test]
    fn a_list_of_processors_is_counted() {
        let check = |list: &str, expected: Option<u32>| assert_eq!(count(list), expected, "{list}");
        check("0", Some(1));
        check("0-3", Some(4));
        check("0-3,8-11,15", Some(9));
        for wrong in ["", "3-1", "0-4294967295", "a-b", "1,,2"] {
            check(wrong, None);
        }
    }

    #[test]
    fn threads_of_one_core_count_once() {
        let root = tempfile::tempdir().unwrap();
        for (cpu, list) in [(0, "0,2"), (1, "1,3"), (2, "0,2"), (3, "1,3")] {
            let folder = format!("sys/devices/system/cpu/cpu{cpu}/topology");
            fs::create_dir_all(root.path().join(&folder)).unwrap();
            fs::write(root.path().join(folder).join("core_cpus_list"), list).unwrap();
        }
        assert_eq!(physical_cores(root.path()), Some(2));
        assert_eq!(physical_cores(&root.path().join("none")), None);
    }
}
