//! [`RoleVerifier`]: verifies JSON Web Tokens with a claim that lets callers use the HTTP API.

use serde_json::Value;

use super::refused::TokenRefused;
use super::verified::VerifiedToken;
use super::verifier::TokenVerifier;
use crate::revocation::Revocations;
use crate::server::config::{ApiJwtConfig, JwtSetupError};

/// Verifies the tokens of `[api]`.
pub(crate) struct RoleVerifier {
    verifier: TokenVerifier,
    claim: String,
    values: Vec<String>,
    revocations: Revocations,
}

impl RoleVerifier {
    /// # Errors
    /// If a key cannot be read or used.
    pub(crate) fn new(
        config: &ApiJwtConfig,
        revocations: &Revocations,
    ) -> Result<Self, JwtSetupError> {
        Ok(Self {
            verifier: TokenVerifier::jwt(&config.jwt)?,
            claim: config.claim.clone(),
            values: config.values.clone(),
            revocations: revocations.clone(),
        })
    }

    /// Verifies a token now, and counts a refusal.
    ///
    /// # Errors
    /// If it is wrong, expired or revoked, or if there are no keys. [`TokenRefused::Role`]: it is valid, and its claim
    /// has no accepted value.
    pub(crate) async fn verify(&self, token: &str) -> Result<VerifiedToken, TokenRefused> {
        let token = self.verifier.verify(token).await?;
        let refused = if token.is_revoked(token.subject().as_deref(), &self.revocations) {
            TokenRefused::Revoked
        } else if self.lets_in(&token.content) {
            return Ok(token);
        } else {
            TokenRefused::Role(self.claim.clone())
        };
        Err(refused.counted())
    }

    /// Whether the claim, a string or a list of strings, has an accepted value. A claim with dots is looked up as one
    /// name, and then as a path.
    fn lets_in(&self, claims: &Value) -> bool {
        let whole = &claims[&self.claim];
        let found = if whole.is_null() {
            let steps = self.claim.split('.');
            steps.fold(claims, |value, step| &value[step])
        } else {
            whole
        };
        let is_accepted = |value: &Value| {
            let text = value.as_str();
            text.is_some_and(|text| self.values.iter().any(|one| one == text))
        };
        match found {
            Value::Array(values) => values.iter().any(is_accepted),
            value => is_accepted(value),
        }
    }
}
