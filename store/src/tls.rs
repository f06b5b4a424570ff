//! TLS to Redis: whose signature we take, who we are, and what was wrong with a certificate.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls_native_certs::load_native_certs;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error as TlsError, RootCertStore};

use crate::error::StoreError;

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
        let failed = |error: TlsError| StoreError::Tls(error.to_string());
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_root_certificates(roots(ca_file)?);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates("redis.certificate_file", certificate)?;
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

/// Whose signature we take.
fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, StoreError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        let key = "redis.ca_file";
        for certificate in certificates(key, path)? {
            let added = roots.add(certificate);
            added.map_err(|error| unusable(key, path, error.to_string()))?;
        }
        return Ok(roots);
    }
    roots.add_parsable_certificates(load_native_certs().certs);
    if roots.is_empty() {
        let text = "the system has no root certificates: install them (ca-certificates), or name the CA of Redis in redis.ca_file";
        return Err(StoreError::Tls(text.to_owned()));
    }
    Ok(roots)
}

/// The certificates of a PEM file, at least one.
fn certificates(
    key: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    let bytes = fs::read(path).map_err(|error| unusable(key, path, error.to_string()))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let read = read.map_err(|error| unusable(key, path, error.to_string()))?;
    if read.is_empty() {
        let reason = "it holds no certificate in PEM form".to_owned();
        return Err(unusable(key, path, reason));
    }
    Ok(read)
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
        TlsError::InvalidCertificate(wrong) => explain_certificate(wrong, host),
        TlsError::InvalidMessage(_) => {
            "what answers there does not speak TLS: is this its tls-port?".to_owned()
        }
        TlsError::AlertReceived(alert) => format!(
            "it refuses us in TLS ({alert:?}): does it want a certificate of ours (redis.certificate_file, redis.key_file)?"
        ),
        other => other.to_string(),
    }
}

fn explain_certificate(wrong: &CertificateError, host: &str) -> String {
    match wrong {
        // A CA that was made anew has the same name and another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is signed by nobody we trust: name its CA in redis.ca_file".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: is this clock right?".to_owned()
        }
        CertificateError::NotValidForName => format!("its certificate is not for `{host}`"),
        CertificateError::NotValidForNameContext { presented, .. } => format!(
            "its certificate is not for `{host}`, but for {}",
            presented.join(", ")
        ),
        other => format!("its certificate can't be trusted: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_wrong_with_a_certificate_is_told() {
        let check = |error: TlsError, told: &str| {
            let error = io::Error::new(io::ErrorKind::InvalidData, error);
            let text = explain(&error, "db");
            assert!(text.contains(told), "{text}");
        };
        check(CertificateError::UnknownIssuer.into(), "redis.ca_file");
        check(CertificateError::BadSignature.into(), "redis.ca_file");
        check(CertificateError::Expired.into(), "expired");
        check(CertificateError::NotValidYet.into(), "clock");
        check(CertificateError::NotValidForName.into(), "not for `db`");
    }
}
