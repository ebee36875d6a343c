//! [`PresenceBuilder`], and the callbacks that it sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::shared::Shared;
use super::{Presence, Presences};
use crate::pubsub::PubSub;

type Fetch = dyn Fn(&str, Presences) -> Presences + Send + Sync;
type HandleMetas = dyn Fn(&str, &Presences, &Presences, &Presences) + Send + Sync;
type ChangesOf = dyn Fn(&str) -> Changes + Send + Sync;
type GraceOf = dyn Fn(&str) -> Duration + Send + Sync;

/// What the members of a topic get when somebody comes or goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Changes {
    /// Each change as [`PRESENCE_DIFF`](super::PRESENCE_DIFF).
    #[default]
    Diffs,
    /// The number of keys as [`PRESENCE_COUNT`](super::PRESENCE_COUNT), at most once a second. In a topic with
    /// 10,000 members each diff goes to 10,000 of them; their number is one small message a second. Between nodes,
    /// too, only numbers travel: each node lists its own clients, and a user on two nodes counts twice.
    Count,
    /// Nothing.
    Nothing,
}

/// What a [`Presence`] asks its program.
#[derive(Default)]
pub(super) struct Callbacks {
    pub(super) fetch: Option<Box<Fetch>>,
    pub(super) handle_metas: Option<Box<HandleMetas>>,
    changes: Option<Box<ChangesOf>>,
    grace: Option<Box<GraceOf>>,
}

impl Callbacks {
    /// What the members of this topic get of changes.
    pub(super) fn changes(&self, topic: &str) -> Changes {
        let changes = self.changes.as_ref();
        changes.map_or_else(Changes::default, |changes| changes(topic))
    }

    /// For how long presences stay in this topic after their client's connection is lost.
    pub(super) fn grace(&self, topic: &str) -> Duration {
        let grace = self.grace.as_ref();
        grace.map_or(Duration::ZERO, |grace| grace(topic))
    }
}

/// Sets the callbacks of a [`Presence`].
pub struct PresenceBuilder {
    pubsub: PubSub,
    callbacks: Callbacks,
}

named_debug!(PresenceBuilder);

impl PresenceBuilder {
    pub(super) fn new(pubsub: PubSub) -> Self {
        Self {
            pubsub,
            callbacks: Callbacks::default(),
        }
    }

    /// Adds data to presences before they are sent or listed. `fetch` gets the topic and the presences of a
    /// list, of a diff's joins, or of its leaves. It must return the same keys, each with its `metas`. It
    /// runs under the presences' lock, so it must be quick and must not use the `Presence`. Phoenix:
    /// `fetch/2`.
    pub fn fetch(
        mut self,
        fetch: impl Fn(&str, Presences) -> Presences + Send + Sync + 'static,
    ) -> Self {
        self.callbacks.fetch = Some(Box::new(fetch));
        self
    }

    /// Runs after each change, with the topic, the joins, the leaves, and all presences of the topic.
    /// It runs under the presences' lock, in the order of the changes, and must not use the `Presence`.
    /// Phoenix: `handle_metas/4`.
    pub fn handle_metas(
        mut self,
        handle: impl Fn(&str, &Presences, &Presences, &Presences) + Send + Sync + 'static,
    ) -> Self {
        self.callbacks.handle_metas = Some(Box::new(handle));
        self
    }

    /// Says by the topic what its members get when somebody comes or goes. Default: [`Changes::Diffs`].
    pub fn changes(mut self, changes: impl Fn(&str) -> Changes + Send + Sync + 'static) -> Self {
        self.callbacks.changes = Some(Box::new(changes));
        self
    }

    /// Says by the topic for how long a presence stays after its client's connection has ended, unless the client has
    /// left, was disconnected, or its channel has ended by itself. If the client is present again meanwhile, under the same key and on any node, the others
    /// get one diff with the join and the leave: a reload of a page shows nobody as gone. Default: not at all, as in
    /// Phoenix.
    ///
    /// ```
    /// use std::time::Duration;
    /// use slackir::presence::Presence;
    /// use slackir::pubsub::PubSub;
    ///
    /// let presence = Presence::builder(PubSub::new()).grace(|_topic| Duration::from_secs(5)).build();
    /// # let _ = presence;
    /// ```
    pub fn grace(mut self, grace: impl Fn(&str) -> Duration + Send + Sync + 'static) -> Self {
        self.callbacks.grace = Some(Box::new(grace));
        self
    }

    /// Makes the `Presence`.
    pub fn build(self) -> Presence {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        #[cfg(feature = "_cluster")]
        let neighbours = self.pubsub.neighbours();
        let shared = Shared::new(id, self.pubsub, self.callbacks);
        let presence = Presence {
            shared: Arc::new(shared),
        };
        #[cfg(feature = "_cluster")]
        if let Some(neighbours) = &neighbours {
            presence.join_cluster(neighbours);
        }
        presence
    }
}
