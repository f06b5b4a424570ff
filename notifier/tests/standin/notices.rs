//! Channels from a line of TOML, and notices to tell.

use hostbus_notifier::channels::{Channel, ChannelConfig, ChannelError};
use hostbus_notifier::notice::{Line, Notice, Reason};
use hostbus_notifier::template::Language;
use hostbus_wire::alert::{Alert, AlertKey, AlertSeverity, AlertState};
use jiff::tz::TimeZone;

/// When everything happens: 2023-11-14 22:13:20 UTC.
pub const NOW_MS: u64 = 1_700_000_000_000;

/// The channel `ops` of these settings, in English and UTC.
pub fn try_channel(settings: &str) -> Result<Channel, ChannelError> {
    let config: ChannelConfig = toml::from_str(settings).unwrap();
    Channel::open("ops", &config, Language::En, &TimeZone::UTC)
}

pub fn channel(settings: &str) -> Channel {
    try_channel(settings).unwrap_or_else(|error| panic!("{error}"))
}

/// An alert of `rule` on a node of the site `home`, firing for five minutes.
pub fn line(node: &str, rule: &str, instance: Option<&str>, severity: AlertSeverity) -> Line {
    let key = AlertKey {
        node: format!("home.{node}").parse().unwrap(),
        rule: rule.into(),
        instance: instance.map(Into::into),
    };
    let place = instance.unwrap_or("it");
    Line {
        alert: Alert {
            fingerprint: key.fingerprint(),
            severity,
            since: NOW_MS - 300_000,
            summary: format!("{place} on {node} is not well"),
            value: Some(93.5),
            threshold: Some(90.0),
            labels: [("unit".to_owned(), "%".to_owned())].into(),
            ..Alert::default()
        },
        key,
        firing_since: NOW_MS - 300_000,
        was: None,
        flaps: 0,
        repeated: false,
    }
}

/// The same alert, over now.
pub fn over(mut line: Line) -> Line {
    line.alert.state = AlertState::Resolved;
    line.alert.since = NOW_MS;
    line
}

pub fn notice(reason: Reason, lines: Vec<Line>) -> Notice {
    Notice {
        id: 42,
        channel: "ops".to_owned(),
        reason,
        group: "rule disk-full".to_owned(),
        formed_ms: NOW_MS,
        lines,
        still_firing: 0,
    }
}

/// One critical alert.
pub fn firing() -> Notice {
    let line = line("web1", "disk-full", Some("/data"), AlertSeverity::Critical);
    notice(Reason::Firing, vec![line])
}

/// The same, over.
pub fn resolved() -> Notice {
    let line = line("web1", "disk-full", Some("/data"), AlertSeverity::Critical);
    notice(Reason::Resolved, vec![over(line)])
}

/// A test of the channel.
pub fn test() -> Notice {
    notice(Reason::Test, Vec::new())
}

/// `count` nodes are down: `web0001`, `web0002` …
pub fn storm(count: usize) -> Notice {
    let down = |at| {
        line(
            &format!("web{at:04}"),
            "node-down",
            None,
            AlertSeverity::Critical,
        )
    };
    notice(Reason::Firing, (1..=count).map(down).collect())
}

/// One alert whose every text tries to be something else.
pub fn hostile() -> Notice {
    let mut line = line(
        "web1",
        "x",
        Some("</b><a href=\"//e\">"),
        AlertSeverity::Warning,
    );
    line.alert.summary =
        "<at id=all></at> <!channel> <@all> @all **x** [a](http://e) &lt; \"\r\n# b\u{202e}"
            .to_owned();
    let label = "</b>\n<at id=all>".repeat(100);
    line.alert.labels = [("<b>".to_owned(), label)].into();
    notice(Reason::Firing, vec![line])
}
