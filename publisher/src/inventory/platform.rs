//! What the host runs on: the machine, the hypervisor below it, the container around us.
//!
//! The firmware's names are those that `systemd-detect-virt` looks for.

use std::fs;
use std::path::Path;

/// What firmware holds where its maker wrote nothing.
const PLACEHOLDERS: [&str; 9] = [
    "to be filled by o.e.m.",
    "system product name",
    "system manufacturer",
    "default string",
    "not specified",
    "not applicable",
    "unknown",
    "none",
    "o.e.m.",
];

/// Names that firmware gives to virtual machines, and what they are.
const HYPERVISORS: [(&str, &str); 17] = [
    ("KVM", "kvm"),
    ("OpenStack", "kvm"),
    ("KubeVirt", "kvm"),
    ("Amazon EC2", "aws"),
    ("Google Compute Engine", "google"),
    ("DigitalOcean", "kvm"),
    ("Hetzner", "kvm"),
    ("QEMU", "qemu"),
    ("VMware", "vmware"),
    ("VMW", "vmware"),
    ("innotek GmbH", "virtualbox"),
    ("VirtualBox", "virtualbox"),
    ("Xen", "xen"),
    ("Bochs", "bochs"),
    ("Parallels", "parallels"),
    ("BHYVE", "bhyve"),
    ("Apple Virtualization", "apple"),
];

/// Words in a control group's path that tell of a container.
const GROUPS: [(&str, &str); 6] = [
    ("/kubepods", "kubernetes"),
    ("/libpod", "podman"),
    ("/docker", "docker"),
    ("/lxc", "lxc"),
    ("/machine.slice/machine-", "systemd-nspawn"),
    ("/garden", "garden"),
];

/// Maker and model of the machine, which virtual machines and small boards often don't tell.
pub(super) fn machine(root: &Path) -> Option<String> {
    let pair = |maker: &str, model: &str| {
        let model = dmi(root, model)?;
        let maker = dmi(root, maker).filter(|maker| !model.starts_with(maker.as_str()));
        Some(maker.map_or_else(|| model.clone(), |maker| format!("{maker} {model}")))
    };
    pair("sys_vendor", "product_name")
        .or_else(|| pair("board_vendor", "board_name"))
        .or_else(|| device_tree(root, "model"))
        .or_else(|| dmi(root, "sys_vendor"))
}

/// What runs this machine, if it is a virtual one.
pub(super) fn virtualization(root: &Path, hypervisor: bool) -> Option<&'static str> {
    // The host of Xen's machines is one of them, but the first.
    let xen = read(root, "proc/xen/capabilities");
    if xen.is_some_and(|capabilities| capabilities.contains("control_d")) {
        return None;
    }
    let product = dmi(root, "product_name").unwrap_or_default();
    let firmware = ["product_name", "sys_vendor", "board_vendor", "bios_vendor"];
    for name in firmware.iter().filter_map(|file| dmi(root, file)) {
        let found = HYPERVISORS
            .iter()
            .find(|(begin, _)| name.starts_with(begin));
        if let Some((_, hypervisor)) = found {
            // Whole machines are rented out under the same names.
            let whole = product.contains("metal");
            return (!whole).then_some(hypervisor);
        }
        if name == "Microsoft Corporation" && product == "Virtual Machine" {
            return Some("hyperv");
        }
    }
    if read(root, "sys/hypervisor/type").is_some_and(|kind| kind == "xen") {
        return Some("xen");
    }
    // Arm tells in its device tree.
    match device_tree(root, "hypervisor/compatible") {
        Some(text) if text.contains("linux,kvm") => return Some("kvm"),
        Some(text) if text.contains("xen") => return Some("xen"),
        Some(text) if text.contains("vmware") => return Some("vmware"),
        Some(_) => return Some("other"),
        None => {}
    }
    // Small virtual machines have no firmware, but the hypervisor's clock.
    let clocks = "sys/devices/system/clocksource/clocksource0/available_clocksource";
    let clocks = read(root, clocks).unwrap_or_default();
    let clock = [("kvm-clock", "kvm"), ("hyperv", "hyperv"), ("xen", "xen")];
    let found = clock.iter().find(|(word, _)| clocks.contains(word));
    match found {
        Some((_, hypervisor)) => Some(hypervisor),
        None => hypervisor.then_some("other"),
    }
}

