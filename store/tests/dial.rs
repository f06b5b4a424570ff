//! Redis is reached through TLS and as a user with few rights, and what is wrong is told.

#![expect(clippy::unwrap_used, reason = "test code")]

mod fixture;

use std::path::{Path, PathBuf};

use fixture::{Fixture, WriteWhole, at, entries, fixture, node, numbers};
use hostbus_daemon::Secret;
use hostbus_store::{
    Appender, Connection, Describer, Extent, Facts, Reader, StoreConfig, StoreError, append_fsync,
    dial, forget, rights,
};
use hostbus_wire::event::{Event, Severity};
use hostbus_wire::info::Info;
use hostbus_wire::status::Status;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A Redis that also speaks TLS, on a port of its own.
struct TlsRedis {
    fixture: Fixture,
    port: u16,
}

fn event() -> Event {
    Event {
        ts: 1,
        kind: "tested".to_owned(),
        severity: Severity::Info,
        message: "a test".to_owned(),
        details: Default::default(),
    }
}

/// A port that is free now.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl TlsRedis {
    /// `clients`: whether a client needs a certificate.
    async fn start(clients: &str) -> Self {
        let fixture = fixture().await;
        let issuer = issuer();
        write_pair(fixture.folder.path(), "server", "localhost", &issuer);
        write_pair(fixture.folder.path(), "client", "hostbus", &issuer);
        std::fs::write(fixture.folder.path().join("ca.pem"), issuer.pem()).unwrap();
        let port = free_port();
        let file = |name: &str| fixture.folder.path().join(name).display().to_string();
        let set: String = redis::cmd("CONFIG")
            .arg("SET")
            .arg(&["tls-cert-file", &file("server.pem")])
            .arg(&["tls-key-file", &file("server.key")])
            .arg(&["tls-ca-cert-file", &file("ca.pem")])
            .arg(&["tls-auth-clients", clients])
            .arg(&["tls-port", &port.to_string()])
            .query(&mut fixture.redis())
            .expect("a redis-server with TLS: apt-get install redis-server");
        assert_eq!(set, "OK");
        Self { fixture, port }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.fixture.folder.path().join(name)
    }

    fn config(&self, host: &str) -> StoreConfig {
        StoreConfig {
            url: Some(format!("rediss://{host}:{}", self.port)),
            ca_file: Some(self.file("ca.pem")),
            ..StoreConfig::default()
        }
    }
}

