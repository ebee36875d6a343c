//! The origins that the server accepts, and the columns of its database, from the settings.

use super::ServeError;
use crate::server::config::ServeConfig;
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
