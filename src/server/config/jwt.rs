//! [`jwt_keys`]: reads the keys of `jwt` from the environment and from files.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::server::jwt::{JwkSet, JwtAlgorithm, JwtKey, JwtKeys};
use crate::server::language::LocalKeySource;

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
        LocalKeySource::SecretEnv { name, previous } => {
            let secret = env_secret("secret_env", name)?;
            with_previous(secret, previous.as_deref())
        }
        LocalKeySource::SecretFile { path, previous } => {
            let text = read("secret_file", path)?;
            let secret = secret("secret_file", text.trim_ascii_end())?;
            with_previous(secret, previous.as_deref())
        }
        LocalKeySource::PublicKeyFile(path) => public_key(algorithms, path),
        LocalKeySource::JwksFile(path) => jwks(algorithms, path),
    }
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

fn with_previous(secret: JwtKey, previous: Option<&str>) -> Result<JwtKeys, JwtSetupError> {
    let mut keys = vec![secret];
    if let Some(name) = previous {
        keys.push(env_secret("previous_secret_env", name)?);
    }
    Ok(JwtKeys::Configured(keys))
}

fn env_secret(key: &'static str, name: &str) -> Result<JwtKey, JwtSetupError> {
    let value = std::env::var_os(name);
    let value = value.ok_or_else(|| failed(key, format!("the environment has no {name}")))?;
    secret(key, value.as_encoded_bytes())
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
