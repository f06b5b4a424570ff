//! What is said of each mistake, word by word.

use super::*;

const LOAD: &str = "metric = \"cpu.load1\"\nwarning = { above = 4 }";

/// The only mistake of a document that begins as one must.
fn mistake(rest: &str) -> String {
    let document = format!("[[rule]]\nname = \"x\"\n{rest}\n");
    let mistakes = read(document.as_bytes()).expect_err(rest);
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    mistakes[0].to_string()
}

#[test]
fn a_mistake_is_told_with_its_line_its_key_and_what_was_expected() {
    let check = |rest: &str, expected: &str| assert_eq!(mistake(rest), expected);
    let load = |rest: &str| format!("{LOAD}\n{rest}");
    check(
        "warning = { above = 1 }",
        "line 1: rule x: no metric: expected one such as metric = \"cpu.usage_percent\"",
    );
    check(
        "metric = \"cpu.lod1\"",
        "line 3: rule x: metric = \"cpu.lod1\": no metric has this name, did you mean `cpu.load1`?",
    );
    check(
        "metric = 5",
        "line 3: rule x: metric = 5: expected the name of a metric such as \"cpu.usage_percent\"",
    );
    check(
        "metric = \"cpu.load1\"",
        "line 1: rule x: expected a threshold, such as warning = { above = 80, clear = 75 }, for one of info, warning, critical",
    );
    check(
        &load("fro = \"5m\""),
        "line 5: rule x: unknown key `fro`, did you mean `for`?",
    );
    check(
        &load("critcal = { above = 5 }"),
        "line 5: rule x: unknown key `critcal`, did you mean `critical`?",
    );
    check(
        &load("for = 5"),
        "line 5: rule x: for = 5: expected a duration such as \"30s\", \"5m\" or \"1h30m\"",
    );
    check(
        &load("for = \"5 minutes\""),
        "line 5: rule x: for = \"5 minutes\": expected a duration such as \"30s\", \"5m\" or \"1h30m\"",
    );
    check(
        &load("for = \"60d\""),
        "line 5: rule x: for = \"60d\": expected a duration from 0s to 1w",
    );
    check(
        &load("enabled = 1"),
        "line 5: rule x: enabled = 1: expected true or false",
    );
    check(
        &load("instances = \"0\""),
        "line 5: rule x: instances = \"0\": cpu.load1 has no instances",
    );
    check(
        &load("nodes = \"!web1\""),
        "line 5: rule x: nodes = \"!web1\": expected a glob of nodes such as \"web*\" or \"home.web1\", a list of them, or { include = […], exclude = […] }",
    );
    check(
        &load("nodes = []"),
        "line 5: rule x: nodes = []: an empty list takes nothing; leave the key out to take all",
    );
    check(
        &load("nodes = {}"),
        "line 5: rule x: nodes = {}: expected include, exclude or both",
    );
    check(
        &load("nodes = { exlude = \"a\" }"),
        "line 5: rule x: unknown key `nodes.exlude`, did you mean `exclude`?",
    );
    check(
        &load("groups = [1]"),
        "line 5: rule x: groups = [1]: expected a glob of groups such as \"db\", or a list of them",
    );
    check(
        &load("summary = \"{instance} is bad\""),
        "line 5: rule x: summary = \"{instance} is bad\": this metric has no instances, so nothing is known as {instance}",
    );
    check(
        &load("labels = { a = 1 }"),
        "line 5: rule x: labels.a = 1: expected a text",
    );
    check(
        &load("labels = { \"a b\" = \"c\" }"),
        "line 5: rule x: labels.a b = \"c\": expected a name of 1 to 63 letters, digits, '_', '-' and '.'",
    );
    check(
        &load("severity = \"info\""),
        "line 5: rule x: severity is for what is so or not (node.down, absent, changed); write a threshold, such as warning = { above = 80 }",
    );
}

