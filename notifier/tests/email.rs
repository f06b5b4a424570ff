//! Mail against a real server, and against ones that misbehave.

#![expect(clippy::unwrap_used, reason = "test code")]

mod mail;

use hostbus_notifier::channels::{Channel, ChannelConfig, Message, Verdict};
use hostbus_notifier::notice::{Line, Notice, Reason};
use hostbus_notifier::template::Language;
use hostbus_wire::alert::{Alert, AlertKey, AlertSeverity, AlertState};
use jiff::tz::TimeZone;
use mail::MailServer;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

fn notice(nodes: usize) -> Notice {
    let line = |number: usize| {
        let key = AlertKey {
            node: format!("home.web{number}").parse().unwrap(),
            rule: "disk-full".into(),
            instance: Some("/data".into()),
        };
        let alert = Alert {
            fingerprint: key.fingerprint(),
            state: AlertState::Firing,
            severity: AlertSeverity::Critical,
            since: 1_763_630_000_000,
            summary: format!("/data <b>of {number}</b> is 97 % full"),
            ..Alert::default()
        };
        Line {
            key,
            alert,
            firing_since: 1_763_630_000_000,
            was: None,
            flaps: 0,
            repeated: false,
        }
    };
    Notice {
        id: 42,
        channel: "mail".to_owned(),
        reason: Reason::Firing,
        group: "rule disk-full".to_owned(),
        formed_ms: 1_763_630_000_123,
        lines: (0..nodes).map(line).collect(),
        still_firing: 0,
    }
}

/// A channel to `localhost` with more settings.
fn channel(port: u16, to: &[&str], more: &str) -> Channel {
    let text = format!(
        "type = \"email\"\nserver = \"localhost\"\nport = {port}\n\
         from = \"hostbus <bus@example.net>\"\nto = {to:?}\n{more}"
    );
    let config: ChannelConfig = toml::from_str(&text).unwrap();
    Channel::open("mail", &config, Language::default(), &TimeZone::UTC).unwrap()
}

/// The one message that a notice becomes.
fn message(channel: &Channel, notice: &Notice) -> Message {
    let mut messages = channel.messages(notice, "main");
    assert_eq!(messages.len(), 1);
    messages.remove(0)
}

async fn send(channel: &Channel) -> Verdict {
    let message = message(channel, &notice(1));
    channel.send(&message).await.expect("mail is no HTTP")
}

fn header<'m>(mail: &'m Value, name: &str) -> &'m str {
    let headers = mail["headers"].as_array().unwrap();
    let found = headers.iter().find(|header| header[0] == name);
    found.unwrap_or_else(|| panic!("{name} in {mail:#}"))[1]
        .as_str()
        .unwrap()
}

