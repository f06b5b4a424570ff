//! ntfy: a topic on ntfy.sh or on a server of one's own.
//!
//! ```toml
//! [notifier.channels.phone]
//! type = "ntfy"
//! topic = "alerts-7f3a"                      # who knows it may read it on a server without logins
//! server = "https://ntfy.example.com"        # default https://ntfy.sh
//! token_file = "/etc/hostbus/ntfy-token"     # or user and password_file; or neither
//! ```
//! ```text
//! POST / {"topic": "alerts-7f3a", "title": "…", "message": "…", "priority": 5, "tags": ["rotating_light"]}
//! ```
//! A message of more than 4,096 bytes would become an attachment, which a phone shows as a file, and JSON of
//! more than twice that is refused (413, 41303; source: ntfy's server/server.go): texts stay below. Limits:
//! <https://docs.ntfy.sh/publish/#limitations> (60 requests at once, then one in 5 seconds).
//!
//! Codes: `server/errors.go` of <https://github.com/binwiederhier/ntfy>; no page lists them. 401 and 403 (the
//! login), 404 and 40009, 40010 (the topic) are the channel's fault; what else a 400 says and 413 the
//! message's.

use std::path::PathBuf;

use base64ct::{Base64, Encoding};
use hostbus_daemon::secret::Secret;
use hostbus_wire::alert::AlertSeverity;
use serde::Deserialize;
use serde_json::json;

use super::address::{self, Plain};
use super::colour::worst_firing;
use super::{
    Answer, ChannelError, Http, Limits, Measure, Message, Opening, Pace, Request, Service, Verdict,
};
use crate::notice::{Notice, Reason};
use crate::template::{Markup, Templates};

/// The most of a title, in characters.
const TITLE_CHARS: usize = 200;
/// The most of a text, in bytes of JSON, which are never fewer than its own.
const TEXT_BYTES: usize = 4000;

/// An ntfy channel.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NtfyConfig {
    /// The server.
    pub server: String,
    /// The topic: 1 to 64 letters, digits, `-` and `_`.
    pub topic: String,
    /// A file that holds an access token.
    pub token_file: Option<PathBuf>,
    /// The environment variable that holds it.
    pub token_env: Option<String>,
    /// Who logs in, in the place of a token.
    pub user: Option<String>,
    /// A file that holds the password.
    pub password_file: Option<PathBuf>,
    /// The environment variable that holds it.
    pub password_env: Option<String>,
    /// What a tap on the message opens.
    pub click_url: Option<String>,
}

impl Default for NtfyConfig {
    fn default() -> Self {
        Self {
            server: "https://ntfy.sh".to_owned(),
            topic: String::new(),
            token_file: None,
            token_env: None,
            user: None,
            password_file: None,
            password_env: None,
            click_url: None,
        }
    }
}

/// An open ntfy channel.
pub struct Ntfy {
    server: Secret,
    topic: String,
    authorization: Option<Secret>,
    /// What must not be shown of it.
    secrets: Vec<Secret>,
    click_url: Option<String>,
    templates: Templates,
    messages: usize,
}

impl Ntfy {
    /// Opens it.
    ///
    /// # Errors
    /// A setting is wrong or a secret can't be had.
    pub fn open(config: &NtfyConfig, opening: &Opening<'_>) -> Result<Self, ChannelError> {
        let token = opening.secret(
            "token",
            config.token_file.as_ref(),
            config.token_env.as_ref(),
        )?;
        let (file, env) = (config.password_file.as_ref(), config.password_env.as_ref());
        let password = opening.secret("password", file, env)?;
        let secrets = token.iter().chain(&password).cloned().collect();
        let authorization = match (token, &config.user, password) {
            (None, None, None) => None,
            (Some(token), None, None) => Some(Secret::new(format!("Bearer {}", token.reveal()))),
            (None, Some(user), Some(password)) => {
                let login = format!("{user}:{}", password.reveal());
                let login = Base64::encode_string(login.as_bytes());
                Some(Secret::new(format!("Basic {login}")))
            }
            (_, user, password) => {
                let user = user.as_deref().map_or("no user", |_| "a user");
                let password = password.map_or("no password", |_| "a password");
                let expected = "either a token, or `user` with `password_file`, or none of them";
                return Err(opening.value("user", format_args!("{user}, {password}"), expected));
            }
        };
        // A server of the site's own may do without TLS, but not with a login.
        let plain = match authorization {
            Some(_) => Plain::Loopback,
            None => Plain::Anywhere,
        };
        let server = address::parse(&config.server, plain).map_err(|expected| {
            opening.value("server", format_args!("`{}`", config.server), expected)
        })?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if !(1..=64).contains(&config.topic.len()) || !config.topic.chars().all(allowed) {
            let expected = "1 to 64 letters, digits, `-` and `_`";
            return Err(opening.value("topic", format_args!("`{}`", config.topic), expected));
        }
        if let Some(url) = &config.click_url {
            address::parse(url, Plain::Anywhere).map_err(|expected| {
                opening.value("click_url", format_args!("`{url}`"), expected)
            })?;
        }
        Ok(Self {
            server: Secret::new(server),
            topic: config.topic.clone(),
            authorization,
            secrets,
            click_url: config.click_url.clone(),
            templates: opening.templates(Markup::Plain)?,
            messages: opening.messages,
        })
    }
}

