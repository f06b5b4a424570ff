//! The listeners of a broker: their settings, their sockets, and under which URLs clients reach them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::config::Config;
use crate::entrance::Entrance;
use crate::error::Error;
use crate::hub::Hub;
use crate::layers::Layers;
use crate::listener;
use crate::proxy::Network;
use crate::tls::{Files, Tls};

/// The path of a WebSocket listener that names none.
const DEFAULT_PATH: &str = "/mqtt";

/// What stands for "no address".
const NONE: &str = "none";

/// One entry of `[[broker.listeners]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerConfig {
    /// Where to listen. Port 0 takes a free one.
    pub address: SocketAddr,
    /// What MQTT travels in: `tcp`, `tls`, `ws` (WebSocket) or `wss` (WebSocket in TLS). `tcp` and
    /// `ws` off loopback need `broker.insecure_listen`.
    pub transport: TransportKind,
    /// PEM file of the certificate, followed by those that signed it. For `tls` and `wss`, and only
    /// for them. Read again when it or `key` has changed.
    pub certificate: Option<PathBuf>,
    /// PEM file of its private key, not encrypted.
    pub key: Option<PathBuf>,
    /// PEM file of those who sign clients' certificates. Given: a client without such a
    /// certificate is not let in, and one with it still logs in. Absent: clients need none.
    pub client_ca: Option<PathBuf>,
    /// The HTTP path of `ws` and `wss`, and only of them. Default `/mqtt`.
    pub path: Option<String>,
    /// Each connection begins with a header of the PROXY protocol, version 1 or 2, that tells the
    /// client's address; limits and logs go by that. Default false.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// The proxies whose header is believed, as `["10.1.2.3", "10.2.0.0/16"]`; others are not let
    /// in. With `proxy_protocol` only. Absent: proxies on loopback.
    pub trusted_proxies: Option<Vec<Network>>,
}

/// What MQTT travels in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransportKind {
    /// Plain TCP.
    Tcp,
    /// TLS.
    Tls,
    /// WebSocket.
    Ws,
    /// WebSocket in TLS.
    Wss,
}

impl TransportKind {
    /// Tells whether what is sent can't be read on the way.
    #[must_use]
    pub fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// Tells whether it is a WebSocket.
    #[must_use]
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    /// The scheme of its URLs.
    #[must_use]
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Tcp => "mqtt",
            Self::Tls => "mqtts",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }
}

impl ListenerConfig {
    /// Plain TCP on `address`.
    fn plain(address: SocketAddr) -> Self {
        Self {
            address,
            transport: TransportKind::Tcp,
            certificate: None,
            key: None,
            client_ca: None,
            path: None,
            proxy_protocol: false,
            trusted_proxies: None,
        }
    }

    /// Checks what can be checked before any file is opened. `setting` is where it stands.
    pub(crate) fn check(&self, setting: &str, config: &Config) -> Result<(), Error> {
        let wrong = |key: &str, problem: &'static str| {
            Err(Error::Listener {
                setting: format!("{setting}.{key}"),
                problem,
            })
        };
        let loopback = self.address.ip().is_loopback();
        if config.anonymous.is_some() && !loopback {
            return Err(Error::AnonymousOffLoopback {
                setting: setting.to_owned(),
                listen: self.address,
            });
        }
        if config.anonymous.is_some() && self.proxy_protocol {
            return wrong(
                "proxy_protocol",
                "broker.anonymous lets loopback clients in, not those behind a proxy; unset one of them",
            );
        }
        if !self.transport.is_encrypted() && !loopback && !config.insecure_listen {
            return Err(Error::Insecure {
                setting: setting.to_owned(),
                listen: self.address,
            });
        }
        if self.transport.is_encrypted() {
            if self.certificate.is_none() {
                return wrong("certificate", "missing, tls and wss need one");
            }
            if self.key.is_none() {
                return wrong(
                    "key",
                    "missing, tls and wss need the key of the certificate",
                );
            }
        } else {
            for (key, file) in [
                ("certificate", &self.certificate),
                ("key", &self.key),
                ("client_ca", &self.client_ca),
            ] {
                if file.is_some() {
                    return wrong(key, "belongs to transport = \"tls\" or \"wss\"");
                }
            }
        }
        if let Some(path) = &self.path {
            if !self.transport.is_websocket() {
                return wrong("path", "belongs to transport = \"ws\" or \"wss\"");
            }
            let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
            if !path.starts_with('/') || !path.bytes().all(plain) {
                return wrong("path", "expected a path that begins with /, without ? or #");
            }
        }
        match &self.trusted_proxies {
            Some(_) if !self.proxy_protocol => {
                wrong("trusted_proxies", "belongs to proxy_protocol = true")
            }
            Some(trusted) if trusted.is_empty() => wrong(
                "trusted_proxies",
                "expected at least one address or network",
            ),
            _ => Ok(()),
        }
    }

    fn path(&self) -> Option<&str> {
        let path = self.path.as_deref().unwrap_or(DEFAULT_PATH);
        self.transport.is_websocket().then_some(path)
    }

    fn layers(&self, setting: &str, config: &Config) -> Result<Layers, Error> {
        let tls = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Some(Arc::new(Tls::load(Files {
                setting: setting.to_owned(),
                certificate: certificate.clone(),
                key: key.clone(),
                client_ca: self.client_ca.clone(),
                alpn: if self.transport.is_websocket() {
                    b"http/1.1"
                } else {
                    b"mqtt"
                },
            })?)),
            _ => None,
        };
        let trusted = match &self.trusted_proxies {
            Some(trusted) => trusted.clone(),
            None => Network::LOOPBACK.to_vec(),
        };
        Ok(Layers {
            proxies: self.proxy_protocol.then_some(trusted),
            tls,
            path: self.path().map(str::to_owned),
            from_web: config.anonymous.is_none(),
        })
    }
}

