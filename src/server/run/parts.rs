//! The backend that the server asks, and the columns of its database, from the settings.

use std::sync::Arc;

use crate::server::config::{RoomConfig, ServeConfig};
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
