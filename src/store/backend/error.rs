//! [`StoreError`]: why the database cannot be used. [`Fault`]: the same inside the store, with the errors of its
//! libraries.

use std::io;
use std::path::PathBuf;

use diesel::ConnectionError;
use diesel::result::{DatabaseErrorKind, Error};

#[cfg(feature = "sqlite")]
use super::database_file::FileFault;
use crate::store::spool;

/// An error of a thread, a connection or a statement, with its own text.
pub(in crate::store) type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Why the database cannot be used. Its text names a remedy, and holds no password.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StoreError(#[from] pub(in crate::store) Fault);

impl StoreError {
    /// The setting at fault, by its name in the config file.
    pub fn setting(&self) -> Option<&'static str> {
        self.0.setting()
    }

    /// Whether the database has a table `messages` of an Ecto application, which
    /// [`StoreOptions::adopt_ecto_messages`](crate::store::StoreOptions) takes over.
    pub fn is_unadopted(&self) -> bool {
        matches!(self.0, Fault::NotAdopted)
    }

    /// Whether the database did not answer. Waiting may help.
    pub fn is_unreachable(&self) -> bool {
        matches!(self.0, Fault::Unreachable(_) | Fault::Away)
    }
}

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum Fault {
    /// The URL's scheme is unknown.
    #[error(
        "a database URL with scheme {0:?} is not supported: use sqlite://FILE, for example \
         sqlite://slackir.db, or postgres://USER:PASSWORD@HOST/DATABASE"
    )]
    UnsupportedUrl(String),
    /// This build has no support for the database.
    #[cfg(not(all(feature = "sqlite", feature = "postgres")))]
    #[error("this slackir was built without {database}: build it with the feature {feature}")]
    NotBuiltIn {
        /// Its name.
        database: &'static str,
        /// The Cargo feature that brings it.
        feature: &'static str,
    },
    /// Key=value pairs, as libpq takes them. Slackir takes URLs only.
    #[error(
        "a database is named by a URL and not by key=value pairs: write \
         postgres://USER:PASSWORD@HOST/DATABASE"
    )]
    KeyValues,
    /// A SQLite URL without a file.
    #[error(
        "the database URL names no file, and a database in memory is not supported: use \
         sqlite://FILE, for example sqlite://slackir.db"
    )]
    NoFile,
    /// A SQLite URL with unsupported parts.
    #[error("the database URL cannot be used: {0}")]
    SqliteUrl(String),
    /// A SQLite URL with `mode=ro`.
    #[error("database file {0} cannot be written: the URL says mode=ro")]
    ReadOnly(PathBuf),
    /// The URL is ambiguous.
    #[error(
        "the database URL cannot be read: write / : @ ? # % and spaces in its password \
         percent-encoded, for example %2F for /"
    )]
    PasswordEncoding,
    /// The server refuses the connection.
    #[error("cannot connect to the database: {0}")]
    Connect(String),
    /// The server does not answer, or not yet.
    #[error("cannot connect to the database: {0}")]
    Unreachable(String),
    /// The database's encoding cannot hold every text.
    #[error("the database has the encoding {0}: make one WITH ENCODING 'UTF8' TEMPLATE template0")]
    Encoding(String),
    /// The file cannot be opened.
    #[error("cannot open database file {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// SQLite's error.
        #[source]
        source: ConnectionError,
    },
    /// The file exists, and is no database or cannot be read.
    #[error("cannot use database file {path}: {source}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// SQLite's error.
        #[source]
        source: Error,
    },
    /// The lock file beside the database cannot be created.
    #[error("cannot lock database file {path}: {source}")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Another server holds the database file.
    #[error(
        "database file {0} is in use by another slackir; stop it, or use a database of its own for this one"
    )]
    InUse(PathBuf),
    /// Another server uses the database. Its memory would not have the changes.
    #[error(
        "the database is in use by another slackir ({0}); stop it, and if it was killed, wait 10 seconds"
    )]
    Shared(String),
    /// There is no such file.
    #[error("there is no database file {0}")]
    Missing(PathBuf),
    /// The folder of the file is missing.
    #[error("there is no folder {0} for the database file: create it")]
    NoFolder(PathBuf),
    /// The tables are missing, or from another version.
    #[error(
        "the database's tables cannot be read: run `slackir migrate` if it is an older database ({0})"
    )]
    Unreadable(#[source] Error),
    /// The table belongs to an Ecto application, and taking it over was not requested.
    #[error(
        "the database has a table `messages` that an Ecto application has made: `slackir migrate` \
         takes it over"
    )]
    NotAdopted,
    /// A table belongs to another application and cannot be taken over.
    #[error(
        "the database has a table `{table}` that slackir did not make and cannot take over: {problem}. \
         Nothing was changed; use a database of its own"
    )]
    Foreign {
        /// Its name.
        table: &'static str,
        /// The difference.
        problem: String,
    },
    /// The table would refuse messages.
    #[error("the table `messages` does not take what slackir writes, nothing was changed: {0}")]
    Unfit(#[source] Error),
    /// Another session holds a lock that the migrations need.
    #[error(
        "cannot migrate the database: {held} is held for more than {seconds} seconds by {holder}; \
         end that (SELECT pg_terminate_backend(PROCESS)) or try again when it is done"
    )]
    Held {
        /// The lock.
        held: &'static str,
        /// The time waited for it.
        seconds: u64,
        /// Its holder.
        holder: String,
    },
    /// A migration failed; all were rolled back.
    #[error("cannot migrate the database: {0}")]
    Migration(#[source] AnyError),
    /// No connection of the pool became free.
    #[error("no database connection: {0}")]
    Pool(#[from] r2d2::Error),
    /// The spool cannot be used.
    #[error(transparent)]
    OpenSpool(#[from] spool::OpenError),
    /// The records in the spool cannot be read.
    #[error("cannot read the spool: {0}")]
    Spool(#[source] io::Error),
    /// A fault of SQLite's file under the running server.
    #[cfg(feature = "sqlite")]
    #[error(transparent)]
    File(#[from] FileFault),
    /// The committing code has panicked.
    #[error("a transaction has panicked: {0}")]
    Panicked(String),
    /// The database is unreachable.
    #[error("the database is unreachable")]
    Away,
    /// The bus was to give the order of a topic, and the database gives it.
    #[cfg(feature = "_cluster")]
    #[error("the database gives the order of the cluster's topics now")]
    Late,
    /// A statement failed.
    #[error("the database refused a statement: {0}")]
    Statement(#[from] Error),
}

/// The fault of a file whose pages SQLite cannot read.
pub(in crate::store) const DAMAGED: &str =
    "the database file is damaged: stop the server and restore a backup";

impl Fault {
    /// See [`StoreError::setting`].
    fn setting(&self) -> Option<&'static str> {
        match self {
            Self::OpenSpool(_) | Self::Spool(_) => Some("spool_dir"),
            Self::Pool(_) | Self::Panicked(_) | Self::Away | Self::Statement(_) => None,
            #[cfg(feature = "_cluster")]
            Self::Late => None,
            _ => Some("database_url"),
        }
    }

    /// The reason why the server is not ready, if an operator must act; `None` if waiting helps. Anybody may read it.
    pub(in crate::store) fn fault(&self) -> Option<String> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::File(fault) => Some(fault.to_string()),
            Self::Panicked(_) => {
                Some("the code that saves messages has panicked: see the log".to_owned())
            }
            Self::Statement(error) if is_damage(error) => Some(DAMAGED.to_owned()),
            _ => None,
        }
    }

    /// Whether the database could lose the messages that it commits now.
    pub(in crate::store) fn is_damage(&self) -> bool {
        match self {
            #[cfg(feature = "sqlite")]
            Self::File(_) => true,
            Self::Statement(error) => is_damage(error),
            _ => false,
        }
    }
}

/// Whether SQLite has found its file damaged.
///
/// The text decides, because there is no code: diesel 2.3.14 gives the kind `Unknown` for SQLITE_CORRUPT and
/// SQLITE_NOTADB, and no result code (`last_error` in its `sqlite/connection/stmt.rs`). SQLite's texts are always
/// English.
pub(in crate::store) fn is_damage(error: &Error) -> bool {
    const DAMAGE: [&str; 3] = [
        "disk image is malformed",
        "file is not a database",
        "malformed database schema",
    ];
    match error {
        Error::DatabaseError(DatabaseErrorKind::Unknown, information) => {
            let message = information.message();
            DAMAGE.iter().any(|damage| message.contains(damage))
        }
        _ => false,
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use diesel::connection::SimpleConnection;
    use diesel::prelude::*;

    use super::*;

    #[test]
    fn a_damaged_schema_is_damage() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("a.db").display().to_string();
        let open = || SqliteConnection::establish(&file).expect("it opens");
        open()
            .batch_execute(
                "CREATE TABLE messages (id INTEGER); PRAGMA writable_schema = ON; \
                 UPDATE sqlite_master SET sql = 'CREATE NONSENSE';",
            )
            .expect("SQLite lets its schema be overwritten");
        let error = open().batch_execute("SELECT * FROM messages");
        let error = error.expect_err("the schema is no SQL");
        assert!(is_damage(&error), "{error}");
        let error = open().batch_execute("SELECT").expect_err("no statement");
        assert!(!is_damage(&error), "{error}");
    }
}
