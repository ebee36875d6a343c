//! Reads the client_ref, the client's own name for a message, from the payload. A payload without one is
//! searched, but not parsed.

use super::Room;
use crate::message::RawJson;

/// The payload has a client_ref that is not a text of 1 to 64 bytes without NUL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidClientRef;

/// The longest client_ref, in bytes.
const MAX_LEN: usize = 64;

impl Room {
    /// The client_ref in this payload, if there is one.
    ///
    /// # Errors
    /// If it is not valid.
    pub fn client_ref(&self, payload: &RawJson) -> Result<Option<String>, InvalidClientRef> {
        client_ref(payload, &self.fields.client_ref)
    }
}

/// Whether a text is a valid client_ref: 1 to 64 bytes without NUL.
pub fn is_client_ref(text: &str) -> bool {
    (1..=MAX_LEN).contains(&text.len()) && !text.contains('\0')
}

/// The member `field` of the payload; null counts as absent.
fn client_ref(payload: &RawJson, field: &str) -> Result<Option<String>, InvalidClientRef> {
    if memchr::memmem::find(payload.get().as_bytes(), field.as_bytes()).is_none() {
        return Ok(None);
    }
    let [value] = payload.members([field]).ok_or(InvalidClientRef)?;
    let Some(value) = value else {
        return Ok(None);
    };
    let value: Option<String> = serde_json::from_str(value.get()).map_err(|_| InvalidClientRef)?;
    match value {
        Some(text) if !is_client_ref(&text) => Err(InvalidClientRef),
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_client_ref_is_a_short_text_or_none() {
        for (payload, want) in [
            (json!({"message": "hi"}), Ok(None)),
            (json!({"message": "client_ref"}), Ok(None)),
            (json!({"deep": {"client_ref": "a"}}), Ok(None)),
            (json!({"client_ref": null}), Ok(None)),
            (json!({"client_ref": "a"}), Ok(Some("a".to_owned()))),
            (
                json!({"client_ref": "x".repeat(64)}),
                Ok(Some("x".repeat(64))),
            ),
            (json!({"client_ref": "x".repeat(65)}), Err(InvalidClientRef)),
            (json!({"client_ref": ""}), Err(InvalidClientRef)),
            (json!({"client_ref": 7}), Err(InvalidClientRef)),
            (json!({"client_ref": "\u{0}"}), Err(InvalidClientRef)),
        ] {
            let read = client_ref(&RawJson::from(payload.clone()), "client_ref");
            assert_eq!(read, want, "{payload}");
        }
    }
}
