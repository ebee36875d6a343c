//! [`SecretFiles`]: secrets that are in files of their own, as systemd's `LoadCredential` and Docker have them.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

use super::file::FileLines;
use super::flags::mut_settings;

/// The settings that are secrets. Behind each, with `_file` at the end, is the setting that names its file.
pub(super) const SECRETS: [&str; 7] = [
    "database_url",
    "redis_url",
    "nats_url",
    "api_token",
    "secret_key_base",
    "dashboard_password",
    "metrics_token",
];

/// The most bytes of a secret.
const MAX_BYTES: u64 = 65_536;

/// A secret cannot be read from its file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretFileError {
    /// The setting and its file are both set.
    #[error("{setting} and {setting}_file are both set; remove one of them")]
    Both {
        /// The setting that is the secret.
        setting: &'static str,
    },
    /// The file cannot be read.
    #[error("{setting}_file: cannot read {}: {source}", path.display())]
    Read {
        /// The setting that is the secret.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The file has no secret.
    #[error("{setting}_file: {} {problem}", path.display())]
    Content {
        /// The setting that is the secret.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// The problem of its content.
        problem: &'static str,
    },
}

/// The secrets that were read from files.
#[derive(Default)]
pub(super) struct SecretFiles(Vec<Secret>);

struct Secret {
    setting: &'static str,
    path: PathBuf,
    text: String,
}

impl SecretFiles {
    /// Reads the files that the settings name. `lines`: the settings of the config file.
    ///
    /// # Errors
    /// If a file cannot be read, or its secret is set directly as well.
    pub(super) fn read(matches: &ArgMatches, lines: &FileLines) -> Result<Self, SecretFileError> {
        let mut secrets = Vec::new();
        for setting in SECRETS {
            let named = format!("{setting}_file");
            // The command may have no such setting.
            let Ok(Some(path)) = matches.try_get_one::<PathBuf>(&named) else {
                continue;
            };
            let is_default = matches.value_source(setting) == Some(ValueSource::DefaultValue);
            let is_set = matches.contains_id(setting) && (!is_default || lines.has(setting));
            if is_set {
                return Err(SecretFileError::Both { setting });
            }
            secrets.push(Secret {
                setting,
                path: path.clone(),
                text: read(setting, path)?,
            });
        }
        Ok(Self(secrets))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The file that a secret comes from.
    pub(super) fn path_of(&self, setting: &str) -> Option<&Path> {
        let mut secrets = self.0.iter();
        let secret = secrets.find(|secret| secret.setting == setting);
        secret.map(|secret| &*secret.path)
    }

    /// The command, with the secrets as defaults.
    pub(super) fn as_defaults(&self, command: Command) -> Command {
        let default = |arg: clap::Arg| {
            let mut secrets = self.0.iter();
            match secrets.find(|secret| arg.get_id() == secret.setting) {
                Some(secret) => arg.default_value(&secret.text),
                None => arg,
            }
        };
        mut_settings(command, &default)
    }
}

/// The text of a secret's file. A line break at its end does not belong to the secret.
fn read(setting: &'static str, path: &Path) -> Result<String, SecretFileError> {
    let failed = |source| SecretFileError::Read {
        setting,
        path: path.to_owned(),
        source,
    };
    let unfit = |problem| SecretFileError::Content {
        setting,
        path: path.to_owned(),
        problem,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(unfit("is longer than 65,536 bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| unfit("is no text in UTF-8"))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(unfit("is empty")),
        secret => Ok(secret.to_owned()),
    }
}
