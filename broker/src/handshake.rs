//! The beginning of a connection: CONNECT in, who the client is, its session, CONNACK.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use bytestring::ByteString;
use hostbus_daemon::Secret;
use hostbus_wire::Access;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

use crate::codec::packet::{Connect, Packet, Version};
use crate::codec::reason::Reason;
use crate::codec::writer::{self, ConnAck, Dialect};
use crate::codec::{DecodeError, Decoder};
use crate::connection::TOPIC_ALIAS_MAXIMUM;
use crate::hub::{Attached, Hub, Terms};
use crate::session::{Link, Name};
use crate::transport::Transport;

/// The longest client id, in bytes.
const MAX_CLIENT_ID_BYTES: usize = 256;

/// The user name under which anonymous clients have their sessions.
const ANONYMOUS: &str = "";

/// A client that was let in.
#[derive(Debug)]
pub(crate) struct Welcome {
    pub(crate) attached: Attached,
    /// CONNACK, to be sent once `attached.ticket` is safe.
    pub(crate) connack: BytesMut,
    pub(crate) dialect: Dialect,
    /// The highest topic alias that the client takes.
    pub(crate) topic_alias_maximum: u16,
    pub(crate) wake: Arc<Notify>,
    /// Silence of this length ends the connection; `None` for no limit.
    pub(crate) silence: Option<Duration>,
    /// The session expiry that CONNECT asked for was above 0.
    pub(crate) may_expire_later: bool,
}

/// Why a connection did not get beyond its beginning.
#[derive(Debug)]
pub(crate) enum Unwelcome {
    /// The client went away.
    Gone,
    /// It sent something that is no CONNECT.
    Wrong(DecodeError),
    /// It was told no.
    Refused {
        reason: Reason,
        user: Option<ByteString>,
        client_id: ByteString,
    },
}

/// Reads CONNECT and answers it.
pub(crate) async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
    transport: &mut Transport<S>,
    decoder: &mut Decoder,
    peer: SocketAddr,
    hub: &Hub,
) -> Result<Welcome, Unwelcome> {
    let counters = hub.counters();
    let connect = loop {
        let decoded = decoder.decode(&mut transport.incoming);
        counters
            .packets_received
            .add(matches!(decoded, Ok(Some(_))).into());
        match decoded {
            Ok(Some(Packet::Connect(connect))) => break *connect,
            Ok(Some(_)) => return Err(Unwelcome::Wrong(DecodeError::Protocol("no CONNECT"))),
            Ok(None) => {}
            Err(error) => {
                if let DecodeError::Version(_) = error {
                    // 3.1.1 asks for this answer; who speaks a later version may understand it.
                    let dialect = Dialect::of(Version::V311);
                    writer::connack_refused(&mut transport.outgoing, dialect, error.reason());
                    counters.packets_sent.add(1);
                }
                return Err(Unwelcome::Wrong(error));
            }
        }
        let progress = transport
            .progress(true)
            .await
            .map_err(|_| Unwelcome::Gone)?;
        counters.bytes_received.add(progress.read_bytes as u64);
    };
    let (dialect, user) = (dialect(&connect), connect.user_name.clone());
    let client_id = connect.client_id.clone();
    let admitted = admit(connect, peer, hub).await;
    // Whether welcome or refused, it gets CONNACK.
    counters.packets_sent.add(1);
    admitted.map_err(|reason| {
        writer::connack_refused(&mut transport.outgoing, dialect, reason);
        Unwelcome::Refused {
            reason,
            user,
            client_id,
        }
    })
}

fn dialect(connect: &Connect) -> Dialect {
    Dialect {
        version: connect.version,
        problem_information: !connect.properties.no_problem_information,
        max_packet_bytes: connect
            .properties
            .maximum_packet_bytes
            .map_or(usize::MAX, |bytes| bytes as usize),
    }
}

