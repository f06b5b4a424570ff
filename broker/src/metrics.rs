//! The HTTP port that Prometheus scrapes: `GET /metrics`, and nothing else.
//!
//! It asks nobody who they are, and tells numbers only: no topic, no name, no address, no payload.
//! A connection serves one request and lasts some seconds at most. Where there are too many at
//! once, the oldest gives way to the newest, which is served within a millisecond: who is silent
//! keeps no scraper out.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::hub::Hub;
use crate::prometheus;

/// Connections at once.
const MAX_CONNECTIONS: usize = 32;

/// How long a connection may last, from the first byte of the request to the last of the answer.
const WITHIN: Duration = Duration::from_secs(5);

/// The longest head of a request.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// The wait after a connection could not be accepted.
const WAIT_AFTER_FAILURE: Duration = Duration::from_millis(50);

/// Serves on `listener` until `token` is cancelled; the connections are in `tracker`.
pub(crate) async fn serve(
    listener: TcpListener,
    hub: Arc<Hub>,
    tracker: TaskTracker,
    token: CancellationToken,
) {
    // One for each connection, cancelled at its end, or to end it; the oldest first.
    let mut open: VecDeque<CancellationToken> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = token.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(WAIT_AFTER_FAILURE).await;
            continue;
        };
        open.retain(|end| !end.is_cancelled());
        if open.len() >= MAX_CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.cancel();
        }
        let end = token.child_token();
        open.push_back(end.clone());
        let hub = Arc::clone(&hub);
        tracker.spawn(async move {
            let _ended = end.clone().drop_guard();
            tokio::select! {
                () = answer(stream, &hub) => {}
                () = end.cancelled() => debug!("no request before the next clients came"),
            }
        });
    }
}

/// Serves one request.
async fn answer(stream: TcpStream, hub: &Hub) {
    let service = service_fn(|request| async move {
        let response = respond(&request, || prometheus::text(hub));
        Ok::<_, Infallible>(response)
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_HEAD_BYTES)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(WITHIN, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "no request for figures"),
        Err(_) => debug!("no request for figures in time"),
    }
}

fn respond<B>(request: &Request<B>, text: impl FnOnce() -> String) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "the figures are at /metrics\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        let methods = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, methods);
        return response;
    }
    with_type(StatusCode::OK, prometheus::CONTENT_TYPE, text())
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    with_type(status, "text/plain; charset=utf-8", text)
}

fn with_type(
    status: StatusCode,
    content_type: &'static str,
    text: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
