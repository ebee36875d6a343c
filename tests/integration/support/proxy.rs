//! A way to a server that can be cut and mended.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Passes connections on while it is whole. Dropping it ends them.
pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    whole: Arc<watch::Sender<bool>>,
    sent: Arc<Mutex<Vec<u8>>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// A proxy in front of `target`, a host and a port.
    pub(crate) async fn start(target: &str) -> Self {
        let target = target.to_socket_addrs().ok().and_then(|mut all| all.next());
        let target = target.expect("the server's address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let whole = Arc::new(watch::Sender::new(true));
        let watched = Arc::clone(&whole);
        let sent = Arc::default();
        let seen = Arc::clone(&sent);
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut whole = watched.subscribe();
                let seen = Arc::clone(&seen);
                tokio::spawn(async move {
                    if !*whole.borrow() {
                        return;
                    }
                    let Ok(mut server) = TcpStream::connect(target).await else {
                        return;
                    };
                    tokio::select! {
                        () = pass_on(&mut client, &mut server, &seen) => {}
                        _ = whole.wait_for(|whole| !whole) => {}
                    }
                });
            }
        });
        Self {
            addr,
            whole,
            sent,
            accepting,
        }
    }

    /// Whether these bytes came from a client.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(dead_code, reason = "only PostgreSQL's tests ask what was sent")
    )]
    pub(crate) fn has_sent(&self, text: &str) -> bool {
        let sent = self.sent.lock().expect("nobody panics with it");
        sent.windows(text.len())
            .any(|bytes| bytes == text.as_bytes())
    }

    /// Ends every connection; new ones end at once.
    pub(crate) fn cut(&self) {
        self.whole.send_replace(false);
    }

    pub(crate) fn mend(&self) {
        self.whole.send_replace(true);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.accepting.abort();
    }
}

/// Until one side is done.
async fn pass_on(client: &mut TcpStream, server: &mut TcpStream, seen: &Mutex<Vec<u8>>) {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let up = async {
        let mut bytes = [0; 8_192];
        while let Ok(read @ 1..) = from_client.read(&mut bytes).await {
            seen.lock()
                .expect("nobody panics with it")
                .extend_from_slice(&bytes[..read]);
            if to_server.write_all(&bytes[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        _ = copy(&mut from_server, &mut to_client) => {}
    }
}
