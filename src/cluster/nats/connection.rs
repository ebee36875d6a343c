//! [`Line`]: the connection to the server, and the steps to open it.

use std::io::{self, ErrorKind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures_util::future::poll_fn;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::ConnectError;
use super::options::NatsOptions;
use super::protocol::{self, Info, Malformed, Op};
use super::subjects::{Subjects, process_of};
use super::tls;
use super::url::Address;
use crate::cluster::bus::{NodeId, ProcessId};

/// How many bytes may wait in the connection. More wait with the caller.
const MOST_WRITTEN: usize = 1 << 20;

/// How many bytes are read at once.
const READ_AT_ONCE: usize = 1 << 16;

/// The subscription of the messages to all nodes.
pub(super) const ALL: u64 = 1;
/// The subscription of the messages to this node.
pub(super) const NODE: u64 = 2;
/// The subscription of the signs of life.
pub(super) const LIFE: u64 = 3;
/// The first subscription of a topic.
pub(super) const FIRST_TOPIC: u64 = 4;

/// A connection, encrypted or not.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// A connection with what is read and what is to be written. It closes when this is dropped.
pub(super) struct Line {
    stream: Box<dyn Socket>,
    input: BytesMut,
    /// What is to be written.
    pub(super) output: BytesMut,
    /// Whether the stream may keep something back that was written.
    unflushed: bool,
}

/// An open connection, on which all but the topics is subscribed.
pub(super) struct Opened {
    pub(super) line: Line,
    pub(super) info: Box<Info>,
    pub(super) process: ProcessId,
    pub(super) subjects: Subjects,
}

impl Line {
    fn new(stream: Box<dyn Socket>) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
            unflushed: false,
        }
    }

    /// Whether more may be written now.
    pub(super) fn has_room(&self) -> bool {
        self.output.len() < MOST_WRITTEN
    }

    /// Writes and reads until something was read, or there is room to write again. Nothing is lost if this is dropped.
    pub(super) async fn moved(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_moved(cx)).await
    }

    fn poll_moved(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let had_room = self.has_room();
        if let Poll::Ready(Err(error)) = self.poll_written(cx) {
            return Poll::Ready(Err(error));
        }
        if !had_room && self.has_room() {
            return Poll::Ready(Ok(()));
        }
        shrink(&mut self.input);
        self.input.reserve(READ_AT_ONCE);
        let read = pin!(self.stream.read_buf(&mut self.input));
        match ready!(read.poll(cx))? {
            0 => Poll::Ready(Err(ErrorKind::UnexpectedEof.into())),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.output))? {
                0 => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                written => self.output.advance(written),
            }
            self.unflushed = true;
        }
        shrink(&mut self.output);
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// The next operation that was read.
    pub(super) fn next(&mut self) -> Result<Option<Op>, Malformed> {
        protocol::next(&mut self.input)
    }

    /// Waits for the next operation.
    pub(super) async fn read(&mut self) -> Result<Op, ConnectError> {
        loop {
            if let Some(op) = self.next()? {
                return Ok(op);
            }
            self.moved().await.map_err(ConnectError::Unreachable)?;
        }
    }

    /// Waits for the answer to a PING. What comes before it is left out.
    async fn read_pong(&mut self) -> Result<(), ConnectError> {
        loop {
            match self.read().await? {
                Op::Pong => return Ok(()),
                Op::Error(text) => return Err(ConnectError::Refused(text)),
                Op::Ping => protocol::pong(&mut self.output),
                Op::Info(_) | Op::Message { .. } | Op::Ok => {}
            }
        }
    }
}

impl Opened {
    /// Connects, and finds out whether the node may do what it needs.
    pub(super) async fn open(options: &NatsOptions, me: NodeId) -> Result<Self, ConnectError> {
        let address = Address::parse(&options.url)?;
        let limit = options.timing.answer;
        let (mut line, info, is_encrypted) = within(limit, dial(&address)).await?;
        let process = process_of(&info.server_id);
        let subjects = Subjects::new(&options.prefix, &process);
        let name = format!("{}-{me}", options.prefix);
        let output = &mut line.output;
        protocol::connect(output, &name, &address.login, is_encrypted);
        protocol::subscribe(output, &subjects.all(), ALL);
        protocol::subscribe(output, &subjects.node(me), NODE);
        protocol::subscribe(output, &subjects.life(), LIFE);
        // To itself, to see that it may publish.
        protocol::publish(output, &subjects.node(me), b"");
        protocol::ping(output);
        within(limit, line.read_pong()).await?;
        Ok(Self {
            line,
            info,
            process,
            subjects,
        })
    }
}

/// Connects to a server, which begins with `INFO`. The last value says whether the connection is encrypted.
async fn dial(address: &Address) -> Result<(Line, Box<Info>, bool), ConnectError> {
    let to = (&*address.host, address.port);
    let stream = TcpStream::connect(to).await;
    let stream = stream.map_err(ConnectError::Unreachable)?;
    stream
        .set_nodelay(true)
        .map_err(ConnectError::Unreachable)?;
    // Nothing follows the `INFO` until the client has answered, so it is no loss to read on with another `Line`.
    let mut plain = Greeting(stream);
    let info = plain.read().await?;
    let is_encrypted = address.tls || info.tls_required;
    let stream: Box<dyn Socket> = if is_encrypted {
        let encrypted = tls::encrypt(plain.0, &address.host).await;
        Box::new(encrypted.map_err(|error| ConnectError::Tls(error.to_string()))?)
    } else {
        Box::new(plain.0)
    };
    Ok((Line::new(stream), info, is_encrypted))
}

/// A connection whose server has not said yet who it is.
struct Greeting(TcpStream);

impl Greeting {
    async fn read(&mut self) -> Result<Box<Info>, ConnectError> {
        let mut input = BytesMut::new();
        loop {
            match protocol::next(&mut input)? {
                Some(Op::Info(info)) => return Ok(info),
                Some(Op::Error(text)) => return Err(ConnectError::Refused(text)),
                Some(_) => return Err(Malformed::Unknown.into()),
                None => {}
            }
            let read = self.0.read_buf(&mut input).await;
            if read.map_err(ConnectError::Unreachable)? == 0 {
                return Err(ConnectError::Unreachable(ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

/// Gives back the memory of a buffer that was large for a while.
fn shrink(buffer: &mut BytesMut) {
    if buffer.is_empty() && buffer.capacity() > 2 * MOST_WRITTEN {
        *buffer = BytesMut::new();
    }
}

/// Waits at most `limit`.
async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    timeout(limit, answer)
        .await
        .unwrap_or(Err(ConnectError::Silent))
}
