//! The config file. Its values are checked by the rules of the flags, and then become clap's defaults. Only
//! `[[rooms]]` have no flag.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::error::Error as _;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::api::{ApiJwtConfig, WrittenApiJwt};
use super::flags::mut_settings;
use super::hook::HookConfig;
use super::rooms::{RoomConfig, unaccepted};
use crate::pattern::shadowed;
use crate::server::language::IdentityConfig;

/// The key of the rooms.
const ROOMS: &str = "rooms";
/// The key of the identity.
const IDENTITY: &str = "identity";
/// The key of the hook.
const HOOK: &str = "hook";
/// The key of the tokens of the HTTP API.
const API: &str = "api";
/// The flag that cannot be set in the file.
const CONFIG: &str = "config";
/// The keys of sections, which have no flag.
const SECTIONS: [&str; 4] = [IDENTITY, HOOK, API, ROOMS];

/// The file cannot be used. The message is one line, with the place of the problem.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It cannot be read.
    #[error("cannot read config file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A line of it is not valid.
    #[error("{path}, line {line}: {problem}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// The key, the problem and the allowed values.
        problem: String,
    },
}

/// The contents of a file.
#[derive(Debug)]
pub(super) struct ConfigFile {
    /// By the flags' names.
    settings: BTreeMap<String, Setting>,
    /// The sections that it has, with their lines.
    pub(super) sections: Vec<(&'static str, usize)>,
    pub(super) rooms: Vec<RoomConfig>,
    /// Who clients are; `None`: anonymous.
    pub(super) identity: Option<IdentityConfig>,
    /// The backend; `None`: nobody asks one.
    pub(super) hook: Option<HookConfig>,
    /// The JSON Web Tokens of the HTTP API.
    pub(super) api: Option<ApiJwtConfig>,
}

/// A value, as it would be written after its flag.
#[derive(Debug)]
struct Setting {
    value: String,
    line: usize,
}

/// The lines of the file whose values are in force, for errors that show only when a value is used.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileLines {
    file: PathBuf,
    /// By the settings' names in the file.
    lines: BTreeMap<String, usize>,
}

impl FileLines {
    /// Whether the setting's value in the file is in force.
    pub(super) fn has(&self, setting: &str) -> bool {
        self.lines.contains_key(setting)
    }

    /// The file and the line of a value that is in force.
    pub(super) fn place_of(&self, setting: &str) -> Option<(&Path, usize)> {
        let line = self.lines.get(setting)?;
        Some((&self.file, *line))
    }

    /// Puts the setting's line of the file before an error. Returns the error unchanged if the value does not
    /// come from the file.
    pub(crate) fn locate(&self, setting: &str, error: &str) -> String {
        let Some(line) = self.lines.get(setting) else {
            return error.to_owned();
        };
        // The error names the flag or the environment variable; the file has neither.
        let flag = format!("--{}: ", setting.replace('_', "-"));
        let variable = format!("{}: ", setting.to_uppercase());
        let problem = error.strip_prefix(&flag);
        let problem = problem.or_else(|| error.strip_prefix(&variable));
        let file = self.file.display();
        let problem = problem.unwrap_or(error);
        format!("{file}, line {line}: {setting}: {problem}")
    }
}

/// A problem of the file, and its position in bytes.
#[derive(Debug)]
struct FileProblem {
    at: usize,
    text: String,
}

