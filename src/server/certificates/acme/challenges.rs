//! [`Challenges`]: the certificates that answer an ACME server's challenges.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;

use super::AcmeError;
use crate::lock::lock;

/// The protocol by which an ACME server asks for the answer to its challenge.
pub(in super::super) const ACME_ALPN: &[u8] = b"acme-tls/1";

/// The answers to challenges that are open, by name.
#[derive(Default)]
pub(in super::super) struct Challenges(Mutex<HashMap<String, Arc<CertifiedKey>>>);

impl Challenges {
    /// Shows this answer to handshakes for the name.
    pub(super) fn answer(&self, name: String, digest: &[u8]) -> Result<(), AcmeError> {
        let mut params = CertificateParams::new([name.clone()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let key = any_supported_type(&key)?;
        // `CertifiedKey::from_der` refuses the extension, because it is critical.
        let answer = CertifiedKey::new(vec![certificate.der().clone()], key);
        lock(&self.0).insert(name, Arc::new(answer));
        Ok(())
    }

    /// Whether the client of a handshake is an ACME server: it offers its protocol and no other.
    pub(in super::super) fn is_asked(client: &ClientHello<'_>) -> bool {
        let protocols = client.alpn().into_iter().flatten();
        protocols.eq([ACME_ALPN])
    }

    /// The answer for the name of a handshake; `None` if no challenge is open.
    pub(in super::super) fn get(&self, client: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        lock(&self.0).get(client.server_name()?).cloned()
    }

    pub(super) fn forget(&self) {
        lock(&self.0).clear();
    }
}
