//! Whether another ingester writes to the same Redis. Each node must have one writer: of two, each would go
//! on from marks that the other moves. An ingester takes the nodes of all sites, whatever its own.

use std::hash::{BuildHasher, Hasher, RandomState};

use hostbus_wire::SiteId;

use crate::connection::Connection;
use crate::error::StoreError;
use crate::keys;
use crate::row::text;

/// How long a claim stands that is not renewed.
const STANDS_SECONDS: u64 = 300;

/// An ingester's word that it writes here.
#[derive(Debug)]
pub struct Claim {
    connection: Connection,
    own: String,
    made: bool,
}

impl Claim {
    /// A claim of the ingester of `site`, which is not made yet.
    #[must_use]
    pub fn new(connection: Connection, site: &SiteId) -> Self {
        let random = RandomState::new().build_hasher().finish();
        Self {
            connection,
            own: format!("{site} {random:016x}"),
            made: false,
        }
    }

    /// Makes the claim, or makes it again. Tells whether somebody else made theirs since: another one that
    /// stood there before the first time may be that of one that has ended.
    ///
    /// # Errors
    /// Redis failed; may be called again.
    pub async fn renew(&mut self) -> Result<bool, StoreError> {
        let mut set = redis::cmd("SET");
        set.arg(keys::INGESTER).arg(&self.own);
        set.arg("GET").arg("EX").arg(STANDS_SECONDS);
        let before = self.connection.command(&set).await?;
        let others = text(&before).is_some_and(|before| before != self.own);
        Ok(std::mem::replace(&mut self.made, true) && others)
    }
}
