//! The settings of the operators' dashboard. It is off unless `dashboard_password` is set, or the server listens on a
//! loopback address only.

use clap::Args;

/// The shortest password, in characters: a shorter one could be guessed.
const MIN_PASSWORD: usize = 12;

/// Who may use the operators' dashboard.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct DashboardConfig {
    /// Password of the operators' dashboard at /dashboard; at least 12 characters. Without it the dashboard is
    /// off, except on a loopback address: there the start prints a link that lets one browser in
    #[arg(
        long,
        env = "SLACKIR_DASHBOARD_PASSWORD",
        hide_env_values = true,
        value_name = "PASSWORD"
    )]
    pub dashboard_password: Option<String>,
}

/// The password of the dashboard could be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--dashboard-password: at least {MIN_PASSWORD} characters are needed")]
pub struct ShortPassword;

impl DashboardConfig {
    /// The password, if there is one.
    ///
    /// # Errors
    /// If it is too short. clap does not check that, because its message would show the password.
    #[cfg(feature = "_store")]
    pub(crate) fn password(&self) -> Result<Option<&str>, ShortPassword> {
        let password = self.dashboard_password.as_deref();
        match password {
            Some(password) if password.chars().count() < MIN_PASSWORD => Err(ShortPassword),
            password => Ok(password),
        }
    }
}
