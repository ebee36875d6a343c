//! Prepares the request line for actix-http: percent-encodes characters of the target that Erlang's parser
//! accepts raw and the `http` crate refuses.

use bytes::{BufMut, BytesMut};

/// Encodes, in the first line, bytes beyond ASCII, quotation marks, angle brackets and backquotes. Does
/// nothing before the first line is complete.
pub(super) fn encode(head: &mut BytesMut) {
    let Some(end) = memchr::memchr(b'\n', head) else {
        return;
    };
    if !head[..end].iter().copied().any(is_raw) {
        return;
    }
    let rest = head.split_off(end);
    let line = std::mem::take(head);
    for byte in line {
        if is_raw(byte) {
            head.put_slice(&percent(byte));
        } else {
            head.put_u8(byte);
        }
    }
    head.unsplit(rest);
}

fn is_raw(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'`' | 0x80..)
}

fn percent(byte: u8) -> [u8; 3] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| DIGITS[usize::from(nibble)];
    [b'%', digit(byte >> 4), digit(byte & 15)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_erlangs_parser_takes_raw_is_encoded() {
        for (sent, want) in [
            ("GET /a?b=c HTTP/1.1\r\n", "GET /a?b=c HTTP/1.1\r\n"),
            ("GET /?n=Zoë HTTP/1.1\r\n", "GET /?n=Zo%C3%AB HTTP/1.1\r\n"),
            ("GET /<\"`> HTTP/1.1\r\n", "GET /%3C%22%60%3E HTTP/1.1\r\n"),
            ("GET /{a|b}^ HTTP/1.1\r\n", "GET /{a|b}^ HTTP/1.1\r\n"),
            (
                "GET / HTTP/1.1\r\nx: ë\"\r\n",
                "GET / HTTP/1.1\r\nx: ë\"\r\n",
            ),
            ("GET /ë", "GET /ë"),
        ] {
            let mut head = BytesMut::from(sent);
            encode(&mut head);
            assert_eq!(head, want.as_bytes(), "{sent:?}");
        }
    }
}
