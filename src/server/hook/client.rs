//! [`Hook`]: makes calls, on one HTTP client for each worker thread.

use std::cell::RefCell;
use std::error::Error as _;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use awc::error::{ConnectError, PayloadError, SendRequestError};
use awc::http::StatusCode;
use awc::http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use bytes::Bytes;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout, timeout_at};
use url::Url;

use super::answer::{MAX_BYTES, Verdict};
use super::deny::{DenyCache, DenyKey};
use super::failure::{CallFailure, FailureLog};
use super::request::{WrittenBatch, WrittenCall};
use super::signature::{CallSigner, HEADER};
use crate::message::{Payload, RawJson};
use crate::metrics::hook_metrics;
use crate::server::config::{HookConfig, HookSecretError};
use crate::trace::{SpanKind, Traced};

/// How long an idle connection is kept: less than backends do, so that none is used while its backend closes it.
const IDLE: Duration = Duration::from_secs(1);
/// The most bytes that are read of an answer that does nothing.
const IGNORED_BYTES: usize = 65_536;
/// The pause before a refused connection is tried once more.
const PAUSE: Duration = Duration::from_millis(100);

/// Why the hook cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// Its secret.
    #[error(transparent)]
    Secret(#[from] HookSecretError),
    /// An `https` URL on a system without root certificates.
    #[error("[hook] url: the system has no root certificates for https")]
    NoRoots,
    /// The TLS library.
    #[error("[hook] url: {0}")]
    Tls(#[from] rustls::Error),
    /// Rooms or the identity use a hook, and there is none.
    #[error("[hook] is missing: [identity] or [[rooms]] ask it")]
    Missing,
    /// Rooms tell the hook, and there is none.
    #[error("[hook] is missing: [[rooms]] tell it")]
    MissingToTell,
    /// Rooms tell of saved messages, and none is saved.
    #[error("[[rooms]] tell: \"message\" is about saved messages, it needs --persist on")]
    NothingSaved,
}

/// The backend behind `[hook]`, for all workers.
pub(crate) struct Hook {
    /// Names the clients of this hook on each thread.
    id: u64,
    config: HookConfig,
    /// With the secret that was read last.
    signer: RwLock<Arc<CallSigner>>,
    /// For `https`.
    tls: Option<Arc<ClientConfig>>,
    denied: DenyCache,
    failures: FailureLog,
    /// Notices that are not sent yet, of all workers.
    open_notices: AtomicUsize,
}

named_debug!(Hook, config);

/// A secret that was read, and is not used yet.
pub(crate) struct NewHookSecret(CallSigner);

/// The calls of one thread.
struct HookClient {
    client: awc::Client,
    slots: Semaphore,
    /// Half of the slots: notices of many members that go at once leave the others to the joins.
    notice_slots: Semaphore,
}

thread_local! {
    static CLIENTS: RefCell<Vec<(u64, Rc<HookClient>)>> = const { RefCell::new(Vec::new()) };
}

impl Hook {
    /// # Errors
    /// If the secret or the system's certificates cannot be used.
    pub(crate) fn new(config: &HookConfig) -> Result<Self, HookError> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        Ok(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            config: config.clone(),
            signer: RwLock::new(Arc::new(CallSigner::new(&config.secret()?))),
            tls: if [&config.url, config.tell_url()]
                .iter()
                .any(|url| url.scheme() == "https")
            {
                Some(tls()?)
            } else {
                None
            },
            denied: DenyCache::new(config.deny_cache),
            failures: FailureLog::default(),
            open_notices: AtomicUsize::new(0),
        })
    }

    /// Reads the secret again, from the same file.
    ///
    /// # Errors
    /// If it cannot be used.
    pub(crate) fn read_secret(&self) -> Result<NewHookSecret, HookSecretError> {
        let secret = self.config.secret()?;
        Ok(NewHookSecret(CallSigner::new(&secret)))
    }

    /// Signs the calls to come with this secret.
    pub(crate) fn set_secret(&self, NewHookSecret(signer): NewHookSecret) {
        // No code panics while it holds this lock.
        let present = self.signer.write();
        *present.unwrap_or_else(PoisonError::into_inner) = Arc::new(signer);
    }

    /// The headers of a handshake that its calls carry.
    pub(crate) fn headers(&self) -> &[String] {
        &self.config.headers
    }

    /// Asks the backend.
    ///
    /// # Errors
    /// If there is no answer, or it is not understood completely.
    pub(crate) async fn ask(&self, call: &WrittenCall) -> Result<Verdict, CallFailure> {
        let mut span = Traced::current().begin("hook", SpanKind::Client);
        span.set("slackir.hook", call.kind.name());
        span.set("slackir.hook_id", &*call.id);
        let body = self.call(call, span.traceparent()).await;
        let verdict = body.and_then(|body| {
            let verdict = Verdict::parse(&body, call.kind);
            verdict.map_err(|invalid| CallFailure::Invalid(invalid.to_string()))
        });
        let outcome = match &verdict {
            Ok(Verdict::Allowed(_)) => "ok",
            Ok(Verdict::Refused { .. }) => "refused",
            Err(failure) => failure.kind(),
        };
        self.count(call, outcome, verdict.as_ref().err());
        span.set("slackir.result", outcome);
        if let Err(failure) = &verdict {
            span.fail(failure);
        }
        verdict
    }

    /// Sends the backend a notice, whose answer does nothing. Does not wait for it.
    pub(crate) fn tell(self: &Arc<Self>, call: WrittenCall) {
        let notice = OpenNotice::new(self);
        actix_rt::spawn(async move {
            let failure = notice.0.notify(&call).await.err();
            let outcome = failure.as_ref().map_or("ok", CallFailure::kind);
            notice.0.count(&call, outcome, failure.as_ref());
        });
    }

    async fn notify(&self, call: &WrittenCall) -> Result<(), CallFailure> {
        let client = self.client();
        match timeout(self.config.timeout, client.notice_slots.acquire()).await {
            Ok(Ok(_slot)) => self.call(call, None).await.map(drop),
            _ => Err(CallFailure::Busy),
        }
    }

    /// Sends a batch of notices. Any status of 200 to 299 means that the backend has taken it; its answer does nothing.
    /// Needs no slot: the caller sends one batch at a time.
    ///
    /// # Errors
    /// If the backend has not taken the batch.
    pub(crate) async fn deliver(&self, batch: &WrittenBatch) -> Result<(), CallFailure> {
        let client = self.client();
        let deadline = tokio::time::Instant::now() + self.config.timeout;
        let request = self.post(&client.client, self.config.tell_url(), &batch.body);
        let sent = timeout_at(deadline, request.send_body(batch.body.clone()));
        let mut response = match sent.await {
            Ok(sent) => sent.map_err(|error| failure(&error))?,
            Err(_) => return Err(CallFailure::Timeout),
        };
        let status = response.status();
        // So that the connection can be used again. A broken body changes nothing: the status has come.
        let _ = timeout_at(deadline, response.body().limit(IGNORED_BYTES)).await;
        if status.is_success() {
            Ok(())
        } else {
            Err(CallFailure::Status(status.as_u16()))
        }
    }

    /// Whether anything answers at the URL; returns the status. The request has neither body nor signature.
    ///
    /// # Errors
    /// If there is no answer.
    #[cfg(feature = "_store")]
    pub(crate) async fn reach(&self) -> Result<u16, CallFailure> {
        let request = self.client().client.get(self.config.url.as_str());
        match timeout(self.config.timeout, request.send()).await {
            Ok(Ok(response)) => Ok(response.status().as_u16()),
            Ok(Err(error)) => Err(failure(&error)),
            Err(_) => Err(CallFailure::Timeout),
        }
    }

    /// The time for a whole exchange.
    pub(crate) fn timeout(&self) -> Duration {
        self.config.timeout
    }

    /// An answer that cannot be carried out, though it has the right form.
    pub(crate) fn refuse_answer(&self, call: &WrittenCall, problem: &str) {
        let failure = CallFailure::Invalid(problem.to_owned());
        self.failures.failed(call, &failure);
    }

    /// The error of a join that the backend has refused within the time of `deny_cache`. The key is made only if it
    /// is used.
    pub(crate) fn denied(&self, key: impl FnOnce() -> DenyKey) -> Result<Option<DenyKey>, RawJson> {
        if !self.denied.is_on() {
            return Ok(None);
        }
        let key = key();
        match self.denied.find(key, Instant::now()) {
            Some(error) => Err(error),
            None => Ok(Some(key)),
        }
    }

    /// Remembers a refused join.
    pub(crate) fn deny(&self, key: DenyKey, error: &Payload) {
        if let Payload::Json(error) = error {
            self.denied.remember(key, error, Instant::now());
        }
    }

    /// Waits until all notices are sent, for at most the timeout of a call.
    pub(crate) async fn finish(&self) {
        const TICK: Duration = Duration::from_millis(10);
        let idle = async {
            while self.open_notices.load(Ordering::Relaxed) > 0 {
                sleep(TICK).await;
            }
        };
        // Those that are left are lost.
        let _ = timeout(self.config.timeout, idle).await;
    }

    fn count(&self, call: &WrittenCall, outcome: &'static str, failure: Option<&CallFailure>) {
        let calls = hook_metrics().calls(call.kind.name(), outcome);
        calls.increment(1);
        let (kind, id) = (call.kind.name(), &*call.id);
        tracing::debug!(call = kind, id, outcome, "hook.called");
        match failure {
            Some(failure) => self.failures.failed(call, failure),
            None => self.failures.succeeded(),
        }
    }

    /// One call: waits for a slot, and then for the answer, each for at most the timeout. Returns the body of the
    /// answer.
    async fn call(
        &self,
        call: &WrittenCall,
        traceparent: Option<String>,
    ) -> Result<Bytes, CallFailure> {
        let client = self.client();
        let slot = timeout(self.config.timeout, client.slots.acquire()).await;
        let Ok(Ok(_slot)) = slot else {
            return Err(CallFailure::Busy);
        };
        let mut in_flight = InFlight::new(call.kind.name());
        let exchange = self.exchange(&client.client, call, traceparent.as_deref());
        let body = timeout(self.config.timeout, exchange).await;
        let body = body.unwrap_or(Err(CallFailure::Timeout));
        in_flight.is_answered = body.is_ok();
        body
    }

    async fn exchange(
        &self,
        client: &awc::Client,
        call: &WrittenCall,
        traceparent: Option<&str>,
    ) -> Result<Bytes, CallFailure> {
        let mut is_first = true;
        loop {
            let request = self.post(client, &self.config.url, &call.body);
            let headers = call.headers.iter();
            let request = headers.fold(request, |request, (name, value)| {
                request.append_header((name.as_str(), value.as_str()))
            });
            let request = match traceparent {
                Some(traceparent) => request.insert_header(("traceparent", traceparent)),
                None => request,
            };
            let mut response = match request.send_body(call.body.clone()).await {
                Ok(response) => response,
                // No byte was sent.
                Err(SendRequestError::Connect(ConnectError::Io(error)))
                    if is_first && error.kind() == io::ErrorKind::ConnectionRefused =>
                {
                    is_first = false;
                    sleep(PAUSE).await;
                    continue;
                }
                Err(error) => return Err(failure(&error)),
            };
            let status = response.status();
            // Also of another status, so that the connection can be used again.
            let body = response.body().limit(MAX_BYTES).await;
            if status != StatusCode::OK {
                return Err(CallFailure::Status(status.as_u16()));
            }
            let headers = response.headers();
            let has_length =
                headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING);
            if !has_length && body.as_ref().is_ok_and(Bytes::is_empty) {
                // awc takes a body that only the end of the connection ends for none: docs/UPSTREAM.md.
                let problem = "it has neither content-length nor transfer-encoding";
                return Err(CallFailure::Invalid(problem.to_owned()));
            }
            return body.map_err(|error| match error {
                PayloadError::Overflow => {
                    CallFailure::Invalid(format!("it has more than {MAX_BYTES} bytes"))
                }
                error => CallFailure::Broken(format!("the answer is cut short: {error}")),
            });
        }
    }

    /// A signed request with this body.
    fn post(&self, client: &awc::Client, url: &Url, body: &Bytes) -> awc::ClientRequest {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = since.map_or(0, |since| since.as_secs());
        let signer = self.signer.read();
        let signer = Arc::clone(&signer.unwrap_or_else(PoisonError::into_inner));
        client
            .post(url.as_str())
            .insert_header((CONTENT_TYPE, "application/json"))
            .insert_header((HEADER, signer.sign(seconds, body)))
    }

    /// The client of this thread.
    fn client(&self) -> Rc<HookClient> {
        CLIENTS.with_borrow_mut(|clients| {
            if let Some((_, client)) = clients.iter().find(|(id, _)| *id == self.id) {
                return Rc::clone(client);
            }
            let client = Rc::new(HookClient {
                client: self.new_client(),
                slots: Semaphore::new(self.config.max_in_flight),
                notice_slots: Semaphore::new(self.config.max_in_flight.div_ceil(2)),
            });
            clients.push((self.id, Rc::clone(&client)));
            client
        })
    }

    fn new_client(&self) -> awc::Client {
        // The slots are the limit of connections, and `call` the deadline.
        let connector = awc::Connector::new()
            .limit(0)
            .timeout(self.config.timeout)
            .handshake_timeout(self.config.timeout)
            .conn_keep_alive(IDLE);
        let connector = match &self.tls {
            Some(tls) => connector.rustls_0_23(Arc::clone(tls)),
            None => connector,
        };
        let version = concat!("slackir/", env!("CARGO_PKG_VERSION"));
        awc::Client::builder()
            .connector(connector)
            .disable_timeout()
            .disable_redirects()
            .no_default_headers()
            .add_default_header(("user-agent", version))
            .finish()
    }
}

