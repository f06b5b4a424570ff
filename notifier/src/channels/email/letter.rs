//! How a message reads as mail: headers, threads, plain text and HTML. Pure: the same message makes the
//! same mail, so that a repetition after a lost answer can be told by its `Message-ID`.
//!
//! ```text
//! Message-ID:  <KEY.FORMED_MS.CHANNEL@DOMAIN>   the same when a message is sent again
//! References:  <GROUP.CHANNEL@DOMAIN>           one thread a group, by the hash of its name
//! ```

use std::time::{Duration, UNIX_EPOCH};

use hostbus_wire::alert::AlertSeverity;
use lettre::Message as Letter;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use sha2::{Digest, Sha256};

use crate::channels::Message;
use crate::channels::colour::{Colour, worst_firing};
use crate::channels::document::reason;
use crate::notice::Notice;

/// The longest subject, in characters; mail programs show far less.
const MAX_SUBJECT_CHARS: usize = 250;

/// The mail that tells `message`; `body` is its text as HTML, if there is one beside the plain text.
///
/// # Errors
/// There is nobody to send it to, or the message can't be made into one.
pub(super) fn letter(
    message: &Message,
    body: Option<String>,
    from: &Mailbox,
    to: &[Mailbox],
) -> Result<Letter, lettre::error::Error> {
    let notice = &message.notice;
    let domain = from.email.domain();
    let channel = &notice.channel;
    let thread = format!("<{}.{channel}@{domain}>", digest(&notice.group));
    let id = format!("<{}.{}.{channel}@{domain}>", message.key, notice.formed_ms);
    let severity = worst(notice);
    let mut builder = Letter::builder()
        .from(from.clone())
        .subject(one_line(&message.title, MAX_SUBJECT_CHARS))
        .date(UNIX_EPOCH + Duration::from_millis(notice.formed_ms))
        .message_id(Some(id))
        .in_reply_to(thread.clone())
        .references(thread)
        .raw_header(header("Auto-Submitted", "auto-generated"))
        .raw_header(header("X-Auto-Response-Suppress", "All"))
        .raw_header(header("X-Hostbus-Key", &message.key))
        .raw_header(header("X-Hostbus-Channel", channel))
        .raw_header(header("X-Hostbus-Reason", reason(notice.reason)))
        .raw_header(header("X-Hostbus-Group", &one_line(&notice.group, 200)))
        .raw_header(header("X-Hostbus-Severity", severity.as_str()));
    if let [only] = &notice.lines[..] {
        builder = builder.raw_header(header("X-Hostbus-Fingerprint", &only.key.fingerprint()));
    }
    if worst_firing(notice) == Some(AlertSeverity::Critical) {
        builder = builder.raw_header(header("Importance", "high"));
    }
    for mailbox in to {
        builder = builder.to(mailbox.clone());
    }
    builder.multipart(
        MultiPart::alternative()
            .boundary(digest(&message.key))
            .singlepart(SinglePart::plain(message.text.clone()))
            .singlepart(SinglePart::html(html(message, body))),
    )
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

/// The worst severity that still fires; of a notice that is all over, the worst there was.
fn worst(notice: &Notice) -> AlertSeverity {
    let severities = notice.lines.iter().map(|line| line.alert.severity);
    let worst = worst_firing(notice).or_else(|| severities.max());
    worst.unwrap_or(AlertSeverity::Info)
}

/// A text for a header: no line ends and no other control characters, and not too long.
fn one_line(text: &str, max_chars: usize) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(max_chars)
        .collect()
}

