//! What is claimed of rumqttd 0.20.0, run as its own program runs it: one port for 3.1.1, one for
//! 5.0, the numbers of its own `rumqttd.toml` but for the log of a subscription, which has ten
//! parts of 10 MiB here in place of ten of 100 MiB, and connections with users and passwords.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use reproduction_claims::run::{Ports, Subject};
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

fn main() -> ExitCode {
    Subject {
        name: "rumqttd 0.20.0",
        claims: &[
            "letter-beyond-ascii",
            "slash-in-client-id",
            "shared-subscriber-dies",
            "properties-to-old-clients",
            "retained-for-new-subscriber",
            "slow-reader",
            "no-topic-rights",
        ],
        one_port: false,
        websocket: false,
        tls: false,
        serve,
    }
    .main()
}

fn serve(ports: Ports) -> io::Result<()> {
    let users = ["admin", "web1"].map(|user| (user.to_owned(), "secret".to_owned()));
    let users: HashMap<String, String> = users.into();
    let listener = |name: &str, port| {
        let settings = ServerSettings {
            name: name.to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], port)),
            tls: None,
            next_connection_delay_ms: 1,
            connections: ConnectionSettings {
                connection_timeout_ms: 60_000,
                max_payload_size: 20_480,
                max_inflight_count: 100,
                auth: Some(users.clone()),
                external_auth: None,
                dynamic_filters: true,
            },
        };
        Some(HashMap::from([(name.to_owned(), settings)]))
    };
    let config = Config {
        router: RouterConfig {
            max_connections: 10_010,
            max_outgoing_packet_count: 200,
            max_segment_size: 10 << 20,
            max_segment_count: 10,
            ..RouterConfig::default()
        },
        v4: listener("v4-1", ports.old),
        v5: listener("v5-1", ports.new),
        ..Config::default()
    };
    Broker::new(config)
        .start()
        .map_err(|error| io::Error::other(error.to_string()))
}
