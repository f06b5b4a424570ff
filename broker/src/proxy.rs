//! The PROXY protocol, versions 1 and 2: what a load balancer says first about whom it speaks for.
//!
//! ```text
//! version 1   "PROXY TCP4 192.0.2.7 192.0.2.1 56324 1883\r\n"    TCP4, TCP6 or UNKNOWN; 107 bytes at most
//! version 2   signature (12)  version and command (1)  family (1)  length (2)  addresses  extras
//! ```
//! The format is HAProxy's (doc/proxy-protocol.txt). Just the header is read, no byte of what
//! follows. Anything else in its place ends the connection: who is believed must speak properly.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::Deserialize;
use serde::de::Error as _;
use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const V1_BEGINNING: &[u8] = b"PROXY ";

/// The longest line of version 1, its end included.
const V1_MAX_BYTES: usize = 107;

/// The longest rest of version 2 that is taken: addresses, and whatever the proxy adds.
const V2_MAX_BYTES: usize = 4096;

/// Reads the header. The client's address, or `None` where the proxy speaks for itself or does not
/// know whom it speaks for.
///
/// # Errors
/// The stream broke, or the header is wrong (`InvalidData`, with what is wrong).
pub(crate) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<SocketAddr>> {
    let mut beginning = [0; SIGNATURE.len()];
    stream.read_exact(&mut beginning).await?;
    if beginning == SIGNATURE {
        let mut fixed = [0; 4];
        stream.read_exact(&mut fixed).await?;
        let [command, family, high, low] = fixed;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > V2_MAX_BYTES {
            return Err(wrong("a version 2 header that is too long"));
        }
        let mut rest = vec![0; length];
        stream.read_exact(&mut rest).await?;
        return v2(command, family, &rest);
    }
    if !beginning.starts_with(V1_BEGINNING) {
        return Err(wrong("no PROXY header"));
    }
    let mut line = beginning.to_vec();
    while !line.ends_with(b"\n") {
        if line.len() == V1_MAX_BYTES {
            return Err(wrong("a version 1 header that is too long"));
        }
        line.push(stream.read_u8().await?);
    }
    v1(&line)
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn v1(line: &[u8]) -> io::Result<Option<SocketAddr>> {
    let text = line
        .strip_suffix(b"\r\n")
        .and_then(|line| std::str::from_utf8(line).ok())
        .ok_or_else(|| wrong("a version 1 header that is no line of text"))?;
    let mut words = text.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(None);
    }
    let words: Vec<&str> = words.collect();
    let [source, destination, source_port, destination_port] = words[..] else {
        return Err(wrong("a version 1 header without its four fields"));
    };
    let bad = || wrong("a version 1 header with a bad address or port");
    let (source, destination): (IpAddr, IpAddr) = (
        source.parse().map_err(|_| bad())?,
        destination.parse().map_err(|_| bad())?,
    );
    let fits = match family {
        Some("TCP4") => source.is_ipv4() && destination.is_ipv4(),
        Some("TCP6") => source.is_ipv6() && destination.is_ipv6(),
        _ => false,
    };
    if !fits {
        return Err(wrong("a version 1 header of an unknown family"));
    }
    let port: u16 = source_port.parse().map_err(|_| bad())?;
    destination_port.parse::<u16>().map_err(|_| bad())?;
    Ok(Some((source, port).into()))
}

fn v2(command: u8, family: u8, rest: &[u8]) -> io::Result<Option<SocketAddr>> {
    match command {
        // The proxy itself, as when it checks whether we are there.
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err(wrong("a header of an unknown version or command")),
    }
    let short = || wrong("a version 2 header without its addresses");
    match family {
        0x11 => {
            let (source, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
            let port = rest.get(4..6).ok_or_else(short)?;
            rest.get(6..8).ok_or_else(short)?;
            let port = u16::from_be_bytes([port[0], port[1]]);
            Ok(Some((Ipv4Addr::from(*source), port).into()))
        }
        0x21 => {
            let (source, rest) = rest.split_first_chunk::<16>().ok_or_else(short)?;
            let port = rest.get(16..18).ok_or_else(short)?;
            rest.get(18..20).ok_or_else(short)?;
            let port = u16::from_be_bytes([port[0], port[1]]);
            Ok(Some((Ipv6Addr::from(*source), port).into()))
        }
        0x00 => Ok(None),
        _ => Err(wrong("a version 2 header of something else than TCP")),
    }
}

/// Addresses that begin with the same bits, as `10.0.0.0/8` or a single `::1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    bits: u8,
}

