//! Slack, Discord, ntfy, Gotify, Pushover and PagerDuty against stand-ins: whatever there is to tell passes
//! the service's own checks, and what the service says of a wrong secret is understood.

#![expect(clippy::unwrap_used, reason = "test code")]

#[path = "../standin/mod.rs"]
mod standin;

mod services;

use hostbus_notifier::channels::{Channel, Verdict};
use hostbus_notifier::notice::{Notice, Reason};
use hostbus_wire::alert::AlertSeverity;
use services::{Discord, Gotify, Ntfy, PagerDuty, Pushover, SECRET, Slack};
use standin::notices::{self, NOW_MS};
use standin::{Reply, Service, Standin, client};
use tempfile::TempDir;

/// A file that holds `secret`.
fn file(secret: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, secret).unwrap();
    let text = path.display().to_string();
    (folder, text)
}

/// Tells `notice`, and holds every message to the service's answer. Returns how many there were.
async fn told(channel: &Channel, notice: &Notice) -> usize {
    let messages = channel.messages(notice, "main");
    for message in &messages {
        let verdict = client::tell(channel, message, NOW_MS).await;
        let (kind, reason) = (channel.kind(), notice.reason);
        assert_eq!(verdict, Verdict::Delivered, "{kind}: {reason:?}");
    }
    messages.len()
}

/// Holds a channel to its service: all kinds of notices are taken, a thousand nodes are all named in no
/// more than `most` messages, and a wrong secret is refused without showing it.
async fn check<S: Service>(
    service: S,
    most: usize,
    settings: impl Fn(&Standin<S>, &str) -> String,
) {
    let standin = Standin::start(service).await;
    let (_folder, secret) = file(SECRET);
    let channel = notices::channel(&settings(&standin, &secret));
    let kind = channel.kind();
    let warning = notices::line("web1", "load", None, AlertSeverity::Warning);
    let info = notices::line("web1", "news", None, AlertSeverity::Info);
    let over = notices::over(warning.clone());
    for notice in [
        notices::firing(),
        notices::resolved(),
        notices::test(),
        notices::hostile(),
        notices::notice(Reason::Repeat, vec![warning, info.clone()]),
        notices::notice(Reason::Digest, vec![info, over]),
    ] {
        told(&channel, &notice).await;
    }

    let before = standin.seen().len();
    let count = told(&channel, &notices::storm(1000)).await;
    assert!(count <= most, "{kind}: {count} messages");
    let bodies = standin.seen().split_off(before);
    let bodies: String = bodies
        .iter()
        .map(|(seen, _)| String::from_utf8(seen.body.clone()).unwrap())
        .collect();
    for node in 1..=1000 {
        assert!(bodies.contains(&format!("web{node:04}")), "{kind}: {node}");
    }

    // What stands before a service may repeat what it was sent.
    let message = &channel.messages(&notices::firing(), "main")[0];
    for status in [403, 404, 503] {
        standin.answer_next(Reply {
            body: format!("<p>nothing like {SECRET} here</p>"),
            ..Reply::status(status)
        });
        let verdict = client::tell(&channel, message, NOW_MS).await;
        let (Verdict::Retry { reason, .. } | Verdict::Broken { reason }) = &verdict else {
            panic!("{kind}: {verdict:?}");
        };
        assert!(
            !reason.contains(SECRET) && reason.contains("nothing like …"),
            "{kind}: {reason}"
        );
    }

    let wrong = "n0tTheS3cretN0tTheS3cretN0tThe32";
    let (_folder, secret) = file(wrong);
    let channel = notices::channel(&settings(&standin, &secret));
    let message = &channel.messages(&notices::firing(), "main")[0];
    let verdict = client::tell(&channel, message, NOW_MS).await;
    let Verdict::Broken { reason } = &verdict else {
        panic!("{kind}: {verdict:?}");
    };
    assert!(
        !reason.contains(wrong) && reason.contains("_file"),
        "{kind}: {reason}"
    );
}

