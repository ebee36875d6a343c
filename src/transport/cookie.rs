//! Finds a cookie of a request by Plug's rules. Phoenix: `Plug.Conn.Cookies.decode/1`.

use actix_web::http::header::{COOKIE, HeaderMap};

/// The value of a cookie, neither decoded nor unquoted; `None` if it is not UTF-8. The last header with the
/// cookie counts, and the first cookie of that name in it. Other cookies may hold any bytes.
pub(super) fn find<'a>(headers: &'a HeaderMap, key: &str) -> Option<&'a str> {
    let values = headers.get_all(COOKIE).filter_map(|header| {
        let mut pairs = header.as_bytes().split(|&byte| byte == b';');
        pairs.find_map(|pair| value_of(pair.trim_ascii(), key.as_bytes()))
    });
    std::str::from_utf8(values.last()?).ok()
}

fn value_of<'a>(pair: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    pair.strip_prefix(key)?.strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    use super::find;
    use actix_web::http::header::{COOKIE, HeaderMap, HeaderValue};

    #[test]
    fn cookies_are_found_as_plug_finds_them() {
        for (sent, found) in [
            (&[&b"k=v"[..]][..], Some("v")),
            (&[b"a=1; k=v; b=2"], Some("v")),
            (&[b"a=1;k=v;b=2"], Some("v")),
            (&[b"  k=v  ;b=2"], Some("v")),
            (&[b"k=a=b=="], Some("a=b==")),
            (&[b"k="], Some("")),
            (&[b"k=\"v\""], Some("\"v\"")),
            (&[b"k=%41"], Some("%41")),
            (&[b"k=1; k=2"], Some("1")),
            (&[b"k=1", b"k=2"], Some("2")),
            (&[b"k=1", b"a=2"], Some("1")),
            (&[b"a=\xff\xfe; k=v"], Some("v")),
            (&[b"k=\xff"], None),
            (&[b"kk=v; K=v; xk=v"], None),
            (&[b"k =v"], None),
            (&[b"k"], None),
            (&[b";;=;"], None),
            (&[b""], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for header in sent {
                let value = HeaderValue::from_bytes(header).expect("a header");
                headers.append(COOKIE, value);
            }
            assert_eq!(find(&headers, "k"), found, "{sent:?}");
        }
    }
}
