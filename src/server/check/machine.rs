//! What the settings need of this machine: folders, the port, open files, the clock.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Access, access};

use super::Finding;
use crate::server::config::ServeConfig;
use crate::server::probe;
use crate::store;

/// Open files of a server beside its connections.
const OTHER_FILES: u64 = 128;

/// The longest wait for what listens on the port.
const PATIENCE: Duration = Duration::from_secs(2);

/// 2026-01-01, in seconds since 1970: before that there was no such server.
const BEGINNING: Duration = Duration::from_secs(1_767_225_600);

/// The time by which the clock may be behind the program's file.
const BEHIND: Duration = Duration::from_secs(24 * 3_600);

pub(super) fn spool(config: &ServeConfig) -> Finding {
    const NAME: &str = "spool";
    let dir = match &config.spool_dir {
        Some(dir) => Ok(dir.clone()),
        None => store::default_spool(&config.database.database_url),
    };
    match dir {
        Ok(dir) => folder(NAME, "spool_dir", &dir),
        Err(error) => Finding::fail(NAME, error.to_string()),
    }
}

/// The folder of the account and of the certificates of ACME; `None` without ACME.
pub(super) fn acme_dir(config: &ServeConfig) -> Option<Finding> {
    const NAME: &str = "acme_dir";
    let is_on = !config.tls.acme.is_empty();
    is_on.then(|| folder(NAME, NAME, &config.tls.acme_dir))
}

/// A folder that the server makes and writes into. `setting` names it.
fn folder(name: &'static str, setting: &str, dir: &Path) -> Finding {
    let shown = dir.display();
    match fs::metadata(dir) {
        Ok(found) if !found.is_dir() => {
            Finding::fail(name, format!("{shown} is no folder: correct {setting}"))
        }
        Ok(_) if is_writable(dir) => Finding::ok(name, format!("{shown} can be written")),
        Ok(_) => Finding::fail(
            name,
            format!("{shown} cannot be written: give it to the user of the server (chown)"),
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = dir
                .ancestors()
                .skip(1)
                .find(|above| above.exists() || is_here(above));
            match above {
                Some(above) if is_writable(above) => {
                    Finding::ok(name, format!("{shown} will be created"))
                }
                _ => Finding::fail(
                    name,
                    format!("{shown} cannot be created: create it for the user of the server"),
                ),
            }
        }
        Err(error) => Finding::fail(name, format!("{shown}: {error}")),
    }
}

fn is_here(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

/// Whether this user may write into a folder. It writes nothing.
fn is_writable(folder: &Path) -> bool {
    let folder = if is_here(folder) {
        Path::new(".")
    } else {
        folder
    };
    folder.is_dir() && access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

/// The findings about ports, which a server that runs has taken itself.
pub(crate) const PORTS: [&str; 2] = ["port", "admin_listen"];

/// The ports of clients and of operators.
pub(super) fn ports(config: &ServeConfig) -> Vec<Finding> {
    let clients = SocketAddr::new(config.host, config.port);
    let operators = config.operators_address();
    let asked = (probe::reachable(operators), config.operators_have_tls());
    let [own, of_operators] = PORTS;
    let mut findings = vec![port(own, "host", clients, asked)];
    if operators != clients {
        findings.push(port(of_operators, of_operators, operators, asked));
    }
    findings
}

/// Whether `address`, which `setting` names, is free. A server that runs answers where `asked` says.
fn port(
    name: &'static str,
    setting: &str,
    address: SocketAddr,
    asked: (SocketAddr, bool),
) -> Finding {
    if address.port() == 0 {
        return Finding::ok(name, "a free one is taken");
    }
    let error = match TcpListener::bind(address) {
        Ok(_) => return Finding::ok(name, format!("{address} is free")),
        Err(error) => error,
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => in_use(name, address, asked),
        io::ErrorKind::PermissionDenied => Finding::fail(
            name,
            format!(
                "{address} needs the right to use ports below 1024: take another, or give CAP_NET_BIND_SERVICE"
            ),
        ),
        io::ErrorKind::AddrNotAvailable => Finding::fail(
            name,
            format!(
                "{} is no address of this machine: correct {setting}",
                address.ip()
            ),
        ),
        _ => Finding::fail(name, format!("{address}: {error}")),
    }
}

/// The port of a server that runs is in use, of course.
fn in_use(name: &'static str, address: SocketAddr, asked: (SocketAddr, bool)) -> Finding {
    match probe::get(asked, "/healthz", PATIENCE) {
        Ok(answer) if answer.status == 200 && answer.line == "ok" => Finding::warn(
            name,
            format!(
                "{address} is in use by a server that answers as slackir does: stop it before you start another"
            ),
        ),
        _ => Finding::fail(
            name,
            format!(
                "{address} is in use by another program: take another port (`ss -ltnp` names the program)"
            ),
        ),
    }
}

/// The server raises its own limit up to the hard one.
pub(super) fn descriptors(config: &ServeConfig) -> Finding {
    const NAME: &str = "descriptors";
    let needed = config.max_connections as u64 + OTHER_FILES;
    match rlimit::Resource::NOFILE.get_hard() {
        Ok(hard) if hard >= needed => Finding::ok(
            NAME,
            format!(
                "{} connections need {needed} open files",
                config.max_connections
            ),
        ),
        Ok(hard) => Finding::warn(
            NAME,
            format!(
                "max_connections is {}, but the limit of open files is {hard}: raise it to {needed} \
                 (LimitNOFILE= in systemd, --ulimit nofile= in Docker, ulimit -Hn), or lower max_connections",
                config.max_connections
            ),
        ),
        Err(error) => Finding::warn(NAME, format!("the limit of open files is unknown: {error}")),
    }
}

/// Tokens, times of messages and retention need the time of day.
pub(super) fn clock() -> Finding {
    let program = fs::metadata("/proc/self/exe").and_then(|file| file.modified());
    clock_at(SystemTime::now(), program.ok())
}

fn clock_at(now: SystemTime, program: Option<SystemTime>) -> Finding {
    const NAME: &str = "clock";
    let is_behind = program.is_some_and(|made| now + BEHIND < made);
    if is_behind || now < UNIX_EPOCH + BEGINNING {
        Finding::fail(
            NAME,
            "it is behind: tokens would count as not valid yet, and messages get wrong times; start a time \
             service (`timedatectl set-ntp true`)",
        )
    } else {
        Finding::ok(NAME, "it shows a time after this program was made")
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_clock_before_the_program_is_wrong() {
        let now = UNIX_EPOCH + BEGINNING + Duration::from_secs(1_000_000);
        let level = |now, program| clock_at(now, program).level;
        assert_eq!(level(now, None), Level::Ok);
        assert_eq!(level(now, Some(now)), Level::Ok);
        assert_eq!(level(now, Some(now + 2 * BEHIND)), Level::Fail);
        assert_eq!(level(UNIX_EPOCH, None), Level::Fail);
    }
}
