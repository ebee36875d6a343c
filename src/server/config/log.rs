//! The log's filter, and the log format for errors of the settings themselves.

use std::ffi::OsStr;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::{Cli, LogFormat};

/// The filter for an empty setting.
const DEFAULT: &str = "info";

/// The setting's long flag, and its key in the file.
const FORMAT: (&str, &str) = ("--log-format", "log_format");

/// Its name in the environment.
const FORMAT_ENVIRONMENT: &str = "SLACKIR_LOG_FORMAT";

/// Checks a filter of `tracing-subscriber`. A single word must be a level: `tracing-subscriber` would take any
/// other word for a module, log everything of that module, and nothing else.
pub(super) fn log_filter(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(DEFAULT.to_owned());
    }
    // Brackets hold spans and their fields, which may contain commas.
    let words: Vec<_> = if text.contains('[') {
        vec![text]
    } else {
        text.split(',').map(str::trim).collect()
    };
    for word in words.iter().filter(|word| !word.contains('[')) {
        if !word.contains('=') && word.parse::<LevelFilter>().is_err() {
            return Err(format!(
                "{word:?} is no level: there are off, error, warn, info, debug and trace, for \
                 everything or for one module, such as slackir::store=debug"
            ));
        }
    }
    let filter = words.join(",");
    match EnvFilter::try_new(&filter) {
        Ok(_) => Ok(filter),
        Err(error) => Err(error.to_string()),
    }
}

impl Cli {
    /// The log format of the command line or the file, even if other settings are not valid: their error is
    /// written in this format.
    pub(crate) fn log_format() -> LogFormat {
        let args: Vec<_> = std::env::args_os().collect();
        let file = flag(&args, "--config").or_else(|| std::env::var_os("SLACKIR_CONFIG"));
        let named = flag(&args, FORMAT.0)
            .or_else(|| std::env::var_os(FORMAT_ENVIRONMENT))
            .and_then(|format| format.into_string().ok())
            .or_else(|| in_file(&file?.into()));
        let format = named.and_then(|format| LogFormat::named(&format));
        format.unwrap_or(LogFormat::Text)
    }
}

impl Cli {
    /// Whether the command is `slackir config check`, even if its settings are not valid: that is what it finds.
    pub(crate) fn is_check() -> bool {
        let words: Vec<_> = std::env::args_os().skip(1).take(2).collect();
        words == ["config", "check"]
    }
}

/// The value of a flag: the next argument, or the text after the equals sign.
fn flag(args: &[impl AsRef<OsStr>], name: &str) -> Option<std::ffi::OsString> {
    let mut args = args.iter().map(AsRef::as_ref);
    while let Some(arg) = args.next() {
        if arg == name {
            return args.next().map(OsStr::to_owned);
        }
        let value = arg.to_str().and_then(|arg| arg.strip_prefix(name));
        if let Some(value) = value.and_then(|value| value.strip_prefix('=')) {
            return Some(value.into());
        }
    }
    None
}

fn in_file(path: &PathBuf) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let table = DeTable::parse(&text).ok()?.into_inner();
    match table.get(FORMAT.1)?.get_ref() {
        DeValue::String(format) => Some(format.clone().into_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused_with_those_that_are() {
        for filter in [
            "info",
            "WARN",
            "off",
            "slackir=debug",
            "warn, slackir::store=trace",
            "slackir[{topic}]=debug",
            "0",
        ] {
            assert_eq!(log_filter(filter), Ok(filter.replace(", ", ",")));
        }
        assert_eq!(log_filter(" ").as_deref(), Ok(DEFAULT));
        for filter in ["warning", "err", "slackir", "info,verbose", "inf", "info;"] {
            let error = log_filter(filter).expect_err(filter);
            assert!(
                error.contains("off, error, warn, info, debug and trace"),
                "{error}"
            );
        }
        for filter in ["slackir=warning", "a=b=c"] {
            assert!(log_filter(filter).is_err(), "{filter}");
        }
    }

    #[test]
    fn a_flag_is_found_in_both_spellings() {
        for (args, found) in [
            (&["slackir", "--log-format", "json"][..], Some("json")),
            (
                &["slackir", "serve", "--log-format=json", "--port", "x"],
                Some("json"),
            ),
            (&["slackir", "--log-formatting=json"], None),
            (&["slackir", "--log-format"], None),
        ] {
            let value = flag(args, FORMAT.0);
            assert_eq!(value.as_deref(), found.map(OsStr::new), "{args:?}");
        }
    }
}
