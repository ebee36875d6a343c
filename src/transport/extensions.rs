//! The `Sec-WebSocket-Extensions` header: the negotiation of `permessage-deflate` (RFC 7692 section 7.1).

use crate::deflate::Window;

/// The name of the extension.
const DEFLATE: &str = "permessage-deflate";

/// The result of the header of an upgrade request: the client compresses its messages, and takes compressed ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Deflate {
    /// The window in which the client inflates.
    pub(super) window: Window,
    /// The header of the response. Neither side keeps its window from one message to the next.
    pub(super) response: String,
}

/// A parameter of an offer, with its value if it has one.
type Parameter = (String, Option<String>);

/// Accepts the first offer that the server can keep. A header that cannot be read has none.
pub(super) fn negotiate(offered: &[&str]) -> Option<Deflate> {
    let offers: Option<Vec<_>> = offered
        .iter()
        .map(|value| HeaderReader(value).offers())
        .collect();
    let offers = offers?.into_iter().flatten();
    let mut deflates = offers.filter(|(name, _)| name == DEFLATE);
    deflates.find_map(|(_, parameters)| accept(&parameters))
}

/// The answer to an offer; `None` declines it. An unknown parameter, a repeated one and an invalid value decline.
fn accept(parameters: &[Parameter]) -> Option<Deflate> {
    let mut window = None;
    for (index, (name, value)) in parameters.iter().enumerate() {
        if parameters[..index].iter().any(|(other, _)| other == name) {
            return None;
        }
        match (name.as_str(), value) {
            ("server_no_context_takeover" | "client_no_context_takeover", None) => {}
            // The client may have any window: the server inflates in the largest.
            ("client_max_window_bits", None) => {}
            ("client_max_window_bits", Some(bits)) => {
                Window::parse(bits)?;
            }
            ("server_max_window_bits", Some(bits)) => window = Some(Window::parse(bits)?),
            _ => return None,
        }
    }
    let mut response = format!("{DEFLATE}; server_no_context_takeover; client_no_context_takeover");
    if let Some(window) = window {
        response.push_str(&format!("; server_max_window_bits={}", window.bits()));
    }
    Some(Deflate {
        window: window.unwrap_or(Window::MAX),
        response,
    })
}

/// Reads a header's value by the grammar of RFC 6455 section 9.1.
struct HeaderReader<'a>(&'a str);

impl HeaderReader<'_> {
    /// All extensions of the list, with their parameters. `None` if the grammar is broken.
    fn offers(mut self) -> Option<Vec<(String, Vec<Parameter>)>> {
        let mut offers = Vec::new();
        loop {
            // A list may have empty elements.
            while self.take(',') {}
            if self.0.is_empty() {
                return Some(offers);
            }
            let name = self.token()?;
            let mut parameters = Vec::new();
            while self.take(';') {
                let name = self.token()?;
                let value = if self.take('=') {
                    Some(self.value()?)
                } else {
                    None
                };
                parameters.push((name, value));
            }
            offers.push((name, parameters));
            if !self.0.is_empty() && !self.0.starts_with(',') {
                return None;
            }
        }
    }

    /// Skips white space and, if it follows, this character and white space. Returns whether it followed.
    fn take(&mut self, wanted: char) -> bool {
        self.skip_space();
        let rest = self.0.strip_prefix(wanted);
        self.0 = rest.unwrap_or(self.0);
        self.skip_space();
        rest.is_some()
    }

    fn skip_space(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    fn token(&mut self) -> Option<String> {
        let end = self.0.find(|c| !is_token(c)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        (!token.is_empty()).then(|| token.to_owned())
    }

    /// A token, which may be in quotes.
    fn value(&mut self) -> Option<String> {
        let Some(quoted) = self.0.strip_prefix('"') else {
            return self.token();
        };
        let mut value = String::new();
        let mut chars = quoted.chars();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => value.push(chars.next()?),
                c => value.push(c),
            }
        }
        self.0 = chars.as_str();
        (!value.is_empty() && value.chars().all(is_token)).then_some(value)
    }
}

/// A character of a token of HTTP.
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    fn answer(offered: &[&str]) -> Option<(u8, String)> {
        let deflate = negotiate(offered)?;
        Some((deflate.window.bits(), deflate.response))
    }

    #[test]
    fn the_first_offer_that_the_server_can_keep_is_accepted() {
        for (offered, window) in [
            // Chromium and Firefox, Node's ws, Python's websockets.
            (vec!["permessage-deflate; client_max_window_bits"], 15),
            (vec!["permessage-deflate"], 15),
            (
                vec![
                    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                     server_max_window_bits=12; client_max_window_bits=12",
                ],
                12,
            ),
            (vec!["permessage-deflate;server_max_window_bits=8"], 8),
            (
                vec!["permessage-deflate; server_max_window_bits=\"10\""],
                10,
            ),
            (
                vec!["permessage-deflate; server_max_window_bits=\"1\\1\""],
                11,
            ),
            (
                vec![
                    "permessage-deflate; server_max_window_bits = 9 ; client_max_window_bits = 15",
                ],
                9,
            ),
            (vec!["x-webkit-deflate-frame, permessage-deflate"], 15),
            (
                vec!["other; a=\"permessage-deflate\"", "permessage-deflate"],
                15,
            ),
            (vec!["other; a=\"x\"", ", ,permessage-deflate,,"], 15),
            // The first offer is declined, the second is not.
            (
                vec![
                    "permessage-deflate; server_max_window_bits=16, permessage-deflate; server_max_window_bits=13, permessage-deflate",
                ],
                13,
            ),
        ] {
            let response = match window {
                15 => BOTH.to_owned(),
                bits => format!("{BOTH}; server_max_window_bits={bits}"),
            };
            assert_eq!(answer(&offered), Some((window, response)), "{offered:?}");
        }
    }

    #[test]
    fn other_offers_are_declined() {
        for offered in [
            "",
            "x-webkit-deflate-frame",
            "permessage-bzip2",
            // Unknown parameters, and repeated ones.
            "permessage-deflate; level=9",
            "permessage-deflate; client_max_window_bits; client_max_window_bits",
            "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            // Values that are missing, or that should be.
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_no_context_takeover=true",
            "permessage-deflate; client_no_context_takeover=1",
            // Values out of range, or not as the RFC writes them.
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=08",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; server_max_window_bits=1e1",
            "permessage-deflate; server_max_window_bits=999",
            "permessage-deflate; client_max_window_bits=0",
            "permessage-deflate; client_max_window_bits=banana",
            // Broken grammar.
            "permessage-deflate;",
            "permessage-deflate; =9",
            "permessage-deflate; server_max_window_bits=",
            "permessage-deflate; server_max_window_bits=\"10",
            "permessage-deflate; server_max_window_bits=\"1 0\"",
            "permessage-deflate permessage-deflate",
            "; permessage-deflate",
            "permessage-deflate, ;",
        ] {
            assert_eq!(answer(&[offered]), None, "{offered:?}");
        }
    }
}
