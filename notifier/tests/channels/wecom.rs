//! WeCom.

use crate::standin::notices::{NOW_MS, channel, firing, hostile};
use crate::standin::wecom::WeComRobot;
use crate::standin::{Reply, Standin, client};
use crate::{Wanted, judge};

const KEY: &str = "693a91f6-7xxx";

async fn robot() -> Standin<WeComRobot> {
    Standin::start(WeComRobot {
        key: KEY.to_owned(),
        now_ms: NOW_MS,
        ..WeComRobot::default()
    })
    .await
}

fn settings(robot: &Standin<WeComRobot>, key: &str) -> String {
    let url = robot.url(&format!("/cgi-bin/webhook/send?key={key}"));
    format!("type = \"wecom\"\nurl = {url:?}\n")
}

#[tokio::test]
async fn what_wecom_says_is_understood() {
    let robot = robot().await;
    let code = |errcode, errmsg: &str| Some(Reply::errcode(errcode, errmsg));
    let page = |status| Reply {
        body: format!("The requested URL /cgi-bin/webhook/send?key={KEY} is not here"),
        ..Reply::status(status)
    };
    for (key, reply, wanted) in [
        (KEY, Some(page(404)), Wanted::Broken("The requested URL")),
        (KEY, None, Wanted::Delivered),
        ("other", None, Wanted::Broken("copy it anew")),
        (
            KEY,
            code(45_009, "api freq out of limit"),
            Wanted::Retry(Some(60), "45009"),
        ),
        (
            KEY,
            code(-1, "system busy"),
            Wanted::Retry(None, "system busy"),
        ),
        (
            KEY,
            code(40_058, "exceed max length 4096"),
            Wanted::Refused("text_template"),
        ),
        (
            KEY,
            code(93_008, "not in group"),
            Wanted::Broken("add it again"),
        ),
        (
            KEY,
            code(93_004, "robot disabled"),
            Wanted::Broken("switch it on"),
        ),
        (KEY, code(12_345, "new"), Wanted::Retry(None, "12345")),
        (
            KEY,
            Some(Reply::status(200)),
            Wanted::Retry(None, "HTTP 200"),
        ),
        (
            KEY,
            Some(Reply::status(500)),
            Wanted::Retry(None, "HTTP 500"),
        ),
        (
            KEY,
            Some(Reply::status(404)),
            Wanted::Broken("webhook address"),
        ),
    ] {
        let channel = channel(&settings(&robot, key));
        if let Some(reply) = reply {
            robot.answer_next(reply);
        }
        let verdict = client::tell(&channel, &channel.messages(&firing(), "main")[0], NOW_MS).await;
        judge(&verdict, &wanted, &[KEY]);
    }
}

#[tokio::test]
async fn hostile_text_mentions_nobody_and_makes_no_markup() {
    let robot = robot().await;
    let channel = channel(&settings(&robot, KEY));
    let messages = channel.messages(&hostile(), "main");
    let verdict = client::tell(&channel, &messages[0], NOW_MS).await;
    judge(&verdict, &Wanted::Delivered, &[]);
    let body = robot.seen()[0].0.json().unwrap();
    let text = body["markdown"]["content"].as_str().unwrap();
    assert!(!text.contains(['<', '>', '[', ']', '@']), "{text}");
}

#[tokio::test]
async fn more_than_the_pace_waits_a_minute() {
    let robot = robot().await;
    let channel = channel(&settings(&robot, KEY));
    let message = &channel.messages(&firing(), "main")[0];
    for _ in 0..channel.pace().burst {
        let verdict = client::tell(&channel, message, NOW_MS).await;
        judge(&verdict, &Wanted::Delivered, &[]);
    }
    let verdict = client::tell(&channel, message, NOW_MS).await;
    judge(&verdict, &Wanted::Retry(Some(60), "45009"), &[]);
}
