//! [`Certificates`]: the certificate of the server's port, which may change while the server runs.
//!
//! | file | content |
//! | --- | --- |
//! | `files` | the certificate and its key in PEM files |
//! | `dates` | when a certificate begins and ends |
//! | `acme` | certificates from an ACME server |

#[cfg(feature = "acme")]
mod acme;
mod dates;
mod files;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

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
    /// The certificate of the files that the settings name, or of an earlier order at the ACME server. `None` if there
    /// is none.
    ///
    /// # Errors
    /// If it cannot be used.
    pub(crate) fn read(config: &TlsConfig) -> Result<Option<Self>, CertificateError> {
        match CertificateFiles::of(config)? {
            Some(files) => files.read().map(Some),
            #[cfg(feature = "acme")]
            None => acme::Acme::of(config)?.map_or(Ok(None), |acme| acme.stored()),
            #[cfg(not(feature = "acme"))]
            None => Ok(None),
        }
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
        let now = dates::now();
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
    source: Arc<Source>,
}

named_debug!(Certificates);

/// Where the certificate comes from.
enum Source {
    Files(Mutex<Watched>),
    /// An ACME server.
    #[cfg(feature = "acme")]
    Acme(acme::Acme),
}

/// What handshakes ask for the certificate.
#[derive(Default)]
struct Current {
    /// `None` until the ACME server gives one.
    certificate: RwLock<Option<Arc<Certificate>>>,
    #[cfg(feature = "acme")]
    challenges: acme::Challenges,
}

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
    /// The certificate of the settings: of files, or of an earlier order at the ACME server. `None` without TLS.
    ///
    /// # Errors
    /// If the settings or the files cannot be used.
    pub(crate) fn open(config: &TlsConfig) -> Result<Option<Self>, CertificateError> {
        let current = Arc::new(Current::default());
        let source = match NewCertificate::read(config)? {
            Some(new) => {
                current.set(new.certificate);
                Source::Files(Mutex::new(new.watched))
            }
            #[cfg(feature = "acme")]
            None => {
                let Some(acme) = acme::Acme::of(config)? else {
                    return Ok(None);
                };
                if let Some(certificate) = acme.stored()? {
                    current.set(certificate);
                }
                Source::Acme(acme)
            }
            #[cfg(not(feature = "acme"))]
            None => return Ok(None),
        };
        let source = Arc::new(source);
        Ok(Some(Self { current, source }))
    }

    /// Changes the certificate for the handshakes to come, if it comes from files.
    pub(crate) fn set(&self, new: NewCertificate) {
        if let Some(watched) = self.source.watched() {
            *lock(watched) = new.watched;
            self.current.set(new.certificate);
        }
    }

    /// The dates of the present certificate; `None` if there is none yet.
    pub(crate) fn validity(&self) -> Option<Validity> {
        self.current.get().map(|certificate| certificate.validity)
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
        #[cfg(feature = "acme")]
        if matches!(*self.source, Source::Acme(_)) {
            config.alpn_protocols.push(acme::ACME_ALPN.to_vec());
        }
        // Clients that come back skip the signature, and the server keeps nothing for it.
        config.ticketer = ring::Ticketer::new()?;
        Ok(Tls::new(Arc::new(config)))
    }

    /// Reads the files again when they change, or orders certificates, and warns of the end. Never returns.
    pub(crate) async fn keep(self) {
        #[cfg(feature = "acme")]
        if let Source::Acme(acme) = &*self.source {
            actix_rt::spawn(acme.clone().keep(Arc::clone(&self.current)));
        }
        let mut looks = tokio::time::interval(LOOK);
        let mut warned = None::<tokio::time::Instant>;
        loop {
            let now = looks.tick().await;
            let looking = self.clone();
            // It fails at the end of the process alone.
            let _ = spawn_blocking(move || looking.look()).await;
            let is_due = warned.is_none_or(|at| now - at >= WARNING);
            let ending = self.validity();
            let ending = ending.filter(|it| matches!(it.age(), Age::Late | Age::Ended));
            if let Some(validity) = ending.filter(|_| is_due) {
                warned = Some(now);
                let ends = validity.end_text();
                tracing::warn!(
                    ends,
                    "serve.certificate.ending: put a new certificate into the files of tls_cert and tls_key; with acme, \
                     mend what the lines serve.acme.failed say"
                );
            }
        }
    }

    /// Reads the files if they have changed. If they cannot be used, the old certificate stays.
    fn look(&self) {
        let Some(watched) = self.source.watched() else {
            return;
        };
        let read = {
            let mut watched = lock(watched);
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

impl Source {
    /// The files, if it comes from files.
    fn watched(&self) -> Option<&Mutex<Watched>> {
        match self {
            Self::Files(watched) => Some(watched),
            #[cfg(feature = "acme")]
            Self::Acme(_) => None,
        }
    }
}

impl Current {
    fn get(&self) -> Option<Arc<Certificate>> {
        // No code panics while it holds this lock.
        let certificate = self.certificate.read();
        certificate.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, certificate: Certificate) {
        tls_metrics().expiry.set(certificate.validity.ends as f64);
        let current = self.certificate.write();
        *current.unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(certificate));
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current")
    }
}

impl ResolvesServerCert for Current {
    #[cfg_attr(
        not(feature = "acme"),
        expect(unused_variables, reason = "only ACME servers get another certificate")
    )]
    fn resolve(&self, client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        #[cfg(feature = "acme")]
        if acme::Challenges::is_asked(&client) {
            return self.challenges.get(&client);
        }
        Some(Arc::clone(&self.get()?.key))
    }
}
