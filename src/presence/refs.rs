//! The `phx_ref` of metas.

use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// Makes refs as Phoenix does: 8 bytes of time, 2 of the node, 2 of a counter.
pub(super) struct Refs {
    /// When they began, in nanoseconds since 1970.
    pub(super) started: u64,
    counter: AtomicU16,
}

impl Refs {
    pub(super) fn new() -> Self {
        Self {
            started: now(),
            counter: AtomicU16::new(0),
        }
    }

    pub(super) fn next(&self) -> String {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&now().to_be_bytes());
        bytes[8..10].copy_from_slice(&self.started.to_le_bytes()[..2]);
        bytes[10..].copy_from_slice(&self.counter.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
