//! [`OpenRooms`]: the sockets of clients, and what the rest of the server needs of them.

use std::sync::Arc;

use super::ServeError;
use super::checked::Checked;
use super::sanctions::KeptSanctions;
use crate::admission::Admission;
use crate::ban::Bans;
use crate::endpoint::Endpoint;
use crate::presence::Presence;
use crate::pubsub::PubSub;
use crate::server::config::ServeConfig;
use crate::server::sanctions::Sanctions;
use crate::server::sockets::{self, ChangeableRooms, RoomMount, RoomServices};
use crate::slow_mode::SlowModes;
use crate::socket::{Socket, SocketRouter};
use crate::store::DbWriterHandle;
use crate::transport::CheckOrigin;

/// The sockets of clients.
pub(super) struct OpenRooms {
    pub(super) endpoint: Endpoint,
    pub(super) presence: Option<Presence>,
    /// Revokes, bans and slows down; `None` without a database.
    pub(super) sanctions: Option<Sanctions>,
    /// What SIGHUP changes of them.
    pub(super) changeable: ChangeableRooms,
    /// What the database has of revocations, bans and slow modes; to be kept up to date.
    pub(super) kept: Option<KeptSanctions>,
}

impl OpenRooms {
    /// # Errors
    /// If the keys of clients' tokens cannot be used.
    pub(super) async fn open<S: Socket>(
        config: &ServeConfig,
        (socket, router): (S, SocketRouter),
        (pubsub, admission): (PubSub, Admission),
        writer: Option<&DbWriterHandle>,
        checked: &Checked,
    ) -> Result<Self, ServeError> {
        let revocations = &checked.revocations;
        let (bans, slow_modes) = (Bans::default(), SlowModes::default());
        let kept = match writer {
            Some(writer) => {
                Some(KeptSanctions::load(writer, revocations, &bans, &slow_modes).await)
            }
            None => None,
        };
        let presence = sockets::presence(config, &pubsub);
        let teller = checked.backend.as_ref();
        let RoomMount { mount, changeable } = sockets::mount(
            config,
            socket,
            router,
            CheckOrigin::Shared(checked.origin.clone()),
            RoomServices {
                hook: checked.hook.clone(),
                teller: teller.map(|(_, teller)| Arc::clone(teller)),
                revocations: kept.is_some().then_some(revocations),
                bans: Some(&bans),
                slow_modes: Some(&slow_modes),
                presence: presence.clone(),
            },
        )?;
        let endpoint = Endpoint::builder(pubsub)
            .admission(admission)
            .bans(bans)
            .mount(mount)
            .build();
        let sanctions = writer.zip(kept.as_ref()).map(|(writer, kept)| {
            let added = kept.added();
            Sanctions::new(revocations.clone(), slow_modes, writer, &endpoint, added)
        });
        Ok(Self {
            endpoint,
            presence,
            sanctions,
            changeable,
            kept,
        })
    }
}
