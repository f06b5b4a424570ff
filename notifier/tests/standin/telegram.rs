//! Telegram's Bot API, `sendMessage` alone.

use serde_json::{Value, json};

use super::{Rate, Reply, Seen, Service};

#[derive(Debug, Default)]
pub struct BotApi {
    pub token: String,
    /// The one chat that the bot is in.
    pub chat: i64,
    pub topics: Vec<i64>,
    /// The number that the chat moved to.
    pub moved_to: Option<i64>,
    pub kicked: bool,
    pub now_ms: u64,
    pub rate: Rate,
}

fn error(code: u16, description: &str, parameters: Option<Value>) -> Reply {
    let mut body = json!({"ok": false, "error_code": code, "description": description});
    if let Some(parameters) = parameters {
        body["parameters"] = parameters;
    }
    Reply::json(code, &body)
}

impl Service for BotApi {
    fn answer(&mut self, request: &Seen) -> Reply {
        let Some(path) = request.path.strip_prefix("/bot") else {
            return error(404, "Not Found", None);
        };
        let Some((token, "sendMessage")) = path.split_once('/') else {
            return error(404, "Not Found", None);
        };
        if token != self.token {
            return error(401, "Unauthorized", None);
        }
        let Some(body) = request.json().filter(|_| request.is_json()) else {
            return error(400, "Bad Request: message text is empty", None);
        };
        if body["chat_id"] != self.chat {
            return error(400, "Bad Request: chat not found", None);
        }
        if let Some(chat) = self.moved_to {
            let description = "Bad Request: group chat was upgraded to a supergroup chat";
            return error(400, description, Some(json!({"migrate_to_chat_id": chat})));
        }
        if self.kicked {
            return error(
                403,
                "Forbidden: bot was kicked from the supergroup chat",
                None,
            );
        }
        let thread = &body["message_thread_id"];
        if !thread.is_null() && !self.topics.iter().any(|topic| thread == topic) {
            return error(400, "Bad Request: message thread not found", None);
        }
        let text = body["text"].as_str().unwrap_or_default();
        match parsed(text) {
            Err(problem) => {
                let description = format!("Bad Request: can't parse entities: {problem}");
                return error(400, &description, None);
            }
            Ok(plain) if plain.trim().is_empty() => {
                return error(400, "Bad Request: message text is empty", None);
            }
            Ok(plain) if plain.encode_utf16().count() > 4096 => {
                return error(400, "Bad Request: message is too long", None);
            }
            Ok(_) => {}
        }
        if !self.rate.take(self.now_ms, 20) {
            let description = "Too Many Requests: retry after 37";
            return error(429, description, Some(json!({"retry_after": 37})));
        }
        Reply::json(
            200,
            &json!({"ok": true, "result": {"message_id": 7, "text": text}}),
        )
    }
}

/// The text that HTML of Telegram's kind shows.
pub fn parsed(html: &str) -> Result<String, String> {
    let mut plain = String::new();
    let mut open = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find(['<', '>', '&']) {
        plain.push_str(&rest[..at]);
        let special = &rest[at..];
        if special.starts_with('>') {
            return Err("stray >".to_owned());
        }
        let close = if special.starts_with('<') { '>' } else { ';' };
        let end = special.find(close).ok_or("unclosed tag or entity")?;
        let name = &special[1..end];
        rest = &special[end + 1..];
        match (close, name) {
            ('>', "b" | "i" | "code" | "pre") => open.push(name),
            ('>', _) if name.starts_with('/') && open.last() == Some(&&name[1..]) => {
                open.pop();
            }
            ('>', _) => return Err(format!("Unsupported or unmatched tag \"{name}\"")),
            (_, "lt") => plain.push('<'),
            (_, "gt") => plain.push('>'),
            (_, "amp") => plain.push('&'),
            (_, "quot") => plain.push('"'),
            (_, "#39") => plain.push('\''),
            _ => return Err(format!("unknown entity \"{name}\"")),
        }
    }
    plain.push_str(rest);
    match open.is_empty() {
        true => Ok(plain),
        false => Err("Can't find end tag".to_owned()),
    }
}
