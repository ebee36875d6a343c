//! [`get`]: one HTTP request to a server on this machine, without an HTTP client.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};

use crate::server::tls::unverified_tls;

/// The most bytes of an answer that are read.
const MAX_BYTES: u64 = 65_536;

/// The answer of a server.
pub(crate) struct ProbeAnswer {
    /// The status code.
    pub(crate) status: u16,
    /// The first line of the body.
    pub(crate) line: String,
}

/// The address at which a server that listens here is reached from this machine.
pub(crate) fn reachable(listens: SocketAddr) -> SocketAddr {
    let ip = match listens.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listens.port())
}

/// Asks for a path, over TLS if the server `has_tls`. `patience`: the longest wait for the connection, and for each
/// part of the answer. The certificate is not verified, because its name is not that of this machine.
///
/// # Errors
/// If there is no answer in time, or it is no HTTP.
pub(crate) fn get(
    (address, has_tls): (SocketAddr, bool),
    path: &str,
    patience: Duration,
) -> io::Result<ProbeAnswer> {
    let stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let answer = if has_tls {
        let tls = unverified_tls().map_err(io::Error::other)?;
        let connection = ClientConnection::new(tls, address.ip().into());
        ask(
            StreamOwned::new(connection.map_err(io::Error::other)?, stream),
            &request,
        )?
    } else {
        ask(stream, &request)?
    };
    parse(&String::from_utf8_lossy(&answer))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is no HTTP"))
}

fn ask(mut stream: impl Read + Write, request: &str) -> io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_BYTES).read_to_end(&mut answer)?;
    Ok(answer)
}

fn parse(answer: &str) -> Option<ProbeAnswer> {
    let status = answer.strip_prefix("HTTP/1.")?.split(' ').nth(1)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Some(ProbeAnswer {
        status: status.parse().ok()?,
        line: body.lines().next().unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_and_a_line() {
        let answer = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 9\r\n\r\ndraining\n";
        let answer = parse(answer).expect("HTTP");
        assert_eq!((answer.status, &*answer.line), (503, "draining"));
        assert!(parse("SSH-2.0-OpenSSH").is_none());
    }

    #[test]
    fn every_address_is_reached_at_loopback() {
        for (listens, reached) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("192.0.2.7:80", "192.0.2.7:80"),
        ] {
            let listens = listens.parse().expect("an address");
            assert_eq!(reachable(listens).to_string(), reached);
        }
    }
}
