//! NVIDIA's GPUs by way of a library that stands in for NVIDIA's. Time is passed in.

#[path = "../../../tests/nvml/mod.rs"]
mod stand_in;

use std::fs;
use std::time::{Duration, Instant};

use hostbus_wire::Scalar;
use hostbus_wire::sample::Gpu;
use tempfile::TempDir;

use super::*;
use crate::collectors::CollectorsConfig;
use crate::collectors::tests::collect_once;
use crate::sampler::{CollectorState, Sampler};
use stand_in::{StandIn, board, boards};

/// A host with the stand-in's GPUs and a list of PCI devices of its own.
struct Host {
    library: StandIn,
    pci: TempDir,
    gpus: Gpus,
    start: Instant,
}

/// What one turn gave.
struct Turn {
    gpus: Vec<Gpu>,
    events: Vec<String>,
    tables: Vec<Vec<Vec<Scalar>>>,
    outcome: Result<Presence, String>,
}

impl Host {
    fn new(steering: &str) -> Self {
        Self::with(StandIn::new(steering), |_| {})
    }

    fn with(library: StandIn, change: impl FnOnce(&mut GpusConfig)) -> Self {
        let pci = TempDir::new().unwrap();
        let mut config = GpusConfig {
            library: Some(library.library()),
            ..GpusConfig::default()
        };
        change(&mut config);
        let no_cards = pci.path().join("none");
        Self {
            gpus: Gpus::below(pci.path(), &no_cards, &config),
            library,
            pci,
            start: Instant::now(),
        }
    }

    /// The turn so many seconds after the start.
    fn at(&mut self, seconds: u64) -> Turn {
        let now = self.start + Duration::from_secs(seconds);
        let (pass, outcome) = collect_once(&mut self.gpus, now);
        Turn {
            gpus: pass.sample.gpus,
            events: pass.events.into_iter().map(|it| it.message).collect(),
            tables: pass.details.into_iter().map(|(_, it)| it.rows).collect(),
            outcome: outcome.map_err(|error| error.to_string()),
        }
    }

    /// Puts a GPU in the list of PCI devices, with or without power.
    fn power(&self, slot: &str, status: &str) {
        let device = self.pci.path().join(slot);
        fs::create_dir_all(device.join("power")).unwrap();
        fs::write(device.join("vendor"), "0x10de\n").unwrap();
        fs::write(device.join("class"), "0x030200\n").unwrap();
        fs::write(device.join("power/runtime_status"), format!("{status}\n")).unwrap();
    }
}

impl Turn {
    fn names(&self) -> Vec<&str> {
        self.gpus.iter().map(|gpu| gpu.name.as_str()).collect()
    }

