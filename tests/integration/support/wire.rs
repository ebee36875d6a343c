//! The wire as a test sees it: a WebSocket and an HTTP client, by hand over a bare `TcpStream`. It shares
//! no code with the server, so no mistake in the framing cancels itself out, and it may break what a good
//! client keeps: the mask, the true length, the reading. What the server breaks is a [`Frame::Violation`].
#![allow(dead_code, reason = "no single test uses every word of it")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Chain};
use tokio::net::{TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};

/// The longest that any one step of a test may take, on a machine that does much else.
pub(crate) const DEADLINE: Duration = Duration::from_secs(15);
/// The key of RFC 6455 section 1.3, whose answer is printed there: no SHA-1 needed to check the server's.
const SAMPLE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const SAMPLE_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Request headers to add or to put in the place of a default one; `None` takes the default away.
pub(crate) type Headers<'a> = &'a [(&'a str, Option<&'a str>)];

/// What arrived from the server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Frame {
    Text(serde_json::Value),
    RawText(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
    /// The stream ended, by FIN or by RST. Nothing follows.
    Eof,
    /// The server broke the protocol; the text says how. Nothing follows.
    Violation(String),
}

impl Frame {
    /// Parsed where it is JSON.
    pub(crate) fn text(text: String) -> Self {
        serde_json::from_str(&text).map_or(Self::RawText(text), Self::Text)
    }
}

/// One frame exactly as it should go out, right or wrong.
#[derive(Debug, Clone)]
pub(crate) struct RawFrame {
    /// With the three reserved bits above its own four.
    pub(crate) opcode: u8,
    pub(crate) fin: bool,
    /// A client must mask; a test of the refusal does not.
    pub(crate) masked: bool,
    /// The length to claim in the header when it is not the payload's.
    pub(crate) declared_len: Option<u64>,
    pub(crate) payload: Vec<u8>,
}

impl RawFrame {
    /// A whole, correctly masked frame: the one to deviate from with `..`.
    pub(crate) fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            opcode,
            fin: true,
            masked: true,
            declared_len: None,
            payload: payload.into(),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let length = self.declared_len.unwrap_or(self.payload.len() as u64);
        let long = length.to_be_bytes();
        let (short, extended) = match length {
            0..=125 => (long[7], &long[8..]),
            126..=0xffff => (126, &long[6..]),
            _ => (127, &long[..]),
        };
        let first = u8::from(self.fin) << 7 | self.opcode;
        let mut bytes = vec![first, u8::from(self.masked) << 7 | short];
        bytes.extend(extended);
        let mut key = [0; 4];
        if self.masked {
            key = [0x37, 0xfa, 0x21, long[7] ^ 0x3d];
            bytes.extend(key);
        }
        let keyed = self.payload.iter().zip(key.iter().cycle());
        bytes.extend(keyed.map(|(byte, key)| byte ^ key));
        bytes
    }
}

/// What arrived over a connection and was not asked for yet, in order. Its other half is the task that
/// reads the connection; it is closed after the last frame.
#[derive(Debug)]
pub(crate) struct Received(mpsc::UnboundedReceiver<Frame>);

impl Received {
    pub(crate) fn new() -> (mpsc::UnboundedSender<Frame>, Self) {
        let (deliver, frames) = mpsc::unbounded_channel();
        (deliver, Self(frames))
    }

    /// The next `count` frames; fewer when `limit` passes or the stream ends before.
    pub(crate) async fn recv(&mut self, count: usize, limit: Duration) -> Vec<Frame> {
        let end = Instant::now() + limit;
        let mut frames = Vec::new();
        while frames.len() < count
            && let Ok(Some(frame)) = timeout_at(end, self.0.recv()).await
        {
            frames.push(frame);
        }
        frames
    }

