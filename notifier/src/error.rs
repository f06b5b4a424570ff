//! What can go wrong in the notifier.

use hostbus_client::ClientError;
use hostbus_wire::EncodeError;
use thiserror::Error;

/// Why the notifier could not start or go on.
#[derive(Debug, Error)]
pub enum Error {
    /// The settings of the bus are wrong.
    #[error(transparent)]
    Bus(#[from] ClientError),
    /// Its health could not be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}
