//! How bytes become deeds: one byte chooses the client and what it does, the next ones fill in the
//! fields, so that a few bytes reach sessions, queues and windows.

use crate::packet::{self, Ack, Connect, Message, Version, Will};

const TOPICS: [&str; 4] = ["a", "a/b", "c", "$SYS/x"];
const FILTERS: [&str; 8] = [
    "#",
    "a",
    "a/#",
    "+/b",
    "$share/g/a",
    "$share/g/#",
    "$share/h/+",
    "c",
];

/// What a client does.
#[derive(Debug)]
pub(crate) enum Deed {
    /// It sends bytes, on a new connection if it has none.
    Send(Vec<u8>),
    /// It closes its connection.
    Die,
    /// It stops reading, or reads on.
    Stall,
    /// So many seconds pass.
    Pass(u64),
}

/// The rest of the bytes.
pub(crate) struct Script<'b> {
    bytes: &'b [u8],
    versions: [Version; 3],
}

impl<'b> Script<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self {
            bytes,
            versions: [Version::V5; 3],
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    fn some(&mut self, count: u8) -> Vec<u8> {
        let (some, rest) = self.bytes.split_at(self.bytes.len().min(count.into()));
        self.bytes = rest;
        some.to_vec()
    }

    /// The next deed, and whose it is.
    pub(crate) fn next(&mut self) -> Option<(usize, Deed)> {
        let first = self.byte()?;
        let actor = usize::from(first & 3).min(2);
        let deed = match first >> 2 & 15 {
            0 => Deed::Die,
            1 => Deed::Stall,
            2 => Deed::Pass([1, 5, 100, 100_000][usize::from(self.byte()? & 3)]),
            3 => {
                let count = self.byte()?;
                Deed::Send(self.some(count))
            }
            4 | 5 => {
                self.versions[actor] = [Version::V311, Version::V5][usize::from(first >> 2 & 1)];
                Deed::Send(self.connect(actor)?)
            }
            kind => {
                let packet = self.packet(kind, actor)?;
                // The highest bits: whole, followed by another one at once, or spoiled.
                match first >> 6 {
                    2 => {
                        let mut two = packet;
                        let kind = 6 + self.byte()? % 10;
                        two.extend(self.packet(kind, actor)?);
                        Deed::Send(two)
                    }
                    3 => Deed::Send(self.spoil(packet)?),
                    _ => Deed::Send(packet),
                }
            }
        };
        Some((actor, deed))
    }

    fn connect(&mut self, actor: usize) -> Option<Vec<u8>> {
        let flags = self.byte()?;
        let with_will = flags & 0x30 != 0x30;
        let connect = Connect {
            client_id: ["", "x", "y"][usize::from(flags & 3).min(2)].to_owned(),
            clean: flags & 4 != 0,
            expiry_seconds: if flags & 8 != 0 { 10 } else { 0 },
            receive_maximum: if flags & 0x80 != 0 { 2 } else { 100 },
            alias_maximum: u16::from(flags >> 6 & 1) * 2,
            will: with_will.then(|| Will {
                topic: TOPICS[actor].to_owned(),
                payload: b"w".to_vec(),
                qos: flags >> 4 & 3,
                delay_seconds: u32::from(flags & 3),
            }),
        };
        Some(connect.bytes(self.versions[actor]))
    }

    fn packet(&mut self, kind: u8, actor: usize) -> Option<Vec<u8>> {
        let version = self.versions[actor];
        let fields = self.byte()?;
        let packet_id = u16::from(fields >> 5);
        let low = usize::from(fields);
        Some(match kind {
            6 | 7 => {
                let (one, two) = (FILTERS[low & 7], FILTERS[low >> 3 & 7]);
                let options = self.byte()?;
                let filters = [(one, options & 0x2e), (two, options >> 6)];
                let count = 1 + usize::from(options & 1);
                packet::subscribe(version, packet_id + 1, &filters[..count])
            }
            8 => packet::unsubscribe(version, packet_id + 1, &[FILTERS[low & 7]]),
            9 => Ack::PubAck.bytes(packet_id + 1),
            10 => Ack::PubRec.bytes(packet_id + 1),
            11 => Ack::PubRel.bytes(packet_id + 1),
            12 => Ack::PubComp.bytes(packet_id + 1),
            13 if fields < 0x80 => packet::PINGREQ.to_vec(),
            13 => packet::DISCONNECT.to_vec(),
            14 => {
                // Ten of them at once: enough to fill a queue.
                let one = publish(version, low, packet_id);
                one.repeat(10)
            }
            _ => publish(version, low, packet_id),
        })
    }

    fn spoil(&mut self, mut packet: Vec<u8>) -> Option<Vec<u8>> {
        let (place, byte) = (usize::from(self.byte()?), self.byte()?);
        let place = place % packet.len();
        match byte & 3 {
            0 => packet.truncate(place),
            1 => packet.insert(place, self.byte()?),
            2 => drop(packet.remove(place)),
            _ => packet[place] ^= byte | 1,
        }
        Some(packet)
    }
}

fn publish(version: Version, fields: usize, packet_id: u16) -> Vec<u8> {
    let qos = [0, 1, 2, 2][fields >> 2 & 3];
    let message = Message {
        topic: TOPICS[fields & 3].to_owned(),
        alias: 0,
        payload: vec![b'p'; if fields & 0x10 != 0 { 300 } else { 3 }],
        qos,
        retain: fields & 0x20 != 0,
        dup: qos > 0 && fields & 0x40 != 0,
        packet_id: packet_id + 1,
    };
    message.bytes(version)
}
