//! What systemd and the server tell each other: a listening socket, and the state of the service. Without systemd
//! nothing happens.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

/// The listening socket that systemd has opened (`LISTEN_FDS`), if any. It stays open while the service restarts, so
/// that no client is refused. Call it before any thread is started, because it changes the environment.
///
/// # Errors
/// If what was passed is no listening TCP socket.
pub(crate) fn listener() -> io::Result<Option<TcpListener>> {
    ListenFd::from_env().take_tcp_listener(0)
}

/// The server accepts clients.
pub(crate) fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The server shuts down.
pub(crate) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// The server reads its settings again. [`reloaded`] must follow.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "systemd.notify.failed"),
    }
}

/// The settings are read.
pub(crate) fn reloaded() {
    notify(&[NotifyState::Ready]);
}

/// The line of `systemctl status`.
pub(crate) fn status(status: &str) {
    notify(&[NotifyState::Status(status)]);
}

/// The time within which systemd wants a sign of life; `None` if it wants none.
pub(crate) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|period| !period.is_zero())
}

/// The sign of life.
pub(crate) fn alive() {
    notify(&[NotifyState::Watchdog]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd.notify.failed");
    }
}
