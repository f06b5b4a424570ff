//! The private redis-server of `hostbus up`: started in its own folder, watched, stopped in order.
//!
//! It listens on a Unix socket that only its owner can open, keeps an append-only file, and evicts
//! nothing. It is a child in a process group of its own, so that a Ctrl-C in the terminal does
//! not reach it before the rest of hostbus has written what it holds. The caller keeps two of
//! hostbus from using one folder; a server that a killed hostbus left there is taken over. Before each
//! start its file is looked through, and mended when it is damaged.

mod aof;
mod program;
mod settings;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use std::{fs, io};

use hostbus_daemon::{Backoff, CancellationToken};
use redis::Value;
use rustix::process::{Pid, Signal, kill_process};
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

use crate::config::StoreConfig;
use crate::connection::Connection;
use crate::error::StoreError;

use self::program::Program;
use self::settings::Settings;

/// How often a server that is about to start, or to end, is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// After this the log says what is waited for.
const SAY_AFTER: Duration = Duration::from_secs(2);
/// How long a server may say nothing at all after its start. One that loads its data says so.
const SPEAK_WITHIN: Duration = Duration::from_secs(30);
/// How long a server may take to write its file and end.
const END_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A server that ran for so long had no trouble with its start.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// Why the private server could not be started.
#[derive(Debug, Error)]
pub enum ServerError {
    /// There is none on this host.
    #[error(
        "redis-server is not installed: run `apt-get install redis-server`, or set redis.url to a Redis that runs"
    )]
    Missing,
    /// Its version can't be told.
    #[error("failed to ask {program} for its version: {source}")]
    Version {
        /// The program.
        program: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It lacks what hostbus uses.
    #[error(
        "{program} has version {version}, hostbus needs 6.2 or newer: install one, or set redis.url"
    )]
    TooOld {
        /// The program.
        program: &'static str,
        /// Its version.
        version: String,
    },
    /// The socket's path does not fit into a socket address.
    #[error(
        "the path of the socket, {}, has {bytes} bytes, and a socket's may have {}: choose a shorter data folder",
        path.display(),
        settings::MAX_SOCKET_PATH_BYTES
    )]
    SocketPath {
        /// The path.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// Its folder or its settings can't be written.
    #[error("failed to prepare {}: {source}", path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It can't be run.
    #[error("failed to run {program}: {source}")]
    Spawn {
        /// The program.
        program: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It ended before it served.
    #[error("redis-server ended at its start ({status}); its log {} ends with: {last}", log.display())]
    Ended {
        /// How.
        status: ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The log's last line.
        last: String,
    },
    /// It runs, but does not answer.
    #[error("redis-server does not answer on {}; see its log {}", socket.display(), log.display())]
    Silent {
        /// Its socket.
        socket: PathBuf,
        /// Its log.
        log: PathBuf,
    },
    /// A server of a former run holds the socket and won't end.
    #[error("a redis-server of a former run still serves {} and does not end: stop it", socket.display())]
    Orphan {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket can't be addressed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A redis-server that runs as our child. Dropping it kills the child, and what it had not yet
/// written to its file is lost: use [`PrivateServer::stop`].
#[derive(Debug)]
pub struct PrivateServer {
    url: String,
    socket: PathBuf,
    token: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl PrivateServer {
    /// Starts a server with its data in `folder`, which is made if it is missing. Returns once it
    /// serves; loading much data takes its time.
    ///
    /// # Errors
    /// There is no redis-server, its folder can't be used, or it does not come up.
    pub async fn start(folder: &Path) -> Result<Self, ServerError> {
        Self::run(Program::find().await?, folder).await
    }

    /// The same with this server program, a name or a path, whatever else there is.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_program(program: &'static str, folder: &Path) -> Result<Self, ServerError> {
        Self::run(Program::at(program).await?, folder).await
    }

    async fn run(program: Program, folder: &Path) -> Result<Self, ServerError> {
        let settings = Settings::write(folder)?;
        let url = settings.url();
        let config = StoreConfig {
            url: Some(url.clone()),
            ..StoreConfig::default()
        };
        let connection = Connection::open(&config)?.answering_within(ANSWER_WITHIN);
        let token = CancellationToken::new();
        let socket = settings.socket.clone();
        let keeper = Keeper {
            program,
            settings,
            connection,
        };
        keeper.end_orphan().await?;
        let child = keeper.launch().await?;
        let task = tokio::spawn(keeper.keep(child, token.clone()));
        Ok(Self {
            url,
            socket,
            token,
            task: Some(task),
        })
    }

    /// What was cut off damaged files in `folder`, and is still kept there.
    #[must_use]
    pub fn cut_off(folder: &Path) -> Vec<PathBuf> {
        aof::kept(folder)
    }

    /// Its address, for `redis.url`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Has it write its file and end; kills it if it takes too long.
    pub async fn stop(mut self) {
        self.token.cancel();
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            error!(%error, "the keeper of redis-server failed");
        }
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        // The child dies with the task that owns it.
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Starts, watches and ends the child.
struct Keeper {
    program: Program,
    settings: Settings,
    connection: Connection,
}

impl Keeper {
    /// Keeps a server running until the token is cancelled, then ends it.
    async fn keep(self, first: Child, token: CancellationToken) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut running = Some(first);
        loop {
            if let Some(mut child) = running.take() {
                let begun = Instant::now();
                tokio::select! {
                    status = child.wait() => {
                        let status = status.map_or_else(|error| error.to_string(), |s| s.to_string());
                        warn!(status, "redis-server ended by itself, starting it again");
                    }
                    () = token.cancelled() => return self.end(child).await,
                }
                if begun.elapsed() > SETTLED_AFTER {
                    backoff.reset();
                }
            }
            tokio::select! {
                () = sleep(backoff.next_wait()) => {}
                () = token.cancelled() => return,
            }
            tokio::select! {
                launched = self.launch() => match launched {
                    Ok(child) => running = Some(child),
                    Err(error) => error!(%error, "failed to start redis-server again"),
                },
                // A child that still loads is killed, which harms nothing.
                () = token.cancelled() => return,
            }
        }
    }

    /// Runs the child and waits until it serves.
    async fn launch(&self) -> Result<Child, ServerError> {
        self.mend().await?;
        let program = self.program.name;
        let mut child = Command::new(program)
            .arg(&self.settings.file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| ServerError::Spawn { program, source })?;
        let begun = Instant::now();
        let mut said = false;
        let mut spoke = begun;
        loop {
            if let Ok(Some(status)) = child.try_wait() {
                let log = self.settings.log.clone();
                return Err(ServerError::Ended {
                    status,
                    last: last_line(&log),
                    log,
                });
            }
            match self.answer().await {
                Answer::Serves => break,
                Answer::Loads => spoke = Instant::now(),
                Answer::Nothing if spoke.elapsed() > SPEAK_WITHIN => {
                    let (socket, log) = (self.settings.socket.clone(), self.settings.log.clone());
                    return Err(ServerError::Silent { socket, log });
                }
                Answer::Nothing => {}
            }
            if !said && begun.elapsed() > SAY_AFTER {
                said = true;
                info!("waiting for redis-server to load its data");
            }
            sleep(LOOK_EVERY).await;
        }
        info!(
            program,
            version = self.program.version,
            socket = %self.settings.socket.display(),
            "private redis-server is up"
        );
        Ok(child)
    }

    /// Cuts off the damaged end of the append-only file, if it has one.
    async fn mend(&self) -> Result<(), ServerError> {
        let folder = self.settings.folder.clone();
        let failed = |error: JoinError| ServerError::Folder {
            path: self.settings.folder.clone(),
            source: io::Error::other(error),
        };
        let cuts = spawn_blocking(move || aof::mend(&folder)).await;
        for cut in cuts.map_err(failed)?? {
            warn!(
                file = %cut.file.display(),
                at = cut.at,
                bytes = cut.bytes,
                reason = cut.reason,
                kept = %cut.kept.display(),
                "the append-only file of redis was damaged: all that follows its last whole command was cut off and is kept aside"
            );
        }
        Ok(())
    }

    async fn answer(&self) -> Answer {
        match self.connection.ping().await {
            Ok(()) => Answer::Serves,
            Err(StoreError::Unavailable { reason }) if reason.contains("LOADING") => Answer::Loads,
            Err(_) => Answer::Nothing,
        }
    }

    /// Has the child write its file and end.
    async fn end(&self, mut child: Child) {
        self.shut_down().await;
        match timeout(END_WITHIN, child.wait()).await {
            Ok(_) => info!("private redis-server has ended"),
            Err(_) => {
                warn!("redis-server does not end, killing it");
                let _ = child.kill().await;
            }
        }
    }

    /// Ends a server that a killed hostbus left behind. One that hangs is ended too: two servers
    /// that write one append-only file would ruin it.
    async fn end_orphan(&self) -> Result<(), ServerError> {
        let process = self.orphan().await;
        if process.is_none() && self.is_deserted().await {
            return Ok(());
        }
        warn!(
            process,
            "a redis-server of a former run is still there, ending it"
        );
        match process {
            // Has it write its file and end, as SHUTDOWN would; this needs no answer of it.
            Some(process) => self.signal(process, Signal::TERM),
            None => self.shut_down().await,
        }
        if self.is_gone_within(END_WITHIN, process).await {
            return Ok(());
        }
        if let Some(process) = process {
            warn!(process, "it does not end, killing it");
            self.signal(process, Signal::KILL);
        }
        if self.is_gone_within(ANSWER_WITHIN, process).await {
            return Ok(());
        }
        Err(ServerError::Orphan {
            socket: self.settings.socket.clone(),
        })
    }

    /// The process of a server of this folder that runs: the one it wrote down itself, else the one
    /// that listens on the socket.
    async fn orphan(&self) -> Option<i32> {
        let written = fs::read_to_string(&self.settings.process)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .filter(|process| self.is_ours(*process));
        if written.is_some() {
            return written;
        }
        let stream = timeout(ANSWER_WITHIN, UnixStream::connect(&self.settings.socket)).await;
        let listener = stream.ok()?.ok()?.peer_cred().ok()?.pid();
        listener.filter(|process| self.is_ours(*process))
    }

    fn signal(&self, process: i32, signal: Signal) {
        if self.is_ours(process)
            && let Some(pid) = Pid::from_raw(process)
        {
            let _ = kill_process(pid, signal);
        }
    }

    /// Tells whether this process is a Redis of this folder that lives. Process ids are used again.
    /// One that has ended stays in the table, without a command line, until its parent looks.
    fn is_ours(&self, process: i32) -> bool {
        let proc = PathBuf::from(format!("/proc/{process}"));
        let read = |what: &str| fs::read_to_string(proc.join(what));
        read("comm").is_ok_and(|name| name.starts_with("redis") || name.starts_with("valkey"))
            && fs::read(proc.join("cmdline")).is_ok_and(|line| !line.is_empty())
            // It enters the folder of its data at its start.
            && fs::read_link(proc.join("cwd")).is_ok_and(|folder| folder == self.settings.folder)
    }

    /// Waits until nobody listens, and the process is gone so that its file is written.
    async fn is_gone_within(&self, wait: Duration, process: Option<i32>) -> bool {
        let until = Instant::now() + wait;
        while Instant::now() < until {
            let gone = process.is_none_or(|process| !self.is_ours(process));
            if gone && self.is_deserted().await {
                return true;
            }
            sleep(LOOK_EVERY).await;
        }
        false
    }

    /// Tells whether nobody listens on the socket. A server that only hangs still listens.
    async fn is_deserted(&self) -> bool {
        match timeout(ANSWER_WITHIN, UnixStream::connect(&self.settings.socket)).await {
            Ok(Err(error)) => matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ),
            Ok(Ok(_)) | Err(_) => false,
        }
    }

    /// `NOSAVE` leaves out the snapshot only: the append-only file is written and synced.
    async fn shut_down(&self) {
        // It closes the connection instead of answering.
        let answer: Result<Value, _> = self
            .connection
            .command(redis::cmd("SHUTDOWN").arg("NOSAVE"))
            .await;
        if let Err(StoreError::Refused { reason, .. }) = answer {
            warn!(reason, "redis-server refuses to shut down");
        }
    }
}

enum Answer {
    Serves,
    Loads,
    Nothing,
}

fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines()
        .rev()
        .find(|line| !line.is_empty())
        .unwrap_or("nothing")
        .to_owned()
}

/// Makes a folder that only its owner can enter.
fn private_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}
