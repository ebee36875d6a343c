//! docs/COMMANDS.md has every command.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, Command};

use super::super::Cli;

const BEGIN: &str = "<!-- The commands are written by a test: UPDATE=1 cargo test --all-features --lib config::tests::commands -->\n";
/// A command with more settings of the server than these refers to their page.
const MAX_SETTINGS: usize = 5;

/// The name of an argument, as people write it.
fn name(arg: &Arg) -> String {
    let values = arg.get_value_names().unwrap_or_default();
    let value = values.first().map(ToString::to_string);
    match (arg.get_long(), value) {
        (Some(flag), Some(value)) if arg.get_action().takes_values() => {
            format!("`--{flag} <{value}>`")
        }
        (Some(flag), _) => format!("`--{flag}`"),
        (None, value) => format!("`{}`", value.unwrap_or_default()),
    }
}

fn row(arg: &Arg) -> String {
    let defaults = arg.get_default_values().iter();
    let defaults: Vec<_> = defaults.map(|text| text.to_string_lossy()).collect();
    let default = match &*defaults.join(",") {
        "" | "false" => String::new(),
        default => format!("`{default}`"),
    };
    let mut help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let values = arg.get_possible_values();
    let words: Vec<_> = values
        .iter()
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if arg.get_action().takes_values() && !words.is_empty() {
        write!(help, ": {}", words.join(", ")).expect("a string takes all text");
    }
    format!(
        "| {} | {default} | {} |\n",
        name(arg),
        help.replace('|', "\\|")
    )
}

/// The section of a command, and of those below it.
fn section(command: &mut Command, settings: &BTreeSet<String>, page: &mut String) {
    let title = command.get_bin_name().unwrap_or("slackir").to_owned();
    let about = command.get_about().map(ToString::to_string);
    let about = about.unwrap_or_default();
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").lines().map(str::trim);
    let usage = usage.collect::<Vec<_>>().join("\n");
    write!(
        page,
        "\n## `{title}`\n\n{}.\n\n```text\n{usage}\n```\n",
        about.trim_end_matches('.')
    )
    .expect("a string takes all text");
    let is_own =
        |arg: &&Arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str());
    let is_setting = |arg: &&Arg| arg.get_long().is_some_and(|flag| settings.contains(flag));
    let args: Vec<_> = command.get_arguments().filter(is_own).collect();
    let takes_all = args.iter().filter(|arg| is_setting(arg)).count() > MAX_SETTINGS;
    let rows: String = args
        .iter()
        .filter(|arg| !takes_all || !is_setting(arg))
        .map(|arg| row(arg))
        .collect();
    if takes_all {
        page.push_str("\nIt takes all [settings](CONFIGURATION.md#all-settings) as flags.\n");
    }
    if !rows.is_empty() {
        write!(
            page,
            "\n| argument | default | what it is |\n| --- | --- | --- |\n{rows}"
        )
        .expect("a string takes all text");
    }
    if let Some(more) = command.get_after_help() {
        write!(page, "\n{more}\n").expect("a string takes all text");
    }
    for below in command
        .get_subcommands_mut()
        .filter(|below| below.get_name() != "help")
    {
        section(below, settings, page);
    }
}

#[test]
fn the_page_of_the_commands_has_them_all() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/COMMANDS.md");
    let page = std::fs::read_to_string(&path).expect("the page is there");
    let (before, written) = page.split_once(BEGIN).expect("the page has the commands");
    let mut command = Cli::whole();
    command.build();
    let settings = command
        .get_arguments()
        .filter_map(Arg::get_long)
        .map(str::to_owned);
    let settings = settings.collect();
    let mut commands = String::new();
    section(&mut command, &settings, &mut commands);
    if std::env::var_os("UPDATE").is_some() {
        let page = [before, BEGIN, &commands].concat();
        std::fs::write(&path, page).expect("the page can be written");
    } else {
        assert!(written == commands, "docs/COMMANDS.md is old: {BEGIN}");
    }
}
