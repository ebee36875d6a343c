//! A TCP proxy whose connections can be cut.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

/// What the proxy does to its connections.
#[derive(Default)]
pub(in crate::cluster) struct Faults {
    /// Nothing passes. What came meanwhile passes afterwards.
    pub(in crate::cluster) hang: AtomicBool,
    /// Nothing passes to the server.
    pub(in crate::cluster) hang_up: AtomicBool,
    /// Nothing passes from the server.
    pub(in crate::cluster) hang_down: AtomicBool,
    /// Nothing passes from the server on connections with odd numbers. A bus opens that for commands first.
    hang_odd_down: AtomicBool,
    /// Connections up to this number hang.
    hang_old: AtomicU64,
    /// Each chunk passes this many milliseconds late.
    pub(in crate::cluster) delay: AtomicU64,
    /// New connections are closed at once.
    pub(in crate::cluster) refuse: AtomicBool,
    /// Messages of subscriptions get lost, but nothing else.
    pub(in crate::cluster) deaf: AtomicBool,
    /// How many connections there were.
    pub(in crate::cluster) connections: AtomicU64,
}

impl Faults {
    /// Whether nothing passes from the server on connections for commands, if no connection was lost before.
    pub(in crate::cluster) fn hang_commands_down(&self, hang: bool) {
        self.hang_odd_down.store(hang, SeqCst);
    }
}

/// A proxy on a free port. It ends when this is dropped.
pub(in crate::cluster) struct Proxy {
    /// Its port on the loopback interface.
    pub(in crate::cluster) port: u16,
    /// What it does to its connections.
    pub(in crate::cluster) faults: Arc<Faults>,
    resets: watch::Sender<()>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// One direction of one connection.
struct Pipe {
    number: u64,
    is_up: bool,
    faults: Arc<Faults>,
}

impl Proxy {
    /// A proxy to `port`.
    pub(in crate::cluster) fn start(to: u16) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let port = listener.local_addr().expect("its address").port();
        let faults = Arc::new(Faults::default());
        let (resets, _) = watch::channel(());
        let (end, ended) = oneshot::channel::<()>();
        let (shared, reset) = (Arc::clone(&faults), resets.clone());
        let thread = std::thread::spawn(move || {
            super::wait(async {
                let listener = TcpListener::from_std(listener).expect("a runtime");
                tokio::select! {
                    () = accept(listener, to, shared, reset) => {}
                    _ = ended => {}
                }
            });
        });
        Self {
            port,
            faults,
            resets,
            end: Some(end),
            thread: Some(thread),
        }
    }

    /// Closes all connections.
    pub(in crate::cluster) fn reset(&self) {
        self.resets.send_replace(());
    }

    /// The connections of this moment hang, new ones pass.
    pub(in crate::cluster) fn hang_old(&self) {
        let old = self.faults.connections.load(SeqCst);
        self.faults.hang_old.store(old, SeqCst);
    }

    /// What [`Self::hang_old`] has held back passes now.
    pub(in crate::cluster) fn release_old(&self) {
        self.faults.hang_old.store(0, SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

/// Takes connections.
async fn accept(listener: TcpListener, to: u16, faults: Arc<Faults>, resets: watch::Sender<()>) {
    while let Ok((client, _)) = listener.accept().await {
        let number = faults.connections.fetch_add(1, SeqCst) + 1;
        if faults.refuse.load(SeqCst) {
            continue;
        }
        let (faults, mut reset) = (Arc::clone(&faults), resets.subscribe());
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await else {
                return;
            };
            let (faults, again) = (Arc::clone(&faults), faults);
            let (client_in, client_out) = client.into_split();
            let (server_in, server_out) = server.into_split();
            let up = Pipe {
                number,
                is_up: true,
                faults,
            };
            let down = Pipe {
                number,
                is_up: false,
                faults: again,
            };
            tokio::select! {
                () = up.run(client_in, server_out) => {}
                () = down.run(server_in, client_out) => {}
                _ = reset.changed() => {}
            }
        });
    }
}

impl Pipe {
    /// Copies until one side closes.
    async fn run(
        self,
        mut from: tokio::net::tcp::OwnedReadHalf,
        mut to: tokio::net::tcp::OwnedWriteHalf,
    ) {
        let mut chunk = vec![0; 1 << 16];
        loop {
            let Ok(length @ 1..) = from.read(&mut chunk).await else {
                return;
            };
            while self.hangs() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let delay = self.faults.delay.load(SeqCst);
            if delay > 0 {
                tokio::time::sleep(Duration::from_millis(delay)).await;
            }
            let chunk = &chunk[..length];
            let is_message = chunk.windows(9).any(|part| part == b"message\r\n");
            if self.faults.deaf.load(SeqCst) && !self.is_up && is_message {
                continue;
            }
            if to.write_all(chunk).await.is_err() {
                return;
            }
        }
    }

    /// Whether nothing passes now.
    fn hangs(&self) -> bool {
        let faults = &self.faults;
        let direction = if self.is_up {
            &faults.hang_up
        } else {
            &faults.hang_down
        };
        faults.hang.load(SeqCst)
            || direction.load(SeqCst)
            || (!self.is_up && self.number % 2 == 1 && faults.hang_odd_down.load(SeqCst))
            || self.number <= faults.hang_old.load(SeqCst)
    }
}
