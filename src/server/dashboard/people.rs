//! People: connections, and what ends them or keeps them away.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::Dashboard;
use super::audit::Deed;
use super::operator::Operator;
use super::requests::{Answer, NewBan, NewBanKind, Revoked, Whom};
use super::rooms::{MAX_ROWS, connection, unix};
use crate::ban::{Ban, BanKind, BanTarget};
use crate::message::MAX_NAME_LEN;
use crate::revocation::{Revocation, RevokedSubject};
use crate::server::sanctions::Sanctions;
use crate::socket::{ConnectionFilter, Traffic};

/// The longest time of a revocation or a ban: a hundred years.
const MAX_SECONDS: u64 = 100 * 365 * 86_400;

impl Dashboard {
    pub(super) async fn connections(&self, whom: Whom) -> Answer {
        let filter = ConnectionFilter {
            address: whom.ip()?,
            user: whom.user,
            ..ConnectionFilter::default()
        };
        let listed = self
            .0
            .services
            .endpoint
            .list_sockets(filter, MAX_ROWS)
            .await;
        let rows = listed.sockets.iter().map(|info| {
            let mut row = connection(info);
            row["channels"] = json!(info.topics);
            row["received_bytes"] = json!(info.traffic.received_bytes);
            row["sent_bytes"] = json!(info.traffic.sent_bytes);
            row["limited"] = json!(info.traffic.limited);
            row
        });
        let rows: Vec<_> = rows.collect();
        let Traffic {
            received_bytes,
            sent_bytes,
            limited,
            ..
        } = listed.traffic;
        let sum = json!({
            "received_bytes": received_bytes,
            "sent_bytes": sent_bytes,
            "limited": limited,
        });
        Ok(json!({ "connections": rows, "total": listed.total, "sum": sum }))
    }

    pub(super) async fn disconnect(&self, whom: Whom, operator: Operator) -> Answer {
        self.may_change()?;
        let id = match &whom.connection {
            None => None,
            Some(id) => Some(
                id.parse()
                    .map_err(|_| format!("There is no connection {id:?}."))?,
            ),
        };
        let address = whom.ip()?;
        let filter = ConnectionFilter {
            id,
            address,
            user: whom.user.clone(),
            ..ConnectionFilter::default()
        };
        if filter == ConnectionFilter::default() {
            return Err("Name a connection, a user or an address.".to_owned());
        }
        let ended = self.0.services.endpoint.disconnect(filter).await;
        let deed = Deed {
            user: whom.user.as_deref(),
            address: address.as_ref().map(|address| address as _),
            id: id.as_ref().map(|id| id as _),
            count: Some(ended as u64),
            ..Deed::default()
        };
        operator.audit("disconnected", &deed);
        Ok(json!({ "disconnected": ended }))
    }

    pub(super) async fn revoke(&self, revoked: Revoked, operator: Operator) -> Answer {
        let sanctions = self.sanctions()?;
        let Revoked { user, seconds } = revoked;
        check_user(&user)?;
        let now = SystemTime::now();
        let revocation = Revocation {
            ends: now + lasting(seconds)?,
            subject: RevokedSubject::User(user.clone()),
            not_before: now,
        };
        let done = sanctions.revoke(&revocation).await;
        done.map_err(|error| format!("Nothing was revoked: {error}."))?;
        let deed = Deed {
            user: Some(&user),
            seconds: Some(seconds),
            ..Deed::default()
        };
        operator.audit("revoked tokens", &deed);
        Ok(json!({}))
    }

    pub(super) async fn ban(&self, new: NewBan, operator: Operator) -> Answer {
        let sanctions = self.sanctions()?;
        let target = match (new.range()?, new.user) {
            (Some(range), None) => BanTarget::Address(range),
            (None, Some(user)) => {
                check_user(&user)?;
                BanTarget::User(user)
            }
            _ => return Err("Name either a user or an address.".to_owned()),
        };
        let kind = match new.kind {
            NewBanKind::Ban => BanKind::Ban,
            NewBanKind::Mute => BanKind::Mute,
        };
        let ends = SystemTime::now() + lasting(new.seconds)?;
        let done = sanctions.ban(kind, target, ends).await;
        let (ban, _) = done.map_err(|error| format!("Nothing was changed: {error}."))?;
        let done = match kind {
            BanKind::Ban => "banned",
            BanKind::Mute => "muted",
        };
        audit_ban(&operator, done, &ban, Some(new.seconds));
        Ok(json!({}))
    }

    pub(super) fn bans(&self) -> Answer {
        let Some(sanctions) = &self.0.services.sanctions else {
            return Ok(json!({ "bans": [] }));
        };
        let (bans, total) = sanctions.bans(MAX_ROWS);
        let bans: Vec<_> = bans.iter().map(ban_row).collect();
        Ok(json!({ "bans": bans, "total": total }))
    }

    pub(super) async fn unban(&self, id: String, operator: Operator) -> Answer {
        let removed = self.sanctions()?.unban(&id).await;
        let removed = removed.map_err(|error| format!("Nothing was changed: {error}."))?;
        let ban = removed.ok_or("There is no such ban any more.")?;
        audit_ban(&operator, "lifted", &ban, None);
        Ok(json!({}))
    }

    pub(super) fn sanctions(&self) -> Result<&Sanctions, String> {
        self.may_change()?;
        let sanctions = self.0.services.sanctions.as_ref();
        sanctions.ok_or_else(|| {
            "A server without a database (persist is off) keeps no revocations, bans and slow modes."
                .to_owned()
        })
    }
}

fn ban_row(ban: &Ban) -> Value {
    let mut row = json!({
        "id": ban.id,
        "kind": match ban.kind {
            BanKind::Ban => "ban",
            BanKind::Mute => "mute",
        },
        "until": unix(ban.ends),
    });
    match &ban.target {
        BanTarget::User(user) => row["user"] = json!(user),
        BanTarget::Address(range) => row["address"] = json!(range.to_string()),
    }
    row
}

fn audit_ban(operator: &Operator, done: &str, ban: &Ban, seconds: Option<u64>) {
    let mut deed = Deed {
        id: Some(&ban.id),
        seconds,
        ..Deed::default()
    };
    match &ban.target {
        BanTarget::User(user) => deed.user = Some(user),
        BanTarget::Address(range) => deed.address = Some(range),
    }
    operator.audit(done, &deed);
}

/// The time until an end.
pub(super) fn lasting(seconds: u64) -> Result<Duration, String> {
    match seconds {
        1..=MAX_SECONDS => Ok(Duration::from_secs(seconds)),
        _ => Err("The time must be at least a second and at most a hundred years.".to_owned()),
    }
}

/// Refuses a name that the database cannot store.
fn check_user(user: &str) -> Result<(), String> {
    if user.is_empty() || user.len() > MAX_NAME_LEN || user.contains('\0') {
        return Err(format!(
            "The user must have 1 to {MAX_NAME_LEN} bytes, without NUL."
        ));
    }
    Ok(())
}
