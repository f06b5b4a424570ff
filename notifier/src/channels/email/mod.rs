//! Mail, over SMTP (RFC 5321).
//!
//! ```toml
//! [notifier.channels.mail]
//! type = "email"
//! server = "smtp.example.com"
//! tls = "starttls"                 # the default; "tls": encrypted from the first byte; "none"
//! user = "alerts@example.com"
//! password_file = "/etc/hostbus/mail-password"
//! from = "hostbus <alerts@example.com>"
//! to = ["ops@example.com"]
//! ```
//! Mail servers name no common limit of pace; 30 a minute is below what the big ones allow.
//!
//! | module | owns |
//! |---|---|
//! | `config` | the settings |
//! | `letter` | how a message reads as mail |
//! | `session` | the conversation with the server |
//! | `answer` | what its answers mean |
//! | `leftover` | recipients that are to be tried again |

mod answer;
mod config;
mod leftover;
mod letter;
mod session;

use std::fmt;
use std::sync::Mutex;

use lettre::Address;
use lettre::message::Mailbox;
use tracing::warn;

use super::{ChannelError, Limits, Measure, Message, Opening, Pace, Service, Verdict};
use crate::notice::Notice;
use crate::template::{Markup, Templates};
pub use config::{EmailConfig, Tls};
use leftover::{Leftover, Settled};
use session::Server;

/// The most of a subject, in characters; mail programs show far less.
const TITLE_CHARS: usize = 200;
/// The most of a text, in bytes: the names of some thousand nodes.
const TEXT_BYTES: usize = 256 * 1024;

/// A channel that sends mail.
pub struct Email {
    server: Server,
    from: Mailbox,
    to: Vec<Mailbox>,
    /// Who is still to get the message at the head of the queue that others already have.
    leftover: Mutex<Option<Leftover>>,
    templates: Templates,
    /// The same words as HTML.
    html: Box<Templates>,
    messages: usize,
}

impl Email {
    /// Opens it. Nothing is connected.
    ///
    /// # Errors
    /// A setting is wrong, or the password or a file can't be had.
    pub fn open(config: &EmailConfig, opening: &Opening<'_>) -> Result<Self, ChannelError> {
        let (from, to) = config.people(opening)?;
        Ok(Self {
            server: config.server(opening)?,
            from,
            to,
            leftover: Mutex::new(None),
            templates: opening.templates(Markup::Plain)?,
            html: Box::new(opening.templates(Markup::Html)?),
            messages: opening.messages,
        })
    }

    /// Sends `message`, and returns once the server has taken it or why not.
    ///
    /// # Panics
    /// When another call panicked before.
    pub async fn send(&self, message: &Message) -> Verdict {
        let shown = self.server.shown();
        // A piece of a notice has a part of its words.
        let is_whole = self.templates.text(&message.notice) == message.text;
        let html = is_whole.then(|| self.html.text(&message.notice));
        let letter = match letter::letter(message, html, &self.from, &self.to) {
            Ok(letter) => letter.formatted(),
            Err(error) => {
                return Verdict::Refused {
                    reason: format!("failed to write the mail: {error}"),
                };
            }
        };
        let before = self.leftover.lock().expect("no call panics").clone();
        let before = before.filter(|leftover| leftover.is_of(&message.key));
        let to: Vec<Address> = match &before {
            Some(leftover) => leftover.addresses().to_vec(),
            None => self.to.iter().map(|to| to.email.clone()).collect(),
        };
        let result = self.server.hand_over(&self.from.email, &to, &letter).await;
        let settled = match result {
            Ok(turned_away) => leftover::settle(&message.key, before, &to, turned_away, &shown),
            Err((stage, trouble)) => Settled {
                verdict: answer::judge(stage, &trouble, &shown),
                // They are tried again with the message.
                leftover: before,
                without: Vec::new(),
            },
        };
        for (address, reason) in &settled.without {
            warn!(
                channel = message.notice.channel,
                %address, reason, "a recipient goes without a mail that others got"
            );
        }
        *self.leftover.lock().expect("no call panics") = settled.leftover;
        settled.verdict
    }
}

impl Service for Email {
    fn kind(&self) -> &'static str {
        "email"
    }

    fn limits(&self) -> Limits {
        Limits {
            title: Measure::Characters(TITLE_CHARS),
            text: Measure::Bytes(TEXT_BYTES),
            markup: Markup::Plain,
            messages: self.messages,
        }
    }

    fn pace(&self) -> Pace {
        Pace::new(0, 30, 60)
    }

    fn messages(&self, notice: &Notice, instance: &str) -> Vec<Message> {
        self.templates.messages(notice, instance, &self.limits())
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Email")
            .field("server", &self.server.shown())
            .field("from", &self.from)
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}
