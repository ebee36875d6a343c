//! The `Sec-WebSocket-Protocol` header: the client's auth token, and the choice of a subprotocol.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The prefix of an auth token. Despite its name phoenix.js writes the standard base64 alphabet.
const TOKEN_PREFIX: &str = "base64url.bearer.phx.";
/// The subprotocol that clients offer together with a token.
const PHOENIX: &str = "phoenix";

/// The result of the header of an upgrade request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Subprotocol {
    /// The subprotocol to name in the response.
    pub(super) chosen: Option<String>,
    /// The client's token; `None` if it sent several.
    pub(super) auth_token: Option<String>,
}

/// Why a connection is refused because of the header.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SubprotocolError {
    #[error("the auth token in 'sec-websocket-protocol' is not base64 of UTF-8")]
    Token,
    #[error("'sec-websocket-protocol' has no subprotocol that the server speaks")]
    NoneInCommon,
}

/// Chooses among the `offered` subprotocols. `supported` are the mount's own, the preferred first.
pub(super) fn negotiate(
    offered: &[&str],
    takes_token: bool,
    supported: &[String],
) -> Result<Subprotocol, SubprotocolError> {
    let entries = offered
        .iter()
        .flat_map(|value| value.split(','))
        .map(str::trim);
    let mut entries: Vec<&str> = entries.filter(|entry| !entry.is_empty()).collect();
    let mut auth_token = None;
    if takes_token {
        let tokens: Vec<&str> = entries
            .iter()
            .filter_map(|entry| entry.strip_prefix(TOKEN_PREFIX))
            .collect();
        // Several tokens count as none: they stay in the list as subprotocols that no mount speaks.
        if let [token] = tokens[..] {
            auth_token = Some(decode(token).ok_or(SubprotocolError::Token)?);
            entries.retain(|entry| !entry.starts_with(TOKEN_PREFIX));
        }
    }
    let phoenix = takes_token.then_some(PHOENIX);
    let mut spoken = phoenix
        .into_iter()
        .chain(supported.iter().map(String::as_str))
        .peekable();
    let chosen = match spoken.peek() {
        Some(_) if !entries.is_empty() => {
            let common = spoken.find(|one| entries.contains(one));
            Some(common.ok_or(SubprotocolError::NoneInCommon)?.to_owned())
        }
        _ => None,
    };
    Ok(Subprotocol { chosen, auth_token })
}

/// Base64 with or without padding, in the standard alphabet or the URL-safe one.
fn decode(token: &str) -> Option<String> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if token.contains(['-', '_']) {
        &URL_SAFE
    } else {
        &STANDARD
    };
    let bytes = GeneralPurpose::new(alphabet, config).decode(token).ok()?;
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(
        header: &[&str],
        takes_token: bool,
        supported: &[&str],
    ) -> Result<(Option<String>, Option<String>), SubprotocolError> {
        let supported: Vec<String> = supported.iter().map(|&one| one.to_owned()).collect();
        negotiate(header, takes_token, &supported).map(|found| (found.chosen, found.auth_token))
    }

    fn found(
        chosen: Option<&str>,
        token: Option<&str>,
    ) -> Result<(Option<String>, Option<String>), SubprotocolError> {
        Ok((chosen.map(str::to_owned), token.map(str::to_owned)))
    }

    /// Results observed on Phoenix with `auth_token: true`.
    /// Requirements 34, 35, 36, 37, 38.
    #[test]
    fn tokens_are_taken_and_phoenix_is_echoed() {
        for (header, want) in [
            (
                vec!["phoenix, base64url.bearer.phx.c2VrcmV0"],
                found(Some("phoenix"), Some("sekret")),
            ),
            (
                vec!["base64url.bearer.phx.c2VrcmV0"],
                found(None, Some("sekret")),
            ),
            (vec!["phoenix"], found(Some("phoenix"), None)),
            (vec![], found(None, None)),
            (
                vec!["phoenix, base64url.bearer.phx.YQ, base64url.bearer.phx.Yg"],
                found(Some("phoenix"), None),
            ),
            (
                vec!["base64url.bearer.phx.YQ, base64url.bearer.phx.Yg"],
                Err(SubprotocolError::NoneInCommon),
            ),
            (
                vec!["foo, base64url.bearer.phx.YQ"],
                Err(SubprotocolError::NoneInCommon),
            ),
            (vec!["base64url.bearer.phx."], found(None, Some(""))),
            (vec!["base64url.bearer.phx.YQ=="], found(None, Some("a"))),
            (
                vec!["base64url.bearer.phx.-_-_"],
                Err(SubprotocolError::Token),
            ),
            (
                vec!["base64url.bearer.phx.w78_"],
                found(None, Some("\u{ff}?")),
            ),
            (
                vec!["base64url.bearer.phx.w78/"],
                found(None, Some("\u{ff}?")),
            ),
        ] {
            assert_eq!(answer(&header, true, &[]), want, "{header:?}");
        }
    }

    /// Requirements 32, 33.
    #[test]
    fn the_servers_first_subprotocol_that_is_offered_wins() {
        let server = ["sip", "mqtt"];
        assert_eq!(
            answer(&["mqtt, sip"], false, &server),
            found(Some("sip"), None)
        );
        assert_eq!(answer(&["mqtt"], false, &server), found(Some("mqtt"), None));
        assert_eq!(answer(&[], false, &server), found(None, None));
        assert_eq!(
            answer(&["soap"], false, &server),
            Err(SubprotocolError::NoneInCommon)
        );
        assert_eq!(answer(&["soap, phoenix"], false, &[]), found(None, None));
    }
}
