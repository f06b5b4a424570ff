//! What clients that connect and say nothing can take from the others.

#![expect(clippy::unwrap_used, reason = "test code")]

mod raw;

use std::net::SocketAddr;
use std::time::Instant;

use raw::{Broker, Client, DEADLINE, broker, connect};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

/// A broker that waits for CONNECT longer than a test.
async fn patient_broker(max_connecting: usize, per_address: usize) -> Broker {
    broker(|config| {
        config.limits.connect_timeout_seconds = 600;
        config.limits.max_connecting = max_connecting;
        config.limits.max_connecting_per_address = per_address;
    })
    .await
}

/// Connects once. The client, if it was let in.
async fn attempt(address: SocketAddr, from: [u8; 4]) -> Option<Client> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let stream = socket.connect(address).await.ok()?;
    let mut client = Client::over(stream, 4);
    let bytes = connect(4, "", "viewer").bytes();
    // The broker may close before it has read this.
    client.stream.write_all(&bytes).await.ok()?;
    let (first, body) = client.frame().await?;
    assert_eq!((first, &body[..]), (0x20, &[0, 0][..]));
    Some(client)
}

/// Connects until it is let in.
async fn persist(address: SocketAddr, from: [u8; 4]) -> Client {
    let begun = Instant::now();
    loop {
        if let Some(client) = attempt(address, from).await {
            return client;
        }
        assert!(begun.elapsed() < DEADLINE, "never let in");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn silent_sockets_can_not_keep_a_client_out() {
    let broker = patient_broker(100, 20).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(Client::new(broker.address, 4).await);
    }
    // Too many of one address, and no concern of another one.
    let mut refused = Client::new(broker.address, 4).await;
    assert_eq!(refused.frame().await, None);
    let elsewhere = attempt(broker.address, [127, 0, 0, 2]).await;
    assert!(elsewhere.is_some());
    let mut client = persist(broker.address, [127, 0, 0, 1]).await;
    client.nothing_waits().await;
    assert_eq!(silent[0].frame().await, None, "the oldest gives way");
}

#[tokio::test]
async fn a_burst_from_one_address_is_slowed_and_gets_in() {
    let broker = patient_broker(100, 8).await;
    let address = broker.address;
    let mut burst = JoinSet::new();
    for _ in 0..300 {
        burst.spawn(persist(address, [127, 0, 0, 1]));
    }
    let mut clients = burst.join_all().await;
    assert_eq!(clients.len(), 300);
    for client in &mut clients {
        client.nothing_waits().await;
    }
}

#[tokio::test]
async fn a_long_packet_is_refused_before_its_sender_is_known() {
    let broker = patient_broker(100, 20).await;
    let mut client = Client::new(broker.address, 4).await;
    client.send(&[0x10, 0x80, 0x80, 0x08]).await;
    assert_eq!(client.frame().await, None);
}
