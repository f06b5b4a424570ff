//! The house rules that a compiler does not keep: who may use whom, what may come from outside,
//! and how long a file may get. `deny.toml` says the same to `cargo deny`.

mod licence;
mod packages;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use hostbus_tests::tool;
use packages::{Package, Packages};

/// Which crates of ours each crate of ours may use. `tests` and `bench` may use all.
const ARROWS: [(&str, &[&str]); 10] = [
    ("hostbus-wire", &[]),
    ("hostbus-daemon", &[]),
    ("hostbus-tablefile", &[]),
    ("hostbus-client", &["hostbus-wire", "hostbus-daemon"]),
    ("hostbus-store", &["hostbus-wire", "hostbus-daemon"]),
    (
        "hostbus-broker",
        &["hostbus-wire", "hostbus-daemon", "hostbus-tablefile"],
    ),
    (
        "hostbus-publisher",
        &[
            "hostbus-wire",
            "hostbus-daemon",
            "hostbus-client",
            "hostbus-tablefile",
        ],
    ),
    (
        "hostbus-ingester",
        &[
            "hostbus-wire",
            "hostbus-daemon",
            "hostbus-client",
            "hostbus-store",
        ],
    ),
    (
        "hostbus-notifier",
        &[
            "hostbus-wire",
            "hostbus-daemon",
            "hostbus-client",
            "hostbus-tablefile",
        ],
    ),
    (
        "hostbus",
        &[
            "hostbus-wire",
            "hostbus-daemon",
            "hostbus-client",
            "hostbus-store",
            "hostbus-broker",
            "hostbus-publisher",
            "hostbus-ingester",
            "hostbus-notifier",
        ],
    ),
];
const USES_ALL: [&str; 2] = ["hostbus-tests", "hostbus-bench"];

/// The licences that a third-party package may be used under.
const LICENCES: [&str; 10] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Packages under another licence, each looked at by itself.
const LICENCE_EXCEPTIONS: [(&str, &str); 2] = [
    ("tiny-keccak", "CC0-1.0"),
    ("webpki-root-certs", "CDLA-Permissive-2.0"),
];

/// The features that bring in a package which the default build goes without: who has the feature,
/// and the package.
const OPTIONAL: [(&str, &str); 1] = [("hostbus-broker", "rumqttd")];

/// The packages that are there in more than one version, and who keeps the older ones. Each of
/// them costs build time, so a new one is looked at before it is written here and in `deny.toml`.
const DUPLICATES: [(&str, &str); 15] = [
    ("base64", "0.22: cddl-cat; 0.23: rcgen; both in tests only"),
    ("darling", "0.20: nvml-wrapper; 0.24: ratatui"),
    ("darling_core", "as darling"),
    ("darling_macro", "as darling"),
    (
        "getrandom",
        "0.2: ring; 0.3: ours and proptest; 0.4: tempfile",
    ),
    ("heck", "0.3: cddl-cat; 0.5: clap"),
    ("nom", "7: cddl-cat, in tests only; 8: lettre"),
    ("r-efi", "as getrandom; never compiled on Linux"),
    ("rand_core", "0.6: pco; 0.10: password-hash and getrandom"),
    ("strum_macros", "0.23: cddl-cat; 0.28: ratatui"),
    ("syn", "1: cddl-cat; 2 and 3: the derive macros"),
    (
        "synstructure",
        "0.13: rcgen, for a feature that is off; 0.14: the derive macros",
    ),
    ("thiserror", "1: nvml-wrapper; 2: ours"),
    ("thiserror-impl", "as thiserror"),
    ("windows-sys", "0.52: ring; never compiled on Linux"),
];

/// Those that are there in one more version with the packages of `OPTIONAL`.
const OPTIONAL_DUPLICATES: [(&str, &str); 13] = [
    ("base64", "0.21: ron of config 0.14 of rumqttd"),
    ("config", "0.14: rumqttd"),
    ("convert_case", "0.6: config 0.14 of rumqttd"),
    ("hashbrown", "0.14: config and metrics of rumqttd"),
    ("http", "0.2: metrics-exporter-prometheus of rumqttd"),
    ("http-body", "as http"),
    ("hyper", "as http"),
    ("rand", "0.8: rumqttd"),
    ("serde_spanned", "as toml"),
    ("socket2", "as http"),
    ("toml", "0.8: config 0.14 of rumqttd"),
    ("toml_datetime", "as toml"),
    ("winnow", "as toml"),
];

/// The most lines of a Rust file, its unit tests not counted.
const MOST_LINES: usize = 500;

