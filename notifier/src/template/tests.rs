//! What the templates make of notices, in both languages and every markup.

use hostbus_wire::alert::{Alert, AlertKey, AlertSeverity, AlertState};
use jiff::tz::TimeZone;

use super::*;
use crate::channels::Measure;
use crate::notice::{Line, Reason};

const NOW_MS: u64 = 1_700_000_000_000;
const MARKUPS: [Markup; 8] = [
    Markup::Plain,
    Markup::Html,
    Markup::Telegram,
    Markup::Markdown,
    Markup::Feishu,
    Markup::DingTalk,
    Markup::WeCom,
    Markup::Slack,
];

fn style(language: Language) -> Style {
    Style {
        language,
        zone: TimeZone::fixed(jiff::tz::offset(8)),
    }
}

fn line(node: &str, instance: Option<&str>, severity: AlertSeverity) -> Line {
    let key = AlertKey {
        node: node.parse().unwrap(),
        rule: "disk-full".into(),
        instance: instance.map(Into::into),
    };
    let labels = [("unit", "%"), ("runbook", "https://example.org/disk")];
    let labels = labels.map(|(name, text)| (name.to_owned(), text.to_owned()));
    Line {
        alert: Alert {
            fingerprint: key.fingerprint(),
            severity,
            since: NOW_MS - 300_000,
            summary: "/data is 93.5% full".to_owned(),
            value: Some(93.5),
            threshold: Some(90.0),
            labels: labels.into(),
            ..Alert::default()
        },
        key,
        firing_since: NOW_MS - 7_500_000,
        was: None,
        flaps: 0,
        repeated: false,
    }
}

fn over(mut line: Line) -> Line {
    line.alert.state = AlertState::Resolved;
    line
}

fn notice(reason: Reason, lines: Vec<Line>) -> Notice {
    Notice {
        id: 7,
        channel: "ops".to_owned(),
        reason,
        group: "rule disk-full".to_owned(),
        formed_ms: NOW_MS,
        lines,
        still_firing: 0,
    }
}

fn critical(node: &str) -> Line {
    line(node, Some("/data"), AlertSeverity::Critical)
}

#[test]
fn one_alert_reads_as_an_operator_would_write_it() {
    let check = |language, notice: &Notice, title: &str, text: &str| {
        let templates = Templates::new(&style(language), Markup::Plain, None, None);
        assert_eq!(templates.title(notice), title);
        assert_eq!(templates.text(notice), text);
    };
    let firing = notice(Reason::Firing, vec![critical("home.web1")]);
    check(
        Language::En,
        &firing,
        "Critical: web1: disk-full /data",
        "/data is 93.5% full\n\
         Critical: web1, disk-full, /data\n\
         Value: 93.5% (threshold 90%)\n\
         Since 2023-11-15 04:08:20 +08:00, for 2 h 5 min\n\
         runbook: https://example.org/disk",
    );
    check(
        Language::Zh,
        &firing,
        "【严重】web1：disk-full /data",
        "/data is 93.5% full\n\
         级别：严重\n\
         节点：web1\n\
         规则：disk-full（/data）\n\
         数值：93.5%（阈值 90%）\n\
         开始于：2023-11-15 04:08:20 +08:00，已持续 2 小时 5 分钟\n\
         runbook：https://example.org/disk",
    );
    let resolved = notice(Reason::Resolved, vec![over(critical("office.web1"))]);
    check(
        Language::En,
        &resolved,
        "Resolved: office.web1: disk-full /data",
        "/data is 93.5% full\n\
         Resolved: office.web1, disk-full, /data\n\
         Value: 93.5% (threshold 90%)\n\
         Over since 2023-11-15 06:08:20 +08:00, after 2 h\n\
         runbook: https://example.org/disk",
    );
    let mut bare = notice(
        Reason::Repeat,
        vec![line("home.nas", None, AlertSeverity::Info)],
    );
    let alert = &mut bare.lines[0].alert;
    (alert.value, alert.threshold) = (None, None);
    alert.labels.clear();
    check(
        Language::En,
        &bare,
        "Still info: nas: disk-full",
        "Nobody has acknowledged this yet:\n\n\
         /data is 93.5% full\n\
         Info: nas, disk-full\n\
         Since 2023-11-15 04:08:20 +08:00, for 2 h 5 min",
    );
    let test = notice(Reason::Test, Vec::new());
    check(
        Language::En,
        &test,
        "Test of the channel ops",
        "If you can read this, hostbus can reach you here. Nothing is wrong.",
    );
    check(
        Language::Zh,
        &test,
        "测试通道 ops",
        "看到这条消息，说明 hostbus 可以通过此通道通知您。一切正常。",
    );
}

