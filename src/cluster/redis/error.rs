//! Why there is no connection.

use std::mem::{Discriminant, discriminant};

use ::redis::{ErrorKind, RedisError};

use super::reply;

/// Why the bus could not connect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The URL is none of Redis.
    #[error("the URL of Redis is not valid ({0}); it is redis://[user:password@]host[:port][/db]")]
    Url(#[source] RedisError),
    /// There is no server, or it has another password.
    #[error(
        "Redis is not reached ({0}); see that it runs, and check host, port, user and password"
    )]
    Unreachable(#[source] RedisError),
    /// The server did not do what a node needs.
    #[error("Redis refused {command} ({error}); see what its log and the ACL of the user say")]
    Refused {
        /// The command.
        command: String,
        /// What the server said.
        #[source]
        error: RedisError,
    },
    /// Two connections lead to two servers.
    #[error(
        "two connections came to two processes of Redis; if this lasts, name one server in the URL, \
         not a balancer of several"
    )]
    TwoProcesses,
    /// The server has another form of replies.
    #[error("the reply to {0} is not that of Redis; connect without a proxy that hides the server")]
    Odd(&'static str),
}

impl ConnectError {
    /// The command `command` failed.
    pub(super) fn refused(command: &str, error: RedisError) -> Self {
        Self::Refused {
            command: command.to_owned(),
            error,
        }
    }

    /// Its kind. The system has several words for a server that is not there; a wrong password is another kind.
    pub(super) fn trouble(&self) -> Trouble {
        let source = match self {
            Self::Url(error) | Self::Unreachable(error) | Self::Refused { error, .. } => {
                Some(error)
            }
            Self::TwoProcesses | Self::Odd(_) => None,
        };
        (discriminant(self), source.map(RedisError::kind))
    }
}

/// The kind of a [`ConnectError`].
pub(super) type Trouble = (Discriminant<ConnectError>, Option<ErrorKind>);

/// Why an open connection was given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    /// The other side closed it.
    #[error("the connection was closed")]
    Closed,
    /// PING had no answer.
    #[error("Redis did not answer a PING in time")]
    Silent,
    /// An own message did not arrive.
    #[error("an own message did not come back from Redis in time")]
    NoEcho,
    /// The runs of this connection have ended.
    #[error("the era is another one")]
    Era,
    /// The server refused a command for a reason that only a new connection can end.
    #[error("{0}")]
    Server(#[from] RedisError),
}

impl Lost {
    /// Whether `error` ends the connection.
    pub(super) fn by(error: RedisError) -> Result<(), Self> {
        if reply::is_fatal(&error) {
            Err(Self::Server(error))
        } else {
            Ok(())
        }
    }
}
