//! The settings that SIGHUP applies to a server that runs, and what has changed in them.

use super::{RoomConfig, ServeConfig, SettingInForce};

/// By their names in the config file. `[api]`, some settings of `[[rooms]]`, and one of `[identity]` are applied, too;
/// of the other sections nothing is.
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
    "history",
    "history_limit",
    "max_channels",
    "joins_per_second",
    "joins_burst",
    "pushes_per_second",
    "pushes_burst",
    "bytes_per_second",
    "bytes_burst",
    "presences_per_second",
    "presences_burst",
    "api_token",
    "api_token_file",
    "api_token_salt",
    "api_token_max_age",
    "api_requests_per_second",
    "api_requests_burst",
    "metrics_token",
    "metrics_token_file",
    "secret_key_base",
    "secret_key_base_file",
    DASHBOARD_PASSWORD,
    "dashboard_password_file",
];

/// They are applied to a server that has TLS; only a restart can switch it on or off.
const TLS_CERT: &str = "tls_cert";
const TLS_KEY: &str = "tls_key";
const DASHBOARD_PASSWORD: &str = "dashboard_password";

/// What the server has since its start. Only a restart can switch it on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SwitchedOn {
    /// The HTTP API.
    pub(crate) api: bool,
    /// The dashboard.
    pub(crate) dashboard: bool,
}

/// The settings of a server that runs. Those that need a restart stay what they were at its start.
pub(crate) struct RunningSettings {
    settings: Vec<SettingInForce>,
    /// For its sections.
    config: ServeConfig,
    /// Whether the connections of each user are counted: only a restart can begin with it.
    counts_connections: bool,
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
        let identity = config.identity.as_ref();
        Self {
            counts_connections: identity.is_some_and(|it| it.max_connections.is_some()),
            settings,
            config,
        }
    }

    /// The settings in force.
    #[cfg(feature = "_store")]
    pub(crate) fn settings(&self) -> &[SettingInForce] {
        &self.settings
    }

    /// Takes the new settings that are applied, and names all that have changed.
    pub(crate) fn take(
        &mut self,
        new: &[SettingInForce],
        config: &ServeConfig,
        switched_on: SwitchedOn,
    ) -> ChangedSettings {
        let mut changed = ChangedSettings::default();
        for setting in &mut self.settings {
            let name = &setting.name;
            let mut same_name = new.iter().filter(|new| new.name == *name);
            let Some(new) = same_name.next() else {
                continue;
            };
            if new.value == setting.value {
                setting.source.clone_from(&new.source);
                continue;
            }
            let is_tls = name == TLS_CERT || name == TLS_KEY;
            let is_off = name.starts_with("api_") && !switched_on.api
                || name.starts_with(DASHBOARD_PASSWORD) && !switched_on.dashboard
                || is_tls && (setting.value.is_none() || new.value.is_none());
            if !RELOADED.contains(&name.as_str()) || is_off {
                changed.need_restart.push(name.clone());
                continue;
            }
            changed.applied.push(name.clone());
            setting.value.clone_from(&new.value);
            setting.source.clone_from(&new.source);
        }
        self.take_rooms(config, &mut changed);
        self.take_max_connections(config, &mut changed);
        self.sections(config, switched_on.api, &mut changed);
        changed
    }

    /// The rooms that run, with those settings of the new ones that can change.
    pub(crate) fn rooms_with(&self, new: &ServeConfig) -> Vec<RoomConfig> {
        let mut rooms = self.config.rooms.clone();
        // Only then a member has a name of its own, by which the limit of users counts.
        let has_users =
            self.config.identity.is_some() || rooms.iter().any(|room| room.limit.user.is_some());
        for room in &mut rooms {
            let Some(new) = new.rooms.iter().find(|new| new.topics == room.topics) else {
                continue;
            };
            room.history = new.history;
            room.history_limit = new.history_limit;
            room.resume_limit = new.resume_limit;
            room.max_message_bytes = new.max_message_bytes;
            room.retention.clone_from(&new.retention);
            if has_users || new.limit.user.is_none() {
                room.limit = new.limit;
            }
        }
        rooms
    }

    /// Takes the settings of rooms that are applied.
    fn take_rooms(&mut self, config: &ServeConfig, changed: &mut ChangedSettings) {
        let rooms = self.rooms_with(config);
        for (old, new) in self.config.rooms.iter().zip(&rooms) {
            let settings = [
                ("history", old.history != new.history),
                ("history_limit", old.history_limit != new.history_limit),
                ("resume_limit", old.resume_limit != new.resume_limit),
                (
                    "max_message_bytes",
                    old.max_message_bytes != new.max_message_bytes,
                ),
                ("retention", old.retention != new.retention),
                ("limit", old.limit != new.limit),
            ];
            let applied = settings.iter().filter(|(_, is_changed)| *is_changed);
            let topics = &old.topics;
            changed
                .applied
                .extend(applied.map(|(name, _)| format!("[[rooms]] {topics} {name}")));
        }
        self.config.rooms = rooms;
    }

    /// Takes the one setting of `[identity]` that is applied.
    fn take_max_connections(&mut self, new: &ServeConfig, changed: &mut ChangedSettings) {
        let sections = self.config.identity.as_mut().zip(new.identity.as_ref());
        let Some((old, new)) = sections.filter(|_| self.counts_connections) else {
            return;
        };
        if old.max_connections != new.max_connections {
            old.max_connections = new.max_connections;
            let name = "[identity] max_connections";
            changed.applied.push(name.to_owned());
        }
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