impl ConfigFile {
    /// Reads a file whose keys are the long flags of `command`.
    pub(super) fn read(path: &Path, command: &Command) -> Result<Self, FileError> {
        let text = std::fs::read_to_string(path).map_err(|source| FileError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::of_text(&text, path, command)
    }

    /// Reads the text of the file at `path`.
    pub(super) fn of_text(text: &str, path: &Path, command: &Command) -> Result<Self, FileError> {
        Self::parse(text, command).map_err(|problem| FileError::Invalid {
            path: path.to_owned(),
            line: line(text, problem.at),
            problem: problem.text,
        })
    }

    fn parse(text: &str, command: &Command) -> Result<Self, FileProblem> {
        let mut table = DeTable::parse(text)
            .map_err(|error| FileProblem::of_toml(&error, text))?
            .into_inner();
        let sections = sections(&table, text);
        let hook = table.remove(HOOK);
        let hook = hook.map(|hook| read_hook(hook, text)).transpose()?;
        let rooms = match table.remove(ROOMS) {
            Some(rooms) => read_rooms(rooms, hook.is_some(), text)?,
            None => vec![RoomConfig::default()],
        };
        let identity = table.remove(IDENTITY);
        let identity = identity.map(|identity| {
            let at = identity.span().start;
            let identity =
                <IdentityConfig as Deserialize>::deserialize(ValueDeserializer::from(identity))
                    .map_err(|error| FileProblem::of_toml(&error, text))?;
            let no_hook = identity.asks_hook() && hook.is_none();
            let no_hook = no_hook.then_some("from: \"hook\" needs the section [hook]");
            match identity.contradiction().or(no_hook) {
                None => Ok(identity),
                Some(problem) => Err(FileProblem {
                    at,
                    text: format!("[{IDENTITY}]: {problem}"),
                }),
            }
        });
        let identity = identity.transpose()?;
        let api = table.remove(API);
        let api = api.map(|api| read_api(api, identity.as_ref(), text));
        let api = api.transpose()?;
        let mut settings = BTreeMap::new();
        for (key, value) in &table {
            let checked = setting(command, key.get_ref(), value.get_ref());
            let (flag, value) = checked.map_err(|text| FileProblem {
                at: key.span().start,
                text,
            })?;
            let line = line(text, key.span().start);
            settings.insert(flag, Setting { value, line });
        }
        Ok(Self {
            settings,
            sections,
            rooms,
            identity,
            hook,
            api,
        })
    }

    /// The command, with the values of the file as defaults.
    pub(super) fn as_defaults(&self, command: Command) -> Command {
        let default = |arg: Arg| match arg.get_long().and_then(|flag| self.settings.get(flag)) {
            Some(setting) => arg.default_value(&setting.value),
            None => arg,
        };
        mut_settings(command, &default)
    }
}

impl ConfigFile {
    /// The lines of the settings that the `matches` of a command have from the file at `path`.
    pub(super) fn lines_in_force(&self, path: &Path, matches: &ArgMatches) -> FileLines {
        let from_file = |key: &str| {
            // The command may have no such flag.
            let known = matches.try_contains_id(key).is_ok();
            known && matches.value_source(key) == Some(ValueSource::DefaultValue)
        };
        let lines = self.settings.iter().map(|(flag, setting)| {
            let key = flag.replace('-', "_");
            (key, setting.line)
        });
        FileLines {
            file: path.to_owned(),
            lines: lines.filter(|(key, _)| from_file(key)).collect(),
        }
    }
}

impl FileProblem {
    /// The TOML parser's error as one line, after the key of the wrong line.
    fn of_toml(error: &toml::de::Error, text: &str) -> Self {
        let at = error.span().map_or(0, |span: Range<usize>| span.start);
        let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
        let line = text[start..].lines().next().unwrap_or_default();
        // The value is left out: it may be a password.
        let key = line.split(['=', '#']).next().unwrap_or_default().trim();
        let message = error.message().replace('\n', ", ");
        // The word of an enum.
        let message = message.replace("wanted string or table", "must be a string");
        let hint = if message == "duplicate key" && key.starts_with("[[") {
            format!(
                "; tables in it, such as [{}.NAME], come after it",
                key.trim_matches(['[', ']'])
            )
        } else {
            hint(&message)
        };
        Self {
            at,
            text: format!("{key}: {message}{hint}"),
        }
    }
}

/// A hint for a name that serde does not know: the nearest of the names in its message.
fn hint(message: &str) -> String {
    let mut names = message.split('`').skip(1).step_by(2);
    let unknown = message.starts_with("unknown ").then(|| names.next());
    let meant = unknown
        .flatten()
        .and_then(|unknown| nearest(unknown, names));
    meant.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// The known name that is most similar to this one, by clap's measure; `None` if none is similar.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LIKE: f64 = 0.7;
    let rated = known.map(|known| (strsim::jaro(name, known), known));
    let like = rated.filter(|(likeness, _)| *likeness > LIKE);
    like.max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, known)| known)
}

