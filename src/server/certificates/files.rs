//! [`CertificateFiles`]: a certificate and its key in PEM files.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::Certificate;
use super::dates::Validity;
use crate::server::config::TlsConfig;

/// The certificate of the settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// One of the two settings is missing.
    #[error("tls_cert and tls_key belong together: set {missing}, too")]
    Alone {
        /// The setting that is missing.
        missing: &'static str,
    },
    /// The certificate has two sources.
    #[error("acme and tls_cert exclude each other: remove one of them")]
    Both,
    /// The build has no ACME.
    #[error(
        "this slackir was built without ACME: build it with `--features acme`, or set tls_cert"
    )]
    NoAcme,
    /// A name for which no certificate can be had.
    #[error(
        "{0:?} in acme is no host name such as chat.example.com: TLS-ALPN-01 is for neither addresses nor wildcards"
    )]
    AcmeName(String),
    /// The URL of the ACME server.
    #[error("{0:?} in acme_directory is no URL of an ACME server: it begins with https://")]
    AcmeDirectory(String),
    /// A file cannot be read.
    #[error(
        "cannot read {}: {source}; correct the path, or let the user of the server read the file",
        path.display()
    )]
    Read {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A file has not what its setting says.
    #[error("{} has no {wanted} in PEM format: name the file that has it", path.display())]
    Content {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What it should have.
        wanted: &'static str,
    },
    /// The key or the certificate is of a kind that is not supported, or they do not belong together.
    #[error(
        "{} is not the key of the certificate in {}: {problem}; take both from the same issue",
        key.display(),
        certificate.display()
    )]
    Key {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What is wrong.
        problem: rustls::Error,
    },
    /// rustls refuses its own defaults.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

impl CertificateError {
    /// The setting whose value causes the error.
    pub(crate) fn setting(&self) -> Option<&'static str> {
        match self {
            Self::Alone { missing: setting }
            | Self::Read { setting, .. }
            | Self::Content { setting, .. } => Some(setting),
            Self::Both | Self::NoAcme | Self::AcmeName(_) => Some("acme"),
            Self::AcmeDirectory(_) => Some("acme_directory"),
            Self::Key { .. } => Some("tls_key"),
            Self::Tls(_) => None,
        }
    }
}

/// The files of `tls_cert` and `tls_key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CertificateFiles {
    certificate: PathBuf,
    key: PathBuf,
}

/// What changes in the files when a new certificate is there: their times and their inodes.
pub(super) type State = [Option<(SystemTime, u64)>; 2];

impl CertificateFiles {
    /// The files that the settings name; `None` if they name none.
    pub(super) fn of(config: &TlsConfig) -> Result<Option<Self>, CertificateError> {
        if !config.acme.is_empty() {
            return match (&config.tls_cert, &config.tls_key) {
                (None, None) if cfg!(feature = "acme") => Ok(None),
                (None, None) => Err(CertificateError::NoAcme),
                _ => Err(CertificateError::Both),
            };
        }
        match (&config.tls_cert, &config.tls_key) {
            (Some(certificate), Some(key)) => Ok(Some(Self {
                certificate: certificate.clone(),
                key: key.clone(),
            })),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(CertificateError::Alone {
                missing: "tls_cert",
            }),
            (Some(_), None) => Err(CertificateError::Alone { missing: "tls_key" }),
        }
    }

    /// One file that has both.
    #[cfg(feature = "acme")]
    pub(super) fn one(path: PathBuf) -> Self {
        Self {
            certificate: path.clone(),
            key: path,
        }
    }

    pub(super) fn state(&self) -> State {
        [&self.certificate, &self.key].map(|path| {
            let found = fs::metadata(path).ok()?;
            Some((found.modified().ok()?, found.ino()))
        })
    }

    /// Reads both, and checks that they belong together.
    pub(super) fn read(&self) -> Result<Certificate, CertificateError> {
        const CERT: &str = "tls_cert";
        const KEY: &str = "tls_key";
        let text = read(&self.certificate, CERT)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let no_certificate = || CertificateError::Content {
            setting: CERT,
            path: self.certificate.clone(),
            wanted: "certificate",
        };
        let chain = chain.map_err(|_: pem::Error| no_certificate())?;
        let validity = chain.first().and_then(|first| Validity::of(first));
        let validity = validity.ok_or_else(no_certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key, KEY)?);
        let key = key.map_err(|_| CertificateError::Content {
            setting: KEY,
            path: self.key.clone(),
            wanted: "private key",
        })?;
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider());
        let key = key.map_err(|problem| CertificateError::Key {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            problem,
        })?;
        Ok(Certificate {
            key: Arc::new(key),
            validity,
        })
    }
}

fn read(path: &Path, setting: &'static str) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|source| CertificateError::Read {
        setting,
        path: path.to_owned(),
        source,
    })
}
