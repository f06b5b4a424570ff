//! `hostbus rules` on a running site, and without one.

use std::fs;

use anyhow::ensure;
use hostbus_tests::folder::Folder;
use hostbus_tests::poll;
use hostbus_tests::service::{Finished, Service};
use hostbus_tests::site::Site;
use hostbus_tests::tool;
use serde_json::Value;

#[track_caller]
fn done(service: Service) -> String {
    let Finished {
        code,
        stdout,
        stderr,
    } = service.finish();
    assert_eq!(code, Some(0), "{stderr}{stdout}");
    stdout
}

#[track_caller]
fn failed(service: Service) -> String {
    let finished = service.finish();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    finished.stderr + &finished.stdout
}

#[track_caller]
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Always crossed: each host has some memory.
const MEMORY: &str = "\
[[rule]]
name = \"memory-there\"
metric = \"memory.total_bytes\"
warning = { above = 0 }
";

#[test]
fn a_rule_is_checked_tried_put_shown_and_removed() {
    let site = Site::start();
    fs::write(site.folder.join("mine.toml"), MEMORY).unwrap();
    let history = site.history();
    poll::until("rows of this host's memory", || {
        let rows = history.count("home.here", "memory")?;
        ensure!(rows >= 3, "{rows} rows");
        Ok(())
    });

    let tried = ["rules", "test", "mine.toml", "--node", "here", "--json"];
    let tried = json(&done(site.command(&tried)));
    assert!(tried["rows"].as_u64().unwrap() >= 3, "{tried}");
    let alerts = tried["alerts"].as_array().unwrap();
    assert_eq!(alerts.len(), 1, "{tried}");
    assert_eq!(alerts[0]["rule"], "memory-there");
    assert_eq!(alerts[0]["ended"], Value::Null);
    let stored = history.rows("home.here", "memory").unwrap();
    assert_eq!(alerts[0]["fired"].as_u64(), Some(stored[0].ms));
    let total: f64 = stored[0].fields["total_bytes"].parse().unwrap();
    assert_eq!(alerts[0]["worst"].as_f64(), Some(total));
    let text = done(site.command(&["rules", "test", "mine.toml", "--node", "here"]));
    assert!(
        text.contains("memory-there") && text.contains("still"),
        "{text}"
    );

    let put = done(site.command(&["rules", "put", "mine.toml"]));
    assert_eq!(put, "memory-there stands on the bus\n");
    let list = json(&done(site.command(&["rules", "list", "--json"])));
    let find = |list: &Value, name: &str| -> Value {
        let mut rules = list.as_array().unwrap().iter();
        rules
            .find(|one| one["rule"] == name)
            .cloned()
            .unwrap_or(Value::Null)
    };
    assert_eq!(find(&list, "memory-there")["origin"], "_rules/memory-there");
    assert_eq!(find(&list, "disk-full")["origin"], "default");
    let shown = done(site.command(&["rules", "show", "memory-there"]));
    assert_eq!(shown, MEMORY);

    let refused = failed(site.command(&["rules", "put", "mine.toml", "--user", "viewer"]));
    assert!(refused.contains("may not write rules"), "{refused}");

    let removed = done(site.command(&["rules", "remove", "memory-there"]));
    assert_eq!(removed, "memory-there is removed from the bus\n");
    let list = json(&done(site.command(&["rules", "list", "--json"])));
    assert_eq!(find(&list, "memory-there"), Value::Null);
    let again = failed(site.command(&["rules", "remove", "memory-there"]));
    assert!(again.contains("there are: none"), "{again}");
}

/// A command of the command line without a site.
fn alone(folder: &Folder, arguments: &[&str]) -> Service {
    Service::new(arguments[1], &tool::ours("hostbus"), folder.path()).args(arguments)
}

#[test]
fn mistakes_are_told_with_file_line_and_key() {
    let folder = Folder::new();
    let bad = MEMORY.replace("above = 0", "above = 0, clear = 5")
        + "\n[[rule]]\nname = \"b\"\nmetric = \"cpu.lod1\"\n";
    fs::write(folder.join("good.toml"), MEMORY).unwrap();
    fs::write(folder.join("bad.toml"), bad).unwrap();

    assert_eq!(
        done(alone(&folder, &["rules", "check", "good.toml"])),
        "good.toml: 1 rule, no mistake\n"
    );
    let finished = alone(&folder, &["rules", "check", "good.toml", "bad.toml"]).finish();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert_eq!(
        finished.stdout,
        "good.toml: 1 rule, no mistake\n\
         bad.toml: line 4: rule memory-there: warning.clear = 5: lies on the wrong side: expected at most 0, the threshold, so that the alert is over when the value is better\n\
         bad.toml: line 8: rule b: metric = \"cpu.lod1\": no metric has this name, did you mean `cpu.load1`?\n"
    );
    let found = alone(&folder, &["rules", "check", "bad.toml", "--json"]).finish();
    let found = json(&found.stdout);
    assert_eq!(found[0]["mistakes"][0]["line"], 4);
    assert_eq!(found[0]["mistakes"][0]["key"], "warning.clear");
    assert_eq!(found[0]["rules"], Value::Null);

    fs::write(
        folder.join("site.toml"),
        "[notifier]\nrules = [\"*d.toml\"]\n",
    )
    .unwrap();
    let of_settings = ["rules", "check", "--config", "site.toml"];
    let told = failed(alone(&folder, &of_settings));
    assert!(
        told.contains("good.toml: 1 rule") && told.contains("bad.toml: line 4"),
        "{told}"
    );
}

#[test]
fn without_a_site_the_list_has_what_ships_and_what_files_say() {
    let folder = Folder::new();
    let own = "[[rule]]\nname = \"disk-busy\"\nenabled = false\n";
    fs::write(folder.join("own.toml"), own).unwrap();
    fs::write(
        folder.join("site.toml"),
        "[notifier]\nrules = [\"own.toml\"]\n",
    )
    .unwrap();
    let list = ["rules", "list", "--data", "data", "--config", "site.toml"];
    let Finished {
        code,
        stdout,
        stderr,
    } = alone(&folder, &list).finish();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("the bus was not asked"), "{stderr}");
    let line = |start: &str| {
        let mut lines = stdout
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines
            .find(|line| line.join(" ").starts_with(start))
            .is_some()
    };
    assert!(line("disk-busy off own.toml"), "{stdout}");
    assert!(
        line("disk-busy hidden default disks.busy_percent"),
        "{stdout}"
    );
    assert!(line("node-down on default node.down critical"), "{stdout}");

    let show = ["rules", "show", "dsk-full", "--data", "data"];
    let told = failed(alone(&folder, &show));
    assert!(
        told.contains("no rule `dsk-full`; there are: ") && told.contains("disk-full"),
        "{told}"
    );
    let show = ["rules", "show", "disk-full", "--data", "data"];
    let shown = done(alone(&folder, &show));
    fs::write(folder.join("shown.toml"), shown).unwrap();
    done(alone(&folder, &["rules", "check", "shown.toml"]));
}
