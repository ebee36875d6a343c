//! What a panic says becomes a log line like others: the standard hook writes several lines, waits
//! for a reader that stalls, and knows no JSON.

use std::panic::{self, PanicHookInfo};

/// Logs panics from now on.
pub(super) fn log() {
    panic::set_hook(Box::new(|info| {
        let location = info.location().map(tracing::field::display);
        tracing::error!(panic = message(info), location, "process.panicked");
    }));
}

fn message<'a>(info: &'a PanicHookInfo<'_>) -> &'a str {
    info.payload_as_str().unwrap_or("a panic without a message")
}