    /// Every frame: the `expected` ones, and what follows until `silence` passes without one; an
    /// endless stream is cut off after [`DEADLINE`].
    /// Counted in tenths: a machine that stalls for a moment loses one of them, not the whole wait.
    pub(crate) async fn drain(&mut self, expected: usize, silence: Duration) -> Vec<Frame> {
        let mut frames = self.recv(expected, DEADLINE).await;
        let end = Instant::now() + silence + DEADLINE;
        let mut silent_tenths = 0;
        while silent_tenths < 10 && Instant::now() < end {
            silent_tenths += 1;
            if let Some(frame) = self.recv(1, silence / 10).await.pop() {
                frames.push(frame);
                silent_tenths = 0;
            }
        }
        frames
    }

    /// The next frame, which must be a JSON text.
    pub(crate) async fn next_text(&mut self) -> serde_json::Value {
        match self.recv(1, DEADLINE).await.pop() {
            Some(Frame::Text(value)) => value,
            other => panic!("expected a JSON text frame within {DEADLINE:?}, got {other:?}"),
        }
    }
}

/// One WebSocket connection. A task of its own reads it all the time, answers pings and the server's
/// close frame, and keeps the frames until the test asks for them. Dropping it closes the socket.
#[derive(Debug)]
pub(crate) struct WireClient {
    pub(crate) answer: HttpAnswer,
    sender: Arc<Mutex<OwnedWriteHalf>>,
    pub(crate) received: Received,
    /// The messages so far that the server has compressed, and the bytes of all their payloads.
    pub(crate) compressed: Arc<[AtomicUsize; 2]>,
    /// Whether the reader may take bytes from the socket.
    reading: watch::Sender<bool>,
    reader: tokio::task::JoinSet<()>,
}

impl WireClient {
    /// Asks for the upgrade; the inner `Err` is the server's whole answer when it refuses.
    pub(crate) async fn open(
        addr: SocketAddr,
        target: &str,
        headers: Headers<'_>,
    ) -> io::Result<Result<Self, HttpAnswer>> {
        let defaults = [
            ("Upgrade", Some("websocket")),
            ("Connection", Some("Upgrade")),
            ("Sec-WebSocket-Key", Some(SAMPLE_KEY)),
            ("Sec-WebSocket-Version", Some("13")),
        ];
        let work = exchange(addr, "GET", target, &defaults, headers, b"");
        let (mut answer, stream) = timeout(DEADLINE, work).await??;
        if answer.status != 101 {
            return Ok(Err(answer));
        }
        let right = answer.headers.get("sec-websocket-accept") == Some(&SAMPLE_ACCEPT.to_owned());
        if !right && !names(headers, "Sec-WebSocket-Key") {
            return Err(violation("Sec-WebSocket-Accept is missing or wrong"));
        }
        // The server's first frames may have come in the same packet.
        let frames_so_far = io::Cursor::new(std::mem::take(&mut answer.body));
        let (read_half, write_half) = stream.into_split();
        let sender = Arc::new(Mutex::new(write_half));
        let (deliver, received) = Received::new();
        let (reading, may_read) = watch::channel(true);
        let mut reader = tokio::task::JoinSet::new();
        let compressed = Arc::<[AtomicUsize; 2]>::default();
        let task = Reader {
            inflates: answer.headers.contains_key("sec-websocket-extensions"),
            is_compressed: false,
            compressed: Arc::clone(&compressed),
            stream: BufReader::new(frames_so_far.chain(read_half)),
            may_read,
            message: None,
            frames: deliver,
            sender: Arc::clone(&sender),
        };
        reader.spawn(task.run());
        Ok(Ok(Self {
            answer,
            sender,
            received,
            compressed,
            reading,
            reader,
        }))
    }

    /// Opens a connection that must be accepted.
    pub(crate) async fn connect(addr: SocketAddr, target: &str) -> Self {
        match Self::open(addr, target, &[]).await {
            Ok(Ok(client)) => client,
            other => panic!("{target} should be upgraded to WebSocket, got {other:?}"),
        }
    }

