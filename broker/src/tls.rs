//! TLS of one listener: its certificate, its key, and the two again when their files have changed.
//!
//! TLS 1.2 and 1.3. New handshakes get the new certificate; connections that stand keep theirs. A
//! changed file that can't be used is told, and what was there before stays.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use crate::error::Error;
use crate::lock::Held;

/// Permission bits of a file that others than its owner have.
const OTHERS: u32 = 0o077;

/// The files of a listener.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    /// The setting that the files stand below, as `broker.listeners[0]`.
    pub(crate) setting: String,
    /// The certificate, then those that signed it, as PEM.
    pub(crate) certificate: PathBuf,
    /// Its private key, as PEM.
    pub(crate) key: PathBuf,
    /// Who must have signed a client's certificate, as PEM; absent: clients need none.
    pub(crate) client_ca: Option<PathBuf>,
    /// What the protocol above is called in TLS.
    pub(crate) alpn: &'static [u8],
}

/// The content of the files.
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// TLS as it is spoken now.
#[derive(Debug)]
pub(crate) struct Tls {
    files: Files,
    current: ArcSwap<ServerConfig>,
    /// The digest of the files when they were last looked at, good or bad.
    seen: Mutex<Option<[u8; 32]>>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// One can't be read or used.
    pub(crate) fn load(files: Files) -> Result<Self, Error> {
        let contents = files.read()?;
        let config = files.config(&contents)?;
        files.warn_of_readers();
        Ok(Self {
            files,
            current: ArcSwap::from_pointee(config),
            seen: Mutex::new(Some(contents.digest())),
        })
    }

    /// Looks whether the files have changed, and takes them if so. It waits for the disk.
    pub(crate) fn reload(&self) {
        let contents = self.files.read();
        let digest = contents.as_ref().ok().map(Contents::digest);
        if std::mem::replace(&mut *self.seen.held(), digest) == digest {
            return;
        }
        let certificate = self.files.certificate.display();
        match contents.and_then(|contents| self.files.config(&contents)) {
            Ok(config) => {
                self.files.warn_of_readers();
                self.current.store(Arc::new(config));
                info!(%certificate, "certificate reloaded");
            }
            Err(error) => warn!(%error, "the certificate has changed, the old one stays"),
        }
    }

    /// The handshake with one client.
    pub(crate) async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(self.current.load_full());
        acceptor.accept(stream).await
    }
}

impl Contents {
    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for part in [
            &self.certificate,
            &self.key,
            self.client_ca.as_ref().unwrap_or(&Vec::new()),
        ] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

impl Files {
    fn read(&self) -> Result<Contents, Error> {
        let read = |key: &str, path: &Path| {
            fs::read(path).map_err(|error| self.wrong(key, path, error.to_string()))
        };
        Ok(Contents {
            certificate: read("certificate", &self.certificate)?,
            key: read("key", &self.key)?,
            client_ca: match &self.client_ca {
                Some(path) => Some(read("client_ca", path)?),
                None => None,
            },
        })
    }

    fn config(&self, contents: &Contents) -> Result<ServerConfig, Error> {
        let provider = Arc::new(ring::default_provider());
        let chain = self.certificates("certificate", &self.certificate, &contents.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|error| {
            let problem = match error {
                pem::Error::NoItemsFound => {
                    "it holds no private key in PEM form (an encrypted key can't be used)"
                        .to_owned()
                }
                other => other.to_string(),
            };
            self.wrong("key", &self.key, problem)
        })?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| self.wrong("certificate", &self.certificate, error.to_string()))?;
        let builder = match (&self.client_ca, &contents.client_ca) {
            (Some(path), Some(bytes)) => {
                builder.with_client_cert_verifier(self.verifier(path, bytes, provider)?)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| self.unusable(error))?;
        config.alpn_protocols = vec![self.alpn.to_vec()];
        // Who comes back needs no second signature, and the broker keeps nothing for it.
        config.ticketer = ring::Ticketer::new()
            .map_err(|error| self.wrong("key", &self.key, error.to_string()))?;
        config.send_tls13_tickets = 1;
        Ok(config)
    }

    fn certificates(
        &self,
        key: &str,
        path: &Path,
        bytes: &[u8],
    ) -> Result<Vec<CertificateDer<'static>>, Error> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(bytes)
            .collect::<Result<_, _>>()
            .map_err(|error| self.wrong(key, path, error.to_string()))?;
        if certificates.is_empty() {
            let problem = "it holds no certificate in PEM form".to_owned();
            return Err(self.wrong(key, path, problem));
        }
        Ok(certificates)
    }

