//! A connection that takes whole batches of commands, and tells which of them were refused.
//!
//! It never comes back: one that failed is dropped, and with it all that was believed of Redis.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::time::timeout;

use crate::connection::judge_text;
use crate::dial::Stream;
use crate::error::StoreError;
use crate::resp::{self, Commands, Reply};

/// How much is read at once. An answer to a row has about 23 bytes.
const READ_BYTES: usize = 32 * 1024;

/// A connection for batches.
pub(crate) struct Pipe {
    input: ReadHalf<Box<dyn Stream>>,
    output: WriteHalf<Box<dyn Stream>>,
    read: Vec<u8>,
    answer_within: Duration,
}

/// A command that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Its number in the batch.
    pub(crate) index: usize,
    /// What Redis said.
    pub(crate) reason: String,
}

impl Pipe {
    /// Batches over a stream on which Redis knows who we are.
    pub(crate) fn over(stream: Box<dyn Stream>, answer_within: Duration) -> Self {
        let (input, output) = split(stream);
        Self {
            input,
            output,
            read: Vec::new(),
            answer_within,
        }
    }

    /// Sends commands and waits for all answers. Gives those that were refused. A refusal that says
    /// that Redis can't serve now makes the whole of it fail. After a failure the connection is of no
    /// more use.
    pub(crate) async fn send(&mut self, commands: &Commands) -> Result<Vec<Refused>, StoreError> {
        let Self {
            input,
            output,
            read,
            answer_within,
        } = self;
        let mut refused = Vec::new();
        let write = async {
            output.write_all(commands.bytes()).await?;
            output.flush().await
        };
        // Answers are read while commands are still written, so that neither side waits for the other.
        let answers = read_replies(input, read, commands.len(), &mut refused);
        let both = async { tokio::try_join!(write, answers) };
        match timeout(*answer_within, both).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(lost(&error)),
            Err(_) => return Err(slow("to answer")),
        }
        for Refused { reason, .. } in &refused {
            let error = judge_text("a batch", reason);
            if error.may_retry() {
                return Err(error);
            }
        }
        Ok(refused)
    }
}

async fn read_replies(
    input: &mut (impl AsyncRead + Unpin),
    read: &mut Vec<u8>,
    count: usize,
    refused: &mut Vec<Refused>,
) -> io::Result<()> {
    let (mut index, mut at) = (0, 0);
    while index < count {
        match resp::reply(&read[at..]) {
            Ok(Some((reply, length))) => {
                if let Reply::Refused(reason) = reply {
                    let reason = reason.to_owned();
                    refused.push(Refused { index, reason });
                }
                index += 1;
                at += length;
            }
            Ok(None) => {
                read.drain(..at);
                at = 0;
                read.reserve(READ_BYTES);
                if input.read_buf(read).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Err(resp::Unreadable) => return Err(unreadable()),
        }
    }
    read.drain(..at);
    if read.is_empty() {
        Ok(())
    } else {
        let reason = "an answer to nothing";
        Err(io::Error::new(io::ErrorKind::InvalidData, reason))
    }
}

/// Something came that is no answer.
pub(crate) fn unreadable() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "an answer that no Redis gives")
}

/// The connection broke.
pub(crate) fn lost(error: &io::Error) -> StoreError {
    StoreError::Unavailable {
        reason: error.to_string(),
    }
}

/// Redis did not do it in time.
pub(crate) fn slow(what: &str) -> StoreError {
    StoreError::Unavailable {
        reason: format!("too slow {what}"),
    }
}

impl std::fmt::Debug for Pipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipe").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered(bytes: &'static [u8], commands: usize) -> io::Result<Vec<Refused>> {
        let (mut redis, mut ours) = tokio::io::duplex(7);
        let answer = tokio::spawn(async move { redis.write_all(bytes).await });
        let (mut read, mut refused) = (Vec::new(), Vec::new());
        let result = read_replies(&mut ours, &mut read, commands, &mut refused).await;
        drop(ours);
        let _ = answer.await;
        result.map(|()| refused)
    }

    #[tokio::test]
    async fn refusals_are_told_by_their_number() {
        let bytes = b"$7\r\n12345-0\r\n-ERR equal or smaller\r\n:1\r\n-WRONGTYPE it is\r\n";
        let refused = answered(bytes, 4).await.unwrap();
        let refused: Vec<(usize, &str)> = refused
            .iter()
            .map(|refused| (refused.index, refused.reason.as_str()))
            .collect();
        assert_eq!(
            refused,
            [(1, "ERR equal or smaller"), (3, "WRONGTYPE it is")]
        );
    }

    #[tokio::test]
    async fn answers_that_are_missing_or_none_fail() {
        for bytes in [
            &b":1\r\n"[..],
            b":1\r\n:",
            b":1\r\n*1\r\n",
            b":1\r\n:2\r\n:3\r\n",
        ] {
            assert!(answered(bytes, 2).await.is_err(), "{bytes:?}");
        }
    }
}