/// Reads an address, or `none`.
pub(crate) fn address_or_none<'de, D>(deserializer: D) -> Result<Option<SocketAddr>, D::Error>
where
    D: Deserializer<'de>,
{
    let text = String::deserialize(deserializer)?;
    if text == NONE {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        serde::de::Error::custom("expected an address with a port, such as 127.0.0.1:1883, or none")
    })
}

/// All listeners with the settings they stand in: the plain one first, then the list.
pub(crate) fn all(config: &Config) -> Vec<(String, ListenerConfig)> {
    let plain = config
        .listen
        .map(|address| ("broker.listen".to_owned(), ListenerConfig::plain(address)));
    let listed = config.listeners.iter().enumerate();
    let listed = listed.map(|(index, listener)| {
        let setting = format!("broker.listeners[{index}]");
        (setting, listener.clone())
    });
    plain.into_iter().chain(listed).collect()
}

/// The URLs under which clients reach a broker with these settings that listens on `addresses`.
#[must_use]
pub fn urls(config: &Config, addresses: &[SocketAddr]) -> Vec<String> {
    let listeners = all(config);
    let pairs = listeners.iter().zip(addresses);
    pairs
        .map(|((_, listener), address)| {
            let scheme = listener.transport.scheme();
            let path = listener.path().unwrap_or_default();
            format!("{scheme}://{address}{path}")
        })
        .collect()
}

/// The URLs as one object: the first of each scheme by its name, and all as `listeners`.
#[must_use]
pub fn by_scheme(config: &Config, addresses: &[SocketAddr]) -> serde_json::Value {
    let urls = urls(config, addresses);
    let mut object = serde_json::Map::new();
    for url in &urls {
        if let Some((scheme, _)) = url.split_once("://") {
            object.entry(scheme).or_insert_with(|| url.as_str().into());
        }
    }
    object.insert("listeners".to_owned(), urls.into());
    object.into()
}

/// Sockets that listen.
#[derive(Debug)]
pub(crate) struct Listeners(Vec<(TcpListener, Arc<Layers>)>);

impl Listeners {
    /// Reads all certificates, then takes all addresses.
    pub(crate) async fn bind(config: &Config) -> Result<(Self, Vec<SocketAddr>), Error> {
        let mut prepared = Vec::new();
        for (setting, listener) in all(config) {
            let layers = Arc::new(listener.layers(&setting, config)?);
            prepared.push((setting, listener, layers));
        }
        let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
        for (setting, listener, layers) in prepared {
            let bind = |source| Error::Bind {
                setting,
                listen: listener.address,
                source,
            };
            let bound = TcpListener::bind(listener.address).await;
            let bound = bound.and_then(|bound| Ok((bound.local_addr()?, bound)));
            let (address, bound) = bound.map_err(bind)?;
            info!(%address, transport = listener.transport.scheme(), "listening for MQTT 3.1.1 and 5.0");
            addresses.push(address);
            listeners.push((bound, layers));
        }
        Ok((Self(listeners), addresses))
    }

    /// Accepts on all of them until `token` is cancelled; the connections are in `tracker`.
    pub(crate) async fn accept(
        self,
        hub: Arc<Hub>,
        tracker: TaskTracker,
        token: CancellationToken,
    ) {
        let entrance = Arc::new(Entrance::new(hub.limits()));
        let every = Duration::from_secs(hub.config().certificate_check_seconds);
        let mut tasks = JoinSet::new();
        for (socket, layers) in self.0 {
            if let Some(tls) = &layers.tls {
                tasks.spawn(watch(Arc::clone(tls), every, token.clone()));
            }
            let at = listener::Place {
                hub: Arc::clone(&hub),
                entrance: Arc::clone(&entrance),
                layers,
            };
            tasks.spawn(listener::accept(socket, at, tracker.clone(), token.clone()));
        }
        // A panic must not be swallowed: it passes on to who waits for the broker.
        while let Some(ended) = tasks.join_next().await {
            if let Err(panic) = ended.map_err(tokio::task::JoinError::try_into_panic)
                && let Ok(panic) = panic
            {
                std::panic::resume_unwind(panic);
            }
        }
        token.cancelled().await;
    }
}

/// Looks at the files of `tls` again and again.
async fn watch(tls: Arc<Tls>, every: Duration, token: CancellationToken) {
    while token
        .run_until_cancelled(tokio::time::sleep(every))
        .await
        .is_some()
    {
        let tls = Arc::clone(&tls);
        // What goes wrong there is told there.
        let _ = tokio::task::spawn_blocking(move || tls.reload()).await;
    }
}