impl Network {
    /// All loopback addresses of IPv4, and that of IPv6.
    pub const LOOPBACK: [Self; 2] = [
        Self {
            first: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)),
            bits: 8,
        },
        Self {
            first: IpAddr::V6(Ipv6Addr::LOCALHOST),
            bits: 128,
        },
    ];

    /// Tells whether `address` lies in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let differing = (first.to_bits() ^ address.to_bits()).leading_zeros();
                differing >= self.bits.into()
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let differing = (first.to_bits() ^ address.to_bits()).leading_zeros();
                differing >= self.bits.into()
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (first, bits) = match text.split_once('/') {
            Some((first, bits)) => (first, Some(bits)),
            None => (text, None),
        };
        let first: IpAddr = first.parse().map_err(|_| BadNetwork)?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |bits| bits.parse().map_err(|_| BadNetwork))?;
        if bits > most {
            return Err(BadNetwork);
        }
        Ok(Self { first, bits })
    }
}

/// A text that names no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadNetwork;

impl fmt::Display for BadNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected an address or a network, such as \"10.1.2.3\" or \"10.0.0.0/8\"")
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn header(mut bytes: &[u8]) -> Result<Option<String>, String> {
        match read(&mut bytes).await {
            Ok(address) => {
                assert_eq!(bytes, b"MQTT", "what follows must be left alone");
                Ok(address.map(|address| address.to_string()))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    #[tokio::test]
    async fn a_header_tells_the_clients_address() {
        async fn check(bytes: &[u8], expected: Option<&str>) {
            let mut bytes = bytes.to_vec();
            bytes.extend(b"MQTT");
            let expected = Ok(expected.map(str::to_owned));
            assert_eq!(header(&bytes).await, expected, "{bytes:?}");
        }
        check(
            b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 1883\r\n",
            Some("192.0.2.7:56324"),
        )
        .await;
        check(
            b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n",
            Some("[2001:db8::7]:1"),
        )
        .await;
        check(b"PROXY UNKNOWN\r\n", None).await;
        check(b"PROXY UNKNOWN whatever it is\r\n", None).await;
        let v2 = |fixed: &[u8], rest: &[u8]| [&SIGNATURE, fixed, rest].concat();
        let ipv4 = [192, 0, 2, 7, 192, 0, 2, 1, 0xdc, 4, 7, 0x5b];
        check(&v2(&[0x21, 0x11, 0, 12], &ipv4), Some("192.0.2.7:56324")).await;
        let extra = [&ipv4[..], &[4, 0, 1, 0]].concat();
        check(&v2(&[0x21, 0x11, 0, 16], &extra), Some("192.0.2.7:56324")).await;
        let mut ipv6 = [0; 36];
        (ipv6[15], ipv6[33]) = (1, 9);
        check(&v2(&[0x21, 0x21, 0, 36], &ipv6), Some("[::1]:9")).await;
        check(&v2(&[0x20, 0, 0, 0], &[]), None).await;
        check(&v2(&[0x21, 0, 0, 2], &[1, 2]), None).await;
    }

    #[tokio::test]
    async fn a_wrong_header_is_refused_by_what_is_wrong() {
        async fn check(bytes: &[u8], reason: &str) {
            let told = header(bytes).await.expect_err(reason);
            assert!(told.contains(reason), "{told}, expected {reason}");
        }
        check(b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0", "no PROXY header").await;
        check(b"GET / HTTP/1.1\r\n", "no PROXY header").await;
        check(b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "four fields").await;
        check(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n", "bad address").await;
        check(b"PROXY TCP4 ::1 ::1 1 2\r\n", "unknown family").await;
        check(b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", "unknown family").await;
        check(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", "no line").await;
        check(&[&b"PROXY "[..], &[b'x'; 200]].concat(), "too long").await;
        let v2 = |fixed: &[u8], rest: &[u8]| [&SIGNATURE, fixed, rest].concat();
        check(&v2(&[0x31, 0x11, 0, 0], &[]), "unknown version").await;
        check(
            &v2(&[0x21, 0x11, 0, 4], &[1, 2, 3, 4]),
            "without its addresses",
        )
        .await;
        check(&v2(&[0x21, 0x12, 0, 0], &[]), "else than TCP").await;
        check(&v2(&[0x21, 0x11, 0xff, 0xff], &[]), "too long").await;
    }

    #[test]
    fn a_network_has_the_addresses_with_its_first_bits() {
        let check = |network: &str, address: &str, expected: bool| {
            let network: Network = network.parse().unwrap();
            let contains = network.contains(address.parse().unwrap());
            assert_eq!(contains, expected, "{network:?} {address}");
        };
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("10.0.0.0/8", "::ffff:10.0.0.1", true);
        check("10.0.0.0/8", "::1", false);
        check("10.1.2.3", "10.1.2.3", true);
        check("10.1.2.3", "10.1.2.2", false);
        check("0.0.0.0/0", "9.9.9.9", true);
        check("2001:db8::/32", "2001:db8:1::", true);
        check("2001:db8::/32", "2001:db9::", false);
        for wrong in ["", "10.0.0.0/33", "host", "::/129", "10.0.0.0/x"] {
            assert_eq!(wrong.parse::<Network>(), Err(BadNetwork), "{wrong}");
        }
    }
}
