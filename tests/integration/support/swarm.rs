//! Many clients at once, on tokio-tungstenite: another implementation of the protocol than the
//! server's, and light enough for a thousand of them.
//!
//! Every shout carries `{"n": id}`; a member remembers the ids in the order in which they came.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// How long a swarm may take to settle.
const DEADLINE: Duration = Duration::from_secs(30);

/// One shout as a member received it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) id: u64,
    pub(crate) at: Instant,
}

/// What a member has received so far.
#[derive(Default)]
struct Diary {
    shouts: Vec<Received>,
    /// The ids of the `messages_history`, once it has come.
    history: Option<Vec<u64>>,
}

/// A client that has joined one room. Its reader goes on until the connection ends.
pub(crate) struct Member {
    topic: String,
    sink: SplitSink<WebSocketStream<MaybeTlsStream<TcpStream>>, Message>,
    diary: Arc<Mutex<Diary>>,
    changed: watch::Receiver<usize>,
    reader: JoinHandle<()>,
}

impl Member {
    /// Connects, joins and waits for the history.
    pub(crate) async fn join(addr: SocketAddr, topic: &str) -> Self {
        let url = format!("ws://{addr}/socket/websocket?vsn=2.0.0");
        let (socket, _) = connect_async(url).await.expect("the server accepts");
        let (mut sink, mut stream) = socket.split();
        let join = format!(r#"["1","1","{topic}","phx_join",{{}}]"#);
        sink.send(Message::text(join))
            .await
            .expect("the connection is open");
        let diary = Arc::new(Mutex::new(Diary::default()));
        let (change, changed) = watch::channel(0);
        let written = Arc::clone(&diary);
        let reader = tokio::spawn(async move {
            let mut frames = 0;
            while let Some(Ok(message)) = stream.next().await {
                if let Message::Text(text) = message {
                    written.lock().expect("no reader panics").note(&text);
                    frames += 1;
                    change.send_replace(frames);
                }
            }
        });
        let mut member = Self {
            topic: topic.to_owned(),
            sink,
            diary,
            changed,
            reader,
        };
        member.wait_until(|diary| diary.history.is_some()).await;
        member
    }

    /// Shouts one id.
    pub(crate) async fn shout(&mut self, id: u64) {
        let text = format!(
            r#"["1","{id}","{}","shout",{{"n":{id},"name":"swarm"}}]"#,
            self.topic
        );
        // A server that was killed takes no more; the test counts what came back.
        self.sink.send(Message::text(text)).await.ok();
    }

    /// Shows that it is there.
    pub(crate) async fn heartbeat(&mut self) {
        let text = r#"[null,"hb","phoenix","heartbeat",{}]"#;
        self.sink.send(Message::text(text)).await.ok();
    }

    /// Waits until `count` shouts have come.
    pub(crate) async fn wait_for(&mut self, count: usize) {
        self.wait_until(|diary| diary.shouts.len() >= count).await;
    }

    /// The shouts that came live, so far.
    pub(crate) fn live(&self) -> Vec<Received> {
        self.diary.lock().expect("no reader panics").shouts.clone()
    }

    /// The history's ids, then the live ones.
    pub(crate) fn everything(&self) -> Vec<u64> {
        let diary = self.diary.lock().expect("no reader panics");
        let history = diary.history.iter().flatten().copied();
        history
            .chain(diary.shouts.iter().map(|shout| shout.id))
            .collect()
    }

    /// Waits for the end of the connection; everything received up to it.
    pub(crate) async fn ended(self) -> Vec<Received> {
        timeout(DEADLINE, self.reader)
            .await
            .expect("the connection ends")
            .expect("no reader panics");
        let diary = self.diary.lock().expect("no reader panics");
        diary.shouts.clone()
    }

    async fn wait_until(&mut self, mut done: impl FnMut(&Diary) -> bool) {
        let diary = Arc::clone(&self.diary);
        let settled = self
            .changed
            .wait_for(|_| done(&diary.lock().expect("no reader panics")));
        let came = timeout(DEADLINE, settled).await;
        let so_far = diary.lock().expect("no reader panics").shouts.len();
        assert!(
            matches!(came, Ok(Ok(_))),
            "a member should get on, it has {so_far} shouts"
        );
    }
}

impl Diary {
    fn note(&mut self, text: &str) {
        let at = Instant::now();
        if text.contains("\"messages_history\"") {
            self.history = Some(ids(text));
        } else if text.contains("\"shout\"") {
            self.shouts
                .extend(ids(text).into_iter().map(|id| Received { id, at }));
        }
    }
}

/// Every id in a frame, in order.
fn ids(text: &str) -> Vec<u64> {
    let digits = |part: &str| {
        part.split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse()
            .ok()
    };
    text.split("\"n\":").skip(1).filter_map(digits).collect()
}
