//! Trust in a server that we speak TLS to: whose signature counts, and why a certificate was not taken.
//!
//! What else may go wrong in TLS, and the connection itself, are the caller's.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_native_certs::load_native_certs;
use thiserror::Error;
use tokio_rustls::rustls::client::WantsClientCert;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, ConfigBuilder, RootCertStore};

/// A kind of server, as people are told of it.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Whose certificate it is, as a sentence begins: `the broker's`.
    pub whose: &'static str,
    /// What makes us trust it, as a sentence ends: `name the broker's CA in bus.ca_file`.
    pub mend: &'static str,
}

/// Why nobody can be trusted.
#[derive(Debug, Error)]
pub enum TrustError {
    /// A file of certificates can't be used.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No file is named, and the system trusts nobody.
    #[error("the system has no root certificates: install them (ca-certificates), or {mend}")]
    Nobody {
        /// What else helps.
        mend: &'static str,
    },
}

impl Peer {
    /// Those whose signature we take: the ones in `ca_file`, or else those that the system trusts.
    ///
    /// # Errors
    /// The file can't be used, or the system trusts nobody.
    pub fn roots(&self, ca_file: Option<&Path>) -> Result<RootCertStore, TrustError> {
        if let Some(path) = ca_file {
            let mut roots = RootCertStore::empty();
            add(&mut roots, path)?;
            return Ok(roots);
        }
        let roots = system_roots();
        if roots.is_empty() {
            return Err(TrustError::Nobody { mend: self.mend });
        }
        Ok(roots)
    }

    /// What was wrong with the certificate of `host`, and how to mend it.
    #[must_use]
    pub fn explain(&self, wrong: &CertificateError, host: &str) -> String {
        let Self { whose, mend } = self;
        match wrong {
            // A CA that was made anew has the same name and another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                format!("{whose} certificate is signed by nobody we trust: {mend}")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("{whose} certificate has expired")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("{whose} certificate is not valid yet: is this clock right?")
            }
            CertificateError::NotValidForName => {
                format!("{whose} certificate is not for `{host}`")
            }
            CertificateError::NotValidForNameContext { presented, .. } => {
                let names: Vec<&str> = presented.iter().map(|name| shown(name)).collect();
                let names = names.join(", ");
                format!("{whose} certificate is not for `{host}`, but for {names}")
            }
            other => format!("{whose} certificate can't be trusted: {other}"),
        }
    }
}

/// Those that the system trusts; it may be nobody.
#[must_use]
pub fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(load_native_certs().certs);
    roots
}

/// Adds those in a PEM file.
///
/// # Errors
/// The file can't be read or holds no certificate, or one that can't be used.
pub fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), TrustError> {
    for certificate in certificates(path)? {
        let added = roots.add(certificate);
        added.map_err(|error| unusable(path, error.to_string()))?;
    }
    Ok(())
}

/// The certificates in a PEM file, at least one.
///
/// # Errors
/// The file can't be read or holds no certificate.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let bytes = fs::read(path).map_err(|error| unusable(path, error.to_string()))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let read = read.map_err(|error| unusable(path, error.to_string()))?;
    if read.is_empty() {
        let reason = "it holds no certificate in PEM form".to_owned();
        return Err(unusable(path, reason));
    }
    Ok(read)
}

/// What a client that trusts `roots` needs, but for a certificate of its own.
///
/// # Errors
/// The library can't do TLS 1.2 and 1.3.
pub fn client(
    roots: RootCertStore,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots))
}

fn unusable(path: &Path, reason: String) -> TrustError {
    TrustError::File {
        path: path.to_owned(),
        reason,
    }
}

/// The library tells names as `DnsName("localhost")`.
fn shown(name: &str) -> &str {
    let inner = name.strip_prefix("DnsName(\"");
    inner
        .and_then(|name| name.strip_suffix("\")"))
        .unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;

    use super::*;

    const BROKER: Peer = Peer {
        whose: "the broker's",
        mend: "name the broker's CA in bus.ca_file",
    };

    #[test]
    fn what_was_wrong_with_a_certificate_is_told() {
        let check = |wrong: CertificateError, told: &str| {
            let text = BROKER.explain(&wrong, "db");
            assert!(text.starts_with("the broker's certificate "), "{text}");
            assert!(text.contains(told), "{text}");
        };
        check(CertificateError::UnknownIssuer, "bus.ca_file");
        check(CertificateError::BadSignature, "bus.ca_file");
        check(CertificateError::Expired, "expired");
        check(CertificateError::NotValidYet, "clock");
        check(CertificateError::NotValidForName, "not for `db`");
        let of_others = CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("db").unwrap(),
            presented: vec!["DnsName(\"a\")".to_owned(), "IpAddress(::1)".to_owned()],
        };
        check(of_others, "not for `db`, but for a, IpAddress(::1)");
        check(CertificateError::Revoked, "can't be trusted");
    }

    #[test]
    fn a_file_that_can_not_be_used_is_named_with_the_reason() {
        let check = |path: &str, told: &str| {
            let error = BROKER.roots(Some(Path::new(path))).unwrap_err().to_string();
            assert!(error.contains(path) && error.contains(told), "{error}");
        };
        check("/nowhere/ca.pem", "No such file");
        check("/dev/null", "no certificate in PEM form");
    }
}
