//! [`SettingInForce`]: each setting with its value and the place that the value comes from.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use super::file::{ConfigFile, FileLines, TomlType, flags};
use super::secret_files::SecretFiles;

/// A setting, its value, and where the value comes from.
#[derive(Clone)]
pub(crate) struct SettingInForce {
    /// As in the config file.
    pub(crate) name: String,
    /// As it would be written after the flag. `None`: it is not set.
    pub(crate) value: Option<String>,
    /// Whether the config file has it as a number.
    pub(crate) is_number: bool,
    /// Whether nobody may see the value.
    pub(crate) is_secret: bool,
    /// Where the value comes from.
    pub(crate) source: SettingSource,
}

named_debug!(SettingInForce, name, source);

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SettingSource {
    /// It is the default.
    Default,
    /// A line of the config file.
    File { path: PathBuf, line: usize },
    /// A file that has only this secret.
    SecretFile(PathBuf),
    /// The environment variable.
    Environment(String),
    /// The flag.
    Flag(String),
}

/// All settings of the command that `matches` name, in the order of its flags, and then the sections of the file.
pub(super) fn in_force(
    root: &Command,
    matches: &ArgMatches,
    (file, lines): (Option<(&Path, &ConfigFile)>, &FileLines),
    secrets: &SecretFiles,
) -> Vec<SettingInForce> {
    let (command, matches) = leaf(root, matches);
    let is_setting = |arg: &&Arg| flags(root).any(|setting| setting.get_long() == arg.get_long());
    let settings = flags(command).filter(is_setting).filter_map(|arg| {
        let name = arg.get_long()?.replace('-', "_");
        let values = matches.get_raw(&name).map(|values| {
            let values: Vec<_> = values.map(OsStr::to_string_lossy).collect();
            values.join(",")
        });
        Some(SettingInForce {
            value: values,
            is_number: TomlType::of(arg) == TomlType::Number,
            is_secret: arg.is_hide_env_values_set(),
            source: source(arg, &name, matches, lines, secrets),
            name,
        })
    });
    let sections = file.into_iter().flat_map(|(path, file)| {
        let sections = file.sections.iter();
        sections.map(move |(name, line)| SettingInForce {
            name: (*name).to_owned(),
            value: None,
            is_number: false,
            is_secret: false,
            source: SettingSource::File {
                path: path.to_owned(),
                line: *line,
            },
        })
    });
    settings.chain(sections).collect()
}

/// The innermost subcommand, and its matches.
fn leaf<'a>(command: &'a Command, matches: &'a ArgMatches) -> (&'a Command, &'a ArgMatches) {
    let inner = matches.subcommand();
    let inner = inner.and_then(|(name, inner)| Some((command.find_subcommand(name)?, inner)));
    inner.map_or((command, matches), |(command, inner)| leaf(command, inner))
}

fn source(
    arg: &Arg,
    name: &str,
    matches: &ArgMatches,
    lines: &FileLines,
    secrets: &SecretFiles,
) -> SettingSource {
    match matches.value_source(name) {
        Some(ValueSource::CommandLine) => {
            SettingSource::Flag(format!("--{}", name.replace('_', "-")))
        }
        Some(ValueSource::EnvVariable) => {
            let variable = arg.get_env().unwrap_or_default();
            SettingSource::Environment(variable.to_string_lossy().into_owned())
        }
        _ => match (secrets.path_of(name), lines.place_of(name)) {
            (Some(path), _) => SettingSource::SecretFile(path.to_owned()),
            (None, Some((path, line))) => SettingSource::File {
                path: path.to_owned(),
                line,
            },
            (None, None) => SettingSource::Default,
        },
    }
}
