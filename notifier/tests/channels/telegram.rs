//! Telegram.

use hostbus_notifier::channels::Message;

use crate::standin::notices::{NOW_MS, channel, firing, hostile, resolved};
use crate::standin::telegram::{BotApi, parsed};
use crate::standin::{Reply, Standin, client};
use crate::{Wanted, judge};

/// What is different about the service.
type Change = fn(&mut BotApi);

const TOKEN: &str = "123456:AAbbccddeeffgghhiijjkkllmmnnooppqqr";
const CHAT: i64 = -1_001_234_567_890;

async fn api() -> Standin<BotApi> {
    Standin::start(BotApi {
        token: TOKEN.to_owned(),
        chat: CHAT,
        topics: vec![7],
        now_ms: NOW_MS,
        ..BotApi::default()
    })
    .await
}

fn settings(api: &Standin<BotApi>, token: &str, more: &str) -> (String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, token).unwrap();
    let base = api.url("");
    let text = format!("type = \"telegram\"\ntoken_file = {file:?}\nbase_url = {base:?}\n{more}\n");
    (text, folder)
}

#[tokio::test]
async fn what_telegram_says_is_understood() {
    let chat = format!("chat_id = {CHAT}");
    let topic = format!("{chat}\nmessage_thread_id = 7");
    let no_topic = format!("{chat}\nmessage_thread_id = 8");
    let other_token = "123456:XXbbccddeeffgghhiijjkkllmmnnooppqqr";
    let cases: [(Change, &str, &str, Wanted); 8] = [
        (|_| {}, TOKEN, &chat, Wanted::Delivered),
        (|_| {}, TOKEN, &topic, Wanted::Delivered),
        (|_| {}, TOKEN, &no_topic, Wanted::Broken("no open topic")),
        (
            |_| {},
            TOKEN,
            "chat_id = 5",
            Wanted::Broken("begins with -"),
        ),
        (
            |_| {},
            TOKEN,
            "chat_id = \"@elsewhere\"",
            Wanted::Broken("chat not found"),
        ),
        (|_| {}, other_token, &chat, Wanted::Broken("@BotFather")),
        (
            |api| api.kicked = true,
            TOKEN,
            &chat,
            Wanted::Broken("add it to the group again"),
        ),
        (
            |api| api.moved_to = Some(-1009),
            TOKEN,
            &chat,
            Wanted::Broken("set `chat_id = -1009`"),
        ),
    ];
    for (change, token, more, wanted) in cases {
        let api = api().await;
        api.change(change);
        let (settings, _folder) = settings(&api, token, more);
        let channel = channel(&settings);
        let verdict = client::tell(&channel, &channel.messages(&firing(), "main")[0], NOW_MS).await;
        judge(&verdict, &wanted, &[TOKEN, other_token]);
    }
}

#[tokio::test]
async fn answers_of_other_shapes_are_judged_with_care() {
    let api = api().await;
    let (settings, _folder) = settings(&api, TOKEN, &format!("chat_id = {CHAT}"));
    let channel = channel(&settings);
    let message = &channel.messages(&firing(), "main")[0];
    let error = |code: u16, description: &str| {
        let body = serde_json::json!({"ok": false, "error_code": code, "description": description});
        Reply::json(code, &body)
    };
    let page = |status| Reply {
        body: format!("<h1>Not Found</h1> The requested URL /x/{TOKEN}/y?z={TOKEN} is not here"),
        ..Reply::status(status)
    };
    for (reply, wanted) in [
        (page(404), Wanted::Broken("The requested URL")),
        (page(502), Wanted::Retry(None, "The requested URL")),
        (
            error(429, "Too Many Requests").with("retry-after", "5"),
            Wanted::Retry(Some(5), "429"),
        ),
        (
            error(500, "Internal Server Error"),
            Wanted::Retry(None, "500"),
        ),
        (
            error(400, "Bad Request: can't parse entities: x"),
            Wanted::Refused("text_template"),
        ),
        (error(404, "Not Found"), Wanted::Broken("token is wrong")),
        (error(409, "Conflict"), Wanted::Refused("base_url")),
        (
            error(
                400,
                "Bad Request: not enough rights to send text messages to the chat",
            ),
            Wanted::Broken("administrators"),
        ),
        (
            error(400, "Bad Request: have no write access to the chat"),
            Wanted::Broken("administrators"),
        ),
        (
            error(
                400,
                "Bad Request: need administrator rights in the channel chat",
            ),
            Wanted::Broken("administrators"),
        ),
        (
            error(400, "Bad Request: CHAT_SEND_PLAIN_FORBIDDEN"),
            Wanted::Broken("administrators"),
        ),
        (
            error(400, "Bad Request: CHAT_RESTRICTED"),
            Wanted::Broken("administrators"),
        ),
        (
            error(400, "Bad Request: CHAT_ADMIN_REQUIRED"),
            Wanted::Broken("administrators"),
        ),
        (
            error(400, "Bad Request: USER_BANNED_IN_CHANNEL"),
            Wanted::Broken("administrators"),
        ),
        (
            error(400, "Bad Request: CHANNEL_PRIVATE"),
            Wanted::Broken("`chat_id`"),
        ),
        (
            error(400, "Bad Request: ALLOW_PAYMENT_REQUIRED"),
            Wanted::Broken("pay for it"),
        ),
        (
            error(400, "Bad Request: Logged out"),
            Wanted::Broken("@BotFather"),
        ),
        (
            error(400, "Bad Request: FROZEN_METHOD_INVALID"),
            Wanted::Broken("@BotFather"),
        ),
        (
            error(400, "Bad Request: message is too long"),
            Wanted::Refused("templates"),
        ),
        (Reply::status(502), Wanted::Retry(None, "HTTP 502")),
        (Reply::status(200), Wanted::Retry(None, "HTTP 200")),
        (Reply::status(403), Wanted::Broken("base_url")),
    ] {
        api.answer_next(reply);
        let verdict = client::tell(&channel, message, NOW_MS).await;
        judge(&verdict, &wanted, &[TOKEN]);
    }
}

