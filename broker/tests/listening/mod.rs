//! Brokers with more listeners than the plain one, and certificates for them.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    clippy::unwrap_used,
    reason = "test code of which each binary uses its own part"
)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use hostbus_broker::Config;
use hostbus_broker::listeners::{ListenerConfig, TransportKind};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::raw::{Broker, DEADLINE, broker, connect};

/// A CA, and certificates from it, in files.
pub struct Authority {
    pub folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "a CA for tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `<name>.pem` and `<name>.key` for `host`.
    pub fn issue(&self, name: &str, host: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
    }

    /// A client's side of TLS, with the certificate `name` if given.
    pub fn connector(&self, name: Option<&str>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(self.path("ca.pem")).unwrap())
            .unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match name {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let certificate = CertificateDer::from_pem_file(self.path(&format!("{name}.pem")));
                let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key")));
                builder
                    .with_client_auth_cert(vec![certificate.unwrap()], key.unwrap())
                    .unwrap()
            }
        };
        TlsConnector::from(Arc::new(config))
    }

    pub async fn dial(&self, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        self.connector(None).connect(name, stream).await
    }

    pub fn listener(&self, transport: TransportKind) -> ListenerConfig {
        let mut listener = plain(transport);
        if transport.is_encrypted() {
            listener.certificate = Some(self.path("broker.pem"));
            listener.key = Some(self.path("broker.key"));
        }
        listener
    }
}

pub fn plain(transport: TransportKind) -> ListenerConfig {
    ListenerConfig {
        address: ([127, 0, 0, 1], 0).into(),
        transport,
        certificate: None,
        key: None,
        client_ca: None,
        path: None,
        proxy_protocol: false,
        trusted_proxies: None,
    }
}

/// A broker with these listeners beside the plain one, and their addresses.
pub async fn listening(listeners: Vec<ListenerConfig>) -> (Broker, Vec<SocketAddr>) {
    listening_with(listeners, |_| {}).await
}

pub async fn listening_with(
    listeners: Vec<ListenerConfig>,
    change: impl FnOnce(&mut Config),
) -> (Broker, Vec<SocketAddr>) {
    let broker = broker(|config| {
        config.listeners = listeners;
        change(config);
    })
    .await;
    let addresses = broker.running.addresses()[1..].to_vec();
    (broker, addresses)
}

pub fn authority() -> Authority {
    let authority = Authority::new();
    authority.issue("broker", "localhost");
    authority
}

/// Reads one packet of less than 128 bytes.
pub async fn read_packet(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let read = async {
        let mut head = [0; 2];
        stream.read_exact(&mut head).await.unwrap();
        let mut packet = head.to_vec();
        packet.resize(2 + usize::from(head[1]), 0);
        stream.read_exact(&mut packet[2..]).await.unwrap();
        packet
    };
    timeout(DEADLINE, read).await.expect("a packet in time")
}

pub const CONNACK: [u8; 4] = [0x20, 2, 0, 0];

pub async fn log_in(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let bytes = connect(4, "", "viewer").bytes();
    stream.write_all(&bytes).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(read_packet(stream).await, CONNACK);
}
