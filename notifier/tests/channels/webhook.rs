//! The webhook.

use std::io::Write;
use std::process::{Command, Stdio};

use hostbus_notifier::channels::Message;
use serde_json::{Value, json};

use crate::standin::notices::{NOW_MS, channel, firing, hostile, resolved, storm, test};
use crate::standin::receiver::Receiver;
use crate::standin::{Reply, Standin, client};
use crate::{Wanted, judge};

const SECRET: &str = "SECtest";

async fn receiver() -> Standin<Receiver> {
    Standin::start(Receiver {
        secret: Some(SECRET.to_owned()),
        now_ms: NOW_MS,
    })
    .await
}

fn settings(
    receiver: &Standin<Receiver>,
    secret: Option<&str>,
    more: &str,
) -> (String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let url = receiver.url("/hook?from=hostbus");
    let mut text = format!("type = \"webhook\"\nurl = {url:?}\n");
    if let Some(secret) = secret {
        let file = folder.path().join("secret");
        std::fs::write(&file, secret).unwrap();
        text.push_str(&format!("secret_file = {file:?}\n"));
    }
    text.push_str(more);
    (text, folder)
}

#[tokio::test]
async fn the_body_has_the_documented_shape() {
    let receiver = receiver().await;
    let (settings, _folder) = settings(&receiver, Some(SECRET), "");
    let channel = channel(&settings);
    for notice in [firing(), resolved(), test(), hostile()] {
        let messages = channel.messages(&notice, "main");
        let verdict = client::tell(&channel, &messages[0], NOW_MS).await;
        judge(&verdict, &Wanted::Delivered, &[]);
    }
    let (first, _) = &receiver.seen()[0];
    assert_eq!(
        (first.method.as_str(), first.path.as_str()),
        ("POST", "/hook")
    );
    assert_eq!(first.header("idempotency-key"), Some("main-42"));
    let body = first.json().unwrap();
    let expected = json!({
        "version": 1, "key": "main-42", "notice": 42, "reason": "firing", "channel": "ops",
        "group": "rule disk-full", "formed_ms": NOW_MS, "omitted": 0,
        "title": "Critical: web1: disk-full /data", "text": body["text"],
        "alerts": [{
            "fingerprint": firing().lines[0].key.fingerprint(), "node": "home.web1",
            "rule": "disk-full", "instance": "/data", "state": "firing", "severity": "critical",
            "summary": "/data on web1 is not well", "value": 93.5, "threshold": 90.0,
            "firing_since_ms": NOW_MS - 300_000, "since_ms": NOW_MS - 300_000,
            "labels": {"unit": "%"},
        }],
    });
    assert_eq!(body, expected);
    assert!(
        body["text"]
            .as_str()
            .unwrap()
            .contains("93.5% (threshold 90%)")
    );
    let told: Vec<Value> = receiver
        .seen()
        .iter()
        .map(|(seen, _)| seen.json().unwrap())
        .collect();
    assert_eq!(told[1]["alerts"][0]["state"], "resolved");
    assert_eq!(told[2]["alerts"], json!([]));
    assert_eq!(
        told[3]["alerts"][0]["summary"],
        hostile().lines[0].alert.summary
    );
}

#[tokio::test]
async fn settings_shape_the_request() {
    let receiver = receiver().await;
    let more = "method = \"PUT\"\nheaders = { \"X-Team\" = \"ops\" }\nheaders_env = { X-Path = \"PATH\" }\n\
         body_template = '''{\"msg\": {{ title }}, \"n\": {{ count }}, \"who\": [{% for a in alerts %}\
         {{ a.node }}{% if not loop.last %}, {% endif %}{% endfor %}]}'''\n\
         title_template = 'a \"{{ group }}\"'\n";
    let (settings, _folder) = settings(&receiver, Some(SECRET), more);
    let channel = channel(&settings);
    let verdict = client::tell(&channel, &channel.messages(&firing(), "main")[0], NOW_MS).await;
    judge(&verdict, &Wanted::Delivered, &[]);
    let (seen, _) = receiver.seen().pop().unwrap();
    assert_eq!(seen.method, "PUT");
    assert_eq!(seen.header("x-team"), Some("ops"));
    assert_eq!(
        seen.header("x-path"),
        Some(std::env::var("PATH").unwrap().as_str())
    );
    let expected = json!({"msg": "a \"rule disk-full\"", "n": 1, "who": ["web1"]});
    assert_eq!(seen.json().unwrap(), expected);
}

#[tokio::test]
async fn a_body_template_that_fails_gives_way_to_the_documented_shape() {
    let receiver = receiver().await;
    // No example has the label, and no alert but this one has its instance.
    let more = "body_template = '{\"x\": {% if alerts and alerts[0].instance == \"/boom\" %}{{ nothing }}\
         {% else %}1{% endif %}}'\n";
    let (settings, _folder) = settings(&receiver, Some(SECRET), more);
    let channel = channel(&settings);
    let mut notice = firing();
    notice.lines[0].key.instance = Some("/boom".into());
    let verdict = client::tell(&channel, &channel.messages(&notice, "main")[0], NOW_MS).await;
    judge(&verdict, &Wanted::Delivered, &[]);
    let body = receiver.seen()[0].0.json().unwrap();
    assert_eq!(body["version"], 1);
    let error = body["template_error"].as_str().unwrap();
    assert!(error.contains("in line 1"), "{error}");
}