#[track_caller]
fn retried(verdict: &Verdict, word: &str) {
    match verdict {
        Verdict::Retry { reason, .. } => assert!(reason.contains(word), "{word} in {reason}"),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn broken(verdict: &Verdict, word: &str) {
    match verdict {
        Verdict::Broken { reason } => assert!(reason.contains(word), "{word} in {reason}"),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(verdict: &Verdict, word: &str) {
    match verdict {
        Verdict::Refused { reason } => assert!(reason.contains(word), "{word} in {reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_mail_arrives_through_each_kind_of_connection() {
    for tls in ["starttls", "tls", "none"] {
        let server = MailServer::start(tls, Some(("me", "hunter2")));
        let password = server.file("password", "hunter2\n");
        let mut more = format!("tls = {tls:?}\nuser = \"me\"\npassword_file = {password:?}\n");
        if tls != "none" {
            more += &format!("ca_file = {:?}", server.certificate());
        }
        let channel = channel(
            server.port,
            &["Ops <ops@example.com>", "b@example.com"],
            &more,
        );
        assert_eq!(send(&channel).await, Verdict::Delivered, "{tls}");
        let mail = server.mail();
        assert_eq!(mail["encrypted"], tls != "none", "{tls}");
        assert_eq!(mail["login"], "me");
        assert_eq!(mail["from"], "bus@example.net");
        assert_eq!(
            mail["to"],
            serde_json::json!(["ops@example.com", "b@example.com"])
        );
        assert_eq!(
            header(&mail, "Message-ID"),
            "<main-42.1763630000123.mail@example.net>"
        );
        assert_eq!(header(&mail, "Auto-Submitted"), "auto-generated");
        assert_eq!(header(&mail, "X-Hostbus-Severity"), "critical");
        let (text, html) = (&mail["parts"]["text/plain"], &mail["parts"]["text/html"]);
        assert!(
            text.as_str()
                .unwrap()
                .contains("/data <b>of 0</b> is 97 % full"),
            "{mail:#}"
        );
        let html = html.as_str().unwrap();
        assert!(
            html.contains("/data &lt;b&gt;of 0&lt;/b&gt; is 97 % full"),
            "{html}"
        );
        assert!(server.stop().is_empty());
    }
}

#[tokio::test]
async fn nothing_is_said_to_a_server_that_is_not_trusted() {
    let server = MailServer::start("starttls", None);
    let stranger = channel(server.port, &["a@example.com"], "");
    retried(&send(&stranger).await, "`ca_file`");
    assert!(server.stop().is_empty());
    let server = MailServer::start("none", None);
    let more = format!("ca_file = {:?}", server.certificate());
    let stripped = channel(server.port, &["a@example.com"], &more);
    retried(&send(&stripped).await, "STARTTLS");
    assert!(server.stop().is_empty());
}

#[tokio::test]
async fn a_wrong_password_is_refused_with_a_way_to_mend_it() {
    let server = MailServer::start("none", Some(("me", "hunter2")));
    let password = server.file("password", "sesame");
    let more = format!("tls = \"none\"\nuser = \"me\"\npassword_file = {password:?}");
    let verdict = send(&channel(server.port, &["a@example.com"], &more)).await;
    broken(&verdict, "535");
    broken(&verdict, "check `user` and the password");
    let anonymous = channel(server.port, &["a@example.com"], "tls = \"none\"");
    broken(&send(&anonymous).await, "it wants a login");
    assert!(server.stop().is_empty());
}

#[tokio::test]
async fn a_wrong_recipient_keeps_nobody_elses_mail() {
    let server = MailServer::start("none", None);
    let to = |to: &[&str]| channel(server.port, to, "tls = \"none\"");
    let mixed = to(&["unknown@example.com", "a@example.com", "relay@example.org"]);
    assert_eq!(send(&mixed).await, Verdict::Delivered);
    assert_eq!(server.mail()["to"], serde_json::json!(["a@example.com"]));
    broken(&send(&to(&["unknown@example.com"])).await, "no such user");
    broken(&send(&to(&["relay@example.com"])).await, "relay");
    refused(&send(&to(&["picky@example.com"])).await, "spam");
    retried(
        &send(&to(&["busy@example.com", "unknown@example.com"])).await,
        "mailbox full",
    );
    assert!(server.stop().is_empty());
}

#[tokio::test]
async fn who_is_turned_away_for_now_gets_the_mail_later_and_nobody_gets_it_twice() {
    let server = MailServer::start("none", None);
    let to = ["grey@example.com", "a@example.com"];
    let channel = channel(server.port, &to, "tls = \"none\"");
    retried(&send(&channel).await, "greylisted");
    assert_eq!(server.mail()["to"], serde_json::json!(["a@example.com"]));
    assert_eq!(send(&channel).await, Verdict::Delivered);
    assert_eq!(server.mail()["to"], serde_json::json!(["grey@example.com"]));
    assert!(server.stop().is_empty());
}

#[tokio::test]
async fn a_repetition_after_a_lost_answer_can_be_told_by_its_id() {
    let server = MailServer::start("none", None);
    let channel = channel(server.port, &["lost@example.com"], "tls = \"none\"");
    retried(&send(&channel).await, "no word");
    retried(&send(&channel).await, "no word");
    let (first, second) = (server.mail(), server.mail());
    assert_eq!(first["headers"], second["headers"]);
}

#[tokio::test]
async fn a_storm_is_one_mail_that_names_every_node() {
    let server = MailServer::start("none", None);
    let channel = channel(server.port, &["a@example.com"], "tls = \"none\"");
    let message = message(&channel, &notice(1000));
    assert_eq!(message.omitted, 0);
    assert_eq!(channel.send(&message).await, Some(Verdict::Delivered));
    let mail = server.mail();
    let text = mail["parts"]["text/plain"].as_str().unwrap();
    for number in 0..1000 {
        assert!(text.contains(&format!("web{number}")), "{number}");
    }
}

#[tokio::test]
async fn a_server_that_repeats_the_password_does_not_bring_it_into_a_log() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "hunter2").unwrap();
    let more = format!("tls = \"none\"\nuser = \"me\"\npassword_file = {password:?}");
    let channel = channel(port, &["a@example.com"], &more);
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 hello\r\n").await.unwrap();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            let answer = match line.strip_prefix("AUTH ") {
                Some(login) => format!("535 hunter2 is wrong: {login}"),
                None => "250-mail\r\n250 AUTH PLAIN LOGIN\r\n".to_owned(),
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    };
    let verdict = tokio::select! {
        verdict = send(&channel) => verdict,
        () = serve => unreachable!("it serves for ever"),
    };
    broken(&verdict, "… is wrong: PLAIN …");
    assert!(!format!("{verdict:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_mail_that_was_taken_is_delivered_however_the_good_bye_goes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let channel = channel(port, &["a@example.com"], "tls = \"none\"");
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 hello\r\n").await.unwrap();
        let mut in_mail = false;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            let answer = match line.split([' ', '\r']).next().unwrap() {
                "." => {
                    in_mail = false;
                    "250 taken\r\n"
                }
                _ if in_mail => continue,
                "DATA" => {
                    in_mail = true;
                    "354 go on\r\n"
                }
                // It says nothing any more.
                "QUIT" => return std::future::pending::<()>().await,
                _ => "250 OK\r\n",
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    };
    tokio::select! {
        verdict = send(&channel) => assert_eq!(verdict, Verdict::Delivered),
        () = serve => {}
    }
}

#[tokio::test]
async fn a_server_that_is_away_busy_or_silent_is_tried_again() {
    let check = async |says: Option<&'static [u8]>, closes: bool, word: &str| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let channel = channel(
            port,
            &["a@example.com"],
            "tls = \"none\"\ntimeout_seconds = 1",
        );
        // Nobody listens any more where nothing is to be said.
        let listener = says.map(|_| listener);
        let serve = async move {
            let (Some(listener), Some(says)) = (listener, says) else {
                return std::future::pending::<()>().await;
            };
            let (mut stream, _) = listener.accept().await.unwrap();
            // Whether it still listens is the client's affair.
            let _ = stream.write_all(says).await;
            if closes {
                drop(stream);
                return std::future::pending().await;
            }
            let mut heard = Vec::new();
            let _ = stream.read_to_end(&mut heard).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            verdict = send(&channel) => retried(&verdict, word),
            () = serve => {}
        }
    };
    check(None, false, "refused").await;
    check(Some(b""), false, "`timeout_seconds`").await;
    check(Some(b""), true, "no word").await;
    check(Some(b"421 4.3.2 too busy\r\n"), true, "421 4.3.2 too busy").await;
    check(Some(b"220 hello\r\n"), false, "`timeout_seconds`").await;
    check(Some(b"HTTP/1.1 400 Bad Request\r\n\r\n"), true, "no word").await;
    let endless: &[u8] = &[b'2'; 100_000];
    check(Some(endless), false, "").await;
}
