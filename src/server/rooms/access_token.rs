//! The event `access_token`: a client renews the JWT that names it.

use std::time::SystemTime;

use serde_json::json;

use super::channel::{RoomChannel, log_refusal, refuse};
use crate::channel::{Context, HandleIn, HandleInResult, Refused};
use crate::message::{Payload, reason};

pub(super) const ACCESS_TOKEN: &str = "access_token";

impl RoomChannel {
    /// Verifies the new token. The reply has `expires_in`, in seconds; null for a token without an end.
    pub(super) async fn renew(&self, payload: &Payload, ctx: &Context<Self>) -> HandleInResult {
        let Some(renewal) = self.member.renewal() else {
            return Err(refuse(reason::UNKNOWN_EVENT, ACCESS_TOKEN, ctx).into());
        };
        let token = match payload {
            Payload::Json(json) => json.members([ACCESS_TOKEN]).and_then(|[token]| token),
            Payload::Binary(_) => None,
        };
        let token = token.and_then(|token| serde_json::from_str::<String>(token.get()).ok());
        let Some(token) = token else {
            log_refusal(reason::INVALID_PAYLOAD, ACCESS_TOKEN, ctx);
            let answer = json!({ "reason": reason::INVALID_PAYLOAD, "field": ACCESS_TOKEN });
            return Err(Refused::new(answer).into());
        };
        match renewal.renew(&token).await {
            Ok(expires) => {
                let left = expires.map(|at| at.duration_since(SystemTime::now()));
                let left = left.map(|left| left.unwrap_or_default().as_secs());
                Ok(HandleIn::ok(json!({ "expires_in": left })))
            }
            Err(_) => Err(refuse(reason::UNAUTHORIZED, ACCESS_TOKEN, ctx).into()),
        }
    }
}
