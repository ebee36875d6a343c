//! `slackir token sign` and `slackir token verify`, for tests and scripts. `jwt` is in a file of its own.

use serde_json::Value;

use super::jwt::{JwtCommandError, jwt};
use crate::server::config::{TokenAction, TokenKey};
use crate::server::console::{OutputError, print};
use crate::token::{
    EncodeError, KeyOptions, MaxAge, NoJsonForm, SecretKeyBase, SecretTooShort, SignOptions,
    Signer, TokenError, VerifyOptions,
};

/// A token could not be signed or verified.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenCommandError {
    /// `--secret-key-base`.
    #[error("--secret-key-base: {0}")]
    Secret(#[from] SecretTooShort),
    /// The data to sign.
    #[error("the data cannot be encoded in a token: {0}")]
    Data(#[from] EncodeError),
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A JSON Web Token.
    #[error(transparent)]
    Jwt(#[from] JwtCommandError),
    /// Standard output.
    #[error("{0}")]
    Output(#[from] OutputError),
    /// The data of the token.
    #[error("the data of the token cannot be printed as JSON: {0}")]
    NoJson(#[from] NoJsonForm),
}

/// Prints a signed token, or the data of a valid one.
///
/// # Errors
/// If the secret is too short, or the token is not valid.
pub(crate) fn token(action: &TokenAction) -> Result<(), TokenCommandError> {
    match action {
        TokenAction::Sign { key, data, max_age } => {
            let data = serde_json::from_str(data).unwrap_or_else(|_| Value::from(data.as_str()));
            let options = SignOptions {
                max_age: MaxAge::Limited(*max_age),
                ..SignOptions::now()
            };
            print(signer(key)?.sign(data, options)?)?;
        }
        TokenAction::Verify {
            key,
            token,
            max_age,
        } => {
            let max_age = max_age.map(MaxAge::Limited);
            let options = VerifyOptions {
                max_age,
                ..VerifyOptions::now()
            };
            let data = Value::try_from(signer(key)?.verify(Some(token), options)?)?;
            print(data)?;
        }
        TokenAction::Jwt(args) => jwt(args)?,
    }
    Ok(())
}

fn signer(key: &TokenKey) -> Result<Signer, SecretTooShort> {
    // The command line has the secret, or a file whose text is the default.
    let secret = key.secret_key_base.as_deref().unwrap_or_default();
    let secret = SecretKeyBase::new(secret.as_bytes())?;
    Ok(Signer::new(&secret, &key.salt, KeyOptions::DEFAULT))
}