/// The sections of the file, with their lines.
fn sections(table: &DeTable<'_>, text: &str) -> Vec<(&'static str, usize)> {
    let line_of = |name: &'static str| {
        let mut keys = table.keys();
        let key = keys.find(|key| key.get_ref() == name)?;
        Some((name, line(text, key.span().start)))
    };
    SECTIONS.into_iter().filter_map(line_of).collect()
}

fn line(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

fn read_hook(value: Spanned<DeValue<'_>>, text: &str) -> Result<HookConfig, FileProblem> {
    let at = value.span().start;
    let hook = <HookConfig as Deserialize>::deserialize(ValueDeserializer::from(value))
        .map_err(|error| FileProblem::of_toml(&error, text))?;
    match hook.contradiction() {
        None => Ok(hook),
        Some(problem) => Err(FileProblem {
            at,
            text: format!("[{HOOK}]: {problem}"),
        }),
    }
}

fn read_api(
    value: Spanned<DeValue<'_>>,
    identity: Option<&IdentityConfig>,
    text: &str,
) -> Result<ApiJwtConfig, FileProblem> {
    let at = value.span().start;
    let api = WrittenApiJwt::deserialize(ValueDeserializer::from(value))
        .map_err(|error| FileProblem::of_toml(&error, text))?;
    let jwt = identity.and_then(|identity| identity.jwt.as_ref());
    api.complete(jwt).map_err(|problem| FileProblem {
        at,
        text: format!("[{API}]: {problem}"),
    })
}

fn read_rooms(
    value: Spanned<DeValue<'_>>,
    has_hook: bool,
    text: &str,
) -> Result<Vec<RoomConfig>, FileProblem> {
    let rooms = Vec::<Spanned<RoomConfig>>::deserialize(ValueDeserializer::from(value))
        .map_err(|error| FileProblem::of_toml(&error, text))?;
    for room in &rooms {
        let (asks, tells) = (room.get_ref().asks_hook(), !room.get_ref().tell.is_empty());
        let key = if asks { "hook" } else { "tell" };
        let no_hook =
            ((asks || tells) && !has_hook).then(|| format!("\"{key}\" needs the section [hook]"));
        if let Some(problem) = room.get_ref().contradiction().or(no_hook) {
            return Err(FileProblem {
                at: room.span().start,
                text: format!("[[{ROOMS}]]: {problem}"),
            });
        }
    }
    let places: Vec<_> = rooms.iter().map(|room| room.span().start).collect();
    let rooms: Vec<_> = rooms.into_iter().map(Spanned::into_inner).collect();
    if let Some((first, later)) = shadowed(&rooms) {
        let (topics, other) = (&rooms[later].topics, &rooms[first].topics);
        return Err(FileProblem {
            at: places[later],
            text: format!(
                "[[{ROOMS}]]: topics \"{topics}\" is never reached: \"{other}\" on line {} matches \
                 first; the narrower pattern must come first, and each only once",
                line(text, places[first])
            ),
        });
    }
    if let Some((at, problem)) = unaccepted(&rooms) {
        return Err(FileProblem {
            at: places[at],
            text: format!("[[{ROOMS}]]: {problem}"),
        });
    }
    Ok(rooms)
}

/// The flag of a key, and its value as it would be written after the flag.
fn setting(command: &Command, key: &str, value: &DeValue<'_>) -> Result<(String, String), String> {
    let flag = key.replace('_', "-");
    let arg = flags(command)
        .find(|arg| arg.get_long() == Some(&flag))
        .filter(|_| !key.contains('-'))
        .ok_or_else(|| unknown(command, key))?;
    let text = text(arg, value).map_err(|problem| format!("{key}: {problem}"))?;
    // Parsed alone, so that no error of the command line or the environment comes in.
    let alone = arg.clone().env(Resettable::Reset);
    let checked = Command::new("slackir")
        .arg(alone)
        .try_get_matches_from(["slackir".to_owned(), format!("--{flag}={text}")]);
    match checked {
        Ok(_) => Ok((flag, text)),
        Err(error) if arg.is_hide_env_values_set() => Err(format!("{key}: {}", reason(&error))),
        Err(error) => Err(format!("{key}: {text:?} {}", reason(&error))),
    }
}

pub(super) fn flags(command: &Command) -> impl Iterator<Item = &Arg> {
    command
        .get_arguments()
        .filter(|arg| arg.get_long().is_some_and(|flag| flag != CONFIG))
}

fn unknown(command: &Command, key: &str) -> String {
    let mut known: Vec<_> = flags(command)
        .filter_map(Arg::get_long)
        .map(|flag| flag.replace('-', "_"))
        .collect();
    known.extend(SECTIONS.map(str::to_owned));
    match nearest(key, known.iter().map(String::as_str)) {
        Some(meant) => format!("{key}: there is no such setting; did you mean {meant}?"),
        None => format!(
            "{key}: there is no such setting; there are {}",
            known.join(", ")
        ),
    }
}

/// A value as it would be written after the flag, if it has the flag's type.
fn text(arg: &Arg, value: &DeValue<'_>) -> Result<String, String> {
    let kind = TomlType::of(arg);
    match (kind, value) {
        (TomlType::Text | TomlType::List, DeValue::String(text)) => Ok(text.clone().into_owned()),
        (TomlType::List, DeValue::Array(items)) if items.is_empty() => {
            Err("the list is empty: remove the line".to_owned())
        }
        (TomlType::List, DeValue::Array(items)) => {
            let texts = items.iter().map(|item| item.get_ref().as_str());
            let texts: Option<Vec<_>> = texts.collect();
            let texts = texts.ok_or("must be a list of strings, and of nothing else")?;
            Ok(texts.join(","))
        }
        (TomlType::Number, DeValue::Integer(number)) => {
            // The flag's parser refuses a number out of range.
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            Ok(parsed.map_or_else(|_| number.to_string(), |number| number.to_string()))
        }
        (TomlType::Number, DeValue::Float(number)) => Ok(number.as_str().to_owned()),
        (_, other) => Err(format!(
            "must be a {}, not {}",
            kind.name(),
            match other.type_str() {
                word @ ("integer" | "array") => format!("an {word}"),
                word => format!("a {word}"),
            }
        )),
    }
}

/// The TOML type of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TomlType {
    Text,
    Number,
    /// A list of strings, or one string with commas, as after the flag.
    List,
}

