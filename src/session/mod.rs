//! Reads the session of a Phoenix application from its cookie, so that `connect` knows the logged-in user.
//! Phoenix: `Plug.Session` with `store: :cookie`, which is `Plug.Session.COOKIE`.
//!
//! Pure: the caller passes the cookie's value and the page's CSRF token as text. The module never changes a
//! session; that is left to the application.

mod csrf;

use crate::token::{Encryptor, KeyOptions, SecretKeyBase, Signer, Term, WrongKeyLength};

/// The fewest bytes of a session's secret that Plug accepts. A shorter one cannot be the application's.
const MIN_SECRET_LENGTH: usize = 64;

/// The session options of a Phoenix application: the options of its `Plug.Session`, by the same names, and
/// its `secret_key_base`.
///
/// A page proves that it belongs to the application by sending the session's CSRF token in the parameter
/// `_csrf_token`. Without this check any page that a logged-in user visits could connect as that user.
/// phoenix.js sends the token as in LiveView: `new Socket("/socket", {params: {_csrf_token: csrfToken}})`.
///
/// ```
/// use slackir::Assigns;
/// use slackir::endpoint::{Endpoint, Mount, TransportOptions};
/// use slackir::pubsub::PubSub;
/// use slackir::session::SessionOptions;
/// use slackir::socket::{ConnectInfo, ConnectRefused, Params, Socket, SocketRouter};
/// use slackir::token::{SecretKeyBase, Term};
/// use slackir::transport::HandshakeOptions;
///
/// struct UserSocket;
/// struct UserId(Term);
///
/// impl Socket for UserSocket {
///     async fn connect(
///         &self,
///         _: &Params,
///         info: &ConnectInfo,
///         assigns: &mut Assigns,
///     ) -> Result<(), ConnectRefused> {
///         let session = info.session.as_ref().ok_or(ConnectRefused::because("no session"))?;
///         let user = session.get("user_id").ok_or(ConnectRefused::because("not logged in"))?;
///         assigns.insert(UserId(user.clone()));
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let secret_key_base = "0123456789".repeat(7);
/// let secret = SecretKeyBase::new(secret_key_base)?;
/// let session = SessionOptions::new("_my_app_key", secret, "M9Xo8GkN");
/// let handshake = HandshakeOptions::default().session(session);
/// let transports = TransportOptions::default().handshake(handshake);
/// let endpoint = Endpoint::builder(PubSub::new())
///     .mount(Mount::new("/socket", UserSocket, SocketRouter::new()).transports(transports))
///     .build();
/// # let _ = endpoint;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionOptions {
    /// The name of the cookie. Phoenix: `:key`, such as `_my_app_key`.
    pub key: String,
    /// The application's secret, of at least 64 bytes.
    pub secret_key_base: SecretKeyBase,
    /// The salt of the key that signs the cookie.
    pub signing_salt: String,
    /// The salt of the key that encrypts the cookie. Default: `None`, for a cookie that is only signed.
    pub encryption_salt: Option<String>,
    /// The key of the CSRF token in the session. Default: `_csrf_token`.
    pub csrf_token_key: String,
    /// Whether only a request with the CSRF token gets the session. Default: `true`. Use `false` only
    /// together with a check of the origin. Phoenix: an option of the transport.
    pub check_csrf: bool,
    /// How both keys are derived. Phoenix: `:key_iterations`, `:key_length`, `:key_digest`.
    pub key_options: KeyOptions,
}

setters!(SessionOptions {
    csrf_token_key: impl Into<String>,
    check_csrf: bool,
    key_options: KeyOptions,
} some {
    encryption_salt: impl Into<String>,
});

impl SessionOptions {
    /// Takes the three options that have no default. The others can be set afterwards.
    pub fn new(
        key: impl Into<String>,
        secret_key_base: SecretKeyBase,
        signing_salt: impl Into<String>,
    ) -> Self {
        Self {
            key: key.into(),
            secret_key_base,
            signing_salt: signing_salt.into(),
            encryption_salt: None,
            csrf_token_key: "_csrf_token".to_owned(),
            check_csrf: true,
            key_options: KeyOptions::DEFAULT,
        }
    }
}

/// No cookie can be read with these options. Phoenix raises only at the first cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidSessionOptions {
    #[error("a session needs a secret key base of {MIN_SECRET_LENGTH} bytes, not {0}")]
    ShortSecret(usize),
    #[error(transparent)]
    KeyLength(#[from] WrongKeyLength),
}

/// Why a request has no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoSession {
    #[error("there is no cookie")]
    NoCookie,
    #[error("the cookie was not made with these session options")]
    BadCookie,
    #[error("the CSRF token is missing or not the session's")]
    BadCsrfToken,
}

/// Reads the cookies of one application. Holds derived keys.
pub(crate) struct CookieStore {
    key: String,
    seal: Seal,
    /// `None` if CSRF tokens are not checked.
    csrf_token_key: Option<String>,
}

enum Seal {
    Signed(Signer),
    Encrypted {
        encryptor: Encryptor,
        sign_secret: Box<[u8]>,
    },
}

impl CookieStore {
    /// Derives the keys, which takes some tenths of a millisecond each.
    pub(crate) fn new(options: &SessionOptions) -> Result<Self, InvalidSessionOptions> {
        let SessionOptions {
            secret_key_base: secret,
            signing_salt,
            key_options,
            ..
        } = options;
        if secret.len() < MIN_SECRET_LENGTH {
            return Err(InvalidSessionOptions::ShortSecret(secret.len()));
        }
        let seal = match &options.encryption_salt {
            None => Seal::Signed(Signer::new(secret, signing_salt, *key_options)),
            Some(salt) => Seal::Encrypted {
                encryptor: Encryptor::new(secret, salt, *key_options)?,
                sign_secret: secret.derive(signing_salt.as_bytes(), *key_options),
            },
        };
        let csrf_token_key = options.check_csrf.then(|| options.csrf_token_key.clone());
        Ok(Self {
            key: options.key.clone(),
            seal,
            csrf_token_key,
        })
    }

    /// The name of the cookie.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// The session in the cookie's value, if the page sends the session's CSRF token.
    pub(crate) fn get(
        &self,
        cookie: Option<&str>,
        csrf_token: Option<&str>,
    ) -> Result<Term, NoSession> {
        let session = self.read(cookie.ok_or(NoSession::NoCookie)?);
        let session = session.ok_or(NoSession::BadCookie)?;
        let Some(csrf_token_key) = &self.csrf_token_key else {
            return Ok(session);
        };
        match (session.get(csrf_token_key), csrf_token) {
            (Some(Term::Binary(of_session)), Some(of_page))
                if csrf::is_valid(of_session, of_page.as_bytes()) =>
            {
                Ok(session)
            }
            _ => Err(NoSession::BadCsrfToken),
        }
    }

    fn read(&self, cookie: &str) -> Option<Term> {
        let message = match &self.seal {
            Seal::Signed(signer) => signer.verify_message(cookie),
            Seal::Encrypted {
                encryptor,
                sign_secret,
            } => encryptor.decrypt_message(cookie, sign_secret),
        };
        Term::decode(&message?).filter(|session| matches!(session, Term::Map(_)))
    }
}

#[cfg(test)]
mod tests;
