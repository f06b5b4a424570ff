//! The `[redis]` section: where Redis is, who we are there, how long rows are kept.

use std::path::PathBuf;

use hostbus_daemon::Secret;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use serde::Deserialize;

use crate::error::StoreError;
use crate::tier::Tier;

/// The `[redis]` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// Where Redis listens: `redis://host[:port][/database]` or `unix:///path/to/socket`. Absent:
    /// `hostbus up` starts a private redis-server.
    pub url: Option<String>,
    /// The ACL user; absent for the default user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// A file that holds the password.
    pub password_file: Option<PathBuf>,
    /// How long rows are kept.
    pub retention: Retention,
}

/// The `[redis.retention]` section: how long each tier is kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Rows as they came; at least 60 seconds.
    pub raw: Kept,
    /// A row a minute.
    #[serde(rename = "1m")]
    pub minute: Kept,
    /// A row every ten minutes.
    #[serde(rename = "10m")]
    pub ten_minutes: Kept,
    /// A row an hour.
    #[serde(rename = "1h")]
    pub hour: Kept,
}

/// How long the rows of one tier are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// In all, in seconds; 0 keeps no rows.
    pub seconds: u64,
    /// As a stream, in seconds. What is older is packed into blocks; absent: nothing is.
    #[serde(default)]
    pub stream_seconds: Option<u64>,
}

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

impl Default for Retention {
    fn default() -> Self {
        let kept = |seconds, stream_seconds| Kept {
            seconds,
            stream_seconds: Some(stream_seconds),
        };
        Self {
            raw: kept(30 * DAY, 3 * HOUR),
            minute: kept(DAY, DAY),
            ten_minutes: kept(90 * DAY, 3 * DAY),
            hour: kept(400 * DAY, 30 * DAY),
        }
    }
}

impl Retention {
    /// How long `tier` is kept.
    #[must_use]
    pub fn of(&self, tier: Tier) -> Kept {
        match tier {
            Tier::Raw => self.raw,
            Tier::Minute => self.minute,
            Tier::TenMinutes => self.ten_minutes,
            Tier::Hour => self.hour,
        }
    }
}

impl Kept {
    /// What is older than the stream is packed.
    #[must_use]
    pub fn packs(self) -> bool {
        self.stream_seconds
            .is_some_and(|seconds| seconds < self.seconds)
    }

    /// The time before which nothing is kept.
    #[must_use]
    pub fn cutoff_ms(self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.seconds.saturating_mul(1_000))
    }
}

impl StoreConfig {
    /// Checks the section and reads its secrets, before anything is connected.
    pub(crate) fn address(&self) -> Result<ConnectionInfo, StoreError> {
        let url = self.url.as_deref().ok_or(StoreError::NoUrl)?;
        let wrong = |reason: &str| StoreError::Url {
            url: url.to_owned(),
            reason: reason.to_owned(),
        };
        let parsed = redis::parse_redis_url(url).ok_or_else(|| {
            wrong("write redis://host[:port][/database] or unix:///path/to/socket")
        })?;
        match parsed.scheme() {
            "redis" | "unix" => {}
            "rediss" => return Err(wrong("TLS to Redis is not supported yet")),
            _ => return Err(wrong("it must begin with redis:// or unix://")),
        }
        if !parsed.username().is_empty() || parsed.password().is_some() || parsed.query().is_some()
        {
            return Err(StoreError::UrlCredentials);
        }
        let address = parsed
            .into_connection_info()
            .map_err(|error| wrong(&error.to_string()))?;
        if let ConnectionAddr::Unix(path) = address.addr()
            && path.parent().is_none()
        {
            return Err(wrong("the path of the socket is missing"));
        }
        let mut settings = address.redis_settings().clone();
        if let Some(user) = &self.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = self.secret()? {
            settings = settings.set_password(password.reveal());
        } else if self.user.is_some() {
            return Err(StoreError::Credentials(
                "redis.user is set, but neither redis.password nor redis.password_file",
            ));
        }
        if self.retention.raw.seconds < 60 {
            return Err(StoreError::Retention {
                seconds: self.retention.raw.seconds,
            });
        }
        Ok(address.set_redis_settings(settings))
    }

    fn secret(&self) -> Result<Option<Secret>, StoreError> {
        match (&self.password, &self.password_file) {
            (Some(_), Some(_)) => Err(StoreError::Credentials(
                "redis.password and redis.password_file are both set: keep one",
            )),
            (Some(password), None) => Ok(Some(password.clone())),
            (None, Some(path)) => Ok(Some(Secret::read(path)?)),
            (None, None) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> StoreConfig {
        StoreConfig {
            url: Some(url.to_owned()),
            ..StoreConfig::default()
        }
    }

    #[test]
    fn redis_is_reached_over_tcp_or_a_socket() {
        for url in [
            "redis://127.0.0.1",
            "redis://[::1]:6380/2",
            "unix:///run/redis.sock",
        ] {
            config(url).address().unwrap();
        }
        let address = config("unix:///a%20b/redis.sock").address().unwrap();
        assert_eq!(
            *address.addr(),
            ConnectionAddr::Unix("/a b/redis.sock".into())
        );
    }

    #[test]
    fn a_wrong_address_says_what_is_wrong() {
        for (url, reason) in [
            ("127.0.0.1:6379", "write redis://"),
            ("http://x", "write redis://"),
            ("rediss://x", "TLS"),
            ("valkey://x", "must begin with"),
            ("redis://:pw@x", "their own keys"),
            ("unix:///s?pass=x", "their own keys"),
            ("redis://x/notanumber", "redis.url"),
            ("unix:///", "socket is missing"),
        ] {
            let error = config(url).address().unwrap_err().to_string();
            assert!(
                error.contains(reason) && error.contains("redis.url"),
                "{url}: {error}"
            );
        }
        let error = StoreConfig::default().address().unwrap_err().to_string();
        assert!(error.contains("redis.url is not set"), "{error}");
    }

    #[test]
    fn a_password_stands_in_one_place() {
        let mut both = config("redis://x");
        both.password = Some(Secret::new("p"));
        assert!(both.address().is_ok());
        both.password_file = Some("/nonexistent".into());
        assert!(matches!(both.address(), Err(StoreError::Credentials(_))));
        let mut nameless = config("redis://x");
        nameless.user = Some("u".to_owned());
        assert!(matches!(
            nameless.address(),
            Err(StoreError::Credentials(_))
        ));
    }
}
