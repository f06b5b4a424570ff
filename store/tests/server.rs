//! The private server keeps its data, comes back, and takes over what a killed hostbus left.

mod fixture;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fixture::{at, entries, fixture, kill, node, numbers, stall};
use hostbus_store::{Connection, PrivateServer, Reader, StoreConfig};

async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !check().await {
        assert!(Instant::now() < deadline, "{what} did not come true");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn data_outlives_a_stop_and_nothing_is_left_running() {
    let fixture = fixture().await;
    let a = node("a");
    fixture
        .appender()
        .write(&entries(&a, 1..=3), at(3))
        .await
        .unwrap();
    let process = fixture.process();
    fixture.server.stop().await;
    assert!(!Path::new(&format!("/proc/{process}")).exists());

    let server = PrivateServer::start(fixture.folder.path()).await.unwrap();
    assert_eq!(
        numbers(&Reader::open(&fixture.config).unwrap(), &a).await,
        [1, 2, 3]
    );
    server.stop().await;
}

#[tokio::test]
async fn only_the_owner_can_enter() {
    let fixture = fixture().await;
    let mode = |name: &str| {
        let path = fixture.folder.path().join(name);
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(
        (mode(""), mode("redis.conf"), mode("redis.sock")),
        (0o700, 0o600, 0o700)
    );
}

#[tokio::test]
async fn a_server_that_dies_is_started_again() {
    let fixture = fixture().await;
    let before = fixture.process();
    kill(before);
    let connection = Connection::open(&fixture.config).unwrap();
    until("the server answers again", async || {
        connection.ping().await.is_ok() && fixture.process() != before
    })
    .await;
    fixture.server.stop().await;
    assert!(connection.ping().await.is_err());
}

/// Leaves a server behind with three samples, does to it what `harm` does, and starts another.
async fn check_take_over(harm: impl FnOnce(&Path, i32)) {
    let first = fixture().await;
    let a = node("a");
    first
        .appender()
        .write(&entries(&a, 1..=3), at(3))
        .await
        .expect("the samples are written");
    first.server.stop().await;
    let folder = first.folder;
    let mut orphan = Command::new("redis-server")
        .arg(folder.path().join("redis.conf"))
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed: apt-get install redis-server");
    let connection = Connection::open(&first.config).expect("the settings are good");
    until("the orphan answers", async || {
        connection.ping().await.is_ok()
    })
    .await;
    harm(folder.path(), orphan.id().cast_signed());

    let started = PrivateServer::start(folder.path()).await;
    let ended = orphan.try_wait().expect("our child").is_some();
    let _ = orphan.kill();
    let server = started.expect("the next one takes over");
    assert!(ended, "two servers write one file");
    let config = StoreConfig {
        url: Some(server.url()),
        ..StoreConfig::default()
    };
    assert_eq!(
        numbers(&Reader::open(&config).expect("the settings are good"), &a).await,
        [1, 2, 3]
    );
    server.stop().await;
}

#[tokio::test]
async fn a_server_left_behind_is_taken_over_with_its_data() {
    check_take_over(|_, _| {}).await;
}

#[tokio::test]
async fn a_server_left_behind_that_hangs_is_ended() {
    check_take_over(|_, orphan| stall(orphan)).await;
}

#[tokio::test]
async fn a_server_left_behind_that_hangs_is_ended_without_its_socket() {
    check_take_over(|folder, orphan| {
        stall(orphan);
        std::fs::remove_file(folder.join("redis.sock")).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_server_left_behind_that_hangs_is_ended_without_its_process_id() {
    check_take_over(|folder, orphan| {
        stall(orphan);
        std::fs::remove_file(folder.join("redis.pid")).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_process_that_has_got_the_id_of_a_former_server_is_left_alone() {
    let other = fixture().await;
    let mine = tempfile::tempdir().unwrap();
    std::fs::write(mine.path().join("redis.pid"), other.process().to_string()).unwrap();
    let server = PrivateServer::start(mine.path()).await.unwrap();
    let connection = Connection::open(&other.config).unwrap();
    assert!(connection.ping().await.is_ok());
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_can_not_start_tells_its_last_words() {
    let fixture = fixture().await;
    fixture
        .appender()
        .write(&entries(&node("a"), 1..=3), at(3))
        .await
        .unwrap();
    fixture.server.stop().await;
    let folder = fixture.folder.path();
    std::fs::write(
        folder.join("appendonlydir/appendonly.aof.manifest"),
        "nonsense\n",
    )
    .unwrap();
    let error = PrivateServer::start(folder).await.unwrap_err().to_string();
    assert!(
        error.contains("ended at its start") && error.contains("redis.log"),
        "{error}"
    );
}
