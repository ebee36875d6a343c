//! A way to a server that can be cut and mended.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Passes connections on while it is whole. Dropping it ends them.
pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    whole: Arc<watch::Sender<bool>>,
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
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut whole = watched.subscribe();
                tokio::spawn(async move {
                    if !*whole.borrow() {
                        return;
                    }
                    let Ok(mut server) = TcpStream::connect(target).await else {
                        return;
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        _ = whole.wait_for(|whole| !whole) => {}
                    }
                });
            }
        });
        Self {
            addr,
            whole,
            accepting,
        }
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
