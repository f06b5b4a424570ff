//! The `[redis]` section: where Redis is, who we are there, how long rows are kept.

mod retention;

use std::path::PathBuf;

use hostbus_daemon::Secret;
use redis::{ConnectionAddr, IntoConnectionInfo};
use serde::Deserialize;

use crate::dial::{Address, Place};
use crate::error::StoreError;
use crate::tier::Tier;
use crate::tls::Tls;

/// The `[redis]` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// Where Redis listens: `redis://host[:port][/database]`, the same with `rediss://` for TLS, or
    /// `unix:///path/to/socket`. Absent: `hostbus up` starts a private redis-server.
    pub url: Option<String>,
    /// PEM file of those who may have signed the certificate of a `rediss` server; absent: those that
    /// the system trusts.
    pub ca_file: Option<PathBuf>,
    /// PEM file of our own certificate, for a `rediss` server that wants one.
    pub certificate_file: Option<PathBuf>,
    /// PEM file of its key.
    pub key_file: Option<PathBuf>,
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
            raw: kept(30 * DAY, HOUR),
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
    /// Checks the section and reads the files that it names, without connecting. No address is no
    /// mistake: there may be a private server.
    ///
    /// # Errors
    /// A value is wrong, or a file can't be used.
    pub fn check(&self) -> Result<(), StoreError> {
        if self.url.is_some() {
            return self.address().map(drop);
        }
        let is_set = self.user.is_some()
            || self.password.is_some()
            || [
                &self.password_file,
                &self.ca_file,
                &self.certificate_file,
                &self.key_file,
            ]
            .iter()
            .any(|file| file.is_some());
        if is_set {
            return Err(StoreError::Credentials(
                "a user, a password or a file of certificates is set for redis, but redis.url is not: a private redis-server takes none of them",
            ));
        }
        retention::check(&self.retention)
    }

    /// Checks the section and reads the files that it names, before anything is connected.
    pub(crate) fn address(&self) -> Result<Address, StoreError> {
        retention::check(&self.retention)?;
        let url = self.url.as_deref().ok_or(StoreError::NoUrl)?;
        let wrong = |reason: &str| StoreError::Url {
            url: without_secrets(url),
            reason: reason.to_owned(),
        };
        let parsed = redis::parse_redis_url(url).ok_or_else(|| {
            wrong("write redis://host[:port][/database], rediss:// for TLS, or unix:///path/to/socket")
        })?;
        let has_tls = match parsed.scheme() {
            "redis" | "unix" => false,
            "rediss" => true,
            _ => return Err(wrong("it must begin with redis://, rediss:// or unix://")),
        };
        if !parsed.username().is_empty() || parsed.password().is_some() || parsed.query().is_some()
        {
            return Err(StoreError::UrlCredentials);
        }
        // The library need not know of TLS: it is spoken below it.
        let plain = match url.split_once("://") {
            Some((_, rest)) if has_tls => format!("redis://{rest}"),
            _ => url.to_owned(),
        };
        let info = plain
            .into_connection_info()
            .map_err(|error| wrong(&error.to_string()))?;
        let place = match info.addr() {
            ConnectionAddr::Tcp(host, port) => Place::Tcp {
                host: host.clone(),
                port: *port,
                tls: has_tls.then(|| self.tls(host)).transpose()?,
            },
            ConnectionAddr::Unix(path) if path.parent().is_none() => {
                return Err(wrong("the path of the socket is missing"));
            }
            ConnectionAddr::Unix(path) => Place::Unix(path.clone()),
            _ => return Err(wrong("it names no host and no socket")),
        };
        if !has_tls {
            for (key, file) in [
                ("redis.ca_file", &self.ca_file),
                ("redis.certificate_file", &self.certificate_file),
                ("redis.key_file", &self.key_file),
            ] {
                if file.is_some() {
                    return Err(wrong(&format!("{key} is for rediss:// only")));
                }
            }
        }
        let password = self.secret()?;
        if self.user.is_some() && password.is_none() {
            return Err(StoreError::Credentials(
                "redis.user is set, but neither redis.password nor redis.password_file",
            ));
        }
        Ok(Address {
            place,
            user: self.user.clone(),
            password,
            database: info.redis_settings().db(),
        })
    }

    fn tls(&self, host: &str) -> Result<Tls, StoreError> {
        let identity = match (&self.certificate_file, &self.key_file) {
            (Some(certificate), Some(key)) => Some((certificate.as_path(), key.as_path())),
            (None, None) => None,
            _ => {
                return Err(StoreError::Credentials(
                    "redis.certificate_file and redis.key_file come together: set both or none",
                ));
            }
        };
        Tls::new(host, self.ca_file.as_deref(), identity)
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

/// An address as it may be shown, even if somebody has written a password into it.
fn without_secrets(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let mark = if scheme.is_empty() { "" } else { "://" };
    let place = match rest.rsplit_once('@') {
        Some((_, place)) => format!("...@{place}"),
        None => rest.to_owned(),
    };
    match place.split_once('?') {
        Some((place, _)) => format!("{scheme}{mark}{place}?..."),
        None => format!("{scheme}{mark}{place}"),
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
            "rediss://redis.example",
            "unix:///run/redis.sock",
        ] {
            config(url).address().unwrap();
        }
        let place = |url: &str| config(url).address().unwrap().place;
        let socket = place("unix:///a%20b/redis.sock");
        assert!(matches!(socket, Place::Unix(path) if path.as_os_str() == "/a b/redis.sock"));
        let plain = place("redis://h:7");
        assert!(matches!(
            plain,
            Place::Tcp {
                port: 7,
                tls: None,
                ..
            }
        ));
        let tls = place("rediss://h/3");
        assert!(matches!(
            tls,
            Place::Tcp {
                port: 6379,
                tls: Some(_),
                ..
            }
        ));
        let sixth = place("rediss://[::1]:1");
        assert!(matches!(sixth, Place::Tcp { host, .. } if host == "::1"));
        assert_eq!(config("rediss://h/3").address().unwrap().database, 3);
    }

    #[test]
    fn a_wrong_address_says_what_is_wrong() {
        for (url, reason) in [
            ("127.0.0.1:6379", "write redis://"),
            ("http://x", "write redis://"),
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
    fn a_password_in_an_address_is_never_shown() {
        for url in [
            "valkey://:secret@db",
            "tcp://me:secret@db/0",
            "redis+tls://:se@secret@db",
            "redis://:secret@db",
            "db:6379?password=secret",
            "unix:///s?pass=secret",
            ":secret@db",
        ] {
            let error = config(url).address().unwrap_err().to_string();
            assert!(!error.contains("secret"), "{url}: {error}");
            assert!(error.contains("redis.url"), "{url}: {error}");
        }
    }

    #[test]
    fn files_of_certificates_are_for_tls_and_go_in_pairs() {
        let check = |change: fn(&mut StoreConfig), url: &str, told: &str| {
            let mut config = config(url);
            change(&mut config);
            let error = config.address().unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        };
        let ca_file = |config: &mut StoreConfig| config.ca_file = Some("/nonexistent".into());
        check(ca_file, "redis://x", "redis.ca_file is for rediss:// only");
        check(
            ca_file,
            "rediss://x",
            "redis.ca_file /nonexistent can't be used",
        );
        let key_file = |config: &mut StoreConfig| config.key_file = Some("/nonexistent".into());
        check(
            key_file,
            "unix:///s",
            "redis.key_file is for rediss:// only",
        );
        check(key_file, "rediss://x", "set both or none");
    }

    #[test]
    fn without_an_address_the_rest_is_still_checked() {
        let mut config = StoreConfig::default();
        config.check().unwrap();
        config.retention.raw.seconds = 1;
        let error = config.check().unwrap_err();
        assert!(matches!(error, StoreError::Retention { .. }), "{error}");
        let mut config = StoreConfig {
            user: Some("u".to_owned()),
            ..StoreConfig::default()
        };
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains("redis.url is not"), "{error}");
        config.url = Some("redis://x".to_owned());
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains("redis.password"), "{error}");
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
