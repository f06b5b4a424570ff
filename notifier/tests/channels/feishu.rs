//! Feishu.

use hostbus_notifier::channels::feishu::signature;
use hostbus_notifier::notice::Notice;

use crate::standin::feishu::FeishuBot;
use crate::standin::notices::{NOW_MS, channel, firing, hostile, notice, over, resolved, test};
use crate::standin::{Reply, Standin, client, digest};
use crate::{Wanted, judge};

/// What is different about the service.
type Change = fn(&mut FeishuBot);

const TOKEN: &str = "0a1b2c3d";
const SECRET: &str = "SECtest";

async fn bot() -> Standin<FeishuBot> {
    Standin::start(FeishuBot {
        token: TOKEN.to_owned(),
        secret: Some(SECRET.to_owned()),
        now_ms: NOW_MS,
        ..FeishuBot::default()
    })
    .await
}

/// The settings of a channel to the bot with this token and signing secret.
fn settings(
    bot: &Standin<FeishuBot>,
    token: &str,
    secret: Option<&str>,
) -> (String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("url");
    std::fs::write(&url, bot.url(&format!("/open-apis/bot/v2/hook/{token}"))).unwrap();
    let mut text = format!("type = \"feishu\"\nurl_file = {url:?}\n");
    if let Some(secret) = secret {
        let file = folder.path().join("secret");
        std::fs::write(&file, secret).unwrap();
        text.push_str(&format!("secret_file = {file:?}\n"));
    }
    (text, folder)
}

#[test]
fn the_signature_is_the_one_that_feishu_documents() {
    let vector = "G7XpBpG8NgG02fJOAhX6FRAObIljmFoxVReo8I62pEk=";
    assert_eq!(signature(1_700_000_000, SECRET), vector);
    let second = digest::hmac_sha256(b"1700000000\nSECtest", b"");
    assert_eq!(digest::base64(&second), vector);
}

#[tokio::test]
async fn a_card_has_the_colour_of_the_worst_that_fires() {
    let bot = bot().await;
    let (settings, _folder) = settings(&bot, TOKEN, Some(SECRET));
    let channel = channel(&settings);
    let mut mixed = firing();
    mixed.lines.push(over(firing().lines.remove(0)));
    let warning = notice(hostbus_notifier::notice::Reason::Firing, hostile().lines);
    for (notice, colour) in [
        (firing(), "red"),
        (mixed, "red"),
        (warning, "orange"),
        (resolved(), "green"),
        (test(), "blue"),
    ] {
        let messages = channel.messages(&notice, "main");
        assert_eq!(messages.len(), 1);
        let verdict = client::tell(&channel, &messages[0], NOW_MS).await;
        judge(&verdict, &Wanted::Delivered, &[]);
        let (seen, _) = bot.seen().pop().unwrap();
        let body = seen.json().unwrap();
        assert_eq!(body["card"]["header"]["template"], colour);
    }
}

#[tokio::test]
async fn hostile_text_mentions_nobody_and_makes_no_markup() {
    let bot = bot().await;
    let (settings, _folder) = settings(&bot, TOKEN, Some(SECRET));
    let channel = channel(&settings);
    let messages = channel.messages(&hostile(), "main");
    let verdict = client::tell(&channel, &messages[0], NOW_MS).await;
    judge(&verdict, &Wanted::Delivered, &[]);
    let body = bot.seen()[0].0.json().unwrap();
    let text = body["card"]["elements"][0]["content"].as_str().unwrap();
    assert!(!text.contains(['<', '>', '[', ']']), "{text}");
    assert!(text.contains("&#60;at id=all&#62;"), "{text}");
}