    pub(crate) async fn send_text(&self, text: &str) -> io::Result<()> {
        self.send_raw_frame(&RawFrame::new(1, text)).await
    }

    pub(crate) async fn send_binary(&self, bytes: &[u8]) -> io::Result<()> {
        self.send_raw_frame(&RawFrame::new(2, bytes)).await
    }

    pub(crate) async fn ping(&self, payload: &[u8]) -> io::Result<()> {
        self.send_raw_frame(&RawFrame::new(9, payload)).await
    }

    /// Sends a close frame; the server's answer and the end of the stream are frames to receive.
    pub(crate) async fn close(&self, code: u16) -> io::Result<()> {
        let frame = RawFrame::new(8, code.to_be_bytes());
        self.send_raw_frame(&frame).await
    }

    pub(crate) async fn send_raw_frame(&self, frame: &RawFrame) -> io::Result<()> {
        self.send_bytes(&frame.encode()).await
    }

    /// Sends bytes as they are: several frames in one packet, or a part of one.
    pub(crate) async fn send_bytes(&self, bytes: &[u8]) -> io::Result<()> {
        let mut sender = self.sender.lock().await;
        timeout(DEADLINE, sender.write_all(bytes)).await?
    }

    /// Ends this side of the TCP connection without a close frame, and goes on reading.
    pub(crate) async fn finish(&self) -> io::Result<()> {
        self.sender.lock().await.shutdown().await
    }

    /// As [`Received::recv`].
    pub(crate) async fn recv(&mut self, count: usize, limit: Duration) -> Vec<Frame> {
        self.received.recv(count, limit).await
    }

    /// As [`Received::next_text`].
    pub(crate) async fn next_text(&mut self) -> serde_json::Value {
        self.received.next_text().await
    }

    /// Leaves what the server sends from now on in the kernel's buffers, so that they fill up: the slow
    /// consumer. A frame that has begun to arrive is still read to its end.
    pub(crate) fn stop_reading(&self) {
        self.reading.send_replace(false);
    }

    pub(crate) fn resume_reading(&self) {
        self.reading.send_replace(true);
    }

    /// Closes the TCP connection without a close frame, as a vanished client does; done on return.
    pub(crate) async fn abort(mut self) {
        self.reader.shutdown().await;
    }
}

/// Inflates the payload of a compressed message, by another implementation than the server's.
pub(crate) fn inflated(payload: &[u8]) -> Option<Vec<u8>> {
    // The end that senders leave out, and an empty final block.
    let whole = [payload, &[0, 0, 0xFF, 0xFF, 3, 0]].concat();
    miniz_oxide::inflate::decompress_to_vec(&whole).ok()
}

/// The background half of a [`WireClient`]. Its errors of kind `InvalidData` are the server's violations.
struct Reader {
    stream: BufReader<Chain<io::Cursor<Vec<u8>>, OwnedReadHalf>>,
    may_read: watch::Receiver<bool>,
    /// Opcode and bytes of a message whose last fragment is still to come.
    message: Option<(u8, Vec<u8>)>,
    /// Whether the server may compress messages, and has done so with this one.
    inflates: bool,
    is_compressed: bool,
    compressed: Arc<[AtomicUsize; 2]>,
    frames: mpsc::UnboundedSender<Frame>,
    sender: Arc<Mutex<OwnedWriteHalf>>,
}

impl Reader {
    async fn run(mut self) {
        let error = loop {
            if let Err(error) = self.step().await {
                break error;
            }
        };
        let broken = error.kind() == io::ErrorKind::InvalidData;
        let violation = broken.then(|| Frame::Violation(error.to_string()));
        self.deliver(violation.unwrap_or(Frame::Eof));
    }

