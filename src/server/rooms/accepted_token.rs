//! [`JoinVerifier`]: verifies the tokens that the joins of a room need.

use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;

use super::identity::{Identity, IdentityError};
use crate::message::{Payload, RawJson};
use crate::revocation::Revocations;
use crate::server::language::JoinToken;
use crate::server::tokens::{TokenRefused, TokenVerifier, text_of};

/// Verifies the tokens that the joins of a room need.
pub(super) struct JoinVerifier {
    config: JoinToken,
    /// Read once for each token.
    tokens: RwLock<Arc<TokenVerifier>>,
    revocations: Revocations,
}

impl JoinVerifier {
    /// # Errors
    /// If there is no key, or it cannot be used.
    pub(super) fn new(
        config: &JoinToken,
        secret: Option<&str>,
        revocations: &Revocations,
    ) -> Result<Self, IdentityError> {
        Ok(Self {
            config: config.clone(),
            tokens: RwLock::new(Arc::new(verifier(config, secret)?)),
            revocations: revocations.clone(),
        })
    }

    /// Reads the keys again. Those behind a URL are kept: they are fetched when a token needs them.
    ///
    /// # Errors
    /// If a key cannot be used.
    pub(super) fn read(&self, secret: Option<&str>) -> Result<Arc<TokenVerifier>, IdentityError> {
        let old = self.tokens();
        if old.is_remote() {
            return Ok(old);
        }
        verifier(&self.config, secret).map(Arc::new)
    }

    /// Verifies the tokens of the joins to come with these keys.
    pub(super) fn set(&self, keys: Arc<TokenVerifier>) {
        // No code panics while it holds this lock.
        let tokens = self.tokens.write();
        *tokens.unwrap_or_else(PoisonError::into_inner) = keys;
    }

    fn tokens(&self) -> Arc<TokenVerifier> {
        Arc::clone(&self.tokens.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The content of the token among these join params.
    ///
    /// # Errors
    /// If it is missing, wrong, expired, or revoked as the token of the connection's user or of its own `sub`.
    pub(super) async fn verify(
        &self,
        params: &Payload,
        identity: Option<&Identity>,
    ) -> Result<Value, TokenRefused> {
        let token = match params {
            Payload::Json(params) => text_at(params, self.config.param()),
            Payload::Binary(_) => None,
        };
        let token = token.ok_or_else(|| TokenRefused::Missing.counted())?;
        let token = self.tokens().verify(&token).await?;
        let user = identity.map(Identity::user);
        let user = user.as_ref().and_then(|user| text_of(&user["id"]));
        let is_revoked = [user, token.subject()]
            .iter()
            .any(|user| token.is_revoked(user.as_deref(), &self.revocations));
        if is_revoked {
            return Err(TokenRefused::Revoked.counted());
        }
        Ok(token.content)
    }
}

fn verifier(config: &JoinToken, secret: Option<&str>) -> Result<TokenVerifier, IdentityError> {
    Ok(match config {
        JoinToken::Phoenix(tokens) => TokenVerifier::phoenix(tokens, secret)?,
        JoinToken::Jwt(tokens) => TokenVerifier::jwt(tokens)?,
    })
}

/// The text of the member with this name, or at this path of names with dots.
fn text_at(params: &RawJson, path: &str) -> Option<String> {
    if let Some([Some(text)]) = params.members([path]) {
        return serde_json::from_str(text.get()).ok();
    }
    let (name, rest) = path.split_once('.')?;
    let [inner] = params.members([name])?;
    text_at(&RawJson::trusted(inner?.get().into()), rest)
}
