//! Checks the CSRF token that a page sends. Phoenix: `Plug.CSRFProtection.valid_state_and_csrf_token?/2`.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The bytes of the session's token, which is base64url text, and of a mask.
const LENGTH: usize = 24;

/// The characters of a masked token in base64url.
const MASKED_LENGTH: usize = 32;

/// Compares tokens. A page sends the session's token masked, then the mask, which is new for each page. The
/// session's token without a mask is not valid.
pub(super) fn is_valid(of_session: &[u8], of_page: &[u8]) -> bool {
    let unmasked = || {
        let (masked, mask) = of_page.split_at_checked(MASKED_LENGTH)?;
        let masked = <[u8; LENGTH]>::try_from(BASE64_URL_SAFE.decode(masked).ok()?).ok()?;
        let mask = <[u8; LENGTH]>::try_from(mask).ok()?;
        Some(std::array::from_fn(|at| masked[at] ^ mask[at]))
    };
    let of_session = <[u8; LENGTH]>::try_from(of_session).ok();
    of_session.is_some_and(|of_session| unmasked().is_some_and(|token| equal(&of_session, &token)))
}

/// Compares MACs under the session's token, in a time that does not depend on where the tokens differ.
fn equal(of_session: &[u8; LENGTH], of_page: &[u8; LENGTH]) -> bool {
    let mac = |token| {
        Hmac::<Sha256>::new_from_slice(of_session)
            .expect("HMAC takes keys of any length")
            .chain_update(token)
    };
    let expected = mac(of_session).finalize().into_bytes();
    mac(of_page).verify_slice(&expected).is_ok()
}
