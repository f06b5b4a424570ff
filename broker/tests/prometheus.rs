//! The HTTP port that Prometheus scrapes.

mod raw;
mod scrape;

use std::time::{Duration, Instant};

use raw::{DEADLINE, connect};
use scrape::{measured, value};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

#[tokio::test]
async fn the_port_speaks_http_and_serves_one_page() {
    let (_broker, metrics) = measured(|_| {}).await;
    let page = scrape::get(metrics, "/metrics").await.unwrap();
    assert_eq!(page.status, 200);
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(page.headers["content-type"], content_type);
    assert_eq!(page.headers["content-length"], page.body.len().to_string());
    assert_eq!(page.headers["connection"], "close");
    let query = scrape::get(metrics, "/metrics?x=1").await.unwrap();
    assert_eq!(query.status, 200);

    let head = scrape::ask(metrics, b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let head = head.unwrap();
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.headers["content-type"], content_type);
    assert!(head.headers["content-length"].parse::<usize>().unwrap() > 1_000);

    let old = scrape::ask(metrics, b"GET /metrics HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(old.status, 200);
    for path in ["/", "/metrics/", "/metric", "//metrics"] {
        assert_eq!(
            scrape::get(metrics, path).await.unwrap().status,
            404,
            "{path}"
        );
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let request = format!("{method} /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        let answer = scrape::ask(metrics, request.as_bytes()).await.unwrap();
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.headers["allow"], "GET, HEAD", "{method}");
    }
}

#[tokio::test]
async fn garbage_is_answered_with_an_error_or_nothing() {
    let (broker, metrics) = measured(|_| {}).await;
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
    let wide = format!(
        "GET /metrics HTTP/1.1\r\nx: {}\r\n\r\n",
        "x".repeat(100_000)
    );
    let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(1_000));
    let mqtt = connect(5, "c", "admin").bytes();
    let garbage: [&[u8]; 8] = [
        b"\r\n\r\n\r\n x",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET /metrics\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0xff; 20_000],
        long.as_bytes(),
        wide.as_bytes(),
        many.as_bytes(),
    ];
    for request in garbage.into_iter().chain([&mqtt[..]]) {
        let begun = Instant::now();
        let answer = scrape::ask(metrics, request).await;
        let status = answer.map(|answer| answer.status);
        let refused = matches!(status, None | Some(400 | 404 | 414 | 431 | 505));
        assert!(
            refused,
            "{status:?} {:?}",
            String::from_utf8_lossy(&request[..20])
        );
        assert!(begun.elapsed() < DEADLINE / 2, "not closed");
    }
    assert!(value(metrics, "hostbus_broker_uptime_seconds").await < 600.0);
    connect(5, "c", "admin").go(&broker).await.goodbye().await;
}

#[tokio::test]
async fn slow_clients_keep_no_scraper_out() {
    let (_broker, metrics) = measured(|_| {}).await;
    let mut slow = Vec::new();
    for round in 0..40 {
        for _ in 0..10 {
            let mut stream = TcpStream::connect(metrics).await.unwrap();
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\n").await;
            slow.push(stream);
        }
        // All those that are still there go on, a byte at a time.
        for stream in &mut slow {
            let _ = stream.write_all(b"x").await;
        }
        let begun = Instant::now();
        scrape::figures(metrics).await;
        assert!(begun.elapsed() < Duration::from_secs(1), "round {round}");
    }
    let open = value(metrics, "process_open_fds").await;
    // This process has both ends of the sockets.
    let ours = slow.len() as f64;
    assert!(
        open < ours + 150.0,
        "{open} of which {ours} are the clients' ends"
    );
    // The last ones are closed too, in time.
    let begun = Instant::now();
    for stream in &mut slow {
        let mut byte = [0];
        let _ = tokio::time::timeout(DEADLINE, tokio::io::AsyncReadExt::read(stream, &mut byte))
            .await
            .expect("closed in time");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
}
