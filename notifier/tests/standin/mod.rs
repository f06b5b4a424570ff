//! Stand-ins of the services that channels speak to: servers on a free port of this host that check what
//! they are sent as the real ones do, and answer in their words.
//!
//! [`Standin`] is the server; a service is a [`Service`]: it sees each request whole and answers it. To
//! stand in for another one, write a `Service`. [`client`] sends a channel's requests to it, and
//! [`notices`] has something to tell.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    clippy::unwrap_used,
    reason = "test code of which each binary uses its own part"
)]

pub mod client;
pub mod digest;
pub mod dingtalk;
pub mod feishu;
pub mod notices;
pub mod receiver;
/// The server under it, which unit tests use as it is.
#[path = "../../src/http/stand_in.rs"]
mod server;
pub mod telegram;
pub mod wecom;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use server::{Asked, StandIn};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The value of a query's key as it stands there, encoded.
    pub fn query_value(&self, key: &str) -> Option<&str> {
        let pairs = self
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        pairs
            .filter(|(name, _)| *name == key)
            .map(|(_, value)| value)
            .next()
    }

    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    pub fn is_json(&self) -> bool {
        self.header("content-type")
            .is_some_and(|value| value.starts_with("application/json"))
    }
}

/// What a service answers.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Reply {
    pub fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: vec![("content-type", "application/json".to_owned())],
            body: body.to_string(),
        }
    }

    /// An answer of DingTalk or WeCom.
    pub fn errcode(errcode: i64, errmsg: &str) -> Self {
        Self::json(200, &json!({"errcode": errcode, "errmsg": errmsg}))
    }

    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: String::new(),
        }
    }

    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// A service: it checks a request and answers it.
pub trait Service: Send + 'static {
    fn answer(&mut self, request: &Seen) -> Reply;
}

/// How many messages a minute a service takes.
#[derive(Debug, Default)]
pub struct Rate {
    taken_ms: VecDeque<u64>,
}

impl Rate {
    /// Whether one more may be taken now, which is then counted.
    pub fn take(&mut self, now_ms: u64, most: usize) -> bool {
        while self
            .taken_ms
            .front()
            .is_some_and(|ms| ms + 60_000 <= now_ms)
        {
            self.taken_ms.pop_front();
        }
        if self.taken_ms.len() >= most {
            return false;
        }
        self.taken_ms.push_back(now_ms);
        true
    }
}

/// A service on a port of its own. It ends with the value.
pub struct Standin<S> {
    server: StandIn,
    state: Arc<Mutex<State<S>>>,
}

struct State<S> {
    service: S,
    seen: Vec<(Seen, Reply)>,
    /// Answers that come in the place of the service's own, in order.
    instead: VecDeque<Reply>,
}

impl<S: Service> State<S> {
    fn answer(&mut self, asked: &Asked) -> server::Reply {
        let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
        let seen = Seen {
            method: asked.method.clone(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: asked.headers.clone(),
            body: asked.body.clone(),
        };
        let reply = match self.instead.pop_front() {
            Some(reply) => reply,
            None => self.service.answer(&seen),
        };
        self.seen.push((seen, reply.clone()));
        server::Reply::Answer {
            status: reply.status,
            headers: reply.headers,
            body: reply.body.into_bytes(),
        }
    }
}

impl<S: Service> Standin<S> {
    pub async fn start(service: S) -> Self {
        let state = Arc::new(Mutex::new(State {
            service,
            seen: Vec::new(),
            instead: VecDeque::new(),
        }));
        let answering = Arc::clone(&state);
        let server = StandIn::start(move |asked| answering.lock().unwrap().answer(asked)).await;
        Self { server, state }
    }

    /// Its address with a path.
    pub fn url(&self, path: &str) -> String {
        self.server.url(path)
    }

    /// What it has seen and answered so far.
    pub fn seen(&self) -> Vec<(Seen, Reply)> {
        self.lock().seen.clone()
    }

    /// Changes the service.
    pub fn change(&self, change: impl FnOnce(&mut S)) {
        change(&mut self.lock().service);
    }

    /// The next request is answered so, whatever it says.
    pub fn answer_next(&self, reply: Reply) {
        self.lock().instead.push_back(reply);
    }

    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap()
    }
}
