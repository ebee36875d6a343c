//! The parts of the endpoint, from the settings: topics, mount, rooms, limits.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::ban::Bans;
use crate::endpoint::{Mount, TransportOptions};
use crate::log::{LogRule, MessageStore};
use crate::pattern::ForTopics;
use crate::presence::Presence;
use crate::pubsub::PubSub;
use crate::rate::{Rate, SharedRate};
use crate::revocation::Revocations;
use crate::server::config::{Durability, ServeConfig, Switch};
use crate::server::hook::Hook;
use crate::server::language::IdentityConfig;
use crate::server::rooms::{
    self, Identified, IdentityError, IdentityKeys, LiveRooms, Room, UserConnections,
};
use crate::server::told::Teller;
use crate::slow_mode::SlowModes;
use crate::socket::{OutboxLimits, RateLimits, SharedLimits, Socket, SocketOptions, SocketRouter};
use crate::transport::{CheckOrigin, HandshakeOptions, InvalidHost, InvalidOrigin};

/// The path of the socket.
pub(super) const MOUNT: &str = "/socket";

/// The topics, with log rules for the rooms behind the program's own.
pub(super) fn pubsub(
    config: &ServeConfig,
    own: Vec<LogRule>,
    store: &Arc<dyn MessageStore>,
) -> PubSub {
    let mut rules = own;
    for room in rooms(config) {
        let own = rules.iter().map(ForTopics::pattern);
        // The program's own log takes the place of the room's.
        if !own.into_iter().any(|own| own.covers(&room.topics)) {
            rules.push(rule(&room, config.durability, store));
        }
    }
    PubSub::with_logs(rules)
}

/// The parts of a server that the rooms use, where it has them.
#[derive(Default)]
pub(super) struct RoomServices<'a> {
    /// Asks the backend.
    pub(super) hook: Option<Arc<Hook>>,
    /// Tells the backend.
    pub(super) teller: Option<Arc<Teller>>,
    /// They end connections; without them only joins and handshakes are checked.
    pub(super) revocations: Option<&'a Revocations>,
    /// The users and addresses that may not connect, or not write.
    pub(super) bans: Option<&'a Bans>,
    /// The topics in which members may not write often.
    pub(super) slow_modes: Option<&'a SlowModes>,
    /// Shows who is in the rooms.
    pub(super) presence: Option<Presence>,
}

/// The mount of the rooms.
pub(super) struct RoomMount {
    pub(super) mount: Mount,
    pub(super) changeable: ChangeableRooms,
}

/// What can change of the rooms while they are served.
#[derive(Clone)]
pub(super) struct ChangeableRooms {
    /// The keys of `[identity]`.
    pub(super) keys: IdentityKeys,
    /// Their histories and limits, and the keys of `join.token`.
    pub(super) rooms: LiveRooms,
    /// Of each connection.
    limits: SharedLimits,
    /// Changes of presences by one connection.
    presences: Arc<SharedRate>,
    /// Of each user. `None`: nobody counts them.
    connections: Option<Arc<UserConnections>>,
}

named_debug!(ChangeableRooms);

impl ChangeableRooms {
    /// The limits of these settings hold from now on.
    pub(super) fn set_limits(&self, config: &ServeConfig) {
        self.limits.set(rates(config), config.max_channels);
        self.presences.set(presences(config));
        if let (Some(connections), Some(identity)) = (&self.connections, &config.identity) {
            connections.set_max(identity.max_connections);
        }
    }
}

fn rates(config: &ServeConfig) -> RateLimits {
    RateLimits {
        joins: Rate::new(config.joins_per_second, config.joins_burst),
        pushes: Rate::new(config.pushes_per_second, config.pushes_burst),
        bytes: Rate::new(config.bytes_per_second, config.bytes_burst),
    }
}

fn presences(config: &ServeConfig) -> Rate {
    Rate::new(config.presences_per_second, config.presences_burst)
}

