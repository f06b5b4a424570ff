//! A custom robot of DingTalk.

use serde_json::{Value, json};

use super::{Rate, Reply, Seen, Service, digest};

/// What one group's robot is set to.
#[derive(Debug, Default)]
pub struct DingTalkRobot {
    pub token: String,
    /// The secret, if it asks for signatures.
    pub secret: Option<String>,
    /// A word that must stand in each message.
    pub keyword: Option<String>,
    /// Whether this host's address is allowed.
    pub foreign_address: bool,
    pub now_ms: u64,
    pub rate: Rate,
}

impl Service for DingTalkRobot {
    fn answer(&mut self, request: &Seen) -> Reply {
        if request.path != "/robot/send"
            || request.query_value("access_token") != Some(self.token.as_str())
        {
            return Reply::errcode(300_001, "token is not exist");
        }
        if !request.is_json() {
            return Reply::errcode(43_004, "无效的HTTP HEADER Content-Type");
        }
        let Some(body) = request.json().filter(is_markdown) else {
            return Reply::errcode(40_035, "不合法的参数");
        };
        if request.body.len() > 20_000 {
            return Reply::errcode(40_035, "不合法的参数: message too long");
        }
        if self.foreign_address {
            return Reply::errcode(310_000, "ip 10.0.0.1 not in whitelist");
        }
        if let Some(secret) = &self.secret
            && let Err(problem) = self.check(request, secret)
        {
            return Reply::errcode(310_000, problem);
        }
        let text = body["markdown"].to_string();
        if self
            .keyword
            .as_ref()
            .is_some_and(|word| !text.contains(word))
        {
            return Reply::errcode(310_000, "keywords not in content");
        }
        if !self.rate.take(self.now_ms, 20) {
            return Reply::errcode(130_101, "send too fast, exceed 20 times per minute");
        }
        Reply::errcode(0, "ok")
    }
}

impl DingTalkRobot {
    fn check(&self, request: &Seen, secret: &str) -> Result<(), &'static str> {
        let timestamp = request.query_value("timestamp").unwrap_or_default();
        let ms: u64 = timestamp.parse().map_err(|_| "invalid timestamp")?;
        if ms.abs_diff(self.now_ms) > 3_600_000 {
            return Err("invalid timestamp");
        }
        let message = format!("{timestamp}\n{secret}");
        let digest = digest::hmac_sha256(secret.as_bytes(), message.as_bytes());
        let sign = digest::percent_encoded(&digest::base64(&digest));
        match request.query_value("sign") == Some(sign.as_str()) {
            true => Ok(()),
            false => Err("sign not match"),
        }
    }
}

fn is_markdown(body: &Value) -> bool {
    let text = |key: &str| {
        let text = body["markdown"][key].as_str();
        text.is_some_and(|text| !text.is_empty())
    };
    body["msgtype"] == "markdown"
        && text("title")
        && text("text")
        && body["at"]["isAtAll"] == json!(false)
}
