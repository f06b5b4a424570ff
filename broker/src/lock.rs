//! Locks whose data stays usable when a holder panicked: each critical section here leaves its
//! data whole, so the poison says nothing, and one broken task must not stop the broker.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Takes a `Mutex` without regard to poison.
pub(crate) trait Held<T> {
    fn held(&self) -> MutexGuard<'_, T>;
}

impl<T> Held<T> for Mutex<T> {
    fn held(&self) -> MutexGuard<'_, T> {
        self.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a `RwLock` without regard to poison.
pub(crate) trait Locked<T> {
    fn held_to_read(&self) -> RwLockReadGuard<'_, T>;
    fn held_to_write(&self) -> RwLockWriteGuard<'_, T>;
}

impl<T> Locked<T> for RwLock<T> {
    fn held_to_read(&self) -> RwLockReadGuard<'_, T> {
        self.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn held_to_write(&self) -> RwLockWriteGuard<'_, T> {
        self.write().unwrap_or_else(PoisonError::into_inner)
    }
}
