//! [`MemberNotices`]: what the backend is told about one membership.

use std::sync::{Arc, LazyLock};

use serde_json::Value;

use super::channel::RoomChannel;
use super::identity::Identity;
use super::member::Member;
use super::room::Room;
use crate::channel::Context;
use crate::server::language::Tell;
use crate::server::told::{Teller, ToldMember};

static NOBODY: LazyLock<Arc<Value>> = LazyLock::new(|| Arc::new(serde_json::json!({})));

/// The notices of one membership.
pub(super) struct MemberNotices {
    teller: Arc<Teller>,
    tell: Tell,
    /// The join was told: the end is told, too.
    is_told: bool,
}

impl MemberNotices {
    /// `None` if the room tells nothing of its members, or nobody listens.
    pub(super) fn of(room: &Room, ctx: &Context<RoomChannel>) -> Option<Self> {
        let tell = room.rules.tell;
        if !tell.has_members() {
            return None;
        }
        let teller = ctx.assigns().get::<Arc<Teller>>()?;
        Some(Self {
            teller: Arc::clone(teller),
            tell,
            is_told: false,
        })
    }

    pub(super) fn joined(&mut self, member: &Member, topic: &str) {
        self.is_told = true;
        with_facts(member, topic, |facts| self.teller.joined(self.tell, facts));
    }

    /// Does nothing unless the join was told, and at the second call.
    pub(super) fn left(&mut self, member: &Member, topic: &str, reason: &str) {
        if std::mem::take(&mut self.is_told) {
            with_facts(member, topic, |facts| {
                self.teller.left(self.tell, facts, reason);
            });
        }
    }
}

fn with_facts(member: &Member, topic: &str, tell: impl FnOnce(ToldMember<'_>)) {
    let identity = member.identity();
    let user = identity.map_or_else(|| Arc::clone(&NOBODY), Identity::user);
    tell(ToldMember {
        topic,
        socket: identity.map_or("", |identity| &identity.socket_id),
        user: &user,
    });
}
