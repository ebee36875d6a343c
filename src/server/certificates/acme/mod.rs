//! [`Acme`]: certificates from an ACME server such as Let's Encrypt (RFC 8555), by TLS-ALPN-01 (RFC 8737). The ACME server
//! opens a connection to each name, and this server must show a certificate there that answers the challenge.
//!
//! | file | content |
//! | --- | --- |
//! | `challenges` | the answers to challenges that are open |
//! | `folder` | the account and the certificate on disk |

mod challenges;
mod folder;

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use actix_rt::task::spawn_blocking;
use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::time::{sleep, timeout};
use url::Url;

pub(super) use self::challenges::{ACME_ALPN, Challenges};
use self::folder::Folder;
use super::dates::now;
use super::{Certificate, CertificateError, Current, Validity};
use crate::server::config::TlsConfig;

/// The longest time for one order.
const PATIENCE: Duration = Duration::from_secs(300);
/// How the server asks for the state of an order.
const ASKING: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(500))
    .timeout(Duration::from_secs(120));
/// The wait after the first failure. It doubles with each: Let's Encrypt accepts five failures of a name an hour.
const FIRST_RETRY: Duration = Duration::from_secs(120);
/// The longest wait after a failure.
const LAST_RETRY: Duration = Duration::from_secs(6 * 3_600);
/// The longest sleep, after which the clock is read again.
const LOOK: Duration = Duration::from_secs(3_600);
/// The type of problem with which an ACME server says that it does not know the account.
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// There is no new certificate from the ACME server.
#[derive(Debug, thiserror::Error)]
enum AcmeError {
    #[error("{}", advice(.0))]
    Protocol(#[from] instant_acme::Error),
    #[error("the ACME server does not know the account any more; the next try makes a new one")]
    NoAccount,
    #[error(
        "the ACME server does not offer tls-alpn-01 for {0}; take another acme_directory, or tls_cert"
    )]
    NoChallenge(String),
    #[error(
        "the ACME server has not found this server at {name}: {problem}; port 443 of that name must lead to this server"
    )]
    Refused { name: String, problem: String },
    #[error("the ACME server refuses the order and gives no reason; look at its status page")]
    NoReason,
    #[error("there was no certificate within {0:?}; look at the status page of the ACME server")]
    Late(Duration),
    #[error(
        "the new certificate ends at {ends}, and is to be renewed already; look at the clock of this machine"
    )]
    Short { ends: String },
    #[error(
        "cannot use {}: {source}; give the folder acme_dir to the user of the server",
        path.display()
    )]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the certificate of the ACME server cannot be used: {0}")]
    Certificate(#[from] CertificateError),
    #[error("cannot make the answer to a challenge: {0}; check the names in acme")]
    Answer(#[from] rcgen::Error),
    #[error("cannot make the key of a challenge: {0}; check the names in acme")]
    Key(#[from] rustls::Error),
    #[error("the server is shutting down")]
    Stopped,
}

/// What has failed between the two servers, and what to do.
fn advice(error: &instant_acme::Error) -> String {
    match error {
        instant_acme::Error::Api(problem) => {
            format!(
                "the ACME server refuses: {problem}; correct acme and acme_contact, or wait if it names a limit"
            )
        }
        instant_acme::Error::Timeout(_) => {
            "the ACME server did not finish the order in time; look at its status page".to_owned()
        }
        error => {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(inner) = cause {
                text = format!("{text}: {inner}");
                cause = inner.source();
            }
            format!(
                "cannot talk to the ACME server: {text}; check acme_directory, acme_root and the network of this machine"
            )
        }
    }
}

/// The settings of ACME.
#[derive(Clone)]
pub(super) struct Acme {
    names: Vec<String>,
    contact: Option<String>,
    directory: String,
    root: Option<PathBuf>,
    folder: Folder,
}

impl Acme {
    /// The settings; `None` if there are no names.
    ///
    /// # Errors
    /// If one of them cannot be used.
    pub(super) fn of(config: &TlsConfig) -> Result<Option<Self>, CertificateError> {
        if config.acme.is_empty() {
            return Ok(None);
        }
        let names = config.acme.iter().map(|name| host_name(name));
        let names = names.collect::<Result<_, _>>()?;
        let directory = &config.acme_directory;
        if !Url::parse(directory).is_ok_and(|url| url.scheme() == "https" && url.has_host()) {
            return Err(CertificateError::AcmeDirectory(directory.clone()));
        }
        if let Some(path) = &config.acme_root {
            check_root(path)?;
        }
        Ok(Some(Self {
            names,
            contact: config.acme_contact.clone(),
            directory: directory.clone(),
            root: config.acme_root.clone(),
            folder: Folder::new(config.acme_dir.clone()),
        }))
    }

    /// The certificate of an earlier order for these names at this ACME server.
    ///
    /// # Errors
    /// If its file cannot be read.
    pub(super) fn stored(&self) -> Result<Option<Certificate>, CertificateError> {
        let certificate = self.folder.certificate(&self.directory)?;
        let is_for_all = |it: &Certificate| self.names.iter().all(|name| it.is_for(name));
        Ok(certificate.filter(is_for_all))
    }

    /// Orders a certificate if there is none, and a new one when a third of its life is left. Never returns.
    pub(super) async fn keep(self, current: Arc<Current>) {
        let mut retry = FIRST_RETRY;
        loop {
            if let Some(rest) = current.get().and_then(|it| until_renewal(it.validity)) {
                sleep(rest.min(LOOK)).await;
                continue;
            }
            let ordered = timeout(PATIENCE, self.order(&current)).await;
            current.challenges.forget();
            match ordered.unwrap_or(Err(AcmeError::Late(PATIENCE))) {
                Ok(()) => retry = FIRST_RETRY,
                Err(error) => {
                    let (directory, retry_s) = (&*self.directory, retry.as_secs());
                    tracing::error!(
                        %error,
                        directory,
                        retry_s,
                        "serve.acme.failed: there is no new certificate; mend what the error says, the server tries again"
                    );
                    sleep(retry).await;
                    retry = (retry * 2).min(LAST_RETRY);
                }
            }
        }
    }

    /// Orders a certificate, stores it, and uses it from now on.
    async fn order(&self, current: &Current) -> Result<(), AcmeError> {
        // Before the order, because ACME servers limit the certificates of a name.
        let folder = self.folder.clone();
        blocking(move || folder.prepare()).await?;
        let account = self.account().await?;
        let names = self.names.iter().cloned().map(Identifier::Dns);
        let names: Vec<_> = names.collect();
        let order = account.new_order(&NewOrder::new(&names)).await;
        if matches!(&order, Err(instant_acme::Error::Api(it)) if it.r#type.as_deref() == Some(NO_ACCOUNT))
        {
            let folder = self.folder.clone();
            blocking(move || folder.forget_account()).await?;
            return Err(AcmeError::NoAccount);
        }
        let mut order = order?;
        answer(&mut order, &current.challenges).await?;
        match order.poll_ready(&ASKING).await {
            Ok(OrderStatus::Ready) => {}
            Ok(_) => return Err(refusal(&mut order).await?.unwrap_or(AcmeError::NoReason)),
            Err(error @ instant_acme::Error::Api(_)) => {
                return Err(refusal(&mut order).await?.unwrap_or(error.into()));
            }
            Err(error) => return Err(error.into()),
        }
        let key = order.finalize().await?;
        let chain = order.poll_certificate(&ASKING).await?;
        let (folder, directory) = (self.folder.clone(), self.directory.clone());
        let stored = blocking(move || folder.store_certificate(&directory, &chain, &key));
        let certificate = stored.await?;
        let validity = certificate.validity;
        let (names, ends) = (self.names.join(", "), validity.end_text());
        current.set(certificate);
        tracing::info!(names, ends, "serve.acme.certificate");
        match until_renewal(validity) {
            Some(_) => Ok(()),
            None => Err(AcmeError::Short { ends }),
        }
    }

    /// The account of an earlier order at this ACME server, or a new one.
    async fn account(&self) -> Result<Account, AcmeError> {
        let root = self.root.clone();
        // It reads the root certificates.
        let builder = blocking(move || {
            Ok(match root {
                Some(root) => Account::builder_with_root(root)?,
                None => Account::builder()?,
            })
        });
        let builder = builder.await?;
        let (folder, directory) = (self.folder.clone(), self.directory.clone());
        if let Some(credentials) = blocking(move || Ok(folder.account(&directory))).await? {
            return Ok(builder.from_credentials(credentials).await?);
        }
        let contact = self.contact.iter();
        let contact: Vec<_> = contact.map(|it| format!("mailto:{it}")).collect();
        let contact: Vec<_> = contact.iter().map(String::as_str).collect();
        let account = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let directory = self.directory.clone();
        let (account, credentials) = builder.create(&account, directory.clone(), None).await?;
        let folder = self.folder.clone();
        blocking(move || folder.store_account(&directory, credentials)).await?;
        Ok(account)
    }
}

/// How long a certificate need not be renewed; `None` from the time at which a third of its life is left.
fn until_renewal(validity: Validity) -> Option<Duration> {
    let Validity { begins, ends } = validity;
    let left = ends - (ends - begins) / 3 - now();
    let left = u64::try_from(left).ok()?;
    (left > 0).then(|| Duration::from_secs(left))
}

/// A host name as orders and handshakes have it.
fn host_name(name: &str) -> Result<String, CertificateError> {
    let is_name = matches!(ServerName::try_from(name), Ok(ServerName::DnsName(_)));
    if !is_name || name.contains('*') || name.ends_with('.') {
        return Err(CertificateError::AcmeName(name.to_owned()));
    }
    Ok(name.to_ascii_lowercase())
}

fn check_root(path: &Path) -> Result<(), CertificateError> {
    let setting = "acme_root";
    let text = fs::read(path).map_err(|source| CertificateError::Read {
        setting,
        path: path.to_owned(),
        source,
    })?;
    let root = CertificateDer::from_pem_slice(&text);
    root.map(drop).map_err(|_| CertificateError::Content {
        setting,
        path: path.to_owned(),
        wanted: "certificate",
    })
}

/// Runs what waits for the disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AcmeError> + Send + 'static,
) -> Result<T, AcmeError> {
    let result = spawn_blocking(work).await;
    // It fails at the end of the process alone.
    result.unwrap_or(Err(AcmeError::Stopped))
}

/// Prepares the answers to the challenges of an order, and tells the ACME server to look for them.
async fn answer(order: &mut Order, challenges: &Challenges) -> Result<(), AcmeError> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let name = authorization.identifier().to_string();
        let challenge = authorization.challenge(ChallengeType::TlsAlpn01);
        let mut challenge = challenge.ok_or_else(|| AcmeError::NoChallenge(name.clone()))?;
        let authorization = challenge.key_authorization();
        challenges.answer(name, authorization.digest().as_ref())?;
        challenge.set_ready().await?;
    }
    Ok(())
}

/// The name of a refused order that the ACME server has not found, and why; `None` if it has found all.
async fn refusal(order: &mut Order) -> Result<Option<AcmeError>, AcmeError> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let state = authorization.refresh().await?;
        let problem = state.challenges.iter().find_map(|it| it.error.as_ref());
        if let Some(problem) = problem {
            return Ok(Some(AcmeError::Refused {
                problem: problem.to_string(),
                name: state.identifier().to_string(),
            }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_host_names_get_certificates() {
        assert_eq!(
            host_name("Chat.Example.com").expect("a name"),
            "chat.example.com"
        );
        for name in [
            "",
            "*.example.com",
            "192.0.2.1",
            "::1",
            "a b",
            "chat.example.com.",
        ] {
            host_name(name).expect_err(name);
        }
    }

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_life_is_left() {
        let day = 24 * 3_600;
        let after = |days: i64| {
            let begins = now() - days * day;
            until_renewal(Validity {
                begins,
                ends: begins + 90 * day,
            })
        };
        assert!(after(59).is_some_and(|rest| rest <= Duration::from_secs(24 * 3_600)));
        for days in [60, 61, 91] {
            assert_eq!(after(days), None, "{days}");
        }
    }
}
