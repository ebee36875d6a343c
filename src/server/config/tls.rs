//! The settings of TLS.

use std::path::PathBuf;

use clap::Args;

/// TLS of the server's port.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsConfig {
    /// File with the certificate of the server's name and those of its issuers (PEM). The port then speaks https and
    /// wss. The server reads the file again when it changes
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// File with the private key of the certificate (PEM)
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// Host names for which the server gets certificates by itself from an ACME server such as Let's Encrypt, whose terms
    /// you thereby accept: a list such as chat.example.com,www.example.com. The ACME server must reach this server at
    /// port 443 of each name
    #[arg(long, value_delimiter = ',', value_name = "HOSTS")]
    pub acme: Vec<String>,

    /// Mail address of the account at the ACME server
    #[arg(long, value_name = "ADDRESS")]
    pub acme_contact: Option<String>,

    /// URL of the ACME server's directory; by default that of Let's Encrypt
    #[arg(
        long,
        default_value = "https://acme-v02.api.letsencrypt.org/directory",
        value_name = "URL"
    )]
    pub acme_directory: String,

    /// Folder of the account and of the certificates of ACME
    #[arg(long, default_value = "slackir.acme", value_name = "DIR")]
    pub acme_dir: PathBuf,

    /// File with the root certificate of an ACME server of your own (PEM)
    #[arg(long, value_name = "FILE")]
    pub acme_root: Option<PathBuf>,
}

impl TlsConfig {
    /// Whether the server's port speaks https.
    pub(crate) fn is_on(&self) -> bool {
        self.tls_cert.is_some() || !self.acme.is_empty()
    }
}
