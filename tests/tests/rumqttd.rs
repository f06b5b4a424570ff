//! The pipeline on rumqttd, run by the broker in place of its own engine.

use std::net::SocketAddr;

use hostbus_broker::config::ConfiguredIdentity;
use hostbus_broker::engine::Engine;
use hostbus_broker::{Config, start};
use hostbus_daemon::CancellationToken;
use hostbus_tests::folder::Folder;
use hostbus_tests::redis_server::RedisServer;
use hostbus_tests::{loopback, pipeline};
use hostbus_wire::Role;
use tokio::runtime::Runtime;

#[test]
fn rumqttd_carries_the_pipeline_too() {
    let folder = Folder::new();
    let redis = RedisServer::start(&folder);
    pipeline::make_credentials(&folder);
    let identity = |name: &str, role, node: Option<&str>| ConfiguredIdentity {
        name: name.to_owned(),
        role,
        node: node.map(|node| node.parse().unwrap()),
        secret: None,
        secret_file: Some(pipeline::credential(&folder, name)),
    };
    let config = Config {
        engine: Engine::Rumqttd,
        listen: Some(SocketAddr::from((loopback::address(), 0))),
        identities: vec![
            identity("ingester", Role::Ingester, None),
            identity("home.web1", Role::Publisher, Some("home.web1")),
        ],
        ..Config::default()
    };
    let runtime = Runtime::new().unwrap();
    let broker = runtime
        .block_on(start(config, CancellationToken::new()))
        .unwrap();
    pipeline::carried_by(&folder, &redis, broker.local_addr().unwrap(), true);
    runtime.block_on(broker.stop()).unwrap();
}
