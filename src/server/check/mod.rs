//! [`check`]: whether a server could run with these settings. It looks at everything that they name, and changes
//! nothing. `slackir config check` prints the findings.

mod bus;
mod certificate;
mod keys;
mod machine;
mod network;

use std::fmt;

pub(crate) use self::machine::PORTS;
use crate::server::config::{ServeConfig, Switch};
use crate::server::explain;
use crate::server::page;
use crate::server::sockets;
use crate::store::{self, DatabaseCondition};
use crate::transport::{CheckOrigin, HostName};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// It is as it should be.
    Ok,
    /// A server starts, but the operator should know this.
    Warn,
    /// A server does not start, or does not work.
    Fail,
}

/// One line of the check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// How much it matters.
    pub(crate) level: Level,
    /// What was looked at.
    pub(crate) name: &'static str,
    /// What was found, and what to do about it.
    pub(crate) text: String,
}

impl Finding {
    pub(crate) fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Ok, name, text)
    }

    pub(crate) fn warn(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Warn, name, text)
    }

    pub(crate) fn fail(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Fail, name, text)
    }

    fn new(level: Level, name: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { level, name, text }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        };
        write!(f, "{level:<4}  {}: {}", self.name, self.text)
    }
}

/// Looks at everything that the settings name. It waits for the disk, for the database and for other machines, so it
/// needs a thread of its own.
pub(crate) fn check(config: &ServeConfig) -> Vec<Finding> {
    let mut findings = vec![settings(config)];
    findings.extend(rooms(config));
    if config.persist == Switch::On {
        findings.push(database(config));
        findings.push(machine::spool(config));
    }
    findings.extend(machine::ports(config));
    findings.push(machine::descriptors(config));
    findings.extend(static_dir(config));
    findings.push(origins(config));
    findings.extend(certificate::certificate(config));
    findings.extend(machine::acme_dir(config));
    findings.extend(keys::keys(config));
    findings.extend(network::network(config));
    findings.extend(bus::bus(config));
    findings.extend(network::collector(&config.otel));
    findings.push(machine::clock());
    findings
}

fn settings(config: &ServeConfig) -> Finding {
    match &config.file.path {
        Some(path) => Finding::ok("config", format!("{} is valid", path.display())),
        None => Finding::ok("config", "there is no config file; the settings are valid"),
    }
}

fn rooms(config: &ServeConfig) -> Vec<Finding> {
    let mistakes = explain::mistakes(config);
    if mistakes.is_empty() {
        let rooms = config.rooms.len();
        let plural = if rooms == 1 { "room" } else { "rooms" };
        return vec![Finding::ok("rooms", format!("{rooms} {plural}"))];
    }
    let findings = mistakes.into_iter().map(|(topics, mistake)| {
        let place = topics.map_or_else(|| "[identity]".to_owned(), ToString::to_string);
        Finding::warn("rooms", format!("{place}: {mistake}"))
    });
    findings.collect()
}

fn database(config: &ServeConfig) -> Finding {
    const NAME: &str = "database";
    let url = &config.database.database_url;
    let shown = store::redacted(url);
    match DatabaseCondition::of(url) {
        Ok(DatabaseCondition::Current) => {
            Finding::ok(NAME, format!("{shown} has the tables of this version"))
        }
        Ok(DatabaseCondition::Missing(path)) => {
            let file = path.display();
            Finding::warn(
                NAME,
                format!("there is no file {file} yet: it will be created"),
            )
        }
        Ok(DatabaseCondition::Older(migrations)) => Finding::warn(
            NAME,
            format!(
                "{shown} lacks {migrations} migrations: the server runs them at its start, or run \
                 `slackir migrate` now"
            ),
        ),
        Ok(DatabaseCondition::Newer(migrations)) => Finding::warn(
            NAME,
            format!(
                "{shown} has {migrations} migrations of a later version: this version works with them, but \
                 update it soon"
            ),
        ),
        Err(error) => Finding::fail(NAME, error.to_string()),
    }
}

fn static_dir(config: &ServeConfig) -> Option<Finding> {
    const NAME: &str = "static_dir";
    let folder = config.static_dir.as_deref()?;
    let shown = folder.display();
    Some(match page::page(Some(folder)) {
        Err(error) => Finding::fail(NAME, format!("{error}: create it, or correct static_dir")),
        Ok(_) if folder.join("index.html").is_file() => Finding::ok(NAME, format!("{shown}")),
        Ok(_) => Finding::warn(
            NAME,
            format!("{shown} has no index.html: / answers 404, so put the frontend there"),
        ),
    })
}

fn origins(config: &ServeConfig) -> Finding {
    const NAME: &str = "check_origin";
    let rule = match sockets::check_origin(config) {
        Ok(rule) => rule,
        Err(error) => return Finding::fail(NAME, error.to_string()),
    };
    match (rule, &config.public_host) {
        (CheckOrigin::List(patterns), Some(host)) => {
            let name = host.parse::<HostName>();
            let allows = |name| patterns.iter().any(|pattern| pattern.has_host(&name));
            if name.is_ok_and(allows) {
                Finding::ok(NAME, format!("pages of {host} may open a socket"))
            } else {
                Finding::warn(
                    NAME,
                    format!("the list lacks the public_host: add //{host}, or its pages get 403"),
                )
            }
        }
        (CheckOrigin::OwnAddress, None) => Finding::warn(
            NAME,
            "pages may reach this server by its IP address only: set public_host to the name that browsers use",
        ),
        (CheckOrigin::Off, _) => Finding::warn(
            NAME,
            "it is off, so the pages of every site may open a socket with a visitor's cookies",
        ),
        _ => Finding::ok(NAME, config.check_origin.clone()),
    }
}