#[test]
fn many_alerts_are_told_in_groups_that_name_each() {
    let mut lines: Vec<Line> = (1..=9)
        .map(|at| critical(&format!("home.web{at}")))
        .collect();
    lines.push(line("home.web9", Some("/var"), AlertSeverity::Critical));
    lines.push(line("home.nas", None, AlertSeverity::Warning));
    lines.push(over(critical("home.db")));
    let notice = notice(Reason::Firing, lines);
    let check = |language, title: &str, text: &str| {
        let templates = Templates::new(&style(language), Markup::Markdown, None, None);
        assert_eq!(templates.title(&notice), title);
        assert_eq!(templates.text(&notice), text.replace('\n', "  \n"));
    };
    check(
        Language::En,
        "Critical: 12 alerts of disk-full (1 resolved)",
        "**Critical**: **disk-full**, 10 alerts, the first one since 2023-11-15 04:08:20 +08:00 (for 2 h 5 min)\n\
         web1 \\(/data\\), web2 \\(/data\\), web3 \\(/data\\), web4 \\(/data\\), web5 \\(/data\\), \
         web6 \\(/data\\), web7 \\(/data\\), web8 \\(/data\\), web9 \\(/data, /var\\)\n\n\
         **Warning**: **disk-full**, 1 alert, the first one since 2023-11-15 04:08:20 +08:00 (for 2 h 5 min)\n\
         nas\n\n\
         **Resolved**: **disk-full**, 1 alert, the last one over at 2023-11-15 06:08:20 +08:00\n\
         db \\(/data\\)",
    );
    check(
        Language::Zh,
        "【严重】disk-full 共 12 条告警（其中 1 条已恢复）",
        "**严重**：**disk-full**，共 10 条，最早开始于 2023-11-15 04:08:20 +08:00（已持续 2 小时 5 分钟）\n\
         web1 \\(/data\\), web2 \\(/data\\), web3 \\(/data\\), web4 \\(/data\\), web5 \\(/data\\), \
         web6 \\(/data\\), web7 \\(/data\\), web8 \\(/data\\), web9 \\(/data, /var\\)\n\n\
         **警告**：**disk-full**，共 1 条，最早开始于 2023-11-15 04:08:20 +08:00（已持续 2 小时 5 分钟）\n\
         nas\n\n\
         **已恢复**：**disk-full**，共 1 条，最后一条恢复于 2023-11-15 06:08:20 +08:00\n\
         db \\(/data\\)",
    );
}

#[test]
fn the_built_in_templates_get_along_with_every_notice() {
    for language in [Language::En, Language::Zh] {
        for markup in MARKUPS {
            let (title, text) = Sheet::built_in(&style(language), markup);
            for example in sheet::examples() {
                let facts = Facts::new(&example, example.lines.len());
                assert!(!title.render(&facts).unwrap().trim().is_empty());
                assert!(!text.render(&facts).unwrap().trim().is_empty());
                assert!(text.render(&Facts::new(&example, 0)).is_ok());
            }
        }
    }
}

