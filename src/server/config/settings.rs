//! [`Config`]: the settings of a server, for programs. What they are made of may change.

use std::ffi::OsStr;
use std::path::Path;

use super::{CliError, ServeConfig};

/// The settings of a [`Server`](crate::server::Server): those of `slackir serve`. docs/CONFIGURATION.md lists them.
///
/// ```
/// use slackir::server::Config;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config::from_args(["--port", "4001", "--persist", "off"])?;
/// # assert!(format!("{config:?}").contains("4001"));
/// let config = Config::from_toml("port = 4001")?;
/// assert!(Config::from_toml("prot = 4001").is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Config(pub(crate) ServeConfig);

/// The settings of a server are not valid. The message is written for the user who set them.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SettingsError(#[from] CliError);

impl Config {
    /// The settings that `slackir serve` would have with these arguments, from the environment and the file as
    /// well. The arguments do not begin with the program's name.
    ///
    /// # Errors
    /// If a setting is not valid.
    pub fn from_args<T: AsRef<OsStr>>(
        args: impl IntoIterator<Item = T>,
    ) -> Result<Self, SettingsError> {
        Ok(Self(ServeConfig::from_args(args)?))
    }

    /// The settings of the text of a config file. All others are the defaults: neither a command line nor the
    /// environment is read.
    ///
    /// # Errors
    /// If a setting is not valid. The error names the line.
    pub fn from_toml(text: &str) -> Result<Self, SettingsError> {
        Ok(Self(ServeConfig::from_toml(text)?))
    }

    /// As [`from_toml`](Self::from_toml), for a file.
    ///
    /// # Errors
    /// If the file cannot be read or a setting is not valid. The error names the file and the line.
    pub fn from_file(path: &Path) -> Result<Self, SettingsError> {
        Ok(Self(ServeConfig::from_file(path)?))
    }
}

/// Without the secrets.
impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("host", &self.0.host)
            .field("port", &self.0.port)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Server;

    #[test]
    fn neither_settings_nor_a_server_print_a_secret() {
        let args = ["--api-token", "0123456789-s3cret", "--port", "4001"];
        let config = Config::from_args(args).expect("valid");
        let server = Server::from_config(config.clone());
        for text in [format!("{config:?}"), format!("{server:?}")] {
            assert!(text.contains("4001") && !text.contains("s3cret"), "{text}");
        }
    }
}
