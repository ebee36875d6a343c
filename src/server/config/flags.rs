//! The flags that are settings of a server, in every command that takes them, and their environment names.

use std::collections::BTreeSet;

use clap::{Arg, Command};

/// Begins the environment name of a flag that has no name of its own.
const PREFIX: &str = "SLACKIR_";

const AFTER_HELP: &str = "Each flag is an environment variable, too: SLACKIR_ and its name in capitals, such as \
    SLACKIR_HISTORY_LIMIT for --history-limit. A flag that shows another name has that one in its place. \
    `slackir config show` prints all settings, and where each value comes from.";

/// Changes the flags that are settings of a server, in the command and in its subcommands. A flag that only a
/// subcommand has, such as `--topic`, stays as it is.
pub(super) fn mut_settings(command: Command, change: &impl Fn(Arg) -> Arg) -> Command {
    let settings: BTreeSet<_> = settings(&command).map(str::to_owned).collect();
    mut_flags(command, &|arg| {
        let is_setting = arg.get_long().is_some_and(|flag| settings.contains(flag));
        if is_setting { change(arg) } else { arg }
    })
}

fn mut_flags(command: Command, change: &dyn Fn(Arg) -> Arg) -> Command {
    command
        .mut_args(change)
        .mut_subcommands(|command| mut_flags(command, change))
}

/// The names of the flags that are settings.
fn settings(command: &Command) -> impl Iterator<Item = &str> {
    command.get_arguments().filter_map(Arg::get_long)
}

/// Gives each setting without an environment name `SLACKIR_` and its flag. The help shows only the other names,
/// to be readable.
///
/// A flag has one name. `PORT` is not `SLACKIR_PORT` as well, because Kubernetes sets that to the address of a
/// service with the name `slackir`.
pub(super) fn with_environment(command: Command) -> Command {
    let named = |arg: Arg| match (arg.get_long(), arg.get_env()) {
        (Some(flag), None) => {
            let name = environment_name(flag);
            arg.env(name).hide_env(true)
        }
        _ => arg,
    };
    mut_settings(command, &named)
        .after_help(AFTER_HELP)
        .mut_subcommand("serve", |serve| serve.after_help(AFTER_HELP))
}

fn environment_name(flag: &str) -> String {
    format!("{PREFIX}{}", flag.replace('-', "_").to_uppercase())
}
