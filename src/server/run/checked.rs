//! [`Checked`]: what can be wrong in the settings, found before anything is opened.

use std::sync::Arc;

use super::{ServeError, dashboard, parts, told};
use crate::revocation::Revocations;
use crate::server::admin::MetricsToken;
use crate::server::api::Auth;
use crate::server::certificates::Certificates;
use crate::server::config::{ServeConfig, Switch};
use crate::server::hook::Hook;
use crate::server::sockets;
use crate::server::told::Teller;
use crate::transport::SharedOrigin;

/// Parts of the server that need nothing but the settings.
pub(super) struct Checked {
    pub(super) origin: SharedOrigin,
    /// `None`: the HTTP API is off.
    pub(super) auth: Option<Auth>,
    pub(super) metrics_token: MetricsToken,
    /// Empty; the database fills it.
    pub(super) revocations: Revocations,
    /// `None`: the port is plain.
    pub(super) certificates: Option<Certificates>,
    pub(super) hook: Option<Arc<Hook>>,
    /// The backend that is told, and what it is to be told.
    pub(super) backend: Option<(Arc<Hook>, Arc<Teller>)>,
}

impl Checked {
    /// # Errors
    /// If a setting cannot be used.
    pub(super) fn new(config: &ServeConfig) -> Result<Self, ServeError> {
        parts::show_build(config);
        let metrics_token = MetricsToken::new(config.admin.metrics_token.as_deref())?;
        let origin = SharedOrigin::new(sockets::check_origin(config)?);
        let revocations = Revocations::default();
        let auth = auth(config, &revocations)?;
        dashboard::check(config)?;
        let certificates = Certificates::open(&config.tls)?;
        let hook = parts::hook(config)?;
        let backend = hook.clone().zip(told::teller(config)?);
        Ok(Self {
            origin,
            auth,
            metrics_token,
            revocations,
            certificates,
            hook,
            backend,
        })
    }
}

/// The authorization of the HTTP API; `None` if the API is off.
pub(super) fn auth(
    config: &ServeConfig,
    revocations: &Revocations,
) -> Result<Option<Auth>, ServeError> {
    let auth = Auth::with_jwt(&config.api, config.api_jwt.as_ref(), revocations)?;
    if auth.is_some() && config.persist == Switch::Off {
        return Err(ServeError::ApiWithoutStore);
    }
    Ok(auth)
}
