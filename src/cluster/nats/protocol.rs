//! The protocol of NATS between client and server: lines of text, and messages behind some of them. Pure.

use bytes::{Buf, Bytes, BytesMut};
use serde::Deserialize;

use super::url::Login;

/// The longest line of a server. An `INFO` names all servers of a NATS cluster.
const LONGEST_LINE: usize = 1 << 20;

/// The longest message. A server takes at most 64 MB.
const LONGEST_MESSAGE: usize = 64 << 20;

/// What a server says of itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Info {
    /// The name of its process.
    pub(super) server_id: String,
    pub(super) version: String,
    /// The longest message that it takes; 0 if it does not say.
    pub(super) max_payload: usize,
    /// It speaks TLS alone.
    pub(super) tls_required: bool,
    /// The NATS cluster that it is in.
    pub(super) cluster: Option<String>,
}

impl Info {
    /// The longest message that the server takes.
    pub(super) fn longest_message(&self) -> usize {
        match self.max_payload {
            0 => LONGEST_MESSAGE,
            longest => longest,
        }
    }
}

/// What a server sends.
#[derive(Debug)]
pub(super) enum Op {
    Info(Box<Info>),
    /// A message of the subscription with this number.
    Message {
        sid: u64,
        payload: Bytes,
    },
    Ping,
    Pong,
    Ok,
    /// Something was refused. Often the connection closes then.
    Error(String),
}

/// What a server sends that it should not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// There is no end of a line.
    #[error("a line is too long")]
    Line,
    /// The line is none of the protocol.
    #[error("a line is none of its protocol")]
    Unknown,
    /// The message is longer than any server sends, or does not end where it should.
    #[error("a message has another length than its line says")]
    Length,
}

/// Takes the next whole operation out of `input`; `None` if more bytes are needed.
pub(super) fn next(input: &mut BytesMut) -> Result<Option<Op>, Malformed> {
    let Some(end) = memchr::memchr(b'\n', input) else {
        return if input.len() > LONGEST_LINE {
            Err(Malformed::Line)
        } else {
            Ok(None)
        };
    };
    let line = input[..end].trim_ascii_end();
    let word = line.split(u8::is_ascii_whitespace).next();
    let word = word.unwrap_or_default();
    if word.eq_ignore_ascii_case(b"MSG") {
        return message(input, end + 1);
    }
    let rest = &line[word.len()..];
    let op = match word.to_ascii_uppercase().as_slice() {
        b"PING" => Op::Ping,
        b"PONG" => Op::Pong,
        b"+OK" => Op::Ok,
        b"-ERR" => {
            let text = String::from_utf8_lossy(rest);
            Op::Error(text.trim().trim_matches('\'').to_owned())
        }
        b"INFO" => Op::Info(serde_json::from_slice(rest).map_err(|_| Malformed::Unknown)?),
        _ => return Err(Malformed::Unknown),
    };
    input.advance(end + 1);
    Ok(Some(op))
}

/// `MSG subject sid [reply] length`, then the message and the end of a line.
fn message(input: &mut BytesMut, begin: usize) -> Result<Option<Op>, Malformed> {
    let line = std::str::from_utf8(&input[..begin]).map_err(|_| Malformed::Unknown)?;
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let (sid, length) = match words[..] {
        [_, _, sid, length] | [_, _, sid, _, length] => (sid, length),
        _ => return Err(Malformed::Unknown),
    };
    let sid = sid.parse().map_err(|_| Malformed::Unknown)?;
    let length: usize = length.parse().map_err(|_| Malformed::Unknown)?;
    if length > LONGEST_MESSAGE {
        return Err(Malformed::Length);
    }
    let end = begin + length;
    if input.len() < end + 2 {
        return Ok(None);
    }
    if input[end..end + 2] != *b"\r\n" {
        return Err(Malformed::Length);
    }
    // A copy: a message that is kept must not keep all that was read with it.
    let payload = Bytes::copy_from_slice(&input[begin..end]);
    input.advance(end + 2);
    Ok(Some(Op::Message { sid, payload }))
}

/// The name of the client, and as whom it comes.
pub(super) fn connect(output: &mut BytesMut, name: &str, login: &Login, tls: bool) {
    let mut options = serde_json::json!({
        "verbose": false,
        "pedantic": false,
        "echo": true,
        "headers": false,
        "no_responders": false,
        "protocol": 1,
        "tls_required": tls,
        "lang": "rust",
        "version": env!("CARGO_PKG_VERSION"),
        "name": name,
    });
    match login {
        Login::None => {}
        Login::Token(token) => options["auth_token"] = token.as_str().into(),
        Login::User { name, password } => {
            options["user"] = name.as_str().into();
            options["pass"] = password.as_str().into();
        }
    }
    write(output, &["CONNECT ", &options.to_string()]);
}

