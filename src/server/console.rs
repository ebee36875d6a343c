//! Output of the commands. `println!` panics if standard output is closed or full; [`print()`] returns an error.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// A line could not be printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    /// The reader of the pipe has exited, such as `head` after its last line. The command prints no error.
    #[error("standard output has no reader any more")]
    ReaderGone,
    /// Any other failure.
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
/// If standard output is closed or full.
pub(crate) fn print(line: impl Display) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Prints a line to standard error. A failure is ignored.
pub(crate) fn say(line: impl Display) {
    // No other place is left to report it.
    let _ = writeln!(io::stderr(), "{line}");
}
