//! The `[redis]` section: where Redis is, who we are there, how long rows are kept.

use std::path::PathBuf;

use hostbus_daemon::Secret;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use serde::Deserialize;

use crate::error::StoreError;

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

/// The `[redis.retention]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// How long a sample's rows are kept at full resolution, in seconds; at least 60.
    pub raw_seconds: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            raw_seconds: 24 * 3600,
        }
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
        if self.retention.raw_seconds < 60 {
            return Err(StoreError::Retention {
                seconds: self.retention.raw_seconds,
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