/// Sends a message.
pub(super) fn publish(output: &mut BytesMut, subject: &str, message: &[u8]) {
    write(output, &["PUB ", subject, " ", &message.len().to_string()]);
    output.extend_from_slice(message);
    output.extend_from_slice(b"\r\n");
}

/// Subscribes.
pub(super) fn subscribe(output: &mut BytesMut, subject: &str, sid: u64) {
    write(output, &["SUB ", subject, " ", &sid.to_string()]);
}

/// Ends a subscription.
pub(super) fn unsubscribe(output: &mut BytesMut, sid: u64) {
    write(output, &["UNSUB ", &sid.to_string()]);
}

/// Asks whether all before this is done.
pub(super) fn ping(output: &mut BytesMut) {
    write(output, &["PING"]);
}

/// Answers a PING.
pub(super) fn pong(output: &mut BytesMut) {
    write(output, &["PONG"]);
}

/// One line.
fn write(output: &mut BytesMut, parts: &[&str]) {
    for part in parts {
        output.extend_from_slice(part.as_bytes());
    }
    output.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The operations in a text, which comes in pieces of this length.
    fn read(text: &[u8], piece: usize) -> Result<Vec<String>, Malformed> {
        let (mut input, mut ops) = (BytesMut::new(), Vec::new());
        for piece in text.chunks(piece) {
            input.extend_from_slice(piece);
            while let Some(op) = next(&mut input)? {
                ops.push(match op {
                    Op::Info(info) => format!("{} {}", info.server_id, info.max_payload),
                    Op::Message { sid, payload } => format!("{sid} {payload:?}"),
                    op => format!("{op:?}"),
                });
            }
        }
        assert!(input.is_empty(), "{input:?} is left");
        Ok(ops)
    }

    #[test]
    fn what_a_server_sends_is_read_in_any_pieces() {
        let text = b"INFO {\"server_id\":\"NX\",\"max_payload\":1048576,\"new\":[1]} \r\nPING\r\n\
            MSG a.b 7 5\r\na\r\nbc\r\nMSG a.b 8 _INBOX.x 0\r\n\r\n+OK\r\nPONG\r\n\
            -ERR 'Authorization Violation'\r\n";
        let expected = [
            "NX 1048576",
            "Ping",
            "7 b\"a\\r\\nbc\"",
            "8 b\"\"",
            "Ok",
            "Pong",
            "Error(\"Authorization Violation\")",
        ];
        for piece in [1, 2, 3, 7, 1000] {
            assert_eq!(
                read(text, piece).as_deref(),
                Ok(&expected.map(str::to_owned)[..])
            );
        }
    }

    #[test]
    fn what_is_no_protocol_of_nats_ends_the_connection() {
        for (text, malformed) in [
            (&b"HTTP/1.1 400 Bad Request\r\n"[..], Malformed::Unknown),
            (b"\r\n", Malformed::Unknown),
            (b"INFO {\r\n", Malformed::Unknown),
            (b"MSG a 1\r\n", Malformed::Unknown),
            (b"MSG a x 1\r\n", Malformed::Unknown),
            (b"MSG \xff 1 1\r\n", Malformed::Unknown),
            (b"MSG a 1 -1\r\n", Malformed::Unknown),
            (b"MSG a 1 99999999999\r\n", Malformed::Length),
            (b"MSG a 1 1\r\nabc\r\n", Malformed::Length),
            (&[b'x'; LONGEST_LINE + 1], Malformed::Line),
        ] {
            let refused = read(text, text.len());
            assert_eq!(refused, Err(malformed), "{:?}", text.get(..30));
        }
    }

    #[test]
    fn what_is_written_is_the_protocol() {
        let mut output = BytesMut::new();
        let (name, password) = ("ada".to_owned(), "s\"\r\n".to_owned());
        connect(
            &mut output,
            "slackir-1",
            &Login::User { name, password },
            true,
        );
        let line = output.split();
        assert!(line.ends_with(b"\r\n") && line.iter().filter(|byte| **byte == b'\n').count() == 1);
        let options = line.strip_prefix(b"CONNECT ").expect("a CONNECT");
        let options: serde_json::Value = serde_json::from_slice(options).expect("JSON");
        assert_eq!(options["pass"], "s\"\r\n");
        subscribe(&mut output, "a.b", 3);
        publish(&mut output, "a.b", b"x\ry");
        unsubscribe(&mut output, 3);
        ping(&mut output);
        pong(&mut output);
        let expected = b"SUB a.b 3\r\nPUB a.b 3\r\nx\ry\r\nUNSUB 3\r\nPING\r\nPONG\r\n";
        assert_eq!(&output[..], expected);
    }
}