#[test]
fn a_template_that_fails_gives_way_and_the_text_says_so() {
    let style = style(Language::En);
    let source = "ok\n{% if group == 'boom' %}{{ nothing }}{% endif %}";
    let sheet = || Sheet::open("text_template", source.to_owned(), &style, Markup::Plain).unwrap();
    let title = Some(sheet());
    let templates = Templates::new(&style, Markup::Plain, title, Some(sheet()));
    let limits = Limits {
        title: Measure::Characters(100),
        text: Measure::Characters(1000),
        markup: Markup::Plain,
        messages: 5,
    };
    let mut notice = notice(Reason::Firing, vec![critical("home.web1")]);
    let good = templates.messages(&notice, "main", &limits);
    assert_eq!(
        (good[0].title.as_str(), good[0].text.as_str()),
        ("ok", "ok")
    );
    notice.group = "boom".to_owned();
    let fallen = templates.messages(&notice, "main", &limits);
    assert_eq!(fallen[0].title, "Critical: web1: disk-full /data");
    let text = &fallen[0].text;
    assert!(text.starts_with("/data is 93.5% full"), "{text}");
    assert!(
        text.contains("own template failed") && text.contains("in line 2"),
        "{text}"
    );
}

#[test]
fn long_alerts_are_told_in_groups_and_an_endless_template_gives_way() {
    let style = style(Language::En);
    let limits = Limits {
        title: Measure::Characters(100),
        text: Measure::Bytes(800),
        markup: Markup::Plain,
        messages: 2,
    };
    let mut alerts: Vec<Line> = (1..=3)
        .map(|at| critical(&format!("home.web{at}")))
        .collect();
    for line in &mut alerts {
        let long = (0..64).map(|at| (format!("label{at}"), "x".repeat(9999)));
        line.alert.labels = long.collect();
    }
    let notice = notice(Reason::Firing, alerts);
    let told = Templates::new(&style, Markup::Plain, None, None).messages(&notice, "main", &limits);
    assert_eq!(told.len(), 1);
    assert!(
        told[0]
            .text
            .ends_with("web1 (/data), web2 (/data), web3 (/data)"),
        "{}",
        told[0].text
    );

    let endless = "{% for i in range(9000) %}x{% endfor %}".to_owned();
    let endless = Sheet::open("text_template", endless, &style, Markup::Plain).unwrap();
    let templates = Templates::new(&style, Markup::Plain, None, Some(endless));
    let told = templates.messages(&notice, "main", &limits);
    assert_eq!((told.len(), told[0].omitted), (1, 0));
    assert!(told[0].text.contains("web3 (/data)"), "{}", told[0].text);
    assert!(
        told[0].text.contains("more than 2 messages hold"),
        "{}",
        told[0].text
    );
}

#[test]
fn the_keys_of_wording_are_all_of_them() {
    for key in Wording::KEYS {
        let value = match key {
            "language" => "\"zh\"",
            "messages" => "3",
            _ => "\"x\"",
        };
        let wording: Wording = toml::from_str(&format!("{key} = {value}")).unwrap();
        assert_ne!(wording, Wording::default(), "{key}");
    }
    let error = toml::from_str::<Wording>("x = 1").unwrap_err().to_string();
    assert_eq!(
        error.matches('`').count(),
        2 + 2 * Wording::KEYS.len(),
        "{error}"
    );
}

#[test]
fn as_many_alerts_are_named_as_there_is_room_for() {
    let check = |count: usize, per_message: usize, most: usize, expected: (usize, usize)| {
        let split = |named: usize| vec![String::new(); named.div_ceil(per_message).max(1)];
        let (named, texts) = most_that_fits(count, most, split);
        assert_eq!(
            (named, texts.len()),
            expected,
            "{count} {per_message} {most}"
        );
    };
    check(0, 10, 5, (0, 1));
    check(1, 10, 5, (1, 1));
    check(50, 10, 5, (50, 5));
    check(51, 10, 5, (50, 5));
    check(9999, 7, 3, (21, 3));
    check(2, 1, 1, (1, 1));
}
