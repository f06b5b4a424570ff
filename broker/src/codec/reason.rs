//! Reason codes of MQTT 5.0 (section 2.4) and the return codes of a 3.1.1 CONNACK.

/// A reason code. From 0x80 on it is a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reason(pub u8);

#[expect(
    missing_docs,
    reason = "the names are those of the MQTT 5.0 standard, section 2.4"
)]
impl Reason {
    pub const SUCCESS: Self = Self(0x00);
    pub const DISCONNECT_WITH_WILL: Self = Self(0x04);
    pub const NO_MATCHING_SUBSCRIBERS: Self = Self(0x10);
    pub const NO_SUBSCRIPTION_EXISTED: Self = Self(0x11);
    pub const UNSPECIFIED_ERROR: Self = Self(0x80);
    pub const MALFORMED_PACKET: Self = Self(0x81);
    pub const PROTOCOL_ERROR: Self = Self(0x82);
    pub const UNSUPPORTED_PROTOCOL_VERSION: Self = Self(0x84);
    pub const CLIENT_IDENTIFIER_NOT_VALID: Self = Self(0x85);
    pub const BAD_USER_NAME_OR_PASSWORD: Self = Self(0x86);
    pub const NOT_AUTHORIZED: Self = Self(0x87);
    pub const SERVER_SHUTTING_DOWN: Self = Self(0x8b);
    pub const BAD_AUTHENTICATION_METHOD: Self = Self(0x8c);
    pub const KEEP_ALIVE_TIMEOUT: Self = Self(0x8d);
    pub const SESSION_TAKEN_OVER: Self = Self(0x8e);
    pub const TOPIC_FILTER_INVALID: Self = Self(0x8f);
    pub const TOPIC_NAME_INVALID: Self = Self(0x90);
    pub const PACKET_IDENTIFIER_NOT_FOUND: Self = Self(0x92);
    pub const RECEIVE_MAXIMUM_EXCEEDED: Self = Self(0x93);
    pub const TOPIC_ALIAS_INVALID: Self = Self(0x94);
    pub const PACKET_TOO_LARGE: Self = Self(0x95);
    pub const QUOTA_EXCEEDED: Self = Self(0x97);
    pub const CONNECTION_RATE_EXCEEDED: Self = Self(0x9f);
}

impl Reason {
    /// Tells whether this is a failure.
    #[must_use]
    pub fn is_failure(self) -> bool {
        self.0 >= 0x80
    }

    /// What a person reads beside the code; only where it says more than the code's name.
    #[must_use]
    pub fn text(self) -> Option<&'static str> {
        Some(match self {
            Self::CLIENT_IDENTIFIER_NOT_VALID => "client id is too long, or empty with a session",
            Self::NOT_AUTHORIZED => "this user has no right to that topic",
            Self::BAD_AUTHENTICATION_METHOD => "log in with user name and password",
            Self::KEEP_ALIVE_TIMEOUT => "nothing came for one and a half times the keep alive",
            Self::SESSION_TAKEN_OVER => "the same user connected with the same client id",
            Self::TOPIC_FILTER_INVALID => "filter has too many levels, or a wrong share name",
            Self::TOPIC_NAME_INVALID => "topic is empty, has a wildcard, or too many levels",
            Self::PACKET_IDENTIFIER_NOT_FOUND => "no message under way has this packet identifier",
            Self::RECEIVE_MAXIMUM_EXCEEDED => "more messages under way than CONNACK allowed",
            Self::TOPIC_ALIAS_INVALID => "topic alias is higher than CONNACK allowed",
            Self::PACKET_TOO_LARGE => {
                "packet is longer than CONNACK allowed, or its answer than CONNECT did"
            }
            Self::QUOTA_EXCEEDED => "a limit of the broker is reached: see broker.limits",
            Self::CONNECTION_RATE_EXCEEDED => "too many failed logins from this address",
            _ => return None,
        })
    }

    /// The return code of a 3.1.1 CONNACK that comes nearest.
    #[must_use]
    pub fn connack_311(self) -> u8 {
        match self {
            Self::SUCCESS => 0,
            Self::UNSUPPORTED_PROTOCOL_VERSION => 1,
            Self::CLIENT_IDENTIFIER_NOT_VALID => 2,
            Self::BAD_USER_NAME_OR_PASSWORD => 4,
            Self::NOT_AUTHORIZED => 5,
            _ => 3,
        }
    }
}
