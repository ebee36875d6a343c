//! Logs a panic as an ordinary log line. The standard hook writes several lines of text, and blocks if standard
//! error is not read.

use std::panic::{self, PanicHookInfo};

/// Installs the hook.
pub(super) fn log() {
    panic::set_hook(Box::new(|info| {
        let location = info.location().map(tracing::field::display);
        tracing::error!(
            panic = message(info),
            location,
            "process.panicked: a bug at this place; please report it if the code is not yours"
        );
    }));
}

fn message<'a>(info: &'a PanicHookInfo<'_>) -> &'a str {
    info.payload_as_str().unwrap_or("a panic without a message")
}
