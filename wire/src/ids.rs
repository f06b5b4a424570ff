//! Names that may stand in a topic or a Redis key, checked once at the door.
//!
//! Site and node ids match `[a-z0-9][a-z0-9-]{0,30}`. Ids that begin with `_` are the system's own
//! and can't be made here. The names of instances (a mount point, a NIC) are free text of at most
//! 128 bytes; they travel as values, never as keys.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest site or node id, in bytes.
pub const MAX_ID_BYTES: usize = 31;

/// The longest instance name, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// Why a text is no id or name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// A site or node id has a wrong character, is empty or is too long.
    #[error(
        "`{text}` is no {what} id: use 1 to 31 of a-z, 0-9 and '-', and begin with a letter or digit"
    )]
    Id {
        /// `site` or `node`.
        what: &'static str,
        /// What was given, cut at 64 characters.
        text: String,
    },
    /// A node path is not `site/node` or `site.node`.
    #[error("`{text}` names no node: write it as <site>.<node>")]
    Path {
        /// What was given, cut at 64 characters.
        text: String,
    },
    /// An instance name is empty, too long or holds a control character.
    #[error(
        "a name must have 1 to 128 bytes and no control characters, this one has {bytes} bytes"
    )]
    Name {
        /// Its length.
        bytes: usize,
    },
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Tells whether `text` has the shape of a site or node id.
#[must_use]
pub fn is_id(text: &str) -> bool {
    let bytes = text.as_bytes();
    matches!(bytes.first(), Some(b'a'..=b'z' | b'0'..=b'9'))
        && bytes.len() <= MAX_ID_BYTES
        && bytes
            .iter()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Tells whether `text` has the shape of an instance's name.
pub(crate) fn is_name(text: &str) -> bool {
    // Most names are plain, and bytes are looked at faster than letters.
    let is_plain = |byte: &u8| (b' '..=b'~').contains(byte);
    (1..=MAX_NAME_BYTES).contains(&text.len())
        && (text.as_bytes().iter().all(is_plain) || !text.chars().any(char::is_control))
}

macro_rules! id {
    ($(#[$doc:meta])* $Name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $Name(Box<str>);

        impl $Name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $Name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                if is_id(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(IdError::Id { what: $what, text: cut(text) })
                }
            }
        }

        impl TryFrom<String> for $Name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$Name> for String {
            fn from(id: $Name) -> Self {
                id.0.into()
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// A site: one bus, one owner. The default is `home`.
    SiteId,
    "site"
);
id!(
    /// A node: one host, unique in its site.
    NodeId,
    "node"
);

impl Default for SiteId {
    fn default() -> Self {
        Self("home".into())
    }
}

impl NodeId {
    /// The node id that fits a host name best: its first label in lower case, every other
    /// character turned into `-`. `None` when nothing usable is left.
    #[must_use]
    pub fn from_hostname(hostname: &str) -> Option<Self> {
        let label = hostname.split('.').next().unwrap_or_default();
        let id: String = label
            .chars()
            .map(|c| match c.to_ascii_lowercase() {
                c @ ('a'..='z' | '0'..='9') => c,
                _ => '-',
            })
            .take(MAX_ID_BYTES)
            .collect();
        id.trim_matches('-').parse().ok()
    }
}

/// One node of one site.
///
/// Shown as `site.node`, as in Redis keys (`hb:{home.web1}:…`) and in user names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodePath {
    /// The site.
    pub site: SiteId,
    /// The node.
    pub node: NodeId,
}

impl NodePath {
    /// The node `node` of the site `site`.
    #[must_use]
    pub fn new(site: SiteId, node: NodeId) -> Self {
        Self { site, node }
    }
}

impl fmt::Display for NodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.site, self.node)
    }
}

impl FromStr for NodePath {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (site, node) = text
            .split_once(['.', '/'])
            .ok_or_else(|| IdError::Path { text: cut(text) })?;
        Ok(Self {
            site: site.parse()?,
            node: node.parse()?,
        })
    }
}

impl TryFrom<String> for NodePath {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<NodePath> for String {
    fn from(path: NodePath) -> Self {
        path.to_string()
    }
}

/// The name of an instance: a mount point, a disk, a NIC, a sensor.
///
/// 1 to 128 bytes of UTF-8 without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Box<str>);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        text.to_owned().try_into()
    }
}

impl TryFrom<String> for Name {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        if is_name(&text) {
            Ok(Self(text.into()))
        } else {
            Err(IdError::Name { bytes: text.len() })
        }
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.into()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_lower_case_letters_digits_and_inner_dashes() {
        for good in ["a", "web1", "0", "a-b-", &"x".repeat(31)] {
            assert!(good.parse::<NodeId>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "_sys",
            "Web",
            "a.b",
            "a/b",
            "a+",
            "#",
            "é",
            &"x".repeat(32),
        ] {
            assert!(bad.parse::<NodeId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn hostnames_become_the_nearest_id() {
        let check = |hostname: &str, id: Option<&str>| {
            let got = NodeId::from_hostname(hostname);
            assert_eq!(got.as_ref().map(NodeId::as_str), id, "{hostname}");
        };
        check("web1", Some("web1"));
        check("Web_1.example.com", Some("web-1"));
        check("-x-", Some("x"));
        check("日本", None);
        check("", None);
    }

    #[test]
    fn names_refuse_control_characters_and_excess() {
        assert!("/mnt/Été 1".parse::<Name>().is_ok());
        assert!("x".repeat(128).parse::<Name>().is_ok());
        assert_eq!(
            "x".repeat(129).parse::<Name>(),
            Err(IdError::Name { bytes: 129 })
        );
        assert!("a\0b".parse::<Name>().is_err());
        assert!("".parse::<Name>().is_err());
    }

    #[test]
    fn node_paths_read_with_dot_or_slash() {
        let path: NodePath = "home.web1".parse().unwrap();
        assert_eq!(path, "home/web1".parse().unwrap());
        assert_eq!(path.to_string(), "home.web1");
        assert!("home".parse::<NodePath>().is_err());
        assert!("home.a.b".parse::<NodePath>().is_err());
    }
}
