//! [`Session`]: the TLS of one connection, between its TCP stream and its readers and writers.

use std::cell::RefCell;
use std::io::{self, IoSlice};

use actix_rt::net::TcpStream;
use rustls::Error;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, WriteTraffic};

use crate::transport::stream::{assume_drained, receive_now, send_now};
use crate::transport::unfinished::Room;

/// The longest record, with its header.
const RECORD: usize = 5 + 16_384 + 2_048;
/// The most bytes of an incomplete message of a handshake: a client needs a few thousand.
const MAX_HANDSHAKE: usize = 32 * 1024;
/// The most bytes that are read at once.
const READ_SIZE: usize = 64 * 1024;
/// The most bytes that are encrypted at once. This also bounds what a connection keeps for a client that does not read.
const WRITE_SIZE: usize = 32 * 1024;
/// The most bytes of one record's text.
const RECORD_TEXT: usize = 16 * 1024;
/// Room for the headers of a record, and for a key update before it.
const RECORD_EXTRA: usize = 256;

thread_local! {
    /// Ciphertext of the connection that reads.
    static CIPHERTEXT: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into());
    /// Ciphertext of the connection that writes, and the text of its frames.
    static WRITING: RefCell<(Vec<u8>, Vec<u8>)> = RefCell::default();
}

/// The TLS of one connection.
pub(in crate::transport) struct Session(RefCell<State>);

struct State {
    connection: UnbufferedServerConnection,
    /// The begin of a record that has not arrived whole.
    incomplete: Vec<u8>,
    /// The budget's share for `incomplete`.
    room: Room,
    /// Decrypted bytes for which the last reader had no room.
    text: Vec<u8>,
    /// Ciphertext that the kernel has not taken. A record cannot be encrypted twice.
    unsent: Vec<u8>,
    in_handshake: bool,
    /// The client has ended its side.
    has_ended: bool,
    /// rustls has refused a record. It must not be asked again: it may remember places in records that are gone.
    has_failed: bool,
}

/// What a look at arrived records has brought.
#[derive(Default)]
struct Progress {
    /// Bytes of ciphertext that are done with.
    consumed: usize,
    /// Decrypted bytes that the reader has.
    read: usize,
}

impl Session {
    pub(super) fn new(connection: UnbufferedServerConnection) -> Self {
        Self(RefCell::new(State {
            connection,
            incomplete: Vec::new(),
            room: Room::new(),
            text: Vec::new(),
            unsent: Vec::new(),
            in_handshake: true,
            has_ended: false,
            has_failed: false,
        }))
    }

    /// Whether the handshake waits for the client.
    pub(super) fn in_handshake(&self) -> bool {
        self.0.borrow().in_handshake
    }

    /// Reads records of the handshake. Text behind them stays for the readers.
    ///
    /// # Errors
    /// `WouldBlock` if the client has sent no more; `UnexpectedEof` if it is gone.
    pub(super) fn read_handshake(&self, tcp: &TcpStream) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        let read = state.receive(tcp, &mut [], |to| tcp.try_read(to));
        if read.is_ok() && state.in_handshake && state.has_ended {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read.map(drop)
    }

    /// Whether a read finds something without the TCP stream.
    pub(in crate::transport) fn has_input(&self) -> bool {
        let state = self.0.borrow();
        !state.text.is_empty() || state.has_ended
    }

    pub(in crate::transport) fn try_read(
        &self,
        tcp: &TcpStream,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        let mut state = self.0.borrow_mut();
        if !state.text.is_empty() {
            return Ok(state.take_text(buffer));
        }
        if state.has_ended {
            return Ok(0);
        }
        let read = state.receive(tcp, buffer, |to| tcp.try_read(to));
        // An alert, mostly. What the kernel does not take goes before the next write.
        let _ = state.flush(tcp);
        read
    }

