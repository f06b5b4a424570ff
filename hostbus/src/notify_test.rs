//! `hostbus notify-test`: one notice through one channel of the settings, now.

use std::sync::Arc;

use anyhow::{Context, bail};
use hostbus_daemon::{clock, exit};
use hostbus_notifier::channels::Verdict;
use hostbus_notifier::delivery::Carrier;
use hostbus_notifier::notice::{Line, Notice, Reason};
use hostbus_wire::NodePath;
use hostbus_wire::alert::{Alert, AlertKey, AlertSeverity};

use crate::cli::NotifyTestArgs;
use crate::up::Settings;

pub(crate) fn run(args: &NotifyTestArgs) -> anyhow::Result<u8> {
    let settings = Settings::read(args.config.as_deref())?.notifier;
    let names: Vec<&str> = settings.channels.keys().map(String::as_str).collect();
    let known = match names.as_slice() {
        [] => "the settings have no channels: name their file with --config".to_owned(),
        names => format!("the settings have {}", names.join(", ")),
    };
    let channel = settings
        .channels
        .get(&args.channel)
        .with_context(|| format!("no channel `{}`: {known}", args.channel))?;
    let carrier = settings.carrier(&args.channel, channel)?;
    let notice = notice(&args.channel, settings.site.as_str(), clock::unix_ms())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(send(&carrier, &notice, &args.channel))
}

/// Sends the messages, once each.
async fn send(carrier: &Arc<dyn Carrier>, notice: &Notice, channel: &str) -> anyhow::Result<u8> {
    for message in carrier.messages(notice) {
        match carrier.send(&message, clock::unix_ms()).await {
            Verdict::Delivered => {}
            Verdict::Retry { reason, after } => {
                let after = after.map(|after| format!(" (asked to wait {} s)", after.as_secs()));
                bail!(
                    "channel {channel} did not take it this time{}: {reason}",
                    after.unwrap_or_default()
                );
            }
            Verdict::Broken { reason } => {
                bail!("channel {channel} is not set up as its service wants it: {reason}");
            }
            Verdict::Refused { reason } => bail!("channel {channel} refuses it: {reason}"),
        }
    }
    #[expect(clippy::print_stdout, reason = "what was done")]
    {
        println!(
            "channel {channel} took it: \"{}\"",
            notice.lines[0].alert.summary
        );
    }
    Ok(exit::OK)
}

/// A notice of a test, about nothing.
fn notice(channel: &str, site: &str, now_ms: u64) -> anyhow::Result<Notice> {
    let node: NodePath = format!("{site}.nowhere").parse()?;
    let key = AlertKey {
        node,
        rule: "notify-test".into(),
        instance: None,
    };
    let alert = Alert {
        fingerprint: key.fingerprint(),
        severity: AlertSeverity::Info,
        since: now_ms,
        summary: "this is a test of hostbus: nothing is wrong".to_owned(),
        ..Alert::default()
    };
    Ok(Notice {
        id: now_ms,
        channel: channel.to_owned(),
        reason: Reason::Test,
        group: "test".to_owned(),
        formed_ms: now_ms,
        lines: vec![Line {
            key,
            alert,
            firing_since: now_ms,
            was: None,
            flaps: 0,
            repeated: false,
        }],
        still_firing: 0,
    })
}
