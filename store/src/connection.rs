//! One connection to Redis that comes back, and which failures may be tried again.
//!
//! A connection that failed is dropped; the next use makes a new one. Nothing is tried again here:
//! only the caller knows whether doing a thing twice is harmless.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, Pipeline, RedisConnectionInfo, RedisError, ServerError,
    ServerErrorKind, Value,
};
use tokio::sync::Mutex;

use crate::answers::Answers;
use crate::circuit::{Circuit, Circuits};
use crate::config::StoreConfig;
use crate::dial::Address;
use crate::error::StoreError;
use crate::pipe::Pipe;
use crate::rights;

/// Longer than Redis ever stops for a fork or a slow disk, unless something is wrong.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// A connection to Redis. Clones share it.
#[derive(Debug, Clone)]
pub struct Connection {
    address: Arc<Address>,
    answer_within: Duration,
    live: Arc<Mutex<Live>>,
    /// For what is answered with many rows.
    circuits: Arc<Circuits>,
}

#[derive(Debug, Default)]
struct Live {
    connection: Option<MultiplexedConnection>,
    /// Counts the connections, so that an old one's failure does not drop a newer one.
    generation: u64,
}

impl Connection {
    /// A connection as `config` says. Connects on first use.
    ///
    /// # Errors
    /// The settings are wrong.
    pub fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        Ok(Self {
            address: Arc::new(config.address()?),
            answer_within: ANSWER_WITHIN,
            live: Arc::default(),
            circuits: Arc::default(),
        })
    }

    /// The same settings, with a connection of its own.
    #[must_use]
    pub fn another(&self) -> Self {
        Self {
            live: Arc::default(),
            circuits: Arc::default(),
            ..self.clone()
        }
    }

    /// The same settings with a connection of its own that waits no longer than this for an answer.
    #[must_use]
    pub fn answering_within(&self, wait: Duration) -> Self {
        Self {
            answer_within: wait,
            ..self.another()
        }
    }

    /// A connection for batches, with the same settings.
    pub(crate) async fn pipe(&self) -> Result<Pipe, StoreError> {
        let stream = self.address.dial().await?;
        Ok(Pipe::over(stream, self.answer_within))
    }

    /// Asks Redis whether it serves.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.command(&redis::cmd("PING")).await.map(drop)
    }

    /// Sends one command.
    pub(crate) async fn command(&self, command: &Cmd) -> Result<Value, StoreError> {
        let (mut connection, generation) = self.connect().await?;
        let name = name_of(command);
        match connection.req_packed_command(command).await {
            Ok(Value::ServerError(error)) => Err(judge(&name, &error)),
            Ok(value) => Ok(value),
            Err(error) => Err(self.failed(&name, &error, generation).await),
        }
    }

    /// Sends a pipeline, and gives the reply of each command. Replies that say that Redis can't
    /// serve now make the whole of it fail.
    pub(crate) async fn pipeline(&self, pipeline: &Pipeline) -> Result<Vec<Value>, StoreError> {
        let replies = self.replies(pipeline).await?;
        for reply in &replies {
            if let Value::ServerError(error) = reply {
                let error = judge("a pipeline", error);
                if error.may_retry() {
                    return Err(error);
                }
            }
        }
        Ok(replies)
    }

    /// Sends a pipeline, and gives the reply of each command, whatever it says.
    pub(crate) async fn replies(&self, pipeline: &Pipeline) -> Result<Vec<Value>, StoreError> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let (mut connection, generation) = self.connect().await?;
        let result = if pipeline.is_transaction() {
            connection
                .req_packed_commands(pipeline, pipeline.len() + 1, 1)
                .await
        } else {
            connection
                .req_packed_commands(pipeline, 0, pipeline.len())
                .await
        };
        match result {
            Ok(replies) => Ok(replies),
            Err(error) => Err(self.failed("a pipeline", &error, generation).await),
        }
    }

    /// Sends one command, and gives its answer as it came.
    pub(crate) async fn ask_one(&self, command: &Cmd) -> Result<Answers, StoreError> {
        let answers = self.exchange(&command.get_packed_command(), 1).await?;
        match answers.get(0).refusal() {
            Some(refusal) => Err(judge_text(&name_of(command), refusal)),
            None => Ok(answers),
        }
    }

    /// Sends a pipeline, and gives the answer to each command as it came; of a transaction those to MULTI
    /// and to what was queued too, the one to EXEC last. Answers that say that Redis can't serve now
    /// make the whole of it fail, and so does a command that a transaction can't take.
    ///
    /// As long as nobody else asks through this connection, it is one connection to Redis.
    pub(crate) async fn ask(&self, pipeline: &Pipeline) -> Result<Answers, StoreError> {
        if pipeline.is_empty() {
            return Ok(Answers::default());
        }
        let framed = pipeline.is_transaction();
        let count = pipeline.len() + if framed { 2 } else { 0 };
        let answers = self
            .exchange(&pipeline.get_packed_pipeline(), count)
            .await?;
        for (place, answer) in answers.iter().enumerate() {
            let Some(refusal) = answer.refusal() else {
                continue;
            };
            let error = judge_text("a pipeline", refusal);
            if error.may_retry() || framed && place + 1 < count {
                return Err(error);
            }
        }
        Ok(answers)
    }

    async fn exchange(&self, commands: &[u8], count: usize) -> Result<Answers, StoreError> {
        let mut circuit = match self.circuits.take() {
            Some(circuit) => circuit,
            None => Circuit::over(self.address.dial().await?, self.answer_within),
        };
        let answers = circuit.ask(commands, count).await;
        match answers {
            Ok(_) => self.circuits.give_back(circuit),
            Err(_) => self.circuits.clear(),
        }
        answers
    }

    async fn connect(&self) -> Result<(MultiplexedConnection, u64), StoreError> {
        let mut live = self.live.lock().await;
        if let Some(connection) = &live.connection {
            return Ok((connection.clone(), live.generation));
        }
        let stream = self.address.dial().await?;
        // All that there is to say at the beginning has been said.
        let nobody = RedisConnectionInfo::default().set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(self.answer_within));
        let (connection, driver) = MultiplexedConnection::new_with_config(&nobody, stream, config)
            .await
            .map_err(|error| explain("to connect", &error))?;
        // It ends with the last clone of the connection.
        tokio::spawn(driver);
        live.generation += 1;
        live.connection = Some(connection.clone());
        Ok((connection, live.generation))
    }

    /// Drops the connection that failed, unless somebody has made a new one since.
    async fn failed(&self, command: &str, error: &RedisError, generation: u64) -> StoreError {
        let explained = explain(command, error);
        if matches!(explained, StoreError::Unavailable { .. }) {
            let mut live = self.live.lock().await;
            if live.generation == generation {
                live.connection = None;
            }
        }
        explained
    }
}

