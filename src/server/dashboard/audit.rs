//! The log lines that say who has done what on the dashboard.

use std::fmt;

use actix_web::HttpRequest;
use tracing::field::display;

use super::Dashboard;
use super::operator::Operator;
use crate::server::telemetry::AUDIT;

/// The one actor of these lines: whoever has the password.
const ACTOR: &str = "dashboard";

/// What an action was done to.
#[derive(Default)]
pub(super) struct Deed<'a> {
    pub(super) topic: Option<&'a str>,
    pub(super) event: Option<&'a str>,
    pub(super) user: Option<&'a str>,
    pub(super) address: Option<&'a dyn fmt::Display>,
    /// Of a message, a connection or a ban.
    pub(super) id: Option<&'a dyn fmt::Display>,
    /// How long it lasts.
    pub(super) seconds: Option<u64>,
    /// Of a slow mode, in seconds.
    pub(super) interval: Option<u64>,
    /// How many connections or lines.
    pub(super) count: Option<u64>,
}

impl Operator {
    /// Logs an action.
    pub(super) fn audit(&self, done: &str, deed: &Deed<'_>) {
        let Deed {
            topic,
            event,
            user,
            seconds,
            interval,
            count,
            ..
        } = *deed;
        let (address, id) = (deed.address.map(display), deed.id.map(display));
        let peer = self.address.map(display);
        tracing::info!(
            target: AUDIT,
            done, topic, event, user, address, id, interval, seconds, count, actor = ACTOR, peer,
            "dashboard.action"
        );
    }

    /// Logs the begin or the end of a session.
    pub(super) fn audit_session(&self, done: &str, by: &str) {
        let peer = self.address.map(display);
        tracing::info!(target: AUDIT, done, by, actor = ACTOR, peer, "dashboard.session.changed");
    }
}

impl Dashboard {
    /// Logs a refused attempt to sign in.
    pub(super) fn audit_refused(&self, request: &HttpRequest, by: &str, reason: &str) {
        let peer = self.address(request).map(display);
        tracing::info!(target: AUDIT, by, reason, actor = ACTOR, peer, "dashboard.login.refused");
    }
}
