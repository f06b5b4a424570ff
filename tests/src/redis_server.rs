//! A `redis-server` of the test's own, on a Unix socket.

use std::path::PathBuf;

use anyhow::ensure;

use crate::folder::Folder;
use crate::history::History;
use crate::poll;
use crate::service::Service;
use crate::tool;

/// A Redis with an append-only file.
#[derive(Debug)]
pub struct RedisServer {
    service: Service,
    socket: PathBuf,
}

impl RedisServer {
    /// Starts one in `folder` with the settings that most have, and waits until it answers.
    #[must_use]
    pub fn start(folder: &Folder) -> Self {
        let socket = folder.join("redis.sock");
        let program = tool::of_system("redis-server", "redis-server");
        let service = Service::new("redis", &program, folder.path())
            .args("--port 0 --appendonly yes --appendfsync everysec --loglevel notice".split(' '))
            .args(["--save", "", "--dir"])
            .args([folder.path()])
            .args(["--unixsocket"])
            .args([&socket]);
        let mut server = Self { service, socket };
        server.start_again();
        server
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// What stands in it.
    #[must_use]
    pub fn history(&self) -> History {
        History::at(&self.url())
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.service.kill();
    }

    /// Starts it again, and waits until it answers.
    pub fn start_again(&mut self) {
        self.service.start();
        let history = self.history();
        poll::until("an answer of redis-server", || {
            let pong: String = history.ask(&["PING"])?;
            ensure!(pong == "PONG", "{pong}");
            Ok(())
        });
    }
}
