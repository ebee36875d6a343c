//! `slackir token jwt`, for trying things out: the tokens of users come from an issuer.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use crate::server::config::{
    CliError, JwtArgs, JwtSetupError, ServeConfig, first_secret, secret_of_file,
};
use crate::server::console::{OutputError, print};
use crate::server::jwt::{JwtAlgorithm, JwtSignError, JwtSigner};
use crate::server::language::JwtConfig;

/// A token could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JwtCommandError {
    /// The config file.
    #[error(transparent)]
    Settings(#[from] CliError),
    /// The config file accepts no tokens.
    #[error("{}: [identity] has no jwt: it accepts no JSON Web Tokens", .0.display())]
    NoTokens(PathBuf),
    /// There is nothing to sign with.
    #[error(
        "nothing to sign with: name a config file with --config, or a key with --secret-file or --private-key-file"
    )]
    NoKey,
    /// The server has no secret, but the issuer's public key.
    #[error(
        "the config file has the public key of the issuer alone: name its private key with --private-key-file"
    )]
    Public,
    /// The secret.
    #[error(transparent)]
    Secret(#[from] JwtSetupError),
    /// The file of the private key.
    #[error("--private-key-file: cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The key.
    #[error("{name}: {source}")]
    Key {
        /// The flag or the file that names it.
        name: String,
        /// Its problem.
        #[source]
        source: JwtSignError,
    },
    /// A claim.
    #[error("{0:?} is no claim: write NAME=VALUE, or an object of JSON")]
    Claim(String),
    /// The signature.
    #[error(transparent)]
    Sign(#[from] JwtSignError),
    /// Standard output.
    #[error("{0}")]
    Output(#[from] OutputError),
}

/// Prints a token.
///
/// # Errors
/// If there is no key for it, or a claim is none.
pub(crate) fn jwt(args: &JwtArgs) -> Result<(), JwtCommandError> {
    let accepted = args.config.as_deref().map(accepted).transpose()?;
    let mut claims = args.claims.iter().map(String::as_str);
    let mut claims = claims.try_fold(Map::new(), with_claim)?;
    add_usual(&mut claims, accepted.as_ref(), args);
    let token = signer(args, accepted.as_ref())?.sign(&claims)?;
    print(token)?;
    Ok(())
}

/// What the file says of the tokens of users.
fn accepted(file: &Path) -> Result<JwtConfig, JwtCommandError> {
    let config = ServeConfig::from_file_without_secrets(file)?;
    let jwt = config.identity.and_then(|identity| identity.jwt);
    jwt.ok_or_else(|| JwtCommandError::NoTokens(file.to_owned()))
}

fn with_claim(
    mut claims: Map<String, Value>,
    text: &str,
) -> Result<Map<String, Value>, JwtCommandError> {
    if let Ok(more) = serde_json::from_str::<Map<String, Value>>(text) {
        claims.extend(more);
        return Ok(claims);
    }
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty() && !name.starts_with('{'))
        .ok_or_else(|| JwtCommandError::Claim(text.to_owned()))?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    claims.insert(name.to_owned(), value);
    Ok(claims)
}

/// Adds the times, the issuer and the audience, where the claims have none of their own.
fn add_usual(claims: &mut Map<String, Value>, accepted: Option<&JwtConfig>, args: &JwtArgs) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = since.unwrap_or_default().as_secs();
    let policy = accepted.map(|accepted| &accepted.policy);
    let first = |names: &Vec<String>| names.first().cloned().map(Value::from);
    let usual = [
        ("iat", Some(now.into())),
        (
            "exp",
            Some(now.saturating_add(args.max_age.as_secs()).into()),
        ),
        ("iss", policy.and_then(|policy| first(&policy.issuers))),
        ("aud", policy.and_then(|policy| first(&policy.audiences))),
    ];
    for (name, value) in usual {
        if let Some(value) = value {
            claims.entry(name).or_insert(value);
        }
    }
}

fn signer(args: &JwtArgs, accepted: Option<&JwtConfig>) -> Result<JwtSigner, JwtCommandError> {
    let first = accepted.and_then(|accepted| accepted.policy.algorithms.first().copied());
    let algorithm = args.algorithm.or(first).unwrap_or(JwtAlgorithm::Hs256);
    if let Some(path) = &args.private_key_file {
        let pem = std::fs::read_to_string(path).map_err(|source| JwtCommandError::Read {
            path: path.clone(),
            source,
        })?;
        let signer = JwtSigner::with_private_key(algorithm, &pem);
        return signer.map_err(|source| key_error("--private-key-file", source));
    }
    let (name, secret) = match (&args.secret_file, accepted) {
        (Some(path), _) => ("--secret-file", secret_of_file("--secret-file", path)?),
        (None, Some(accepted)) => {
            let secret = first_secret(&accepted.keys)?.ok_or(JwtCommandError::Public)?;
            ("[identity] jwt", secret)
        }
        (None, None) => return Err(JwtCommandError::NoKey),
    };
    JwtSigner::with_secret(algorithm, secret).map_err(|source| key_error(name, source))
}

fn key_error(name: &str, source: JwtSignError) -> JwtCommandError {
    JwtCommandError::Key {
        name: name.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_are_pairs_or_objects_and_the_later_one_counts() {
        let claims = |texts: &[&str]| {
            let made = texts.iter().copied().try_fold(Map::new(), with_claim);
            made.map(Value::from)
        };
        let made = claims(&[
            "sub=ada",
            "n=7",
            "{\"sub\": \"bob\", \"a\": [1]}",
            "text=a=b",
            "quoted=\"7\"",
        ]);
        assert_eq!(
            made.expect("claims"),
            json!({"sub": "bob", "n": 7, "a": [1], "text": "a=b", "quoted": "7"})
        );
        for wrong in ["sub", "=ada", "{\"sub\": ", "[1]"] {
            assert!(claims(&[wrong]).is_err(), "{wrong}");
        }
    }
}
