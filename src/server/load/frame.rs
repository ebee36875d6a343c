//! Frames of WebSocket (RFC 6455 section 5.2) from a client's side: masks its own, and reads those of the server. Pure.

/// The opcodes.
pub(super) mod opcode {
    pub(crate) const TEXT: u8 = 0x1;
    pub(crate) const BINARY: u8 = 0x2;
    pub(crate) const CLOSE: u8 = 0x8;
    pub(crate) const PING: u8 = 0x9;
    pub(crate) const PONG: u8 = 0xA;
}

/// The mask of all frames. A random one protects proxies from scripts of a page, and there is no page here.
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A frame of the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ServerFrame<'a> {
    pub(super) opcode: u8,
    pub(super) payload: &'a [u8],
}

/// Appends a whole frame of a client.
pub(super) fn encode(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=0xFFFF => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    let masked = payload.iter().zip(MASK.iter().cycle());
    out.extend(masked.map(|(byte, mask)| byte ^ mask));
}

/// Takes the first frame off the front of `input`; `None` if it is not complete.
pub(super) fn take<'a>(input: &mut &'a [u8]) -> Option<ServerFrame<'a>> {
    let [first, second, rest @ ..] = *input else {
        return None;
    };
    let (len, rest) = match second & 0x7F {
        126 => {
            let (len, rest) = rest.split_first_chunk::<2>()?;
            (u64::from(u16::from_be_bytes(*len)), rest)
        }
        127 => {
            let (len, rest) = rest.split_first_chunk::<8>()?;
            (u64::from_be_bytes(*len), rest)
        }
        len => (u64::from(len), rest),
    };
    let (payload, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *input = rest;
    Some(ServerFrame {
        opcode: first & 0x0F,
        payload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_each_length_is_read_once_it_is_whole() {
        for (header, len) in [
            (&[0x81, 5][..], 5),
            (&[0x81, 126, 1, 0][..], 256),
            (&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0][..], 65_536),
        ] {
            let payload = vec![b'x'; len];
            let bytes = [header, &payload, b"next"].concat();
            for end in 0..header.len() + len {
                assert_eq!(take(&mut &bytes[..end]), None, "{end} of {len}");
            }
            let mut input = &bytes[..];
            let frame = take(&mut input).expect("it is whole");
            assert_eq!((frame.payload, input), (&payload[..], &b"next"[..]));
        }
    }

    #[test]
    fn a_clients_frame_is_masked() {
        for len in [0, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; len];
            let mut bytes = Vec::new();
            encode(&mut bytes, opcode::TEXT, &payload);
            assert_eq!(bytes[0], 0x81);
            assert_eq!(bytes[1] & 0x80, 0x80, "the mask bit");
            let (header, masked) = bytes.split_at(bytes.len() - len);
            assert!(header.ends_with(&MASK));
            let unmasked = masked.iter().zip(MASK.iter().cycle());
            assert!(unmasked.map(|(byte, mask)| byte ^ mask).eq(payload));
        }
    }
}
