//! Why there is no connection.

use std::io;
use std::mem::{Discriminant, discriminant};

use super::protocol::Malformed;

/// Why the bus could not connect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The URL is none of NATS.
    #[error(
        "the URL of NATS is not valid ({0}); it is nats://[user:password@]host[:port], or tls://.. for TLS"
    )]
    Url(&'static str),
    /// There is no server.
    #[error("NATS is not reached ({0}); see that it runs, and check host and port")]
    Unreachable(#[source] io::Error),
    /// The TLS connection could not be made.
    #[error("NATS is not reached over TLS ({0}); check its certificate and the scheme of the URL")]
    Tls(String),
    /// The server does not answer as it should.
    #[error("NATS did not answer in time; see that it runs, and that nothing else has its port")]
    Silent,
    /// The server refuses the user, or what a node needs.
    #[error(
        "NATS refused: {0}; check user and password, and that the user may publish and subscribe to the subjects of this cluster"
    )]
    Refused(String),
    /// The server speaks something else.
    #[error("the server does not speak as NATS does ({0}); check host and port")]
    Odd(#[from] Malformed),
}

impl ConnectError {
    /// Its kind. The system has several words for a server that is not there; a wrong password is another kind.
    pub(super) fn trouble(&self) -> Trouble {
        discriminant(self)
    }
}

/// The kind of a [`ConnectError`].
pub(super) type Trouble = Discriminant<ConnectError>;

/// Why an open connection was given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    /// The other side closed it, or the network did.
    #[error("the connection was closed: {0}")]
    Closed(#[from] io::Error),
    /// PING had no answer.
    #[error("NATS did not answer a PING in time")]
    Silent,
    /// The own sign of life did not arrive.
    #[error("the node's own messages do not come back from NATS")]
    NoEcho,
    /// The server closes the connection, or has refused a subscription without which the node is deaf.
    #[error("NATS says: {0}")]
    Server(String),
    /// The server speaks something else.
    #[error("{0}")]
    Odd(#[from] Malformed),
}