#[tokio::test]
async fn what_feishu_says_is_understood() {
    let verdict_of = |change: Change, secret: Option<&'static str>, token: &'static str| async move {
        let bot = bot().await;
        bot.change(change);
        let (settings, _folder) = settings(&bot, token, secret);
        let channel = channel(&settings);
        let messages = channel.messages(&firing(), "main");
        client::tell(&channel, &messages[0], NOW_MS).await
    };
    let good = Some(SECRET);
    let cases: [(Change, _, _, Wanted); 8] = [
        (|_| {}, good, TOKEN, Wanted::Delivered),
        (|bot| bot.secret = None, None, TOKEN, Wanted::Delivered),
        (
            |_| {},
            Some("SECother"),
            TOKEN,
            Wanted::Broken("signing secret"),
        ),
        (|_| {}, None, TOKEN, Wanted::Broken("code 19021")),
        (
            |bot| bot.now_ms += 7_200_000,
            good,
            TOKEN,
            Wanted::Broken("clock"),
        ),
        (
            |bot| bot.foreign_address = true,
            good,
            TOKEN,
            Wanted::Broken("allowed IP"),
        ),
        (
            |bot| bot.keyword = Some("monitor".to_owned()),
            good,
            TOKEN,
            Wanted::Broken("keyword"),
        ),
        (|_| {}, good, "other", Wanted::Broken("copy it anew")),
    ];
    for (change, secret, token, wanted) in cases {
        let verdict = verdict_of(change, secret, token).await;
        judge(&verdict, &wanted, &[SECRET, TOKEN, "SECother"]);
    }
}

#[tokio::test]
async fn answers_of_other_shapes_are_judged_with_care() {
    let bot = bot().await;
    let (settings, _folder) = settings(&bot, TOKEN, Some(SECRET));
    let channel = channel(&settings);
    let messages = channel.messages(&firing(), "main");
    let json = |text: &str| Reply::json(200, &serde_json::from_str(text).unwrap());
    let limited = r#"{"code":11232,"msg":"frequency limited"}"#;
    let page = |status| Reply {
        body: format!("<h1>Not Found</h1> The requested URL /x/{TOKEN}/y?z={TOKEN} is not here"),
        ..Reply::status(status)
    };
    for (reply, wanted) in [
        (page(404), Wanted::Broken("The requested URL")),
        (page(502), Wanted::Retry(None, "The requested URL")),
        (
            json(r#"{"StatusCode":0,"StatusMessage":"success"}"#),
            Wanted::Delivered,
        ),
        (
            json(r#"{"code":9499,"msg":"Bad Request","data":{}}"#),
            Wanted::Refused("text_template"),
        ),
        (
            json(r#"{"code":9499,"msg":"too many request"}"#),
            Wanted::Retry(None, "too many"),
        ),
        (
            Reply {
                status: 400,
                ..json(r#"{"code":9499,"msg":"Too Many Requests"}"#)
            },
            Wanted::Retry(None, "9499"),
        ),
        (
            json(r#"{"code":11246,"msg":"card content is invalid"}"#),
            Wanted::Refused("text_template"),
        ),
        (
            json(r#"{"code":19002,"msg":"params error, msg_type need"}"#),
            Wanted::Refused("19002"),
        ),
        (
            json(r#"{"code":19003,"msg":"internal"}"#),
            Wanted::Retry(None, "19003"),
        ),
        (
            json(r#"{"code":19007,"msg":"Bot Not Enabled"}"#),
            Wanted::Broken("switch it on"),
        ),
        (json(limited), Wanted::Retry(None, "frequency limited")),
        (
            json(limited).with("retry-after", "7"),
            Wanted::Retry(Some(7), "11232"),
        ),
        (
            json(r#"{"code":1500,"msg":"internal"}"#),
            Wanted::Retry(None, "1500"),
        ),
        (json("{}"), Wanted::Retry(None, "HTTP 200")),
        (json("[0]"), Wanted::Retry(None, "HTTP 200")),
        (Reply::status(502), Wanted::Retry(None, "HTTP 502")),
        (Reply::status(404), Wanted::Broken("webhook address")),
    ] {
        bot.answer_next(reply);
        let verdict = client::tell(&channel, &messages[0], NOW_MS).await;
        judge(&verdict, &wanted, &[SECRET, TOKEN]);
    }
}

#[tokio::test]
async fn more_than_the_pace_is_answered_by_retry() {
    let bot = bot().await;
    let (settings, _folder) = settings(&bot, TOKEN, Some(SECRET));
    let channel = channel(&settings);
    let notice: Notice = firing();
    let message = &channel.messages(&notice, "main")[0];
    for _ in 0..channel.pace().burst {
        let verdict = client::tell(&channel, message, NOW_MS).await;
        judge(&verdict, &Wanted::Delivered, &[]);
    }
    let verdict = client::tell(&channel, message, NOW_MS).await;
    judge(&verdict, &Wanted::Retry(None, "11232"), &[]);
}
