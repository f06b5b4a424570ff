//! What fires and what is silenced, as tables or JSON.

use std::io::Write;

use hostbus_daemon::clock;
use hostbus_wire::alert::{Alert, AlertKey, AlertState};
use hostbus_wire::silence::Silence;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::gather;
use super::standing::Standing;
use crate::cli::{AlertsListArgs, SilencesArgs};
use crate::history::shown;

/// Prints the alerts that stand on the bus.
pub(super) async fn alerts(args: &AlertsListArgs) -> anyhow::Result<()> {
    let (connection, standing, _) = gather(&args.bus, None).await?;
    connection.close().await;
    let now_ms = clock::unix_ms();
    let wanted = |key: &AlertKey, alert: &Alert| {
        let node = &key.node;
        let of_node = |wanted: &String| *wanted == node.to_string() || wanted == node.node.as_str();
        (args.all || alert.state == AlertState::Firing) && args.node.as_ref().is_none_or(of_node)
    };
    let alerts = standing.worst_first();
    let alerts = alerts.into_iter().filter(|(key, alert)| wanted(key, alert));
    let mut out = std::io::stdout().lock();
    if args.json {
        let alerts: Vec<Value> = alerts
            .map(|(key, alert)| object(&standing, key, alert))
            .collect();
        writeln!(out, "{}", Value::Array(alerts))?;
        return Ok(());
    }
    let mut none = true;
    for (key, alert) in alerts {
        none = false;
        writeln!(out, "{}", plain(&line(&standing, key, alert, now_ms)))?;
    }
    if none {
        writeln!(out, "nothing fires")?;
    }
    for trouble in standing.troubles() {
        writeln!(out, "{}", plain(&trouble))?;
    }
    for topic in &standing.unreadable {
        tracing::warn!(topic, "what stands there can't be read");
    }
    Ok(())
}

fn object(standing: &Standing, key: &AlertKey, alert: &Alert) -> Value {
    json!({
        "node": key.node.to_string(),
        "rule": key.rule,
        "instance": key.instance,
        "fingerprint": key.fingerprint(),
        "state": alert.state,
        "severity": alert.severity,
        "since": alert.since,
        "summary": alert.summary,
        "value": alert.value,
        "threshold": alert.threshold,
        "labels": alert.labels,
        "acknowledged": standing.acknowledgements.get(&key.fingerprint()),
        "told": standing.told_by(key, alert),
    })
}

fn line(standing: &Standing, key: &AlertKey, alert: &Alert, now_ms: u64) -> String {
    let fingerprint = key.fingerprint();
    let mut notes = Vec::new();
    if let Some(said) = standing.acknowledgements.get(&fingerprint) {
        notes.push(format!("acknowledged by {}", said.by));
    }
    let told = standing.told_by(key, alert);
    if !told.is_empty() {
        notes.push(format!("told {}", told.join(", ")));
    }
    let notes = if notes.is_empty() {
        String::new()
    } else {
        format!("  [{}]", notes.join("; "))
    };
    format!(
        "{}  {:<8} {:<8} {:>7}  {key}  {}{notes}",
        &fingerprint[..8],
        alert.severity.as_str(),
        alert.state.as_str(),
        age(now_ms.saturating_sub(alert.since)),
        alert.summary,
    )
}

/// Prints the silences that stand on the bus.
pub(super) async fn silences(args: &SilencesArgs) -> anyhow::Result<()> {
    let (connection, standing, _) = gather(&args.bus, None).await?;
    connection.close().await;
    let mut out = std::io::stdout().lock();
    if args.json {
        let silences = standing.silences.iter().map(|((site, id), silence)| {
            let mut object = json!(silence);
            object["id"] = json!(id);
            object["site"] = json!(site);
            object
        });
        writeln!(out, "{}", Value::Array(silences.collect()))?;
        return Ok(());
    }
    let zone = TimeZone::system();
    for ((_, id), silence) in &standing.silences {
        let until = until(silence, &zone);
        let text = format!(
            "{id:<12}  until {until}  {}  by {}: {}",
            what(silence),
            silence.by,
            silence.why
        );
        writeln!(out, "{}", plain(&text))?;
    }
    if standing.silences.is_empty() {
        writeln!(out, "nothing is silenced")?;
    }
    Ok(())
}

fn until(silence: &Silence, zone: &TimeZone) -> String {
    match (silence.until, silence.seconds, &silence.weekly) {
        (Some(until), ..) => shown(until, zone),
        (None, Some(seconds), _) => format!("{seconds} s after it was put there"),
        (None, None, Some(weekly)) => format!("{} each week, from {}", weekly.to, weekly.from),
        (None, None, None) => "it is removed".to_owned(),
    }
}

fn what(silence: &Silence) -> String {
    let mut parts = Vec::new();
    for (name, list) in [
        ("node", &silence.nodes),
        ("rule", &silence.rules),
        ("instance", &silence.instances),
    ] {
        if !list.is_empty() {
            parts.push(format!("{name} {}", list.join(",")));
        }
    }
    if !silence.severities.is_empty() {
        let severities = silence.severities.iter().map(|severity| severity.as_str());
        parts.push(format!(
            "severity {}",
            severities.collect::<Vec<_>>().join(",")
        ));
    }
    parts.extend(
        silence
            .labels
            .iter()
            .map(|(name, glob)| format!("{name}={glob}")),
    );
    if parts.is_empty() {
        "everything".to_owned()
    } else {
        parts.join(" ")
    }
}

/// What others wrote must not drive the terminal.
fn plain(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).collect()
}

/// How long ago, in its largest unit.
fn age(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_silence_matches_is_told() {
        let check = |json: &str, expected: &str| {
            let silence: Silence = serde_json::from_str(json).unwrap();
            assert_eq!(what(&silence), expected, "{json}");
        };
        check("{}", "everything");
        check(
            r#"{"nodes": ["web*", "db"], "severities": ["info"]}"#,
            "node web*,db severity info",
        );
        check(r#"{"labels": {"team": "infra"}}"#, "team=infra");
    }

    #[test]
    fn what_others_wrote_does_not_drive_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\n"), "a [2Jb ");
        assert_eq!(
            (age(119_000), age(7_199_000)),
            ("119s".into(), "119m".into())
        );
    }
}
