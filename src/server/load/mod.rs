//! `slackir load`: clients that put a load on a server, and check that no message is lost, doubled or out of order.
//!
//! One thread has all clients. It waits for their sockets, reads each with one system call, and finds the messages of
//! the load without parsing frames, so that it leaves the CPU to the server. It speaks version 2 of the protocol, to any
//! Phoenix Channels server.

mod client;
mod crowd;
mod echo;
mod frame;
mod mark;
mod phases;
mod poll;
mod publish;
mod report;
mod storm;
mod tls;
mod topic;
mod usage;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::AtomicBool;

use serde_json::{Map, Value};
use url::Url;

use self::crowd::Crowd;
use self::mark::Template;
use self::tls::ClientTls;
use self::usage::{ServerUse, Usage};
use crate::server::config::{LoadConfig, LoadMode};
use crate::server::console::{OutputError, print, say};

/// Files that the load needs beside those of its clients.
const OTHER_FILES: u64 = 32;

/// A load could not run, or has found a fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The join params are no object.
    #[error("--join must be a JSON object, such as {{\"resume\": false}}")]
    Join,
    /// The payload has no place for the mark.
    #[error(
        "--payload must be a JSON object with {{mark}} in one of its strings, such as {{\"message\": \"{{mark}}\"}}"
    )]
    Payload,
    /// The host has no address.
    #[error("{host} has no address: {source}")]
    NoAddress {
        /// The host of the URL.
        host: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The server is on another machine.
    #[error(
        "{address} is another machine, which the load may slow down or stop; say --yes if it is yours"
    )]
    OtherMachine {
        /// The address of the host.
        address: SocketAddr,
    },
    /// The server on another machine is not verified.
    #[error(
        "{address} is another machine: --insecure is for a server on this machine; name the issuer of its certificate \
        with --ca"
    )]
    Insecure {
        /// The address of the host.
        address: SocketAddr,
    },
    /// TLS cannot be used.
    #[error("{0}")]
    Tls(String),
    /// There is no such process.
    #[error("--pid {pid}: {source}; it must be the id of the server's process, on this machine")]
    NoProcess {
        /// The process.
        pid: u32,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The limit of open files is too low.
    #[error(
        "{clients} clients need {needed} open files, and this process may open {allowed}: raise `ulimit -n`, or take \
        fewer clients"
    )]
    Files {
        /// The clients.
        clients: usize,
        /// The files that they need.
        needed: u64,
        /// The limit.
        allowed: u64,
    },
    /// The system opens no more connections.
    #[error("after {opened} connections this machine opens no more: {source}")]
    System {
        /// The connections that are open.
        opened: u64,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The system cannot wait for connections.
    #[error("cannot wait for connections: {0}")]
    Poll(#[source] io::Error),
    /// No client has joined.
    #[error("no client has joined at {url}: {problem}")]
    NoneJoined {
        /// The server.
        url: Url,
        /// What most of them have met.
        problem: String,
    },
    /// The server has done something wrong; the result was printed.
    #[error("{0}")]
    Fault(String),
    /// Standard output.
    #[error("{0}")]
    Output(#[from] OutputError),
}

/// Runs a load until its end, or until it is asked to end, and prints the result.
///
/// # Errors
/// If it cannot run, if the server has lost, doubled or reordered a message, or if it has refused or closed a client.
pub(crate) fn load(config: &LoadConfig, asked: &AtomicBool) -> Result<(), LoadError> {
    serde_json::from_str::<Map<String, Value>>(&config.join).map_err(|_| LoadError::Join)?;
    let template = Template::new(&config.payload, config.size).ok_or(LoadError::Payload)?;
    let addresses = addresses(config)?;
    let mut elsewhere = addresses
        .iter()
        .filter(|address| !address.ip().is_loopback());
    if let Some(&address) = elsewhere.next()
        && !config.yes
    {
        return Err(LoadError::OtherMachine { address });
    }
    allow_files(config.clients)?;
    let tls = ClientTls::of(config, &addresses)?;
    let mut crowd = Crowd::new(config, addresses, tls, template)?;
    let before = Usage::of(&config.pids)?;
    crowd.join_all(asked)?;
    let joined = Usage::of(&config.pids)?;
    if crowd.report.joined == 0 {
        let problem = crowd
            .report
            .refused
            .first()
            .unwrap_or("it was asked to end");
        return Err(LoadError::NoneJoined {
            url: without_query(&config.url),
            problem: problem.to_owned(),
        });
    }
    match config.mode {
        LoadMode::Fanout => {
            say(format_args!(
                "{} clients have joined and publish",
                crowd.report.joined
            ));
            crowd.publish_all(asked)?;
        }
        LoadMode::Idle => {
            say(format_args!("{} clients have joined", crowd.report.joined));
            crowd.stay(asked)?;
        }
        LoadMode::Echo => {
            say(format_args!(
                "{} clients have joined and ask",
                crowd.report.joined
            ));
            crowd.ask_all(asked)?;
        }
        LoadMode::Storm => {
            say(format_args!(
                "{} clients have joined, and {} will come back",
                crowd.report.joined,
                crowd.breaking_off().len()
            ));
            crowd.storm(asked)?;
        }
        LoadMode::Connect => {}
    }
    let ended = Usage::of(&config.pids)?;
    crowd.report.server = before
        .zip(joined)
        .zip(ended)
        .map(|((before, joined), ended)| {
            let report = &crowd.report;
            ServerUse {
                cpu_us_each: match report.work() {
                    0 => joined.cpu_us_each(before, report.joined),
                    count => ended.cpu_us_each(joined, count),
                },
                bytes_each: joined.bytes_each(before, report.joined),
            }
        });
    crowd.leave_all()?;
    let report = &crowd.report;
    if config.json {
        print(report.json())?;
    } else {
        print(report)?;
    }
    report
        .problem()
        .map_or(Ok(()), |problem| Err(LoadError::Fault(problem)))
}

/// The addresses of the server, or of all nodes.
fn addresses(config: &LoadConfig) -> Result<Vec<SocketAddr>, LoadError> {
    let host = config.url.host_str().unwrap_or_default();
    let port = config.url.port_or_known_default().unwrap_or(80);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let mut addresses = vec![address(host, (bare, port))?];
    for node in &config.nodes {
        addresses.push(address(node, &**node)?);
    }
    Ok(addresses)
}

/// The address of a host.
fn address(host: &str, named: impl ToSocketAddrs) -> Result<SocketAddr, LoadError> {
    let failed = |source| LoadError::NoAddress {
        host: host.to_owned(),
        source,
    };
    let addresses = named.to_socket_addrs().map_err(failed)?;
    // A server listens on the IPv4 address of localhost by default.
    let mut addresses: Vec<_> = addresses.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let first = addresses.first().copied();
    first.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

/// Raises the limit of open files as far as it may go.
fn allow_files(clients: usize) -> Result<(), LoadError> {
    let allowed = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(u64::MAX);
    let needed = clients as u64 + OTHER_FILES;
    if needed > allowed {
        return Err(LoadError::Files {
            clients,
            needed,
            allowed,
        });
    }
    Ok(())
}

/// The params may hold a token.
fn without_query(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url
}