fn issuer() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, "a CA for tests");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn write_pair(folder: &Path, name: &str, host: &str, issuer: &CertifiedIssuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

async fn refusal(config: &StoreConfig) -> String {
    let connection = Connection::open(config).unwrap();
    connection.ping().await.unwrap_err().to_string()
}

#[tokio::test]
async fn samples_go_through_tls() {
    let redis = TlsRedis::start("no").await;
    let config = redis.config("localhost");
    let a = node("a");
    let mut appender = Appender::open(&config, 100).unwrap();
    let outcome = appender.write(&entries(&a, 1..=3), at(3)).await.unwrap();
    assert_eq!(outcome.samples, 3);
    assert_eq!(
        numbers(&Reader::open(&config).unwrap(), &a).await,
        [1, 2, 3]
    );
    redis.fixture.server.stop().await;
}

#[tokio::test]
async fn a_server_whose_certificate_is_not_good_is_not_trusted() {
    let redis = TlsRedis::start("no").await;
    // Its certificate is for localhost only.
    let by_address = refusal(&redis.config("127.0.0.1")).await;
    assert!(by_address.contains("not for `127.0.0.1`"), "{by_address}");

    let mut stranger = redis.config("localhost");
    let other = redis.file("other.pem");
    std::fs::write(&other, issuer().pem()).unwrap();
    stranger.ca_file = Some(other);
    let unknown = refusal(&stranger).await;
    assert!(unknown.contains("redis.ca_file"), "{unknown}");

    let plain = StoreConfig {
        url: Some(format!("redis://localhost:{}", redis.port)),
        ..StoreConfig::default()
    };
    assert!(Connection::open(&plain).unwrap().ping().await.is_err());
    redis.fixture.server.stop().await;
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_of_ours_gets_it() {
    let redis = TlsRedis::start("yes").await;
    let mut config = redis.config("localhost");
    let told = refusal(&config).await;
    assert!(told.contains("redis.certificate_file"), "{told}");
    config.certificate_file = Some(redis.file("client.pem"));
    config.key_file = Some(redis.file("client.key"));
    Connection::open(&config).unwrap().ping().await.unwrap();
    config.key_file = Some(redis.file("server.key"));
    let mixed = Connection::open(&config).unwrap_err().to_string();
    assert!(mixed.contains("redis.key_file"), "{mixed}");
    redis.fixture.server.stop().await;
}

#[tokio::test]
async fn what_does_not_speak_tls_is_told() {
    let fixture = fixture().await;
    let port = free_port();
    let _: String = redis::cmd("CONFIG")
        .arg(&["SET", "port", &port.to_string()])
        .query(&mut fixture.redis())
        .unwrap();
    let config = StoreConfig {
        url: Some(format!("rediss://localhost:{port}")),
        ..StoreConfig::default()
    };
    let told = refusal(&config).await;
    assert!(told.contains("localhost") || told.contains("TLS"), "{told}");
    fixture.server.stop().await;
}

#[tokio::test]
async fn a_dialled_stream_is_let_in_and_has_its_database() {
    let fixture = fixture().await;
    let port = free_port();
    let mut redis = fixture.redis();
    for set in [["port", &port.to_string()], ["requirepass", "secret"]] {
        let _: String = redis::cmd("CONFIG")
            .arg("SET")
            .arg(&set)
            .query(&mut redis)
            .unwrap();
    }
    let mut config = StoreConfig {
        url: Some(format!("redis://127.0.0.1:{port}/3")),
        password: Some(Secret::new("secret")),
        ..StoreConfig::default()
    };
    let mut stream = dial::dial(&config).await.unwrap();
    stream.write_all(b"SET x 1\r\n").await.unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"+OK\r\n");
    let held: i64 = {
        redis::cmd("SELECT").arg(3).exec(&mut redis).unwrap();
        redis::cmd("GET").arg("x").query(&mut redis).unwrap()
    };
    assert_eq!(held, 1);

    config.password = Some(Secret::new("wrong"));
    let wrong = dial::dial(&config).await.err().unwrap();
    assert!(matches!(wrong, StoreError::Denied { .. }), "{wrong}");
    config.password = None;
    let nobody = refusal(&config).await;
    assert!(nobody.contains("refuses us"), "{nobody}");
}

#[tokio::test]
async fn a_user_with_the_documented_rights_can_do_all_that_hostbus_does() {
    let fixture = fixture().await;
    let mut redis = fixture.redis();
    redis::cmd("SET")
        .arg("other")
        .arg(1)
        .exec(&mut redis)
        .unwrap();
    let mut user = redis::cmd("ACL");
    user.arg("SETUSER").arg("hostbus").arg("on").arg(">secret");
    for right in rights::ACL.split(' ') {
        user.arg(right);
    }
    user.exec(&mut redis).unwrap();
    command(&[
        "ACL", "SETUSER", "admin", "on", ">secret", "~*", "&*", "+@all",
    ])
    .exec(&mut redis)
    .unwrap();
    redis::cmd("ACL")
        .arg(&["SETUSER", "default", "off"])
        .exec(&mut redis)
        .unwrap();
    let config = StoreConfig {
        user: Some("hostbus".to_owned()),
        password: Some(Secret::new("secret")),
        ..fixture.config.clone()
    };
    let a = node("a");
    let mut appender = Appender::open(&config, 100).unwrap();
    let mut samples = entries(&a, 1..=3);
    // One that comes late, and one under the ingester's own time.
    samples[2].at_ms = at(1) - 5_000;
    samples.push({
        let mut own = fixture::entry(&a, 4);
        own.own_time = true;
        own
    });
    let outcome = appender.write(&samples, at(4)).await.unwrap();
    assert_eq!((outcome.samples, outcome.refusal), (4, None));
    assert!(appender.settled().await.is_ok());
    let describer = Describer::open(&config).unwrap();
    describer.fields().await.unwrap();
    describer.info(&a, &Info::default(), at(4)).await.unwrap();
    describer.status(&a, Status::Online, at(4)).await.unwrap();
    describer.event(&a, &event()).await.unwrap();
    let reader = Reader::open(&config).unwrap();
    assert_eq!(numbers(&reader, &a).await.len(), 4);
    assert_eq!(reader.nodes().await.unwrap().len(), 1);
    let connection = Connection::open(&config).unwrap();
    let facts = Facts::ask(&connection).await.unwrap();
    assert!(facts.append_only);
    // Redis' own passwords could be read the same way.
    assert_eq!(append_fsync(&connection).await.unwrap(), None);
    assert_eq!(Extent::ask(&connection).await.unwrap().nodes, 1);
    let forgotten = forget::forget(&connection, &a).await.unwrap();
    assert_eq!(forgotten.series, 4);

    let mut redis = login(&fixture, "hostbus");
    for forbidden in [
        &["GET", "other"][..],
        &["DEL", "other"],
        &["RENAME", "other", "hb:x"],
        &["FLUSHALL"],
        &["KEYS", "*"],
        &["CONFIG", "GET", "requirepass"],
        &["SHUTDOWN"],
        &["EVAL", "return 1", "0"],
        &["ACL", "LIST"],
    ] {
        let error = command(forbidden).exec(&mut redis).unwrap_err();
        assert_eq!(error.code(), Some("NOPERM"), "{forbidden:?}");
    }
    // What merges and packs series, and reads them in one piece.
    for allowed in [
        "XADD hb:x 1-0 a 1",
        "XADD hb:x MINID ~ 0 2-0 a 1",
        "XTRIM hb:x MINID = 1",
        "XRANGE hb:x - + COUNT 1",
        "XREVRANGE hb:x + - COUNT 1",
        "XLEN hb:x",
        "XDEL hb:x 9-0",
        "XINFO STREAM hb:x",
        "WATCH hb:x",
        "MULTI",
        "HSET hb:y 0 block",
        "XTRIM hb:x MINID 2",
        "EXEC",
        "UNWATCH",
        "HMGET hb:y 0",
        "HKEYS hb:y",
        "HSCAN hb:y 0",
        "HDEL hb:y 0",
        "ZADD hb:z 1 a",
        "ZRANGEBYSCORE hb:z 0 1 LIMIT 0 1",
        "ZRANGE hb:z 0 1 BYSCORE",
        "ZREMRANGEBYSCORE hb:z 0 1",
        "SADD hb:s a",
        "SREM hb:s a",
        "COPY hb:x hb:w",
        "RENAME hb:w hb:x",
        "EXPIRE hb:x 100",
        "TTL hb:x",
        "TYPE hb:x",
        "EXISTS hb:x",
        "SCAN 0 MATCH hb:* COUNT 10",
        "UNLINK hb:x",
        "TIME",
        "MEMORY USAGE hb:x",
    ] {
        let words: Vec<&str> = allowed.split(' ').collect();
        let done = command(&words).exec(&mut redis);
        done.unwrap_or_else(|error| panic!("{allowed}: {error}"));
    }
    let denied = StoreConfig {
        url: fixture.config.url.clone(),
        user: Some("reader".to_owned()),
        password: Some(Secret::new("secret")),
        ..StoreConfig::default()
    };
    let mut admin = login(&fixture, "admin");
    command(&[
        "ACL", "SETUSER", "reader", "on", ">secret", "~hb:*", "+@read",
    ])
    .exec(&mut admin)
    .unwrap();
    let mut appender = Appender::open(&denied, 100).unwrap();
    let error = appender.write(&entries(&a, 1..=1), at(1)).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("xadd") && error.contains(rights::ACL),
        "{error}"
    );
}

fn command(words: &[&str]) -> redis::Cmd {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command
}

fn login(fixture: &Fixture, user: &str) -> redis::Connection {
    let mut redis = fixture.redis();
    command(&["AUTH", user, "secret"]).exec(&mut redis).unwrap();
    redis
}
