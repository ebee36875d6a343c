//! The parts of the endpoint, from the settings: topics, mount, rooms, limits, origins.

use std::sync::Arc;

use super::{MakeLogRule, ServeError};
use crate::endpoint::{Mount, TransportOptions};
use crate::log::{LogRule, MessageStore};
use crate::pubsub::PubSub;
use crate::rate::Rate;
use crate::server::config::{Durability, ServeConfig};
use crate::server::rooms::{self, Identified, Room};
use crate::socket::{OutboxLimits, RateLimits, Socket, SocketOptions, SocketRouter};
use crate::store::{ColumnFields, DbWriterHandle};
use crate::transport::{CheckOrigin, HandshakeOptions};

/// The rule for origins. A server with a public host accepts pages of that host only. A server without one
/// accepts pages of its IP address.
pub(super) fn check_origin(config: &ServeConfig) -> Result<CheckOrigin, ServeError> {
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

/// The topics, with log rules for the rooms and for the program's own topics.
pub(super) fn pubsub(
    config: &ServeConfig,
    logs: Vec<MakeLogRule>,
    writer: Option<&DbWriterHandle>,
) -> PubSub {
    let Some(writer) = writer else {
        return PubSub::new();
    };
    let store: Arc<dyn MessageStore> = Arc::new(writer.clone());
    let own = logs.into_iter().map(|log| log(Arc::clone(&store)));
    let rooms = rooms(config);
    let rules = own.chain(
        rooms
            .iter()
            .map(|room| rule(room, config.durability, &store)),
    );
    PubSub::with_logs(rules.collect())
}

/// The mount at `/socket`. The program's own channels come before the rooms.
pub(super) fn mount(
    config: &ServeConfig,
    socket: impl Socket,
    router: SocketRouter,
    check_origin: CheckOrigin,
    pubsub: &PubSub,
) -> Result<Mount, ServeError> {
    let options = SocketOptions {
        timeout: config.idle_timeout,
        max_frame_size: config.max_frame_size,
        max_channels: config.max_channels,
        outbox: OutboxLimits {
            bytes: config.outbox_bytes,
            frames: config.outbox_frames,
        },
        rates: RateLimits {
            joins: Rate::new(config.joins_per_second, config.joins_burst),
            pushes: Rate::new(config.pushes_per_second, config.pushes_burst),
            bytes: Rate::new(config.bytes_per_second, config.bytes_burst),
        },
        message_timeout: config.message_timeout,
        ..SocketOptions::default()
    };
    let transports = TransportOptions {
        longpoll: Some("longpoll".to_owned()),
        handshake: HandshakeOptions {
            check_origin,
            ..HandshakeOptions::default()
        },
        ..TransportOptions::default()
    };
    let configured = rooms(config);
    let router = match rooms::presence(&configured, pubsub) {
        Some(presence) => router.state(presence),
        None => router,
    };
    let router = rooms::with_rooms(router, &configured);
    let secret = config.api.secret_key_base.as_deref();
    let identity = rooms::identity(config.identity.as_ref(), &configured);
    let socket = Identified::new(identity, secret, socket)?;
    Ok(Mount::new("/socket", socket, router)
        .transports(transports)
        .options(options))
}

/// The configured rooms.
pub(super) fn rooms(config: &ServeConfig) -> Vec<Room> {
    let rooms = config.rooms.iter();
    rooms
        .map(|room| Room::new(room, config.history, config.history_limit))
        .collect()
}

/// The payload members that fill the columns `name` and `message` for this room.
pub(super) fn columns(room: &Room) -> ColumnFields {
    ColumnFields {
        topics: room.topics.clone(),
        name: room.fields.name.clone(),
        message: room.fields.message.clone(),
    }
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
