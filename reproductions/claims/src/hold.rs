//! What one client can do to the others' time, and to the broker's memory.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::claim::{Found, Target, admin, flood};
use crate::client::{Client, PATIENCE, Packet, Version};

/// How long the WebSocket handshake takes.
fn websocket_handshake(address: SocketAddr) -> io::Result<Duration> {
    let start = Instant::now();
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET /mqtt HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\
         Sec-WebSocket-Version: 13\r\n\r\n"
    )?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    if &answer != b"HTTP/1.1 101" {
        let answer = String::from_utf8_lossy(&answer).into_owned();
        return Err(io::Error::other(format!("answered with {answer:?}")));
    }
    Ok(start.elapsed())
}

pub(crate) fn silent_websocket(target: &Target) -> io::Result<Found> {
    let Some(address) = target.websocket else {
        return Err(io::Error::other(
            "this broker has no WebSocket address here",
        ));
    };
    let before = websocket_handshake(address)?;
    let _silent = TcpStream::connect_timeout(&address, PATIENCE)?;
    thread::sleep(Duration::from_millis(200));
    Ok(match websocket_handshake(address) {
        Ok(after) => Found::Holds(format!("handshake before {before:?}, beside it {after:?}")),
        Err(error) => Found::Reproduced(format!(
            "handshake before {before:?}, beside it none in {PATIENCE:?}: {error}"
        )),
    })
}

/// How long it takes until a TLS listener reacts: what is sent is no TLS, which any server that
/// reads it answers with an alert or by closing.
fn tls_reaction(address: SocketAddr) -> io::Result<Duration> {
    let start = Instant::now();
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"this is no TLS at all\r\n\r\n")?;
    match stream.read(&mut [0; 64]) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Err(error)
        }
        _ => Ok(start.elapsed()),
    }
}

pub(crate) fn silent_tls(target: &Target) -> io::Result<Found> {
    let Some(address) = target.tls else {
        return Err(io::Error::other("this broker has no TLS address here"));
    };
    let before = tls_reaction(address)?;
    let _silent = TcpStream::connect_timeout(&address, PATIENCE)?;
    thread::sleep(Duration::from_millis(200));
    Ok(match tls_reaction(address) {
        Ok(after) => Found::Holds(format!("reaction before {before:?}, beside it {after:?}")),
        Err(error) => Found::Reproduced(format!(
            "reaction before {before:?}, beside it none in {PATIENCE:?}: {error}"
        )),
    })
}

/// Reads all, acknowledges one message a second, until `end` is set.
fn acknowledge_slowly(mut slow: Client, end: &AtomicBool) {
    let mut open = VecDeque::new();
    while !end.load(Ordering::Relaxed) {
        let next = Instant::now() + Duration::from_secs(1);
        while let Some(left) = next.checked_duration_since(Instant::now()) {
            match slow.message(left) {
                Ok(Some(Packet::Publish { id: Some(id), .. })) => open.push_back(id),
                Ok(_) => {}
                Err(_) => return,
            }
        }
        if let Some(id) = open.pop_front()
            && slow.acknowledge(id).is_err()
        {
            return;
        }
    }
}

pub(crate) fn slow_subscriber_throttles(target: &Target) -> io::Result<Found> {
    const LIMIT: Duration = Duration::from_millis(500);
    const COUNT: usize = 15_000;
    let mut slow = Client::connect(target.old, Version::V311, admin("slow"))?;
    slow.subscribe("paced/topic", 1)?;
    let mut writer = Client::connect(target.old, Version::V311, admin("writer"))?;
    let end = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| acknowledge_slowly(slow, &end));
        let (mut sent, mut late, mut longest) = (0, 0, Duration::ZERO);
        let mut publish = || -> io::Result<()> {
            while sent < COUNT && late < 10 {
                let took = writer.publish_and_wait("paced/topic", &[b'x'; 400], false)?;
                sent += 1;
                longest = longest.max(took);
                late += usize::from(took > LIMIT);
            }
            Ok(())
        };
        let published = publish();
        end.store(true, Ordering::Relaxed);
        published?;
        let text =
            format!("of {sent} acknowledgements {late} took longer, the longest {longest:.1?}");
        Ok(Found::of(late > 0, text))
    })
}

pub(crate) fn silent_sockets_stay(target: &Target) -> io::Result<Found> {
    const LIMIT: Duration = Duration::from_secs(60);
    let start = Instant::now();
    let mut silent = TcpStream::connect_timeout(&target.old, PATIENCE)?;
    silent.set_read_timeout(Some(LIMIT))?;
    Ok(match silent.read(&mut [0]) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Found::Reproduced(format!("it is open after {LIMIT:?}"))
        }
        _ => Found::Holds(format!("it was closed after {:.1?}", start.elapsed())),
    })
}

/// A line of /proc/…/status: `VmRSS` is the memory of a process now, `VmHWM` the most it has had.
fn memory_bytes(process: u32, line: &str) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|text| text.starts_with(line));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .map(|kib| kib * 1024)
        .ok_or_else(|| io::Error::other("the process does not tell its memory"))
}

pub(crate) fn stalled_reader_fills_memory(target: &Target) -> io::Result<Found> {
    const LIMIT: u64 = 128 << 20;
    let Some(process) = target.process else {
        return Err(io::Error::other(
            "the process of this broker is not known (--process)",
        ));
    };
    let before = memory_bytes(process, "VmRSS:")?;
    let mut stalled = Client::connect(target.old, Version::V311, admin("stalled"))?;
    stalled.subscribe("stalled/topic", 1)?;
    let mut writer = Client::connect(target.old, Version::V311, admin("writer"))?;
    flood(&mut writer, "stalled/topic", 600_000)?;
    let most = memory_bytes(process, "VmHWM:")?;
    let text = format!("{} MiB before, {} MiB at most", before >> 20, most >> 20);
    Ok(Found::of(most.saturating_sub(before) > LIMIT, text))
}