#[test]
fn a_mistake_in_a_threshold_is_told_with_its_reason() {
    let check = |rest: &str, expected: &str| {
        let rest = format!("metric = \"cpu.usage_percent\"\n{rest}");
        assert_eq!(
            mistake(&rest),
            format!("line 4: rule x: {expected}"),
            "{rest}"
        );
    };
    check(
        "warning = 80",
        "warning = 80: expected a threshold such as { above = 90, clear = 85 }",
    );
    check(
        "warning = { clear = 80 }",
        "warning = { clear = 80 }: expected one of above, at_least, below, at_most, equals with a number",
    );
    check(
        "warning = { over = 80 }",
        "unknown key `warning.over`, expected one of above, at_least, below, at_most, equals, clear",
    );
    check(
        "warning = { above = 80, below = 20 }",
        "warning.below = 20: one comparison a threshold, and warning.above says another one already",
    );
    check(
        "warning = { above = \"80\" }",
        "warning.above = \"80\": expected a number",
    );
    check(
        "warning = { above = nan }",
        "warning.above = nan: expected a number",
    );
    check(
        "warning = { above = 80, clear = 85 }",
        "warning.clear = 85: lies on the wrong side: expected at most 80, the threshold, so that the alert is over when the value is better",
    );
    check(
        "warning = { below = 20, clear = 15 }",
        "warning.clear = 15: lies on the wrong side: expected at least 20, the threshold, so that the alert is over when the value is better",
    );
    check(
        "warning = { equals = 1, clear = 0 }",
        "warning.clear = 0: a state has no clear: the alert is over with the state",
    );
    check(
        "warning = { above = 100 }",
        "warning.above = 100: a percentage lies between 0 and 100, so this is never crossed, or always",
    );
    check(
        "warning = { below = 900 }",
        "warning.below = 900: a percentage lies between 0 and 100, so this is never crossed, or always",
    );
    check(
        "critical = { above = 80 }\nwarning = { above = 90 }",
        "critical at 80 must lie above warning at 90",
    );
    check(
        "critical = { below = 20 }\ninfo = { below = 10 }",
        "critical at 20 must lie below info at 10",
    );
    check(
        "critical = { above = 90 }\nwarning = { below = 10 }",
        "critical and warning look different ways: expected both upwards (above, at_least), both downwards (below, at_most) or both equals",
    );
    check(
        "critical = { above = 90, clear = 50 }\nwarning = { above = 80, clear = 70 }",
        "critical clears at 50, where warning (clear = 70) is over already",
    );
    check(
        "critical = { equals = 1 }\nwarning = { equals = 1 }",
        "critical at 1 must lie apart from warning at 1",
    );
    check(
        "critical = false",
        "critical = false: the rule has no such threshold to take away",
    );
}

#[test]
fn a_quantity_that_is_none_is_told() {
    assert_eq!(
        mistake("metric = \"memory.available_bytes\"\nwarning = { below = \"2G\" }"),
        "line 4: rule x: warning.below = \"2G\": expected a number of bytes, or a text such as \"2GiB\""
    );
}

#[test]
fn a_mistake_in_a_window_is_told_with_its_reason() {
    let check = |metric: &str, rest: &str, expected: &str| {
        let rest = format!("metric = \"{metric}\"\nwarning = {{ above = 1 }}\n{rest}");
        assert_eq!(
            mistake(&rest),
            format!("line 5: rule x: {expected}"),
            "{rest}"
        );
    };
    check(
        "cpu.load1",
        "window = \"5m\"",
        "window = \"5m\": a window needs aggregate = \"avg\", rate = true, changed = true or a forecast",
    );
    check(
        "cpu.load1",
        "aggregate = \"avg\"",
        "aggregate = \"avg\": over how long? Expected a window such as window = \"5m\"",
    );
    check(
        "cpu.load1",
        "aggregate = \"average\"\nwindow = \"5m\"",
        "aggregate = \"average\": expected \"avg\", \"min\", \"max\", \"sum\" or \"count\"",
    );
    check(
        "cpu.load1",
        "window = \"2d\"\naggregate = \"avg\"",
        "window = \"2d\": expected a duration from 5s to 1d",
    );
    check(
        "cpu.load1",
        "rate = true",
        "rate = true: cpu.load1 is no counter that only rises",
    );
    check(
        "networks.rx_bytes_per_second",
        "rate = true",
        "rate = true: networks.rx_bytes_per_second is a rate already: leave it out",
    );
    check(
        "memory.used_bytes / memory.total_bytes",
        "rate = true",
        "rate = true: a ratio is no counter",
    );
    check(
        "memory.oom_kills",
        "rate = false",
        "rate = false: leave the key out instead",
    );
    check(
        "cpu.load1",
        "forecast = \"24h\"\nrate = true",
        "forecast = \"24h\": a rule has rate or forecast, not both",
    );
    check(
        "cpu.load1",
        "forecast = \"10d\"\nwindow = \"1h\"",
        "forecast = \"10d\": reaches too far for a trend of 1h: expected a window of at least 5h",
    );
    check(
        "cpu.load1",
        "absent = \"1s\"",
        "absent = \"1s\": expected a duration from 5s to 1w",
    );
    check(
        "cpu.load1",
        "window = \"5m\"\nabsent = \"60s\"",
        "window = \"5m\": absent has its own time, and no window",
    );
    check(
        "node.down",
        "aggregate = \"avg\"\nwindow = \"5m\"",
        "aggregate = \"avg\": node.down is so or not, and has no past to sum up",
    );
    check(
        "node.clock_offset_seconds",
        "absent = \"60s\"",
        "absent = \"60s\": absent says nothing about a clock",
    );
    check(
        "cpu.load1",
        "for = \"1m\"\nforecast = \"24h\"",
        "for = \"1m\": a forecast needs at least 5m, for the trend of a moment is none",
    );
    let down = mistake("metric = \"node.down\"\nwarning = { above = 0 }");
    assert_eq!(
        down,
        "line 4: rule x: this is so or not, without threshold: write severity = \"warning\""
    );
}

