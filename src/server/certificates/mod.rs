//! [`Certificates`]: the certificate of the server's port, which may change while the server runs.
//!
//! | file | content |
//! | --- | --- |
//! | `files` | the certificate and its key in PEM files |
//! | `dates` | when a certificate begins and ends |

mod dates;
mod files;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_rt::task::spawn_blocking;
use chrono::DateTime;
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

pub(crate) use self::dates::Validity;
pub use self::files::CertificateError;
use self::files::{CertificateFiles, State};
use crate::lock::lock;
use crate::metrics::tls_metrics;
use crate::server::config::TlsConfig;
use crate::transport::direct::Tls;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(60);
/// A certificate that ends within this time is worth a warning.
const SOON: Duration = Duration::from_secs(14 * 24 * 3_600);
/// How often the log has that warning.
const WARNING: Duration = Duration::from_secs(24 * 3_600);

/// A certificate with its key.
pub(crate) struct Certificate {
    key: Arc<CertifiedKey>,
    pub(crate) validity: Validity,
}

/// Where a certificate is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// It has not begun.
    Early,
    Good,
    /// It ends soon.
    Late,
    Ended,
}

impl Certificate {
    /// The certificate that the settings name; `None` if they name none.
    ///
    /// # Errors
    /// If it cannot be used.
    pub(crate) fn read(config: &TlsConfig) -> Result<Option<Self>, CertificateError> {
        let files = CertificateFiles::of(config)?;
        files.map(|files| files.read()).transpose()
    }

    /// Whether it is for this host name.
    pub(crate) fn is_for(&self, host: &str) -> bool {
        let certificate = self.key.cert.first();
        let certificate = certificate.and_then(|first| ParsedCertificate::try_from(first).ok());
        let name = ServerName::try_from(host).ok();
        certificate
            .zip(name)
            .is_some_and(|(certificate, name)| verify_server_name(&certificate, &name).is_ok())
    }
}

impl Validity {
    /// Where the certificate is in its life now.
    pub(crate) fn age(self) -> Age {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs().cast_signed();
        match self.ends - now {
            ..=0 => Age::Ended,
            _ if now < self.begins => Age::Early,
            left if left <= SOON.as_secs().cast_signed() => Age::Late,
            _ => Age::Good,
        }
    }

    /// The end, for people.
    pub(crate) fn end_text(self) -> String {
        text(self.ends)
    }

    /// The begin, for people.
    pub(crate) fn begin_text(self) -> String {
        text(self.begins)
    }
}

fn text(seconds: i64) -> String {
    let time = DateTime::from_timestamp(seconds, 0).unwrap_or_default();
    time.format("%Y-%m-%d %H:%M UTC").to_string()
}

/// The certificate of a server. Clones share it; a handshake uses the present one.
#[derive(Clone)]
pub(crate) struct Certificates {
    current: Arc<Current>,
    files: Arc<std::sync::Mutex<Watched>>,
}

named_debug!(Certificates);

/// What handshakes ask for the certificate.
struct Current(RwLock<Arc<Certificate>>);

/// The files, and what they were.
struct Watched {
    files: CertificateFiles,
    /// At the last read, whether it has succeeded or not.
    state: State,
}

/// A certificate that has been read, and is not used yet.
pub(crate) struct NewCertificate {
    certificate: Certificate,
    watched: Watched,
}

impl NewCertificate {
    /// Reads the certificate that the settings name; `None` if they name none.
    ///
    /// # Errors
    /// If it cannot be used.
    pub(crate) fn read(config: &TlsConfig) -> Result<Option<Self>, CertificateError> {
        let Some(files) = CertificateFiles::of(config)? else {
            return Ok(None);
        };
        // Before the files are read, so that no change is missed.
        let state = files.state();
        Ok(Some(Self {
            certificate: files.read()?,
            watched: Watched { files, state },
        }))
    }
}

impl Certificates {
    /// Begins with this certificate.
    pub(crate) fn new(new: NewCertificate) -> Self {
        show(&new.certificate);
        Self {
            current: Arc::new(Current(RwLock::new(Arc::new(new.certificate)))),
            files: Arc::new(std::sync::Mutex::new(new.watched)),
        }
    }

    /// Changes the certificate for the handshakes to come.
    pub(crate) fn set(&self, new: NewCertificate) {
        *lock(&self.files) = new.watched;
        self.current.set(new.certificate);
    }

    /// The dates of the present certificate.
    pub(crate) fn validity(&self) -> Validity {
        self.current.get().validity
    }

    /// TLS 1.2 and 1.3 with the present certificate.
    ///
    /// # Errors
    /// If rustls refuses its own defaults.
    pub(crate) fn tls(&self) -> Result<Tls, CertificateError> {
        let provider = Arc::new(ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.current) as _);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Clients that come back skip the signature, and the server keeps nothing for it.
        config.ticketer = ring::Ticketer::new()?;
        Ok(Tls::new(Arc::new(config)))
    }

    /// Reads the files again when they change, and warns of the end. Never returns.
    pub(crate) async fn keep(self) {
        let mut looks = tokio::time::interval(LOOK);
        let mut warned = None::<tokio::time::Instant>;
        loop {
            let now = looks.tick().await;
            let looking = self.clone();
            // It fails at the end of the process alone.
            let _ = spawn_blocking(move || looking.look()).await;
            let is_due = warned.is_none_or(|at| now - at >= WARNING);
            let validity = self.validity();
            if is_due && matches!(validity.age(), Age::Late | Age::Ended) {
                warned = Some(now);
                let ends = validity.end_text();
                tracing::warn!(
                    ends,
                    "serve.certificate.ending: put a new certificate into the files of tls_cert and tls_key"
                );
            }
        }
    }

    /// Reads the files if they have changed. If they cannot be used, the old certificate stays.
    fn look(&self) {
        let read = {
            let mut watched = lock(&self.files);
            let state = watched.files.state();
            if state == watched.state {
                return;
            }
            watched.state = state;
            watched.files.read()
        };
        match read {
            Ok(certificate) => {
                let ends = certificate.validity.end_text();
                self.current.set(certificate);
                tracing::info!(ends, "serve.certificate.reloaded");
            }
            Err(error) => tracing::error!(
                %error,
                "serve.certificate.failed: the old certificate stays in use; mend the files of tls_cert and tls_key"
            ),
        }
    }
}

impl Current {
    fn get(&self) -> Arc<Certificate> {
        // No code panics while it holds this lock.
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, certificate: Certificate) {
        show(&certificate);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certificate);
    }
}

fn show(certificate: &Certificate) {
    tls_metrics().expiry.set(certificate.validity.ends as f64);
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.get().key))
    }
}
