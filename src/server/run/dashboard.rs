//! The operators' dashboard of a server, if it has one.

use std::net::SocketAddr;

use actix_web::web::ServiceConfig;
use serde_json::json;

use super::ServeError;
use crate::server::config::{LogFormat, ServeConfig, SettingInForce};
use crate::server::dashboard::{self, DashboardError, DashboardServices, ServedDashboard};

/// Refuses settings with which there can be no dashboard. Before anything is opened.
pub(super) fn check(config: &ServeConfig) -> Result<(), ServeError> {
    let password = config.dashboard.password();
    password
        .map(drop)
        .map_err(|error| DashboardError::from(error).into())
}

/// Whether there is a dashboard at this address of the operators.
pub(super) fn is_on(config: &ServeConfig, address: SocketAddr) -> bool {
    config.dashboard.dashboard_password.is_some() || address.ip().is_loopback()
}

/// The dashboard; `None` if it is off.
pub(super) fn open(
    services: DashboardServices,
    in_force: Vec<SettingInForce>,
) -> Result<Option<ServedDashboard>, ServeError> {
    let is_on = is_on(&services.config, services.address);
    let open = || ServedDashboard::open(services, in_force);
    Ok(is_on.then(open).transpose()?)
}

/// The routes of the dashboard; none if there is none.
pub(super) fn routes(
    dashboard: Option<&ServedDashboard>,
) -> impl FnOnce(&mut ServiceConfig) + Clone + Send + use<> {
    let parts = dashboard.map(|it| (it.dashboard.clone(), it.endpoint.clone()));
    dashboard::routes(parts)
}

/// Keeps its numbers. Never returns.
pub(super) fn keep(dashboard: &ServedDashboard) -> impl Future<Output = ()> + use<> {
    let ServedDashboard {
        dashboard,
        endpoint,
        ..
    } = dashboard;
    dashboard.clone().keep(endpoint.clone())
}

/// The line with the link that lets one browser in. The log does not have it.
pub(super) fn link(config: &ServeConfig, dashboard: &ServedDashboard) -> Option<String> {
    let url = dashboard.link.as_ref()?;
    Some(match config.log_format {
        LogFormat::Text => format!("dashboard {url}"),
        LogFormat::Json => json!({ "message": "dashboard", "url": url }).to_string(),
    })
}
