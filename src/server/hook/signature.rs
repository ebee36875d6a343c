//! The signature of a call: it shows the backend that the call comes from this server, and when.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The header of a call that holds the signature.
pub(super) const HEADER: &str = "slackir-signature";

/// Signs calls.
pub(super) struct CallSigner(Hmac<Sha256>);

impl CallSigner {
    pub(super) fn new(secret: &[u8]) -> Self {
        let mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
        Self(mac)
    }

    /// `t=SECONDS,v1=HEX`; the MAC is over the seconds, a dot and the body.
    pub(super) fn sign(&self, seconds: u64, body: &[u8]) -> String {
        let mac = self.0.clone();
        let mac = mac.chain_update(format!("{seconds}.")).chain_update(body);
        let mut signature = format!("t={seconds},v1=");
        for byte in mac.finalize().into_bytes() {
            use std::fmt::Write as _;
            // Writing to a string does not fail.
            let _ = write!(signature, "{byte:02x}");
        }
        signature
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected value is that of `printf '1764331200.{}' | openssl dgst -sha256 -hmac ..`.
    #[test]
    fn the_signature_is_hmac_sha256_over_time_and_body() {
        let signer = CallSigner::new(b"0123456789abcdef0123456789abcdef");
        assert_eq!(
            signer.sign(1_764_331_200, b"{}"),
            "t=1764331200,v1=ddb17f35df9c709a31370842440a4a59c1091184251993be1dcefad9859118ea"
        );
    }
}
