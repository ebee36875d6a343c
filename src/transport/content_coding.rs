//! The `Accept-Encoding` header: whether a client takes gzip (RFC 9110 section 12.5.3).

use actix_web::http::header::{ACCEPT_ENCODING, HeaderMap};

use super::handshake::texts;

/// Whether the client takes an answer in gzip.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = texts(headers, &ACCEPT_ENCODING);
    accepts(&values, &["gzip", "x-gzip"]).or_else(|| accepts(&values, &["*"])) == Some(true)
}

/// Whether the header accepts a coding of these names; `None` if it names none of them.
fn accepts(values: &[&str], names: &[&str]) -> Option<bool> {
    let mut codings = values.iter().flat_map(|value| value.split(','));
    codings.find_map(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next()?;
        if !names.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            return None;
        }
        Some(!parts.any(is_zero))
    })
}

/// Whether a parameter is a weight of zero, which refuses the coding.
fn is_zero(parameter: &str) -> bool {
    let weight = parameter.split_once('=');
    weight.is_some_and(|(name, value)| {
        name.trim().eq_ignore_ascii_case("q") && value.trim().parse() == Ok(0.0)
    })
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn gzip_is_taken_if_it_is_named_and_not_refused() {
        for (values, takes) in [
            (&[][..], false),
            (&[""], false),
            (&["identity"], false),
            (&["gzip"], true),
            (&["GZIP"], true),
            (&["x-gzip"], true),
            (&["gzip, deflate, br, zstd"], true),
            (&["br", "deflate;q=0.5, gzip;q=0.1"], true),
            (&["gzip;q=0"], false),
            (&["gzip; q=0.000, br"], false),
            (&["gzip;Q = 0"], false),
            (&["*"], true),
            (&["*;q=0"], false),
            (&["br, *;q=0.1"], true),
            (&["gzip;q=0, *"], false),
            (&["*;q=0, gzip"], true),
            (&["gzippy"], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(ACCEPT_ENCODING, HeaderValue::from_static(value));
            }
            assert_eq!(takes_gzip(&headers), takes, "{values:?}");
        }
    }
}
