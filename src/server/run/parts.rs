//! The origins that the server accepts, the backend that it asks, and the columns of its database, from the settings.

use std::sync::Arc;

use super::ServeError;
use crate::server::config::{RoomConfig, ServeConfig};
use crate::server::hook::{Hook, HookError};
use crate::server::language::IdentityConfig;
use crate::server::rooms::Room;
use crate::store::ColumnFields;
use crate::transport::CheckOrigin;

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
