//! The headers that a webhook's settings add: as they are, from files, from the environment.

use hostbus_daemon::secret::Secret;
use reqwest::header::{HeaderName, HeaderValue};

use super::config::WebhookConfig;
use crate::channels::{ChannelError, Opening};

/// Headers that are the channel's own affair.
const OWN: [&str; 8] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "idempotency-key",
    "transfer-encoding",
    "upgrade",
    super::SIGNATURE_HEADER,
];

pub(super) fn read(
    config: &WebhookConfig,
    opening: &Opening,
) -> Result<Vec<(String, Secret)>, ChannelError> {
    let mut found: Vec<(String, Secret)> = Vec::new();
    for (name, value) in &config.headers {
        take("headers", name, value.clone(), opening, &mut found)?;
    }
    for (name, path) in &config.headers_file {
        let value = opening.secret("headers", Some(path), None)?;
        let value = value.expect("its place is named");
        take("headers_file", name, value, opening, &mut found)?;
    }
    for (name, variable) in &config.headers_env {
        let value = opening.secret("headers", None, Some(variable))?;
        let value = value.expect("its place is named");
        take("headers_env", name, value, opening, &mut found)?;
    }
    Ok(found)
}

fn take(
    key: &str,
    name: &str,
    value: Secret,
    opening: &Opening,
    found: &mut Vec<(String, Secret)>,
) -> Result<(), ChannelError> {
    let refuse = |expected: &str| Err(opening.value(key, format_args!("`{name}`"), expected));
    let Ok(parsed) = name.parse::<HeaderName>() else {
        return refuse("a header's name, such as `Authorization`");
    };
    if OWN.contains(&parsed.as_str()) {
        return refuse("a header that the channel does not set itself");
    }
    if HeaderValue::from_str(value.reveal()).is_err() {
        return refuse("a value without line ends and control characters");
    }
    if found.iter().any(|(known, _)| known == parsed.as_str()) {
        return refuse("each header once, in one of `headers`, `headers_file`, `headers_env`");
    }
    found.push((parsed.as_str().to_owned(), value));
    Ok(())
}