impl TomlType {
    pub(super) fn of(arg: &Arg) -> Self {
        let numbers = [
            TypeId::of::<u16>(),
            TypeId::of::<u32>(),
            TypeId::of::<u64>(),
            TypeId::of::<f64>(),
            TypeId::of::<usize>(),
            TypeId::of::<Duration>(),
        ];
        let own = arg.get_value_parser().type_id();
        if arg.get_value_delimiter().is_some() {
            Self::List
        } else if numbers.iter().any(|number| own == *number) {
            Self::Number
        } else {
            Self::Text
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Number => "number",
            Self::List => "list of strings",
        }
    }
}

/// clap's reason for refusing a value, without the flag's name.
fn reason(error: &clap::Error) -> String {
    match (error.source(), error.get(ContextKind::ValidValue)) {
        (Some(source), _) => format!("is not valid: {source}"),
        (None, Some(ContextValue::Strings(allowed))) if !allowed.is_empty() => {
            format!("is not one of {}", allowed.join(", "))
        }
        (None, _) => "must not be empty".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::Cli;
    use super::*;

    #[test]
    fn settings_whose_default_is_a_number_are_numbers() {
        let command = Cli::command();
        for arg in flags(&command) {
            let defaults = arg.get_default_values();
            let number = defaults
                .iter()
                .any(|text| text.to_string_lossy().parse::<f64>().is_ok());
            assert!(!number || TomlType::of(arg) == TomlType::Number, "{arg}");
        }
    }
}
