//! TLS to Redis: whose signature we take, who we are, and what was wrong with a certificate.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use hostbus_daemon::trust::{self, Peer, TrustError};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::Error as TlsError;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};

use crate::error::StoreError;

const REDIS: Peer = Peer {
    whose: "its",
    mend: "name the CA of Redis in redis.ca_file",
};

/// What each connection needs. Clones share it.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish()
    }
}

impl Tls {
    /// TLS to `host`, whose certificate must bear this name. Trusted are the certificates in
    /// `ca_file`, or those of the system; `identity` is our own certificate and its key.
    pub(crate) fn new(
        host: &str,
        ca_file: Option<&Path>,
        identity: Option<(&Path, &Path)>,
    ) -> Result<Self, StoreError> {
        // The library leaves the brackets of `[::1]` away.
        let name = ServerName::try_from(host.to_owned()).map_err(|_| StoreError::Url {
            url: format!("rediss://{host}"),
            reason: "this is neither a host name nor an address".to_owned(),
        })?;
        let roots = REDIS.roots(ca_file).map_err(of("redis.ca_file"))?;
        let config = trust::client(roots).map_err(|error| StoreError::Tls(error.to_string()))?;
        let config = match identity {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain =
                    trust::certificates(certificate).map_err(of("redis.certificate_file"))?;
                let unusable = |reason: String| unusable("redis.key_file", key, reason);
                let bytes = fs::read(key).map_err(|error| unusable(error.to_string()))?;
                let secret = PrivateKeyDer::from_pem_slice(&bytes)
                    .map_err(|_| unusable("it holds no key in PEM form".to_owned()))?;
                config
                    .with_client_auth_cert(chain, secret)
                    .map_err(|error| unusable(error.to_string()))?
            }
        };
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name,
        })
    }

    /// Speaks TLS over `stream`.
    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, StoreError> {
        let connected = self.connector.connect(self.name.clone(), stream).await;
        connected.map_err(|error| StoreError::Unavailable {
            reason: explain(&error, &self.name.to_str()),
        })
    }
}

/// An error with a file that the setting `key` names.
fn of(key: &'static str) -> impl Fn(TrustError) -> StoreError {
    move |error| match error {
        TrustError::File { path, reason } => StoreError::CertificateFile { key, path, reason },
        TrustError::Nobody { .. } => StoreError::Tls(error.to_string()),
    }
}

fn unusable(key: &'static str, path: &Path, reason: String) -> StoreError {
    StoreError::CertificateFile {
        key,
        path: path.to_owned(),
        reason,
    }
}

/// What went wrong with the server `host`, and how to mend it. With TLS 1.3 a server refuses our
/// certificate only after the handshake, so what is read and written later is explained here too.
pub(crate) fn explain(error: &io::Error, host: &str) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let Some(inner) = inner else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
            _ => error.to_string(),
        };
    };
    match inner {
        TlsError::InvalidCertificate(wrong) => REDIS.explain(wrong, host),
        TlsError::InvalidMessage(_) => {
            "what answers there does not speak TLS: is this its tls-port?".to_owned()
        }
        TlsError::AlertReceived(alert) => format!(
            "it refuses us in TLS ({alert:?}): does it want a certificate of ours (redis.certificate_file, redis.key_file)?"
        ),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tokio_rustls::rustls::CertificateError;

    use super::*;

    #[test]
    fn what_was_wrong_with_a_certificate_is_told() {
        let check = |error: TlsError, told: &str| {
            let error = io::Error::new(io::ErrorKind::InvalidData, error);
            let text = explain(&error, "db");
            assert!(text.contains(told), "{text}");
        };
        check(CertificateError::UnknownIssuer.into(), "redis.ca_file");
        check(CertificateError::NotValidForName.into(), "not for `db`");
    }
}
