//! A webhook of one's own: JSON, signed if wanted, with headers and a body as its receiver needs them.
//!
//! ```text
//! POST <url>
//! Content-Type: application/json; charset=utf-8
//! Idempotency-Key: main-42
//! X-Hostbus-Signature: t=1700000000,v1=<hex of HMAC-SHA256(secret, t + "." + body)>
//! ```
//! Any 2xx is success; 408, 425, 429, 5xx and a network that fails are tried again, not before a
//! `Retry-After`. A redirect and 401 to 405, 407, 410, 415, 421, 423, 426, 431 and 451 say that the channel is
//! broken, and the message waits; every other answer refuses the message ([`Answer::by_status`]). Redirects are
//! not followed: a signed request goes where the settings say. The headers are those that Stripe's signatures and RFC 9110 (Retry-After)
//! made usual.

mod body;
mod config;
mod headers;

use hostbus_daemon::secret::Secret;
use reqwest::Url;

use super::address::{self, Plain};
use super::answer::Answer;
use super::signature::Digest;
use super::{
    ChannelError, Http, Limits, Measure, Message, Opening, Pace, Request, Service, Verdict,
};
use crate::notice::{Line, Notice};
use crate::template::facts::Facts;
use crate::template::{Markup, Sheet, Templates, message_key, pieces};

pub use body::VERSION;
pub use config::{Method, WebhookConfig};

const TITLE_BYTES: usize = 1000;
/// The alerts of one body take no more than this, but for one that is larger alone.
const ALERTS_BYTES: usize = 256 << 10;

/// The header that holds the signature.
pub const SIGNATURE_HEADER: &str = "x-hostbus-signature";

/// A webhook.
pub struct Webhook {
    url: Url,
    method: Method,
    secret: Option<Secret>,
    headers: Vec<(String, Secret)>,
    body: Option<Sheet>,
    templates: Templates,
    messages: usize,
}

impl Webhook {
    /// Opens it.
    ///
    /// # Errors
    /// Its address, a secret or a header can't be had or is none, or a template is broken.
    pub fn open(config: &WebhookConfig, opening: &Opening) -> Result<Self, ChannelError> {
        let url = opening.url(
            config.url.as_ref(),
            config.url_file.as_ref(),
            config.url_env.as_ref(),
            Plain::Anywhere,
            "the address that takes the notices",
        )?;
        let secret = (config.secret_file.as_ref(), config.secret_env.as_ref());
        let body = opening.sheet(
            "body_template",
            config.body_template.as_deref(),
            config.body_template_file.as_ref(),
            Markup::Json,
        )?;
        Ok(Self {
            url,
            method: config.method,
            secret: opening.secret("secret", secret.0, secret.1)?,
            headers: headers::read(config, opening)?,
            body,
            templates: opening.templates(Markup::Plain)?,
            messages: opening.messages,
        })
    }

    fn body(&self, message: &Message) -> Vec<u8> {
        let error = match &self.body {
            None => None,
            Some(sheet) => {
                let facts = Facts::new(&message.notice, message.notice.lines.len());
                match sheet.render(&facts.with_words(&message.key, &message.title, &message.text)) {
                    Ok(body) => return body.into_bytes(),
                    Err(error) => Some(error.to_string()),
                }
            }
        };
        body::body(message, error.as_deref())
            .to_string()
            .into_bytes()
    }
}

/// The signature header's value: `t=<seconds>,v1=<hex of HMAC-SHA256(secret, seconds + "." + body)>`.
#[must_use]
pub fn signature(seconds: u64, body: &[u8], secret: &str) -> String {
    let stamp = format!("{seconds}.");
    let digest = Digest::new(secret.as_bytes(), &[stamp.as_bytes(), body]);
    format!("t={seconds},v1={}", digest.hex())
}

/// The lines in as many parts as it takes to keep each within `most` bytes; one part at least.
fn parts(lines: &[Line], most: usize) -> Vec<&[Line]> {
    let mut parts = Vec::new();
    let (mut start, mut size) = (0, 0);
    for (at, line) in lines.iter().enumerate() {
        let line_size = body::size(line);
        if at > start && size + line_size > most {
            parts.push(&lines[start..at]);
            (start, size) = (at, 0);
        }
        size += line_size;
    }
    parts.push(&lines[start..]);
    parts
}

impl Service for Webhook {
    fn kind(&self) -> &'static str {
        "webhook"
    }

    fn limits(&self) -> Limits {
        Limits {
            title: Measure::Bytes(TITLE_BYTES),
            text: Measure::Bytes(ALERTS_BYTES),
            markup: Markup::Plain,
            messages: self.messages,
        }
    }

    fn pace(&self) -> Pace {
        Pace::FREE
    }

    fn messages(&self, notice: &Notice, instance: &str) -> Vec<Message> {
        let title = self.templates.title(notice);
        let mut parts = parts(&notice.lines, ALERTS_BYTES);
        parts.truncate(self.messages);
        let all = parts.len();
        let told: usize = parts.iter().map(|lines| lines.len()).sum();
        let omitted = notice.lines.len() - told;
        let message = |(at, lines): (usize, &[Line])| {
            let number = match all {
                1 => String::new(),
                _ => format!(" ({}/{all})", at + 1),
            };
            let notice = Notice {
                lines: lines.to_vec(),
                channel: notice.channel.clone(),
                group: notice.group.clone(),
                ..*notice
            };
            Message {
                key: message_key(instance, notice.id, at),
                title: pieces::title(&title, &number, Measure::Bytes(TITLE_BYTES)),
                text: self.templates.text(&notice),
                omitted: if at + 1 == all { omitted } else { 0 },
                notice,
            }
        };
        parts.into_iter().enumerate().map(message).collect()
    }
}

impl Http for Webhook {
    fn request(&self, message: &Message, now_ms: u64) -> Request {
        let body = self.body(message);
        let mut headers = vec![
            (
                "content-type".to_owned(),
                Secret::new("application/json; charset=utf-8"),
            ),
            ("idempotency-key".to_owned(), Secret::new(&*message.key)),
        ];
        headers.extend(self.headers.iter().cloned());
        if let Some(secret) = &self.secret {
            let value = signature(now_ms / 1000, &body, secret.reveal());
            headers.push((SIGNATURE_HEADER.to_owned(), Secret::new(value)));
        }
        Request {
            method: self.method.as_str(),
            url: Secret::new(self.url.as_str()),
            headers,
            body,
        }
    }

    fn judge(&self, answer: &Answer) -> Verdict {
        let hint = match answer.status {
            300..=399 => "redirects are not followed: set the address that it leads to",
            401 | 403 => "look at the channel's headers and secret",
            404 | 410 => "look at the channel's address",
            413 => "raise the receiver's limit: a body has at most a few hundred KiB",
            _ => "look at what the receiver's log says of it",
        };
        let mut secrets = address::secrets(&self.url);
        let kept = self.headers.iter().map(|(_, value)| value);
        secrets.extend(
            kept.chain(&self.secret)
                .map(|secret| secret.reveal().to_owned()),
        );
        answer.hiding(&secrets).by_status(hint)
    }
}
