//! The `slackir` binary as a user starts it.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a server may take to start or to end.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long a command that ends by itself may take, in seconds for coreutils' `timeout`.
const END_OF_A_RUN: &str = "60";
/// The exit code of coreutils' `timeout` when the time was over.
const TIMED_OUT: i32 = 124;

/// The binary under test: the one that was built with the tests, or the one that `SLACKIR_TEST_BINARY`
/// names. `scripts/faults` tests an optimized one.
pub(crate) fn program() -> OsString {
    std::env::var_os("SLACKIR_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_slackir").into())
}

/// `slackir` with these arguments, in an environment that says nothing about it.
fn slackir(args: &[&str]) -> Command {
    without_settings(Command::new(program()), args)
}

fn without_settings(mut command: Command, args: &[&str]) -> Command {
    command.args(args);
    forget_settings(&mut command);
    command
}

fn forget_settings(command: &mut Command) {
    for name in [
        "PORT",
        "DATABASE_URL",
        "REDIS_URL",
        "NATS_URL",
        "POOL_SIZE",
        "PHX_HOST",
        "RUST_LOG",
        "SECRET_KEY_BASE",
    ] {
        command.env_remove(name);
    }
    let others = std::env::vars_os().map(|(name, _)| name);
    for name in others.filter(|name| name.to_string_lossy().starts_with("SLACKIR_")) {
        command.env_remove(name);
    }
}

/// Runs `slackir` to its end.
pub(crate) fn run(args: &[&str], dir: &Path) -> Output {
    run_with(args, dir, &[])
}

/// Runs `slackir` to its end in an environment that says this about it. A server that should have been refused and
/// runs on is ended, and fails the test.
pub(crate) fn run_with(args: &[&str], dir: &Path, environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new("timeout");
    command.arg(END_OF_A_RUN).arg(program());
    let output = without_settings(command, args)
        .envs(environment.iter().copied())
        .current_dir(dir)
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let ended_by_itself = output.status.code() != Some(TIMED_OUT);
    assert!(ended_by_itself, "slackir {args:?} goes on running: {said}");
    output
}

/// Starts `slackir`, whose output can be read.
pub(crate) fn spawn(args: &[&str], dir: &Path) -> Child {
    let mut command = slackir(args);
    command.current_dir(dir).stdout(Stdio::piped());
    command.spawn().expect("the binary runs")
}

/// Two workers, on whatever port, and no more than warnings.
const SERVE: [&str; 5] = ["serve", "--workers", "2", "--log", "warn"];

/// A running server. Dropping it kills it.
pub(crate) struct Process {
    pub(crate) addr: SocketAddr,
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a server on a free port with two workers and its files in `dir`, and waits for its
    /// line.
    pub(crate) fn start(dir: &TempDir, args: &[&str]) -> Self {
        Self::start_on(dir, 0, args)
    }

    /// Starts a server with this config file, in a folder of its own.
    pub(crate) fn configured(config: &str, args: &[&str]) -> (TempDir, Self) {
        let dir = tempfile::tempdir().expect("a folder");
        let written = std::fs::write(dir.path().join("slackir.toml"), config);
        written.expect("the file can be written");
        let process = Self::start(&dir, &[&["--config", "slackir.toml"], args].concat());
        (dir, process)
    }

    /// Starts a server with one worker, so that all its clients are on one thread.
    pub(crate) fn start_with_one_worker(dir: &TempDir, args: &[&str]) -> Self {
        let mut command = slackir(&["serve", "--workers", "1", "--log", "warn", "--port", "0"]);
        command.args(args);
        Self::spawn(dir, command)
    }

    pub(crate) fn start_on(dir: &TempDir, port: u16, args: &[&str]) -> Self {
        let mut command = slackir(&SERVE);
        command.args(["--port", &port.to_string()]).args(args);
        Self::spawn(dir, command)
    }

    /// Starts a server in an environment that says this.
    pub(crate) fn start_in(dir: &TempDir, environment: &[(&str, &str)], args: &[&str]) -> Self {
        let mut command = slackir(&SERVE);
        command.args(["--port", "0"]).args(args);
        command.envs(environment.iter().copied());
        Self::spawn(dir, command)
    }

    /// Starts a server that gets a listening socket as systemd passes it, and stays open here.
    pub(crate) fn start_on_socket(dir: &TempDir, listener: &TcpListener, args: &[&str]) -> Self {
        let socket = listener.try_clone().expect("another descriptor");
        let script = "exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(program());
        command.args(SERVE).args(args);
        command.stdin(OwnedFd::from(socket));
        forget_settings(&mut command);
        Self::spawn(dir, command)
    }

    /// Starts a server none of whose files may grow beyond so many bytes.
    pub(crate) fn start_with_files_of(bytes: u32, dir: &TempDir, database_url: &str) -> Self {
        // In blocks of 512 bytes.
        let script = format!("ulimit -S -f {}; exec \"$@\"", bytes / 512);
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).arg(program());
        command.args(SERVE);
        command.args(["--port", "0", "--database-url", database_url]);
        forget_settings(&mut command);
        Self::spawn(dir, command)
    }

    /// Starts a server without a database of its own, whose standard error is this; it logs as by
    /// default.
    pub(crate) fn start_logging_to(stderr: Stdio, dir: &TempDir, args: &[&str]) -> Self {
        let mut command = slackir(&["serve", "--workers", "2", "--port", "0"]);
        command.args(args).stderr(stderr);
        Self::spawn(dir, command)
    }

    /// What it logs, where that was piped.
    pub(crate) fn take_stderr(&mut self) -> ChildStderr {
        self.child.stderr.take().expect("standard error is piped")
    }

    /// Its files may grow.
    pub(crate) fn allow_files_of_any_size(&self) {
        let pid = self.child.id().to_string();
        let limit = ["--fsize=unlimited", "--pid", &pid];
        let set = Command::new("prlimit").args(limit).status();
        assert!(set.expect("prlimit runs").success());
    }

    fn spawn(dir: &TempDir, mut command: Command) -> Self {
        let mut child = command
            .current_dir(dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut stdout = BufReader::new(stdout);
        stdout.read_line(&mut line).expect("stdout can be read");
        // In JSON something stands behind it.
        let said = line.trim_end().trim_end_matches(['"', '}']);
        let url = said.rsplit_once("://");
        let addr = url.and_then(|(_, addr)| addr.parse().ok());
        let addr = addr.unwrap_or_else(|| panic!("the server prints its URL, got {line:?}"));
        Self {
            addr,
            child,
            stdout,
        }
    }

    /// What it prints after the line with its URL.
    pub(crate) fn next_line(&mut self) -> String {
        let mut line = String::new();
        let read = self.stdout.read_line(&mut line);
        read.expect("stdout can be read");
        line.trim_end().to_owned()
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end in order.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args([signal, &pid])
            .status()
            .expect("kill runs");
        assert!(sent.success(), "the server should still run");
    }

    /// Ends it at once, as the kernel does when memory is short.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the server still runs");
        self.child.wait().expect("it can be waited for");
    }

    /// Waits for its end and returns its exit code.
    pub(crate) fn wait(mut self) -> Option<i32> {
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return status.code();
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let mut stderr = String::new();
        if let Some(mut pipe) = self.child.stderr.take() {
            pipe.read_to_string(&mut stderr).ok();
        }
        panic!("the server should have ended within {DEADLINE:?} {stderr}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already cannot be killed; that is fine.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
