//! SIGHUP: reads the settings again, and applies those that can change while the server runs. A mistake changes
//! nothing.

use super::checked::auth;
use super::{ServeError, http};
use crate::admission::{Admission, AdmissionOptions};
use crate::revocation::Revocations;
use crate::server::api::Api;
use crate::server::certificates::{Certificates, NewCertificate};
use crate::server::config::{ChangedSettings, Cli, RunningSettings, ServeConfig};
use crate::server::rooms::IdentityKeys;
use crate::server::sockets;
use crate::server::telemetry::Logging;
use crate::transport::SharedOrigin;

/// The parts of a server that take new settings.
pub(super) struct Reloadable {
    pub(super) admission: Admission,
    pub(super) origin: SharedOrigin,
    pub(super) api: Option<Api>,
    pub(super) keys: IdentityKeys,
    pub(super) revocations: Revocations,
    /// `None`: the port is plain, and stays so.
    pub(super) certificates: Option<Certificates>,
}

impl Reloadable {
    /// Applies the settings.
    ///
    /// # Errors
    /// If one cannot be used. Then none is applied.
    fn apply(&self, config: &ServeConfig, logging: &Logging) -> Result<(), ServeError> {
        let origin = sockets::check_origin(config)?;
        let auth = auth(config, &self.revocations)?;
        let keys = self.keys.read(config.api.secret_key_base.as_deref())?;
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
        self.keys.set(keys);
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
        if let Err(error) = parts.apply(&config, logging) {
            tracing::error!(
                %error,
                "serve.reload.failed: nothing has changed; mend the setting and send SIGHUP again"
            );
            return;
        }
        let has_api = parts.api.is_some();
        let ChangedSettings {
            applied,
            need_restart,
        } = self.running.take(&settings, &config, has_api);
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
