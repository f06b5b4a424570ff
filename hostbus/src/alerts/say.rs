//! Acknowledging and silencing: retained messages, which the notifier hears.

use std::time::Duration;

use anyhow::Context;
use hostbus_client::{Connection, Event};
use hostbus_daemon::clock;
use hostbus_wire::alert::AlertState;
use hostbus_wire::silence::{Acknowledgement, Silence};
use hostbus_wire::topic::SiteTopic;
use hostbus_wire::{QoS, SiteId, encode};
use jiff::Span;

use super::{OPERATOR, gather};
use crate::cli::{AckArgs, SilenceArgs, UnackArgs, UnsilenceArgs};

/// How long the broker may take to pass on what was said.
const HEARD_WITHIN: Duration = Duration::from_secs(5);

/// Acknowledges an alert.
pub(super) async fn acknowledge(args: &AckArgs) -> anyhow::Result<()> {
    let (connection, standing, bus) = gather(&args.bus, Some(OPERATOR)).await?;
    let (key, alert) = standing.find(&args.alert)?;
    anyhow::ensure!(
        alert.state == AlertState::Firing,
        "{key} is {}: only what fires can be acknowledged",
        alert.state
    );
    let now_ms = clock::unix_ms();
    let said = Acknowledgement {
        by: by(args.by.as_deref()),
        why: args.why.clone().unwrap_or_default(),
        at: Some(now_ms),
        until: args
            .lasting
            .as_deref()
            .map(|span| later("--for", span, now_ms))
            .transpose()?,
    };
    let topic =
        SiteTopic::Acknowledgement(key.fingerprint().into()).text(&bus.root, &key.node.site);
    let told = format!("acknowledged: {key}  {}", alert.summary);
    say(connection, topic, encode(&said)?, &told).await
}

/// Takes an acknowledgement back.
pub(super) async fn take_back(args: &UnackArgs) -> anyhow::Result<()> {
    let (connection, standing, bus) = gather(&args.bus, Some(OPERATOR)).await?;
    let (key, _) = standing.find(&args.alert)?;
    let fingerprint = key.fingerprint();
    anyhow::ensure!(
        standing.acknowledgements.contains_key(&fingerprint),
        "{key} is not acknowledged"
    );
    let topic = SiteTopic::Acknowledgement(fingerprint.into()).text(&bus.root, &key.node.site);
    say(connection, topic, Vec::new(), &format!("taken back: {key}")).await
}

/// Puts a silence on the bus.
pub(super) async fn silence(args: &SilenceArgs) -> anyhow::Result<()> {
    let now_ms = clock::unix_ms();
    let silence = Silence {
        nodes: args.node.clone(),
        rules: args.rule.clone(),
        instances: args.instance.clone(),
        from: Some(now_ms),
        until: Some(later("--for", &args.lasting, now_ms)?),
        by: by(args.by.as_deref()),
        why: args.why.clone(),
        ..Silence::default()
    };
    let everything =
        silence.nodes.is_empty() && silence.rules.is_empty() && silence.instances.is_empty();
    anyhow::ensure!(
        !everything || args.everything,
        "this would silence everything: name what, with --node, --rule or --instance, or add --everything"
    );
    let id = args.id.clone().unwrap_or_else(|| format!("{now_ms:x}"));
    let topic_level = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    anyhow::ensure!(
        !id.is_empty() && id.len() <= 64 && id.chars().all(topic_level),
        "--id {id}: expected 1 to 64 letters, digits, `-`, `_` and `.`"
    );
    let (connection, standing, bus) = gather(&args.bus, Some(OPERATOR)).await?;
    drop(standing);
    let site: SiteId = args.site.parse()?;
    let topic = SiteTopic::Silence(id.as_str().into()).text(&bus.root, &site);
    let told = format!("silenced for {}: {id}", args.lasting);
    say(connection, topic, encode(&silence)?, &told).await
}

/// Takes a silence away.
pub(super) async fn unsilence(args: &UnsilenceArgs) -> anyhow::Result<()> {
    let (connection, standing, bus) = gather(&args.bus, Some(OPERATOR)).await?;
    let found = standing.silences.keys().find(|(_, id)| *id == args.id);
    let (site, id) = found.with_context(|| {
        format!(
            "no silence {}: `hostbus alerts silences` shows those there are",
            args.id
        )
    })?;
    let topic = SiteTopic::Silence(id.as_str().into()).text(&bus.root, site);
    say(
        connection,
        topic,
        Vec::new(),
        &format!("no longer silenced: {id}"),
    )
    .await
}

/// Publishes, and waits until the broker has passed it on, so that a refusal is noticed: a broker of
/// the older protocol refuses without a word.
async fn say(
    mut connection: Connection,
    topic: String,
    payload: Vec<u8>,
    told: &str,
) -> anyhow::Result<()> {
    let sender = connection.sender();
    sender
        .publish(topic.as_str(), QoS::AtLeastOnce, true, payload.clone())
        .await?;
    let passed_on = async {
        loop {
            if let Event::Message(message) = connection.next().await
                && message.topic == topic
                && message.payload == payload
            {
                return;
            }
        }
    };
    let heard = tokio::time::timeout(HEARD_WITHIN, passed_on).await;
    connection.close().await;
    heard.ok().with_context(|| {
        format!("the broker did not pass it on: may this user write {topic}? Try --user operator")
    })?;
    #[expect(clippy::print_stdout, reason = "what was done")]
    {
        println!("{told}");
    }
    Ok(())
}

fn by(given: Option<&str>) -> String {
    let login = || std::env::var("USER").ok().filter(|user| !user.is_empty());
    given
        .map(str::to_owned)
        .or_else(login)
        .unwrap_or_else(|| OPERATOR.to_owned())
}

/// The time that lies `span` after `now_ms`.
fn later(flag: &str, span: &str, now_ms: u64) -> anyhow::Result<u64> {
    let wrong = || format!("{flag} {span}: expected a span such as 30m, 2h or 1d");
    let parsed: Span = span.parse().with_context(wrong)?;
    let now = jiff::Timestamp::from_millisecond(i64::try_from(now_ms)?)?;
    let zoned = now.to_zoned(jiff::tz::TimeZone::system());
    let then = zoned.checked_add(parsed).with_context(wrong)?;
    anyhow::ensure!(then > zoned, wrong());
    Ok(u64::try_from(then.timestamp().as_millisecond())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_that_does_not_lie_ahead_is_refused_with_an_example() {
        assert_eq!(later("--for", "30m", 1_000).unwrap(), 1_801_000);
        for wrong in ["", "soon", "-1h", "0s"] {
            let error = later("--for", wrong, 1_000).unwrap_err();
            assert!(error.to_string().contains("30m, 2h or 1d"), "{error}");
        }
    }
}
