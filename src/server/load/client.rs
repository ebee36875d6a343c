//! [`Client`]: one connection of the load.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use socket2::{Domain, Protocol, Socket, Type};

use super::echo::Requests;
use super::tls::{ClientTls, TlsStream};
use super::topic::Track;

/// The most bytes that may wait in the client because the server does not read.
const MAX_UNSENT: usize = 1_000_000;

/// How far a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The connection is not opened yet.
    New,
    Connecting,
    /// It waits for the answer to its handshake.
    Upgrading,
    /// It waits for the reply to its join.
    Joining,
    Joined,
    /// It has ended, or has failed before.
    Ended,
}

pub(super) struct Client {
    /// `None` before it connects, and after its end.
    pub(super) stream: Option<TcpStream>,
    /// The TLS of the connection, if the URL begins with wss.
    tls: Option<Box<TlsStream>>,
    pub(super) state: State,
    /// The place of its topic.
    pub(super) topic: usize,
    /// The publishers of its topic.
    pub(super) tracks: Box<[Track]>,
    pub(super) requests: Requests,
    /// Joins without a reply.
    pub(super) joins: u16,
    /// What it has seen of each of its channels, in a storm: the id that a resume begins after.
    pub(super) seen: Vec<Option<String>>,
    /// Messages that it has received, each counted once.
    pub(super) received: u64,
    /// The beginning of a frame or of the answer to the handshake.
    pub(super) partial: Vec<u8>,
    /// What the kernel has not taken yet.
    unsent: Vec<u8>,
}

impl Client {
    pub(super) fn new(topic: usize, publishers: usize) -> Self {
        Self {
            stream: None,
            tls: None,
            state: State::New,
            topic,
            tracks: vec![Track::default(); publishers].into_boxed_slice(),
            requests: Requests::default(),
            joins: 0,
            seen: Vec::new(),
            received: 0,
            partial: Vec::new(),
            unsent: Vec::new(),
        }
    }

    /// Begins to connect.
    ///
    /// # Errors
    /// If the system refuses at once.
    pub(super) fn connect(
        &mut self,
        address: SocketAddr,
        tls: Option<&ClientTls>,
    ) -> io::Result<&TcpStream> {
        let tls = tls.map(ClientTls::stream).transpose()?;
        self.tls = tls.map(Box::new);
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(IN_PROGRESS) => {}
            Err(error) => return Err(error),
        }
        self.state = State::Connecting;
        Ok(self.stream.insert(socket.into()))
    }

    /// Loses the connection, without a word to the server.
    pub(super) fn break_off(&mut self) {
        self.stream = None;
        self.tls = None;
        self.state = State::New;
        self.partial = Vec::new();
        self.unsent = Vec::new();
    }

    /// Whether the connection is open.
    pub(super) fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// Whether bytes wait for the kernel.
    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.has_unsent())
    }

    /// Whether the server has read so little that nothing more should be sent.
    pub(super) fn is_stuck(&self) -> bool {
        self.unsent.len() > MAX_UNSENT
    }

    /// Sends bytes, or keeps those that the kernel does not take.
    ///
    /// # Errors
    /// If the connection has failed.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = if self.unsent.is_empty() {
            self.write(bytes)?
        } else {
            0
        };
        self.unsent.extend_from_slice(&bytes[sent..]);
        Ok(())
    }

    /// Sends what was kept.
    ///
    /// # Errors
    /// If the connection has failed.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let unsent = std::mem::take(&mut self.unsent);
        let sent = self.write(&unsent)?;
        self.unsent.extend_from_slice(&unsent[sent..]);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(stream) = &mut self.stream else {
            return Ok(bytes.len());
        };
        let sent = match &mut self.tls {
            Some(tls) => tls.write(bytes, stream),
            None => stream.write(bytes),
        };
        match sent {
            Err(error) if is_no_error(&error) => Ok(0),
            result => result,
        }
    }

    /// Reads behind the partial frame, into `buffer`; the number of bytes that are in it. `None` if nothing has
    /// come.
    ///
    /// # Errors
    /// If the connection has failed, or the server has ended it.
    pub(super) fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
        let Some(stream) = &mut self.stream else {
            return Ok(None);
        };
        let before = self.partial.len();
        // A frame longer than the buffer: room for as much again.
        if buffer.len() < before * 2 {
            buffer.resize(before * 2, 0);
        }
        let len = match &mut self.tls {
            Some(tls) => tls.read(buffer, before, stream),
            None => stream
                .read(&mut buffer[before..])
                .and_then(|read| match read {
                    0 => Err(ErrorKind::UnexpectedEof.into()),
                    read => Ok(before + read),
                }),
        };
        match len {
            // Records of the handshake, or a part of one.
            Ok(len) if len == before => Ok(None),
            Ok(len) => {
                buffer[..before].copy_from_slice(&self.partial);
                self.partial.clear();
                Ok(Some(len))
            }
            Err(error) if is_no_error(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The system's `EINPROGRESS`, which has no kind of its own.
const IN_PROGRESS: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();

fn is_no_error(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
