//! `slackir config init`, `show` and `check`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::server::check::{self, Finding, Level};
use crate::server::config::{ServeConfig, SettingInForce, SettingSource, ShowFormat};
use crate::server::console::{OutputError, print};
use crate::store;

/// The config file with all settings and their comments.
const EXAMPLE: &str = include_str!("../../../slackir.example.toml");

/// The lines of the example that get a random secret: the line, the beginning of the new one, and the secret's bytes.
/// The password of the dashboard stays a comment, because it would open the dashboard to the network.
const SECRETS: [(&str, &str, usize); 4] = [
    ("#api_token = \"a-token-of-your-own\"", "api_token", 24),
    (
        "#secret_key_base = \"a secret of at least 20 bytes\"",
        "secret_key_base",
        48,
    ),
    (
        "#metrics_token = \"a-token-for-the-metrics\"",
        "metrics_token",
        24,
    ),
    (
        "#dashboard_password = \"a password of your own\"",
        "#dashboard_password",
        24,
    ),
];

/// The place of a value that nobody may see.
const REDACTED: &str = "(secret)";

/// A command could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigCommandError {
    /// The file exists.
    #[error("{} exists already: nothing was written; name another file", .0.display())]
    Exists(PathBuf),
    /// The file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The system has no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(#[from] getrandom::Error),
    /// A finding is `fail`.
    #[error(
        "the server does not start or does not work like this: see the lines that begin with fail"
    )]
    Failed,
    /// Standard output.
    #[error("{0}")]
    Output(#[from] OutputError),
}

/// Writes a config file with comments and random secrets, which only its owner may read.
///
/// # Errors
/// If the file exists or cannot be written.
pub(crate) fn init(path: &Path) -> Result<(), ConfigCommandError> {
    let mut text = EXAMPLE.to_owned();
    for (line, name, bytes) in SECRETS {
        text = text.replacen(line, &format!("{name} = \"{}\"", random(bytes)?), 1);
    }
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => ConfigCommandError::Exists(path.to_owned()),
        _ => ConfigCommandError::Write {
            path: path.to_owned(),
            source,
        },
    };
    let mut options = OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(path);
    opened
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(failed)?;
    let file = path.display();
    print(format_args!(
        "Wrote {file}, with secrets: keep it to yourself. Start the server: slackir --config {file}"
    ))?;
    Ok(())
}

fn random(bytes: usize) -> Result<String, getrandom::Error> {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(random))
}

/// Prints all settings, with the sources of their values.
///
/// # Errors
/// If standard output cannot be written.
pub(crate) fn show(
    settings: &[SettingInForce],
    format: ShowFormat,
) -> Result<(), ConfigCommandError> {
    match format {
        ShowFormat::Json => {
            let all: Vec<_> = settings.iter().map(as_json).collect();
            let text = serde_json::to_string_pretty(&all).map_err(io::Error::from);
            print(text.map_err(OutputError::from)?)?;
        }
        ShowFormat::Text => {
            let lines: Vec<_> = settings.iter().map(as_line).collect();
            let width = lines.iter().map(|(line, _)| line.len()).max().unwrap_or(0);
            for (line, source) in lines {
                print(format_args!("{line:width$}  # {source}"))?;
            }
        }
    }
    Ok(())
}

/// The setting as a line of a config file, and its source.
fn as_line(setting: &SettingInForce) -> (String, String) {
    let name = &setting.name;
    let line = match shown(setting) {
        Some(value) if setting.is_number => format!("{name} = {value}"),
        Some(value) => format!("{name} = {}", Value::from(value)),
        None if is_section(setting) => format!("#[{name}]"),
        None => format!("#{name}"),
    };
    (line, source(setting))
}

fn as_json(setting: &SettingInForce) -> Value {
    let value = shown(setting);
    let number = value.as_deref().filter(|_| setting.is_number);
    let number: Option<Value> = number.and_then(|text| serde_json::from_str(text).ok());
    json!({
        "name": setting.name,
        "value": number.unwrap_or_else(|| value.into()),
        "source": source(setting),
    })
}

/// The value, if anybody may see it.
fn shown(setting: &SettingInForce) -> Option<String> {
    let value = setting.value.as_deref()?;
    Some(match (&*setting.name, setting.is_secret) {
        ("database_url", _) => store::redacted(value),
        (_, true) => REDACTED.to_owned(),
        (_, false) => value.to_owned(),
    })
}

/// A section of the file has no value here.
fn is_section(setting: &SettingInForce) -> bool {
    setting.value.is_none() && setting.source != SettingSource::Default
}

fn source(setting: &SettingInForce) -> String {
    match &setting.source {
        SettingSource::Default if setting.value.is_none() => "not set".to_owned(),
        SettingSource::Default => "default".to_owned(),
        SettingSource::File { path, line } => format!("{}, line {line}", path.display()),
        SettingSource::SecretFile(path) => format!("the file {}", path.display()),
        SettingSource::Environment(name) => format!("environment {name}"),
        SettingSource::Flag(flag) => format!("flag {flag}"),
    }
}

/// Checks the settings and what they name, and prints a line for each finding.
///
/// # Errors
/// If a finding is `fail`.
pub(crate) fn check(config: &ServeConfig) -> Result<(), ConfigCommandError> {
    report(&check::check(config))
}

/// Prints a line for each finding.
///
/// # Errors
/// If a finding is `fail`.
pub(crate) fn report(findings: &[Finding]) -> Result<(), ConfigCommandError> {
    for finding in findings {
        print(finding)?;
    }
    let has_failed = findings.iter().any(|finding| finding.level == Level::Fail);
    if has_failed {
        Err(ConfigCommandError::Failed)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_file_is_valid_and_has_secrets_of_its_own() {
        let dir = tempfile::tempdir().expect("a folder");
        let files = ["a.toml", "b.toml"].map(|name| dir.path().join(name));
        let secrets = files.map(|file| {
            init(&file).expect("writable");
            assert!(matches!(init(&file), Err(ConfigCommandError::Exists(_))));
            let config = ServeConfig::from_file(&file).expect("valid");
            assert_eq!(config.dashboard.dashboard_password, None);
            let text = std::fs::read_to_string(&file).expect("readable");
            let mode = std::fs::metadata(&file).expect("it is there").permissions();
            assert_eq!(mode.mode() & 0o777, 0o600);
            let opened = text.replacen("#dashboard_password =", "dashboard_password =", 1);
            std::fs::write(&file, opened).expect("writable");
            let opened = ServeConfig::from_file(&file).expect("valid");
            [
                config.api.api_token,
                config.api.secret_key_base,
                config.admin.metrics_token,
                opened.dashboard.dashboard_password,
            ]
            .map(|secret| secret.expect("it is set"))
        });
        let all: BTreeSet<_> = secrets.iter().flatten().collect();
        assert_eq!(
            all.len(),
            8,
            "each file has secrets of its own: {secrets:?}"
        );
        assert!(all.iter().all(|secret| secret.len() >= 32), "{secrets:?}");
    }
}
