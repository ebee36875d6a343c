//! The application's backend behind `[hook]`: an HTTP server by hand, which may also answer wrongly or not at all.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::process::Process;
use super::rooms::eventually;

/// The secret of every hook of the tests.
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A call as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct HookCall {
    pub(crate) body: Value,
    /// Lines of the head, with names in lower case.
    pub(crate) head: Vec<String>,
}

impl HookCall {
    pub(crate) fn kind(&self) -> &str {
        self.body["type"].as_str().unwrap_or_default()
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.iter().filter_map(|line| line.split_once(": "));
        lines
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }
}

/// What the backend does with a call.
pub(crate) enum Answer {
    Json(Value),
    /// Status line and further headers, and the body.
    Raw(&'static str, Vec<u8>),
    After(Duration, Box<Answer>),
    Never,
    HangUp,
    /// A body that only the end of the connection ends.
    Unframed(Vec<u8>),
}

impl From<Value> for Answer {
    fn from(value: Value) -> Self {
        Self::Json(value)
    }
}

impl Answer {
    pub(crate) fn after(self, millis: u64) -> Self {
        Self::After(Duration::from_millis(millis), Box::new(self))
    }
}

type MakeAnswer = dyn Fn(&HookCall) -> Answer + Send + Sync;

/// A running backend. Dropping it ends it.
pub(crate) struct HookBackend {
    pub(crate) addr: SocketAddr,
    seen: Arc<Seen>,
    _server: tokio::task::JoinSet<()>,
}

struct Seen {
    /// With which calls are signed.
    secret: Mutex<String>,
    calls: Mutex<Vec<HookCall>>,
    open: AtomicUsize,
    most: AtomicUsize,
}

impl HookBackend {
    pub(crate) async fn start(
        answer: impl Fn(&HookCall) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let seen = Arc::new(Seen {
            secret: Mutex::new(SECRET.to_owned()),
            calls: Mutex::default(),
            open: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        });
        let answer: Arc<MakeAnswer> = Arc::new(answer);
        let mut server = tokio::task::JoinSet::new();
        let all = Arc::clone(&seen);
        server.spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&all), Arc::clone(&answer)));
            }
        });
        Self {
            addr,
            seen,
            _server: server,
        }
    }

    /// The calls to come are signed with this secret.
    pub(crate) fn expect_secret(&self, secret: &str) {
        secret.clone_into(&mut self.seen.secret.lock().expect("sound"));
    }

    /// The calls so far, with right signatures.
    pub(crate) fn calls(&self) -> Vec<HookCall> {
        self.seen.calls.lock().expect("sound").clone()
    }

    /// The bodies of the calls of this type.
    pub(crate) fn bodies(&self, kind: &str) -> Vec<Value> {
        let calls = self.calls().into_iter().filter(|call| call.kind() == kind);
        calls.map(|call| call.body).collect()
    }

    /// Waits for this many calls of this type, and returns their bodies.
    pub(crate) async fn wait_for(&self, kind: &str, count: usize) -> Vec<Value> {
        eventually("the calls arrive", || self.bodies(kind).len() >= count).await;
        self.bodies(kind)
    }

    /// The most calls that were open at once.
    pub(crate) fn most_at_once(&self) -> usize {
        self.seen.most.load(Ordering::SeqCst)
    }

    /// A server whose rooms ask this backend; `hook` is more of that section.
    pub(crate) fn serve(&self, hook: &str, rooms: &str) -> (TempDir, Process) {
        serve_with_hook(self.addr, hook, rooms)
    }
}

/// A server whose rooms ask a backend at this address.
pub(crate) fn serve_with_hook(addr: SocketAddr, hook: &str, rooms: &str) -> (TempDir, Process) {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name, text: &str| std::fs::write(dir.path().join(name), text).expect("writable");
    write("hook.secret", SECRET);
    let config = format!(
        "[hook]\nurl = \"http://{addr}/slackir?app=1\"\nsecret_file = \"hook.secret\"\n{hook}\n{rooms}"
    );
    write("slackir.toml", &config);
    let process = Process::start(&dir, &["--config", "slackir.toml"]);
    (dir, process)
}

async fn serve(stream: TcpStream, seen: Arc<Seen>, answer: Arc<MakeAnswer>) {
    let mut stream = BufReader::new(stream);
    while let Some((call, body)) = read_call(&mut stream).await {
        verify(&call, &body, &seen.secret.lock().expect("sound"));
        let most = seen.open.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most.fetch_max(most, Ordering::SeqCst);
        seen.calls.lock().expect("sound").push(call.clone());
        let mut made = answer(&call);
        while let Answer::After(pause, then) = made {
            tokio::time::sleep(pause).await;
            made = *then;
        }
        seen.open.fetch_sub(1, Ordering::SeqCst);
        let (head, body) = match made {
            Answer::Json(value) => ("200 OK", value.to_string().into_bytes()),
            Answer::Raw(head, body) => (head, body),
            Answer::HangUp => return,
            Answer::Unframed(body) => {
                let head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
                let _ = stream.write_all(&[&head[..], &body].concat()).await;
                return;
            }
            Answer::Never | Answer::After(..) => std::future::pending().await,
        };
        let length = body.len();
        let head = format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\n\r\n");
        let sent = stream.write_all(&[head.as_bytes(), &body].concat()).await;
        if sent.is_err() {
            return;
        }
    }
}

/// The next call of a connection; `None` at its end.
async fn read_call(stream: &mut BufReader<TcpStream>) -> Option<(HookCall, Vec<u8>)> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ").unwrap_or((line, ""));
        head.push(format!("{}: {value}", name.to_ascii_lowercase()));
    }
    let mut call = HookCall {
        body: json!(null),
        head,
    };
    assert_eq!(call.head[0], "post /slackir?app=1 http/1.1: ");
    assert_eq!(call.header("content-type"), Some("application/json"));
    let length = call.header("content-length").expect("a length");
    let mut body = vec![0; length.parse().expect("a number")];
    stream.read_exact(&mut body).await.ok()?;
    call.body = serde_json::from_slice(&body).expect("JSON");
    Some((call, body))
}

/// The check that docs/HOOK.md asks of a backend.
fn verify(call: &HookCall, body: &[u8], secret: &str) {
    let signature = call.header("slackir-signature").expect("a signature");
    let (time, mac) = signature.split_once(",v1=").expect("two parts");
    let time = time.strip_prefix("t=").expect("a time");
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .expect("after 1970");
    let age = now.as_secs().abs_diff(time.parse().expect("seconds"));
    assert!(age < 300, "{signature}");
    let own = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    let own = own.chain_update(format!("{time}.")).chain_update(body);
    let own = own.finalize().into_bytes();
    let own: String = own.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(mac, own);
}