/// What this process is shut in. `variable` looks into its environment.
pub(super) fn container(root: &Path, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let exists = |path: &str| root.join(path).exists();
    // Kubernetes has one of the others do it.
    if variable("KUBERNETES_SERVICE_HOST").is_some()
        || exists("var/run/secrets/kubernetes.io/serviceaccount")
    {
        return Some("kubernetes".to_owned());
    }
    let told = read(root, "run/systemd/container").or_else(|| variable("container"));
    let told = told.filter(|name| !name.is_empty() && name != "oci");
    if let Some(name) = told {
        return Some(name);
    }
    if exists("run/.containerenv") {
        return Some("podman".to_owned());
    }
    if exists(".dockerenv") {
        return Some("docker".to_owned());
    }
    let kernel = read(root, "proc/sys/kernel/osrelease").unwrap_or_default();
    if kernel.contains("microsoft") || kernel.contains("WSL") {
        return Some("wsl".to_owned());
    }
    let groups = read(root, "proc/self/cgroup").unwrap_or_default();
    let found = GROUPS.iter().find(|(word, _)| groups.contains(word));
    found.map(|(_, container)| (*container).to_owned())
}

fn dmi(root: &Path, file: &str) -> Option<String> {
    let text = read(root, &format!("sys/class/dmi/id/{file}"))?;
    (!is_placeholder(&text)).then_some(text)
}

/// A text of the device tree, whose ends are zeros.
fn device_tree(root: &Path, file: &str) -> Option<String> {
    let text = read(root, &format!("proc/device-tree/{file}"))?;
    let text = text.replace('\0', " ").trim().to_owned();
    (!text.is_empty()).then_some(text)
}

pub(super) fn is_placeholder(text: &str) -> bool {
    text.is_empty() || PLACEHOLDERS.contains(&text.to_lowercase().as_str())
}

