//! An HTTP endpoint that takes what is posted to it, and can be away, busy, or lose its answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::loopback;

/// How long a client may take for its request.
const REQUEST_WITHIN: Duration = Duration::from_secs(20);

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// It is taken, and its client told so.
    Takes,
    /// It is taken, but the connection ends without an answer.
    LosesAnswers,
    /// It is not taken: 503.
    Busy,
    /// It is taken with this header `Authorization` only: else 401.
    Wants(&'static str),
    /// The connection is closed at once.
    Away,
}

/// One request that was taken.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, JSON.
    pub body: Value,
    /// The body as it came.
    pub bytes: Vec<u8>,
    /// Whether its client was told.
    pub answered: bool,
}

/// An endpoint that runs until its process ends.
#[derive(Debug, Clone)]
pub struct Sink {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    mood: Mood,
    taken: Vec<Taken>,
}

impl Sink {
    /// An endpoint on a port of its own, which takes what comes.
    ///
    /// # Panics
    /// No port can be bound.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind((loopback::address(), 0)).expect("a port for the sink");
        let address = listener.local_addr().expect("a bound port");
        let state = Arc::new(Mutex::new(State {
            mood: Mood::Takes,
            taken: Vec::new(),
        }));
        let sink = Self { address, state };
        let serving = sink.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let sink = serving.clone();
                thread::spawn(move || sink.serve(client));
            }
        });
        sink
    }

    /// Where to post to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/alerts", self.address)
    }

    /// What becomes of requests from now on.
    pub fn set(&self, mood: Mood) {
        self.state().mood = mood;
    }

    /// All that was taken, in its order.
    #[must_use]
    pub fn taken(&self) -> Vec<Taken> {
        self.state().taken.clone()
    }

    /// What was taken after the first `count`, in its order.
    #[must_use]
    pub fn taken_from(&self, count: usize) -> Vec<Taken> {
        let state = self.state();
        state.taken.get(count..).unwrap_or_default().to_vec()
    }

    /// How many requests were taken.
    #[must_use]
    pub fn count(&self) -> usize {
        self.state().taken.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves the requests of one connection. A client that goes away is none of our business.
    fn serve(&self, client: TcpStream) -> Option<()> {
        client.set_read_timeout(Some(REQUEST_WITHIN)).ok()?;
        let mut reader = BufReader::new(client.try_clone().ok()?);
        let mut writer = client;
        loop {
            if self.state().mood == Mood::Away {
                return None;
            }
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let (mut headers, mut length) = (Vec::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).ok()?;
                let Some((name, value)) = line.trim_end().split_once(':') else {
                    break;
                };
                let (name, value) = (name.to_lowercase(), value.trim().to_owned());
                if name == "content-length" {
                    length = value.parse().ok()?;
                }
                headers.push((name, value));
            }
            let mut bytes = vec![0; length];
            reader.read_exact(&mut bytes).ok()?;
            let body = serde_json::from_slice(&bytes).ok()?;
            let mut state = self.state();
            let shown = headers.iter().find(|(name, _)| name == "authorization");
            let shown = shown.map(|(_, value)| value.as_str());
            let mood = match state.mood {
                Mood::Wants(wanted) if shown == Some(wanted) => Mood::Takes,
                mood => mood,
            };
            if matches!(mood, Mood::Takes | Mood::LosesAnswers) {
                state.taken.push(Taken {
                    headers,
                    body,
                    bytes,
                    answered: mood == Mood::Takes,
                });
            }
            drop(state);
            let answer: &[u8] = match mood {
                Mood::Takes => b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
                Mood::Busy => b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n",
                Mood::Wants(_) => b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n",
                Mood::LosesAnswers | Mood::Away => return None,
            };
            writer.write_all(answer).ok()?;
        }
    }
}
