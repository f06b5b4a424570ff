//! What a mail server's answer means. Pure.
//!
//! 4xx passes, 5xx does not (RFC 5321, section 4.2.1). The server hears of the mail itself only after `DATA`: what
//! it says before is about the server, the login, the sender and the recipients, which the settings name for
//! all mails alike, and so is what it says of the login (530, RFC 4954) or of who sends (5.7.8 to 5.7.14 and
//! 5.7.20 to 5.7.27 of the registry of RFC 5248) later. These are the channel's fault, what else it says of the
//! mail is the mail's.

use hostbus_daemon::secret::Secret;

use crate::channels::Verdict;

/// How far the conversation with the server had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Reaching it, and its greeting.
    Connect,
    /// Turning the connection into an encrypted one.
    Tls,
    /// Logging in.
    Login,
    /// Naming the sender.
    Sender,
    /// Naming a recipient.
    Recipient,
    /// The mail itself.
    Data,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The server answered with a code that is no success.
    Answer {
        /// 400 to 599.
        code: u16,
        /// Its words.
        text: String,
    },
    /// The certificate, or what the two sides support of TLS.
    Tls(String),
    /// The server does not offer what we need.
    Missing(String),
    /// The network, time, or words that are no SMTP.
    Network(String),
}

impl Trouble {
    /// The same without what must not be shown; less than four characters are no secret.
    pub(super) fn hiding(mut self, secrets: &[Secret]) -> Self {
        let (Self::Answer { text, .. }
        | Self::Tls(text)
        | Self::Missing(text)
        | Self::Network(text)) = &mut self;
        for secret in secrets.iter().filter(|secret| secret.reveal().len() >= 4) {
            *text = text.replace(secret.reveal(), "…");
        }
        self
    }
}

impl From<lettre::transport::smtp::Error> for Trouble {
    fn from(error: lettre::transport::smtp::Error) -> Self {
        let text = match std::error::Error::source(&error) {
            Some(source) => source.to_string(),
            None => error.to_string(),
        };
        match error.status() {
            Some(code) => Self::Answer {
                code: code.into(),
                text,
            },
            None if error.is_tls() || is_handshake(&error) => Self::Tls(text),
            None if error.is_client() => Self::Missing(text),
            None => Self::Network(text),
        }
    }
}

/// Whether the handshake failed, which lettre counts among the troubles of the network.
fn is_handshake(error: &lettre::transport::smtp::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let io = error.downcast_ref::<std::io::Error>();
        let inner = io.and_then(std::io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref::<tokio_rustls::rustls::Error>());
        if tls.is_some() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The verdict on a message that met `trouble` at `stage` with `server`.
pub(super) fn judge(stage: Stage, trouble: &Trouble, server: &str) -> Verdict {
    let retry = |reason: String| Verdict::Retry {
        reason,
        after: None,
    };
    match trouble {
        Trouble::Answer { code, text } => {
            let answer = format!("{server} answered {code} {}", short(text));
            if *code < 500 {
                return retry(answer);
            }
            let reason = format!(
                "{answer}: {}",
                mending(stage, *code, is_of_the_sender(text))
            );
            if stage == Stage::Data && *code != 530 && !is_of_the_sender(text) {
                return Verdict::Refused { reason };
            }
            Verdict::Broken { reason }
        }
        // A certificate is renewed, an attacker in between goes away: the notice waits for it.
        Trouble::Tls(text) => retry(format!(
            "no trusted connection to {server}: {}; check `server` and `tls`, and give `ca_file` for a \
             certificate of your own",
            short(text)
        )),
        Trouble::Missing(text) if stage == Stage::Tls => retry(format!(
            "{server}: {}; use `tls = \"tls\"` if it takes encrypted connections only, on port 465",
            short(text)
        )),
        Trouble::Missing(text) => Verdict::Broken {
            reason: format!(
                "{server}: {}; it must take a login by PLAIN or LOGIN, on an encrypted connection",
                short(text)
            ),
        },
        Trouble::Network(text) => retry(format!("no word from {server}: {}", short(text))),
    }
}

/// Whether the words begin with an enhanced code of the login or of the proof who sends.
fn is_of_the_sender(text: &str) -> bool {
    let code = text.split_whitespace().next().unwrap_or_default();
    let detail = code
        .strip_prefix("5.7.")
        .and_then(|detail| detail.parse().ok());
    matches!(detail, Some(8..=14_u16 | 20..=27))
}

/// How to mend a refusal.
fn mending(stage: Stage, code: u16, of_the_sender: bool) -> &'static str {
    match (stage, code) {
        (Stage::Login, 534) => {
            "check `user`; such an account may want a password made for one application"
        }
        (Stage::Login, _) => {
            "check `user` and the password; many services want a password made for one application"
        }
        (_, 530) => "it wants a login or encryption: set `user` and a password, or `tls`",
        (Stage::Sender, _) => "check `from`: many servers take only the login's own address",
        (Stage::Recipient, _) => {
            "check the addresses in `to`; a server that does not relay wants a login (`user`)"
        }
        (Stage::Data, _) if of_the_sender => {
            "it does not believe that this host may send for `from`: check the login, and SPF, DKIM and DMARC \
             of that domain"
        }
        (Stage::Data, 552) => "the mail is too big for it, or the mailbox is full",
        (Stage::Data, _) => "its filters refuse the mail; ask whoever runs it to let `from` pass",
        (Stage::Connect | Stage::Tls, _) => {
            "it does not serve this host; check `server` and `port`"
        }
    }
}

