//! The binary frames of a WebSocket as one stream of bytes (RFC 6455, the server's side).
//!
//! MQTT packets may span frames and share them. Frames are unmasked in the reader's own space, so
//! an idle WebSocket holds no buffer, and no frame is ever collected as a whole. Pings are answered,
//! a close frame too. What breaks the rules is told in a close frame, and ends the stream:
//!
//! ```text
//! 1002  not masked, reserved bits or opcodes, wrong fragments, a length in more bytes than needed
//! 1003  a text frame
//! 1009  a message, all of its frames together, that is longer than a packet may be
//! ```

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::debug;

/// The longest header of a client's frame: 2 bytes, 8 of length, 4 of mask.
const MAX_HEADER_BYTES: usize = 14;

/// The longest frame that is sent.
const MAX_SENT_BYTES: usize = 32 * 1024;

/// While more than this waits to be sent, nothing is read: it may be more pings.
const MAX_WAITING_BYTES: usize = 2 * MAX_SENT_BYTES;

/// What MQTT's own header adds to the longest packet.
const PACKET_HEADER_BYTES: u64 = 5;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// Why the broker ends a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wrong {
    code: u16,
    what: &'static str,
}

const fn broken(what: &'static str) -> Wrong {
    Wrong { code: 1002, what }
}

/// A WebSocket on a stream.
#[derive(Debug)]
pub(crate) struct WebSocket<S> {
    stream: S,
    frames: Frames,
    /// What came together with the HTTP request.
    early: BytesMut,
    /// Frames on their way out.
    waiting: BytesMut,
    /// A close frame was sent, or is on its way.
    closed: bool,
}

impl<S> WebSocket<S> {
    /// A WebSocket that has been agreed on; its messages have at most `max_packet_bytes` and the
    /// header of a packet. `early` is what was read of it already.
    pub(crate) fn new(stream: S, early: BytesMut, max_packet_bytes: usize) -> Self {
        Self {
            stream,
            frames: Frames::new(max_packet_bytes as u64 + PACKET_HEADER_BYTES),
            early,
            waiting: BytesMut::new(),
            closed: false,
        }
    }
}

/// What the bytes of the client's frames mean.
#[derive(Debug)]
struct Frames {
    max_message_bytes: u64,
    /// The header of the frame that comes, as far as it is there.
    header: [u8; MAX_HEADER_BYTES],
    header_bytes: usize,
    frame: Option<Frame>,
    /// The bytes of the message so far, while more fragments of it are to come.
    message: Option<u64>,
    control: Vec<u8>,
}

/// A frame whose payload comes in.
#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: u8,
    mask: [u8; 4],
    /// The place in `mask` for the next byte.
    phase: usize,
    left: u64,
}

/// A frame about the connection itself.
#[derive(Debug, PartialEq, Eq)]
enum Control {
    Ping(Vec<u8>),
    /// With the code that the client told.
    Close(Option<u16>),
}

impl Frames {
    fn new(max_message_bytes: u64) -> Self {
        Self {
            max_message_bytes,
            header: [0; MAX_HEADER_BYTES],
            header_bytes: 0,
            frame: None,
            message: None,
            control: Vec::new(),
        }
    }

    /// Takes the bytes of frames apart: what belongs to MQTT is moved to the front of `bytes`, and
    /// its length returned. What is asked of us goes to `controls`; nothing is read after a close.
    fn decode(&mut self, bytes: &mut [u8], controls: &mut Vec<Control>) -> Result<usize, Wrong> {
        let (mut at, mut kept) = (0, 0);
        while at < bytes.len() || self.frame.is_some_and(|frame| frame.left == 0) {
            let Some(frame) = &mut self.frame else {
                self.header[self.header_bytes] = bytes[at];
                self.header_bytes += 1;
                at += 1;
                self.begin()?;
                continue;
            };
            let here = usize::try_from(frame.left)
                .map_or(bytes.len() - at, |left| left.min(bytes.len() - at));
            for byte in &mut bytes[at..at + here] {
                *byte ^= frame.mask[frame.phase];
                frame.phase = (frame.phase + 1) % 4;
            }
            if frame.opcode >= CLOSE {
                self.control.extend_from_slice(&bytes[at..at + here]);
            } else {
                bytes.copy_within(at..at + here, kept);
                kept += here;
            }
            at += here;
            frame.left -= here as u64;
            if frame.left == 0 {
                let opcode = frame.opcode;
                self.frame = None;
                if opcode >= CLOSE {
                    let payload = std::mem::take(&mut self.control);
                    match opcode {
                        PING => controls.push(Control::Ping(payload)),
                        CLOSE => {
                            controls.push(Control::Close(close_code(&payload)?));
                            return Ok(kept);
                        }
                        // A pong needs no answer.
                        _ => {}
                    }
                }
            }
        }
        Ok(kept)
    }

