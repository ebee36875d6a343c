//! [`jwt_keys`]: reads the keys of `jwt` from the environment and from files.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::server::jwt::{JwkSet, JwtAlgorithm, JwtKey, JwtKeys};
use crate::server::language::{JwtKeySource, LocalKeySource, SecretSource};

/// Why a key cannot be used. The message is for the user, and begins with the key of the file.
#[derive(Debug, thiserror::Error)]
#[error("jwt: {key}: {problem}")]
pub struct JwtSetupError {
    key: &'static str,
    problem: String,
}

impl JwtSetupError {
    /// A URL that cannot be used.
    pub(crate) fn of_url(problem: String) -> Self {
        failed("jwks_url", problem)
    }
}

/// Reads the keys.
///
/// # Errors
/// If there is no key, or one that fits none of the algorithms.
pub(crate) fn jwt_keys(
    source: &LocalKeySource,
    algorithms: &[JwtAlgorithm],
) -> Result<JwtKeys, JwtSetupError> {
    match source {
        LocalKeySource::Secret { current, previous } => {
            let mut keys = vec![secret_key(["secret_env", "secret_file"], current)?];
            if let Some(previous) = previous {
                let settings = ["previous_secret_env", "previous_secret_file"];
                keys.push(secret_key(settings, previous)?);
            }
            Ok(JwtKeys::Configured(keys))
        }
        LocalKeySource::PublicKeyFile(path) => public_key(algorithms, path),
        LocalKeySource::JwksFile(path) => jwks(algorithms, path),
    }
}

/// The present secret of these keys; `None` if they are public.
///
/// # Errors
/// If it cannot be used.
pub(crate) fn first_secret(source: &JwtKeySource) -> Result<Option<JwtKey>, JwtSetupError> {
    match source {
        JwtKeySource::Local(LocalKeySource::Secret { current, .. }) => {
            secret_key(["secret_env", "secret_file"], current).map(Some)
        }
        JwtKeySource::Local(_) | JwtKeySource::Url(_) => Ok(None),
    }
}

/// The secret of this file. `name`: of the flag that names it.
///
/// # Errors
/// If it cannot be used.
pub(crate) fn secret_of_file(name: &'static str, path: &Path) -> Result<JwtKey, JwtSetupError> {
    secret(name, read(name, path)?.trim_ascii_end())
}

fn public_key(algorithms: &[JwtAlgorithm], path: &Path) -> Result<JwtKeys, JwtSetupError> {
    const KEY: &str = "public_key_file";
    let text = read(KEY, path)?;
    let key = JwtKey::pem(&String::from_utf8_lossy(&text));
    let key = key.map_err(|error| failed(KEY, format!("{}: {error}", path.display())))?;
    let mut algorithms = algorithms.iter();
    if let Some(odd) = algorithms.find(|algorithm| algorithm.key_kind() != key.kind()) {
        let problem = format!(
            "{} is {}, and {odd} needs {}",
            path.display(),
            key.kind(),
            odd.key_kind()
        );
        return Err(failed(KEY, problem));
    }
    Ok(JwtKeys::Configured(vec![key]))
}

fn jwks(algorithms: &[JwtAlgorithm], path: &Path) -> Result<JwtKeys, JwtSetupError> {
    const KEY: &str = "jwks_file";
    let set = JwkSet::parse(&read(KEY, path)?);
    let set = set.map_err(|error| failed(KEY, format!("{}: {error}", path.display())))?;
    let mut algorithms = algorithms.iter();
    if let Some(odd) = algorithms.find(|algorithm| !set.has_key_for(**algorithm)) {
        let problem = format!("{} has no key for {odd}", path.display());
        return Err(failed(KEY, problem));
    }
    Ok(JwtKeys::Set(Arc::new(set)))
}

/// `settings`: the settings of a secret in the environment, and of one in a file.
fn secret_key(
    [in_env, in_file]: [&'static str; 2],
    source: &SecretSource,
) -> Result<JwtKey, JwtSetupError> {
    match source {
        SecretSource::Env(name) => {
            let value = std::env::var_os(name);
            let value =
                value.ok_or_else(|| failed(in_env, format!("the environment has no {name}")))?;
            secret(in_env, value.as_encoded_bytes())
        }
        SecretSource::File(path) => secret(in_file, read(in_file, path)?.trim_ascii_end()),
    }
}

fn secret(key: &'static str, bytes: &[u8]) -> Result<JwtKey, JwtSetupError> {
    JwtKey::secret(bytes).map_err(|error| failed(key, error.to_string()))
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, JwtSetupError> {
    let read = fs::read(path);
    read.map_err(|error| failed(key, format!("cannot read {}: {error}", path.display())))
}

fn failed(key: &'static str, problem: String) -> JwtSetupError {
    JwtSetupError { key, problem }
}
