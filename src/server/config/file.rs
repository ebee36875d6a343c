//! The file of settings. What it says is checked with the flags' own rules and then given to clap
//! as defaults; only `[[rooms]]` are this file's alone.

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

use super::rooms::RoomConfig;

/// The key of the rooms.
const ROOMS: &str = "rooms";
/// The one flag that the file cannot hold.
const CONFIG: &str = "config";
/// The subcommands that take settings from the file.
const SUBCOMMANDS: [&str; 5] = ["serve", "migrate", "erase", "export", "import"];

/// Why the file cannot be used. One line that says where.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It cannot be read.
    #[error("cannot read config file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It says something that is no setting.
    #[error("{path}, line {line}: {problem}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where in it, from 1.
        line: usize,
        /// The key, what is wrong with it and what is allowed.
        problem: String,
    },
}

/// What a file says.
#[derive(Debug)]
pub(super) struct ConfigFile {
    /// By the flags' names.
    settings: BTreeMap<String, Setting>,
    pub(super) rooms: Vec<RoomConfig>,
}

/// A value, as people write it behind a flag.
#[derive(Debug)]
struct Setting {
    value: String,
    line: usize,
}

/// Where the values stand that the server uses and the file has said, for errors that only show when
/// a value is used.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    file: PathBuf,
    /// By the settings' names in the file.
    lines: BTreeMap<String, usize>,
}

impl Places {
    /// An error of a setting with its place in the file before it; as it is if flag, environment or
    /// default have said the value.
    pub(crate) fn locate(&self, setting: &str, error: &str) -> String {
        let Some(line) = self.lines.get(setting) else {
            return error.to_owned();
        };
        // In the file it is not called by its flag, nor by its variable.
        let flag = format!("--{}: ", setting.replace('_', "-"));
        let variable = format!("{}: ", setting.to_uppercase());
        let problem = error.strip_prefix(&flag);
        let problem = problem.or_else(|| error.strip_prefix(&variable));
        let file = self.file.display();
        let problem = problem.unwrap_or(error);
        format!("{file}, line {line}: {setting}: {problem}")
    }
}

/// What is wrong, and at which byte.
#[derive(Debug)]
struct Problem {
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
        Self::parse(&text, command).map_err(|problem| FileError::Invalid {
            path: path.to_owned(),
            line: line(&text, problem.at),
            problem: problem.text,
        })
    }

    fn parse(text: &str, command: &Command) -> Result<Self, Problem> {
        let mut table = DeTable::parse(text)
            .map_err(|error| Problem::of_toml(&error, text))?
            .into_inner();
        let rooms = match table.remove(ROOMS) {
            Some(rooms) => read_rooms(rooms, text)?,
            None => vec![RoomConfig::default()],
        };
        let mut settings = BTreeMap::new();
        for (key, value) in &table {
            let checked = setting(command, key.get_ref(), value.get_ref());
            let (flag, value) = checked.map_err(|text| Problem {
                at: key.span().start,
                text,
            })?;
            let line = line(text, key.span().start);
            settings.insert(flag, Setting { value, line });
        }
        Ok(Self { settings, rooms })
    }

    /// The command line, with these values where neither it nor the environment say anything.
    pub(super) fn as_defaults(&self, command: Command) -> Command {
        let default = |arg: Arg| match arg.get_long().and_then(|flag| self.settings.get(flag)) {
            Some(setting) => arg.default_value(&setting.value),
            None => arg,
        };
        SUBCOMMANDS
            .iter()
            .fold(command.mut_args(default), |command, name| {
                command.mut_subcommand(name, |command| command.mut_args(default))
            })
    }
}

impl ConfigFile {
    /// Where the settings stand that these matches have from the file at `path`.
    pub(super) fn places(&self, path: &Path, matches: &ArgMatches) -> Places {
        let matches = matches.subcommand().map_or(matches, |(_, matches)| matches);
        let from_file = |key: &str| {
            // The command may have no such flag.
            let known = matches.try_contains_id(key).is_ok();
            known && matches.value_source(key) == Some(ValueSource::DefaultValue)
        };
        let lines = self.settings.iter().map(|(flag, setting)| {
            let key = flag.replace('-', "_");
            (key, setting.line)
        });
        Places {
            file: path.to_owned(),
            lines: lines.filter(|(key, _)| from_file(key)).collect(),
        }
    }
}

