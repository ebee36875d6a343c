//! [`PhoenixTokenConfig`] and [`JwtConfig`]: the tokens that a server accepts.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::Value;
use url::{Host, Url};

use super::age::age;
use super::table::only_tables;
use crate::server::jwt::{JwtAlgorithm, JwtKeyKind, JwtPolicy};

const PREVIOUS: &str = "previous_secret_env and previous_secret_file";
const SOURCES: &str = "secret_env, secret_file, public_key_file, jwks_file and jwks_url";

/// The default of how far two clocks may differ.
const LEEWAY: Duration = Duration::from_secs(30);

/// The default time from `exp` to the end of the connection.
const CLOSE_AFTER: Duration = Duration::from_secs(25);

/// `phoenix_token`: the tokens of a Phoenix application, and the param that carries them.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields, remote = "Self")]
pub(crate) struct PhoenixTokenConfig {
    pub(crate) param: String,
    pub(crate) salt: String,
    /// The age that ends a token; without it the token's own counts.
    #[serde(deserialize_with = "max_age")]
    pub(crate) max_age: Option<Duration>,
}

only_tables!(PhoenixTokenConfig, WrittenJoinToken, WrittenJwtConfig);

impl Default for PhoenixTokenConfig {
    fn default() -> Self {
        Self {
            param: token(),
            salt: "user socket".to_owned(),
            max_age: None,
        }
    }
}

/// `jwt`: the tokens of an issuer, and the param that carries them.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "WrittenJwtConfig")]
pub(crate) struct JwtConfig {
    pub(crate) param: String,
    pub(crate) keys: JwtKeySource,
    pub(crate) policy: JwtPolicy,
    close_after: Option<Duration>,
}

impl JwtConfig {
    /// Whether `close_after` is written.
    pub(crate) fn closes(&self) -> bool {
        self.close_after.is_some()
    }

    /// The time from `exp` to the end of the connection.
    pub(crate) fn close_after(&self) -> Duration {
        self.close_after.unwrap_or(CLOSE_AFTER)
    }
}

/// `token` of `[rooms.join]`: the tokens that a join needs. Their `param` is a join param.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "WrittenJoinToken")]
pub(crate) enum JoinToken {
    Phoenix(PhoenixTokenConfig),
    Jwt(JwtConfig),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
struct WrittenJoinToken {
    phoenix_token: Option<PhoenixTokenConfig>,
    jwt: Option<JwtConfig>,
}

impl TryFrom<WrittenJoinToken> for JoinToken {
    type Error = &'static str;

    fn try_from(written: WrittenJoinToken) -> Result<Self, Self::Error> {
        match (written.phoenix_token, written.jwt) {
            (Some(tokens), None) => Ok(Self::Phoenix(tokens)),
            (None, Some(tokens)) if tokens.closes() => {
                Err("close_after: a connection ends with the token of [identity] alone")
            }
            (None, Some(tokens)) => Ok(Self::Jwt(tokens)),
            _ => Err("token: it needs one of phoenix_token and jwt"),
        }
    }
}

impl JoinToken {
    /// The join param that carries the token.
    pub(crate) fn param(&self) -> &str {
        match self {
            Self::Phoenix(tokens) => &tokens.param,
            Self::Jwt(tokens) => &tokens.param,
        }
    }
}

/// Where the keys of an issuer are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JwtKeySource {
    /// They are read once, at the start.
    Local(LocalKeySource),
    /// The URL of the issuer's JWKS.
    Url(Url),
}

