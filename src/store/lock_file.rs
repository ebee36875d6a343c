//! Lock files. A database file and a spool belong to one owner at a time.

use std::fs::{File, TryLockError};
use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// How long an owner may need to end after its last handle is gone.
const PATIENCE: Duration = Duration::from_secs(1);

/// Locks a file, until it is closed or the process ends. `false` if it has another owner, which does not end within a
/// second.
pub(in crate::store) fn take(file: &File) -> io::Result<bool> {
    let end = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if Instant::now() < end => {
                thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(source)) => return Err(source),
        }
    }
}
