//! One TCP connection to a broker: bytes out, packets in, and why it ended.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};

use super::packet::{self, Message, Received, Version};

/// How long a broker may take to accept, to answer CONNECT, or to take bytes.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A small receive buffer. A window that shrinks below a segment of the loopback would be filled only
/// by the sender's probes, five times a second.
const SMALL_BUFFER: u32 = 32 * 1_024;

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// It could not be made.
    Unreachable,
    /// CONNECT was refused with this reason.
    Refused(u8),
    /// The broker said goodbye with this reason.
    Told(u8),
    /// The broker closed it.
    Closed,
    /// The broker did something that it must not do.
    Wrong(String),
}

/// One TCP connection.
#[derive(Debug)]
pub(super) struct Link {
    stream: TcpStream,
    buffer: Vec<u8>,
    aliases: HashMap<u16, String>,
}

impl Link {
    /// Connects; with `small`, its receive buffer is.
    pub(super) async fn open(address: SocketAddr, small: bool) -> Result<Self, Lost> {
        let connect = async {
            let socket = TcpSocket::new_v4()?;
            if small {
                socket.set_recv_buffer_size(SMALL_BUFFER)?;
            }
            let stream = socket.connect(address).await?;
            stream.set_nodelay(true)?;
            std::io::Result::Ok(stream)
        };
        match timeout(PATIENCE, connect).await {
            Ok(Ok(stream)) => Ok(Self {
                stream,
                buffer: Vec::new(),
                aliases: HashMap::new(),
            }),
            _ => Err(Lost::Unreachable),
        }
    }

    /// Sends bytes.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        match timeout(PATIENCE, self.stream.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.last_word()),
            Err(_) => Err(Lost::Wrong(format!("took no bytes for {PATIENCE:?}"))),
        }
    }

    /// Why the broker closed the connection, as far as that has arrived.
    fn last_word(&mut self) -> Lost {
        let mut piece = [0; 4_096];
        while let Ok(bytes @ 1..) = self.stream.try_read(&mut piece) {
            self.buffer.extend(&piece[..bytes]);
        }
        // Only 5.0 has a last word, and it is the last packet.
        match self.buffer.last_chunk::<3>() {
            Some([0xe0, 1, reason]) => Lost::Told(*reason),
            _ => match self.buffer.last_chunk::<4>() {
                Some([0xe0, 2, reason, 0]) => Lost::Told(*reason),
                _ => Lost::Closed,
            },
        }
    }

    /// The next packet; `None` when `deadline` comes first.
    pub(super) async fn next(
        &mut self,
        version: Version,
        deadline: Instant,
    ) -> Result<Option<Received>, Lost> {
        loop {
            if let Some(mut received) =
                packet::take(&mut self.buffer, version).map_err(Lost::Wrong)?
            {
                if let Received::Publish(message) = &mut received {
                    self.resolve(message)?;
                }
                return Ok(Some(received));
            }
            match timeout_at(deadline, self.stream.read_buf(&mut self.buffer)).await {
                Err(_) => return Ok(None),
                Ok(Ok(1..)) => {}
                Ok(_) => return Err(Lost::Closed),
            }
        }
    }

    fn resolve(&mut self, message: &mut Message) -> Result<(), Lost> {
        if message.alias == 0 {
            return Ok(());
        }
        if message.topic.is_empty() {
            let known = self.aliases.get(&message.alias).cloned();
            message.topic = known
                .ok_or_else(|| Lost::Wrong(format!("alias {} was never set", message.alias)))?;
        } else {
            self.aliases.insert(message.alias, message.topic.clone());
        }
        Ok(())
    }
}