/// The mount at `/socket`. The program's own channels come before the rooms. `revocations`: those that end connections;
/// `None`: there can be none.
///
/// # Errors
/// If the identity cannot be configured.
pub(super) fn mount(
    config: &ServeConfig,
    socket: impl Socket,
    router: SocketRouter,
    check_origin: CheckOrigin,
    RoomServices {
        hook,
        teller,
        revocations,
        bans,
        slow_modes,
        presence,
    }: RoomServices<'_>,
) -> Result<RoomMount, IdentityError> {
    let options = SocketOptions {
        timeout: config.idle_timeout,
        max_frame_size: config.max_frame_size,
        max_channels: config.max_channels,
        outbox: OutboxLimits {
            bytes: config.outbox_bytes,
            frames: config.outbox_frames,
        },
        rates: rates(config),
        message_timeout: config.message_timeout,
        ..SocketOptions::default()
    };
    let identity = config.identity.as_ref();
    let transports = TransportOptions {
        longpoll: Some("longpoll".to_owned()),
        handshake: HandshakeOptions {
            check_origin,
            compress: config.compress == Switch::On,
            auth_token: identity.is_some_and(IdentityConfig::has_tokens),
            headers: hook
                .as_ref()
                .map_or_else(Vec::new, |hook| hook.headers().to_vec()),
            ..HandshakeOptions::default()
        },
        ..TransportOptions::default()
    };
    let configured = rooms(config);
    let router = match presence {
        Some(presence) => router.state(presence),
        None => router,
    };
    let router = match &hook {
        Some(hook) => router.state(Arc::clone(hook)),
        None => router,
    };
    // Each join copies the state, so it has nothing that no room uses.
    let tells = |room: &Room| room.rules.tell.has_members();
    let router = match teller.filter(|_| configured.iter().any(tells)) {
        Some(teller) => router.state(teller),
        None => router,
    };
    let secret = config.api.secret_key_base.as_deref();
    let none = Revocations::default();
    let revoked = revocations.unwrap_or(&none);
    let heeded = (bans, slow_modes);
    let (router, live) = rooms::with_rooms(router, &configured, secret, revoked, heeded)?;
    let identity = rooms::identity(config.identity.as_ref(), &configured);
    let mut rules = configured.iter().map(|room| &room.rules);
    let changed = rules.any(|rules| rules.changes_presence);
    let presences = Arc::new(SharedRate::new(presences(config)));
    let socket = Identified::new(
        identity,
        secret,
        hook,
        changed.then(|| Arc::clone(&presences)),
        (revocations, bans),
        socket,
    )?;
    let (keys, connections) = (socket.keys(), socket.connections());
    let mount = Mount::new(MOUNT, socket, router)
        .transports(transports)
        .options(options);
    let limits = mount.limits();
    let further: BTreeSet<_> = config.socket_paths.iter().collect();
    let further = further.into_iter().filter(|path| *path != MOUNT);
    let mount = further.fold(mount, |mount, path| mount.also_at(path));
    Ok(RoomMount {
        mount,
        changeable: ChangeableRooms {
            keys,
            rooms: live,
            limits,
            presences,
            connections,
        },
    })
}

/// The presences of the rooms, if one shows who is there.
pub(super) fn presence(config: &ServeConfig, pubsub: &PubSub) -> Option<Presence> {
    rooms::presence(&rooms(config), pubsub)
}

/// Why the rule for origins cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OriginError {
    /// `--check-origin`.
    #[error("--check-origin: {0}")]
    CheckOrigin(#[from] InvalidOrigin),
    /// `--public-host`.
    #[error("--public-host: {0}")]
    PublicHost(#[from] InvalidHost),
}

/// The rule for origins. A server with a public host accepts pages of that host only. A server without one
/// accepts pages of its IP address.
///
/// # Errors
/// If one of the two settings is not valid.
pub(super) fn check_origin(config: &ServeConfig) -> Result<CheckOrigin, OriginError> {
    let public_host = config.public_host.as_deref();
    let public_host = public_host.map(str::parse).transpose()?;
    Ok(match (config.check_origin.parse()?, public_host) {
        (CheckOrigin::OwnAddress, Some(host)) => CheckOrigin::Host(host),
        (CheckOrigin::OwnAddress, None) if config.host.is_loopback() => {
            CheckOrigin::OwnAddressOrLoopback
        }
        (other, _) => other,
    })
}

/// The configured rooms.
pub(super) fn rooms(config: &ServeConfig) -> Vec<Room> {
    let rooms = config.rooms.iter();
    rooms
        .map(|room| Room::new(room, config.history, config.history_limit))
        .collect()
}

/// The log rule of a room.
fn rule(room: &Room, durability: Durability, store: &Arc<dyn MessageStore>) -> LogRule {
    let events = room.stored_events();
    LogRule::new(
        room.topics.clone(),
        &events,
        room.history_limit,
        Arc::clone(store),
    )
    .resume_limit(room.resume_limit)
    .strict(durability == Durability::Strict)
}