impl Service for Ntfy {
    fn kind(&self) -> &'static str {
        "ntfy"
    }

    fn limits(&self) -> Limits {
        Limits {
            title: Measure::Characters(TITLE_CHARS),
            text: Measure::JsonBytes(TEXT_BYTES),
            markup: Markup::Plain,
            messages: self.messages,
        }
    }

    fn pace(&self) -> Pace {
        Pace::new(0, 60, 300)
    }

    fn messages(&self, notice: &Notice, instance: &str) -> Vec<Message> {
        self.templates.messages(notice, instance, &self.limits())
    }
}

/// Priority, 1 to 5, and the tag that ntfy shows as a picture.
fn look(notice: &Notice) -> (u8, &'static str) {
    if notice.reason == Reason::Test {
        return (3, "wave");
    }
    match worst_firing(notice) {
        Some(AlertSeverity::Critical) => (5, "rotating_light"),
        Some(AlertSeverity::Warning) => (4, "warning"),
        Some(AlertSeverity::Info) => (3, "information_source"),
        None => (3, "white_check_mark"),
    }
}

impl Http for Ntfy {
    fn request(&self, message: &Message, _now_ms: u64) -> Request {
        let (priority, tag) = look(&message.notice);
        let mut body = json!({
            "topic": self.topic,
            "title": message.title,
            // Without a text ntfy would write `triggered`.
            "message": if message.text.is_empty() { &message.title } else { &message.text },
            "priority": priority,
            "tags": [tag],
        });
        if let Some(url) = &self.click_url {
            body["click"] = json!(url);
        }
        let mut request = Request::post_json(self.server.clone(), &body);
        if let Some(authorization) = &self.authorization {
            let header = ("authorization".to_owned(), authorization.clone());
            request.headers.push(header);
        }
        request
    }

    fn judge(&self, answer: &Answer) -> Verdict {
        let secrets: Vec<&str> = self.secrets.iter().map(Secret::reveal).collect();
        let answer = answer.hiding(&secrets);
        match answer.status {
            // A page of something in between is no word of ntfy's.
            200..=299 if answer.json::<Published>().is_none() => answer.later(),
            401 | 403 => answer.by_status(
                "the token or login may not write to this topic: check `token_file`, or `user` and the password",
            ),
            400 if answer.json::<Fault>().is_some_and(|fault| fault.is_of_the_topic()) => {
                answer.broken("this server does not take such a `topic`")
            }
            413 => answer.by_status("the text is longer than this server takes; ask for a higher limit there"),
            _ => answer.by_status("check `server` and `topic`"),
        }
    }
}

/// Why a message was not taken.
#[derive(Deserialize)]
struct Fault {
    code: u64,
}

impl Fault {
    /// The topic is not well-formed or not allowed there.
    fn is_of_the_topic(&self) -> bool {
        matches!(self.code, 40_009 | 40_010)
    }
}

/// A message as ntfy took it.
#[derive(Deserialize)]
struct Published {
    #[serde(rename = "id")]
    _id: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::examples::{self, Expected::*};

    fn opened(text: &str) -> Result<Ntfy, String> {
        examples::open(text.parse().unwrap(), Ntfy::open)
    }

    #[test]
    fn a_topic_gets_title_text_priority_and_picture() {
        let ntfy = opened("topic = \"a\"\nclick_url = \"https://example.com/x\"").unwrap();
        let request = ntfy.request(&examples::message("main-1"), 0);
        assert_eq!(request.url.reveal(), "https://ntfy.sh/");
        assert_eq!(examples::header(&request, "authorization"), None);
        assert_eq!(
            examples::json(&request),
            json!({
                "topic": "a", "title": "[critical] disk-full on web1", "message": "/data is 97 % full",
                "priority": 5, "tags": ["rotating_light"], "click": "https://example.com/x",
            })
        );
        let body = examples::json(&ntfy.request(&examples::recovery("main-2"), 0));
        assert_eq!(
            (&body["priority"], &body["tags"][0]),
            (&json!(3), &json!("white_check_mark"))
        );
        let mut empty = examples::message("main-3");
        empty.text.clear();
        let body = examples::json(&ntfy.request(&empty, 0));
        assert_eq!(body["message"], empty.title);
    }

