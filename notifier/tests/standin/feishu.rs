//! A custom bot of Feishu.

use serde_json::{Value, json};

use super::{Rate, Reply, Seen, Service, digest};

/// What one group's bot is set to.
#[derive(Debug, Default)]
pub struct FeishuBot {
    pub token: String,
    /// The signing secret, if it asks for signatures.
    pub secret: Option<String>,
    /// A word that must stand in each message.
    pub keyword: Option<String>,
    /// Whether this host's address is allowed.
    pub foreign_address: bool,
    pub now_ms: u64,
    pub rate: Rate,
}

fn error(code: i64, msg: &str) -> Reply {
    Reply::json(200, &json!({"code": code, "msg": msg, "data": {}}))
}

impl Service for FeishuBot {
    fn answer(&mut self, request: &Seen) -> Reply {
        if request.path != format!("/open-apis/bot/v2/hook/{}", self.token) {
            let msg = "param invalid: incoming webhook access token invalid";
            return Reply::json(400, &json!({"code": 19001, "msg": msg, "data": {}}));
        }
        let Some(body) = request.json().filter(|_| request.is_json()) else {
            return error(9499, "Bad Request");
        };
        if request.body.len() > 20 * 1024 || !is_card(&body) {
            return error(9499, "Bad Request");
        }
        if self.foreign_address {
            return error(19022, "Ip Not Allowed");
        }
        if let Some(secret) = &self.secret
            && !is_signed(&body, secret, self.now_ms)
        {
            let msg = "sign match fail or timestamp is not within one hour from current time";
            return error(19021, msg);
        }
        let card = body["card"].to_string();
        if self
            .keyword
            .as_ref()
            .is_some_and(|word| !card.contains(word))
        {
            return error(19024, "Key Words Not Found");
        }
        if !self.rate.take(self.now_ms, 100) {
            return error(
                11232,
                "frequency limited psm[lark.oapi.app_platform_runtime]",
            );
        }
        let success = json!({
            "StatusCode": 0, "StatusMessage": "success", "code": 0, "data": {}, "msg": "success",
        });
        Reply::json(200, &success)
    }
}

fn is_card(body: &Value) -> bool {
    let card = &body["card"];
    let header = &card["header"];
    let colours = ["red", "orange", "blue", "green"];
    let elements = card["elements"].as_array();
    body["msg_type"] == "interactive"
        && header["title"]["tag"] == "plain_text"
        && header["title"]["content"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
        && header["template"]
            .as_str()
            .is_some_and(|colour| colours.contains(&colour))
        && elements.is_some_and(|elements| {
            let text = |element: &Value| {
                element["tag"] == "markdown"
                    && element["content"]
                        .as_str()
                        .is_some_and(|text| !text.is_empty())
            };
            !elements.is_empty() && elements.iter().all(text)
        })
}

fn is_signed(body: &Value, secret: &str, now_ms: u64) -> bool {
    let (Some(timestamp), Some(sign)) = (body["timestamp"].as_str(), body["sign"].as_str()) else {
        return false;
    };
    let Ok(seconds) = timestamp.parse::<u64>() else {
        return false;
    };
    let digest = digest::hmac_sha256(format!("{timestamp}\n{secret}").as_bytes(), b"");
    seconds.abs_diff(now_ms / 1000) <= 3600 && sign == digest::base64(&digest)
}
