//! The commands of `slackir` other than `serve`.

#[cfg(feature = "_store")]
pub(crate) mod config;
#[cfg(feature = "_store")]
pub(crate) mod data;
#[cfg(feature = "_store")]
pub(crate) mod migrate;
pub(crate) mod rooms;
pub(crate) mod token;
