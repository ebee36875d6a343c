//! Refs that a server makes for messages without a client_ref, so that the database recognises each message.

/// The first character of a server's own refs.
const OWN: char = '~';
/// The digits of a number in such a ref.
const DIGITS: usize = 16;

/// A ref for a message without a client_ref. `server` is random for each start. No client sees such a ref.
#[cfg(feature = "_cluster")]
pub(crate) fn own_ref(server: u64, number: u64) -> bytestring::ByteString {
    format!("{OWN}{server:016x}-{number:x}").into()
}

/// Whether a ref has the form of `own_ref`. A client that writes such a ref is not shown it.
pub(crate) fn is_own_ref(client_ref: &str) -> bool {
    let Some((server, number)) = client_ref
        .strip_prefix(OWN)
        .and_then(|rest| rest.split_once('-'))
    else {
        return false;
    };
    let is_number = |text: &str| {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        !text.is_empty() && text.len() <= DIGITS && text.bytes().all(is_digit)
    };
    server.len() == DIGITS && is_number(server) && is_number(number)
}

/// The client_ref of a stored message, if a client has given it.
pub(crate) fn of_client<T: AsRef<str>>(client_ref: Option<T>) -> Option<T> {
    client_ref.filter(|client_ref| !is_own_ref(client_ref.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_refs_have_their_own_form() {
        assert!(is_own_ref("~0123456789abcdef-1f"));
        for of_client in [
            "",
            "~",
            "~7-1",
            "c81d",
            "~0123456789abcdef-",
            "~0123456789abcdeX-1",
            "~0123456789abcdef-0123456789abcdef0",
        ] {
            assert!(!is_own_ref(of_client), "{of_client}");
        }
    }

    #[cfg(feature = "_cluster")]
    #[test]
    fn they_are_short_enough_for_a_client_ref() {
        for (server, number) in [(0, 0), (7, 12), (u64::MAX, u64::MAX)] {
            let own = own_ref(server, number);
            assert!(is_own_ref(&own) && own.len() <= 64, "{own}");
        }
    }
}
