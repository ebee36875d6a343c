//! `[hook]`: the application's backend that rooms ask over HTTP.

use std::path::PathBuf;
use std::time::Duration;

use crate::server::language::only_tables;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use url::Url;

/// The fewest bytes of the secret.
const MIN_SECRET: usize = 32;
/// The default of the time for an exchange.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The default of the most calls at once of one worker.
const IN_FLIGHT: usize = 64;
const MAX_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_DENY_CACHE: Duration = Duration::from_secs(3_600);
const MAX_IN_FLIGHT: usize = 10_000;
const MAX_HEADERS: usize = 32;

/// Headers that belong to one connection, or that the hook sets itself.
const RESERVED: [&str; 14] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "slackir-signature",
];

/// The section `[hook]`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(crate) struct HookConfig {
    /// Where calls go: `http` or `https`.
    #[serde(deserialize_with = "url")]
    pub(crate) url: Url,
    /// Where notices go. `None`: to `url`.
    #[serde(default, deserialize_with = "tell_url")]
    pub(crate) tell_url: Option<Url>,
    /// The environment variable with the secret.
    #[serde(default)]
    secret_env: Option<String>,
    /// The file with the secret.
    #[serde(default)]
    secret_file: Option<PathBuf>,
    /// The time for a whole exchange. Default 2 s.
    #[serde(default = "default_timeout", deserialize_with = "timeout")]
    pub(crate) timeout: Duration,
    /// The most calls at once of one worker. Default 64.
    #[serde(default = "in_flight", deserialize_with = "max_in_flight")]
    pub(crate) max_in_flight: usize,
    /// Headers of the handshake that each call of the socket carries. Default none.
    #[serde(default, deserialize_with = "headers")]
    pub(crate) headers: Vec<String>,
    /// How long a refused join is refused again without a call. Default 0.
    #[serde(default, deserialize_with = "deny_cache")]
    pub(crate) deny_cache: Duration,
}

/// Why the secret of `[hook]` cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HookSecretError {
    /// The environment variable is missing.
    #[error("[hook] secret_env: the environment has no {0}")]
    NotSet(String),
    /// The file cannot be read.
    #[error("[hook] secret_file: cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The secret is too short.
    #[error("[hook]: the secret has {0} bytes, it must have {MIN_SECRET} or more")]
    TooShort(usize),
}

only_tables!(HookConfig);

impl HookConfig {
    /// Where notices go.
    pub(crate) fn tell_url(&self) -> &Url {
        self.tell_url.as_ref().unwrap_or(&self.url)
    }

    /// The problem of keys that contradict each other.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        match (&self.secret_env, &self.secret_file) {
            (None, None) => Some("must have secret_env or secret_file"),
            (Some(_), Some(_)) => Some("must have one of secret_env and secret_file"),
            _ => None,
        }
    }

    /// Reads the secret that calls are signed with. A line break at the end of the file does not belong to it.
    ///
    /// # Errors
    /// If it is missing or too short.
    pub(crate) fn secret(&self) -> Result<Vec<u8>, HookSecretError> {
        let secret = match (&self.secret_env, &self.secret_file) {
            (Some(name), _) => std::env::var_os(name)
                .ok_or_else(|| HookSecretError::NotSet(name.clone()))?
                .into_encoded_bytes(),
            (None, Some(path)) => {
                let read = std::fs::read(path);
                let mut secret = read.map_err(|source| HookSecretError::Unreadable {
                    path: path.clone(),
                    source,
                })?;
                secret.truncate(secret.trim_ascii_end().len());
                secret
            }
            (None, None) => Vec::new(),
        };
        if secret.len() < MIN_SECRET {
            return Err(HookSecretError::TooShort(secret.len()));
        }
        Ok(secret)
    }
}

fn tell_url<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Url>, D::Error> {
    url(input).map(Some)
}

fn url<'de, D: Deserializer<'de>>(input: D) -> Result<Url, D::Error> {
    // The error leaves the text out: it may hold a password.
    let wrong = || D::Error::custom("must be a URL that begins with http:// or https://");
    let url = Url::parse(&String::deserialize(input)?).map_err(|_| wrong())?;
    if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
        return Err(wrong());
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(D::Error::custom(
            "must have neither user nor password nor fragment: calls are signed with the secret",
        ));
    }
    Ok(url)
}

fn default_timeout() -> Duration {
    TIMEOUT
}

fn in_flight() -> usize {
    IN_FLIGHT
}

fn timeout<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(input)?;
    let timeout = duration(&text).filter(|timeout| !timeout.is_zero() && *timeout <= MAX_TIMEOUT);
    timeout.ok_or_else(|| {
        D::Error::custom(format!(
            "timeout: {text:?} must be a whole number with ms, s or m, more than 0 and at most a minute, such \
             as \"2s\""
        ))
    })
}

fn deny_cache<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(input)?;
    let kept = duration(&text).filter(|kept| *kept <= MAX_DENY_CACHE);
    kept.ok_or_else(|| {
        D::Error::custom(format!(
            "deny_cache: {text:?} must be a whole number with ms, s or m, and at most an hour, such as \"10s\""
        ))
    })
}

/// `"2s"`, `"500ms"`, `"1m"`
fn duration(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return None,
    };
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(unit).map(Duration::from_millis)
}

fn max_in_flight<'de, D: Deserializer<'de>>(input: D) -> Result<usize, D::Error> {
    let number = i64::deserialize(input)?;
    let most = usize::try_from(number).ok();
    most.filter(|most| (1..=MAX_IN_FLIGHT).contains(most))
        .ok_or_else(|| D::Error::custom(format!("must be a number from 1 to {MAX_IN_FLIGHT}")))
}

fn headers<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    let headers = Vec::<String>::deserialize(input)?;
    if headers.len() > MAX_HEADERS {
        let problem = format!("must name at most {MAX_HEADERS} headers");
        return Err(D::Error::custom(problem));
    }
    let headers = headers.into_iter().map(|name| {
        let name = name.to_ascii_lowercase();
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(is_token) {
            return Err(D::Error::custom(format!("{name:?} is no name of a header")));
        }
        if RESERVED.contains(&&*name) || name.starts_with("sec-") || name.starts_with("proxy-") {
            return Err(D::Error::custom(format!(
                "{name:?} belongs to the connection of the client or is set by the server"
            )));
        }
        Ok(name)
    });
    headers.collect()
}
