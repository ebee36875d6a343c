//! The client's address from the headers of proxies: `X-Forwarded-For` and `Forwarded` (RFC 7239). Pure.

use std::net::{IpAddr, SocketAddr};

use actix_web::http::header::{self, HeaderMap, HeaderName};

use crate::admission::{ClientAddress, TrustedProxies};

/// The client that sent a request. `Forwarded` counts only if there is no `X-Forwarded-For`.
pub(crate) fn client_address(
    peer: SocketAddr,
    headers: &HeaderMap,
    proxies: &TrustedProxies,
) -> ClientAddress {
    if headers.contains_key(header::X_FORWARDED_FOR) {
        let hops = elements(headers, header::X_FORWARDED_FOR).map(address);
        ClientAddress::of_request(peer, hops, proxies)
    } else {
        let hops = elements(headers, header::FORWARDED);
        let hops = hops.map(|element| address(forwarded_for(element)?));
        ClientAddress::of_request(peer, hops, proxies)
    }
}

/// Whether a request has headers in which a proxy names its client.
pub(crate) fn names_client(headers: &HeaderMap) -> bool {
    headers.contains_key(header::X_FORWARDED_FOR) || headers.contains_key(header::FORWARDED)
}

/// The elements of a list header, from right to left. A line that is not text counts as one empty element.
fn elements(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines: Vec<_> = headers.get_all(name).collect();
    let from_the_right = lines.into_iter().rev();
    from_the_right.flat_map(|line| line.to_str().unwrap_or_default().rsplit(',').map(str::trim))
}

/// The value of `for` in one element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<&str> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let is_for = name.trim().eq_ignore_ascii_case("for");
        is_for.then(|| value.trim().trim_matches('"'))
    })
}

/// Parses `192.0.2.7`, `192.0.2.7:50123`, `2001:db8::7`, `[2001:db8::7]` or `[2001:db8::7]:50123`.
fn address(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let address = text.parse().ok().or_else(with_port).or_else(in_brackets);
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn the_client_is_read_from_either_header() {
        const X: &str = "x-forwarded-for";
        const RFC: &str = "forwarded";
        for (lines, expected) in [
            (&[][..], None),
            (&[(X, "1.1.1.1, 203.0.113.9")], Some("203.0.113.9")),
            (
                &[(X, "1.1.1.1"), (X, "203.0.113.9, 127.0.0.1")],
                Some("203.0.113.9"),
            ),
            (&[(X, "203.0.113.9:80")], Some("203.0.113.9")),
            (&[(X, "[2001:db8::7]:80")], Some("2001:db8::7")),
            (&[(X, "[2001:db8::7]")], Some("2001:db8::7")),
            (&[(X, "::ffff:203.0.113.9")], Some("203.0.113.9")),
            (&[(X, "1.1.1.1, unknown")], None),
            (&[(X, "")], None),
            (&[(RFC, "for=203.0.113.9;proto=https")], Some("203.0.113.9")),
            (
                &[(
                    RFC,
                    r#"for=1.1.1.1, proto=http;For="[2001:db8::7]:47", for=::1"#,
                )],
                Some("2001:db8::7"),
            ),
            (&[(RFC, "for=1.1.1.1, for=_hidden")], None),
            (
                &[(RFC, "for=1.1.1.1"), (X, "203.0.113.9")],
                Some("203.0.113.9"),
            ),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                );
            }
            let peer = "127.0.0.1:4100".parse().expect("an address");
            let client = client_address(peer, &headers, &TrustedProxies::default());
            let expected = expected.map(|address: &str| address.parse().expect("an address"));
            assert_eq!(client.forwarded(), expected, "{lines:?}");
        }
    }
}
