//! docs/CONFIGURATION.md has every setting.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, CommandFactory};

use super::super::Cli;
use super::super::file::flags;
use super::super::flags::with_environment;
use super::super::reload::RELOADED;

const BEGIN: &str =
    "<!-- The table is written by a test: UPDATE=1 cargo test --lib config::tests::reference -->\n";
const END: &str = "<!-- The end of the table. -->\n";

fn row(arg: &Arg) -> String {
    let flag = arg.get_long().expect("a setting has a flag");
    let name = flag.replace('-', "_");
    let variable = arg
        .get_env()
        .expect("a setting has a name in the environment");
    let defaults = arg.get_default_values().iter();
    let defaults: Vec<_> = defaults.map(|text| text.to_string_lossy()).collect();
    let default = match &*defaults.join(",") {
        "" => String::new(),
        default => format!("`{default}`"),
    };
    let reload = if RELOADED.contains(&&*name) {
        "yes"
    } else {
        "no"
    };
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let variable = variable.to_string_lossy();
    let key = if flag == "config" {
        String::new()
    } else {
        format!("`{name}`")
    };
    format!("| `--{flag}` | {key} | `{variable}` | {default} | {reload} | {help} |")
}

fn table() -> String {
    let command = with_environment(Cli::command());
    let config = command
        .get_arguments()
        .find(|arg| arg.get_long() == Some("config"));
    let mut table = String::from(
        "| flag | key in the file | environment | default | reload | what it is |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    for arg in config.into_iter().chain(flags(&command)) {
        writeln!(table, "{}", row(arg)).expect("a string takes all text");
    }
    table
}

#[test]
fn the_page_of_the_settings_has_them_all() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CONFIGURATION.md");
    let page = std::fs::read_to_string(&path).expect("the page is there");
    let (before, rest) = page.split_once(BEGIN).expect("the page has the table");
    let (written, behind) = rest.split_once(END).expect("the page has the table's end");
    let table = table();
    if std::env::var_os("UPDATE").is_some() {
        let page = [before, BEGIN, &table, END, behind].concat();
        std::fs::write(&path, page).expect("the page can be written");
    } else {
        assert!(written == table, "docs/CONFIGURATION.md is old: {BEGIN}");
    }
}

#[test]
fn every_setting_is_in_the_environment_of_every_command_that_has_it() {
    let command = with_environment(Cli::command());
    let settings: Vec<_> = flags(&command).collect();
    let mut names: Vec<_> = settings.iter().filter_map(|arg| arg.get_env()).collect();
    assert_eq!(names.len(), settings.len());
    names.sort();
    names.dedup();
    assert_eq!(names.len(), settings.len(), "no name is there twice");
    for (path, flag, has_name) in [
        (&["serve"][..], "history-limit", true),
        (&["config", "show"], "max-channels", true),
        (&["config", "check"], "max-channels", true),
        (&["config", "show"], "format", false),
        (&["export"], "database-url", true),
        (&["export"], "database-url-file", true),
        (&["export"], "topic", false),
        (&["erase"], "name", false),
        (&["token", "sign"], "secret-key-base-file", true),
    ] {
        let found = path.iter().fold(&command, |command, name| {
            command
                .find_subcommand(name)
                .expect("there is such a command")
        });
        let arg = found
            .get_arguments()
            .find(|arg| arg.get_long() == Some(flag));
        let name = arg.expect("there is such a flag").get_env();
        assert_eq!(name.is_some(), has_name, "{path:?} --{flag}");
    }
}
