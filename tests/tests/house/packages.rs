//! The packages that a build of the workspace needs, as `cargo metadata` tells them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use hostbus_tests::tool;
use serde_json::Value;

/// One package.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) licence: String,
    /// Where it comes from; `None` for ours.
    pub(crate) source: Option<String>,
    /// What it names in its manifest, for tests and build scripts too.
    pub(crate) uses: Vec<String>,
    pub(crate) folder: PathBuf,
}

/// The packages of one build, on whatever platform.
#[derive(Debug)]
pub(crate) struct Packages(Vec<Package>);

impl Packages {
    /// Those of the build that everyone gets: with default features.
    pub(crate) fn by_default() -> Self {
        Self::read(&[])
    }

    /// Those that any feature of ours can bring in.
    pub(crate) fn with_every_feature() -> Self {
        Self::read(&["--all-features"])
    }

    fn read(features: &[&str]) -> Self {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["metadata", "--locked", "--offline", "--format-version", "1"])
            .args(features)
            .current_dir(tool::workspace())
            .output()
            .expect("failed to run cargo");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cargo metadata: {complaint}");
        let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let packages = metadata["packages"].as_array().expect("a list of packages");
        Self(packages.iter().map(Package::read).collect())
    }

    pub(crate) fn ours(&self) -> impl Iterator<Item = &Package> {
        self.0.iter().filter(|package| package.source.is_none())
    }

    pub(crate) fn others(&self) -> impl Iterator<Item = &Package> {
        self.0.iter().filter(|package| package.source.is_some())
    }

    /// Those that are there in more than one version, and which.
    pub(crate) fn duplicates(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for package in self.others() {
            versions
                .entry(&package.name)
                .or_default()
                .insert(&package.version);
        }
        versions.retain(|_, versions| versions.len() > 1);
        versions
    }

    pub(crate) fn is_ours(&self, name: &str) -> bool {
        self.ours().any(|package| package.name == name)
    }
}

impl Package {
    fn read(package: &Value) -> Self {
        let text = |field: &str| package[field].as_str().unwrap_or_default().to_owned();
        let manifest = text("manifest_path");
        let uses = package["dependencies"]
            .as_array()
            .expect("a list of dependencies");
        let uses = uses
            .iter()
            .filter_map(|used| used["name"].as_str())
            .map(str::to_owned);
        Self {
            name: text("name"),
            version: text("version"),
            licence: text("license"),
            source: package["source"].as_str().map(str::to_owned),
            uses: uses.collect(),
            folder: Path::new(&manifest)
                .parent()
                .expect("a manifest lies in a folder")
                .to_owned(),
        }
    }
}
