//! The engine rumqttd: who gets in, what it carries, how it stops, and that its death is noticed.

mod raw;

use std::time::Duration;

use hostbus_broker::engine::Engine;
use hostbus_broker::{Config, Error};
use hostbus_daemon::CancellationToken;
use hostbus_wire::Role;
use raw::{Broker, DEADLINE};
use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Packet, Publish, QoS};
use tokio::net::TcpStream;
use tokio::time::timeout;

async fn rumqttd() -> Broker {
    raw::broker(|config| config.engine = Engine::Rumqttd).await
}

fn client(broker: &Broker, id: &str, user: &str, password: &str) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(id, broker.address.ip().to_string(), broker.address.port());
    options
        .set_credentials(user, password)
        .set_keep_alive(Duration::from_secs(5));
    AsyncClient::new(options, 1000)
}

/// Waits until `wanted` takes a packet.
async fn until<T>(
    events: &mut EventLoop,
    mut wanted: impl FnMut(Packet) -> Option<T>,
) -> Result<T, ConnectionError> {
    let search = async {
        loop {
            if let Event::Incoming(packet) = events.poll().await?
                && let Some(found) = wanted(packet)
            {
                return Ok(found);
            }
        }
    };
    timeout(DEADLINE, search).await.expect("an answer in time")
}

async fn connected(events: &mut EventLoop) -> Result<(), ConnectionError> {
    until(events, |packet| {
        matches!(packet, Packet::ConnAck(_)).then_some(())
    })
    .await
}

fn message(packet: Packet) -> Option<Publish> {
    match packet {
        Packet::Publish(publish) => Some(publish),
        _ => None,
    }
}

#[tokio::test]
async fn our_identities_open_its_door() {
    let broker = rumqttd().await;
    let (_client, mut events) = client(&broker, "a", "ingester", "pw");
    connected(&mut events).await.unwrap();
    for (user, password) in [("ingester", "wrong"), ("nobody", "pw")] {
        let (_client, mut events) = client(&broker, "b", user, password);
        assert!(connected(&mut events).await.is_err(), "{user} {password}");
    }
}

#[tokio::test]
async fn without_logins_everyone_is_let_in() {
    let broker = raw::broker(|config| {
        config.engine = Engine::Rumqttd;
        config.identities.clear();
        config.anonymous = Some(Role::Admin);
    })
    .await;
    let (host, port) = (broker.address.ip().to_string(), broker.address.port());
    let (_client, mut events) = AsyncClient::new(MqttOptions::new("a", host, port), 10);
    connected(&mut events).await.unwrap();
}

#[tokio::test]
async fn more_than_two_hundred_retained_messages_reach_a_new_subscriber() {
    let broker = rumqttd().await;
    let (writer, mut events) = client(&broker, "writer", "admin", "pw");
    for number in 0..500 {
        writer
            .publish(format!("kept/{number}"), QoS::AtLeastOnce, true, "x")
            .await
            .unwrap();
    }
    let mut acknowledged = 0;
    until(&mut events, |packet| {
        acknowledged += usize::from(matches!(packet, Packet::PubAck(_)));
        (acknowledged == 500).then_some(())
    })
    .await
    .unwrap();
    let (reader, mut events) = client(&broker, "reader", "viewer", "pw");
    reader.subscribe("kept/#", QoS::AtMostOnce).await.unwrap();
    let mut got = 0;
    until(&mut events, |packet| {
        got += usize::from(matches!(packet, Packet::Publish(_)));
        (got == 500).then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_client_id_that_would_poison_it_is_refused() {
    let broker = rumqttd().await;
    for _ in 0..3 {
        let (_client, mut events) = client(&broker, "site/host1", "admin", "pw");
        assert!(connected(&mut events).await.is_err());
    }
    let (_client, mut events) = client(&broker, "site-host1", "admin", "pw");
    connected(&mut events).await.unwrap();
}

#[tokio::test]
async fn it_lets_go_of_its_port_and_its_clients_when_told_to_stop() {
    let broker = rumqttd().await;
    let (reader, mut events) = client(&broker, "reader", "admin", "pw");
    reader.subscribe("#", QoS::AtMostOnce).await.unwrap();
    reader
        .publish("t", QoS::AtMostOnce, false, "x")
        .await
        .unwrap();
    until(&mut events, message).await.unwrap();
    let address = broker.address;
    timeout(DEADLINE, broker.running.stop())
        .await
        .expect("it stops in time")
        .unwrap();
    until(&mut events, message)
        .await
        .expect_err("the connection has ended");
    assert!(TcpStream::connect(address).await.is_err());
    // The next one takes the same port.
    let again = raw::broker(|config| {
        config.engine = Engine::Rumqttd;
        config.listen = Some(address);
    })
    .await;
    assert_eq!(again.address, address);
}

#[test]
fn it_stays_on_loopback_even_where_the_network_is_said_to_be_private() {
    let mut config = Config {
        engine: Engine::Rumqttd,
        insecure_listen: true,
        ..Config::default()
    };
    assert!(config.check().is_ok());
    config.listen = Some(([192, 168, 0, 1], 1883).into());
    let text = config.check().unwrap_err().to_string();
    for part in ["broker.engine", "broker.listen", "192.168.0.1:1883"] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_told() {
    let first = rumqttd().await;
    let config = Config {
        engine: Engine::Rumqttd,
        listen: Some(first.address),
        ..Config::default()
    };
    let token = CancellationToken::new();
    let error = hostbus_broker::start(config, token).await.unwrap_err();
    assert!(matches!(error, Error::Bind { .. }), "{error}");
}

#[tokio::test]
async fn the_broker_ends_with_an_error_when_the_router_dies() {
    let mut broker = rumqttd().await;
    let (writer, mut events) = client(&broker, "writer", "admin", "pw");
    writer.subscribe("#", QoS::AtMostOnce).await.unwrap();
    until(&mut events, |packet| {
        matches!(packet, Packet::SubAck(_)).then_some(())
    })
    .await
    .unwrap();
    writer
        .publish("étage/1", QoS::AtMostOnce, false, "x")
        .await
        .unwrap();
    // The message goes out, and nothing comes back.
    let death = async {
        tokio::select! {
            ended = broker.running.ended() => ended,
            () = async { while events.poll().await.is_ok() {} std::future::pending().await } => unreachable!(),
        }
    };
    let error = timeout(DEADLINE, death)
        .await
        .expect("it is noticed")
        .unwrap_err();
    assert!(matches!(error, Error::EngineDied("router")), "{error}");
}