/// The trimmed content of a small file.
pub(super) fn read(root: &Path, path: &str) -> Option<String> {
    let bytes = fs::read(root.join(path)).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
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

    const VENDOR: &str = "sys/class/dmi/id/sys_vendor";
    const PRODUCT: &str = "sys/class/dmi/id/product_name";

    #[test]
    fn a_machine_has_its_maker_and_its_model() {
        let check = |files: &[(&str, &str)], expected: Option<&str>| {
            let root = host(files);
            assert_eq!(machine(root.path()).as_deref(), expected, "{files:?}");
        };
        check(
            &[(VENDOR, "Dell Inc.\n"), (PRODUCT, "PowerEdge R740\n")],
            Some("Dell Inc. PowerEdge R740"),
        );
        check(
            &[(VENDOR, "HP\n"), (PRODUCT, "HP Z440 Workstation\n")],
            Some("HP Z440 Workstation"),
        );
        check(
            &[
                (VENDOR, "System manufacturer\n"),
                (PRODUCT, "System Product Name\n"),
                ("sys/class/dmi/id/board_vendor", "ASUSTeK COMPUTER INC.\n"),
                ("sys/class/dmi/id/board_name", "P8P67\n"),
            ],
            Some("ASUSTeK COMPUTER INC. P8P67"),
        );
        check(
            &[("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")],
            Some("Raspberry Pi 4 Model B Rev 1.4"),
        );
        check(&[(VENDOR, "QEMU\n"), (PRODUCT, "\n")], Some("QEMU"));
        check(&[], None);
    }

    #[test]
    fn a_hypervisor_is_known_by_what_it_leaves() {
        let check = |files: &[(&str, &str)], flag: bool, expected: Option<&str>| {
            let root = host(files);
            assert_eq!(virtualization(root.path(), flag), expected, "{files:?}");
        };
        check(
            &[(VENDOR, "Dell Inc.\n"), (PRODUCT, "PowerEdge R740\n")],
            false,
            None,
        );
        check(
            &[
                (VENDOR, "QEMU\n"),
                (PRODUCT, "Standard PC (Q35 + ICH9, 2009)\n"),
            ],
            true,
            Some("qemu"),
        );
        check(
            &[(VENDOR, "VMware, Inc.\n"), (PRODUCT, "VMware7,1\n")],
            true,
            Some("vmware"),
        );
        check(
            &[
                (VENDOR, "Microsoft Corporation\n"),
                (PRODUCT, "Virtual Machine\n"),
            ],
            true,
            Some("hyperv"),
        );
        check(
            &[
                (VENDOR, "Microsoft Corporation\n"),
                (PRODUCT, "Surface Pro 7\n"),
            ],
            false,
            None,
        );
        check(
            &[(VENDOR, "Amazon EC2\n"), (PRODUCT, "m5.large\n")],
            true,
            Some("aws"),
        );
        check(
            &[(VENDOR, "Amazon EC2\n"), (PRODUCT, "m5.metal\n")],
            false,
            None,
        );
        check(
            &[(VENDOR, "innotek GmbH\n"), (PRODUCT, "VirtualBox\n")],
            true,
            Some("virtualbox"),
        );
        check(&[("sys/hypervisor/type", "xen\n")], true, Some("xen"));
        check(
            &[
                ("sys/hypervisor/type", "xen\n"),
                ("proc/xen/capabilities", "control_d\n"),
            ],
            false,
            None,
        );
        let clocks = "sys/devices/system/clocksource/clocksource0/available_clocksource";
        check(&[(clocks, "kvm-clock tsc \n")], true, Some("kvm"));
        check(&[(clocks, "tsc hpet acpi_pm \n")], false, None);
        check(&[(clocks, "tsc \n")], true, Some("other"));
        check(
            &[("proc/device-tree/hypervisor/compatible", "linux,kvm\0")],
            false,
            Some("kvm"),
        );
    }

    #[test]
    fn a_container_is_known_by_what_it_leaves() {
        let check = |files: &[(&str, &str)], set: &str, expected: Option<&str>| {
            let root = host(files);
            let found = container(root.path(), |name| {
                let (key, value) = set.split_once('=')?;
                (key == name).then(|| value.to_owned())
            });
            assert_eq!(found.as_deref(), expected, "{files:?} {set}");
        };
        let group = "proc/self/cgroup";
        check(
            &[(group, "0::/system.slice/hostbus-publisher.service\n")],
            "",
            None,
        );
        check(&[(".dockerenv", "")], "", Some("docker"));
        check(
            &[(".dockerenv", "")],
            "KUBERNETES_SERVICE_HOST=10.0.0.1",
            Some("kubernetes"),
        );
        check(&[("run/.containerenv", "")], "", Some("podman"));
        check(
            &[("run/.containerenv", "")],
            "container=oci",
            Some("podman"),
        );
        check(
            &[("run/systemd/container", "systemd-nspawn\n")],
            "",
            Some("systemd-nspawn"),
        );
        check(&[], "container=lxc", Some("lxc"));
        check(
            &[(group, "4:memory:/docker/0123abcd\n")],
            "",
            Some("docker"),
        );
        check(
            &[(group, "4:memory:/kubepods/besteffort/pod1\n")],
            "",
            Some("kubernetes"),
        );
        let kernel = "proc/sys/kernel/osrelease";
        check(
            &[(kernel, "5.15.90.1-microsoft-standard-WSL2\n")],
            "",
            Some("wsl"),
        );
        check(&[(kernel, "6.1.0-18-amd64\n")], "", None);
    }
}
