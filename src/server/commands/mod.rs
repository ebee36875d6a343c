//! The commands of `slackir` other than `serve`.

#[cfg(feature = "_store")]
pub(crate) mod backup;
#[cfg(feature = "_store")]
pub(crate) mod client;
#[cfg(feature = "_store")]
pub(crate) mod config;
#[cfg(feature = "_store")]
pub(crate) mod data;
mod jwt;
#[cfg(feature = "_store")]
pub(crate) mod migrate;
pub(crate) mod rooms;
pub(crate) mod secret;
#[cfg(feature = "_store")]
pub(crate) mod service;
pub(crate) mod token;
