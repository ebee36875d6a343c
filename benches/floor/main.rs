//! The floor: what the kernel alone costs a server of Phoenix Channels on this machine. `scripts/bench` compares the
//! server with it.
//!
//! It has no channels: one thread on epoll, one prepared frame for each message, one `send` for each member, and nothing
//! is stored. It speaks version 2 of the protocol as far as `slackir load` does. Anybody may join any topic, and the only
//! limit is that of a client that does not read, so it listens on this machine alone.
//!
//! ```sh
//! cargo build --release --features load --example floor
//! target/release/examples/floor 4900      # by default any free port
//! ```

#[cfg(target_os = "linux")]
mod server;

#[cfg(target_os = "linux")]
fn main() -> Result<(), std::io::Error> {
    use std::io::Error;
    use std::net::{Ipv4Addr, TcpListener};

    let port = std::env::args().nth(1).unwrap_or_else(|| "0".to_owned());
    let port: u16 = port.parse().map_err(Error::other)?;
    rlimit::increase_nofile_limit(u64::MAX)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    println!("the floor listens on {}", listener.local_addr()?);
    server::Floor::new(listener)?.run()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("the floor needs the epoll of Linux");
}
