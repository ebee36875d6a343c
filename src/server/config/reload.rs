//! The settings that SIGHUP applies to a server that runs.

/// By their names in the config file. The sections `[identity]` and so on are not settings.
pub(crate) const RELOADED: &[&str] = &["log"];
