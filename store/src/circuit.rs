//! Circuits to Redis: commands go out, all their answers come back as they are.
//!
//! Each is one caller's at a time, and goes back when it has its answers. One that failed, or whose caller
//! gave up, is dropped.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::time::timeout;

use crate::answers::Answers;
use crate::dial::Stream;
use crate::error::StoreError;
use crate::pipe::{lost, slow, unreadable};
use crate::resp::Unreadable;

/// How much is read at least at once.
const READ_BYTES: usize = 32 * 1024;
/// How many circuits wait for the next caller.
const MOST_IDLE: usize = 4;

/// A circuit to Redis.
pub(crate) struct Circuit {
    input: ReadHalf<Box<dyn Stream>>,
    output: WriteHalf<Box<dyn Stream>>,
    answer_within: Duration,
}

impl Circuit {
    /// A circuit over a stream on which Redis knows who we are.
    pub(crate) fn over(stream: Box<dyn Stream>, answer_within: Duration) -> Self {
        let (input, output) = split(stream);
        Self {
            input,
            output,
            answer_within,
        }
    }

    /// Sends `count` commands and waits for all answers. After a failure the circuit is of no more use.
    pub(crate) async fn ask(
        &mut self,
        commands: &[u8],
        count: usize,
    ) -> Result<Answers, StoreError> {
        let Self { input, output, .. } = self;
        let write = async {
            output.write_all(commands).await?;
            output.flush().await
        };
        let read = async {
            let mut answers = Answers::default();
            loop {
                let room = answers.room();
                room.reserve(READ_BYTES.max(room.len()));
                if input.read_buf(room).await? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                if answers.note(count).map_err(|Unreadable| unreadable())? {
                    return Ok(answers);
                }
            }
        };
        // Answers are read while commands are still written, so that neither side waits for the other.
        let both = async { tokio::try_join!(write, read) };
        match timeout(self.answer_within, both).await {
            Ok(Ok(((), answers))) => Ok(answers),
            Ok(Err(error)) => Err(lost(&error)),
            Err(_) => Err(slow("to answer")),
        }
    }
}

impl std::fmt::Debug for Circuit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Circuit").finish_non_exhaustive()
    }
}

/// Circuits that nobody uses now. A single caller has the same one each time, as long as it lives.
#[derive(Debug, Default)]
pub(crate) struct Circuits {
    idle: Mutex<Vec<Circuit>>,
}

impl Circuits {
    /// One of them.
    pub(crate) fn take(&self) -> Option<Circuit> {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
    }

    /// Takes one back. It must have all its answers.
    pub(crate) fn give_back(&self, circuit: Circuit) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MOST_IDLE {
            idle.push(circuit);
        }
    }

    /// Drops them: what broke one circuit has most likely broken the others.
    pub(crate) fn clear(&self) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of `bytes` for `count` commands, when no more than that comes.
    async fn answered(bytes: &'static [u8], count: usize) -> Result<usize, StoreError> {
        let (mut redis, ours) = tokio::io::duplex(7);
        let mut circuit = Circuit::over(Box::new(ours), Duration::from_secs(9));
        let answer = tokio::spawn(async move {
            let mut asked = [0; 4];
            redis.read_exact(&mut asked).await.unwrap();
            redis.write_all(bytes).await
        });
        let answers = circuit.ask(b"PING", count).await;
        drop(circuit);
        let _ = answer.await;
        answers.map(|answers| answers.len())
    }

    #[tokio::test]
    async fn all_answers_come_back() {
        let bytes = b"*1\r\n$12\r\nhello, world\r\n-ERR no\r\n";
        assert_eq!(answered(bytes, 2).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn answers_that_are_missing_or_none_fail() {
        for bytes in [
            &b":1\r\n"[..],
            b"$9\r\nshort",
            b"*2\r\n:1\r\n",
            b"hello\r\n",
            b":1\r\n:2\r\n:3\r\n",
        ] {
            let failed = answered(bytes, 2).await;
            assert!(
                matches!(failed, Err(StoreError::Unavailable { .. })),
                "{bytes:?}"
            );
        }
    }
}
