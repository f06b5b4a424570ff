//! A component that runs: where it listens, how to stop it, how it ended.

use std::net::SocketAddr;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What a component's `start` returns.
///
/// Dropping it stops the component without waiting for it.
#[derive(Debug)]
pub struct Running<E> {
    name: &'static str,
    addresses: Vec<SocketAddr>,
    token: CancellationToken,
    task: JoinHandle<Result<(), E>>,
}

impl<E> Running<E> {
    /// The component `name`, which runs as `task` until `token` is cancelled or it fails.
    /// `addresses` are those it listens on, with the ports really bound.
    #[must_use]
    pub fn new(
        name: &'static str,
        addresses: Vec<SocketAddr>,
        token: CancellationToken,
        task: JoinHandle<Result<(), E>>,
    ) -> Self {
        Self {
            name,
            addresses,
            token,
            task,
        }
    }

    /// The component's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The first address it listens on; `None` when it listens nowhere.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.addresses.first().copied()
    }

    /// All addresses it listens on.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Waits until the component ends by itself or because it was told to. May be dropped and
    /// called again.
    ///
    /// # Errors
    /// The component's own error.
    ///
    /// # Panics
    /// Passes a panic of the component on.
    pub async fn ended(&mut self) -> Result<(), E> {
        match (&mut self.task).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Aborted: only `Drop` does so, and then nobody waits.
                Err(_) => Ok(()),
            },
        }
    }

    /// Tells the component to stop, and waits until it has.
    ///
    /// # Errors
    /// The component's own error.
    pub async fn stop(mut self) -> Result<(), E> {
        self.token.cancel();
        self.ended().await
    }
}

impl<E> Drop for Running<E> {
    fn drop(&mut self) {
        self.token.cancel();
    }
}
