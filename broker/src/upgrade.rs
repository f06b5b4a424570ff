//! The HTTP request with which a WebSocket begins, and its answer.
//!
//! Taken is `GET` of the configured path with the subprotocol `mqtt` (RFC 6455 section 4.2, MQTT
//! 5.0 section 6). Anything else gets an HTTP answer that says what is missing, and the end.

use std::io;

use base64ct::{Base64, Encoding};
use bytes::BytesMut;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest request, in bytes.
const MAX_REQUEST_BYTES: usize = 8 * 1024;

/// The most header lines of a request.
const MAX_HEADERS: usize = 64;

/// What RFC 6455 adds to the client's key.
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What MQTT calls itself among WebSocket subprotocols.
const SUBPROTOCOL: &str = "mqtt";

/// An HTTP answer that ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refusal {
    status: &'static str,
    header: &'static str,
    text: &'static str,
}

/// Reads the request and answers it. What the client sent after it, which is the beginning of the
/// WebSocket.
///
/// # Errors
/// The stream broke, or the request was refused (`InvalidData`, with the reason; the client was told).
pub(crate) async fn accept<S>(stream: &mut S, path: &str, from_web: bool) -> io::Result<BytesMut>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = BytesMut::new();
    let answer = loop {
        if stream.read_buf(&mut request).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(answer) = answer(&request, path, from_web).transpose() {
            break answer;
        }
    };
    match answer {
        Ok((key, length)) => {
            let text = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {key}\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
            );
            stream.write_all(text.as_bytes()).await?;
            stream.flush().await?;
            let _ = request.split_to(length);
            Ok(request)
        }
        Err(refusal) => {
            let Refusal {
                status,
                header,
                text,
            } = refusal;
            let answer = format!(
                "HTTP/1.1 {status}\r\nConnection: close\r\n{header}Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{text}\n",
                text.len() + 1
            );
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await?;
            Err(io::Error::new(io::ErrorKind::InvalidData, text))
        }
    }
}

/// The key for the answer and the length of the request; `None` when there is more to come.
fn answer(bytes: &[u8], path: &str, from_web: bool) -> Result<Option<(String, usize)>, Refusal> {
    const BAD: &str = "400 Bad Request";
    let refuse = |status, text| Refusal {
        status,
        header: "",
        text,
    };
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_REQUEST_BYTES => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_REQUEST_BYTES => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {
            let status = "431 Request Header Fields Too Large";
            return Err(refuse(status, "the request is too long"));
        }
        Err(_) => return Err(refuse(BAD, "this is no HTTP request")),
    };
    if request.method != Some("GET") {
        return Err(Refusal {
            header: "Allow: GET\r\n",
            ..refuse("405 Method Not Allowed", "a WebSocket begins with GET")
        });
    }
    if request.version != Some(1) {
        let status = "505 HTTP Version Not Supported";
        return Err(refuse(status, "a WebSocket begins with HTTP/1.1"));
    }
    let asked = request.path.unwrap_or_default();
    if asked.split('?').next() != Some(path) {
        return Err(refuse("404 Not Found", "there is nothing at this path"));
    }
    let headers = &*request.headers;
    if !has_word(headers, "Upgrade", |word| {
        word.eq_ignore_ascii_case("websocket")
    }) || !has_word(headers, "Connection", |word| {
        word.eq_ignore_ascii_case("upgrade")
    }) {
        return Err(Refusal {
            header: "Upgrade: websocket\r\n",
            ..refuse("426 Upgrade Required", "here is MQTT over WebSocket only")
        });
    }
    if !has_word(headers, "Sec-WebSocket-Version", |word| word == "13") {
        return Err(Refusal {
            header: "Sec-WebSocket-Version: 13\r\n",
            ..refuse("426 Upgrade Required", "expected WebSocket version 13")
        });
    }
    if !from_web && value(headers, "Origin").is_some() {
        let text = "web pages are not let in while clients need no login";
        return Err(refuse("403 Forbidden", text));
    }
    let key = value(headers, "Sec-WebSocket-Key").unwrap_or_default();
    if Base64::decode(key, &mut [0; 16]).map(<[u8]>::len) != Ok(16) {
        return Err(refuse(BAD, "Sec-WebSocket-Key is no key of 16 bytes"));
    }
    if !has_word(headers, "Sec-WebSocket-Protocol", |word| {
        word == SUBPROTOCOL
    }) {
        return Err(refuse(BAD, "expected the WebSocket subprotocol mqtt"));
    }
    let digest = Sha1::new()
        .chain_update(key.as_bytes())
        .chain_update(KEY_SUFFIX)
        .finalize();
    Ok(Some((Base64::encode_string(&digest), length)))
}

/// The text of a header that is there once.
fn value<'h>(headers: &[httparse::Header<'h>], name: &str) -> Option<&'h str> {
    let mut found = headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case(name));
    let (first, second) = (found.next()?, found.next());
    match second {
        None => std::str::from_utf8(first.value).ok().map(str::trim),
        Some(_) => Some(""),
    }
}

/// Whether one of the words of a header, which commas part, is wanted.
fn has_word(headers: &[httparse::Header<'_>], name: &str, wanted: impl Fn(&str) -> bool) -> bool {
    headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case(name))
        .filter_map(|header| std::str::from_utf8(header.value).ok())
        .flat_map(|value| value.split(','))
        .any(|word| wanted(word.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqttv3.1, mqtt\r\nSec-WebSocket-Version: 13\r\n\r\n";

    #[test]
    fn a_good_request_gets_the_key_of_the_standards_example() {
        let (key, length) = answer(GOOD.as_bytes(), "/mqtt", true).unwrap().unwrap();
        assert_eq!(key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(length, GOOD.len());
        for cut in 1..GOOD.len() {
            assert_eq!(answer(&GOOD.as_bytes()[..cut], "/mqtt", true), Ok(None));
        }
        let query = GOOD.replace("/mqtt HTTP", "/mqtt?token=1 HTTP");
        assert!(answer(query.as_bytes(), "/mqtt", true).is_ok());
    }

    #[test]
    fn what_is_missing_is_answered() {
        let check = |from: &str, to: &str, status: &str| {
            assert!(GOOD.contains(from));
            let request = GOOD.replace(from, to);
            let refusal = answer(request.as_bytes(), "/mqtt", false).expect_err(to);
            assert!(refusal.status.starts_with(status), "{to}: {refusal:?}");
        };
        check("GET", "POST", "405");
        check("HTTP/1.1", "HTTP/1.0", "505");
        check("/mqtt HTTP", "/other HTTP", "404");
        check("Upgrade: websocket", "Upgrade: h2c", "426");
        check("keep-alive, Upgrade", "close", "426");
        check("Version: 13", "Version: 8", "426");
        check("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", "400");
        check("mqttv3.1, mqtt", "chat", "400");
        check("Host: x", "Origin: https://elsewhere", "403");
        check("Host: x", &format!("Host: {}", "x".repeat(9_000)), "431");
        check("Host: x", &"A: b\r\n".repeat(100), "431");
        check("GET /mqtt HTTP/1.1", "\x16\x03\x01 TLS", "400");
    }

    #[test]
    fn an_endless_request_is_ended() {
        let request = format!("GET /{}", "x".repeat(MAX_REQUEST_BYTES));
        assert!(answer(request.as_bytes(), "/mqtt", true).is_err());
    }
}