/// TLS with the system's root certificates, on ring.
fn tls() -> Result<Arc<ClientConfig>, HookError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(HookError::NoRoots);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// An error of a call that has no answer.
fn failure(error: &SendRequestError) -> CallFailure {
    let text = match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    match error {
        // A connection that ended without an answer has this error, too.
        SendRequestError::Connect(ConnectError::Disconnected) => {
            CallFailure::Broken("the connection was closed without an answer".to_owned())
        }
        SendRequestError::Connect(ConnectError::Timeout) | SendRequestError::Timeout => {
            CallFailure::Timeout
        }
        SendRequestError::Connect(_) | SendRequestError::Url(_) => CallFailure::Unreachable(text),
        _ => CallFailure::Broken(text),
    }
}

/// A notice that is not sent yet, however it ends.
struct OpenNotice(Arc<Hook>);

impl OpenNotice {
    fn new(hook: &Arc<Hook>) -> Self {
        hook.open_notices.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(hook))
    }
}

impl Drop for OpenNotice {
    fn drop(&mut self) {
        self.0.open_notices.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call that is out.
struct InFlight {
    kind: &'static str,
    begun: Instant,
    is_answered: bool,
}

impl InFlight {
    fn new(kind: &'static str) -> Self {
        hook_metrics().in_flight.increment(1);
        Self {
            kind,
            begun: Instant::now(),
            is_answered: false,
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        hook_metrics().in_flight.decrement(1);
        let seconds = hook_metrics().seconds(self.kind, self.is_answered);
        seconds.record(self.begun.elapsed());
    }
}