    /// Begins the frame if its header is whole.
    fn begin(&mut self) -> Result<(), Wrong> {
        let [first, second, rest @ ..] = self.header;
        let (opcode, fin) = (first & 0x0f, first & FIN != 0);
        if self.header_bytes == 1 {
            return self.check_first(first, opcode, fin);
        }
        if second & MASKED == 0 {
            return Err(broken("a frame without mask"));
        }
        let (length_bytes, short) = match second & !MASKED {
            126 => (2, 0),
            127 => (8, 0),
            short => (0, short),
        };
        if opcode >= CLOSE && length_bytes > 0 {
            return Err(broken("a control frame that is too long"));
        }
        if self.header_bytes < 2 + length_bytes + 4 {
            return Ok(());
        }
        let (length, mask) = rest.split_at(length_bytes);
        let length = match length_bytes {
            0 => short.into(),
            _ => length
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        let least = match length_bytes {
            0 => 0,
            2 => 126,
            _ => 1 << 16,
        };
        if length < least {
            return Err(broken("a length in more bytes than needed"));
        }
        if opcode < CLOSE {
            let message = self.message.unwrap_or(0).saturating_add(length);
            if message > self.max_message_bytes {
                return Err(Wrong {
                    code: 1009,
                    what: "a message that is too long",
                });
            }
            self.message = (!fin).then_some(message);
        }
        self.header_bytes = 0;
        self.frame = Some(Frame {
            opcode,
            mask: [mask[0], mask[1], mask[2], mask[3]],
            phase: 0,
            left: length,
        });
        Ok(())
    }

    fn check_first(&self, first: u8, opcode: u8, fin: bool) -> Result<(), Wrong> {
        if first & 0x70 != 0 {
            return Err(broken("reserved bits"));
        }
        match opcode {
            CONTINUATION if self.message.is_none() => Err(broken("a continuation of nothing")),
            TEXT => Err(Wrong {
                code: 1003,
                what: "a text frame",
            }),
            BINARY if self.message.is_some() => Err(broken("a message within another")),
            CLOSE..=PONG if !fin => Err(broken("a control frame in fragments")),
            CONTINUATION | BINARY | CLOSE..=PONG => Ok(()),
            _ => Err(broken("an unknown opcode")),
        }
    }
}

/// The code in a close frame.
fn close_code(payload: &[u8]) -> Result<Option<u16>, Wrong> {
    let Some((code, text)) = payload.split_first_chunk::<2>() else {
        return match payload {
            [] => Ok(None),
            _ => Err(broken("a close frame with half a code")),
        };
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
        || std::str::from_utf8(text).is_err()
    {
        return Err(broken("a close frame with a wrong code or text"));
    }
    Ok(Some(code))
}

/// Appends a frame; a server's frames have no mask.
fn put_frame(out: &mut BytesMut, opcode: u8, payload: &[u8]) {
    out.reserve(payload.len() + 10);
    out.put_u8(FIN | opcode);
    match payload.len() {
        length @ 0..=125 => out.put_u8(length as u8),
        length @ 126..=0xffff => {
            out.put_u8(126);
            out.put_u16(length as u16);
        }
        length => {
            out.put_u8(127);
            out.put_u64(length as u64);
        }
    }
    out.extend_from_slice(payload);
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Sends what waits; ready when nothing does.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.waiting))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.advance(written);
        }
        if self.waiting.capacity() > 0 {
            self.waiting = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what waits as far as that goes now; the rest goes with the next write or read.
    fn send_now(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if let Poll::Ready(sent) = self.poll_drain(context) {
            sent?;
            if let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(context) {
                flushed?;
            }
        }
        Ok(())
    }

    fn put_close(&mut self, code: Option<u16>) {
        if !self.closed {
            self.closed = true;
            let payload = code.map(u16::to_be_bytes);
            let payload = payload.as_ref().map_or(&[][..], |code| &code[..]);
            put_frame(&mut self.waiting, CLOSE, payload);
        }
    }

    /// Handles what was read into the first `filled` bytes of `space`. How many of them are MQTT's,
    /// and whether the client has closed.
    fn take(&mut self, context: &mut Context<'_>, bytes: &mut [u8]) -> io::Result<(usize, bool)> {
        let mut controls = Vec::new();
        let decoded = self.frames.decode(bytes, &mut controls);
        let mut closing = false;
        for control in controls {
            match control {
                Control::Ping(payload) => put_frame(&mut self.waiting, PONG, &payload),
                Control::Close(code) => {
                    self.put_close(code);
                    closing = true;
                }
            }
        }
        let result = decoded.map_err(|wrong| {
            debug!(code = wrong.code, what = wrong.what, "WebSocket broken");
            self.put_close(Some(wrong.code));
            io::Error::new(io::ErrorKind::InvalidData, wrong.what)
        });
        if !self.waiting.is_empty() {
            self.send_now(context)?;
        }
        Ok((result?, closing))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.closed {
                return Poll::Ready(Ok(()));
            }
            if self.waiting.len() > MAX_WAITING_BYTES {
                ready!(self.poll_drain(context))?;
            }
            let space = buffer.initialize_unfilled();
            let filled = if self.early.is_empty() {
                let mut read = ReadBuf::new(space);
                ready!(Pin::new(&mut self.stream).poll_read(context, &mut read))?;
                read.filled().len()
            } else {
                let early = self.early.len().min(space.len());
                self.early.copy_to_slice(&mut space[..early]);
                if self.early.is_empty() {
                    self.early = BytesMut::new();
                }
                early
            };
            if filled == 0 {
                return Poll::Ready(Ok(()));
            }
            let (kept, closing) = self.take(context, &mut space[..filled])?;
            if kept > 0 || closing {
                buffer.advance(kept);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.waiting.len() >= MAX_SENT_BYTES {
            ready!(self.poll_drain(context))?;
        }
        let bytes = &bytes[..bytes.len().min(MAX_SENT_BYTES)];
        put_frame(&mut self.waiting, BINARY, bytes);
        // What can't be sent now is sent by the next write or flush.
        if let Poll::Ready(sent) = self.poll_drain(context) {
            sent?;
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.put_close(Some(1000));
        ready!(self.poll_drain(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
