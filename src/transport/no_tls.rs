//! In place of `tls` in a library without the feature `tls`: values of these types do not exist.

use std::io::{self, IoSlice};

use actix_rt::net::TcpStream;

use super::stream::Stream;

/// The TLS of a server. This build has none: it lacks the feature `tls`.
#[derive(Clone, Debug)]
pub enum Tls {}

impl Tls {
    pub(super) async fn accept(&self, _: TcpStream) -> Option<Stream> {
        match *self {}
    }
}

/// The TLS of one connection.
pub(super) enum Session {}

impl Session {
    pub(super) fn has_input(&self) -> bool {
        match *self {}
    }

    pub(super) fn try_read(&self, _: &TcpStream, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn try_write(&self, _: &TcpStream, _: &[IoSlice<'_>]) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn send(&self, _: &TcpStream, _: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn keeps_bytes(&self) -> bool {
        match *self {}
    }

    pub(super) fn try_flush(&self, _: &TcpStream) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn queue_end(&self) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn look(&self, _: &TcpStream) -> bool {
        match *self {}
    }
}
