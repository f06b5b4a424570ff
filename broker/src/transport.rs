//! One client's stream with its two buffers; reads and writes go on side by side in one task.
//!
//! An idle connection holds no buffer. The stream may be any that reads and writes.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

/// Bytes read at once, at most.
pub(crate) const READ_BYTES: usize = 16 * 1024;

/// What went over the stream.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    pub(crate) read_bytes: usize,
    pub(crate) written_bytes: usize,
}

/// A stream with its buffers.
#[derive(Debug)]
pub(crate) struct Transport<S> {
    stream: S,
    /// What was read and is not yet decoded.
    pub(crate) incoming: BytesMut,
    /// What is to be written.
    pub(crate) outgoing: BytesMut,
    unflushed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Transport<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
            unflushed: false,
        }
    }

    /// Waits until something was written, or read where `reads`. Cancelling it loses nothing.
    ///
    /// # Errors
    /// The stream is broken, or the client has closed it.
    pub(crate) async fn progress(&mut self, reads: bool) -> io::Result<Progress> {
        self.free_buffers();
        poll_fn(|context| self.poll_progress(context, reads)).await
    }

    fn free_buffers(&mut self) {
        for buffer in [&mut self.incoming, &mut self.outgoing] {
            if buffer.is_empty() && buffer.capacity() > 0 {
                *buffer = BytesMut::new();
            }
        }
    }

    fn poll_progress(
        &mut self,
        context: &mut Context<'_>,
        reads: bool,
    ) -> Poll<io::Result<Progress>> {
        let mut progress = Progress::default();
        if let Poll::Ready(written) = self.poll_write(context) {
            progress.written_bytes = written?;
        }
        if reads && let Poll::Ready(read) = self.poll_read(context) {
            progress.read_bytes = read?;
        } else if progress.written_bytes == 0 {
            return Poll::Pending;
        }
        Poll::Ready(Ok(progress))
    }

    /// Writes what can be written; ready when something was.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut written = 0;
        while !self.outgoing.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, &self.outgoing) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(bytes)) => {
                    self.outgoing.advance(bytes);
                    self.unflushed = true;
                    written += bytes;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        if self.unflushed && Pin::new(&mut self.stream).poll_flush(context)?.is_ready() {
            self.unflushed = false;
        }
        if written > 0 {
            Poll::Ready(Ok(written))
        } else {
            Poll::Pending
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // The space is on this thread's stack and only while it reads.
        let mut space = [const { MaybeUninit::<u8>::uninit() }; READ_BYTES];
        let mut read = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut read))?;
        let read = read.filled();
        if read.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.incoming.extend_from_slice(read);
        Poll::Ready(Ok(read.len()))
    }

    /// Writes all that is left. Returns how much that was.
    pub(crate) async fn flush(&mut self) -> io::Result<usize> {
        let bytes = self.outgoing.len();
        while self.outgoing.has_remaining() {
            self.stream.write_buf(&mut self.outgoing).await?;
        }
        self.stream.flush().await?;
        Ok(bytes)
    }

    /// Writes what is left, as far as that goes `within` this time, and closes the stream in order.
    /// Returns how many bytes were written.
    pub(crate) async fn close(&mut self, within: Duration) -> u64 {
        let before = self.outgoing.len();
        // Too late or not, there is nothing more to do for this client.
        let _ = timeout(within, async {
            self.flush().await?;
            self.stream.shutdown().await
        })
        .await;
        (before - self.outgoing.len()) as u64
    }
}
