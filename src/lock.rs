//! [`lock`]: a mutex without poison.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks. Code that holds one of this crate's locks can panic only where an allocation fails, and leaves the
/// data whole: the poison is ignored.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
