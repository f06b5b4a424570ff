//! The settings of a mail channel, checked before anything is opened.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64ct::{Base64, Encoding};
use hostbus_daemon::secret::Secret;
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, TlsParameters};
use serde::Deserialize;

use super::session::{Encryption, Server};
use crate::channels::{ChannelError, Opening};

/// A mail channel.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmailConfig {
    /// The mail server's name or address.
    pub server: String,
    /// Its port; absent: 587 for `starttls`, 465 for `tls`, 25 for `none`.
    pub port: Option<u16>,
    /// How the connection is encrypted.
    pub tls: Tls,
    /// Allows `tls = "none"` to a server that is not on this host.
    pub allow_plain: bool,
    /// PEM file of those who may have signed its certificate, besides those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// Who logs in; absent for a server that wants no login.
    pub user: Option<String>,
    /// A file that holds the password.
    pub password_file: Option<PathBuf>,
    /// The environment variable that holds the password.
    pub password_env: Option<String>,
    /// The sender: `hostbus <alerts@example.com>` or the address alone.
    pub from: String,
    /// The recipients, 1 to 50, written like the sender.
    pub to: Vec<String>,
    /// How long handing over one mail may take, 1 to 55 seconds.
    pub timeout_seconds: u32,
}

/// How the connection to a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// From `STARTTLS` on, before anything is said; a server without it gets no mail.
    Starttls,
    /// From the first byte.
    Tls,
    /// Never: for a server on this host.
    None,
}

impl Default for EmailConfig {
    fn default() -> Self {
        Self {
            server: String::new(),
            port: None,
            tls: Tls::Starttls,
            allow_plain: false,
            ca_file: None,
            user: None,
            password_file: None,
            password_env: None,
            from: String::new(),
            to: Vec::new(),
            timeout_seconds: 30,
        }
    }
}

impl EmailConfig {
    /// The server that the settings name; nothing is connected.
    ///
    /// # Errors
    /// A setting is wrong, or the password can't be had.
    pub(super) fn server(&self, opening: &Opening<'_>) -> Result<Server, ChannelError> {
        let server = self.server.trim();
        if server.is_empty() || server.contains(['/', ' ', '@']) {
            let expected = "a mail server's name or address, such as `smtp.example.com`";
            return Err(opening.value("server", format_args!("`{server}`"), expected));
        }
        if !(1..=55).contains(&self.timeout_seconds) {
            let expected = "1 to 55 seconds";
            return Err(opening.value("timeout_seconds", self.timeout_seconds, expected));
        }
        let (file, env) = (self.password_file.as_ref(), self.password_env.as_ref());
        let password = opening.secret("password", file, env)?;
        let mut hidden = Vec::new();
        let credentials = match (&self.user, password) {
            (Some(user), Some(password)) => {
                let password = password.reveal();
                hidden = travelling(user, password);
                Some(Credentials::new(user.clone(), password.to_owned()))
            }
            (None, None) => None,
            (Some(_), None) => {
                let expected = "it together with `password_file` or `password_env`";
                return Err(opening.value("user", "a user without a password", expected));
            }
            (None, Some(_)) => {
                let expected = "a user beside the password";
                return Err(opening.value("user", "nothing", expected));
            }
        };
        Ok(Server {
            host: server.trim_matches(['[', ']']).to_owned(),
            port: self.port(),
            encryption: self.encryption(server, opening)?,
            credentials,
            hidden,
            timeout: Duration::from_secs(self.timeout_seconds.into()),
        })
    }

    /// The sender and the recipients.
    ///
    /// # Errors
    /// One of them is no address, or there are too few or too many.
    pub(super) fn people(
        &self,
        opening: &Opening<'_>,
    ) -> Result<(Mailbox, Vec<Mailbox>), ChannelError> {
        if !(1..=50).contains(&self.to.len()) {
            let found = format_args!("{} addresses", self.to.len());
            return Err(opening.value("to", found, "1 to 50 addresses"));
        }
        let read = |key, text: &String| {
            mailbox(text).map_err(|expected| opening.value(key, format_args!("`{text}`"), expected))
        };
        let to = self.to.iter().map(|text| read("to", text));
        Ok((read("from", &self.from)?, to.collect::<Result<_, _>>()?))
    }

    fn port(&self) -> u16 {
        self.port.unwrap_or(match self.tls {
            Tls::Starttls => 587,
            Tls::Tls => 465,
            Tls::None => 25,
        })
    }

    fn encryption(&self, server: &str, opening: &Opening<'_>) -> Result<Encryption, ChannelError> {
        match self.tls {
            Tls::None if !self.allow_plain && !is_this_host(server) => {
                let expected = "`starttls` or `tls`, since others could read mail and password on their way, or \
                     `allow_plain = true` beside it";
                Err(opening.value("tls", format_args!("`none` for `{server}`"), expected))
            }
            Tls::None if self.ca_file.is_some() => {
                let expected = "none beside `tls = \"none\"`";
                Err(opening.value("ca_file", "a file", expected))
            }
            Tls::None => Ok(Encryption::Never),
            Tls::Starttls => Ok(Encryption::Upgraded(self.parameters(server, opening)?)),
            Tls::Tls => Ok(Encryption::Whole(self.parameters(server, opening)?)),
        }
    }

