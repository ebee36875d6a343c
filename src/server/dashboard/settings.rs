//! [`Settings`]: the settings that the dashboard shows and heeds. SIGHUP changes them.

use std::sync::{Arc, PoisonError};

use super::Dashboard;
use crate::admission::AdmissionOptions;
use crate::server::config::{ServeConfig, SettingInForce};

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

    /// From now on it shows and heeds these settings. `in_force`: those of them that a server applies while it runs, and
    /// the others as they were at its start.
    pub(crate) fn reload(&self, read: &ServeConfig, in_force: &[SettingInForce]) {
        let old = self.0.admission.options();
        self.0.admission.set_options(AdmissionOptions {
            trusted_proxies: read.trusted_proxies.clone(),
            ..(*old).clone()
        });
        let new = Settings {
            in_force: in_force.to_vec(),
            read: read.clone(),
        };
        let mut settings = self
            .0
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *settings = Arc::new(new);
    }
}
