//! What is claimed of mqtt5 0.49.0 with its defaults, storage in memory, users with passwords, and
//! its WebSocket and TLS listeners.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use mqtt5::broker::config::{StorageBackend, StorageConfig, TlsConfig, WebSocketConfig};
use mqtt5::broker::{BrokerConfig, MqttBroker, PasswordAuthProvider};
use reproduction_claims::run::{Ports, Subject};

fn main() -> ExitCode {
    Subject {
        name: "mqtt5 0.49.0",
        claims: &[
            "silent-websocket",
            "silent-tls",
            "slow-subscriber-throttles",
            "sender-is-told",
            "slow-reader",
        ],
        one_port: true,
        websocket: true,
        tls: true,
        serve,
    }
    .main()
}

fn serve(ports: Ports) -> io::Result<()> {
    tokio::runtime::Runtime::new()?
        .block_on(run(ports))
        .map_err(|error| io::Error::other(error.to_string()))
}

async fn run(ports: Ports) -> Result<(), Box<dyn std::error::Error>> {
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let folder = std::env::temp_dir().join(format!("reproduce-mqtt5-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    std::fs::write(&certificate, made.cert.pem())?;
    std::fs::write(&key, made.signing_key.serialize_pem())?;
    let config = BrokerConfig::default()
        .with_bind_address(at(ports.old))
        .with_storage(StorageConfig::default().with_backend(StorageBackend::Memory))
        .with_websocket(WebSocketConfig::new().with_bind_address(at(ports.websocket)))
        .with_tls(TlsConfig::new(certificate, key).with_bind_address(at(ports.tls)));
    let users = PasswordAuthProvider::new();
    for user in ["admin", "web1"] {
        users.add_user(user.to_owned(), "secret")?;
    }
    let mut broker = MqttBroker::with_config(config)
        .await?
        .with_auth_provider(Arc::new(users));
    // Read by now.
    let _ = std::fs::remove_dir_all(&folder);
    broker.run().await?;
    Ok(())
}