    /// Takes one frame, as soon as one begins to arrive and the test lets it be read.
    async fn step(&mut self) -> io::Result<()> {
        let _ = self.may_read.wait_for(|may| *may).await;
        tokio::select! {
            changed = self.may_read.changed() => changed.map_err(io::Error::other),
            _ = self.stream.fill_buf() => {
                let frame = self.read_frame().await?;
                self.accept(frame).await
            }
        }
    }

    async fn read_frame(&mut self) -> io::Result<RawFrame> {
        let stream = &mut self.stream;
        let (first, second) = (stream.read_u8().await?, stream.read_u8().await?);
        let may_be_compressed = self.inflates && matches!(first & 0x7F, 0x41 | 0x42);
        if first & 0x70 != 0 && !may_be_compressed || second & 0x80 != 0 {
            return Err(violation("a reserved bit is set, or the frame is masked"));
        }
        if matches!(first & 0xF, 1 | 2) {
            self.is_compressed = may_be_compressed;
        }
        let (length, least) = match second {
            127 => (stream.read_u64().await?, 0x1_0000),
            126 => (stream.read_u16().await?.into(), 126),
            length => (length.into(), 0),
        };
        if length < least {
            return Err(violation("a length is not in its shortest form"));
        }
        let mut frame = RawFrame::new(first & 0x0f, []);
        frame.fin = first & 0x80 != 0;
        if stream.take(length).read_to_end(&mut frame.payload).await? as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(frame)
    }

    async fn accept(&mut self, frame: RawFrame) -> io::Result<()> {
        let size = frame.payload.len();
        if frame.opcode >= 8 && (!frame.fin || size > 125) || frame.opcode == 8 && size == 1 {
            return Err(violation(
                "a control frame is in fragments, too long or too short",
            ));
        }
        match frame.opcode {
            0..=2 => self.collect(frame)?,
            8 => {
                let code = frame.payload.first_chunk().copied();
                self.deliver(Frame::Close(code.map(u16::from_be_bytes)));
                self.answer(8, frame.payload).await;
            }
            9 => self.answer(10, frame.payload).await,
            10 => self.deliver(Frame::Pong(frame.payload)),
            _ => return Err(violation("an unknown opcode")),
        }
        Ok(())
    }

    /// Keeps a message until it is whole, then hands it over.
    fn collect(&mut self, frame: RawFrame) -> io::Result<()> {
        let (opcode, bytes) = match (frame.opcode, self.message.take()) {
            (0, Some((opcode, begun))) => (opcode, [begun, frame.payload].concat()),
            (1 | 2, None) => (frame.opcode, frame.payload),
            _ => return Err(violation("a fragment is out of place")),
        };
        if !frame.fin {
            self.message = Some((opcode, bytes));
            return Ok(());
        }
        let bytes = if self.is_compressed {
            let [messages, payloads] = &*self.compressed;
            messages.fetch_add(1, Ordering::Relaxed);
            payloads.fetch_add(bytes.len(), Ordering::Relaxed);
            inflated(&bytes).ok_or_else(|| violation("a message cannot be inflated"))?
        } else {
            bytes
        };
        if opcode == 2 {
            self.deliver(Frame::Binary(bytes));
        } else {
            let text = String::from_utf8(bytes).map_err(|_| violation("a text is not UTF-8"))?;
            self.deliver(Frame::text(text));
        }
        Ok(())
    }

    fn deliver(&self, frame: Frame) {
        // The test may have dropped its end: nobody is left to tell.
        let _ = self.frames.send(frame);
    }

    /// Answers a ping or a close. When that fails the server is gone, and the next read says so.
    async fn answer(&self, opcode: u8, payload: Vec<u8>) {
        let bytes = RawFrame::new(opcode, payload).encode();
        let _ = timeout(DEADLINE, self.sender.lock().await.write_all(&bytes)).await;
    }
}

/// A whole HTTP answer.
#[derive(Debug, Clone)]
pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    /// By name in lower case; what is there twice is joined by a comma.
    pub(crate) headers: BTreeMap<String, String>,
    /// With the chunked coding taken off; after a 101, what came along with it.
    pub(crate) body: Vec<u8>,
}