    /// Reads what has arrived, and keeps it. Returns whether the client has ended its side. Reads nothing if a reader
    /// has text to take.
    pub(in crate::transport) fn look(&self, tcp: &TcpStream) -> bool {
        let mut state = self.0.borrow_mut();
        while state.text.is_empty() && !state.has_ended {
            match state.receive(tcp, &mut [], |to| receive_now(tcp, to)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    assume_drained(tcp);
                    break;
                }
                Err(_) => state.has_ended = true,
            }
        }
        state.has_ended && state.text.is_empty()
    }

    /// Encrypts as much as is sent at once, and sends it.
    pub(in crate::transport) fn try_write(
        &self,
        tcp: &TcpStream,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        let mut state = self.0.borrow_mut();
        state.flush(tcp)?;
        state.write(slices, |bytes| tcp.try_write(bytes))
    }

    /// Like [`try_write`](Self::try_write), without tokio.
    pub(in crate::transport) fn send(&self, tcp: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.borrow_mut();
        if !state.unsent.is_empty() {
            return Ok(0);
        }
        state.write(&[IoSlice::new(bytes)], |bytes| send_now(tcp, bytes))
    }

    pub(in crate::transport) fn keeps_bytes(&self) -> bool {
        !self.0.borrow().unsent.is_empty()
    }

    #[cfg(test)]
    pub(in crate::transport) fn kept_bytes(&self) -> usize {
        self.0.borrow().unsent.capacity()
    }

    /// Sends what the kernel had not taken.
    pub(in crate::transport) fn try_flush(&self, tcp: &TcpStream) -> io::Result<()> {
        self.0.borrow_mut().flush(tcp)
    }

    /// Queues close_notify.
    pub(in crate::transport) fn queue_end(&self) -> io::Result<()> {
        self.0.borrow_mut().encrypt_end()
    }
}

impl State {
    fn take_text(&mut self, buffer: &mut [u8]) -> usize {
        let len = self.text.len().min(buffer.len());
        buffer[..len].copy_from_slice(&self.text[..len]);
        self.text.drain(..len);
        if self.text.is_empty() {
            self.text = Vec::new();
        }
        len
    }

