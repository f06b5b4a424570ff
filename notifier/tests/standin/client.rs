//! An HTTP client as simple as can be, for requests that channels make.

use std::time::Duration;

use hostbus_notifier::channels::{Answer, Channel, Message, Request, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Sends `request` to a plain address of this host.
pub async fn send(request: &Request) -> Answer {
    let address = request.url.reveal().strip_prefix("http://").unwrap();
    let (host, path) = address.split_once('/').unwrap();
    let mut head = format!("{} /{path} HTTP/1.1\r\nhost: {host}\r\n", request.method);
    for (name, value) in &request.headers {
        head.push_str(&format!("{name}: {}\r\n", value.reveal()));
    }
    let length = request.body.len();
    head.push_str(&format!(
        "content-length: {length}\r\nconnection: close\r\n\r\n"
    ));
    let exchange = async {
        let mut stream = TcpStream::connect(host).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&request.body).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let answer = timeout(Duration::from_secs(20), exchange).await.unwrap();
    read(&answer)
}

/// Tells `message` through `channel` and says what its service made of it.
pub async fn tell(channel: &Channel, message: &Message, now_ms: u64) -> Verdict {
    let http = channel.http().unwrap();
    http.judge(&send(&http.request(message, now_ms)).await)
}

fn read(answer: &[u8]) -> Answer {
    let text = String::from_utf8(answer.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_lowercase(), value.trim().to_owned())
    });
    Answer {
        status: status.parse().unwrap(),
        headers: headers.collect(),
        body: body.as_bytes().to_vec(),
    }
}
