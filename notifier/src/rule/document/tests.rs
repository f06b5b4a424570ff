//! What documents mean, and that nothing in one ends the process.

use hostbus_wire::alert::AlertSeverity;
use proptest::prelude::*;

use super::*;
use crate::rule::{Aggregate, Fold, Level, Operator, defaults};

/// The only rule of a document that begins as one must.
fn rule(rest: &str) -> Rule {
    let document = format!("[[rule]]\nname = \"x\"\n{rest}\n");
    let mut rules = read(document.as_bytes()).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    assert_eq!(rules.len(), 1);
    Arc::unwrap_or_clone(rules.remove(0).rule.unwrap())
}

fn level(severity: AlertSeverity, operator: Operator, threshold: f64, clear: f64) -> Level {
    Level {
        severity,
        operator,
        threshold,
        clear,
    }
}

const LOAD: &str = "metric = \"cpu.load1\"\nwarning = { above = 4 }";

#[test]
fn the_contracts_own_example_reads_as_it_is_meant() {
    let rule = rule(
        r#"
        metric   = "filesystems.used_percent"
        instances = { exclude = ["/boot/*", "/snap/*"] }
        nodes    = ["*"]
        warning  = { above = 80, clear = 75 }
        critical = { above = 90, clear = 85 }
        for      = "5m""#,
    );
    assert_eq!(&*rule.name, "x");
    assert_eq!(rule.watch.name(), "filesystems.used_percent");
    assert_eq!(
        (rule.fold, rule.for_ms, rule.keep_firing_ms),
        (Fold::Last, 300_000, 0)
    );
    assert_eq!(
        rule.levels,
        [
            level(AlertSeverity::Critical, Operator::Above, 90.0, 85.0),
            level(AlertSeverity::Warning, Operator::Above, 80.0, 75.0),
        ]
    );
    assert!(rule.instances.take("/boot/efi") && rule.except_instances.name("/boot/efi"));
    assert!(!rule.except_instances.name("/home"));
    assert!(rule.nodes.take("web1") && rule.except_nodes.is_empty());
}

#[test]
fn every_way_to_fold_reads_as_it_is_meant() {
    let check = |rest: &str, expected: Fold| assert_eq!(rule(rest).fold, expected, "{rest}");
    let (aggregate, minute_ms) = (|how, window_ms| Fold::Aggregate { how, window_ms }, 60_000);
    check(LOAD, Fold::Last);
    for (name, how) in [
        ("avg", Aggregate::Average),
        ("min", Aggregate::Minimum),
        ("max", Aggregate::Maximum),
        ("sum", Aggregate::Sum),
        ("count", Aggregate::Count),
    ] {
        let rest = format!("{LOAD}\naggregate = \"{name}\"\nwindow = \"5m\"");
        check(&rest, aggregate(how, 5 * minute_ms));
        assert_eq!(how.as_str(), name);
    }
    check(
        "metric = \"memory.oom_kills\"\nwarning = { above = 0 }\nrate = true\nwindow = \"10m\"",
        Fold::Rate {
            window_ms: 10 * minute_ms,
        },
    );
    check(
        "metric = \"networks.up\"\nchanged = true",
        Fold::Changed {
            window_ms: 5 * minute_ms,
        },
    );
    check(
        "metric = \"gpus.usage_percent\"\nabsent = \"60s\"\nseverity = \"critical\"",
        Fold::Absent {
            silent_ms: minute_ms,
        },
    );
    check(
        "metric = \"filesystems.used_percent\"\nforecast = \"24h\"\nfor = \"30m\"\nwarning = { above = 99 }",
        Fold::Forecast {
            ahead_ms: 24 * 60 * minute_ms,
            window_ms: 6 * 60 * minute_ms,
        },
    );
}

#[test]
fn what_is_so_or_not_has_a_severity_alone() {
    let check = |rest: &str, severity| {
        let expected = level(severity, Operator::AtLeast, 1.0, 1.0);
        assert_eq!(rule(rest).levels, [expected], "{rest}");
    };
    check(
        "metric = \"node.down\"\nseverity = \"critical\"",
        AlertSeverity::Critical,
    );
    check("metric = \"node.down\"", AlertSeverity::Warning);
    check(
        "metric = \"cpu.load1\"\nabsent = \"60s\"\nseverity = \"info\"",
        AlertSeverity::Info,
    );
}

#[test]
fn thresholds_in_bytes_may_have_their_unit() {
    let rule = rule(
        "metric = \"filesystems.available_bytes\"\nwarning = { below = \"2GiB\", clear = 3e9 }",
    );
    let warning = level(
        AlertSeverity::Warning,
        Operator::Below,
        2_147_483_648.0,
        3e9,
    );
    assert_eq!(rule.levels, [warning]);
}

#[test]
fn overrides_keep_what_they_do_not_say() {
    let rule = rule(
        r#"
        metric = "filesystems.used_percent"
        warning = { above = 80, clear = 75 }
        critical = { above = 90 }
        for = "5m"
        [[rule.override]]
        nodes = "backup*"
        warning = false
        critical = { above = 97 }
        [[rule.override]]
        groups = ["db"]
        instances = "/var/*"
        for = "1h"
        [[rule.override]]
        nodes = ["test1", "test2"]
        enabled = false"#,
    );
    let [backup, db, test] = &rule.overrides[..] else {
        panic!("{:?}", rule.overrides)
    };
    let critical = level(AlertSeverity::Critical, Operator::Above, 97.0, 97.0);
    assert_eq!(
        (backup.levels.as_slice(), backup.for_ms),
        (&[critical][..], None)
    );
    assert!(backup.nodes.name("backup2") && backup.groups.is_empty());
    assert_eq!(
        (db.levels.as_slice(), db.for_ms),
        (&rule.levels[..], Some(3_600_000))
    );
    assert!(db.groups.name("db") && db.instances.name("/var/lib"));
    assert!(test.levels.is_empty() && test.nodes.name("test2"));
}

