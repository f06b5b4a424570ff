//! The stand-in for NVIDIA's management library, built by the C compiler that links Rust's programs
//! and steered by a text file. `stand_in.c` tells what can stand in the file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A library in a folder of its own.
pub(crate) struct StandIn {
    folder: TempDir,
}

impl StandIn {
    /// One that says what `steering` says.
    pub(crate) fn new(steering: &str) -> Self {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/nvml/stand_in.c");
        let stand_in = Self::from_source(Path::new(source));
        stand_in.steer(steering);
        stand_in
    }

    /// A library that has none of NVML's functions.
    pub(crate) fn without_symbols() -> Self {
        let folder = TempDir::new().unwrap();
        let source = folder.path().join("empty.c");
        fs::write(&source, "int nothing;\n").unwrap();
        Self::from_source(&source)
    }

    fn from_source(source: &Path) -> Self {
        let stand_in = Self {
            folder: TempDir::new().unwrap(),
        };
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-Wall", "-Werror", "-O1", "-o"])
            .arg(stand_in.library())
            .arg(source)
            .args(["-ldl"])
            .status()
            .expect("a C compiler is needed for this test: apt-get install gcc");
        assert!(compiled.success(), "{} does not compile", source.display());
        stand_in
    }

    /// Where the library is.
    pub(crate) fn library(&self) -> PathBuf {
        self.folder.path().join("libnvidia-ml.so.1")
    }

    /// Goes over to other answers at once.
    pub(crate) fn steer(&self, steering: &str) {
        let fresh = self.folder.path().join("fresh");
        fs::write(&fresh, steering).unwrap();
        fs::rename(fresh, self.folder.path().join("libnvidia-ml.so.1.txt")).unwrap();
    }

    /// The calls since the line `log 1` stands in the steering, with the number of the GPU, `-1`
    /// for none, and forgets them.
    pub(crate) fn calls(&self) -> Vec<String> {
        let path = self.folder.path().join("libnvidia-ml.so.1.calls");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        text.lines().map(str::to_owned).collect()
    }
}

/// The steering of a data centre's board as number `index`, whose identity is `identity`.
pub(crate) fn board(index: usize, identity: u32) -> String {
    format!(
        "{index}.name NVIDIA H100 80GB HBM3
{index}.uuid GPU-5f8c2a30-0000-0000-0000-{identity:012}
{index}.bus 00000000:{:02X}:00.0
{index}.usage {}
{index}.memory_busy 12
{index}.memory_total 85520809984
{index}.memory_used 42760404992
{index}.temperature 41
{index}.power 312456
{index}.power_limit 700000
{index}.clock 1980
{index}.memory_clock 2619
{index}.ecc_corrected 3
{index}.ecc_uncorrected 0
",
        identity + 16,
        identity + 30
    )
}

/// The steering of a host with `count` such boards.
pub(crate) fn boards(count: usize) -> String {
    let mut steering = format!("driver 550.54.15\ndevices {count}\n");
    for index in 0..count {
        steering += &board(index, index as u32);
    }
    steering
}
