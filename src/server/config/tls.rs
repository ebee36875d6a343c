//! The settings of TLS.

use std::path::PathBuf;

use clap::Args;

/// TLS of the server's port.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// File with the certificate of the server's name and those of its issuers (PEM). The port then speaks https and
    /// wss. The server reads the file again when it changes
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// File with the private key of the certificate (PEM)
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
}

impl TlsConfig {
    /// Whether the server's port speaks https.
    pub(crate) fn is_on(&self) -> bool {
        self.tls_cert.is_some()
    }
}
