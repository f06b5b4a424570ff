//! A stream to Redis, through TCP, TLS or a Unix socket, on which Redis knows who we are.
//!
//! ```text
//! AUTH [user] password   if there is a password
//! SELECT database        if it is not 0
//! CLIENT SETNAME hostbus so that CLIENT LIST tells us apart; a refusal is no harm
//! ```
//! What is spoken after that is the caller's.

use std::path::PathBuf;
use std::time::Duration;

use hostbus_daemon::Secret;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::config::StoreConfig;
use crate::connection::judge_code;
use crate::error::StoreError;
use crate::tls::{self, Tls};

/// How long it may take until Redis has let us in.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// The longest answer to one of our first words.
const LONGEST_ANSWER_BYTES: usize = 1_024;
/// Our name in CLIENT LIST.
const NAME: &str = "hostbus";

/// A connection to Redis.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync> Stream for S {}

/// Connects as `config` says, and says who we are.
///
/// # Errors
/// The settings are wrong, Redis is not there, or it does not let us in.
pub async fn dial(config: &StoreConfig) -> Result<Box<dyn Stream>, StoreError> {
    config.address()?.dial().await
}

/// Where Redis is and who we are there, checked.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) place: Place,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) database: i64,
}

/// Where Redis listens.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// On a port, perhaps in TLS.
    Tcp {
        host: String,
        port: u16,
        tls: Option<Tls>,
    },
    /// On a Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Connects, and says who we are.
    pub(crate) async fn dial(&self) -> Result<Box<dyn Stream>, StoreError> {
        let dialled = timeout(CONNECT_WITHIN, async {
            let mut stream = self.place.connect().await?;
            self.introduce(&mut stream).await?;
            Ok(stream)
        });
        dialled.await.unwrap_or_else(|_| {
            let seconds = CONNECT_WITHIN.as_secs();
            let reason = format!("{} does not answer within {seconds} s", self.place.shown());
            Err(StoreError::Unavailable { reason })
        })
    }

    async fn introduce(&self, stream: &mut Box<dyn Stream>) -> Result<(), StoreError> {
        let mut words: Vec<(&'static str, redis::Cmd)> = Vec::with_capacity(3);
        if let Some(password) = &self.password {
            let mut auth = redis::cmd("AUTH");
            if let Some(user) = &self.user {
                auth.arg(user);
            }
            auth.arg(password.reveal());
            words.push(("AUTH", auth));
        }
        if self.database != 0 {
            let mut select = redis::cmd("SELECT");
            select.arg(self.database);
            words.push(("SELECT", select));
        }
        let mut name = redis::cmd("CLIENT");
        name.arg("SETNAME").arg(NAME);
        words.push(("CLIENT", name));
        let mut bytes = Vec::new();
        for (_, word) in &words {
            bytes.extend(word.get_packed_command());
        }
        let failed = |error: std::io::Error| StoreError::Unavailable {
            reason: self.place.explain(&error),
        };
        stream.write_all(&bytes).await.map_err(failed)?;
        stream.flush().await.map_err(failed)?;
        for (name, _) in words {
            let answer = line(stream).await.map_err(failed)?;
            if let Some(refusal) = answer.strip_prefix('-')
                && name != "CLIENT"
            {
                let (code, details) = refusal.split_once(' ').unwrap_or((refusal, ""));
                return Err(judge_introduction(name, code, details));
            }
        }
        Ok(())
    }
}

impl Place {
    async fn connect(&self) -> Result<Box<dyn Stream>, StoreError> {
        let failed = |error: std::io::Error| StoreError::Unavailable {
            reason: format!("{}: {error}", self.shown()),
        };
        match self {
            Self::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(failed)?;
                Ok(Box::new(stream))
            }
            Self::Tcp { host, port, tls } => {
                let stream = TcpStream::connect((host.as_str(), *port))
                    .await
                    .map_err(failed)?;
                stream.set_nodelay(true).map_err(failed)?;
                Ok(match tls {
                    None => Box::new(stream),
                    Some(tls) => Box::new(tls.connect(stream).await?),
                })
            }
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Unix(path) => path.display().to_string(),
            Self::Tcp { host, port, .. } => format!("{host}:{port}"),
        }
    }

    fn explain(&self, error: &std::io::Error) -> String {
        match self {
            Self::Tcp {
                host, tls: Some(_), ..
            } => tls::explain(error, host),
            _ => format!("{}: {error}", self.shown()),
        }
    }
}

/// One line of an answer, without its end. Read byte by byte: what follows is the caller's.
async fn line(stream: &mut Box<dyn Stream>) -> std::io::Result<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        if line.len() == LONGEST_ANSWER_BYTES {
            return Err(std::io::Error::other("what answers there is no Redis"));
        }
        line.push(stream.read_u8().await?);
    }
    line.truncate(line.len() - 2);
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// A server without users answers AUTH with ERR.
fn judge_introduction(command: &str, code: &str, details: &str) -> StoreError {
    match (command, code) {
        ("AUTH", "ERR") => StoreError::Denied {
            reason: format!("{code} {details}"),
        },
        _ => judge_code(command, code, details),
    }
}
