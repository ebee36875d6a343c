//! [`Authority`]: determines identities by `[identity]`, and renews those of tokens.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::backend;
use super::identity::{Identity, IdentityError, MAX_BYTES};
use super::random::Uuid;
use super::standing::{self, TokenStanding};
use crate::assigns::Assigns;
use crate::ban::Bans;
use crate::revocation::Revocations;
use crate::server::hook::Hook;
use crate::server::language::template::Values;
use crate::server::language::{IdentityConfig, Source};
use crate::server::tokens::{TokenRefused, TokenVerifier, VerifiedToken, text_of};
use crate::socket::{ConnectInfo, ConnectRefused, Expiry, Params};

/// `[identity]`, with the keys of its tokens.
pub(super) struct Authority {
    config: IdentityConfig,
    /// Read once for each token.
    tokens: RwLock<Arc<[AcceptedTokens]>>,
    hook: Option<Arc<Hook>>,
    /// `None`: there can be none.
    revocations: Option<Revocations>,
    bans: Option<Bans>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// The tokens of one source, and the connect param that carries them.
struct AcceptedTokens {
    source: Source,
    param: String,
    verifier: Arc<TokenVerifier>,
}

/// The keys of `[identity]`, which can be read again while the server runs. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct IdentityKeys(Option<Arc<Authority>>);

/// Keys that are not used yet.
pub(crate) struct NewKeys(Arc<[AcceptedTokens]>);

impl IdentityKeys {
    /// Reads the keys again. Those behind a URL are kept: they are fetched when a token needs them.
    ///
    /// # Errors
    /// If a key cannot be used.
    pub(crate) fn read(&self, secret: Option<&str>) -> Result<NewKeys, IdentityError> {
        let Some(authority) = &self.0 else {
            return Ok(NewKeys([].into()));
        };
        let old = authority.tokens();
        accepted_tokens(&authority.config, secret, &old).map(NewKeys)
    }

    /// Verifies the tokens to come with these keys, those of connections that are open included.
    pub(crate) fn set(&self, NewKeys(keys): NewKeys) {
        if let Some(authority) = &self.0 {
            // No code panics while it holds this lock.
            let tokens = authority.tokens.write();
            *tokens.unwrap_or_else(PoisonError::into_inner) = keys;
        }
    }
}

impl From<Option<Arc<Authority>>> for IdentityKeys {
    fn from(authority: Option<Arc<Authority>>) -> Self {
        Self(authority)
    }
}

/// The accepted tokens of `[identity]`. `old`: the present ones.
fn accepted_tokens(
    config: &IdentityConfig,
    secret: Option<&str>,
    old: &[AcceptedTokens],
) -> Result<Arc<[AcceptedTokens]>, IdentityError> {
    let mut tokens = Vec::new();
    if let Some(accepted) = &config.phoenix_token {
        tokens.push(AcceptedTokens {
            source: Source::PhoenixToken,
            param: accepted.param.clone(),
            verifier: Arc::new(TokenVerifier::phoenix(accepted, secret)?),
        });
    }
    if let Some(accepted) = &config.jwt {
        let mut remote = old.iter().filter(|tokens| tokens.verifier.is_remote());
        let verifier = match remote.next() {
            Some(tokens) => Arc::clone(&tokens.verifier),
            None => Arc::new(TokenVerifier::jwt(accepted)?),
        };
        tokens.push(AcceptedTokens {
            source: Source::Jwt,
            param: accepted.param.clone(),
            verifier,
        });
    }
    Ok(tokens.into())
}

/// What an identity by JWT needs to be renewed.
#[derive(Debug)]
pub(super) struct Renewal {
    authority: Arc<Authority>,
    params: Params,
    /// The identity of the connection, whose fields change.
    identity: Identity,
    /// `sub`; null if the token has none.
    subject: Value,
    expiry: Expiry,
    /// `None`: nothing can revoke the connection.
    standing: Option<Arc<TokenStanding>>,
}

impl Authority {
    /// # Errors
    /// If there is no key for tokens, or it cannot be used.
    pub(super) fn new(
        config: IdentityConfig,
        secret: Option<&str>,
        hook: Option<Arc<Hook>>,
        revocations: Option<Revocations>,
        bans: Option<Bans>,
    ) -> Result<Self, IdentityError> {
        let tokens = RwLock::new(accepted_tokens(&config, secret, &[])?);
        Ok(Self {
            config,
            tokens,
            hook,
            revocations,
            bans,
        })
    }

