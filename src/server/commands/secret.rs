//! `slackir secret`.

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;

use crate::server::console::{OutputError, print};

/// There is no secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretCommandError {
    /// The system has no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(#[from] getrandom::Error),
    /// Standard output.
    #[error("{0}")]
    Output(#[from] OutputError),
}

/// Prints a secret of so many characters, each with 6 random bits.
///
/// # Errors
/// If the system gives no random bytes.
pub(crate) fn secret(length: u16) -> Result<(), SecretCommandError> {
    let mut bytes = vec![0; length.into()];
    getrandom::fill(&mut bytes)?;
    let mut text = BASE64_STANDARD_NO_PAD.encode(bytes);
    text.truncate(length.into());
    print(text)?;
    Ok(())
}
