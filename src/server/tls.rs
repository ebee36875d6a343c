//! TLS of a client: the servers that the system's root certificates vouch for, on ring.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

/// The root certificates of the system.
///
/// # Errors
/// If there are none.
pub(crate) fn system_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("the system has no root certificates for https".to_owned());
    }
    Ok(roots)
}

/// TLS with servers that these roots vouch for.
///
/// # Errors
/// If the TLS library refuses its own defaults.
pub(crate) fn tls(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}
