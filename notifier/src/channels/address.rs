//! Which addresses a channel takes.

use reqwest::Url;

/// A part of an address that is shorter is no token.
const SECRET_BYTES: usize = 8;

/// Whether an address may be told things without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain {
    /// To any host: it is the site's own.
    Anywhere,
    /// Only to this host itself: the address holds a token.
    Loopback,
}

/// Reads an address.
///
/// # Errors
/// What was expected instead. The address is not repeated: it may hold a token.
pub fn parse(text: &str, plain: Plain) -> Result<Url, &'static str> {
    let Ok(url) = Url::parse(text.trim()) else {
        return Err("a whole address, `https://host/path`");
    };
    if !url.has_host() || !url.username().is_empty() || url.password().is_some() {
        return Err("an address with a host and without a user or password");
    }
    match (url.scheme(), plain) {
        ("https", _) | ("http", Plain::Anywhere) => Ok(url),
        ("http", Plain::Loopback) if is_loopback(&url) => Ok(url),
        ("http", Plain::Loopback) => Err("an address with `https`, since it holds a token"),
        _ => Err("an address with `https` or `http`"),
    }
}

/// The parts of an address that may be tokens: long levels of its path and values of its query.
#[must_use]
pub fn secrets(url: &Url) -> Vec<String> {
    let levels = url.path_segments().into_iter().flatten().map(str::to_owned);
    let pairs = url.query().unwrap_or_default().split('&');
    // Without the names: services speak of them in their errors, as of a missing `access_token`.
    let encoded = pairs.flat_map(|pair| pair.split('=').skip(usize::from(pair.contains('='))));
    let decoded = url.query_pairs().map(|(_, value)| value.into_owned());
    let all = levels.chain(encoded.map(str::to_owned)).chain(decoded);
    all.filter(|part| part.len() >= SECRET_BYTES).collect()
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_token_is_found() {
        let check = |text: &str, expected: &[&str]| {
            assert_eq!(secrets(&Url::parse(text).unwrap()), expected, "{text}");
        };
        check("https://example.org/hook?a=b", &[]);
        check("https://example.org/bot/v2/hook/0a1b2c3d", &["0a1b2c3d"]);
        let both = ["a%20long%20one", "a long one"];
        check("https://example.org/send?key=a%20long%20one", &both);
        check(
            "https://example.org/send?access_token=&0a1b2c3d",
            &["0a1b2c3d"],
        );
    }

    #[test]
    fn tokens_travel_in_the_clear_only_to_this_host() {
        let check = |text: &str, plain, good: bool| {
            assert_eq!(parse(text, plain).is_ok(), good, "{text} {plain:?}");
        };
        for plain in [Plain::Anywhere, Plain::Loopback] {
            check("https://example.org/hook?a=b", plain, true);
            check("http://127.0.0.1:8080/hook", plain, true);
            check("http://[::1]:8080/hook", plain, true);
            check("http://localhost/hook", plain, true);
            check("example.org/hook", plain, false);
            check("file:///etc/passwd", plain, false);
            check("ftp://example.org/", plain, false);
            check("https://me:word@example.org/", plain, false);
            check("", plain, false);
        }
        check("http://10.0.0.7/hook", Plain::Anywhere, true);
        check("http://10.0.0.7/hook", Plain::Loopback, false);
        check("http://127.example.org/hook", Plain::Loopback, false);
    }
}
