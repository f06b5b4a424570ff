//! The publisher as a person starts it, on a host whose NVIDIA library is one of ours.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

#[path = "nvml/mod.rs"]
mod stand_in;

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use hostbus_publisher::{CollectorState, Config};
use serde_json::Value;
use stand_in::{StandIn, board, boards};

fn once(library: &StandIn) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("publisher.toml");
    let path = library.library();
    let text = format!("[publisher.collectors.gpus]\nlibrary = {path:?}\n");
    fs::write(&settings, text).unwrap();
    Command::new(env!("CARGO_BIN_EXE_hostbus-publisher"))
        .args(["once", "--json", "--config"])
        .arg(settings)
        .output()
        .unwrap()
}

fn sample(library: &StandIn) -> Value {
    let output = once(library);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_sample_has_all_gpus_with_their_values() {
    let library = StandIn::new(&format!("log 1\n{}", boards(8)));
    let sample = sample(&library);
    let gpus = sample["gpus"].as_array().unwrap();
    assert_eq!(gpus.len(), 8);
    assert_eq!(gpus[7]["name"], "7");
    assert_eq!(gpus[7]["usage_percent"], 37.0);
    assert_eq!(gpus[7]["power_watts"], 312.46);
    assert_eq!(gpus[7]["ecc_corrected_errors"], 3);
    assert!(gpus[7].get("fan_percent").is_none());
    // It is opened once, and left in order.
    let calls = library.calls();
    let count = |call: &str| calls.iter().filter(|it| it.starts_with(call)).count();
    assert_eq!(count("nvmlInit_v2"), 1);
    assert_eq!(count("nvmlShutdown"), 1);
}

#[test]
fn a_library_that_is_no_use_leaves_the_rest_of_the_sample_alone() {
    let mismatch = StandIn::new("fail.nvmlInit_v2 18\n");
    for library in [mismatch, StandIn::without_symbols()] {
        let sample = sample(&library);
        assert!(sample.get("gpus").is_none(), "{sample}");
        assert!(sample["memory"]["total_bytes"].as_u64() > Some(0));
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_as_the_collectors_state() {
    let library = StandIn::new(&format!("devices 1\n{}", board(0, 0)));
    let mut config = Config::default();
    config.collectors.gpus.library = Some(library.library());
    let state = async || {
        let (_, reports) = hostbus_publisher::once(&config, Duration::ZERO)
            .await
            .unwrap();
        let gpus = reports.into_iter().find(|it| it.name == "gpus");
        gpus.unwrap().state
    };
    assert_eq!(state().await, CollectorState::On);
    library.steer("fail.nvmlInit_v2 9\n");
    let told = state().await.to_string();
    assert!(told.contains("kernel module is not loaded"), "{told}");
    fs::remove_file(library.library()).unwrap();
    let told = state().await.to_string();
    assert!(
        told.starts_with("nothing here: no NVIDIA library"),
        "{told}"
    );
}
