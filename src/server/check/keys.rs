//! The secrets and keys of the settings, and of the files that they name.

use super::Finding;
use crate::revocation::Revocations;
use crate::server::admin::MetricsToken;
use crate::server::api::Auth;
use crate::server::config::{ServeConfig, Switch, jwt_keys};
use crate::server::language::{IdentityConfig, JoinToken, JwtConfig, JwtKeySource};
use crate::token::SecretKeyBase;

pub(super) fn keys(config: &ServeConfig) -> Vec<Finding> {
    let jwt = jwt_sections(config);
    let jwt = jwt
        .into_iter()
        .filter_map(|(place, jwt)| jwt_section(&place, jwt));
    api(config)
        .into_iter()
        .chain(secret(config))
        .chain(dashboard(config))
        .chain(metrics(config))
        .chain(jwt)
        .collect()
}

/// All `jwt` of the file, with the name of their section.
pub(super) fn jwt_sections(config: &ServeConfig) -> Vec<(String, &JwtConfig)> {
    let identity = config
        .identity
        .as_ref()
        .and_then(|identity| identity.jwt.as_ref());
    let api = config.api_jwt.as_ref().map(|api| &api.jwt);
    // Without one of its own it is that of the identity.
    let api = api.filter(|api| identity != Some(*api));
    let joins = config
        .rooms
        .iter()
        .filter_map(|room| match &room.join.token {
            Some(JoinToken::Jwt(jwt)) => Some((format!("[[rooms]] {}", room.topics), jwt)),
            _ => None,
        });
    let identity = identity.map(|jwt| ("[identity]".to_owned(), jwt));
    let api = api.map(|jwt| ("[api]".to_owned(), jwt));
    identity.into_iter().chain(api).chain(joins).collect()
}

fn jwt_section(place: &str, jwt: &JwtConfig) -> Option<Finding> {
    const NAME: &str = "keys";
    let JwtKeySource::Local(source) = &jwt.keys else {
        return None;
    };
    Some(match jwt_keys(source, &jwt.policy.algorithms) {
        Ok(_) => Finding::ok(NAME, format!("{place} jwt: the key fits the algorithms")),
        Err(error) => Finding::fail(NAME, format!("{place} {error}")),
    })
}

fn dashboard(config: &ServeConfig) -> Option<Finding> {
    const NAME: &str = "dashboard";
    match config.dashboard.password() {
        Err(error) => Some(Finding::fail(NAME, error.to_string())),
        Ok(Some(_)) => Some(Finding::ok(NAME, "it asks for the password")),
        Ok(None) => None,
    }
}

/// Who may read `/metrics`.
fn metrics(config: &ServeConfig) -> Option<Finding> {
    const NAME: &str = "metrics";
    let token = config.admin.metrics_token.as_deref();
    if let Err(error) = MetricsToken::new(token) {
        return Some(Finding::fail(NAME, error.to_string()));
    }
    let address = config.operators_address();
    match token {
        Some(_) => Some(Finding::ok(NAME, "they ask for the token")),
        None if address.ip().is_loopback() => None,
        None => Some(Finding::warn(
            NAME,
            format!(
                "everybody who reaches {address} may read them: set metrics_token or admin_listen"
            ),
        )),
    }
}

fn api(config: &ServeConfig) -> Option<Finding> {
    const NAME: &str = "api";
    // Its keys have a finding of their own.
    match Auth::with_jwt(&config.api, None, &Revocations::default()) {
        Err(error) => Some(Finding::fail(NAME, error.to_string())),
        Ok(None) if config.api_jwt.is_none() => None,
        Ok(_) if config.persist == Switch::Off => Some(Finding::fail(
            NAME,
            "the HTTP API is for stored messages: set persist to on, or remove its tokens",
        )),
        Ok(_) => Some(Finding::ok(NAME, "the tokens of the HTTP API can be used")),
    }
}

/// The secret of Phoenix.Tokens.
fn secret(config: &ServeConfig) -> Option<Finding> {
    const NAME: &str = "secret_key_base";
    let identity = config.identity.as_ref();
    let identity =
        identity.is_some_and(|identity: &IdentityConfig| identity.phoenix_token.is_some());
    let mut rooms = config.rooms.iter();
    let join = rooms.any(|room| matches!(room.join.token, Some(JoinToken::Phoenix(_))));
    match &config.api.secret_key_base {
        None if identity || join => Some(Finding::fail(
            NAME,
            "phoenix_token needs it: set SECRET_KEY_BASE to the secret of the Phoenix application",
        )),
        None => None,
        Some(secret) => Some(match SecretKeyBase::new(secret.as_bytes()) {
            Ok(_) => Finding::ok(NAME, "it is long enough"),
            Err(error) => Finding::fail(NAME, error.to_string()),
        }),
    }
}