    #[test]
    fn the_longest_text_is_no_attachment_and_its_json_is_taken() {
        let check = |sign: &str, count: usize| {
            let ntfy = opened("topic = \"a\"\nclick_url = \"https://example.com/x\"").unwrap();
            let mut message = examples::message("main-1");
            message.title = "😀".repeat(TITLE_CHARS);
            message.text = sign.repeat(count);
            let limits = ntfy.limits();
            assert!(limits.title.fits(&message.title) && limits.text.fits(&message.text));
            assert!(!limits.text.fits(&format!("{}{sign}", message.text)));
            assert!(message.text.len() <= 4096);
            assert!(ntfy.request(&message, 0).body.len() <= 2 * 4096);
        };
        check("x", TEXT_BYTES);
        check("\"", TEXT_BYTES / 2);
        check("\u{1}", TEXT_BYTES / 6);
        check("😀", TEXT_BYTES / 4);
    }

    #[test]
    fn a_login_is_a_token_or_a_user_with_a_password() {
        let folder = tempfile::tempdir().unwrap();
        let secret = examples::secret(&folder, "secret", "hunter2");
        let check = |text: String, expected: Option<&str>| {
            let ntfy = opened(&format!("topic = \"a\"\n{text}")).unwrap();
            let request = ntfy.request(&examples::message("main-1"), 0);
            assert_eq!(examples::header(&request, "authorization"), expected);
        };
        check(format!("token_file = \"{secret}\""), Some("Bearer hunter2"));
        let login = format!("user = \"me\"\npassword_file = \"{secret}\"");
        check(login, Some("Basic bWU6aHVudGVyMg=="));
        check("server = \"http://ntfy.lan\"".to_owned(), None);
    }

    #[test]
    fn a_wrong_setting_is_named_with_what_was_expected() {
        let check = |text: &str, words: &[&str]| {
            let error = opened(text).map(drop).unwrap_err();
            for word in words {
                assert!(error.contains(word), "{text}: {word} in {error}");
            }
        };
        check("", &["x.topic", "letters"]);
        check("topic = \"a/b\"", &["x.topic", "`a/b`"]);
        check("topic = \"a\"\nuser = \"me\"", &["x.user", "password_file"]);
        check(
            "topic = \"a\"\npassword_env = \"PATH\"",
            &["x.user", "no user"],
        );
        check(
            "topic = \"a\"\nserver = \"ntfy.sh\"",
            &["x.server", "https"],
        );
        check(
            "topic = \"a\"\nserver = \"http://ntfy.lan\"\ntoken_env = \"PATH\"",
            &["x.server", "token"],
        );
        check("topic = \"a\"\nclick_url = \"x\"", &["x.click_url"]);
    }

    #[test]
    fn success_is_what_ntfy_calls_success() {
        let limit = "{\"code\":42901,\"http\":429,\"error\":\"limit reached: too many requests\"}";
        let denied = "{\"code\":40301,\"http\":403,\"error\":\"forbidden\"}";
        examples::judges(
            &opened("topic = \"a\"").unwrap(),
            &[
                (
                    200,
                    "",
                    "{\"id\":\"x\",\"event\":\"message\"}",
                    Delivered,
                    "",
                ),
                (200, "", "<html>", Retry, ""),
                (400, "", "{\"code\":40009,\"http\":400}", Broken, "`topic`"),
                (400, "", "{\"code\":40007,\"http\":400}", Refused, "40007"),
                (404, "", "", Broken, "`server`"),
                (
                    401,
                    "",
                    "{\"code\":40101,\"http\":401}",
                    Broken,
                    "token_file",
                ),
                (403, "", denied, Broken, "forbidden"),
                (413, "", "{\"code\":41301,\"http\":413}", Refused, "longer"),
                (413, "", "{\"code\":41303,\"http\":413}", Refused, "longer"),
                (429, "", limit, Retry, "too many requests"),
                (429, "9", limit, RetryAfterMs(9000), ""),
                (507, "", "{\"code\":50701,\"http\":507}", Retry, "50701"),
            ],
        );
    }
}
