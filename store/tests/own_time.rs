//! Samples that are stored under the ingester's own time, while others write of the same node.

#![expect(clippy::unwrap_used, reason = "test code")]

mod fixture;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fixture::{Fixture, WriteWhole, at, entries, entry, fixture, mark, node, numbers};
use hostbus_store::{Appender, Entry, StoreConfig};
use hostbus_wire::NodePath;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

/// A way to Redis on which somebody else writes to the hash of the node `a` just before a transaction,
/// as often as `times` says.
async fn meddled(fixture: &Fixture, times: &Arc<AtomicUsize>) -> StoreConfig {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let socket = fixture.server.socket().to_owned();
    let client = redis::Client::open(fixture.config.url.as_deref().unwrap()).unwrap();
    let times = Arc::clone(times);
    tokio::spawn(async move {
        while let Ok((ours, _)) = listener.accept().await {
            let redis = UnixStream::connect(&socket).await.unwrap();
            tokio::spawn(carry(ours, redis, client.clone(), Arc::clone(&times)));
        }
    });
    StoreConfig {
        url: Some(url),
        ..fixture.config.clone()
    }
}

async fn carry(ours: TcpStream, redis: UnixStream, client: redis::Client, times: Arc<AtomicUsize>) {
    let (mut commands, mut answers) = ours.into_split();
    let (mut from_redis, mut to_redis) = redis.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_redis, &mut answers).await });
    let mut other = client.get_connection().unwrap();
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = commands.read(&mut bytes).await {
        let transaction = bytes[..length].windows(5).any(|word| word == b"MULTI");
        let left = times.load(Ordering::Relaxed);
        if transaction && left > 0 {
            times.store(left - 1, Ordering::Relaxed);
            redis::cmd("HSET")
                .arg("hb:{home.a}:info")
                .arg(&["status", "online"])
                .exec(&mut other)
                .unwrap();
        }
        to_redis.write_all(&bytes[..length]).await.unwrap();
    }
}

fn own(node: &Arc<NodePath>, seq: u64) -> Entry {
    Entry {
        own_time: true,
        ..entry(node, seq)
    }
}

#[tokio::test]
async fn a_sample_is_stored_once_though_the_rest_of_its_hash_is_written_again_and_again() {
    let fixture = fixture().await;
    let times = Arc::new(AtomicUsize::new(10));
    let config = meddled(&fixture, &times).await;
    let a = node("a");
    let mut appender = Appender::open(&config, 100).unwrap();
    for samples in [1, 0] {
        let outcome = appender.write(&[own(&a, 1)], at(1)).await.unwrap();
        assert_eq!(outcome.samples, samples);
        assert_eq!(outcome.marks, [(Arc::clone(&a), mark(1))]);
    }
    assert_eq!(times.load(Ordering::Relaxed), 0);
    assert_eq!(numbers(&fixture.reader(), &a).await, [1]);
}

#[tokio::test]
async fn a_hash_that_is_never_left_alone_is_the_trouble_of_its_own_node() {
    let fixture = fixture().await;
    let times = Arc::new(AtomicUsize::new(usize::MAX));
    let config = meddled(&fixture, &times).await;
    let (a, b) = (node("a"), node("b"));
    let mut appender = Appender::open(&config, 100).unwrap();
    let mut all = vec![entry(&a, 1), own(&a, 2)];
    all.extend(entries(&b, 1..=2));
    all.push(entry(&a, 3));
    let outcome = appender.write(&all, at(3)).await.unwrap();
    assert_eq!(outcome.broken, [Arc::clone(&a)]);
    assert_eq!(appender.remembered(&a), Some(Some(mark(1))));
    assert_eq!(appender.remembered(&b), Some(Some(mark(2))));
    times.store(0, Ordering::Relaxed);
    let again = [own(&a, 2), entry(&a, 3)];
    let outcome = appender.write(&again, at(3)).await.unwrap();
    assert_eq!(outcome.samples, 2);
    for (node, expected) in [(&a, &[1, 2, 3][..]), (&b, &[1, 2])] {
        assert_eq!(numbers(&fixture.reader(), node).await, expected);
    }
}
