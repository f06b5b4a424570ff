//! A webhook's own keys.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hostbus_daemon::secret::Secret;
use serde::Deserialize;

/// The settings of a webhook.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where to.
    pub url: Option<Secret>,
    /// A file that holds the address, when it is a secret.
    pub url_file: Option<PathBuf>,
    /// The environment variable that holds it.
    pub url_env: Option<String>,
    /// `POST`, the default, or `PUT`.
    pub method: Method,
    /// A file that holds the key of the signature; absent: requests are not signed.
    pub secret_file: Option<PathBuf>,
    /// The environment variable that holds it.
    pub secret_env: Option<String>,
    /// More headers.
    pub headers: BTreeMap<String, Secret>,
    /// More headers whose values stand in files.
    pub headers_file: BTreeMap<String, PathBuf>,
    /// More headers whose values stand in environment variables.
    pub headers_env: BTreeMap<String, String>,
    /// A template of the body in the place of the documented shape.
    pub body_template: Option<String>,
    /// A file that holds it.
    pub body_template_file: Option<PathBuf>,
}

/// How a webhook is called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Method {
    #[default]
    Post,
    Put,
}

impl Method {
    /// As it stands in a request.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }
}