fn name_of(command: &Cmd) -> String {
    match command.args_iter().next() {
        Some(redis::Arg::Simple(name)) => String::from_utf8_lossy(name).into_owned(),
        _ => "a command".to_owned(),
    }
}

fn explain(command: &str, error: &RedisError) -> StoreError {
    match error.kind() {
        // A transaction is refused because one of its commands was.
        ErrorKind::Server(ServerErrorKind::ExecAbort)
            if let Some(refused) = error.clone().into_server_errors()
                && let Some((_, first)) = refused.first() =>
        {
            judge(command, first)
        }
        ErrorKind::AuthenticationFailed => StoreError::Denied {
            reason: error.to_string(),
        },
        ErrorKind::Server(_) | ErrorKind::Extension => {
            let text = error
                .detail()
                .map_or_else(|| error.to_string(), str::to_owned);
            judge_code(command, error.code().unwrap_or_default(), &text)
        }
        _ => StoreError::Unavailable {
            reason: error.to_string(),
        },
    }
}

/// Tells what a server's refusal means for what was sent.
pub(crate) fn judge(command: &str, error: &ServerError) -> StoreError {
    judge_code(command, error.code(), error.details().unwrap_or_default())
}

/// Tells what a refusal with this code means.
pub(crate) fn judge_code(command: &str, code: &str, details: &str) -> StoreError {
    let reason = format!("{code} {details}");
    match code {
        "OOM" => StoreError::Full,
        "MISCONF" | "READONLY" | "LOADING" | "BUSY" | "MASTERDOWN" | "NOREPLICAS"
        | "CLUSTERDOWN" | "TRYAGAIN" | "MOVED" | "ASK" | "UNBLOCKED" => {
            StoreError::Unavailable { reason }
        }
        "NOPERM" => StoreError::Denied {
            reason: format!("{reason}; the rights that it needs: {}", rights::ACL),
        },
        "NOAUTH" | "WRONGPASS" | "DENIED" => StoreError::Denied { reason },
        _ => StoreError::Refused {
            command: command.to_owned(),
            reason,
        },
    }
}

/// Tells what a refusal, as it stands in a reply, means for what was sent.
pub(crate) fn judge_text(command: &str, refusal: &str) -> StoreError {
    let (code, details) = refusal.split_once(' ').unwrap_or((refusal, ""));
    judge_code(command, code, details)
}

/// Tells whether a refusal is XADD's word that a stream is already past this id. The same text since
/// streams exist, in Redis 5 to 8 and in Valkey.
pub(crate) fn is_past(refusal: &str) -> bool {
    refusal.starts_with("ERR ") && refusal.contains("equal or smaller")
}
