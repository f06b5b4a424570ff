//! The `[bus]` section: where the bus is, and who we are there.

use std::path::PathBuf;

use hostbus_daemon::Secret;
use hostbus_wire::TopicRoot;
use serde::Deserialize;

use crate::error::ClientError;
use crate::tls;

/// The `[bus]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BusConfig {
    /// Where the broker listens: `mqtt://host[:port]`, port 1883 unless given, or
    /// `mqtts://host[:port]` for TLS, port 8883 unless given.
    pub url: String,
    /// PEM file of those who may have signed the certificate of an `mqtts` broker; absent: those
    /// that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// The user name; absent for a broker that takes anonymous clients.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// A file that holds the password.
    pub password_file: Option<PathBuf>,
    /// The MQTT client id; absent: one made from the component and its process, so that two
    /// never meet.
    pub client_id: Option<String>,
    /// The time between signs of life, 5 to 3600 seconds.
    pub keep_alive_seconds: u16,
    /// Where the topics begin.
    pub root: TopicRoot,
}

impl Default for BusConfig {
    fn default() -> Self {
        Self {
            url: "mqtt://127.0.0.1:1883".to_owned(),
            ca_file: None,
            user: None,
            password: None,
            password_file: None,
            client_id: None,
            keep_alive_seconds: 30,
            root: TopicRoot::default(),
        }
    }
}

/// Host and port of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
}

impl BusConfig {
    /// Checks the settings and reads the files that they name, without connecting.
    ///
    /// # Errors
    /// A value is wrong, or a file can't be used.
    pub fn check(&self) -> Result<(), ClientError> {
        let endpoint = self.endpoint()?;
        if endpoint.tls {
            tls::check(&endpoint, self.ca_file.as_deref())?;
        }
        self.credentials().map(drop)
    }

    /// The address, to be shown: what stands before an `@` may be a password.
    #[must_use]
    pub fn shown_url(&self) -> String {
        without_credentials(&self.url)
    }

    pub(crate) fn endpoint(&self) -> Result<Endpoint, ClientError> {
        let wrong = |reason| ClientError::Url {
            url: without_credentials(&self.url),
            reason,
        };
        let (tls, rest) = match self.url.split_once("://") {
            Some(("mqtt", rest)) => (false, rest),
            Some(("mqtts", rest)) => (true, rest),
            _ => return Err(wrong("it must begin with mqtt:// or mqtts://")),
        };
        if self.ca_file.is_some() && !tls {
            return Err(wrong("bus.ca_file is for mqtts:// only"));
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '@', '?', '#']) {
            return Err(wrong(
                "write host and port only; user and password have their own keys",
            ));
        }
        let (host, port) = match rest.strip_prefix('[') {
            Some(bracketed) => {
                let (host, tail) = bracketed
                    .split_once(']')
                    .ok_or_else(|| wrong("the bracket is not closed"))?;
                (host, tail.strip_prefix(':'))
            }
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        if host.is_empty() {
            return Err(wrong("the host is missing"));
        }
        let port = match port {
            None if tls => 8883,
            None => 1883,
            Some(port) => port
                .parse()
                .map_err(|_| wrong("the port is no number up to 65535"))?,
        };
        Ok(Endpoint {
            host: host.to_owned(),
            port,
            tls,
        })
    }

    /// User and password, if the bus wants them.
    pub(crate) fn credentials(&self) -> Result<Option<(String, Secret)>, ClientError> {
        let password = match (&self.password, &self.password_file) {
            (Some(_), Some(_)) => {
                return Err(ClientError::Credentials(
                    "bus.password and bus.password_file are both set: keep one",
                ));
            }
            (Some(password), None) => Some(password.clone()),
            (None, Some(path)) => Some(Secret::read(path)?),
            (None, None) => None,
        };
        match (&self.user, password) {
            (Some(user), Some(password)) => Ok(Some((user.clone(), password))),
            (Some(_), None) => Err(ClientError::Credentials(
                "bus.user is set, but neither bus.password nor bus.password_file",
            )),
            (None, Some(_)) => Err(ClientError::Credentials(
                "a password is set for the bus, but no bus.user",
            )),
            (None, None) => Ok(None),
        }
    }
}

/// An address to be shown: what stands before an `@` may be a password.
fn without_credentials(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> Result<Endpoint, String> {
        let config = BusConfig {
            url: url.to_owned(),
            ..BusConfig::default()
        };
        config.endpoint().map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_has_a_host_and_perhaps_a_port() {
        let check = |url: &str, host: &str, port: u16, tls: bool| {
            assert_eq!(
                endpoint(url),
                Ok(Endpoint {
                    host: host.to_owned(),
                    port,
                    tls
                }),
                "{url}"
            );
        };
        check("mqtt://127.0.0.1:1884", "127.0.0.1", 1884, false);
        check("mqtt://broker", "broker", 1883, false);
        check("mqtts://broker", "broker", 8883, true);
        check("mqtt://[::1]:9/", "::1", 9, false);
        check("mqtt://[::1]", "::1", 1883, false);
    }

    #[test]
    fn a_wrong_address_says_what_is_wrong() {
        for (url, reason) in [
            ("127.0.0.1:1883", "begin with mqtt://"),
            ("mqtts:x", "begin with mqtt://"),
            ("wss://x", "begin with mqtt://"),
            ("mqtt://u:p@x", "their own keys"),
            ("mqtt://", "host is missing"),
            ("mqtt://x:99999", "no number up to 65535"),
            ("mqtt://[::1", "bracket"),
        ] {
            let error = endpoint(url).unwrap_err();
            assert!(
                error.contains(reason) && error.contains("bus.url"),
                "{url}: {error}"
            );
        }
    }

    #[test]
    fn a_password_in_an_address_is_not_shown() {
        let error = endpoint("mqtt://me:hunter2@broker").unwrap_err();
        assert!(
            !error.contains("hunter2") && error.contains("broker"),
            "{error}"
        );
    }

    #[test]
    fn user_and_password_come_together() {
        let with = |user: Option<&str>, password: Option<&str>| BusConfig {
            user: user.map(str::to_owned),
            password: password.map(Secret::new),
            ..BusConfig::default()
        };
        assert!(with(None, None).credentials().unwrap().is_none());
        assert!(with(Some("u"), Some("p")).credentials().unwrap().is_some());
        assert!(with(Some("u"), None).credentials().is_err());
        assert!(with(None, Some("p")).credentials().is_err());
    }
}
