//! A group robot of WeCom.

use super::{Rate, Reply, Seen, Service};

#[derive(Debug, Default)]
pub struct WeComRobot {
    pub key: String,
    pub now_ms: u64,
    pub rate: Rate,
}

impl Service for WeComRobot {
    fn answer(&mut self, request: &Seen) -> Reply {
        if request.path != "/cgi-bin/webhook/send"
            || request.query_value("key") != Some(self.key.as_str())
        {
            let errmsg = "invalid webhook url, hint: [1700000000], from ip: 127.0.0.1";
            return Reply::errcode(93_000, errmsg);
        }
        let Some(body) = request.json().filter(|_| request.is_json()) else {
            return Reply::errcode(47_001, "data format error");
        };
        if body["msgtype"] != "markdown" {
            return Reply::errcode(40_008, "invalid message type");
        }
        match body["markdown"]["content"].as_str() {
            None | Some("") => return Reply::errcode(44_004, "empty content"),
            Some(text) if text.len() > 4096 => {
                return Reply::errcode(
                    40_058,
                    "markdown.content exceed max length 4096. invalid Request Parameter",
                );
            }
            Some(_) => {}
        }
        if !self.rate.take(self.now_ms, 20) {
            return Reply::errcode(45_009, "api freq out of limit");
        }
        Reply::errcode(0, "ok")
    }
}
