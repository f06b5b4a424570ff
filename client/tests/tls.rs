//! A component reaches a broker through TLS, and is told what is wrong with a certificate.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hostbus_client::{BusConfig, Connection, Event, Options};
use hostbus_wire::QoS;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

const DEADLINE: Duration = Duration::from_secs(20);

/// A broker of a few bytes in TLS.
struct TlsBroker {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    folder: TempDir,
}

impl TlsBroker {
    async fn new(host: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let name = (DnType::CommonName, "a CA for tests");
        params.distinguished_name.push(name.0, name.1);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(certificate.pem().as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
            )
            .unwrap();
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            acceptor: TlsAcceptor::from(Arc::new(config)),
            folder,
        }
    }

    fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn open(&self, host: &str, ca_file: &Path) -> Connection {
        let port = self.listener.local_addr().unwrap().port();
        let config = BusConfig {
            url: format!("mqtts://{host}:{port}"),
            ca_file: Some(ca_file.to_owned()),
            ..BusConfig::default()
        };
        let options = Options {
            component: "test".to_owned(),
            filters: vec![("a/#".to_owned(), QoS::AtMostOnce)],
            will: None,
            ..Options::default()
        };
        Connection::open(&config, options).unwrap()
    }

    async fn welcome(&self) -> TlsStream<TcpStream> {
        let (stream, _) = self.listener.accept().await.unwrap();
        let mut stream = self.acceptor.accept(stream).await.unwrap();
        assert_eq!(packet(&mut stream).await[0] >> 4, 1, "CONNECT");
        stream.write_all(&[0x20, 2, 0, 0]).await.unwrap();
        let subscribe = packet(&mut stream).await;
        assert_eq!(subscribe[0] >> 4, 8, "SUBSCRIBE");
        let ack = [0x90, 3, subscribe[2], subscribe[3], 0];
        stream.write_all(&ack).await.unwrap();
        stream
    }
}

/// One packet of less than 128 bytes.
async fn packet(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await.expect("a packet's head");
    let mut packet = head.to_vec();
    packet.resize(2 + usize::from(head[1]), 0);
    stream.read_exact(&mut packet[2..]).await.expect("a packet");
    packet
}

async fn next(connection: &mut Connection) -> Event {
    timeout(DEADLINE, connection.next())
        .await
        .expect("an event in time")
}

#[tokio::test]
async fn messages_go_both_ways_and_the_last_word_arrives() {
    let broker = TlsBroker::new("localhost").await;
    let mut connection = broker.open("localhost", &broker.ca_file());
    let mut stream = timeout(DEADLINE, broker.welcome()).await.unwrap();
    assert!(matches!(next(&mut connection).await, Event::Connected));
    stream.write_all(b"\x30\x04\x00\x01ax").await.unwrap();
    stream.flush().await.unwrap();
    let Event::Message(message) = next(&mut connection).await else {
        panic!("no message")
    };
    assert_eq!((&*message.topic, &message.payload[..]), ("a", &b"x"[..]));
    // The broker goes away and comes back.
    drop(stream);
    assert!(matches!(next(&mut connection).await, Event::Disconnected));
    let mut stream = timeout(DEADLINE, broker.welcome()).await.unwrap();
    assert!(matches!(next(&mut connection).await, Event::Connected));
    let sender = connection.sender();
    let publish = sender.publish("a", QoS::AtMostOnce, true, "bye");
    publish.await.unwrap();
    let closed = tokio::spawn(connection.close());
    assert_eq!(packet(&mut stream).await, b"\x31\x06\x00\x01abye");
    assert_eq!(packet(&mut stream).await, [0xe0, 0]);
    // In order: without TLS's own good-bye this would be an error.
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    drop(stream);
    closed.await.unwrap();
}

#[tokio::test]
async fn a_certificate_of_another_name_or_authority_is_refused() {
    let broker = TlsBroker::new("elsewhere").await;
    let other = TlsBroker::new("localhost").await;
    for ca_file in [broker.ca_file(), other.ca_file()] {
        let _connection = broker.open("localhost", &ca_file);
        let (stream, _) = timeout(DEADLINE, broker.listener.accept())
            .await
            .unwrap()
            .unwrap();
        let refused = timeout(DEADLINE, broker.acceptor.accept(stream))
            .await
            .unwrap();
        let text = refused.expect_err("it must not trust us").to_string();
        assert!(text.contains("alert"), "{text}");
    }
}

#[test]
fn a_bad_ca_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for (file, reason) in [
        (empty, "no certificate"),
        (folder.path().join("none"), "No such file"),
    ] {
        let config = BusConfig {
            url: "mqtts://localhost".to_owned(),
            ca_file: Some(file),
            ..BusConfig::default()
        };
        let options = Options::default();
        let text = Connection::open(&config, options).unwrap_err().to_string();
        assert!(
            text.contains("bus.ca_file") && text.contains(reason),
            "{text}"
        );
    }
}