#[tokio::test]
async fn what_a_receiver_says_is_understood() {
    let receiver = receiver().await;
    let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
    let later = "Sun, 06 Nov 1994 08:50:37 GMT";
    for (secret, reply, wanted) in [
        (Some(SECRET), None, Wanted::Delivered),
        (Some("SECother"), None, Wanted::Broken("secret")),
        (None, None, Wanted::Broken("HTTP 401")),
        (None, Some(Reply::status(200)), Wanted::Delivered),
        (None, Some(Reply::status(202)), Wanted::Delivered),
        (None, Some(Reply::status(408)), Wanted::Retry(None, "408")),
        (None, Some(Reply::status(425)), Wanted::Retry(None, "425")),
        (
            None,
            Some(Reply::status(429).with("retry-after", "9")),
            Wanted::Retry(Some(9), "429"),
        ),
        (
            None,
            Some(
                Reply::status(503)
                    .with("retry-after", later)
                    .with(date.0, date.1),
            ),
            Wanted::Retry(Some(60), "503"),
        ),
        (
            None,
            Some(Reply::status(302).with("location", "/")),
            Wanted::Broken("redirects"),
        ),
        (None, Some(Reply::status(404)), Wanted::Broken("address")),
        (
            Some(SECRET),
            Some(Reply {
                body: format!("you said {SECRET}"),
                ..Reply::status(400)
            }),
            Wanted::Refused("you said …"),
        ),
        (None, Some(Reply::status(413)), Wanted::Refused("limit")),
        (None, Some(Reply::status(422)), Wanted::Refused("log")),
    ] {
        let (settings, _folder) = settings(&receiver, secret, "");
        let channel = channel(&settings);
        if let Some(reply) = reply {
            receiver.answer_next(reply);
        }
        let verdict = client::tell(&channel, &channel.messages(&firing(), "main")[0], NOW_MS).await;
        judge(&verdict, &wanted, &[SECRET, "SECother"]);
    }
}

#[tokio::test]
async fn alerts_that_no_body_holds_are_counted() {
    let receiver = receiver().await;
    let (settings, _folder) = settings(&receiver, Some(SECRET), "messages = 2\n");
    let channel = channel(&settings);
    let count = 5000;
    let messages: Vec<Message> = channel.messages(&storm(count), "main");
    assert_eq!(messages.len(), 2);
    for message in &messages {
        let verdict = client::tell(&channel, message, NOW_MS).await;
        judge(&verdict, &Wanted::Delivered, &[]);
    }
    let bodies: Vec<Value> = receiver
        .seen()
        .iter()
        .map(|(seen, _)| seen.json().unwrap())
        .collect();
    let named: usize = bodies
        .iter()
        .map(|body| body["alerts"].as_array().unwrap().len())
        .sum();
    assert_eq!(bodies[0]["omitted"], 0);
    assert_eq!(bodies[1]["omitted"], count - named);
    assert_eq!(
        (bodies[0]["key"].as_str(), bodies[1]["key"].as_str()),
        (Some("main-42"), Some("main-42-2"))
    );
    assert!(named > 500, "{named}");
}

/// The sample of the documentation, as a reader would run it.
#[tokio::test]
async fn the_documented_sample_verifies_a_signature() {
    let receiver = receiver().await;
    let (settings, _folder) = settings(&receiver, Some(SECRET), "");
    let channel = channel(&settings);
    let _ = client::tell(&channel, &channel.messages(&firing(), "main")[0], NOW_MS).await;
    let (seen, _) = receiver.seen().pop().unwrap();
    let header = seen.header("x-hostbus-signature").unwrap();

    let page = include_str!("../../../docs/alerts-channels.md");
    let sample = page.split("```python\n").nth(1).unwrap();
    let sample = sample.split("```").next().unwrap();
    let verify = |secret: &str, header: &str, body: &[u8]| {
        let call = format!(
            "{sample}\nimport sys\nbody = sys.stdin.buffer.read()\n\
             sys.exit(0 if verify({secret:?}, {header:?}, body, now={}) else 9)",
            NOW_MS / 1000
        );
        let mut python = Command::new("python3")
            .args(["-c", &call])
            .stdin(Stdio::piped())
            .spawn()
            .expect("the documentation's sample is Python: install `python3`");
        python.stdin.take().unwrap().write_all(body).unwrap();
        python.wait().unwrap().code()
    };
    assert_eq!(verify(SECRET, header, &seen.body), Some(0));
    assert_eq!(verify("SECother", header, &seen.body), Some(9));
    assert_eq!(verify(SECRET, header, b"{}"), Some(9));
    assert_eq!(
        verify(SECRET, &header.replace("t=17", "t=16"), &seen.body),
        Some(9)
    );
    assert_eq!(verify(SECRET, "", &seen.body), Some(9));
}
