//! Where the contract's topics begin.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A text that is no root of topics.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{text}` is no topic root: use levels such as `hostbus/v1`, without wildcards, empty levels or a leading `$`"
)]
pub struct RootError {
    text: String,
}

/// Where the contract's topics begin. The default is `hostbus/v1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicRoot(Box<str>);

impl TopicRoot {
    /// The root as text, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part of `topic` below this root.
    #[must_use]
    pub fn strip<'t>(&self, topic: &'t str) -> Option<&'t str> {
        topic.strip_prefix(&*self.0)?.strip_prefix('/')
    }
}

impl Default for TopicRoot {
    fn default() -> Self {
        Self("hostbus/v1".into())
    }
}

impl fmt::Display for TopicRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TopicRoot {
    type Err = RootError;

    fn from_str(text: &str) -> Result<Self, RootError> {
        text.to_owned().try_into()
    }
}

impl TryFrom<String> for TopicRoot {
    type Error = RootError;

    fn try_from(text: String) -> Result<Self, RootError> {
        let well_formed = text.len() <= 128
            && !text.starts_with('$')
            && text.split('/').all(|level| !level.is_empty())
            && !text.chars().any(|c| c == '+' || c == '#' || c.is_control());
        if well_formed {
            Ok(Self(text.into()))
        } else {
            Err(RootError { text })
        }
    }
}

impl From<TopicRoot> for String {
    fn from(root: TopicRoot) -> Self {
        root.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_has_no_wildcards_and_no_empty_levels() {
        for good in ["hostbus/v1", "x", "a/b/c"] {
            assert!(good.parse::<TopicRoot>().is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "a/+", "#", "$SYS", "a\n"] {
            assert!(bad.parse::<TopicRoot>().is_err(), "{bad}");
        }
    }
}
