//! What clients are on the bus, and who they are once they are authenticated.

use serde::{Deserialize, Serialize};

use crate::ids::{NodeId, NodePath, SiteId};

/// What a client is on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Writes one node's topics.
    Publisher,
    /// Asks to become a publisher.
    Joining,
    /// Carries samples into Redis and publishes the committed marks.
    Ingester,
    /// Turns samples into alerts.
    Notifier,
    /// Reads what hosts tell.
    Viewer,
    /// A viewer who also acknowledges and silences.
    Operator,
    /// May do everything.
    Admin,
}

/// Who a client is, once it is authenticated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "role")]
pub enum Identity {
    /// The publisher of one node.
    Publisher {
        /// Its node.
        node: NodePath,
    },
    /// A client that asks to join.
    Joining {
        /// The site it wants to join.
        site: SiteId,
        /// The id of its request, from its token; it has the shape of a node id.
        id: NodeId,
    },
    /// The ingester.
    Ingester,
    /// The notifier.
    Notifier,
    /// A viewer.
    Viewer,
    /// An operator.
    Operator,
    /// An admin.
    Admin,
}

impl Identity {
    /// The role of this identity.
    #[must_use]
    pub fn role(&self) -> Role {
        match self {
            Self::Publisher { .. } => Role::Publisher,
            Self::Joining { .. } => Role::Joining,
            Self::Ingester => Role::Ingester,
            Self::Notifier => Role::Notifier,
            Self::Viewer => Role::Viewer,
            Self::Operator => Role::Operator,
            Self::Admin => Role::Admin,
        }
    }
}