    fn verifier(
        &self,
        path: &Path,
        bytes: &[u8],
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, Error> {
        let wrong = |problem: String| self.wrong("client_ca", path, problem);
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates("client_ca", path, bytes)? {
            roots
                .add(certificate)
                .map_err(|error| wrong(error.to_string()))?;
        }
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| wrong(error.to_string()))
    }

    /// Certificate and key, each of which can be read, do not work together.
    fn unusable(&self, error: rustls::Error) -> Error {
        match error {
            rustls::Error::InconsistentKeys(_) => {
                let problem = format!(
                    "it is not the key of the certificate in {}",
                    self.certificate.display()
                );
                self.wrong("key", &self.key, problem)
            }
            rustls::Error::InvalidCertificate(error) => {
                self.wrong("certificate", &self.certificate, error.to_string())
            }
            other => self.wrong("key", &self.key, other.to_string()),
        }
    }

    fn wrong(&self, key: &str, path: &Path, problem: String) -> Error {
        Error::Certificate {
            setting: format!("{}.{key}", self.setting),
            path: path.to_owned(),
            problem,
        }
    }

    fn warn_of_readers(&self) {
        let mode = fs::metadata(&self.key).map(|metadata| metadata.permissions().mode());
        if mode.is_ok_and(|mode| mode & OTHERS != 0) {
            warn!(
                key = %self.key.display(),
                "others than its owner may use this private key: chmod 600"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use tempfile::TempDir;

    struct Folder {
        folder: TempDir,
        files: Files,
    }

    fn folder() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        let files = Files {
            setting: "broker.listeners[0]".to_owned(),
            certificate: folder.path().join("certificate.pem"),
            key: folder.path().join("key.pem"),
            client_ca: None,
            alpn: b"mqtt",
        };
        let folder = Folder { folder, files };
        folder.renew();
        folder
    }

    impl Folder {
        fn renew(&self) {
            let CertifiedKey { cert, signing_key } =
                generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            fs::write(&self.files.certificate, cert.pem()).unwrap();
            fs::write(&self.files.key, signing_key.serialize_pem()).unwrap();
        }
    }

    #[test]
    fn files_that_can_not_be_used_are_named_with_their_key() {
        let check = |spoil: fn(&mut Folder), named: &[&str]| {
            let mut folder = folder();
            spoil(&mut folder);
            let error = Tls::load(folder.files).expect_err(named[0]);
            assert!(error.is_setting());
            let text = error.to_string();
            for named in named {
                assert!(text.contains(named), "{text}");
            }
        };
        check(
            |f| f.files.certificate = "/nowhere.pem".into(),
            &[
                "broker.listeners[0].certificate",
                "/nowhere.pem",
                "No such file",
            ],
        );
        check(
            |f| fs::write(&f.files.certificate, "hello").unwrap(),
            &["[0].certificate", "no certificate in PEM"],
        );
        check(
            |f| fs::write(&f.files.key, "hello").unwrap(),
            &["[0].key", "no private key in PEM"],
        );
        check(
            |f| {
                let key = fs::read(&f.files.key).unwrap();
                f.renew();
                fs::write(&f.files.key, key).unwrap();
            },
            &["[0].key", "not the key of", "certificate.pem"],
        );
        check(
            |f| {
                let empty = f.folder.path().join("ca.pem");
                fs::write(&empty, "").unwrap();
                f.files.client_ca = Some(empty);
            },
            &["[0].client_ca", "no certificate in PEM"],
        );
    }

    #[test]
    fn changed_files_are_taken_and_bad_ones_are_not() {
        let folder = folder();
        let tls = Tls::load(folder.files.clone()).unwrap();
        let first = tls.current.load_full();
        let is_first = || Arc::ptr_eq(&first, &tls.current.load_full());
        tls.reload();
        assert!(is_first(), "nothing has changed");
        let key = fs::read(&folder.files.key).unwrap();
        folder.renew();
        let new_key = fs::read(&folder.files.key).unwrap();
        fs::write(&folder.files.key, key).unwrap();
        tls.reload();
        assert!(is_first(), "half of a renewal");
        fs::write(&folder.files.key, new_key).unwrap();
        tls.reload();
        assert!(!is_first());
    }
}
