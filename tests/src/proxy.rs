//! A network that can be cut: a TCP proxy on loopback that passes, breaks or swallows what goes
//! through it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::loopback;

/// How often a copying thread looks whether its connection still stands.
const LOOK: Duration = Duration::from_millis(100);

/// A proxy that runs until its process ends.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    target: SocketAddr,
    /// Bytes are read and forgotten, as by a network that lost its way.
    swallows: AtomicBool,
    /// New connections are closed at once.
    refuses: AtomicBool,
    /// Connections of an earlier generation are broken.
    generation: AtomicU64,
}

impl Proxy {
    /// A proxy for `target`.
    ///
    /// # Panics
    /// No port can be bound.
    #[must_use]
    pub fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((loopback::address(), 0)).expect("a port for the proxy");
        let address = listener.local_addr().expect("a bound port");
        let state = Arc::new(State {
            target,
            swallows: AtomicBool::new(false),
            refuses: AtomicBool::new(false),
            generation: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if !accepting.refuses.load(Ordering::Relaxed) {
                    // A target that is away breaks the connection, as it would without us.
                    let _ = carry(client, &accepting);
                }
            }
        });
        Self { address, state }
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks all connections, and refuses new ones until [`Self::heal`].
    pub fn cut(&self) {
        self.state.refuses.store(true, Ordering::Relaxed);
        self.state.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Loses all bytes, both ways, until [`Self::heal`]; connections seem to stand.
    pub fn swallow(&self) {
        self.state.swallows.store(true, Ordering::Relaxed);
    }

    /// Passes everything again, on new connections.
    pub fn heal(&self) {
        self.state.generation.fetch_add(1, Ordering::Relaxed);
        self.state.swallows.store(false, Ordering::Relaxed);
        self.state.refuses.store(false, Ordering::Relaxed);
    }
}

fn carry(client: TcpStream, state: &Arc<State>) -> io::Result<()> {
    let server = TcpStream::connect(state.target)?;
    let generation = state.generation.load(Ordering::Relaxed);
    for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
        from.set_read_timeout(Some(LOOK))?;
        let state = Arc::clone(state);
        thread::spawn(move || {
            // However it ends, both sides learn of it.
            let _ = copy(&from, &to, &state, generation);
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}

fn copy(
    mut from: &TcpStream,
    mut to: &TcpStream,
    state: &State,
    generation: u64,
) -> io::Result<()> {
    let mut bytes = [0; 16 * 1024];
    while state.generation.load(Ordering::Relaxed) == generation {
        match from.read(&mut bytes) {
            Ok(0) => break,
            Ok(_) if state.swallows.load(Ordering::Relaxed) => {}
            Ok(count) => to.write_all(&bytes[..count])?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
