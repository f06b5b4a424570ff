//! What lies between TCP and MQTT on one listener: PROXY header, TLS, WebSocket, in this order.
//!
//! How long a client may take for them, and how many may be at it, is the entrance's matter.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::counters::Refusal;
use crate::proxy::{self, Network};
use crate::tls::Tls;
use crate::upgrade;
use crate::websocket::WebSocket;

/// A stream that reads and writes, whatever it is made of.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What a listener's connections begin with.
#[derive(Debug)]
pub(crate) struct Layers {
    /// The proxies that tell the client's address; `None` without PROXY protocol.
    pub(crate) proxies: Option<Vec<Network>>,
    pub(crate) tls: Option<Arc<Tls>>,
    /// The HTTP path of a WebSocket.
    pub(crate) path: Option<String>,
    /// Web pages may open a WebSocket.
    pub(crate) from_web: bool,
}

/// Why a connection did not get through.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) cause: Refusal,
    pub(crate) error: io::Error,
}

fn failed(cause: Refusal) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure { cause, error }
}

impl Layers {
    /// MQTT follows at once on TCP.
    pub(crate) fn is_bare(&self) -> bool {
        self.proxies.is_none() && self.tls.is_none() && self.path.is_none()
    }

    /// The client's address, which `peer` tells where it is a proxy.
    pub(crate) async fn address(
        &self,
        stream: &mut TcpStream,
        peer: SocketAddr,
    ) -> Result<SocketAddr, Failure> {
        let Some(trusted) = &self.proxies else {
            return Ok(peer);
        };
        let failed = failed(Refusal::Proxy);
        if !trusted.iter().any(|network| network.contains(peer.ip())) {
            let text = "this peer is none of the trusted proxies";
            return Err(failed(io::Error::new(
                io::ErrorKind::PermissionDenied,
                text,
            )));
        }
        let told = proxy::read(stream).await.map_err(failed)?;
        Ok(told.unwrap_or(peer))
    }

    /// The stream of MQTT on `stream`; a message of a WebSocket has at most `max_packet_bytes`.
    pub(crate) async fn open(
        &self,
        stream: TcpStream,
        max_packet_bytes: usize,
    ) -> Result<Box<dyn Stream>, Failure> {
        let mut stream: Box<dyn Stream> = match &self.tls {
            Some(tls) => Box::new(tls.accept(stream).await.map_err(failed(Refusal::Tls))?),
            None => Box::new(stream),
        };
        let Some(path) = &self.path else {
            return Ok(stream);
        };
        let early = upgrade::accept(&mut stream, path, self.from_web).await;
        let early = early.map_err(failed(Refusal::WebSocket))?;
        Ok(Box::new(WebSocket::new(stream, early, max_packet_bytes)))
    }
}
