//! DingTalk.

use hostbus_notifier::channels::dingtalk::signature;

use crate::standin::dingtalk::DingTalkRobot;
use crate::standin::notices::{NOW_MS, channel, firing, hostile};
use crate::standin::{Reply, Standin, client, digest};
use crate::{Wanted, judge};

/// What is different about the service.
type Change = fn(&mut DingTalkRobot);

const TOKEN: &str = "0a1b2c3d";
const SECRET: &str = "SECtest";

async fn robot() -> Standin<DingTalkRobot> {
    Standin::start(DingTalkRobot {
        token: TOKEN.to_owned(),
        secret: Some(SECRET.to_owned()),
        now_ms: NOW_MS,
        ..DingTalkRobot::default()
    })
    .await
}

fn settings(
    robot: &Standin<DingTalkRobot>,
    token: &str,
    secret: Option<&str>,
) -> (String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let url = robot.url(&format!("/robot/send?access_token={token}"));
    let mut text = format!("type = \"dingtalk\"\nurl = {url:?}\n");
    if let Some(secret) = secret {
        let file = folder.path().join("secret");
        std::fs::write(&file, secret).unwrap();
        text.push_str(&format!("secret_file = {file:?}\n"));
    }
    (text, folder)
}

#[tokio::test]
async fn the_signature_is_the_one_that_dingtalk_documents() {
    let vector = "aZLLrriXgn05YbwaGR7knYsLeJADjr9NwLaNNKpxh4g%3D";
    let ours = signature(NOW_MS, SECRET);
    assert_eq!(digest::percent_encoded(&ours), vector);
    let second = digest::hmac_sha256(SECRET.as_bytes(), b"1700000000000\nSECtest");
    assert_eq!(digest::base64(&second), ours);

    let robot = robot().await;
    let (settings, _folder) = settings(&robot, TOKEN, Some(SECRET));
    let channel = channel(&settings);
    let verdict = client::tell(&channel, &channel.messages(&firing(), "main")[0], NOW_MS).await;
    judge(&verdict, &Wanted::Delivered, &[]);
    let query = robot.seen()[0].0.query.clone();
    let wanted = format!("access_token={TOKEN}&timestamp={NOW_MS}&sign={vector}");
    assert_eq!(query, wanted);
}

#[tokio::test]
async fn a_message_that_is_sent_again_bears_the_same_key() {
    let robot = robot().await;
    let (settings, _folder) = settings(&robot, TOKEN, Some(SECRET));
    let channel = channel(&settings);
    let message = &channel.messages(&firing(), "main")[0];
    for later_ms in [0, 5_000] {
        client::tell(&channel, message, NOW_MS + later_ms).await;
    }
    let seen = robot.seen();
    assert_eq!(seen.len(), 2);
    for (request, _) in seen {
        let key = request.json().unwrap()["msgUuid"].clone();
        assert_eq!(key, format!("main-42.{NOW_MS}"));
    }
}

#[tokio::test]
async fn hostile_text_mentions_nobody_and_makes_no_markup() {
    let robot = robot().await;
    let (settings, _folder) = settings(&robot, TOKEN, Some(SECRET));
    let channel = channel(&settings);
    let messages = channel.messages(&hostile(), "main");
    let verdict = client::tell(&channel, &messages[0], NOW_MS).await;
    judge(&verdict, &Wanted::Delivered, &[]);
    let body = robot.seen()[0].0.json().unwrap();
    let text = body["markdown"]["text"].as_str().unwrap();
    assert!(!text.contains(['<', '>', '[', ']', '@']), "{text}");
    assert_eq!(body["at"]["isAtAll"], false);
}

