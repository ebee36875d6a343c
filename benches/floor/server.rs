//! [`Floor`]: an event loop that knows which connection has joined which topics.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::ops::Range;
use std::os::fd::OwnedFd;

use actix_http::ws::hash_key;
use memchr::{memchr, memchr_iter, memmem};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::sockopt::set_tcp_nodelay;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags, accept_with};
use rustix::net::{listen, recv, send, shutdown};
use slab::Slab;
use smallvec::SmallVec;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4_096;
/// Events of one wait.
const EVENTS: usize = 512;
/// The data of the listener's events; those of connections are their keys.
const LISTENER: u64 = u64::MAX;
/// Bytes that are read at once: also the longest message.
const BUFFER: usize = 1 << 20;
/// The most bytes that wait for a client. One that reads more slowly is dropped.
const MAX_UNSENT: usize = 1 << 20;

/// The opcodes of WebSocket frames.
mod opcode {
    pub(super) const TEXT: u8 = 0x1;
    pub(super) const BINARY: u8 = 0x2;
    pub(super) const CLOSE: u8 = 0x8;
    pub(super) const PING: u8 = 0x9;
    pub(super) const PONG: u8 = 0xA;
}

/// The server.
#[derive(Debug)]
pub(super) struct Floor {
    listener: TcpListener,
    poll: OwnedFd,
    connections: Slab<Connection>,
    /// The place in `members` of each topic, by its name in quotes.
    topics: HashMap<Box<[u8]>, u32>,
    /// The keys of the members' connections.
    members: Vec<Vec<u32>>,
    /// The frame that is sent.
    frame: Vec<u8>,
}

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    is_upgraded: bool,
    memberships: SmallVec<[Membership; 1]>,
    /// The beginning of a message.
    partial: Vec<u8>,
    /// What the kernel has not taken.
    unsent: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Membership {
    topic: u32,
    /// The place among the members of the topic.
    place: u32,
}

/// The connection is to be closed.
#[derive(Debug)]
struct Closed;

impl Floor {
    pub(super) fn new(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        listen(&listener, BACKLOG)?;
        let poll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(
            &poll,
            &listener,
            EventData::new_u64(LISTENER),
            EventFlags::IN,
        )?;
        Ok(Self {
            listener,
            poll,
            connections: Slab::new(),
            topics: HashMap::new(),
            members: Vec::new(),
            frame: Vec::new(),
        })
    }

