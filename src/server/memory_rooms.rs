//! [`MemoryRooms`]: configured rooms in the program's own process, without network and database.

use std::sync::Arc;

use crate::endpoint::Endpoint;
use crate::log::{MemoryStore, MessageStore};
use crate::pubsub::PubSub;
use crate::server::config::{Config, ServeConfig, SettingsError, Switch};
use crate::server::rooms::{IdentityError, UserSocket};
use crate::server::sockets::{self, MOUNT, RoomServices};
use crate::socket::SocketRouter;
use crate::transport::CheckOrigin;

/// The rooms of a configuration, as `slackir serve` has them, for tests: the endpoint is not served, and the messages
/// are in a [`MemoryStore`].
///
/// ```
/// # #[cfg(feature = "testing")] {
/// use serde_json::json;
/// use slackir::server::MemoryRooms;
/// use slackir::testing::TestSocket;
///
/// let rooms = MemoryRooms::from_toml(r#"
///     [identity]
///     fields = { name = "{connect.name}" }
///     require = ["name"]
///     [[rooms]]
///     topics = "room:*"
///     on.new_msg = { require = { body = "string 1..2000" }, stamp = { name = "{user.name}" } }
/// "#).unwrap();
///
/// # actix_rt::System::new().block_on(async {
/// let connect = |params| TestSocket::connect(rooms.endpoint(), "/socket", params);
/// assert!(connect(json!({})).await.is_err());
/// let mut ada = connect(json!({"name": "ada"})).await.unwrap();
/// let mut bob = connect(json!({"name": "bob"})).await.unwrap();
/// ada.subscribe_and_join("room:1", json!({})).await;
/// bob.subscribe_and_join("room:1", json!({})).await;
///
/// ada.push("room:1", "new_msg", json!({"body": "hi", "name": "root"}));
/// bob.assert_broadcast("new_msg", json!({"body": "hi", "name": "ada"})).await;
/// let empty = ada.push("room:1", "new_msg", json!({"body": ""}));
/// ada.assert_reply(&empty, "error", json!({"reason": "invalid payload", "field": "body"})).await;
/// # });
/// # }
/// ```
#[derive(Debug)]
pub struct MemoryRooms {
    endpoint: Endpoint,
    store: Arc<MemoryStore>,
}

/// The rooms of a configuration cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryRoomsError {
    /// The configuration is not valid.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The identity lacks a secret.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl MemoryRooms {
    /// The rooms of the text of a config file. The environment is not read.
    ///
    /// # Errors
    /// If the text is not valid (the error names the line), or the identity needs a `secret_key_base` and there is none.
    pub fn from_toml(text: &str) -> Result<Self, MemoryRoomsError> {
        Ok(Self::new(&Config::from_toml(text)?)?)
    }

    /// The rooms of these settings.
    ///
    /// # Errors
    /// If the identity needs a secret and there is none.
    pub fn new(config: &Config) -> Result<Self, IdentityError> {
        Self::over(config, MemoryStore::new())
    }

    /// The rooms of these settings over a store, which may hold messages.
    ///
    /// # Errors
    /// As [`MemoryRooms::new`].
    pub fn over(config: &Config, store: Arc<MemoryStore>) -> Result<Self, IdentityError> {
        Self::of(&config.0, store)
    }

    pub(crate) fn of(config: &ServeConfig, store: Arc<MemoryStore>) -> Result<Self, IdentityError> {
        let pubsub = match config.persist {
            Switch::On => {
                let store: Arc<dyn MessageStore> = Arc::<MemoryStore>::clone(&store);
                sockets::pubsub(config, Vec::new(), &store)
            }
            Switch::Off => PubSub::new(),
        };
        let router = SocketRouter::new();
        let services = RoomServices {
            presence: sockets::presence(config, &pubsub),
            ..RoomServices::default()
        };
        let rooms = sockets::mount(config, UserSocket, router, CheckOrigin::Off, services)?;
        let endpoint = Endpoint::builder(pubsub).mount(rooms.mount).build();
        Ok(Self { endpoint, store })
    }

    /// The endpoint, whose socket is mounted at `/socket`.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The saved messages.
    pub fn store(&self) -> &Arc<MemoryStore> {
        &self.store
    }

    /// The path of the socket.
    pub(crate) fn path(&self) -> &'static str {
        MOUNT
    }
}