    fn nothing(&self) -> &str {
        match &self.outcome {
            Ok(Presence::Nothing(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    fn error(&self) -> &str {
        self.outcome.as_ref().unwrap_err()
    }
}

#[test]
fn a_data_centres_board_tells_all_but_a_fan() {
    let turn = Host::new(&boards(1)).at(0);
    assert_eq!(turn.outcome, Ok(Presence::Here));
    let model = "NVIDIA H100 80GB HBM3".parse().unwrap();
    let mut gpu = Gpu::new("0".parse().unwrap(), Some(model));
    gpu.usage_percent = Some(30.0);
    gpu.memory_busy_percent = Some(12.0);
    gpu.memory_total_bytes = Some(85_520_809_984);
    gpu.memory_used_bytes = Some(42_760_404_992);
    gpu.memory_used_percent = Some(50.0);
    gpu.temperature_celsius = Some(41.0);
    gpu.power_watts = Some(312.456);
    gpu.power_limit_watts = Some(700.0);
    gpu.clock_mhz = Some(1980.0);
    gpu.memory_clock_mhz = Some(2619.0);
    gpu.ecc_corrected_errors = Some(3);
    gpu.ecc_uncorrected_errors = Some(0);
    assert_eq!(turn.gpus, [gpu]);
}

#[test]
fn what_a_consumers_board_cannot_tell_is_absent() {
    let steering = "devices 1\n0.name NVIDIA GeForce GT 1030\n0.fan 120\n0.temperature 38\n";
    let mut host = Host::new(steering);
    let turn = host.at(0);
    let mut gpu = Gpu::new("0".parse().unwrap(), "NVIDIA GeForce GT 1030".parse().ok());
    gpu.fan_percent = Some(100.0);
    gpu.temperature_celsius = Some(38.0);
    assert_eq!(turn.gpus, [gpu]);
    assert!(turn.events.is_empty());
}

#[test]
fn eight_gpus_are_told_apart_and_one_that_is_excluded_is_not_asked() {
    let library = StandIn::new(&format!("log 1\n{}", boards(8)));
    let mut host = Host::with(library, |config| config.exclude = vec!["3".to_owned()]);
    host.at(0);
    host.library.calls();
    let turn = host.at(10);
    assert_eq!(turn.names(), ["0", "1", "2", "4", "5", "6", "7"]);
    let usage: Vec<f64> = turn
        .gpus
        .iter()
        .filter_map(|gpu| gpu.usage_percent)
        .collect();
    assert_eq!(usage, [30.0, 31.0, 32.0, 34.0, 35.0, 36.0, 37.0]);
    let calls = host.library.calls();
    assert!(calls.iter().any(|call| call.ends_with(" 4")), "{calls:?}");
    assert!(!calls.iter().any(|call| call.ends_with(" 3")), "{calls:?}");
}

#[test]
fn a_lost_gpu_is_told_once_and_the_others_go_on_under_their_names() {
    let mut host = Host::new(&boards(2));
    assert_eq!(host.at(0).names(), ["0", "1"]);
    host.library
        .steer(&format!("{}0.lost 1\n0.xid 1 79\nlog 1\n", boards(2)));
    let turn = host.at(10);
    assert_eq!(turn.names(), ["1"]);
    assert_eq!(turn.events, ["GPU 0 has fallen off the bus (Xid 79)"]);
    assert_eq!(turn.outcome, Ok(Presence::Here));
    // For a minute it is left alone.
    host.library.calls();
    let turn = host.at(69);
    assert_eq!((turn.names(), turn.events.len()), (vec!["1"], 0));
    let calls = host.library.calls();
    assert!(!calls.iter().any(|call| call.ends_with(" 0")), "{calls:?}");
    // Then it is asked again, and still lost, which is not told again.
    assert!(host.at(70).events.is_empty());
    let calls = host.library.calls();
    assert!(calls.iter().any(|call| call.ends_with(" 0")), "{calls:?}");
    // After five the library is opened anew, and the driver counts without the lost one.
    host.library.steer(&format!("devices 1\n{}", board(0, 1)));
    let turn = host.at(300);
    assert_eq!((turn.names(), turn.events.len()), (vec!["1"], 0));
    assert_eq!(turn.gpus[0].usage_percent, Some(31.0));
    host.library.steer(&boards(2));
    assert_eq!(host.at(310).names(), ["1"]);
    let turn = host.at(600);
    assert_eq!(turn.names(), ["0", "1"]);
    assert_eq!(turn.events, ["GPU 0 works again"]);
    assert_eq!(turn.gpus[0].usage_percent, Some(30.0));
    assert!(host.at(610).events.is_empty());
}

#[test]
fn a_gpu_that_was_reset_is_back_within_a_minute() {
    let mut host = Host::new(&boards(1));
    host.at(0);
    host.library
        .steer(&format!("{}0.fail.nvmlDeviceGetName 16\n", boards(1)));
    let turn = host.at(10);
    assert_eq!(turn.events, ["GPU 0 must be reset before it works again"]);
    assert!(turn.nothing().contains("lost"));
    host.library.steer(&boards(1));
    assert!(host.at(60).gpus.is_empty());
    let turn = host.at(70);
    assert_eq!(turn.names(), ["0"]);
    assert_eq!(turn.events, ["GPU 0 works again"]);
}

#[test]
fn a_gpu_that_is_lost_from_the_start_is_told_and_keeps_its_number() {
    let mut host = Host::new(&format!("{}0.lost 1\n", boards(2)));
    let turn = host.at(0);
    assert_eq!(turn.names(), ["1"]);
    assert_eq!(turn.events, ["GPU 0 has fallen off the bus"]);
    host.library.steer(&boards(2));
    assert_eq!(host.at(300).events, ["GPU 0 works again"]);
    assert_eq!(host.at(310).names(), ["0", "1"]);
}

#[test]
fn a_critical_error_is_told_once_an_hour() {
    let mut host = Host::new(&boards(2));
    host.at(0);
    let xid = |serial, xid| format!("{}1.xid {serial} {xid}\n", boards(2));
    let mut told = |seconds, serial, code| {
        host.library.steer(&xid(serial, code));
        host.at(seconds).events
    };
    let message = "the NVIDIA driver tells of a critical error of GPU 1: Xid 31";
    assert_eq!(told(10, 1, 31), [message]);
    assert!(told(20, 2, 31).is_empty());
    assert_eq!(told(30, 3, 48).len(), 1);
    assert_eq!(told(40, 4, 31), [message]);
    assert_eq!(told(3700, 5, 31), [message]);
}

#[test]
fn a_driver_that_fails_is_left_alone_for_five_minutes() {
    let check = |code: u32, words: &str| {
        let mut host = Host::new(&format!("log 1\nfail.nvmlInit_v2 {code}\n{}", boards(1)));
        let error = host.at(0).error().to_owned();
        assert!(error.contains(words), "{error}");
        host.library.calls();
        host.library.steer(&format!("log 1\n{}", boards(1)));
        assert_eq!(host.at(299).error(), error);
        assert!(host.library.calls().is_empty());
        assert_eq!(host.at(300).names(), ["0"]);
    };
    check(18, "reboot, or reload the module");
    check(9, "the kernel module is not loaded");
    check(4, "no permission");
    check(999, "internal driver error");
}

#[test]
fn a_driver_that_is_replaced_at_run_time_is_opened_anew() {
    let mut host = Host::new(&boards(2));
    host.at(0);
    host.library
        .steer(&format!("{}1.fail.nvmlDeviceGetName 18\n", boards(2)));
    assert!(host.at(10).error().contains("different versions"));
    host.library.steer(&boards(2));
    assert!(host.at(20).outcome.is_err());
    assert_eq!(host.at(310).names(), ["0", "1"]);
}

#[test]
fn a_gpu_that_a_new_driver_does_not_find_is_told() {
    let mut host = Host::new(&boards(2));
    host.at(0);
    host.library.steer("fail.nvmlDeviceGetName 9\n");
    assert!(host.at(10).outcome.is_err());
    host.library.steer(&format!("devices 1\n{}", board(0, 1)));
    let turn = host.at(310);
    assert_eq!(turn.names(), ["1"]);
    assert_eq!(turn.events, ["GPU 0 is no longer there"]);
    assert!(host.at(320).events.is_empty());
}

#[test]
fn a_gpu_that_may_not_be_used_is_no_lost_one() {
    let refused = format!("{}0.fail.nvmlDeviceGetHandleByIndex_v2 4\n", boards(2));
    let turn = Host::new(&refused).at(0);
    assert_eq!((turn.names(), turn.events.len()), (vec!["1"], 0));
    let all = format!("{}fail.nvmlDeviceGetHandleByIndex_v2 4\n", boards(2));
    assert!(Host::new(&all).at(0).error().contains("no permission"));
}

#[test]
fn no_device_is_nothing_and_so_is_no_library() {
    assert!(
        Host::new("devices 0\n")
            .at(0)
            .nothing()
            .starts_with("no NVIDIA GPU")
    );
    let not_found = "fail.nvmlDeviceGetCount_v2 6\n";
    assert!(
        Host::new(not_found)
            .at(0)
            .nothing()
            .starts_with("no NVIDIA GPU")
    );
    let library = StandIn::new("");
    fs::remove_file(library.library()).unwrap();
    let mut host = Host::with(library, |_| {});
    assert!(host.at(0).nothing().starts_with("no NVIDIA library"));
    let error = driver_version(Some(&host.library.library())).unwrap_err();
    assert!(error.to_string().contains("is not there"), "{error}");
}

#[test]
fn a_library_that_is_none_is_a_failure() {
    let mut host = Host::with(StandIn::without_symbols(), |_| {});
    let error = host.at(0).error().to_owned();
    assert!(error.contains("lacks a function"), "{error}");
    let library = StandIn::new("");
    fs::write(
        library.library(),
        "no library at all, but long enough for a header of ELF",
    )
    .unwrap();
    let mut host = Host::with(library, |_| {});
    let error = host.at(0).error().to_owned();
    assert!(error.contains("can't be loaded"), "{error}");
}

#[test]
fn a_value_that_cannot_be_is_absent_and_the_rest_stays() {
    let huge = u32::MAX;
    let steering = format!(
        "devices 1
log 1
0.name \\xFF\\xFE
0.bus ../../etc/passwd
0.usage {huge}
0.memory_busy {huge}
0.memory_total 1000
0.memory_used 2000
0.temperature {huge}
0.power {huge}
0.power_limit 250000
0.fan {huge}
0.clock {huge}
0.compute.count 5000
0.graphics.count {huge}
"
    );
    let mut host = Host::new(&steering);
    let turn = host.at(0);
    // No room is made for so many processes.
    let calls = host.library.calls();
    let lists = calls
        .iter()
        .filter(|call| call.contains("RunningProcesses"));
    assert_eq!(lists.count(), 2);
    let mut gpu = Gpu::new("0".parse().unwrap(), None);
    gpu.memory_total_bytes = Some(1000);
    gpu.power_limit_watts = Some(250.0);
    assert_eq!(turn.gpus, [gpu]);
    assert_eq!(turn.tables, [Vec::<Vec<Scalar>>::new()]);
    let mut host = Host::new(&format!("devices {huge}\n"));
    assert!(host.at(0).error().contains("answers what can't be"));
}

#[test]
fn a_sleeping_gpu_is_not_asked() {
    let mut host = Host::new(&format!("log 1\n{}", boards(2)));
    let slots = ["0000:10:00.0", "0000:11:00.0"];
    host.power(slots[0], "suspended");
    host.power(slots[1], "suspended");
    let turn = host.at(0);
    assert!(turn.nothing().contains("asleep"));
    assert!(host.at(10).nothing().contains("asleep"));
    assert!(host.library.calls().is_empty());
    // At once, and not after the five minutes of a library that fails.
    host.power(slots[1], "active");
    assert_eq!(host.at(20).names(), ["1"]);
    host.library.calls();
    let turn = host.at(80);
    assert_eq!((turn.names(), turn.events.len()), (vec!["1"], 0));
    let calls = host.library.calls();
    assert!(!calls.iter().any(|call| call.ends_with(" 0")), "{calls:?}");
    host.power(slots[0], "active");
    assert_eq!(host.at(90).names(), ["0", "1"]);
}

#[test]
fn a_gpu_that_may_sleep_and_has_nothing_to_do_is_left_alone() {
    let slot = "0000:10:00.0";
    let idle = format!("log 1\n0.usage 0\n0.compute.0 1 4096\n{}", boards(1));
    let mut host = Host::new(&idle);
    host.power(slot, "active");
    let slept = host
        .pci
        .path()
        .join(slot)
        .join("power/runtime_suspended_time");
    // As long as the kernel never puts it to sleep, it is asked each time.
    fs::write(&slept, "0\n").unwrap();
    for seconds in [0, 10, 20] {
        assert_eq!(host.at(seconds).names(), ["0"]);
    }
    fs::write(&slept, "81234\n").unwrap();
    assert_eq!(host.at(30).names(), ["0"]);
    let rest = host.at(40);
    assert_eq!((rest.names().len(), rest.outcome), (0, Ok(Presence::Here)));
    assert!(host.library.calls().contains(&"nvmlShutdown -1".to_owned()));
    // The table of processes stands.
    assert!(host.at(99).tables.is_empty() && host.library.calls().is_empty());
    // It did not sleep: once a minute it is asked, and again when it has work.
    assert_eq!(host.at(100).tables.len(), 1);
    assert!(host.at(110).gpus.is_empty());
    host.library.steer(&boards(1));
    for seconds in [170, 180, 190] {
        assert_eq!(host.at(seconds).names(), ["0"]);
    }
    // It sleeps at last.
    host.library.steer(&idle);
    assert_eq!(host.at(200).names(), ["0"]);
    assert!(host.at(210).gpus.is_empty());
    host.power(slot, "suspended");
    host.library.calls();
    assert!(host.at(220).nothing().contains("asleep"));
    assert!(host.at(900).nothing().contains("asleep"));
    assert!(host.library.calls().is_empty());
}

#[test]
fn memory_by_process_is_a_table_once_a_minute() {
    let own = std::process::id();
    let steering = format!(
        "{}0.compute.0 {own} 4096\n1.compute.0 4194305 8192\n1.graphics.0 4194305 {}\n",
        boards(2),
        u64::MAX
    );
    let mut host = Host::new(&steering);
    let turn = host.at(0);
    let text = |text: &str| Scalar::Text(text.to_owned());
    let name = fs::read_to_string("/proc/self/comm").unwrap();
    // No process has a number above 4194304.
    let nobody = Scalar::Integer(4_194_305);
    assert_eq!(
        turn.tables,
        [vec![
            vec![
                text("1"),
                nobody.clone(),
                Scalar::Null,
                Scalar::Integer(8192),
                text("compute")
            ],
            vec![
                text("0"),
                Scalar::Integer(own.into()),
                text(name.trim()),
                Scalar::Integer(4096),
                text("compute")
            ],
            vec![
                text("1"),
                nobody,
                Scalar::Null,
                Scalar::Null,
                text("graphics")
            ],
        ]]
    );
    assert!(host.at(59).tables.is_empty());
    assert_eq!(host.at(60).tables.len(), 1);
    // A table is not left standing when there is nobody to ask any more.
    host.library.steer("fail.nvmlDeviceGetName 9\n");
    host.at(70);
    assert_eq!(host.at(130).tables, [Vec::<Vec<Scalar>>::new()]);
    assert!(host.at(190).tables.is_empty());
    let mut host = Host::with(StandIn::new(&steering), |config| config.processes = false);
    assert!(host.at(0).tables.is_empty());
}

#[tokio::test]
async fn a_call_that_hangs_delays_nobody_and_the_gpus_come_back() {
    let deadline = Instant::now() + Duration::from_secs(20);
    let second = Duration::from_secs(1);
    let library = StandIn::new(&boards(1));
    let mut config = CollectorsConfig::default();
    config.gpus.library = Some(library.library());
    let mut sampler = Sampler::new(&config);
    assert_eq!(sampler.take_all(second).await.sample.gpus.len(), 1);
    library.steer(&format!("{}hang nvmlDeviceGetTemperature\n", boards(1)));
    let reading = sampler.take_all(second).await;
    assert!(reading.sample.gpus.is_empty() && reading.sample.memory.is_some());
    library.steer(&boards(1));
    loop {
        let reading = sampler.take_all(second).await;
        if !reading.sample.gpus.is_empty() {
            let state = reading.collectors.iter().find(|it| it.name == "gpus");
            assert_eq!(state.unwrap().state, CollectorState::On);
            return;
        }
        assert!(Instant::now() < deadline, "the GPUs do not come back");
        tokio::task::yield_now().await;
    }
}

#[test]
fn the_librarys_path_must_be_absolute() {
    let config = GpusConfig {
        library: Some("libnvidia-ml.so.1".into()),
        ..GpusConfig::default()
    };
    let error = config.check().unwrap_err().to_string();
    assert!(error.contains("gpus.library"), "{error}");
    assert!(GpusConfig::default().check().is_ok());
}
