//! `info`: what this host is, and what is collected here.
//!
//! What changes from sample to sample is not its business.

use std::collections::BTreeMap;
use std::time::Duration;

use hostbus_daemon::clock;
use hostbus_wire::info::Info;
use hostbus_wire::sample::all_fields;
use sysinfo::{CpuRefreshKind, Product, RefreshKind, System};

use crate::collectors::memory;

/// The name this host gives itself.
#[must_use]
pub fn hostname() -> Option<String> {
    System::host_name().ok()
}

/// What this host is. `collectors` tells the state of each collector, `boot` the publisher's run.
pub(crate) fn info(collectors: BTreeMap<String, String>, interval: Duration, boot: u64) -> Info {
    let system =
        System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()));
    let processors = system.as_ref().map(System::cpus).unwrap_or_default();
    let cpu_model = processors.first().map(|cpu| cpu.brand().trim().to_owned());
    let units = all_fields()
        .into_iter()
        .map(|(section, field)| (format!("{section}.{}", field.name), field.unit.to_string()))
        .collect();
    Info {
        v: 1,
        ts: clock::unix_ms(),
        boot: Some(boot),
        hostname: hostname(),
        machine: machine(),
        os: System::long_os_version().ok(),
        kernel: System::kernel_version().ok(),
        arch: Some(System::cpu_arch()).filter(|arch| !arch.is_empty()),
        cpu_model: cpu_model.filter(|model| !model.is_empty()),
        cpu_cores: u32::try_from(processors.len())
            .ok()
            .filter(|cores| *cores > 0),
        memory_bytes: memory::read().ok().and_then(|memory| memory.total_bytes),
        boot_time: System::boot_time().ok().filter(|time| *time > 0),
        publisher: Some(env!("CARGO_PKG_VERSION").to_owned()),
        interval_ms: u32::try_from(interval.as_millis()).ok(),
        collectors,
        units,
    }
}

/// Maker and model, which virtual machines and small boards often don't tell.
fn machine() -> Option<String> {
    let parts = [Product::vendor_name().ok(), Product::name().ok()];
    let parts: Vec<String> = parts
        .into_iter()
        .flatten()
        .map(|part| part.trim().to_owned())
        .filter(|part| !part.is_empty())
        .collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

#[cfg(test)]
mod tests {
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
        assert!(
            info.cpu_cores.unwrap() > 0 && info.memory_bytes.unwrap() > 0,
            "{info:?}"
        );
        assert_eq!(info.interval_ms, Some(10_000));
        assert_eq!(info.units["cpu.usage_percent"], "%");
        assert_eq!(info.collectors["cpu"], "on");
    }
}