    /// Reads ciphertext until there is text in `buffer`, or the handshake is done.
    fn receive(
        &mut self,
        tcp: &TcpStream,
        buffer: &mut [u8],
        read: impl Fn(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        CIPHERTEXT.with_borrow_mut(|ciphertext| {
            loop {
                let begun = self.incomplete.len();
                let size = buffer.len().clamp(RECORD, READ_SIZE).max(begun + RECORD);
                let ciphertext = &mut ciphertext[..size];
                let len = read(&mut ciphertext[begun..])?;
                if len == 0 {
                    self.has_ended = true;
                    return Ok(0);
                }
                let is_short = begun + len < size;
                if is_short {
                    assume_drained(tcp);
                }
                ciphertext[..begun].copy_from_slice(&self.incomplete);
                let arrived = &mut ciphertext[..begun + len];
                let progress = self.advance(arrived, buffer, |_, _| Ok(()))?;
                self.keep_incomplete(&arrived[progress.consumed..])?;
                let is_done = buffer.is_empty() && !(self.in_handshake && self.text.is_empty());
                if progress.read > 0 || self.has_ended || is_done {
                    return Ok(progress.read);
                }
                if is_short {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
            }
        })
    }

    fn keep_incomplete(&mut self, rest: &[u8]) -> io::Result<()> {
        let most = if self.in_handshake {
            MAX_HANDSHAKE
        } else {
            RECORD
        };
        if rest.len() > most || self.room.resize(rest.len()).is_err() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "an incomplete record is too long",
            ));
        }
        self.incomplete = rest.to_vec();
        Ok(())
    }

    /// Handles whole records: text goes to `buffer` and the rest of it to `self.text`, answers go to `self.unsent`.
    /// Calls `write` if text can be sent.
    fn advance(
        &mut self,
        records: &mut [u8],
        buffer: &mut [u8],
        write: impl FnOnce(
            &mut WriteTraffic<'_, ServerConnectionData>,
            &mut Vec<u8>,
        ) -> Result<(), EncryptError>,
    ) -> io::Result<Progress> {
        if self.has_failed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut progress = Progress::default();
        loop {
            let status = self
                .connection
                .process_tls_records(&mut records[progress.consumed..]);
            progress.consumed += status.discard;
            match status.state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(broken)?;
                        progress.consumed += record.discard;
                        let room = &mut buffer[progress.read..];
                        let fits = record.payload.len().min(room.len());
                        let (now, later) = record.payload.split_at(fits);
                        room[..fits].copy_from_slice(now);
                        progress.read += fits;
                        self.text.extend_from_slice(later);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut data, &mut self.unsent);
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.has_ended = true,
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    self.in_handshake = false;
                    write(&mut traffic, &mut self.unsent).map_err(io::Error::other)?;
                    return Ok(progress);
                }
                Ok(ConnectionState::BlockedHandshake) => return Ok(progress),
                // No early data is accepted.
                Ok(_) => {
                    self.has_ended = true;
                    return Ok(progress);
                }
                Err(error) => {
                    self.has_failed = true;
                    self.encode_alert();
                    return Err(broken(error));
                }
            }
        }
    }

    /// Queues what tells the client of an error.
    fn encode_alert(&mut self) {
        // rustls has it ready, so that it does not look at the records, whose places it may remember.
        while self.connection.wants_write() {
            let status = self.connection.process_tls_records(&mut []);
            let Ok(ConnectionState::EncodeTlsData(mut data)) = status.state else {
                return;
            };
            encode(&mut data, &mut self.unsent);
        }
    }

    /// Encrypts the begin of `slices` and sends it. The caller has flushed.
    fn write(
        &mut self,
        slices: &[IoSlice<'_>],
        send: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        WRITING.with_borrow_mut(|(ciphertext, text)| {
            // Until the end of this call, so that the connection needs no memory of its own.
            std::mem::swap(ciphertext, &mut self.unsent);
            let written = match slices {
                [slice] => self.encrypt(&slice[..slice.len().min(WRITE_SIZE)]),
                _ => {
                    gather(slices, text);
                    self.encrypt(text)
                }
            };
            let sent = written.and_then(|len| match send(&self.unsent) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
                sent => Ok((len, sent.unwrap_or(0))),
            });
            std::mem::swap(ciphertext, &mut self.unsent);
            let (len, sent) = sent.inspect_err(|_| ciphertext.clear())?;
            if sent < ciphertext.len() {
                self.unsent = ciphertext[sent..].to_vec();
            }
            ciphertext.clear();
            Ok(len)
        })
    }

    /// Encrypts text into `unsent`.
    fn encrypt(&mut self, text: &[u8]) -> io::Result<usize> {
        for record in text.chunks(RECORD_TEXT) {
            self.with_records(|traffic, out| {
                let mut result = Ok(());
                append(out, record.len() + RECORD_EXTRA, |room| {
                    match traffic.encrypt(record, room) {
                        Err(EncryptError::InsufficientSize(short)) => Err(short.required_size),
                        Err(error) => {
                            result = Err(error);
                            Ok(0)
                        }
                        Ok(len) => Ok(len),
                    }
                });
                result
            })?;
        }
        Ok(text.len())
    }

    fn encrypt_end(&mut self) -> io::Result<()> {
        self.with_records(|traffic, out| {
            append(out, RECORD_EXTRA, |room| {
                match traffic.queue_close_notify(room) {
                    Err(EncryptError::InsufficientSize(short)) => Err(short.required_size),
                    // Without it the FIN alone is the end.
                    queued => Ok(queued.unwrap_or(0)),
                }
            });
            Ok(())
        })
    }

    /// Calls `write` in the state in which text can be sent.
    fn with_records(
        &mut self,
        write: impl FnOnce(
            &mut WriteTraffic<'_, ServerConnectionData>,
            &mut Vec<u8>,
        ) -> Result<(), EncryptError>,
    ) -> io::Result<()> {
        // An incomplete record brings nothing; the records of a message of several may be kept in it.
        let mut incomplete = std::mem::take(&mut self.incomplete);
        let mut is_written = false;
        let progress = self.advance(&mut incomplete, &mut [], |traffic, out| {
            is_written = true;
            write(traffic, out)
        })?;
        incomplete.drain(..progress.consumed);
        self.incomplete = incomplete;
        if is_written {
            Ok(())
        } else {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    fn flush(&mut self, tcp: &TcpStream) -> io::Result<()> {
        while !self.unsent.is_empty() {
            let len = tcp.try_write(&self.unsent)?;
            self.unsent.drain(..len);
            if self.unsent.is_empty() {
                self.unsent = Vec::new();
            }
        }
        Ok(())
    }
}

/// Appends what rustls has to send.
fn encode(data: &mut EncodeTlsData<'_, ServerConnectionData>, out: &mut Vec<u8>) {
    append(out, 0, |room| match data.encode(room) {
        Err(EncodeError::InsufficientSize(short)) => Err(short.required_size),
        // It is encoded once.
        encoded => Ok(encoded.unwrap_or(0)),
    });
}

fn broken(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Copies the begin of the slices.
fn gather(slices: &[IoSlice<'_>], text: &mut Vec<u8>) {
    text.clear();
    for slice in slices {
        let room = WRITE_SIZE - text.len();
        text.extend_from_slice(&slice[..slice.len().min(room)]);
    }
}

/// Lets `encode` write into `room` more bytes of `out`, or into as many as it says that it needs.
fn append(
    out: &mut Vec<u8>,
    mut room: usize,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, usize>,
) {
    let begin = out.len();
    loop {
        out.resize(begin + room, 0);
        match encode(&mut out[begin..]) {
            Ok(len) => return out.truncate(begin + len),
            Err(needed) => room = needed.max(room + 1),
        }
    }
}
