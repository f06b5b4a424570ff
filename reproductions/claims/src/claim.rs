//! What a claim is, and all that there are.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::client::{Client, PATIENCE, Packet, Version, Who};
use crate::{death, hold, loss};

/// A broker to be looked at.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it speaks 3.1.1.
    pub old: SocketAddr,
    /// Where it speaks 5.0; may be the same.
    pub new: SocketAddr,
    /// Where it speaks MQTT over WebSocket.
    pub websocket: Option<SocketAddr>,
    /// Where it speaks MQTT over TLS.
    pub tls: Option<SocketAddr>,
    /// Its process, for a look at its memory.
    pub process: Option<u32>,
}

/// What was found.
#[derive(Debug)]
pub enum Found {
    /// The claim is true of this broker.
    Reproduced(String),
    /// It is not.
    Holds(String),
}

impl Found {
    pub fn of(reproduced: bool, what: impl Into<String>) -> Self {
        if reproduced {
            Self::Reproduced(what.into())
        } else {
            Self::Holds(what.into())
        }
    }
}

/// One claim.
#[derive(Debug)]
pub struct Claim {
    pub name: &'static str,
    /// What a broker should do.
    pub wanted: &'static str,
    pub look: fn(&Target) -> io::Result<Found>,
}

/// All claims.
pub const CLAIMS: &[Claim] = &[
    Claim {
        name: "letter-beyond-ascii",
        wanted: "after a message to `étage/1`, others are still served",
        look: death::letter_beyond_ascii,
    },
    Claim {
        name: "slash-in-client-id",
        wanted: "after a client `site/host1` has connected twice, others are still served",
        look: death::slash_in_client_id,
    },
    Claim {
        name: "shared-subscriber-dies",
        wanted: "after a member of a shared group went with an unacknowledged message, others are still served",
        look: death::shared_subscriber_dies,
    },
    Claim {
        name: "properties-to-old-clients",
        wanted: "a 5.0 message with a property reaches a 3.1.1 subscriber, which stays connected",
        look: loss::properties_to_old_clients,
    },
    Claim {
        name: "retained-for-new-subscriber",
        wanted: "a new wildcard subscriber gets 500 of 500 retained messages",
        look: loss::retained_for_new_subscriber,
    },
    Claim {
        name: "slow-reader",
        wanted: "a QoS 1 reader that stalls while 600,000 messages are acknowledged gets them all, or is cut off, so that it knows",
        look: loss::slow_reader,
    },
    Claim {
        name: "burst",
        wanted: "a reading QoS 1 subscriber gets all of a burst of 20,000 acknowledged messages, or is cut off",
        look: loss::burst,
    },
    Claim {
        name: "no-topic-rights",
        wanted: "user `web1` can't publish in the name of `web2`",
        look: loss::no_topic_rights,
    },
    Claim {
        name: "sender-is-told",
        wanted: "a 5.0 message arrives with the properties it was sent with, and no other",
        look: loss::sender_is_told,
    },
    Claim {
        name: "silent-websocket",
        wanted: "one silent socket does not keep others from the WebSocket listener",
        look: hold::silent_websocket,
    },
    Claim {
        name: "silent-tls",
        wanted: "one silent socket does not keep others from the TLS listener",
        look: hold::silent_tls,
    },
    Claim {
        name: "slow-subscriber-throttles",
        wanted: "a QoS 1 subscriber that acknowledges one message a second lets a publisher have its 15,000 acknowledgements within 500 ms each",
        look: hold::slow_subscriber_throttles,
    },
    Claim {
        name: "silent-sockets-stay",
        wanted: "a socket that sends nothing is closed within 60 s",
        look: hold::silent_sockets_stay,
    },
    Claim {
        name: "stalled-reader-fills-memory",
        wanted: "600,000 messages of 400 bytes past a stalled QoS 1 reader cost less than 128 MiB",
        look: hold::stalled_reader_fills_memory,
    },
];

/// The user that may do everything, under the client id `id`.
pub fn admin(id: &str) -> Who<'_> {
    Who {
        id,
        user: "admin",
        password: "secret",
        clean: true,
    }
}

/// Whether a new client can still publish to itself.
pub fn is_served(address: SocketAddr) -> Result<(), String> {
    let serve = || -> io::Result<()> {
        let mut client = Client::connect(address, Version::V311, admin("fresh"))?;
        client.subscribe("fresh/topic", 1)?;
        client.publish_and_wait("fresh/topic", b"x", false)?;
        match client.message(PATIENCE)? {
            Some(Packet::Publish { .. }) => Ok(()),
            _ => Err(io::Error::other("its own message did not come back")),
        }
    };
    serve().map_err(|error| format!("a fresh client is not served: {error}"))
}

/// Counts messages until there are none for three seconds, acknowledging them. The error is how
/// the connection ended.
pub fn drain(reader: &mut Client) -> (usize, Option<io::Error>) {
    let mut count = 0;
    loop {
        match reader.message(Duration::from_secs(3)) {
            Ok(Some(Packet::Publish { id, .. })) => {
                count += 1;
                if let Some(id) = id
                    && let Err(error) = reader.acknowledge(id)
                {
                    return (count, Some(error));
                }
            }
            Ok(_) => return (count, None),
            Err(error) => return (count, Some(error)),
        }
    }
}

/// Publishes `count` messages of 400 bytes with QoS 1, 50 at once, and waits for all
/// acknowledgements.
pub fn flood(writer: &mut Client, topic: &str, count: usize) -> io::Result<()> {
    const AT_ONCE: usize = 50;
    let payload = [b'x'; 400];
    for _ in 0..count / AT_ONCE {
        let mut bytes = Vec::new();
        for _ in 0..AT_ONCE {
            bytes.extend(writer.publish_bytes(topic, &payload, 2, &[]).0);
        }
        writer.send(&bytes)?;
        let mut acknowledged = 0;
        while acknowledged < AT_ONCE {
            match writer.next(Duration::from_secs(30))? {
                Some(Packet::PubAck(_)) => acknowledged += 1,
                Some(_) => {}
                None => return Err(io::Error::other("no acknowledgement for 30 s")),
            }
        }
    }
    Ok(())
}