#[tokio::test]
async fn what_is_over_is_told_without_a_sound() {
    let api = api().await;
    let (settings, _folder) = settings(&api, TOKEN, &format!("chat_id = {CHAT}"));
    let channel = channel(&settings);
    for (notice, silent) in [(firing(), false), (resolved(), true)] {
        let messages = channel.messages(&notice, "main");
        let verdict = client::tell(&channel, &messages[0], NOW_MS).await;
        judge(&verdict, &Wanted::Delivered, &[]);
        let body = api.seen().pop().unwrap().0.json().unwrap();
        assert_eq!(body["disable_notification"], silent);
    }
}

#[tokio::test]
async fn hostile_text_stays_text() {
    let api = api().await;
    let (settings, _folder) = settings(&api, TOKEN, &format!("chat_id = {CHAT}"));
    let channel = channel(&settings);
    let messages = channel.messages(&hostile(), "main");
    let verdict = client::tell(&channel, &messages[0], NOW_MS).await;
    judge(&verdict, &Wanted::Delivered, &[]);
    let body = api.seen()[0].0.json().unwrap();
    let shown = parsed(body["text"].as_str().unwrap()).unwrap();
    assert!(
        shown.contains("<at id=all></at> <!channel> <@all>"),
        "{shown}"
    );
}

#[tokio::test]
async fn one_endless_line_is_cut_and_every_piece_is_taken() {
    let api = api().await;
    let more = format!("chat_id = {CHAT}\ntext_template = '<b>{{{{ group }}}}</b>'");
    let (settings, _folder) = settings(&api, TOKEN, &more);
    let channel = channel(&settings);
    let mut notice = firing();
    notice.group = "&<😀\"".repeat(2000);
    let messages: Vec<Message> = channel.messages(&notice, "main");
    assert_eq!(messages.len(), 3, "10,000 units of text");
    let mut shown = String::new();
    for message in &messages {
        let verdict = client::tell(&channel, message, NOW_MS).await;
        judge(&verdict, &Wanted::Delivered, &[]);
        shown.push_str(&parsed(&message.text).unwrap());
    }
    assert_eq!(shown, notice.group);
}

#[tokio::test]
async fn more_than_the_pace_waits_as_long_as_telegram_says() {
    let api = api().await;
    let (settings, _folder) = settings(&api, TOKEN, &format!("chat_id = {CHAT}"));
    let channel = channel(&settings);
    let message = &channel.messages(&firing(), "main")[0];
    for _ in 0..channel.pace().burst {
        let verdict = client::tell(&channel, message, NOW_MS).await;
        judge(&verdict, &Wanted::Delivered, &[]);
    }
    let verdict = client::tell(&channel, message, NOW_MS).await;
    judge(&verdict, &Wanted::Retry(Some(37), "Too Many Requests"), &[]);
}