/// Where the keys of an issuer are on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LocalKeySource {
    /// A secret, and the one before it.
    Secret {
        current: SecretSource,
        previous: Option<SecretSource>,
    },
    /// A file with a public key in PEM.
    PublicKeyFile(PathBuf),
    /// A file with the issuer's JWKS.
    JwksFile(PathBuf),
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SecretSource {
    /// In this environment variable.
    Env(String),
    /// In a file, without the line break at its end.
    File(PathBuf),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
struct WrittenJwtConfig {
    #[serde(default = "token")]
    param: String,
    algorithms: Vec<JwtAlgorithm>,
    secret_env: Option<String>,
    secret_file: Option<PathBuf>,
    previous_secret_env: Option<String>,
    previous_secret_file: Option<PathBuf>,
    public_key_file: Option<PathBuf>,
    jwks_file: Option<PathBuf>,
    #[serde(default, deserialize_with = "jwks_url")]
    jwks_url: Option<Url>,
    #[serde(default, deserialize_with = "names")]
    issuer: Vec<String>,
    #[serde(default, deserialize_with = "names")]
    audience: Vec<String>,
    #[serde(default = "leeway", deserialize_with = "read_leeway")]
    leeway: Duration,
    #[serde(default = "yes")]
    require_exp: bool,
    #[serde(default, deserialize_with = "read_close_after")]
    close_after: Option<Duration>,
}

impl TryFrom<WrittenJwtConfig> for JwtConfig {
    type Error = String;

    fn try_from(mut written: WrittenJwtConfig) -> Result<Self, String> {
        let keys = written.keys()?;
        let is_secret = |algorithm: &&JwtAlgorithm| algorithm.key_kind() == JwtKeyKind::Secret;
        let takes_secret = keys.is_secret();
        let mut algorithms = written.algorithms.iter();
        if let Some(odd) = algorithms.find(|algorithm| is_secret(algorithm) != takes_secret) {
            let wanted = if takes_secret {
                "a public key: public_key_file, jwks_file or jwks_url"
            } else {
                "a secret: secret_env or secret_file"
            };
            return Err(format!("algorithms: {odd} needs {wanted}"));
        }
        if written.algorithms.is_empty() {
            return Err("algorithms: must name at least one, such as \"RS256\"".to_owned());
        }
        Ok(Self {
            param: written.param,
            keys,
            policy: JwtPolicy {
                algorithms: written.algorithms,
                issuers: written.issuer,
                audiences: written.audience,
                leeway: written.leeway,
                require_exp: written.require_exp,
            },
            close_after: written.close_after,
        })
    }
}

impl WrittenJwtConfig {
    /// # Errors
    /// If there is no key, or more than one.
    fn keys(&mut self) -> Result<JwtKeySource, String> {
        let previous = match (
            self.previous_secret_env.take(),
            self.previous_secret_file.take(),
        ) {
            (Some(_), Some(_)) => return Err(format!("only one of {PREVIOUS} may be there")),
            (Some(name), None) => Some(SecretSource::Env(name)),
            (None, path) => path.map(SecretSource::File),
        };
        let of_secret = previous.is_some();
        let secret = |current| LocalKeySource::Secret {
            current,
            previous: previous.clone(),
        };
        let in_env = self.secret_env.take().map(SecretSource::Env).map(secret);
        let in_file = self.secret_file.take().map(SecretSource::File).map(secret);
        let public = self.public_key_file.take();
        let public = public.map(LocalKeySource::PublicKeyFile);
        let set = self.jwks_file.take().map(LocalKeySource::JwksFile);
        let local = [in_env, in_file, public, set].into_iter().flatten();
        let url = self.jwks_url.take().map(JwtKeySource::Url);
        let mut sources = local.map(JwtKeySource::Local).chain(url);
        match (sources.next(), sources.next()) {
            (Some(JwtKeySource::Url(_)), None)
                if self.issuer.is_empty() || self.audience.is_empty() =>
            {
                Err(
                    "jwks_url: it needs issuer and audience, because the issuer signs tokens \
                     for others with the same keys"
                        .to_owned(),
                )
            }
            (Some(source), None) if of_secret && !source.is_secret() => Err(format!(
                "{PREVIOUS}: there is no secret before which it was"
            )),
            (Some(source), None) => Ok(source),
            (None, _) => Err(format!("it needs one of {SOURCES}")),
            (Some(_), Some(_)) => Err(format!("only one of {SOURCES} may be there")),
        }
    }
}

impl JwtKeySource {
    fn is_secret(&self) -> bool {
        matches!(self, Self::Local(LocalKeySource::Secret { .. }))
    }
}

fn token() -> String {
    "token".to_owned()
}

fn leeway() -> Duration {
    LEEWAY
}

fn yes() -> bool {
    true
}

fn max_age<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(input)?;
    age(&text)
        .map(Some)
        .map_err(|problem| D::Error::custom(format!("max_age: {text:?} {problem}")))
}

fn read_leeway<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(input)?;
    zero_or_age(&text).map_err(|problem| D::Error::custom(format!("leeway: {text:?} {problem}")))
}

fn read_close_after<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(input)?;
    let read = zero_or_age(&text).map(Some);
    read.map_err(|problem| D::Error::custom(format!("close_after: {text:?} {problem}")))
}

fn zero_or_age(text: &str) -> Result<Duration, String> {
    match text {
        "0s" => Ok(Duration::ZERO),
        _ => age(text),
    }
}

/// `https`; `http` for an issuer on this machine alone, because anybody on the way could replace the keys.
fn jwks_url<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Url>, D::Error> {
    // The error leaves the text out: it may hold a password.
    let wrong = || D::Error::custom("jwks_url: must begin with https://, or be http on loopback");
    let url = Url::parse(&String::deserialize(input)?).map_err(|_| wrong())?;
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err(wrong()),
    };
    let is_safe = url.scheme() == "https" || url.scheme() == "http" && is_loopback;
    if !is_safe || url.password().is_some() {
        return Err(wrong());
    }
    Ok(Some(url))
}

/// A name or a list of names.
fn names<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    let wrong = || D::Error::custom("must be a string or a list of strings, none of them empty");
    let names = match Value::deserialize(input)? {
        Value::Array(names) => names,
        name => vec![name],
    };
    let names = names.into_iter().map(|name| match name {
        Value::String(name) if !name.is_empty() => Ok(name),
        _ => Err(wrong()),
    });
    let names = names.collect::<Result<Vec<_>, _>>()?;
    if names.is_empty() {
        return Err(wrong());
    }
    Ok(names)
}
