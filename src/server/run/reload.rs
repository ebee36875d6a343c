//! SIGHUP: reads the settings again, and applies those that can change while the server runs. A mistake changes
//! nothing.

use std::sync::Arc;

use super::checked::auth;
use super::{ServeError, dashboard, database, http};
use crate::admission::{Admission, AdmissionOptions};
use crate::pubsub::PubSub;
use crate::revocation::Revocations;
use crate::server::admin::MetricsToken;
use crate::server::api::Api;
use crate::server::certificates::{Certificates, NewCertificate};
use crate::server::config::{
    ChangedSettings, Cli, RoomConfig, RunningSettings, ServeConfig, SwitchedOn,
};
use crate::server::dashboard::ChangeableDashboard;
use crate::server::hook::{Hook, HookError};
use crate::server::rooms::Room;
use crate::server::sockets::{self, ChangeableRooms};
use crate::server::telemetry::Logging;
use crate::store::RetentionRules;
use crate::transport::SharedOrigin;

/// The parts of a server that take new settings.
pub(super) struct Reloadable {
    pub(super) admission: Admission,
    pub(super) origin: SharedOrigin,
    pub(super) api: Option<Api>,
    pub(super) rooms: ChangeableRooms,
    pub(super) pubsub: PubSub,
    /// `None`: nothing is saved.
    pub(super) retention: Option<RetentionRules>,
    pub(super) metrics_token: MetricsToken,
    pub(super) revocations: Revocations,
    /// `None`: the port is plain, and stays so.
    pub(super) certificates: Option<Certificates>,
    /// `None`: it is off, and stays so.
    pub(super) dashboard: Option<ChangeableDashboard>,
    /// The backend of `[hook]`.
    pub(super) hook: Option<Arc<Hook>>,
}

impl Reloadable {
    /// Applies the settings, and of the rooms these: the rooms of the server with those new settings that can change.
    ///
    /// # Errors
    /// If one cannot be used. Then none is applied.
    fn apply(
        &self,
        config: &ServeConfig,
        rooms: &[RoomConfig],
        logging: &Logging,
    ) -> Result<(), ServeError> {
        let origin = sockets::check_origin(config)?;
        let auth = auth(config, &self.revocations)?;
        let metrics_token = MetricsToken::new(config.admin.metrics_token.as_deref())?;
        let secret = config.api.secret_key_base.as_deref();
        let keys = self.rooms.keys.read(secret)?;
        let join_keys = self.rooms.rooms.read_keys(secret)?;
        dashboard::check(config)?;
        let hook = self.hook.as_deref();
        let hook_secret = hook.map(Hook::read_secret).transpose();
        let hook_secret = hook_secret.map_err(HookError::from)?;
        let certificate = match &self.certificates {
            Some(_) => NewCertificate::read(&config.tls)?,
            None => None,
        };
        // The last one that can fail.
        logging.set_filter(&config.log)?;
        self.origin.set(origin);
        if let Some(api) = &self.api {
            api.set_auth(auth);
        }
        self.metrics_token.set(&metrics_token);
        if let (Some(hook), Some(secret)) = (hook, hook_secret) {
            hook.set_secret(secret);
        }
        self.rooms.keys.set(keys);
        self.rooms.rooms.set_keys(join_keys);
        self.rooms.set_limits(config);
        self.change_rooms(config, rooms);
        if let (Some(certificates), Some(new)) = (&self.certificates, certificate) {
            certificates.set(new);
        }
        let old = self.admission.options();
        self.admission.set_options(AdmissionOptions {
            // The HTTP server has been built with it.
            max_connections: old.max_connections,
            ..http::admission_options(config, old.max_files)
        });
        Ok(())
    }

    /// Applies the histories, limits and retentions of these rooms.
    fn change_rooms(&self, config: &ServeConfig, rooms: &[RoomConfig]) {
        if let Some(retention) = &self.retention {
            retention.set(database::retention_rules(rooms));
        }
        let rooms: Vec<_> = rooms
            .iter()
            .map(|room| Room::new(room, config.history, config.history_limit))
            .collect();
        for room in &rooms {
            let (history, resume) = (room.history_limit, room.resume_limit);
            self.pubsub.set_log_limits(&room.topics, history, resume);
        }
        if let Some(api) = &self.api {
            api.set_rooms(&rooms);
        }
        if let Some(dashboard) = &self.dashboard {
            dashboard.set_rooms(&rooms);
        }
        self.rooms.rooms.set(&rooms);
    }
}

/// Reads the settings of the command line again.
pub(super) struct Reloader {
    running: RunningSettings,
    /// `None` while the server starts.
    parts: Option<Reloadable>,
}

impl Reloader {
    pub(super) fn new(running: RunningSettings) -> Self {
        let parts = None;
        Self { running, parts }
    }

    /// From now on settings are applied to these parts.
    pub(super) fn begin(&mut self, parts: Reloadable) {
        self.parts = Some(parts);
    }

    /// Reads the settings, applies them, and logs what has changed.
    pub(super) fn reload(&mut self, logging: &Logging) {
        let Some(parts) = &self.parts else {
            tracing::info!(signal = "SIGHUP", "serve.signal.ignored");
            return;
        };
        let mut cli = match Cli::load() {
            Ok(cli) => cli,
            Err(error) => {
                tracing::error!(
                    %error,
                    "serve.reload.failed: nothing has changed; mend the setting and send SIGHUP \
                     again"
                );
                return;
            }
        };
        let settings = std::mem::take(&mut cli.in_force);
        let config = cli.into_serve();
        let rooms = self.running.rooms_with(&config);
        if let Err(error) = parts.apply(&config, &rooms, logging) {
            tracing::error!(
                %error,
                "serve.reload.failed: nothing has changed; mend the setting and send SIGHUP again"
            );
            return;
        }
        let switched_on = SwitchedOn {
            api: parts.api.is_some(),
            dashboard: parts.dashboard.is_some(),
        };
        let ChangedSettings {
            applied,
            need_restart,
        } = self.running.take(&settings, &config, switched_on);
        if let Some(dashboard) = &parts.dashboard {
            dashboard.set(&config, self.running.settings());
        }
        let (changed, restart) = (applied.join(", "), need_restart.join(", "));
        tracing::info!(
            signal = "SIGHUP",
            log = config.log,
            changed,
            restart,
            "serve.reloaded"
        );
    }
}
