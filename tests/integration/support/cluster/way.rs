//! [`Way`]: a way to a server that can be cut like a network.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// The most pieces that are on a way.
const CARRIED: usize = 64;

/// What a way does with what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Carries it.
    Whole,
    /// Nothing passes. It arrives late, when the way is whole again.
    Hang,
    /// Connections end, new ones too.
    Reset,
    /// Nothing passes on the connections that are open now. New ones are whole.
    HangOld,
    /// Everything is so much later.
    Delay(Duration),
    /// Nothing passes towards the server.
    HangUp,
    /// Nothing passes towards the client.
    HangDown,
}

/// A cut, and the number of the first connection that it does not concern.
#[derive(Clone, Copy)]
struct State {
    cut: Cut,
    before: u64,
}

/// Carries connections to a server. Dropping it ends them.
pub(crate) struct Way {
    pub(crate) addr: SocketAddr,
    state: Arc<watch::Sender<State>>,
    accepting: JoinHandle<()>,
}

impl Way {
    /// A way to `target`.
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let (cut, before) = (Cut::Whole, 0);
        let state = Arc::new(watch::Sender::new(State { cut, before }));
        let watched = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            let mut number = 0;
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(carry(client, target, number, watched.subscribe()));
                number += 1;
                watched.send_if_modified(|state| {
                    if state.cut != Cut::HangOld {
                        state.before = number;
                    }
                    false
                });
            }
        });
        Self {
            addr,
            state,
            accepting,
        }
    }

    /// Cuts or mends the way.
    pub(crate) fn cut(&self, cut: Cut) {
        self.state.send_modify(|state| state.cut = cut);
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Carries one connection until it ends.
async fn carry(
    client: TcpStream,
    target: SocketAddr,
    number: u64,
    mut state: watch::Receiver<State>,
) {
    if state.borrow().cut == Cut::Reset {
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    for side in [&client, &server] {
        side.set_nodelay(true).expect("it is a TCP connection");
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (up, down) = (state.clone(), state.clone());
    tokio::select! {
        () = pass(from_client, to_server, up, |state| stops(state, number, Cut::HangUp)) => {}
        () = pass(from_server, to_client, down, |state| stops(state, number, Cut::HangDown)) => {}
        _ = state.wait_for(|state| state.cut == Cut::Reset) => {}
    }
}

/// Whether nothing passes in the direction that `own` cuts.
fn stops(state: &State, number: u64, own: Cut) -> bool {
    match state.cut {
        Cut::Hang => true,
        Cut::HangOld => number < state.before,
        cut => cut == own,
    }
}

/// Passes bytes on, until one side is done.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    stops: impl Fn(&State) -> bool,
) {
    // What comes is noted at once, so that all of it is equally late.
    let (carried, mut arriving) = mpsc::channel(CARRIED);
    let read = async move {
        let mut bytes = vec![0; 16_384];
        while let Ok(read @ 1..) = from.read(&mut bytes).await {
            let arrived = (Instant::now(), bytes[..read].to_vec());
            if carried.send(arrived).await.is_err() {
                break;
            }
        }
    };
    let write = async {
        while let Some((since, bytes)) = arriving.recv().await {
            let Ok(now) = state.wait_for(|state| !stops(state)).await.map(|now| *now) else {
                return;
            };
            if let Cut::Delay(delay) = now.cut {
                sleep_until(since + delay).await;
            }
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // The end passes no sooner than bytes do.
        let _ = state.wait_for(|state| !stops(state)).await;
    };
    tokio::select! {
        () = write => {}
        () = async { read.await; pending().await } => {}
    }
}
