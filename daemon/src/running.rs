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
    /// Gone once its end has been told.
    task: Option<JoinHandle<Result<(), E>>>,
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
            task: Some(task),
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
    /// called again; once the end has been told, it returns at once.
    ///
    /// # Errors
    /// The component's own error, once.
    ///
    /// # Panics
    /// Passes a panic of the component on.
    pub async fn ended(&mut self) -> Result<(), E> {
        let Some(task) = &mut self.task else {
            return Ok(());
        };
        let joined = task.await;
        self.task = None;
        match joined {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Aborted with its runtime: nothing is left to be told.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn running(task: impl Future<Output = Result<(), u8>> + Send + 'static) -> Running<u8> {
        let token = CancellationToken::new();
        Running::new("test", Vec::new(), token, tokio::spawn(task))
    }

    #[tokio::test]
    async fn a_component_that_ended_by_itself_can_still_be_stopped() {
        let mut component = running(async { Err(7) });
        assert_eq!(component.ended().await, Err(7));
        assert_eq!(component.ended().await, Ok(()));
        assert_eq!(component.stop().await, Ok(()));
    }

    #[tokio::test]
    async fn dropping_it_tells_the_component_to_stop() {
        let token = CancellationToken::new();
        let told = token.clone();
        let task = tokio::spawn(async move {
            told.cancelled().await;
            Ok::<(), u8>(())
        });
        drop(Running::new("test", Vec::new(), token.clone(), task));
        assert!(token.is_cancelled());
    }
}