async fn admit(connect: Connect, peer: SocketAddr, hub: &Hub) -> Result<Welcome, Reason> {
    if connect.properties.authentication_method {
        return Err(Reason::BAD_AUTHENTICATION_METHOD);
    }
    let (client_id, assigned) = client_id(&connect)?;
    let user = connect.user_name.as_deref();
    let password = connect.password.as_deref().unwrap_or_default();
    let identity = hub.logins().identify(peer.ip(), user, password).await?;
    let access = Access::new(&hub.config().root, &identity);
    if let Some(will) = &connect.will {
        check_will(&will.topic, &access, hub)?;
    }
    let limits = hub.limits();
    let (expiry_seconds, asked_seconds) = expiry(&connect, limits.session_expiry_max_seconds);
    let keep_alive_seconds = keep_alive(&connect, limits.keep_alive_max_seconds);
    let dialect = dialect(&connect);
    let topic_alias_maximum = connect.properties.topic_alias_maximum;
    let wake = Arc::new(Notify::new());
    let terms = Terms {
        clean_start: connect.clean_start,
        expiry: Duration::from_secs(expiry_seconds.into()),
        link: Link {
            version: connect.version,
            window: connect
                .properties
                .receive_maximum
                .map_or(limits.receive_maximum, |own| {
                    own.min(limits.receive_maximum)
                })
                .into(),
            max_packet_bytes: dialect.max_packet_bytes,
            wake: Arc::clone(&wake),
        },
        will: connect.will.map(Box::new),
    };
    let name = Name {
        user: user.unwrap_or(ANONYMOUS).into(),
        client_id: (*client_id).into(),
    };
    let mut told = ConnAck {
        session_present: false,
        assigned_client_id: assigned.then_some(&*client_id),
        session_expiry_seconds: (expiry_seconds != asked_seconds).then_some(expiry_seconds),
        keep_alive_seconds: (keep_alive_seconds != connect.keep_alive_seconds)
            .then_some(keep_alive_seconds),
        receive_maximum: limits.receive_maximum,
        maximum_packet_bytes: u32::try_from(limits.max_packet_bytes).unwrap_or(u32::MAX),
        topic_alias_maximum: TOPIC_ALIAS_MAXIMUM,
    };
    if !writer::connack_fits(dialect, &told) {
        return Err(Reason::PACKET_TOO_LARGE);
    }
    let attached = hub.attach(name, identity, access, terms);
    told.session_present = attached.present;
    let mut connack = BytesMut::new();
    writer::connack(&mut connack, connect.version, &told);
    Ok(Welcome {
        attached,
        connack,
        dialect,
        topic_alias_maximum,
        wake,
        silence: (keep_alive_seconds > 0)
            .then(|| Duration::from_millis(u64::from(keep_alive_seconds) * 1_500)),
        may_expire_later: asked_seconds > 0,
    })
}

/// The client id, and whether the broker chose it.
fn client_id(connect: &Connect) -> Result<(ByteString, bool), Reason> {
    if connect.client_id.len() > MAX_CLIENT_ID_BYTES {
        return Err(Reason::CLIENT_IDENTIFIER_NOT_VALID);
    }
    if !connect.client_id.is_empty() {
        return Ok((connect.client_id.clone(), false));
    }
    let may_choose = match connect.version {
        Version::V31 => false,
        // Nobody could ever come back to such a session.
        Version::V311 => connect.clean_start,
        Version::V5 => true,
    };
    if !may_choose {
        return Err(Reason::CLIENT_IDENTIFIER_NOT_VALID);
    }
    Ok((
        format!("auto-{}", &Secret::random().reveal()[..20]).into(),
        true,
    ))
}

/// The will is a publish like any other.
fn check_will(topic: &str, access: &Access, hub: &Hub) -> Result<(), Reason> {
    if !hub.limits().allow_topic(topic) {
        return Err(Reason::TOPIC_NAME_INVALID);
    }
    if !access.may_write(topic) {
        hub.counters().publishes_refused.add(1);
        return Err(Reason::NOT_AUTHORIZED);
    }
    Ok(())
}

/// The session expiry that is granted, and the one that was asked for.
fn expiry(connect: &Connect, most: u32) -> (u32, u32) {
    let asked = if connect.version.is_v5() {
        connect.properties.session_expiry_seconds.unwrap_or(0)
    } else if connect.clean_start {
        0
    } else {
        most
    };
    (asked.min(most), asked)
}

/// The keep alive that holds; 0 for none.
fn keep_alive(connect: &Connect, most: u16) -> u16 {
    match connect.keep_alive_seconds {
        // Only 5.0 can be told that there is a limit after all.
        0 if connect.version.is_v5() => most,
        asked => asked.min(most),
    }
}
