//! What `slackir` does beside serving: one file a command.

#[cfg(feature = "_store")]
pub(crate) mod data;
#[cfg(feature = "_store")]
pub(crate) mod migrate;
pub(crate) mod token;
