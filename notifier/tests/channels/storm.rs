//! A thousand alerts at once: few messages, each within the service's limits, and every node named.

use crate::standin::dingtalk::DingTalkRobot;
use crate::standin::feishu::FeishuBot;
use crate::standin::notices::{NOW_MS, channel, storm};
use crate::standin::receiver::Receiver;
use crate::standin::telegram::BotApi;
use crate::standin::wecom::WeComRobot;
use crate::standin::{Service, Standin, client};
use crate::{Wanted, judge};

/// Tells a storm of `count` nodes through a channel with these settings.
async fn check<S: Service>(
    standin: Standin<S>,
    settings: &str,
    count: usize,
    most_messages: usize,
    most_unnamed: usize,
) {
    let channel = channel(settings);
    let messages = channel.messages(&storm(count), "main");
    let kind = channel.kind();
    assert!(
        messages.len() <= most_messages,
        "{kind}: {}",
        messages.len()
    );
    let limits = channel.limits();
    for message in &messages {
        assert!(
            limits.title.fits(&message.title),
            "{kind}: {}",
            message.title
        );
        assert!(
            limits.text.fits(&message.text),
            "{kind}: {}",
            message.text.len()
        );
        let verdict = client::tell(&channel, message, NOW_MS).await;
        judge(&verdict, &Wanted::Delivered, &[]);
    }
    let all: String = standin
        .seen()
        .iter()
        .map(|(seen, _)| String::from_utf8(seen.body.clone()).unwrap())
        .collect();
    let unnamed = (1..=count)
        .filter(|at| !all.contains(&format!("web{at:04}")))
        .count();
    let omitted: usize = messages.iter().map(|message| message.omitted).sum();
    assert_eq!(unnamed, omitted, "{kind}");
    assert!(unnamed <= most_unnamed, "{kind}: {unnamed} unnamed");
    if unnamed > 0 {
        let last = &messages.last().unwrap().text;
        assert!(
            last.ends_with(&format!("… and {unnamed} more")),
            "{kind}: {last}"
        );
    }
    if messages.len() > 1 {
        let end = format!("({0}/{0})", messages.len());
        assert!(messages.last().unwrap().title.ends_with(&end), "{kind}");
    }
}

#[tokio::test]
async fn a_thousand_nodes_are_all_named_by_every_channel() {
    let bot = FeishuBot {
        token: "t".to_owned(),
        now_ms: NOW_MS,
        ..FeishuBot::default()
    };
    let standin = Standin::start(bot).await;
    let url = standin.url("/open-apis/bot/v2/hook/t");
    check(
        standin,
        &format!("type = \"feishu\"\nurl = {url:?}"),
        1000,
        1,
        0,
    )
    .await;

    let robot = DingTalkRobot {
        token: "t".to_owned(),
        now_ms: NOW_MS,
        ..DingTalkRobot::default()
    };
    let standin = Standin::start(robot).await;
    let url = standin.url("/robot/send?access_token=t");
    check(
        standin,
        &format!("type = \"dingtalk\"\nurl = {url:?}"),
        1000,
        1,
        0,
    )
    .await;

    let receiver = Receiver::default();
    let standin = Standin::start(receiver).await;
    let url = standin.url("/hook");
    check(
        standin,
        &format!("type = \"webhook\"\nurl = {url:?}"),
        1000,
        2,
        0,
    )
    .await;

    let (standin, settings) = wecom().await;
    check(standin, &settings, 1000, 3, 0).await;

    let (standin, settings, _folder) = telegram("").await;
    check(standin, &settings, 1000, 3, 0).await;
}

#[tokio::test]
async fn what_five_messages_cannot_name_is_counted() {
    let (standin, settings) = wecom().await;
    check(standin, &settings, 3000, 5, 1200).await;
    let (standin, settings, _folder) = telegram("messages = 1").await;
    check(standin, &settings, 3000, 1, 2650).await;
}

async fn wecom() -> (Standin<WeComRobot>, String) {
    let robot = WeComRobot {
        key: "k".to_owned(),
        now_ms: NOW_MS,
        ..WeComRobot::default()
    };
    let standin = Standin::start(robot).await;
    let url = standin.url("/cgi-bin/webhook/send?key=k");
    let settings = format!("type = \"wecom\"\nurl = {url:?}");
    (standin, settings)
}

async fn telegram(more: &str) -> (Standin<BotApi>, String, tempfile::TempDir) {
    let api = BotApi {
        token: "1:AAbbccddeeffgghhiijjkk".to_owned(),
        chat: 5,
        now_ms: NOW_MS,
        ..BotApi::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, &api.token).unwrap();
    let standin = Standin::start(api).await;
    let base = standin.url("/");
    let settings = format!(
        "type = \"telegram\"\nchat_id = 5\ntoken_file = {file:?}\nbase_url = {base:?}\n{more}"
    );
    (standin, settings, folder)
}
