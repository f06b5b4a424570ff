//! The server of a test: a private one, or a Redis Cluster of one master.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hostbus_store::{Connection, PrivateServer, StoreConfig};
use tempfile::TempDir;

use crate::fixture::start;

/// How long it may take to come up.
const UP_WITHIN: Duration = Duration::from_secs(30);

/// A server, and how it is reached.
pub(crate) struct Server {
    pub(crate) config: StoreConfig,
    folder: TempDir,
    private: Option<PrivateServer>,
    cluster: Option<Child>,
}

impl Server {
    /// A private one.
    pub(crate) async fn private() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let private = start(folder.path())
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        Self {
            config: StoreConfig {
                url: Some(private.url()),
                ..StoreConfig::default()
            },
            folder,
            private: Some(private),
            cluster: None,
        }
    }

    /// A Redis Cluster of one master with all slots. It refuses every command, and every transaction,
    /// whose keys are of more than one slot.
    pub(crate) async fn cluster() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Beside it there is a second port, 10,000 above.
        let port = loop {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            if port < 55_000 {
                break port;
            }
        };
        let program = std::env::var("HOSTBUS_REDIS_SERVER");
        let program = program.unwrap_or_else(|_| "redis-server".to_owned());
        let child = Command::new(program)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--cluster-enabled", "yes", "--save", ""])
            .arg("--dir")
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed: apt-get install redis-server");
        let server = Self {
            config: StoreConfig {
                url: Some(format!("redis://127.0.0.1:{port}")),
                ..StoreConfig::default()
            },
            folder,
            private: None,
            cluster: Some(child),
        };
        server.answers().await;
        let mut redis = server.redis();
        let mut slots = redis::cmd("CLUSTER");
        let all: Vec<u32> = (0..16_384).collect();
        slots.arg("ADDSLOTS").arg(all);
        slots.exec(&mut redis).unwrap();
        let until = Instant::now() + UP_WITHIN;
        loop {
            let info: String = redis::cmd("CLUSTER").arg("INFO").query(&mut redis).unwrap();
            if info.contains("cluster_state:ok") {
                return server;
            }
            assert!(Instant::now() < until, "{info}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A plain connection to look with.
    pub(crate) fn redis(&self) -> redis::Connection {
        let client = redis::Client::open(self.config.url.as_deref().unwrap()).unwrap();
        client.get_connection().unwrap()
    }

    /// Kills a private server and starts another one in its folder.
    pub(crate) async fn restart(&mut self) {
        // It dies with its owner.
        drop(self.private.take());
        let private = start(self.folder.path()).await;
        self.private = Some(private.unwrap_or_else(|error| panic!("{error}")));
    }

    async fn answers(&self) {
        let until = Instant::now() + UP_WITHIN;
        let connection = Connection::open(&self.config).unwrap();
        while connection.ping().await.is_err() {
            assert!(Instant::now() < until, "the server does not come up");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.cluster.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