#[test]
fn the_rest_of_a_rule_reads_as_it_is_meant() {
    let rule = rule(
        r#"
        metric = "memory.swap_used_bytes / memory.swap_total_bytes"
        nodes = { include = ["web*", "lab.*"], exclude = "web9" }
        groups = "db"
        info = { at_least = 50.5 }
        keep_firing_for = "1h30m"
        summary = "{node} swaps: {value} %"
        labels = { team = "ops", runbook = "https://x" }"#,
    );
    assert!(matches!(rule.watch, Watch::Ratio { .. }));
    assert!(rule.nodes.name("lab.a") && rule.except_nodes.name("web9"));
    assert!(rule.groups.name("db"));
    assert_eq!(rule.levels[0].operator, Operator::AtLeast);
    assert_eq!(rule.keep_firing_ms, 5_400_000);
    assert_eq!(rule.summary.as_deref(), Some("{node} swaps: {value} %"));
    let labels = [("runbook", "https://x"), ("team", "ops")];
    assert_eq!(
        rule.labels,
        labels.map(|(name, text)| (name.to_owned(), text.to_owned()))
    );
}

#[test]
fn tables_in_tables_without_end_are_refused() {
    for document in [
        format!("{}a = 1", "a.".repeat(30_000)),
        format!("[{}a]", "a.".repeat(30_000)),
        format!("rule = {}", "[".repeat(60_000)),
        format!("rule = {}", "{a=".repeat(20_000)),
        format!(
            "[[rule]]\n{}",
            format!("{}a={{", "a.".repeat(79)).repeat(79)
        ),
        format!(
            "[[rule]]\n{}1{}",
            format!("{}a={{", "a.".repeat(78)).repeat(78),
            "}".repeat(78)
        ),
        format!("[[rule]]\n{}", "[[rule.override]]\n".repeat(3_000)),
    ] {
        assert!(read(document.as_bytes()).is_err());
    }
}

#[test]
fn a_rule_that_is_switched_off_need_not_say_more() {
    let document = b"[[rule]]\nname = \"disk-busy\"\nenabled = false";
    assert_eq!(read(document).unwrap()[0].rule, None);
    let off = format!("[[rule]]\nname = \"x\"\nenabled = false\n{LOAD}");
    assert_eq!(read(off.as_bytes()).unwrap()[0].rule, None);
    let half = b"[[rule]]\nname = \"x\"\nenabled = false\nmetric = \"cpu.load1\"";
    assert!(read(half).is_err());
}

#[test]
fn the_text_of_a_rule_is_a_document_of_it_alone() {
    let (text, rules) = (defaults::TEXT, defaults::rules());
    for written in &rules {
        let alone = read_one(&written.name, written.text.as_bytes()).unwrap();
        assert_eq!(&alone, written);
        assert!(text.contains(&*written.text));
    }
    let in_a_list = b"rule = [{ name = \"x\", metric = \"cpu.load1\", warning = { above = 4 } }]";
    assert_eq!(read(in_a_list).unwrap()[0].text.as_bytes(), in_a_list);
}

/// Pieces that documents are made of, so that chance comes near to what is one.
fn piece() -> impl Strategy<Value = String> {
    let known = defaults::TEXT.lines().chain([
        "[[rule.override]]",
        "enabled = false",
        "nodes = { include = [\"a\"], exclude = \"b\" }",
        "labels = { a = \"b\" }",
        "absent = \"60s\"",
        "changed = true",
        "forecast = \"24h\"",
        "critical = false",
        "rule = [{}]",
        "\"\"\"",
        "'",
    ]);
    let known: Vec<String> = known.map(str::to_owned).collect();
    prop_oneof![4 => proptest::sample::select(known), 1 => any::<String>()]
}

proptest! {
    #[test]
    fn any_bytes_are_rules_or_mistakes(bytes in any::<Vec<u8>>()) {
        if let Err(mistakes) = read(&bytes) {
            prop_assert!(!mistakes.is_empty());
        }
    }

    #[test]
    fn any_lines_are_rules_or_mistakes(lines in proptest::collection::vec(piece(), 0..40)) {
        let document = lines.join("\n");
        match read(document.as_bytes()) {
            Ok(rules) => for written in rules {
                prop_assert_eq!(written.rule.is_none(), written.text.contains("enabled = false"));
            },
            Err(mistakes) => prop_assert!(!mistakes.is_empty()),
        }
    }

    #[test]
    fn a_cut_document_is_rules_or_mistakes(at in 0..defaults::TEXT.len(), byte in any::<u8>()) {
        let mut document = defaults::TEXT.as_bytes().to_vec();
        document[at] = byte;
        if let Err(mistakes) = read(&document) {
            prop_assert!(!mistakes.is_empty());
        }
        if let Err(mistakes) = read(&document[..at]) {
            prop_assert!(!mistakes.is_empty());
        }
    }
}
