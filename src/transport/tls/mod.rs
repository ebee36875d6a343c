//! TLS on streams that the server owns, by rustls' unbuffered API: records are decrypted in a buffer that the
//! connections of a thread share, so a silent connection has none.
//!
//! `accept` does the handshake, `session` reads and writes records.

mod accept;
mod session;
#[cfg(test)]
pub(super) mod tests;

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;

pub(super) use self::session::Session;

/// The TLS of a server: certificates, versions and protocols, as rustls has them. For
/// [`ServerOptions::tls`](super::direct::ServerOptions::tls).
///
/// ```no_run
/// use std::sync::Arc;
///
/// use rustls::ServerConfig;
/// use rustls::pki_types::pem::PemObject;
/// use rustls::pki_types::{CertificateDer, PrivateKeyDer};
/// use slackir::transport::direct::{ServerOptions, Tls};
///
/// # fn options() -> Result<ServerOptions, Box<dyn std::error::Error>> {
/// let chain = CertificateDer::pem_file_iter("fullchain.pem")?.collect::<Result<_, _>>()?;
/// let key = PrivateKeyDer::from_pem_file("privkey.pem")?;
/// let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
/// # Ok(
/// ServerOptions::default().tls(Tls::new(Arc::new(config)))
/// # )
/// # }
/// ```
#[derive(Clone)]
pub struct Tls(Arc<ServerConfig>);

impl Tls {
    /// TLS with this configuration. The server speaks HTTP/1.1, so `alpn_protocols` must be empty or have `http/1.1`.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self(config)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}
