//! Parts of the server, from its settings.

use std::net::TcpListener;
use std::sync::Arc;

use actix_web::web::ServiceConfig;

use super::{ServeError, http};
use crate::metrics;
use crate::server::config::{RoomConfig, ServeConfig, Switch, WebsocketDriver};
use crate::server::hook::{Hook, HookError};
use crate::server::language::IdentityConfig;
use crate::server::rooms::Room;
use crate::store::ColumnFields;

/// The payload members that fill the columns `name` and `message` for this room.
pub(super) fn columns(room: &Room) -> ColumnFields {
    ColumnFields {
        topics: room.topics.clone(),
        name: room.fields.name.clone(),
        message: room.fields.message.clone(),
    }
}

/// The backend of `[hook]`.
pub(super) fn hook(config: &ServeConfig) -> Result<Option<Arc<Hook>>, HookError> {
    let identity = config.identity.as_ref();
    let asks = identity.is_some_and(IdentityConfig::asks_hook);
    match &config.hook {
        Some(hook) => Ok(Some(Arc::new(Hook::new(hook)?))),
        None if asks || config.rooms.iter().any(RoomConfig::asks_hook) => Err(HookError::Missing),
        None if config.rooms.iter().any(|room| !room.tell.is_empty()) => {
            Err(HookError::MissingToTell)
        }
        None => Ok(None),
    }
}

/// The listener for operators, if they have one of their own.
pub(super) fn operators_listener(config: &ServeConfig) -> Result<Option<TcpListener>, ServeError> {
    let address = config.admin.admin_listen;
    let listen = |address| {
        let listener = http::listen(address, config.backlog);
        listener.map_err(|source| ServeError::Listen { address, source })
    };
    address.map(listen).transpose()
}

/// Places the routes for operators: on the main listener, or on their own.
pub(super) fn place<R: FnOnce(&mut ServiceConfig) + Clone + Send + 'static>(
    routes: R,
    own: Option<TcpListener>,
) -> (
    impl FnOnce(&mut ServiceConfig) + Clone + Send + 'static + use<R>,
    Option<(R, TcpListener)>,
) {
    let (here, elsewhere) = match own {
        None => (Some(routes), None),
        Some(listener) => (None, Some((routes, listener))),
    };
    let here = move |config: &mut ServiceConfig| {
        if let Some(routes) = here {
            config.configure(routes);
        }
    };
    (here, elsewhere)
}

/// Shows in the metrics what runs.
pub(super) fn show_build(config: &ServeConfig) {
    let database = match config.persist {
        Switch::Off => "none",
        Switch::On if config.database.is_postgres() => "postgres",
        Switch::On => "sqlite",
    };
    let driver = match config.websocket_driver {
        WebsocketDriver::Direct => "direct",
        WebsocketDriver::ActixWs => "actix-ws",
    };
    metrics::show_build(database, driver);
}
