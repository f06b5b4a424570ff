//! The private server keeps its data, comes back, and takes over what a killed hostbus left.

mod fixture;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fixture::{WriteWhole, at, entries, fixture, kill, node, numbers, stall, write};
use hostbus_store::{Appender, Connection, PrivateServer, Reader, StoreConfig};

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

/// A folder with ten samples in an append-only file, and the file of its last commands.
async fn written() -> (tempfile::TempDir, PathBuf) {
    let fixture = fixture().await;
    fixture
        .appender()
        .write(&entries(&node("a"), 1..=10), at(10))
        .await
        .expect("the samples are written");
    fixture.server.stop().await;
    let parts = fixture.folder.path().join("appendonlydir");
    let manifest = std::fs::read_to_string(parts.join("appendonly.aof.manifest"))
        .expect("redis-server 7 or newer");
    let last = manifest.lines().find(|line| line.contains("type i"));
    let name = last
        .and_then(|line| line.split(' ').nth(1))
        .expect("a name");
    let file = parts.join(name);
    (fixture.folder, file)
}

/// Starts on a damaged file. What is read is the beginning of what was written; the rest can be
/// written again, and is there after the next start. Gives how many samples were left.
async fn check_mended(folder: &Path) -> u64 {
    let a = node("a");
    let server = PrivateServer::start(folder).await.expect("it is mended");
    let config = StoreConfig {
        url: Some(server.url()),
        ..StoreConfig::default()
    };
    let left = numbers(&Reader::open(&config).expect("good settings"), &a).await;
    let count = left.len() as u64;
    assert_eq!(left, (1..=count).collect::<Vec<_>>());
    let mut appender = Appender::open(&config, 100).expect("good settings");
    write(&mut appender, &entries(&a, 1..=10), at(10)).await;
    server.stop().await;
    let server = PrivateServer::start(folder).await.expect("it is whole");
    let all = numbers(&Reader::open(&config).expect("good settings"), &a).await;
    assert_eq!(all, (1..=10).collect::<Vec<_>>());
    server.stop().await;
    count
}

/// What was cut off and kept, one file after the other.
fn kept(file: &Path) -> Vec<u8> {
    let entries = std::fs::read_dir(file.parent().expect("a folder")).expect("a folder");
    let kept = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().contains(".cut-at-"));
    kept.flat_map(|path| std::fs::read(path).expect("a file"))
        .collect()
}

#[tokio::test]
async fn a_file_torn_at_any_byte_is_mended_at_the_start() {
    let (folder, file) = written().await;
    let whole = std::fs::read(&file).unwrap();
    let mut counts = std::collections::BTreeSet::new();
    for torn in (1..)
        .map(|n| n * 331)
        .take_while(|torn| *torn < whole.len())
    {
        std::fs::write(&file, &whole[..whole.len() - torn]).unwrap();
        counts.insert(check_mended(folder.path()).await);
    }
    assert!(counts.contains(&10) && counts.contains(&0), "{counts:?}");
}

#[tokio::test]
async fn garbage_in_a_file_is_cut_off_and_kept() {
    // Redis itself would not start with any of these.
    let (folder, file) = written().await;
    let whole = std::fs::read(&file).unwrap();
    assert!(PrivateServer::cut_off(folder.path()).is_empty());
    for garbage in [
        &[0_u8; 4096][..],
        b"garbage\r\n",
        b"*2\r\n$3\r\nGET\r\n*9\r\n",
    ] {
        std::fs::write(&file, [&whole, garbage].concat()).unwrap();
        assert_eq!(check_mended(folder.path()).await, 10);
        assert!(kept(&file).ends_with(garbage));
        std::fs::remove_file(
            std::fs::read_dir(file.parent().unwrap())
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .find(|path| path.to_string_lossy().contains(".cut-at-"))
                .unwrap(),
        )
        .unwrap();
    }
    let mut harmed = whole.clone();
    let middle = harmed.len() / 2;
    harmed[middle..middle + 512].fill(0);
    std::fs::write(&file, &harmed).unwrap();
    let left = check_mended(folder.path()).await;
    assert!(left < 10, "{left}");
    let kept = kept(&file);
    assert!(harmed.ends_with(&kept) && kept.len() >= harmed.len() - middle);
}

#[tokio::test]
async fn a_file_that_redis_has_rewritten_is_left_alone() {
    let fixture = fixture().await;
    let a = node("a");
    let mut appender = fixture.appender();
    let mut redis = fixture.redis();
    // Blocks hold any bytes, and are put there in transactions.
    let block: Vec<u8> = (0..=255).chain(*b"\r\n*3\r\n$1\r\n").collect();
    for round in 1..=3_u64 {
        let samples = entries(&a, round..=round);
        appender.write(&samples, at(round)).await.unwrap();
        redis::pipe()
            .atomic()
            .cmd("HSET")
            .arg(&["blocks".as_bytes(), round.to_string().as_bytes(), &block])
            .cmd("SET")
            .arg("empty")
            .arg("")
            .exec(&mut redis)
            .unwrap();
        redis::cmd("BGREWRITEAOF").exec(&mut redis).unwrap();
        until("the file is rewritten", async || {
            let info: String = redis::cmd("INFO")
                .arg("persistence")
                .query(&mut redis)
                .unwrap();
            info.contains("aof_rewrite_in_progress:0") && info.contains("rewrite_scheduled:0")
        })
        .await;
    }
    let fixture::Fixture {
        server,
        config,
        folder,
    } = fixture;
    server.stop().await;
    let server = PrivateServer::start(folder.path()).await.unwrap();
    let fixture = fixture::Fixture {
        server,
        config,
        folder,
    };
    assert!(PrivateServer::cut_off(fixture.folder.path()).is_empty());
    let blocks: Vec<Vec<u8>> = redis::cmd("HVALS")
        .arg("blocks")
        .query(&mut fixture.redis())
        .unwrap();
    assert_eq!(blocks, [block.clone(), block.clone(), block]);
    assert_eq!(numbers(&fixture.reader(), &a).await, [1, 2, 3]);
    fixture.server.stop().await;
}
