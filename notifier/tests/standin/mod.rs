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
pub mod telegram;
pub mod wecom;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

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
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    pub fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: vec![("content-type".into(), "application/json".into())],
            body: body.to_string(),
        }
    }

    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: String::new(),
        }
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
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
    address: SocketAddr,
    state: Arc<Mutex<State<S>>>,
    task: JoinHandle<()>,
}

struct State<S> {
    service: S,
    seen: Vec<(Seen, Reply)>,
    /// Answers that come in the place of the service's own, in order.
    instead: VecDeque<Reply>,
}

impl<S: Service> Standin<S> {
    pub async fn start(service: S) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            service,
            seen: Vec::new(),
            instead: VecDeque::new(),
        }));
        let task = tokio::spawn(serve(listener, Arc::clone(&state)));
        Self {
            address,
            state,
            task,
        }
    }

    /// Its address with a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
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

impl<S> Drop for Standin<S> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<S: Service>(listener: TcpListener, state: Arc<Mutex<State<S>>>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let state = Arc::clone(&state);
        let service = service_fn(move |request| answer(request, Arc::clone(&state)));
        connections.spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            // A client that goes away is its own affair.
            let _ = connection.await;
        });
    }
}

async fn answer<S: Service>(
    request: Request<Incoming>,
    state: Arc<Mutex<State<S>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, 8 << 20).collect().await {
        Ok(body) => body.to_bytes().to_vec(),
        Err(_) => return Ok(response(&Reply::status(413))),
    };
    let headers = head.headers.iter();
    let seen = Seen {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: headers
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect(),
        body,
    };
    let mut state = state.lock().unwrap();
    let reply = match state.instead.pop_front() {
        Some(reply) => reply,
        None => state.service.answer(&seen),
    };
    state.seen.push((seen, reply.clone()));
    Ok(response(&reply))
}

fn response(reply: &Reply) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    response.body(Full::from(reply.body.clone())).unwrap()
}
