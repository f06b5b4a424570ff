//! collectd's settings, and the receiver of what its network plugin sends.

use std::time::Duration;

use anyhow::Context;
use tokio::net::UdpSocket;

use super::agent::{Agent, Installed};

/// The part of a packet that holds values, in collectd's binary protocol.
const VALUES: u16 = 0x0006;

/// Starts it, sending to a socket of ours on loopback.
pub(crate) async fn start(found: &Installed, interval: Duration) -> anyhow::Result<Agent> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    let port = socket.local_addr()?.port();
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let settings = folder.path().join("collectd.conf");
    let base = folder.path().display().to_string();
    std::fs::write(&settings, text(&base, interval, port))?;
    let arguments = [
        "-f".to_owned(),
        "-C".to_owned(),
        settings.display().to_string(),
    ];
    let agent = Agent::start("collectd", &found.version, &found.path, folder, &arguments)?;
    let given = agent.given.clone();
    let receiver = tokio::spawn(async move {
        let mut packet = vec![0; 65_536];
        while let Ok(bytes) = socket.recv(&mut packet).await {
            given.add(values(&packet[..bytes]), bytes as u64);
        }
    });
    Ok(agent.received_by(receiver))
}

/// The plugins that read what our default collectors read.
fn text(folder: &str, interval: Duration, port: u16) -> String {
    let interval = interval.as_secs_f64();
    format!(
        r#"Hostname "bench"
FQDNLookup false
BaseDir "{folder}"
PIDFile "{folder}/pid"
Interval {interval}
LoadPlugin cpu
LoadPlugin df
LoadPlugin disk
LoadPlugin interface
LoadPlugin load
LoadPlugin memory
LoadPlugin swap
LoadPlugin network
<Plugin network>
  Server "127.0.0.1" "{port}"
</Plugin>
"#
    )
}

/// How many values a packet holds: parts of a type, their length and, for values, their count.
fn values(mut packet: &[u8]) -> u64 {
    let mut count = 0;
    while let [a, b, c, d, rest @ ..] = packet {
        let (part, length) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
        if let (VALUES, [high, low, ..]) = (part, rest) {
            count += u64::from(u16::from_be_bytes([*high, *low]));
        }
        // The length counts its own four bytes; a part that is shorter makes no packet.
        packet = packet.get(usize::from(length.max(4))..).unwrap_or_default();
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_a_packet_are_counted() {
        let host = b"\x00\x00\x00\x0abench\x00";
        let plugin = b"\x00\x02\x00\x09load\x00";
        let three = b"\x00\x06\x00\x21\x00\x03\x01\x01\x01\
            \x00\x00\x00\x00\x00\x00\x00\x00\
            \x00\x00\x00\x00\x00\x00\x00\x00\
            \x00\x00\x00\x00\x00\x00\x00\x00";
        let one = b"\x00\x06\x00\x0f\x00\x01\x02\x00\x00\x00\x00\x00\x00\x00\x01";
        let packet = [&host[..], plugin, three, one].concat();
        assert_eq!(values(&packet), 4);
        assert_eq!(values(&packet[..3]), 0);
        assert_eq!(values(&[0; 64]), 0);
        assert_eq!(values(&[]), 0);
    }
}
