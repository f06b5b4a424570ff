//! What is claimed of rmqtt 0.24.0 as a library, with the defaults of its listener but for `nodelay`.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use reproduction_claims::run::{Ports, Subject};
use rmqtt::context::ServerContext;
use rmqtt::net::Builder;
use rmqtt::server::MqttServer;

fn main() -> ExitCode {
    Subject {
        name: "rmqtt 0.24.0",
        claims: &["silent-sockets-stay", "slow-reader"],
        one_port: true,
        websocket: false,
        tls: false,
        serve,
    }
    .main()
}

fn serve(ports: Ports) -> io::Result<()> {
    let listener = || -> rmqtt::Result<_> {
        Builder::new()
            .name("tcp")
            .laddr(SocketAddr::from(([127, 0, 0, 1], ports.old)))
            // Its default delays every acknowledgement by some 40 ms.
            .nodelay(true)
            .bind()?
            .tcp()
    };
    let serve = async {
        let context = ServerContext::new().build().await;
        MqttServer::new(context)
            .listener(listener()?)
            .build()
            .run()
            .await
    };
    tokio::runtime::Runtime::new()?
        .block_on(serve)
        .map_err(|error| io::Error::other(error.to_string()))
}
