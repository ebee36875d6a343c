//! [`Settings`]: the settings that the dashboard shows and heeds. SIGHUP changes them.

use std::sync::{Arc, PoisonError};

use super::{Dashboard, ServedDashboard};
use crate::admission::AdmissionOptions;
use crate::endpoint::Endpoint;
use crate::server::config::{ServeConfig, SettingInForce};
use crate::server::rooms::Room;

/// Settings that are read together.
pub(super) struct Settings {
    /// Those in force, with their sources. Empty for a program that makes its settings itself.
    pub(super) in_force: Vec<SettingInForce>,
    /// All that were read last. Some of them wait for a restart.
    pub(super) read: ServeConfig,
}

impl Dashboard {
    /// The present settings.
    pub(super) fn settings(&self) -> Arc<Settings> {
        // No code panics while it holds this lock.
        let settings = self.0.settings.read();
        Arc::clone(&settings.unwrap_or_else(PoisonError::into_inner))
    }

    /// The configured rooms, with their present settings.
    pub(super) fn rooms(&self) -> Arc<[Room]> {
        let rooms = self.0.rooms.read();
        Arc::clone(&rooms.unwrap_or_else(PoisonError::into_inner))
    }
}

/// What SIGHUP changes of a dashboard.
pub(crate) struct ChangeableDashboard {
    dashboard: Dashboard,
    /// Of its sockets.
    endpoint: Endpoint,
}

named_debug!(ChangeableDashboard);

impl ServedDashboard {
    /// What SIGHUP changes of it.
    pub(crate) fn changeable(&self) -> ChangeableDashboard {
        ChangeableDashboard {
            dashboard: self.dashboard.clone(),
            endpoint: self.endpoint.clone(),
        }
    }
}

impl ChangeableDashboard {
    /// From now on the same rooms have these settings.
    pub(crate) fn set_rooms(&self, rooms: &[Room]) {
        let present = self.dashboard.0.rooms.write();
        *present.unwrap_or_else(PoisonError::into_inner) = rooms.into();
    }

    /// From now on it shows and heeds these settings. `in_force`: those of them that a server applies while it runs, and
    /// the others as they were at its start. A new password ends all sessions.
    pub(crate) fn set(&self, read: &ServeConfig, in_force: &[SettingInForce]) {
        let shared = &self.dashboard.0;
        let old = shared.admission.options();
        shared.admission.set_options(AdmissionOptions {
            trusted_proxies: read.trusted_proxies.clone(),
            ..(*old).clone()
        });
        let new = Settings {
            in_force: in_force.to_vec(),
            read: read.clone(),
        };
        let settings = shared.settings.write();
        *settings.unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        let password = read.dashboard.dashboard_password.as_deref();
        if shared.sessions.set_password(password) {
            let endpoint = self.endpoint.clone();
            actix_rt::spawn(async move { endpoint.check_permits().await });
        }
    }
}
