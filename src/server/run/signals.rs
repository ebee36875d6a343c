//! The signals of the server: those that end it, SIGHUP, which reloads settings, and SIGUSR1 and SIGUSR2,
//! which are ignored.

use std::fs::{self, File};
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::reload::{Reloadable, Reloader};
use crate::server::systemd;
use crate::server::telemetry::Logging;
use crate::shutdown::Signals;

/// All these signals, caught since the start of the process.
pub(super) struct ServerSignals<'a> {
    ending: Signals,
    hangup: Signal,
    user: [Signal; 2],
    /// Whether a SIGHUP may mean that the terminal was closed.
    in_terminal: bool,
    logging: &'a Logging,
    /// `None` if the settings do not come from the command line.
    reloader: Option<Reloader>,
}

impl<'a> ServerSignals<'a> {
    /// `reloader`: `None` if the settings do not come from the command line.
    pub(super) fn listen(logging: &'a Logging, reloader: Option<Reloader>) -> io::Result<Self> {
        let in_terminal = has_terminal() && !is_hangup_ignored();
        Ok(Self {
            ending: Signals::listen()?,
            hangup: signal(SignalKind::hangup())?,
            user: [
                signal(SignalKind::user_defined1())?,
                signal(SignalKind::user_defined2())?,
            ],
            in_terminal,
            logging,
            reloader,
        })
    }

    /// From now on SIGHUP applies new settings to these parts.
    pub(super) fn reload_into(&mut self, parts: Reloadable) {
        if let Some(reloader) = &mut self.reloader {
            reloader.begin(parts);
        }
    }

    /// Waits for a signal that ends the server, and handles the others meanwhile.
    pub(super) async fn end(&mut self) {
        loop {
            let [user1, user2] = &mut self.user;
            tokio::select! {
                _ = self.ending.next() => return,
                _ = self.hangup.recv() => {
                    if self.in_terminal && !has_terminal() {
                        tracing::info!(signal = "SIGHUP", "serve.terminal.closed");
                        // Closing a terminal may send the signal more than once.
                        self.in_terminal = false;
                        return;
                    }
                    if let Some(reloader) = &mut self.reloader {
                        systemd::reloading();
                        reloader.reload(self.logging);
                        systemd::reloaded();
                    } else {
                        tracing::info!(signal = "SIGHUP", "serve.signal.ignored");
                    }
                }
                _ = user1.recv() => tracing::info!(signal = "SIGUSR1", "serve.signal.ignored"),
                _ = user2.recv() => tracing::info!(signal = "SIGUSR2", "serve.signal.ignored"),
            }
        }
    }
}

/// Whether the process has a terminal that is open.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// Whether the process ignores SIGHUP, as after `nohup`.
fn is_hangup_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let bit = SignalKind::hangup().as_raw_value() - 1;
    ignored.is_some_and(|mask| mask >> bit & 1 == 1)
}