    /// Serves until the process ends, or the system can wait no longer.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        let mut buffer = vec![0; BUFFER];
        loop {
            match epoll::wait(&self.poll, spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in events.drain(..) {
                let (data, flags) = (event.data, event.flags);
                if data.u64() == LISTENER {
                    self.accept();
                } else {
                    self.serve(data.u64() as u32, flags, &mut buffer);
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok(socket) = accept_with(&self.listener, SocketFlags::NONBLOCK) {
            let entry = self.connections.vacant_entry();
            let data = EventData::new_u64(entry.key() as u64);
            let is_ready = set_tcp_nodelay(&socket, true)
                .and_then(|()| epoll::add(&self.poll, &socket, data, EventFlags::IN));
            if is_ready.is_ok() {
                entry.insert(Connection {
                    socket,
                    is_upgraded: false,
                    memberships: SmallVec::new(),
                    partial: Vec::new(),
                    unsent: Vec::new(),
                });
            }
        }
    }

    fn serve(&mut self, key: u32, flags: EventFlags, buffer: &mut [u8]) {
        // An event of a connection that an earlier one of the same wait has closed.
        let Some(connection) = self.connections.get_mut(key as usize) else {
            return;
        };
        if flags.contains(EventFlags::OUT) {
            connection.flush(&self.poll, key);
        }
        if flags != EventFlags::OUT && self.read(key, buffer).is_err() {
            self.leave(key, |_| true);
            self.connections.remove(key as usize);
        }
    }

    /// Reads with one system call, and answers what has come.
    fn read(&mut self, key: u32, buffer: &mut [u8]) -> Result<(), Closed> {
        let connection = &mut self.connections[key as usize];
        let before = connection.partial.len();
        buffer[..before].copy_from_slice(&connection.partial);
        let len = match recv(
            &connection.socket,
            &mut buffer[before..],
            RecvFlags::DONTWAIT,
        ) {
            Ok((_, 0)) => return Err(Closed),
            Ok((_, read)) => before + read,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(_) => return Err(Closed),
        };
        connection.partial = Vec::new();
        let mut input = &mut buffer[..len];
        if !connection.is_upgraded {
            let Some(end) = memmem::find(input, b"\r\n\r\n") else {
                connection.partial = input.to_vec();
                return Ok(());
            };
            connection.is_upgraded = true;
            let answer = answer(&input[..end]).ok_or(Closed)?;
            connection.send(&self.poll, key, answer.as_bytes());
            input = &mut input[end + 4..];
        }
        while let Some((opcode, payload)) = take_frame(input) {
            let (taken, rest) = input.split_at_mut(payload.end);
            self.arrived(key, opcode, &taken[payload])?;
            input = rest;
        }
        if !input.is_empty() {
            self.connections[key as usize].partial = input.to_vec();
        }
        Ok(())
    }

    fn arrived(&mut self, key: u32, opcode: u8, payload: &[u8]) -> Result<(), Closed> {
        match opcode {
            opcode::TEXT | opcode::BINARY => self.message(key, payload).ok_or(Closed),
            opcode::PING => {
                self.send(key, opcode::PONG, &[payload]);
                Ok(())
            }
            opcode::CLOSE => {
                self.send(key, opcode::CLOSE, &[payload]);
                Err(Closed)
            }
            _ => Ok(()),
        }
    }

    /// A message of a client: `[join_ref, ref, "topic", "event", payload]`, whose first four parts have no other commas.
    /// `None` if it is none.
    fn message(&mut self, key: u32, message: &[u8]) -> Option<()> {
        let mut commas = memchr_iter(b',', message);
        let [_, refs, topic, event] = [(); 4].map(|()| commas.next());
        let (refs, topic_end, event_end) = (refs?, topic?, event?);
        let topic = &message[refs + 1..topic_end];
        let payload = message[event_end + 1..].strip_suffix(b"]")?;
        let mut response = &b"{}"[..];
        match &message[topic_end + 1..event_end] {
            b"\"phx_join\"" => self.join(key, topic),
            b"\"phx_leave\"" => {
                let topic = self.topics.get(topic).copied();
                self.leave(key, |left| Some(left) == topic);
            }
            b"\"heartbeat\"" => {}
            b"\"ping\"" => response = payload,
            event => {
                self.fan_out(topic, event, payload);
                return Some(());
            }
        }
        let (refs, begin) = (
            &message[..refs],
            b",\"phx_reply\",{\"status\":\"ok\",\"response\":",
        );
        self.send(
            key,
            opcode::TEXT,
            &[refs, b",", topic, begin, response, b"}]"],
        );
        Some(())
    }

    /// Sends a message to all members of the topic, in one frame that is prepared once.
    fn fan_out(&mut self, topic: &[u8], event: &[u8], payload: &[u8]) {
        let Some(&place) = self.topics.get(topic) else {
            return;
        };
        let parts: [&[u8]; 7] = [b"[null,null,", topic, b",", event, b",", payload, b"]"];
        prepare(&mut self.frame, opcode::TEXT, &parts);
        for &member in &self.members[place as usize] {
            self.connections[member as usize].send(&self.poll, member, &self.frame);
        }
    }

    fn send(&mut self, key: u32, opcode: u8, parts: &[&[u8]]) {
        prepare(&mut self.frame, opcode, parts);
        self.connections[key as usize].send(&self.poll, key, &self.frame);
    }

    fn join(&mut self, key: u32, name: &[u8]) {
        let topic = match self.topics.get(name) {
            Some(&topic) => topic,
            None => {
                let topic = self.members.len() as u32;
                self.members.push(Vec::new());
                self.topics.insert(name.into(), topic);
                topic
            }
        };
        self.leave(key, |left| left == topic);
        let members = &mut self.members[topic as usize];
        let place = members.len() as u32;
        members.push(key);
        let memberships = &mut self.connections[key as usize].memberships;
        memberships.push(Membership { topic, place });
    }

    /// Ends the memberships of a connection that `which` selects by their topics.
    fn leave(&mut self, key: u32, which: impl Fn(u32) -> bool) {
        let mut at = 0;
        while let Some(&Membership { topic, place }) =
            self.connections[key as usize].memberships.get(at)
        {
            if !which(topic) {
                at += 1;
                continue;
            }
            self.connections[key as usize].memberships.swap_remove(at);
            let members = &mut self.members[topic as usize];
            members.swap_remove(place as usize);
            if let Some(&moved) = members.get(place as usize) {
                let mut all = self.connections[moved as usize].memberships.iter_mut();
                if let Some(membership) = all.find(|membership| membership.topic == topic) {
                    membership.place = place;
                }
            }
        }
    }
}

impl Connection {
    /// Sends bytes, or keeps those that the kernel does not take. Its failure is the next event of the connection.
    fn send(&mut self, poll: &OwnedFd, key: u32, bytes: &[u8]) {
        let sent = if self.unsent.is_empty() {
            send(
                &self.socket,
                bytes,
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            )
            .unwrap_or(0)
        } else {
            0
        };
        if sent == bytes.len() {
            return;
        }
        if self.unsent.len() + bytes.len() > MAX_UNSENT {
            let _ = shutdown(&self.socket, Shutdown::Both);
            return;
        }
        if self.unsent.is_empty() {
            self.wait_for(poll, key, EventFlags::IN | EventFlags::OUT);
        }
        self.unsent.extend_from_slice(&bytes[sent..]);
    }

    fn flush(&mut self, poll: &OwnedFd, key: u32) {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let sent = send(&self.socket, &self.unsent, flags).unwrap_or(0);
        self.unsent.drain(..sent);
        if self.unsent.is_empty() {
            self.unsent = Vec::new();
            self.wait_for(poll, key, EventFlags::IN);
        }
    }

    fn wait_for(&self, poll: &OwnedFd, key: u32, flags: EventFlags) {
        let data = EventData::new_u64(u64::from(key));
        let changed = epoll::modify(poll, &self.socket, data, flags);
        debug_assert!(changed.is_ok(), "{changed:?}");
    }
}

/// The answer to a handshake; `None` if the request has no key.
fn answer(request: &[u8]) -> Option<String> {
    let name = b"Sec-WebSocket-Key: ";
    let key = &request[memmem::find(request, name)? + name.len()..];
    let key = &key[..memchr(b'\r', key).unwrap_or(key.len())];
    let accept = hash_key(key);
    let accept = str::from_utf8(&accept).ok()?;
    Some(format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
        sec-websocket-accept: {accept}\r\n\r\n"
    ))
}

/// Replaces the content of `frame` by a frame of a server, whose payload has these parts.
fn prepare(frame: &mut Vec<u8>, opcode: u8, parts: &[&[u8]]) {
    frame.clear();
    frame.push(0x80 | opcode);
    match parts.iter().map(|part| part.len()).sum() {
        len @ 0..=125 => frame.push(len as u8),
        len @ 126..=0xFFFF => {
            frame.push(126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    for part in parts {
        frame.extend_from_slice(part);
    }
}

/// The first frame of a client in `input`: its opcode, and where its payload is, which is unmasked in place. `None` if it
/// is not complete.
fn take_frame(input: &mut [u8]) -> Option<(u8, Range<usize>)> {
    let (begin, len) = match input.get(1)? & 0x7F {
        126 => (8, u16::from_be_bytes(*input[2..].first_chunk()?).into()),
        127 => (14, u64::from_be_bytes(*input[2..].first_chunk()?)),
        len => (6, len.into()),
    };
    let end = usize::try_from(len).ok()?.checked_add(begin)?;
    if input.len() < end {
        return None;
    }
    let (header, payload) = input[..end].split_at_mut(begin);
    let mask: [u8; 4] = *header.last_chunk()?;
    for bytes in payload.chunks_mut(4) {
        for (byte, mask) in bytes.iter_mut().zip(mask) {
            *byte ^= mask;
        }
    }
    Some((header[0] & 0x0F, begin..end))
}