#[tokio::test]
async fn slack_takes_what_it_is_told() {
    check(Slack, 2, |standin, secret| {
        let secret = std::fs::read_to_string(secret).unwrap();
        let url = standin.url(&format!("/services/T0/B0/{secret}"));
        format!("type = \"slack\"\nurl = {url:?}")
    })
    .await;
    check(Slack, 2, |standin, secret| {
        let api = standin.url("/api");
        format!(
            "type = \"slack\"\napi_url = {api:?}\ntoken_file = {secret:?}\nchannel = \"#alerts\""
        )
    })
    .await;
}

#[tokio::test]
async fn discord_takes_what_it_is_told() {
    check(Discord::default(), 5, |standin, secret| {
        let secret = std::fs::read_to_string(secret).unwrap();
        let url = standin.url(&format!("/api/webhooks/1/{secret}"));
        format!("type = \"discord\"\nurl = {url:?}")
    })
    .await;
}

#[tokio::test]
async fn discords_limit_of_messages_is_kept_to_the_millisecond() {
    let standin = Standin::start(Discord::default()).await;
    let url = standin.url(&format!("/api/webhooks/1/{SECRET}"));
    let channel = notices::channel(&format!("type = \"discord\"\nurl = {url:?}"));
    let message = &channel.messages(&notices::firing(), "main")[0];
    for _ in 0..channel.pace().burst {
        assert_eq!(
            client::tell(&channel, message, NOW_MS).await,
            Verdict::Delivered
        );
    }
    let verdict = client::tell(&channel, message, NOW_MS).await;
    let Verdict::Retry { after, .. } = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!(after, Some(std::time::Duration::from_millis(529)));
    standin.change(|discord| discord.now_ms += 60_000);
    assert_eq!(
        client::tell(&channel, message, NOW_MS).await,
        Verdict::Delivered
    );
}

#[tokio::test]
async fn ntfy_takes_what_it_is_told() {
    check(Ntfy, 5, |standin, secret| {
        let server = standin.url("/");
        format!("type = \"ntfy\"\nserver = {server:?}\ntopic = \"alerts\"\ntoken_file = {secret:?}")
    })
    .await;
}

#[tokio::test]
async fn gotify_takes_what_it_is_told() {
    check(Gotify, 2, |standin, secret| {
        let server = standin.url("/");
        format!("type = \"gotify\"\nserver = {server:?}\ntoken_file = {secret:?}")
    })
    .await;
}

#[tokio::test]
async fn pushover_takes_what_it_is_told() {
    for emergency in [false, true] {
        check(Pushover, 10, |standin, secret| {
            let server = standin.url("/");
            format!(
                "type = \"pushover\"\nserver = {server:?}\ntoken_file = {secret:?}\n\
                 user_file = {secret:?}\nemergency = {emergency}\nmessages = 10"
            )
        })
        .await;
    }
}

#[tokio::test]
async fn pagerduty_takes_what_it_is_told() {
    check(PagerDuty::default(), 1000, |standin, secret| {
        let server = standin.url("/");
        format!("type = \"pagerduty\"\nserver = {server:?}\nrouting_key_file = {secret:?}")
    })
    .await;
}

#[tokio::test]
async fn pagerduty_has_an_incident_for_each_alert_that_fires_and_none_when_all_is_over() {
    let standin = Standin::start(PagerDuty::default()).await;
    let (_folder, secret) = file(SECRET);
    let server = standin.url("");
    let channel = notices::channel(&format!(
        "type = \"pagerduty\"\nserver = {server:?}\nrouting_key_file = {secret:?}"
    ));
    let open = || {
        let mut open = 0;
        standin.change(|pagerduty| open = pagerduty.open.len());
        open
    };
    let storm = notices::storm(50);
    told(&channel, &storm).await;
    told(&channel, &storm).await;
    assert_eq!(open(), 50);
    let over = storm.lines.into_iter().map(notices::over).collect();
    told(&channel, &notices::notice(Reason::Resolved, over)).await;
    assert_eq!(open(), 0);
}