impl Problem {
    /// What the TOML parser says, in one line, behind the key of the line in question.
    fn of_toml(error: &toml::de::Error, text: &str) -> Self {
        let at = error.span().map_or(0, |span: Range<usize>| span.start);
        let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
        let line = text[start..].lines().next().unwrap_or_default();
        // Behind it may be a password.
        let key = line.split(['=', '#']).next().unwrap_or_default().trim();
        let message = error.message().replace('\n', ", ");
        let hint = hint(&message);
        Self {
            at,
            text: format!("{key}: {message}{hint}"),
        }
    }
}

/// What was meant by a name that serde does not know, out of those in its message.
fn hint(message: &str) -> String {
    let mut names = message.split('`').skip(1).step_by(2);
    let unknown = message.starts_with("unknown ").then(|| names.next());
    let meant = unknown
        .flatten()
        .and_then(|unknown| nearest(unknown, names));
    meant.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// The name that is most like this one, if any is; judged as clap judges flags.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LIKE: f64 = 0.7;
    let rated = known.map(|known| (strsim::jaro(name, known), known));
    let like = rated.filter(|(likeness, _)| *likeness > LIKE);
    like.max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, known)| known)
}

fn line(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

fn read_rooms(value: Spanned<DeValue<'_>>, text: &str) -> Result<Vec<RoomConfig>, Problem> {
    let rooms = Vec::<Spanned<RoomConfig>>::deserialize(ValueDeserializer::from(value))
        .map_err(|error| Problem::of_toml(&error, text))?;
    for (index, room) in rooms.iter().enumerate() {
        if let Some(problem) = room.get_ref().contradiction() {
            return Err(Problem {
                at: room.span().start,
                text: format!("[[{ROOMS}]]: {problem}"),
            });
        }
        let mut before = rooms[..index].iter();
        if let Some(first) = before.find(|first| first.get_ref().covers(room.get_ref())) {
            let (topics, other) = (&room.get_ref().topics, &first.get_ref().topics);
            return Err(Problem {
                at: room.span().start,
                text: format!(
                    "[[{ROOMS}]]: topics {topics:?} is never reached: {other:?} on line {} matches \
                     first; the narrower pattern must come first, and each only once",
                    line(text, first.span().start)
                ),
            });
        }
    }
    Ok(rooms.into_iter().map(Spanned::into_inner).collect())
}

/// The flag of a key, and its value as it would stand behind the flag.
fn setting(command: &Command, key: &str, value: &DeValue<'_>) -> Result<(String, String), String> {
    let flag = key.replace('_', "-");
    let arg = flags(command)
        .find(|arg| arg.get_long() == Some(&flag))
        .filter(|_| !key.contains('-'))
        .ok_or_else(|| unknown(command, key))?;
    let text = text(arg, value).map_err(|problem| format!("{key}: {problem}"))?;
    // On its own, so that nothing else of the command line or the environment is judged with it.
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

fn flags(command: &Command) -> impl Iterator<Item = &Arg> {
    command
        .get_arguments()
        .filter(|arg| arg.get_long().is_some_and(|flag| flag != CONFIG))
}

fn unknown(command: &Command, key: &str) -> String {
    let mut known: Vec<_> = flags(command)
        .filter_map(Arg::get_long)
        .map(|flag| flag.replace('-', "_"))
        .collect();
    known.push(ROOMS.to_owned());
    match nearest(key, known.iter().map(String::as_str)) {
        Some(meant) => format!("{key}: there is no such setting; did you mean {meant}?"),
        None => format!(
            "{key}: there is no such setting; there are {}",
            known.join(", ")
        ),
    }
}

/// A value as people write it behind the flag, if it has the flag's type.
fn text(arg: &Arg, value: &DeValue<'_>) -> Result<String, String> {
    let kind = Kind::of(arg);
    match (kind, value) {
        (Kind::Text, DeValue::String(text)) => Ok(text.clone().into_owned()),
        (Kind::Number, DeValue::Integer(number)) => {
            // One that is out of range is judged by the flag.
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            Ok(parsed.map_or_else(|_| number.to_string(), |number| number.to_string()))
        }
        (Kind::Number, DeValue::Float(number)) => Ok(number.as_str().to_owned()),
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

/// What a setting is in TOML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
}

impl Kind {
    fn of(arg: &Arg) -> Self {
        let numbers = [
            TypeId::of::<u16>(),
            TypeId::of::<u32>(),
            TypeId::of::<u64>(),
            TypeId::of::<usize>(),
            TypeId::of::<Duration>(),
        ];
        let own = arg.get_value_parser().type_id();
        if numbers.iter().any(|number| own == *number) {
            Self::Number
        } else {
            Self::Text
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Number => "number",
        }
    }
}

/// Why clap refuses a value, without the flag's name.
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
            assert!(!number || Kind::of(arg) == Kind::Number, "{arg}");
        }
    }
}