/// The first 64 bits of SHA-256, as 16 hexadecimal digits: a name for a thread that is safe in a header.
fn digest(text: &str) -> String {
    let hash = Sha256::digest(text.as_bytes());
    hash.iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The same text beside a bar in the colour of its severity.
fn html(message: &Message, body: Option<String>) -> String {
    let colour = Colour::of(&message.notice).hex();
    let title = escaped(&message.title);
    let text = body.unwrap_or_else(|| escaped(&message.text).replace('\n', "<br>\n"));
    format!(
        "<!doctype html>\n<html><head><meta charset=\"utf-8\"></head>\n\
         <body style=\"margin:0;padding:12px;font-family:sans-serif;font-size:14px\">\n\
         <div style=\"border-left:6px solid {colour};padding:4px 14px\">\n\
         <h2 style=\"margin:0 0 8px;font-size:17px\">{title}</h2>\n\
         <div>{text}</div>\n\
         </div></body></html>\n"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::examples::message;

    fn mail(message: &Message) -> String {
        let to = ["Ops <ops@example.com>", "night@example.org"].map(|to| to.parse().unwrap());
        let letter = letter(
            message,
            None,
            &"hostbus <bus@example.net>".parse().unwrap(),
            &to,
        )
        .unwrap();
        String::from_utf8(letter.formatted()).unwrap()
    }

    fn headers(mail: &str) -> Vec<&str> {
        mail.split("\r\n\r\n")
            .next()
            .unwrap()
            .split("\r\n")
            .collect()
    }

    #[test]
    fn a_mail_says_whose_it_is_and_that_a_program_wrote_it() {
        let mail = mail(&message("main-42"));
        for header in [
            "From: hostbus <bus@example.net>",
            "To: Ops <ops@example.com>, night@example.org",
            "Subject: [critical] disk-full on web1",
            "Date: Thu, 20 Nov 2025 09:13:20 +0000",
            "Message-ID: <main-42.1763630000123.mail@example.net>",
            "Auto-Submitted: auto-generated",
            "X-Hostbus-Key: main-42",
            "X-Hostbus-Reason: firing",
            "X-Hostbus-Severity: critical",
            "X-Hostbus-Group: rule disk-full",
            "Importance: high",
        ] {
            assert!(headers(&mail).contains(&header), "{header} in\n{mail}");
        }
        assert!(mail.contains("multipart/alternative"), "{mail}");
    }

    #[test]
    fn the_same_message_makes_the_same_mail_and_a_group_is_one_thread() {
        assert_eq!(mail(&message("main-42")), mail(&message("main-42")));
        let thread = |message: &Message| {
            let mail = mail(message);
            let find = |name: &str| {
                let line = headers(&mail)
                    .into_iter()
                    .find_map(|line| line.strip_prefix(name));
                line.map(str::to_owned).unwrap()
            };
            assert_eq!(find("References: "), find("In-Reply-To: "));
            find("References: ")
        };
        let mut other = message("main-43");
        assert_eq!(thread(&message("main-42")), thread(&other));
        other.notice.group = "rule cpu-high".to_owned();
        assert_ne!(thread(&message("main-42")), thread(&other));
    }

    #[test]
    fn nothing_in_a_message_becomes_a_header_or_markup() {
        let mut hostile = message("main-42");
        hostile.title = "full\r\nBcc: thief@example.com\r\n\r\n<b>".to_owned();
        hostile.notice.group = "rule x\nBcc: thief@example.com".to_owned();
        hostile.text = "<img src=x> & more\r\n.\r\nQUIT".to_owned();
        let mail = mail(&hostile);
        assert!(
            headers(&mail).iter().all(|line| !line.starts_with("Bcc")),
            "{mail}"
        );
        assert_eq!(
            escaped("<img src=\"x\"> &"),
            "&lt;img src=&quot;x&quot;&gt; &amp;"
        );
        assert!(!html(&hostile, None).contains("<img"), "{mail}");
    }

    #[test]
    fn subjects_of_any_language_pass_and_long_ones_are_cut() {
        let mut chinese = message("main-42");
        chinese.title = "磁盘已满".repeat(100);
        let mail = mail(&chinese);
        assert!(mail.is_ascii(), "{mail}");
        assert_eq!(one_line(&chinese.title, 250).chars().count(), 250);
        assert_eq!(one_line("a\r\nb\0", 250), "a  b ");
    }
}