#[test]
fn components_use_only_what_stands_below_them() {
    let packages = Packages::by_default();
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let mut wrong = Vec::new();
    for package in packages.ours() {
        if USES_ALL.contains(&package.name.as_str()) {
            continue;
        }
        let Some(allowed) = allowed.get(package.name.as_str()) else {
            wrong.push(format!(
                "{} has no place in the house: add it to ARROWS",
                package.name
            ));
            continue;
        };
        for used in &package.uses {
            if packages.is_ours(used) && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{} must not use {used}", package.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_package_comes_from_crates_io_under_a_licence_we_take() {
    const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";
    let packages = Packages::with_every_feature();
    let taken = |licence: &str| LICENCES.contains(&licence);
    let wrong: Vec<String> = packages
        .others()
        .filter_map(
            |Package {
                 name,
                 version,
                 licence,
                 source,
                 ..
             }| {
                let source = source.as_deref()?;
                if source != CRATES_IO {
                    return Some(format!("{name} {version} comes from {source}"));
                }
                if LICENCE_EXCEPTIONS.contains(&(name, licence)) {
                    return None;
                }
                match licence::allows(licence, taken) {
                    Ok(true) => None,
                    Ok(false) => Some(format!("{name} {version} is under `{licence}`")),
                    Err(error) => Some(format!("{name} {version}: `{licence}`: {error}")),
                }
            },
        )
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(
        packages.others().count() > 50,
        "the list of packages can't be right"
    );
}

#[test]
fn a_package_is_there_twice_only_where_it_is_written_down() {
    let names = |list: &[(&'static str, &str)]| -> BTreeSet<&str> {
        list.iter().map(|(name, _)| *name).collect()
    };
    let known = names(&DUPLICATES);
    let packages = Packages::by_default();
    let found = packages.duplicates();
    assert_eq!(
        found.keys().copied().collect::<BTreeSet<_>>(),
        known,
        "{found:#?}"
    );

    let with_optional = Packages::with_every_feature();
    let mut more = with_optional.duplicates();
    more.retain(|name, versions| found.get(name) != Some(versions));
    let known_more = names(&OPTIONAL_DUPLICATES);
    assert_eq!(
        more.keys().copied().collect::<BTreeSet<_>>(),
        known_more,
        "{more:#?}"
    );

    let deny = fs::read_to_string(tool::workspace().join("deny.toml")).unwrap();
    let deny: toml::Table = deny.parse().unwrap();
    let skipped = deny["bans"]["skip"].as_array().unwrap().iter();
    let skipped: BTreeSet<&str> = skipped
        .filter_map(|entry| entry["crate"].as_str()?.split(':').next())
        .collect();
    assert_eq!(skipped, &known | &known_more, "deny.toml says otherwise");
    let exceptions = deny["licenses"]["exceptions"].as_array().unwrap().iter();
    let exceptions: Vec<(&str, &str)> = exceptions
        .filter_map(|entry| Some((entry["crate"].as_str()?, entry["allow"][0].as_str()?)))
        .collect();
    assert_eq!(exceptions, LICENCE_EXCEPTIONS, "deny.toml says otherwise");
    let licences = deny["licenses"]["allow"].as_array().unwrap().iter();
    let licences: Vec<&str> = licences.filter_map(toml::Value::as_str).collect();
    assert_eq!(licences, LICENCES, "deny.toml says otherwise");
}

#[test]
fn what_is_optional_is_not_in_the_default_build() {
    let default = Packages::by_default();
    let every = Packages::with_every_feature();
    for (owner, optional) in OPTIONAL {
        let there = |packages: &Packages| packages.others().any(|other| other.name == optional);
        assert!(there(&every), "{optional} is nowhere: take it off the list");
        assert!(!there(&default), "{optional} is in the default build");
        let owner = default.ours().find(|ours| ours.name == owner);
        let used = owner.is_some_and(|owner| owner.uses.iter().any(|used| used == optional));
        assert!(used, "someone else brings in {optional}");
    }
    let added = every.others().count() - default.others().count();
    assert!(added <= 110, "the optional packages have grown to {added}");
}

#[test]
fn rust_files_say_what_they_own_and_stay_short() {
    let mut files = Vec::new();
    for package in Packages::by_default().ours() {
        rust_files(&package.folder, &mut files);
    }
    assert!(
        files.len() > 50,
        "the list of files can't be right: {files:?}"
    );
    let mut wrong = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        if !text.starts_with("//!") {
            wrong.push(format!("{} does not begin with `//!`", file.display()));
        }
        if file.file_name().is_some_and(|name| name == "tests.rs") {
            continue;
        }
        let lines = text
            .lines()
            .take_while(|line| *line != "#[cfg(test)]")
            .count();
        if lines > MOST_LINES {
            wrong.push(format!(
                "{} has {lines} lines before its tests",
                file.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the workspace") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
