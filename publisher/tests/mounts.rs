//! Filesystems on a real kernel, in a namespace of mounts of our own: one that never answers, and
//! ten thousand of them.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod namespace;
mod silence;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use hostbus_publisher::collectors::FilesystemsConfig;
use hostbus_publisher::{CollectorState, Config, once};
use rustix::mount::{MountFlags, mount, mount_remount};

/// Mounts that nobody else sees.
const OWN_MOUNTS: [&str; 3] = ["--mount", "--propagation", "private"];
/// The numbers of a real container host, and more.
const MANY: usize = 10_000;

/// Only the filesystems of the default, with what is mounted in `folder` besides.
fn config(folder: &Path) -> Config {
    let mut config = Config::default();
    config.collectors.filesystems = FilesystemsConfig {
        include: vec![format!("{}/*", folder.display())],
        exclude_kinds: Vec::new(),
        ..FilesystemsConfig::default()
    };
    config
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

fn mount_memory(at: &Path) {
    fs::create_dir_all(at).unwrap();
    mount("test", at, "tmpfs", MountFlags::empty(), Some(c"size=64k")).unwrap();
}

#[test]
fn a_filesystem_that_never_answers_is_told_about_and_costs_the_others_nothing() {
    let name = "a_filesystem_that_never_answers_is_told_about_and_costs_the_others_nothing";
    if !namespace::inside(name, &OWN_MOUNTS) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    mount_memory(&folder.path().join("well"));
    let silent = folder.path().join("silent");
    let server = silence::mount_silence(&silent);

    let runtime = runtime();
    // Long enough apart for it to be worth telling.
    let apart = Duration::from_secs(6);
    let began = Instant::now();
    let (sample, collectors) = runtime
        .block_on(once(&config(folder.path()), apart))
        .unwrap();
    let took = began.elapsed();
    assert!(took < apart + Duration::from_secs(5), "{took:?}");
    let names: Vec<&str> = sample.filesystems.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, [folder.path().join("well").to_str().unwrap()]);
    // The rest of the sample is there.
    assert!(sample.cpu.is_some() && sample.memory.is_some());
    let report = collectors.iter().find(|c| c.name == "filesystems").unwrap();
    let CollectorState::Partly(why) = &report.state else {
        panic!("{report:?}");
    };
    let expected = format!("the filesystem at {} does not answer", silent.display());
    assert_eq!(*why, expected);
    // Now the kernel tells who waits that the server is gone.
    drop(server);
}

#[test]
fn of_ten_thousand_mounts_a_sample_takes_what_it_has_room_for() {
    let name = "of_ten_thousand_mounts_a_sample_takes_what_it_has_room_for";
    if !namespace::inside(name, &OWN_MOUNTS) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let all = folder.path().join("all");
    mount_memory(&all.join("first"));
    for number in 1..MANY {
        mount_memory(&all.join(number.to_string()));
    }
    let runtime = runtime();
    // The second of two readings, with one more mount between them or none.
    let second = |config: &Config, more: Option<&Path>| {
        let reading = once(config, Duration::from_millis(500));
        let meanwhile = async {
            tokio::time::sleep(Duration::from_millis(250)).await;
            more.into_iter().for_each(mount_memory);
        };
        let (read, ()) = runtime.block_on(async { tokio::join!(reading, meanwhile) });
        let (sample, collectors) = read.unwrap();
        let report = collectors.into_iter().find(|c| c.name == "filesystems");
        let cost = report.unwrap().cost.unwrap();
        let points = sample.filesystems.into_iter().map(|f| f.name.to_string());
        let points: Vec<String> = points.collect();
        println!("{} of {MANY}: {cost:?}", points.len());
        points
    };
    // By default none of them holds data.
    let points = second(&Config::default(), None);
    assert!(points.iter().all(|p| !p.starts_with(all.to_str().unwrap())));
    // As many as a sample has room for.
    let points = second(&config(folder.path()), None);
    assert_eq!(points.len(), 256);
    // A change is seen.
    let late = folder.path().join("late");
    let points = second(&config(folder.path()), Some(&late));
    assert!(points.iter().any(|p| Path::new(p) == late), "{points:?}");
}

#[test]
fn read_only_is_said_of_a_filesystem_and_not_of_a_mount_of_it() {
    let name = "read_only_is_said_of_a_filesystem_and_not_of_a_mount_of_it";
    if !namespace::inside(name, &OWN_MOUNTS) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let points = ["a-writable", "b-mount", "c-filesystem"].map(|name| folder.path().join(name));
    points.iter().for_each(|point| mount_memory(point));
    // What a service manager does to shut a service in.
    let shut_in = MountFlags::BIND | MountFlags::RDONLY;
    mount_remount(&points[1], shut_in, c"").unwrap();
    mount_remount(&points[2], MountFlags::RDONLY, c"").unwrap();
    let runtime = runtime();
    let config = config(folder.path());
    let reading = once(&config, Duration::from_millis(20));
    let (sample, _) = runtime.block_on(reading).unwrap();
    let found: Vec<_> = sample.filesystems.iter().map(|f| f.read_only).collect();
    assert_eq!(found, [Some(0), Some(0), Some(1)]);
}