/// One request on a connection of its own.
pub(crate) async fn http(
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: Headers<'_>,
    body: &[u8],
) -> io::Result<HttpAnswer> {
    http_within(DEADLINE, addr, method, target, headers, body).await
}

/// The same, where the server may take this long.
pub(crate) async fn http_within(
    limit: Duration,
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: Headers<'_>,
    body: &[u8],
) -> io::Result<HttpAnswer> {
    let length = (!body.is_empty() || method == "POST").then(|| body.len().to_string());
    let length = ("Content-Length", length.as_deref());
    let defaults = [("Connection", Some("close")), length];
    let work = exchange(addr, method, target, &defaults, headers, body);
    Ok(timeout(limit, work).await??.0)
}

/// Sends a request and reads until the answer is whole.
async fn exchange(
    addr: SocketAddr,
    method: &str,
    target: &str,
    defaults: Headers<'_>,
    own: Headers<'_>,
    body: &[u8],
) -> io::Result<(HttpAnswer, TcpStream)> {
    let mut request = format!("{method} {target} HTTP/1.1\r\n");
    let host = addr.to_string();
    let defaults = [&[("Host", Some(&*host))], defaults].concat();
    let kept = defaults.iter().filter(|(name, _)| !names(own, name));
    for (name, value) in kept.chain(own) {
        request.extend(value.iter().flat_map(|value| [name, ": ", value, "\r\n"]));
    }
    let request = [request.as_bytes(), b"\r\n", body].concat();
    let mut stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    // A server may answer and close before it has read everything: its answer counts.
    let sent = stream.write_all(&request).await;
    let mut received = Vec::new();
    loop {
        let read = stream.read_buf(&mut received).await;
        let ended = !matches!(read, Ok(1..));
        if let Some(answer) = parse_answer(&received, method == "HEAD", ended) {
            return Ok((answer, stream));
        }
        if ended {
            sent.and(read)?;
            return Err(violation("the answer is cut short, or no HTTP"));
        }
    }
}

fn names(headers: Headers<'_>, name: &str) -> bool {
    let mut known = headers.iter().map(|(known, _)| known);
    known.any(|known| known.eq_ignore_ascii_case(name))
}

/// The answer in `bytes`; `None` as long as it is not whole.
fn parse_answer(bytes: &[u8], bodiless: bool, ended: bool) -> Option<HttpAnswer> {
    let head_size = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let (head, rest) = bytes.split_at(head_size);
    let head = String::from_utf8_lossy(head);
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut headers = BTreeMap::<String, String>::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let known = headers.entry(name.to_ascii_lowercase()).or_default();
        let comma = if known.is_empty() { "" } else { ", " };
        known.extend([comma, value.trim()]);
    }
    let header = |name| headers.get(name).map(String::as_str);
    let body = match header("content-length") {
        _ if status == 101 => rest.to_vec(),
        _ if bodiless || matches!(status, 204 | 304) => Vec::new(),
        _ if header("transfer-encoding") == Some("chunked") => join_chunks(rest)?,
        Some(length) => rest.get(..length.parse().ok()?)?.to_vec(),
        None => ended.then(|| rest.to_vec())?,
    };
    Some(HttpAnswer {
        status,
        headers,
        body,
    })
}

fn join_chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_end = rest.windows(2).position(|window| window == b"\r\n")?;
        let line = std::str::from_utf8(&rest[..line_end]).ok()?;
        let size = usize::from_str_radix(line.split(';').next()?, 16).ok()?;
        let (chunk, behind) = rest[line_end + 2..].split_at_checked(size)?;
        body.extend(chunk);
        rest = behind.strip_prefix(b"\r\n")?;
        if size == 0 {
            return Some(body);
        }
    }
}

fn violation(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