    fn parameters(
        &self,
        server: &str,
        opening: &Opening<'_>,
    ) -> Result<TlsParameters, ChannelError> {
        let mut builder = TlsParameters::builder(server.trim_matches(['[', ']']).to_owned());
        if let Some(path) = &self.ca_file {
            opening.reads(path);
            let certificate = certificate(path).map_err(|error| {
                let expected = format!("a readable file of certificates in PEM ({error})");
                opening.value("ca_file", format_args!("`{}`", path.display()), expected)
            })?;
            builder = builder.add_root_certificate(certificate);
        }
        builder.build().map_err(|error| {
            let expected = format!("settings with which TLS can be used ({error})");
            opening.value("tls", "others", expected)
        })
    }
}

/// A password as it stands in the commands of a login, and by itself.
fn travelling(user: &str, password: &str) -> Vec<Secret> {
    let plain = format!("\0{user}\0{password}");
    let coded = [plain.as_str(), password].map(|text| Base64::encode_string(text.as_bytes()));
    let [plain, login] = coded.map(Secret::new);
    vec![plain, login, Secret::new(password)]
}

fn certificate(path: &Path) -> Result<Certificate, String> {
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    let begin = b"-----BEGIN CERTIFICATE-----";
    if !pem.windows(begin.len()).any(|line| line == begin) {
        return Err("it holds none".to_owned());
    }
    Certificate::from_pem(&pem).map_err(|error| error.to_string())
}

fn mailbox(text: &str) -> Result<Mailbox, &'static str> {
    let expected = "an address such as `Ops <ops@example.com>` or `ops@example.com`";
    let mailbox: Mailbox = text.parse().map_err(|_| expected)?;
    let address: &str = mailbox.email.as_ref();
    if !address.is_ascii() || text.chars().any(char::is_control) {
        return Err("an address of ASCII letters, such as `ops@example.com`");
    }
    Ok(mailbox)
}

fn is_this_host(server: &str) -> bool {
    let address: Result<IpAddr, _> = server.trim_matches(['[', ']']).parse();
    server == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use crate::channels::email::Email;
    use crate::channels::examples;

    fn opened(text: &str) -> Result<Email, String> {
        let mut whole = "server = \"smtp.example.com\"\nfrom = \"a@example.com\"\n\
                         to = [\"Ops <ops@example.com>\"]\n"
            .parse::<toml::Table>()
            .unwrap();
        whole.extend(text.parse::<toml::Table>().unwrap());
        examples::open(whole, Email::open)
    }

    #[test]
    fn a_port_follows_from_the_encryption() {
        let check = |text, shown: &str| assert_eq!(opened(text).unwrap().server.shown(), shown);
        check("", "smtp.example.com:587");
        check("tls = \"tls\"", "smtp.example.com:465");
        check("tls = \"none\"\nserver = \"localhost\"", "localhost:25");
        check("tls = \"none\"\nserver = \"[::1]\"", "::1:25");
        check(
            "tls = \"none\"\nallow_plain = true\nport = 26",
            "smtp.example.com:26",
        );
    }

    #[test]
    fn a_wrong_setting_is_named_with_what_was_expected() {
        let check = |text, words: &[&str]| {
            let error = opened(text).expect_err(text);
            for word in words {
                assert!(error.contains(word), "{word} in {error}");
            }
        };
        check("server = \"\"", &["x.server", "smtp.example.com"]);
        check("server = \"smtp://x\"", &["x.server", "smtp://x"]);
        check("tls = \"none\"", &["x.tls", "allow_plain"]);
        check("tls = \"ssl\"", &["ssl", "starttls"]);
        check("to = []", &["x.to", "1 to 50"]);
        check("to = [\"ops\"]", &["x.to", "`ops`", "ops@example.com"]);
        check("to = [\"ö@example.com\"]", &["x.to", "ASCII"]);
        check("from = \"x\\r\\nBcc: y@z\"", &["x.from"]);
        check("timeout_seconds = 0", &["x.timeout_seconds", "55"]);
        check("user = \"me\"", &["x.user", "password_file"]);
        check("password_env = \"PATH\"", &["x.user", "password"]);
        check("ca_file = \"/nowhere\"", &["x.ca_file", "/nowhere"]);
        check("ca_file = \"/etc/hostname\"", &["x.ca_file", "PEM"]);
        check("host = \"x\"", &["host", "unknown"]);
    }

    #[test]
    fn a_channel_shows_no_password() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "hunter2").unwrap();
        let text = format!("user = \"me\"\npassword_file = \"{}\"", file.display());
        let email = opened(&text).unwrap();
        assert!(!format!("{email:?}").contains("hunter2"));
    }
}
