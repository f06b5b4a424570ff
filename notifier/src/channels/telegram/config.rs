//! A Telegram channel's own keys.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The settings of a chat that a bot writes to.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelegramConfig {
    /// A file that holds the bot's token.
    pub token_file: Option<PathBuf>,
    /// The environment variable that holds it.
    pub token_env: Option<String>,
    /// Which chat: its number, below 0 for groups, or `@name` of a public one.
    pub chat_id: Option<ChatId>,
    /// Which topic of the chat; absent: none.
    pub message_thread_id: Option<i64>,
    /// Where the Bot API is. Default `https://api.telegram.org`.
    pub base_url: String,
}

impl Default for TelegramConfig {
    fn default() -> Self {
        Self {
            token_file: None,
            token_env: None,
            chat_id: None,
            message_thread_id: None,
            base_url: "https://api.telegram.org".to_owned(),
        }
    }
}

/// A chat's number, or its public name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum ChatId {
    /// Its number.
    Number(i64),
    /// `@name`, or the number as text.
    Name(String),
}

impl ChatId {
    /// # Errors
    /// What was expected instead.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let good = match self {
            Self::Number(number) => *number != 0,
            Self::Name(name) => match name.strip_prefix('@') {
                Some(rest) => {
                    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                    !rest.is_empty() && rest.len() <= 64 && rest.chars().all(part)
                }
                None => name.parse::<i64>().is_ok_and(|number| number != 0),
            },
        };
        if good {
            return Ok(());
        }
        Err("a chat's number, or `@name` of a public one")
    }
}

impl fmt::Display for ChatId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => write!(f, "`{name}`"),
        }
    }
}