    fn tokens(&self) -> Arc<[AcceptedTokens]> {
        Arc::clone(&self.tokens.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Assigns the identity of a client that connects, and what ends its connection.
    ///
    /// # Errors
    /// If its token is wrong, expired or revoked, or a required field is null.
    pub(super) async fn identify(
        self: &Arc<Self>,
        params: &Params,
        info: &ConnectInfo,
        assigns: &mut Assigns,
    ) -> Result<(), ConnectRefused> {
        let auth_token = info.auth_token.as_deref();
        let (source, token) = self.token(params, auth_token).await?;
        let mut identity = Identity::new(Value::Null);
        identity.headers = info.headers.as_slice().into();
        let mut identity = self.complete(identity, params, &token).await?;
        let revocations = self.revocations.as_ref();
        let standing =
            revocations.and_then(|revocations| TokenStanding::new(revocations, &identity, &token));
        if let Some(standing) = &standing {
            assigns.insert(standing.permit());
        }
        if source == Source::Jwt {
            let expiry = Expiry::never();
            expiry.set(self.time_left(&token));
            assigns.insert(expiry.clone());
            identity.renewal = Some(Arc::new(Renewal {
                authority: Arc::clone(self),
                params: params.clone(),
                identity: identity.clone(),
                subject: token.content["sub"].clone(),
                expiry,
                standing,
            }));
        }
        assigns.insert(identity);
        Ok(())
    }

    /// The client's token, and its source; a token of nothing if the identity comes from its params.
    ///
    /// # Errors
    /// If the token is wrong or expired. Then the server does not fall back to the params.
    async fn token(
        &self,
        params: &Params,
        auth_token: Option<&str>,
    ) -> Result<(Source, VerifiedToken), ConnectRefused> {
        let all = self.tokens();
        for source in self.config.sources() {
            match source {
                Source::Params => return Ok((source, VerifiedToken::none())),
                // It stands last: the client has sent no token.
                Source::Hook if all.is_empty() => {
                    return Ok((source, VerifiedToken::none()));
                }
                Source::Hook | Source::PhoenixToken | Source::Jwt => {}
            }
            let mut accepted = all.iter().filter(|tokens| tokens.source == source);
            let Some(tokens) = accepted.next() else {
                continue;
            };
            let param = value_at(params.as_map(), &tokens.param);
            let token = match (param.filter(|token| !is_absent(token)), auth_token) {
                // A token that is no string is wrong, not absent.
                (Some(token), _) => token.as_str().unwrap_or_default(),
                (None, Some(token)) if !token.is_empty() => token,
                (None, _) => continue,
            };
            let verified = tokens.verifier.verify(token).await;
            return verified
                .map(|token| (source, token))
                .map_err(ConnectRefused::from);
        }
        Err(TokenRefused::Missing.counted().into())
    }

    /// The identity with the fields of a token, those of the backend, and the socket's id.
    ///
    /// # Errors
    /// If the token is revoked, the backend refuses it, or a required field is null.
    async fn complete(
        &self,
        identity: Identity,
        params: &Params,
        token: &VerifiedToken,
    ) -> Result<Identity, ConnectRefused> {
        identity.set_user(self.fields(params, &token.content)?);
        self.refuse_revoked(token, &identity)?;
        let mut identity = match &self.hook {
            _ if !self.config.asks_hook() => identity,
            Some(hook) => {
                let identity = backend::connect(hook, identity, params).await?;
                // It may have given the user another id, and its answer took a while.
                self.refuse_revoked(token, &identity)?;
                identity
            }
            None => return Err(ConnectRefused::unavailable("there is no hook")),
        };
        let user = identity.user();
        let lacks = |name: &&String| user.get(&**name).is_none_or(Value::is_null);
        if let Some(name) = self.config.require.iter().find(lacks) {
            return Err(ConnectRefused::because(format!(
                "no {name} in the identity"
            )));
        }
        let values = Values {
            user: Some(&user),
            ..Values::default()
        };
        let name = self.config.socket_id.as_ref();
        identity.name = name.and_then(|template| template.text(&values));
        Ok(identity)
    }

    fn refuse_revoked(
        &self,
        token: &VerifiedToken,
        identity: &Identity,
    ) -> Result<(), TokenRefused> {
        let revocations = self.revocations.as_ref();
        match revocations.filter(|all| standing::is_revoked(token, &identity.user(), all)) {
            Some(_) => Err(TokenRefused::Revoked.counted()),
            None => Ok(()),
        }
    }

    fn fields(&self, params: &Params, token: &Value) -> Result<Value, ConnectRefused> {
        let connect = Value::Object(params.as_map().clone());
        let uuid = Uuid::random().to_string();
        let values = Values {
            connect: Some(&connect),
            token: Some(token),
            uuid: &uuid,
            now: Some(SystemTime::now()),
            ..Values::default()
        };
        let Some(fields) = &self.config.fields else {
            return Ok(json!({}));
        };
        let rendered = fields.render(&values, MAX_BYTES);
        let rendered = rendered.map_err(|_| ConnectRefused::because("identity too long"))?;
        // A template writes JSON.
        Ok(serde_json::from_str(&rendered.with_id("")).unwrap_or_default())
    }

    /// The time until the server closes the connection. `None`: it does not.
    fn time_left(&self, token: &VerifiedToken) -> Option<Duration> {
        let close_after = self.config.jwt.as_ref()?.close_after();
        let end = token.expires?.checked_add(close_after)?;
        Some(end.duration_since(SystemTime::now()).unwrap_or_default())
    }
}

impl Renewal {
    /// The `sub` of the token, as text.
    pub(super) fn subject(&self) -> Option<Cow<'_, str>> {
        text_of(&self.subject)
    }

    /// Gives the connection's identity the fields of a new token, and moves the end of its connection. Returns `exp`.
    ///
    /// # Errors
    /// If the token is wrong, expired or revoked, or another user's, or its user is banned. Then nothing changes.
    pub(super) async fn renew(&self, token: &str) -> Result<Option<SystemTime>, ConnectRefused> {
        let authority = &self.authority;
        let all = authority.tokens();
        let mut accepted = all.iter();
        let accepted = accepted.find(|tokens| tokens.source == Source::Jwt);
        let accepted = accepted.ok_or_else(|| ConnectRefused::because("no tokens"))?;
        let token = accepted
            .verifier
            .verify(token)
            .await
            .map_err(ConnectRefused::from)?;
        let mut new = Identity::new(Value::Null);
        new.headers = self.identity.headers.clone();
        let new = authority.complete(new, &self.params, &token).await?;
        let (old, user) = (&self.identity, new.user());
        // A token without a name must say the same of its user.
        let is_named = !self.subject.is_null() || new.name.is_some();
        let is_same = token.content["sub"] == self.subject
            && new.name == old.name
            && (is_named || user == old.user());
        if !is_same {
            return Err(TokenRefused::OtherUser.counted().into());
        }
        let name = new.user_id();
        let name = name
            .as_deref()
            .or(self.subject().as_deref())
            .map(str::to_owned);
        let bans = authority.bans.as_ref();
        if bans.is_some_and(|bans| bans.refuses(name.as_deref(), None)) {
            return Err(ConnectRefused::because("banned"));
        }
        old.set_user(Value::clone(&user));
        if let Some(standing) = &self.standing {
            standing.renew(&token);
            // A revocation since the check has asked about the token before this one.
            if standing.is_revoked() {
                self.expiry.set(Some(Duration::ZERO));
                return Err(TokenRefused::Revoked.counted().into());
            }
        }
        self.expiry.set(authority.time_left(&token));
        Ok(token.expires)
    }
}

/// The param with this name, or at this path of names with dots.
fn value_at<'a>(params: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = params.get(path) {
        return Some(value);
    }
    let (name, rest) = path.split_once('.')?;
    value_at(params.get(name)?.as_object()?, rest)
}

/// Whether a page has sent a variable without a token: an empty one, or what JavaScript writes for none.
fn is_absent(token: &Value) -> bool {
    matches!(token.as_str(), Some("" | "undefined" | "null"))
}