#[test]
fn a_mistake_in_an_override_is_told_with_its_number() {
    let check = |rest: &str, expected: &str| {
        let rest = format!("{LOAD}\n[[rule.override]]\n{rest}");
        assert_eq!(mistake(&rest), format!("line {expected}"), "{rest}");
    };
    check(
        "warning = { above = 9 }",
        "5: rule x: expected nodes, groups or instances: an override is for some of them",
    );
    check(
        "nodes = \"a\"",
        "5: rule x: expected a threshold, for or enabled = false: this changes nothing",
    );
    check(
        "nodes = \"a\"\nmetric = \"cpu.load5\"",
        "7: rule x: unknown key `override 1.metric`, expected one of nodes, groups, instances, info, warning, critical, severity, for, enabled",
    );
    check(
        "nodes = \"a\"\nwarning = false",
        "5: rule x: no threshold is left: write enabled = false where the rule shall not hold",
    );
    check(
        "nodes = \"a\"\nfor = \"5m\"\nenabled = false",
        "7: rule x: for beside enabled = false says nothing",
    );
    check(
        "nodes = \"a\"\ncritical = { above = 3 }",
        "7: rule x: critical at 3 must lie above warning at 4",
    );
    check(
        "nodes = \"a\"\ninstances = \"b\"\nfor = \"5m\"",
        "7: rule x: override 1.instances = \"b\": cpu.load1 has no instances",
    );
}

#[test]
fn a_mistake_about_the_document_is_told_too() {
    let check = |document: &[u8], expected: &str| {
        let mistakes = read(document).unwrap_err();
        assert_eq!(mistakes[0].to_string(), expected);
    };
    check(
        b"[[rules]]",
        "line 1: unknown key `rules`: a document has [[rule]] and nothing else",
    );
    check(b"\n[rule]", "line 2: expected [[rule]]");
    check(b"rule = 1", "line 1: expected [[rule]]");
    check(
        b"[[rule]]\nmetric = \"cpu.load1\"",
        "line 1: rule number 1: no name: expected name = \"\u{2026}\"",
    );
    check(
        b"[[rule]]\nname = \"A b\"",
        "line 2: rule A b: name = \"A b\": expected 1 to 63 of a-z, 0-9 and '-', a letter or digit first",
    );
    check(b"a = 1\n\xff", "line 2: no UTF-8 text");
    check(
        &[b'#'; MAX_BYTES + 1],
        "65537 bytes, expected at most 65536",
    );
    check(
        "[[rule]]\n".repeat(513).as_bytes(),
        "513 rules, expected at most 512",
    );
    let twice = format!("[[rule]]\nname = \"x\"\n{LOAD}\n").repeat(2);
    check(
        twice.as_bytes(),
        "line 5: rule x: another rule of this document has this name",
    );
    let broken = read(b"[[rule]]\nname = ").unwrap_err()[0].to_string();
    assert!(broken.starts_with("line 2: no valid TOML: "), "{broken}");
}

#[test]
fn each_rule_tells_its_first_mistake() {
    let mistakes = read(b"[[rule]]\nname = \"a\"\n[[rule]]\nname = \"b\"").unwrap_err();
    let rules: Vec<_> = mistakes
        .iter()
        .map(|mistake| mistake.rule.as_deref())
        .collect();
    assert_eq!(rules, [Some("a"), Some("b")]);
}
