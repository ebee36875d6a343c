//! [`JoinVerifier`]: verifies the tokens that the joins of a room need.

use serde_json::Value;

use super::identity::{Identity, IdentityError};
use crate::message::{Payload, RawJson};
use crate::revocation::Revocations;
use crate::server::language::JoinToken;
use crate::server::tokens::{TokenRefused, TokenVerifier, text_of};

/// Verifies the tokens that the joins of a room need.
pub(super) struct JoinVerifier {
    tokens: TokenVerifier,
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
            tokens: match config {
                JoinToken::Phoenix(tokens) => TokenVerifier::phoenix(tokens, secret)?,
                JoinToken::Jwt(tokens) => TokenVerifier::jwt(tokens)?,
            },
            revocations: revocations.clone(),
        })
    }

    /// The content of the token among these join params.
    ///
    /// # Errors
    /// If it is missing, wrong, expired, or revoked as the token of the connection's user or of its own `sub`.
    pub(super) async fn verify(
        &self,
        config: &JoinToken,
        params: &Payload,
        identity: Option<&Identity>,
    ) -> Result<Value, TokenRefused> {
        let token = match params {
            Payload::Json(params) => text_at(params, config.param()),
            Payload::Binary(_) => None,
        };
        let token = token.ok_or_else(|| TokenRefused::Missing.counted())?;
        let token = self.tokens.verify(&token).await?;
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

/// The text of the member with this name, or at this path of names with dots.
fn text_at(params: &RawJson, path: &str) -> Option<String> {
    if let Some([Some(text)]) = params.members([path]) {
        return serde_json::from_str(text.get()).ok();
    }
    let (name, rest) = path.split_once('.')?;
    let [inner] = params.members([name])?;
    text_at(&RawJson::trusted(inner?.get().into()), rest)
}
