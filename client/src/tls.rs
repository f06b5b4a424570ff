//! TLS to the broker.
//!
//! `rumqttc` 0.25 can speak TLS itself, but only with `rustls-webpki` 0.102, for which four
//! advisories stand (RUSTSEC-2026-0049, 0098, 0099, 0104), and with `rustls-pemfile`, which nobody
//! maintains. So TLS is spoken here. The library connects to a socket of this process, which takes
//! nobody else, and each connection to it is carried to the broker. When the library has moved on,
//! this file can go.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hostbus_daemon::trust::{self, Peer, TrustError};
use tokio::io::{AsyncWriteExt, copy, split};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{Error as TlsError, RootCertStore};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::config::Endpoint;
use crate::error::ClientError;

/// How long the broker may take to close once we have said good-bye.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// What MQTT is called in TLS.
const ALPN: &[u8] = b"mqtt";

const BROKER: Peer = Peer {
    whose: "the broker's",
    mend: "name the broker's CA in bus.ca_file",
};

/// A way to the broker through TLS.
pub(crate) struct Tunnel {
    local: UnixListener,
    path: String,
    ends: Arc<Ends>,
}

/// What each connection needs, and how the last one failed.
struct Ends {
    connector: TlsConnector,
    name: ServerName<'static>,
    endpoint: Endpoint,
    failure: Failure,
}

/// Why there was no connection to the broker, until somebody takes it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failure(Arc<Mutex<Option<String>>>);

impl Failure {
    pub(crate) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, text: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }
}

impl Tunnel {
    /// Opens the local end. Trusted are the certificates in `ca_file`, or those of the system.
    pub(crate) fn open(endpoint: Endpoint, ca_file: Option<&Path>) -> Result<Self, ClientError> {
        let name = server_name(&endpoint)?;
        let config = trust::client(roots(ca_file)?);
        let config = config.map_err(|error| ClientError::Tls(error.to_string()))?;
        let mut config = config.with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        // The first byte keeps it out of the file system; the name is not secret, see `carry`.
        let random = getrandom::u64().map_err(|error| ClientError::Tls(error.to_string()))?;
        let path = format!("\0hostbus-{}-{random:016x}", std::process::id());
        let local = UnixListener::bind(&path)
            .map_err(|error| ClientError::Tls(format!("no socket for it: {error}")))?;
        Ok(Self {
            local,
            path,
            ends: Arc::new(Ends {
                connector: TlsConnector::from(Arc::new(config)),
                name,
                endpoint,
                failure: Failure::default(),
            }),
        })
    }

    /// What the library connects to.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn failure(&self) -> Failure {
        self.ends.failure.clone()
    }

    /// Carries connections until `token` is cancelled, one at a time: a new one ends the one before.
    pub(crate) async fn run(self, token: CancellationToken) {
        let mut carried = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.local.accept() => accepted,
                () = token.cancelled() => break,
            };
            match accepted {
                Ok((stream, _)) if is_ours(&stream) => {
                    carried.abort_all();
                    while carried.join_next().await.is_some() {}
                    carried.spawn(carry(stream, Arc::clone(&self.ends)));
                }
                Ok(_) => warn!("another process tried to use our connection to the bus"),
                Err(error) => {
                    self.ends.failure.put(error.to_string());
                    tokio::time::sleep(CLOSE_WITHIN).await;
                }
            }
        }
        // The last word must still get through. What takes longer is cut off.
        let ended = async { while carried.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(CLOSE_WITHIN, ended).await;
    }
}

fn is_ours(stream: &UnixStream) -> bool {
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
    pid.is_some_and(|pid| u32::try_from(pid) == Ok(std::process::id()))
}

/// Carries one connection to the broker and back.
async fn carry(local: UnixStream, ends: Arc<Ends>) {
    if let Err(error) = try_carry(local, &ends).await {
        ends.failure.put(explain(&error, &ends.endpoint.host));
    }
}

async fn try_carry(local: UnixStream, ends: &Ends) -> io::Result<()> {
    let Endpoint { host, port, .. } = &ends.endpoint;
    let stream = TcpStream::connect((host.as_str(), *port)).await?;
    stream.set_nodelay(true)?;
    let stream = ends.connector.connect(ends.name.clone(), stream).await?;
    let (mut from_broker, mut to_broker) = split(stream);
    let (mut from_us, mut to_us) = local.into_split();
    let out = async {
        copy(&mut from_us, &mut to_broker).await?;
        to_broker.shutdown().await?;
        tokio::time::sleep(CLOSE_WITHIN).await;
        Ok(())
    };
    tokio::select! {
        ended = copy(&mut from_broker, &mut to_us) => ended.map(drop),
        ended = out => ended,
    }
}

/// Checks what TLS needs, without a socket.
pub(crate) fn check(endpoint: &Endpoint, ca_file: Option<&Path>) -> Result<(), ClientError> {
    server_name(endpoint)?;
    roots(ca_file).map(drop)
}

fn server_name(endpoint: &Endpoint) -> Result<ServerName<'static>, ClientError> {
    ServerName::try_from(endpoint.host.clone()).map_err(|_| ClientError::Url {
        url: format!("mqtts://{}", endpoint.host),
        reason: "this is neither a host name nor an address",
    })
}

/// Whose signature we take.
fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, ClientError> {
    BROKER.roots(ca_file).map_err(|error| match error {
        TrustError::File { path, reason } => ClientError::CaFile { path, reason },
        TrustError::Nobody { .. } => ClientError::Tls(error.to_string()),
    })
}

/// What went wrong with the broker at `host`, and how to mend it.
fn explain(error: &io::Error, host: &str) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let Some(inner) = inner else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                "the broker closed the connection during the TLS handshake".to_owned()
            }
            _ => error.to_string(),
        };
    };
    match inner {
        TlsError::InvalidCertificate(wrong) => BROKER.explain(wrong, host),
        TlsError::InvalidMessage(_) => {
            "what answers there does not speak TLS: is this the port for mqtts?".to_owned()
        }
        TlsError::AlertReceived(alert) => {
            format!("the broker refuses the TLS handshake: {alert:?}")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_rustls::rustls::{AlertDescription, CertificateError};

    #[test]
    fn what_was_wrong_with_the_broker_is_told() {
        let check = |error: TlsError, told: &str| {
            let error = io::Error::new(io::ErrorKind::InvalidData, error);
            let text = explain(&error, "broker");
            assert!(text.contains(told), "{text}");
        };
        check(CertificateError::UnknownIssuer.into(), "bus.ca_file");
        check(CertificateError::NotValidForName.into(), "not for `broker`");
        let alert = TlsError::AlertReceived(AlertDescription::CertificateRequired);
        check(alert, "CertificateRequired");
        let closed = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert!(explain(&closed, "broker").contains("TLS handshake"));
    }
}