#[tokio::test]
async fn what_dingtalk_says_is_understood() {
    let good = Some(SECRET);
    let cases: [(Change, _, _, Wanted); 8] = [
        (|_| {}, good, TOKEN, Wanted::Delivered),
        (|robot| robot.secret = None, None, TOKEN, Wanted::Delivered),
        (
            |_| {},
            Some("SECother"),
            TOKEN,
            Wanted::Broken("secret_file"),
        ),
        (|_| {}, None, TOKEN, Wanted::Broken("secret_file")),
        (
            |robot| robot.now_ms += 7_200_000,
            good,
            TOKEN,
            Wanted::Broken("clock"),
        ),
        (
            |robot| robot.foreign_address = true,
            good,
            TOKEN,
            Wanted::Broken("allowed addresses"),
        ),
        (
            |robot| robot.keyword = Some("monitor".to_owned()),
            good,
            TOKEN,
            Wanted::Broken("keyword"),
        ),
        (
            |_| {},
            good,
            "other",
            Wanted::Broken("copy the webhook address anew"),
        ),
    ];
    for (change, secret, token, wanted) in cases {
        let robot = robot().await;
        robot.change(change);
        let (settings, _folder) = settings(&robot, token, secret);
        let channel = channel(&settings);
        let messages = channel.messages(&firing(), "main");
        let verdict = client::tell(&channel, &messages[0], NOW_MS).await;
        judge(&verdict, &wanted, &[SECRET, TOKEN, "SECother"]);
    }
}

#[tokio::test]
async fn answers_of_other_shapes_are_judged_with_care() {
    let robot = robot().await;
    let (settings, _folder) = settings(&robot, TOKEN, Some(SECRET));
    let channel = channel(&settings);
    let messages = channel.messages(&firing(), "main");
    let code = Reply::errcode;
    let page = |status| Reply {
        body: format!("<h1>Not Found</h1> The requested URL /x/{TOKEN}/y?z={TOKEN} is not here"),
        ..Reply::status(status)
    };
    for (reply, wanted) in [
        (page(404), Wanted::Broken("The requested URL")),
        (page(502), Wanted::Retry(None, "The requested URL")),
        (code(-1, "系统繁忙"), Wanted::Retry(None, "系统繁忙")),
        (
            code(130_101, "send too fast"),
            Wanted::Retry(Some(600), "too fast"),
        ),
        (
            code(410_100, "发送速度太快而限流"),
            Wanted::Retry(Some(600), "410100"),
        ),
        (
            code(130_101, "slow").with("retry-after", "90"),
            Wanted::Retry(Some(90), "slow"),
        ),
        (
            code(310_000, "关键词不匹配"),
            Wanted::Broken("title_template"),
        ),
        (
            code(310_000, "description:来源地址不在白名单内"),
            Wanted::Broken("allowed addresses"),
        ),
        (
            code(310_000, "description:机器人发送签名不匹配"),
            Wanted::Broken("secret_file"),
        ),
        (
            code(310_000, "description:unheard of;solution:none"),
            Wanted::Broken("keyword, signature or addresses"),
        ),
        (
            code(300_005, "token is not exist"),
            Wanted::Broken("no robot has this token"),
        ),
        (
            code(40_035, "缺少参数 access_token"),
            Wanted::Broken("lacks its `access_token`"),
        ),
        (
            code(460_101, "message too long, exceed 20000 bytes"),
            Wanted::Refused("text_template"),
        ),
        (
            code(101_002, "markdown is too long"),
            Wanted::Refused("101002"),
        ),
        (
            code(400_102, "机器人已停用"),
            Wanted::Broken("switch it on"),
        ),
        (code(430_102, "improper"), Wanted::Refused("forbids")),
        (code(40_035, "bad"), Wanted::Refused("text_template")),
        (code(99_999, "new"), Wanted::Retry(None, "99999")),
        (Reply::status(200), Wanted::Retry(None, "HTTP 200")),
        (Reply::status(503), Wanted::Retry(None, "HTTP 503")),
        (Reply::status(403), Wanted::Broken("webhook address")),
    ] {
        robot.answer_next(reply);
        let verdict = client::tell(&channel, &messages[0], NOW_MS).await;
        judge(&verdict, &wanted, &[SECRET, TOKEN]);
    }
}

#[tokio::test]
async fn more_than_the_pace_waits_ten_minutes() {
    let robot = robot().await;
    let (settings, _folder) = settings(&robot, TOKEN, Some(SECRET));
    let channel = channel(&settings);
    let message = &channel.messages(&firing(), "main")[0];
    for _ in 0..channel.pace().burst {
        let verdict = client::tell(&channel, message, NOW_MS).await;
        judge(&verdict, &Wanted::Delivered, &[]);
    }
    let verdict = client::tell(&channel, message, NOW_MS).await;
    judge(&verdict, &Wanted::Retry(Some(600), "too fast"), &[]);
    robot.change(|robot| robot.now_ms += 600_000);
    let verdict = client::tell(&channel, message, NOW_MS + 600_000).await;
    judge(&verdict, &Wanted::Delivered, &[]);
}
