//! What HTTP answers mean where a service has no code of its own, and what of them may be shown.

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;
use serde::de::DeserializeOwned;

use super::Verdict;

/// What is shown of an answer's body, in characters.
const EXCERPT: usize = 200;
/// A service that wants to be left alone for longer is asked again after this.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body's first 64 KiB.
    pub body: Vec<u8>,
}

impl Answer {
    /// The same without `secrets`: services, and what stands before them, repeat addresses in their
    /// errors. A secret of less than four characters is none.
    #[must_use]
    pub fn hiding<S: AsRef<str>>(&self, secrets: &[S]) -> Self {
        let mut body = String::from_utf8_lossy(&self.body).into_owned();
        for secret in secrets.iter().map(AsRef::as_ref) {
            if secret.len() >= 4 {
                body = body.replace(secret, "…");
            }
        }
        Self {
            body: body.into_bytes(),
            ..self.clone()
        }
    }

    /// The header `name` (in lower case), the first one of several.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.trim())
    }

    /// The body, if it is a JSON object of the expected shape.
    #[must_use]
    pub fn json<T: DeserializeOwned>(&self) -> Option<T> {
        // A list would be taken for the object's fields in order: `[0]` for success.
        let object = self.body.trim_ascii_start().starts_with(b"{");
        object.then(|| serde_json::from_slice(&self.body).ok())?
    }

    /// When the service wants to be asked again: `Retry-After`, in seconds or as a date, which is held
    /// against the service's own `Date`. At most a day.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.header("retry-after")?;
        let seconds = match text.parse::<u64>() {
            Ok(seconds) => seconds,
            Err(_) => {
                let until = http_date(text)?;
                let now = http_date(self.header("date")?)?;
                u64::try_from(until.saturating_sub(now)).unwrap_or_default()
            }
        };
        Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
    }

    /// The status with the beginning of the body, for people: `500 Internal Server Error: out of cheese`.
    #[must_use]
    pub fn summary(&self) -> String {
        let excerpt = excerpt(&String::from_utf8_lossy(&self.body));
        match excerpt.as_str() {
            "" => format!("HTTP {}", self.status),
            _ => format!("HTTP {}: {excerpt}", self.status),
        }
    }

    /// What the status alone says, after RFC 9110, section 15: 2xx took it; 408, 425 (RFC 8470), 429
    /// (RFC 6585) and 5xx may take it later. Of the rest, 3xx and what is about who asks, where and in which
    /// way (401 to 405, 407, 410, 415, 421, 423, 426, 431, 451) says that the channel is broken; what is left,
    /// as 400, 413 and 422, is about this message. `hint` says how it is mended.
    #[must_use]
    pub fn by_status(&self, hint: &str) -> Verdict {
        match self.status {
            200..=299 => Verdict::Delivered,
            408 | 425 | 429 | 500..=599 => self.later(),
            300..=399 | 401..=405 | 407 | 410 | 415 | 421 | 423 | 426 | 431 | 451 => {
                self.broken(hint)
            }
            _ => self.refused(hint),
        }
    }

    /// The channel is at fault, for what the status and body say.
    #[must_use]
    pub fn broken(&self, hint: &str) -> Verdict {
        Verdict::Broken {
            reason: format!("{}; {hint}", self.summary()),
        }
    }

    /// The message is at fault, for what the status and body say.
    #[must_use]
    pub fn refused(&self, hint: &str) -> Verdict {
        Verdict::Refused {
            reason: format!("{}; {hint}", self.summary()),
        }
    }

    /// It may be taken later, for what the status and body say.
    #[must_use]
    pub fn later(&self) -> Verdict {
        Verdict::Retry {
            reason: self.summary(),
            after: self.retry_after(),
        }
    }
}

/// A date as HTTP writes it, in seconds since 1970.
fn http_date(text: &str) -> Option<i64> {
    let zoned = DateTimeParser::new().parse_zoned(text).ok()?;
    Some(zoned.timestamp().as_second())
}

/// The beginning of what a service said, on one line and without control characters.
#[must_use]
pub fn excerpt(text: &str) -> String {
    let words: Vec<_> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    let line = words.join(" ");
    match line.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
        let headers = headers.iter();
        Answer {
            status,
            headers: headers
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let check = |headers: &[(&str, &str)], seconds: Option<u64>| {
            let found = answer(429, headers, "").retry_after();
            assert_eq!(found, seconds.map(Duration::from_secs), "{headers:?}");
        };
        check(&[], None);
        check(&[("retry-after", "7")], Some(7));
        check(&[("retry-after", " 120 ")], Some(120));
        check(&[("retry-after", "99999999999")], Some(24 * 3600));
        let later = ("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT");
        check(&[later, date], Some(30));
        check(&[later], None);
        let earlier = ("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT");
        check(&[earlier, date], Some(0));
        for rubbish in ["", "-1", "soon", "1.5"] {
            check(&[("retry-after", rubbish), date], None);
        }
    }

    #[test]
    fn a_status_decides_where_there_is_no_better_word() {
        let check = |status, expected: &str| {
            let found = match answer(status, &[], "").by_status("look") {
                Verdict::Delivered => "delivered",
                Verdict::Retry { .. } => "retry",
                Verdict::Broken { .. } => "broken",
                Verdict::Refused { .. } => "refused",
            };
            assert_eq!(found, expected, "{status}");
        };
        for status in [200, 201, 204, 299] {
            check(status, "delivered");
        }
        for status in [408, 425, 429, 500, 502, 503, 599] {
            check(status, "retry");
        }
        for status in [301, 304, 401, 403, 404, 405, 407, 410, 415, 451] {
            check(status, "broken");
        }
        for status in [400, 409, 413, 418, 422] {
            check(status, "refused");
        }
    }

    #[test]
    fn secrets_are_hidden_wherever_they_are_repeated() {
        let said = answer(404, &[], "no /bot1:abcd/x, no 1:abcd, no id");
        let hidden = said.hiding(&["1:abcd", "id"]).summary();
        assert_eq!(hidden, "HTTP 404: no /bot…/x, no …, no id");
    }

    #[test]
    fn an_excerpt_is_one_short_line() {
        assert_eq!(excerpt(" a\r\n\tb\u{1b}[31m "), "a b [31m");
        assert_eq!(excerpt(&"ü".repeat(300)).chars().count(), EXCERPT + 1);
        let said = answer(500, &[], "no\nluck").summary();
        assert_eq!(said, "HTTP 500: no luck");
    }
}
