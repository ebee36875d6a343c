//! The settings that SIGHUP applies to a server that runs, and what has changed in them.

use super::{ServeConfig, SettingInForce};
use crate::server::language::JoinToken;

/// By their names in the config file. `[api]` is applied, too; the other sections are not.
pub(super) const RELOADED: &[&str] = &[
    "log",
    "check_origin",
    "public_host",
    "trusted_proxies",
    TLS_CERT,
    TLS_KEY,
    "max_connections_per_ip",
    "connects_per_second",
    "connects_burst",
    "api_token",
    "api_token_file",
    "api_token_salt",
    "api_token_max_age",
    "api_requests_per_second",
    "api_requests_burst",
    SECRET,
    "secret_key_base_file",
];

/// They are applied to a server that has TLS; only a restart can switch it on or off.
const TLS_CERT: &str = "tls_cert";
const TLS_KEY: &str = "tls_key";

/// It is applied to `[identity]` and to the HTTP API, and not to the joins of rooms.
const SECRET: &str = "secret_key_base";

/// The settings of a server that runs. Those that need a restart stay what they were at its start.
pub(crate) struct RunningSettings {
    settings: Vec<SettingInForce>,
    /// For its sections.
    config: ServeConfig,
}

named_debug!(RunningSettings, settings);

/// The names of changed settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChangedSettings {
    /// Those that are applied.
    pub(crate) applied: Vec<String>,
    /// Those that a restart applies.
    pub(crate) need_restart: Vec<String>,
}

impl RunningSettings {
    /// The settings at the start.
    pub(crate) fn new(settings: Vec<SettingInForce>, config: ServeConfig) -> Self {
        Self { settings, config }
    }

    /// The settings in force.
    #[cfg(feature = "_store")]
    pub(crate) fn settings(&self) -> &[SettingInForce] {
        &self.settings
    }

    /// Takes the new settings that are applied, and names all that have changed. `has_api`: whether the server has
    /// the HTTP API, which only a restart can switch on.
    pub(crate) fn take(
        &mut self,
        new: &[SettingInForce],
        config: &ServeConfig,
        has_api: bool,
    ) -> ChangedSettings {
        let mut changed = ChangedSettings::default();
        for setting in &mut self.settings {
            let name = &setting.name;
            let mut same_name = new.iter().filter(|new| new.name == *name);
            let Some(new) = same_name.next().filter(|new| new.value != setting.value) else {
                continue;
            };
            let is_tls = name == TLS_CERT || name == TLS_KEY;
            let is_off = name.starts_with("api_") && !has_api
                || is_tls && (setting.value.is_none() || new.value.is_none());
            if !RELOADED.contains(&name.as_str()) || is_off {
                changed.need_restart.push(name.clone());
                continue;
            }
            if name == SECRET
                && config
                    .rooms
                    .iter()
                    .any(|room| signs_joins(&room.join.token))
            {
                changed.need_restart.push("[[rooms]] join.token".to_owned());
            }
            changed.applied.push(name.clone());
            setting.value.clone_from(&new.value);
        }
        self.sections(config, has_api, &mut changed);
        changed
    }

    fn sections(&mut self, config: &ServeConfig, has_api: bool, changed: &mut ChangedSettings) {
        let old = &self.config;
        let restart = [
            ("[identity]", old.identity != config.identity),
            ("[hook]", old.hook != config.hook),
            ("[[rooms]]", old.rooms != config.rooms),
        ];
        let restart = restart.iter().filter(|(_, is_changed)| *is_changed);
        changed
            .need_restart
            .extend(restart.map(|(name, _)| (*name).to_owned()));
        if old.api_jwt != config.api_jwt {
            if has_api {
                changed.applied.push("[api]".to_owned());
                self.config.api_jwt.clone_from(&config.api_jwt);
            } else {
                changed.need_restart.push("[api]".to_owned());
            }
        }
    }
}

fn signs_joins(token: &Option<JoinToken>) -> bool {
    matches!(token, Some(JoinToken::Phoenix(_)))
}
