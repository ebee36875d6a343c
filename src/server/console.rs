//! What commands print. `println!` panics where standard output is closed or full; here that is an
//! error, or nothing.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Standard output does not take what was printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    /// Its reader has gone, as `head` does when it has seen enough. Nobody wants to hear of it.
    #[error("standard output has no reader any more")]
    ReaderGone,
    /// Anything else.
    #[error("cannot write to standard output: {0}")]
    Write(#[source] io::Error),
}

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Write(error),
        }
    }
}

/// Prints a line to standard output.
///
/// # Errors
/// When it does not arrive there.
pub(crate) fn print(line: impl Display) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Says something on standard error, if somebody is there to read it.
pub(crate) fn say(line: impl Display) {
    // There is no other place to say that this one fails.
    let _ = writeln!(io::stderr(), "{line}");
}
