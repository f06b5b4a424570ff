//! Asking the web: one request, one answer, within a time and a size. No redirect is followed: a
//! request may hold a token, and goes nowhere but where the settings say.
//!
//! | module | owns |
//! |---|---|
//! | `config` | the `[notifier.http]` section |
//! | `explain` | what went wrong, in words that hold no secret |

mod config;
mod explain;
#[cfg(test)]
pub(crate) mod stand_in;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use hostbus_daemon::trust::{self, TrustError};
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Url};
use tokio_rustls::rustls::RootCertStore;

use crate::channels::{Answer, Http, Message, Request, Verdict};
use crate::error::Error;

pub use config::HttpConfig;

/// How much of an answer is read.
const BODY_BYTES: usize = 64 * 1024;
/// How long a connection is kept for the next request. One that the service closes at the same moment
/// costs an answer.
const IDLE: Duration = Duration::from_secs(15);
const USER_AGENT: &str = concat!("hostbus/", env!("CARGO_PKG_VERSION"));

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// In words for people; no secret in it.
    pub reason: String,
    /// The request can't be made of these settings, and won't be the next time.
    pub lasts: bool,
}

/// Asks. Clones share its connections.
#[derive(Debug, Clone)]
pub struct HttpSender {
    client: Client,
    timeout: Duration,
}

impl HttpSender {
    /// Trusts the system's certificates and those in `ca_file`.
    ///
    /// # Errors
    /// `ca_file` can't be read or holds no certificate.
    pub fn new(config: &HttpConfig) -> Result<Self, Error> {
        let tls = trust::client(roots(config.ca_file.as_deref())?)
            .map_err(|error| Error::Http(error.to_string()))?
            .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(Policy::none())
            .timeout(config.timeout())
            .pool_idle_timeout(IDLE)
            .user_agent(USER_AGENT)
            .build()
            .map_err(|error| Error::Http(error.without_url().to_string()))?;
        Ok(Self {
            client,
            timeout: config.timeout(),
        })
    }

    /// Tells `message` through a channel that is one request a message.
    pub async fn tell<C: Http + Sync + ?Sized>(
        &self,
        channel: &C,
        message: &Message,
        now_ms: u64,
    ) -> Verdict {
        match self.ask(&channel.request(message, now_ms)).await {
            Ok(answer) => channel.judge(&answer),
            Err(Failure {
                reason,
                lasts: true,
            }) => Verdict::Broken { reason },
            Err(Failure { reason, .. }) => Verdict::Retry {
                reason,
                after: None,
            },
        }
    }

    /// Asks, and reads the first 64 KiB of the answer.
    ///
    /// # Errors
    /// There is no whole answer within the time. The service may have understood the request all the same.
    pub async fn ask(&self, request: &Request) -> Result<Answer, Failure> {
        let (request, host) = build(request)?;
        let failed = |error: reqwest::Error| Failure {
            reason: explain::explain(&error, &host, self.timeout),
            lasts: error.is_builder(),
        };
        let mut response = self.client.execute(request).await.map_err(failed)?;
        let headers = response.headers().iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        });
        let mut answer = Answer {
            status: response.status().as_u16(),
            headers: headers.collect(),
            body: Vec::new(),
        };
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            let room = BODY_BYTES - answer.body.len();
            answer
                .body
                .extend_from_slice(&chunk[..chunk.len().min(room)]);
            if answer.body.len() == BODY_BYTES {
                break;
            }
        }
        Ok(answer)
    }
}

/// The request as the library takes it, and the host it goes to.
fn build(request: &Request) -> Result<(reqwest::Request, String), Failure> {
    let wrong = |reason: String| Failure {
        reason,
        lasts: true,
    };
    let url = Url::parse(request.url.reveal())
        .map_err(|error| wrong(format!("the address is not a URL: {error}")))?;
    let (Some(host), "http" | "https") = (url.host_str(), url.scheme()) else {
        let reason = "the address does not begin with https:// or http:// and a host";
        return Err(wrong(reason.to_owned()));
    };
    let host = host.to_owned();
    let method = Method::from_bytes(request.method.as_bytes())
        .map_err(|_| wrong(format!("`{}` is no method of HTTP", request.method)))?;
    let mut built = reqwest::Request::new(method, url);
    for (name, value) in &request.headers {
        let unusable = |_| {
            wrong(format!(
                "the header `{}` has a wrong name",
                name.escape_debug()
            ))
        };
        let checked = HeaderName::from_bytes(name.as_bytes()).map_err(unusable)?;
        let mut value = HeaderValue::from_str(value.reveal()).map_err(|_| {
            wrong(format!(
                "the header `{name}` has characters that it may not"
            ))
        })?;
        value.set_sensitive(true);
        built.headers_mut().append(checked, value);
    }
    *built.body_mut() = (!request.body.is_empty()).then(|| request.body.clone().into());
    Ok((built, host))
}

/// Whose signature we take. If it is nobody's, HTTPS fails with a word on how to mend it, and plain HTTP works.
fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut roots = trust::system_roots();
    if let Some(path) = ca_file {
        let added = trust::add(&mut roots, path);
        added.map_err(|error| match error {
            TrustError::File { path, reason } => Error::CaFile { path, reason },
            TrustError::Nobody { .. } => Error::Http(error.to_string()),
        })?;
    }
    Ok(roots)
}