/// The server's words, one line of them.
fn short(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(200)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_4xx_passes_and_a_5xx_is_the_channels_fault_until_the_server_has_the_mail() {
        let check = |stage, code, text: &str, kind: &str, words: &[&str]| {
            let trouble = Trouble::Answer {
                code,
                text: text.to_owned(),
            };
            let verdict = judge(stage, &trouble, "mail:25");
            let (found, reason) = match &verdict {
                Verdict::Refused { reason } => ("refused", reason),
                Verdict::Broken { reason } => ("broken", reason),
                Verdict::Retry {
                    reason,
                    after: None,
                } => ("retry", reason),
                other => panic!("{code}: {other:?}"),
            };
            assert_eq!(found, kind, "{stage:?} {code} {text}");
            for word in words.iter().chain([&"mail:25", &text]) {
                assert!(reason.contains(word), "{word} in {reason}");
            }
        };
        check(
            Stage::Connect,
            421,
            "too many connections",
            "retry",
            &["421"],
        );
        check(Stage::Connect, 554, "no service", "broken", &["`server`"]);
        check(Stage::Login, 454, "later", "retry", &["454"]);
        let login = &["535", "`user`", "password"];
        check(Stage::Login, 535, "5.7.8 bad", "broken", login);
        check(Stage::Login, 534, "5.7.9 weak", "broken", &["application"]);
        let first = &["`user`", "`tls`"];
        check(Stage::Sender, 530, "login first", "broken", first);
        check(Stage::Sender, 553, "not yours", "broken", &["`from`"]);
        check(Stage::Recipient, 450, "greylisted", "retry", &["450"]);
        let relay = &["relay", "`to`"];
        check(Stage::Recipient, 550, "relaying denied", "broken", relay);
        check(Stage::Data, 451, "later", "retry", &["451"]);
        check(Stage::Data, 530, "login first", "broken", first);
        check(
            Stage::Data,
            550,
            "5.7.26 unauthenticated",
            "broken",
            &["DMARC"],
        );
        check(Stage::Data, 550, "5.7.1 spam", "refused", &["filters"]);
        check(Stage::Data, 552, "too big", "refused", &["too big"]);
        check(Stage::Data, 554, "spam", "refused", &["filters"]);
    }

    #[test]
    fn the_network_and_certificates_are_tried_again_and_a_missing_login_is_to_be_mended() {
        let retried = |stage, trouble: Trouble, word: &str| match judge(stage, &trouble, "mail:25")
        {
            Verdict::Retry { reason, .. } => assert!(reason.contains(word), "{reason}"),
            other => panic!("{other:?}"),
        };
        retried(
            Stage::Connect,
            Trouble::Network("refused".into()),
            "refused",
        );
        retried(
            Stage::Tls,
            Trouble::Tls("UnknownIssuer".into()),
            "`ca_file`",
        );
        retried(Stage::Tls, Trouble::Missing("no STARTTLS".into()), "465");
        let missing = Trouble::Missing("no mechanism".into());
        assert!(matches!(
            judge(Stage::Login, &missing, "m"),
            Verdict::Broken { .. }
        ));
    }

    #[test]
    fn a_servers_words_are_one_line_and_short() {
        assert_eq!(short("a\r\nb"), "a  b");
        assert_eq!(short(&"x".repeat(5000)).len(), 200);
    }
}
