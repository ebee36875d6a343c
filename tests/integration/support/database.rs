//! A database for one test: a SQLite file in a folder of its own, or a PostgreSQL database that is
//! made for the test and dropped after it. `scripts/postgres run` provides the server.

use std::net::SocketAddr;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use super::process::Process;
#[cfg(feature = "postgres")]
use super::proxy::Proxy;

/// One test for each database from one body that takes a [`Database`]: they are named
/// `sqlite::BODY` and `postgres::BODY`.
macro_rules! on_each_database {
    (#[$test:meta] $($body:ident,)+) => {
        mod sqlite {
            $(#[$test] async fn $body() {
                super::$body($crate::support::database::Database::sqlite()).await;
            })+
        }

        #[cfg(feature = "postgres")]
        mod postgres {
            $(#[$test] async fn $body() {
                super::$body($crate::support::database::Database::postgres()).await;
            })+
        }
    };
}
pub(crate) use on_each_database;

/// A row of `messages` as a person would read it.
#[derive(Debug, PartialEq, QueryableByName)]
pub(crate) struct Row {
    #[diesel(sql_type = BigInt)]
    pub(crate) seq: i64,
    #[diesel(sql_type = Text)]
    pub(crate) event: String,
    #[diesel(sql_type = Text)]
    pub(crate) payload: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub(crate) name: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(crate) message: Option<String>,
}

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Text)]
    answer: String,
}

/// Dropping it drops the database.
pub(crate) struct Database {
    /// The folder of the server under test; SQLite's file lies in it.
    pub(crate) dir: TempDir,
    pub(crate) url: String,
    kind: Kind,
}

enum Kind {
    Sqlite,
    /// The database ends with it.
    #[cfg(feature = "postgres")]
    Postgres {
        created: postgres::Created,
    },
}

/// Somebody else at the database.
pub(crate) enum Person {
    Sqlite(SqliteConnection),
    #[cfg(feature = "postgres")]
    Postgres(PgConnection),
}

impl Database {
    pub(crate) fn sqlite() -> Self {
        let dir = tempdir().expect("a temporary folder");
        let url = format!("sqlite://{}", dir.path().join("slackir.db").display());
        Self {
            dir,
            url,
            kind: Kind::Sqlite,
        }
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn postgres() -> Self {
        let created = postgres::Created::new();
        Self {
            dir: tempdir().expect("a temporary folder"),
            url: created.url.clone(),
            kind: Kind::Postgres { created },
        }
    }

    /// The host and the port of PostgreSQL.
    pub(crate) fn host(&self) -> &str {
        let (_, rest) = self.url.rsplit_once('@').expect("a user");
        let (host, _) = rest.split_once('/').expect("a database's name");
        host
    }

    /// The URL that leads to the same database over this address.
    pub(crate) fn url_over(&self, addr: SocketAddr) -> String {
        self.url.replace(self.host(), &addr.to_string())
    }

    /// A way to this database that can be cut, and the URL that leads over it.
    #[cfg(feature = "postgres")]
    pub(crate) async fn behind_proxy(&self) -> (Proxy, String) {
        let proxy = Proxy::start(self.host()).await;
        let url = self.url_over(proxy.addr);
        (proxy, url)
    }

    /// Starts a server with this database.
    pub(crate) fn serve(&self, args: &[&str]) -> Process {
        self.serve_at(&self.url, args)
    }

    /// Starts a server that reaches this database by another URL.
    pub(crate) fn serve_at(&self, url: &str, args: &[&str]) -> Process {
        let args = [&["--database-url", url], args].concat();
        Process::start(&self.dir, &args)
    }

    /// The folder below `migrations`.
    pub(crate) fn folder(&self) -> &'static str {
        match self.kind {
            Kind::Sqlite => "sqlite",
            #[cfg(feature = "postgres")]
            Kind::Postgres { .. } => "postgresql",
        }
    }

    pub(crate) fn connect(&self) -> Person {
        match self.kind {
            Kind::Sqlite => {
                let path = self.dir.path().join("slackir.db");
                let mut connection = SqliteConnection::establish(&path.to_string_lossy())
                    .expect("the database opens");
                connection
                    .batch_execute("PRAGMA busy_timeout = 5000")
                    .expect("a known pragma");
                Person::Sqlite(connection)
            }
            #[cfg(feature = "postgres")]
            Kind::Postgres { .. } => Person::Postgres(postgres::connect(&self.url)),
        }
    }

    pub(crate) fn execute(&self, sql: &str) {
        self.connect().execute(sql);
    }

    /// The rows of a topic in the order of their seq.
    pub(crate) fn rows(&self, topic: &str) -> Vec<Row> {
        // Both databases know $1.
        let sql =
            "SELECT seq, event, payload, name, message FROM messages WHERE topic = $1 ORDER BY seq";
        let query = diesel::sql_query(sql).bind::<Text, _>(topic);
        let rows = match self.connect() {
            Person::Sqlite(mut connection) => query.load(&mut connection),
            #[cfg(feature = "postgres")]
            Person::Postgres(mut connection) => query.load(&mut connection),
        };
        rows.expect("the table can be read")
    }

    /// The payloads of a topic in the order of their seq.
    pub(crate) fn payloads(&self, topic: &str) -> Vec<Value> {
        let parse = |row: Row| serde_json::from_str(&row.payload).expect("payloads are JSON");
        self.rows(topic).into_iter().map(parse).collect()
    }

    /// What the rows of a query say in their text column `answer`.
    pub(crate) fn ask(&self, sql: &str) -> Vec<String> {
        let query = diesel::sql_query(sql);
        let answers: QueryResult<Vec<Answer>> = match self.connect() {
            Person::Sqlite(mut connection) => query.load(&mut connection),
            #[cfg(feature = "postgres")]
            Person::Postgres(mut connection) => query.load(&mut connection),
        };
        let answers = answers.expect("the question is answered");
        answers.into_iter().map(|row| row.answer).collect()
    }

    /// Makes a copy of the database, which nobody may use meanwhile.
    pub(crate) fn copy(&self) {
        match &self.kind {
            Kind::Sqlite => {
                let path = self.dir.path().join("slackir.db");
                std::fs::copy(&path, self.dir.path().join("copy.db")).expect("a copy");
            }
            #[cfg(feature = "postgres")]
            Kind::Postgres { created } => created.copy(),
        }
    }

    /// The copy is the database from now on.
    pub(crate) fn put_back(&self) {
        match &self.kind {
            Kind::Sqlite => {
                let path = self.dir.path().join("slackir.db");
                for beside in ["slackir.db-wal", "slackir.db-shm"] {
                    std::fs::remove_file(self.dir.path().join(beside)).ok();
                }
                std::fs::copy(self.dir.path().join("copy.db"), &path).expect("a copy");
            }
            #[cfg(feature = "postgres")]
            Kind::Postgres { created } => created.put_back(),
        }
    }

    /// Nobody else can write until the person goes.
    pub(crate) fn block_writes(&self) -> Person {
        let mut person = self.connect();
        person.execute(match person {
            Person::Sqlite(_) => "BEGIN IMMEDIATE",
            #[cfg(feature = "postgres")]
            Person::Postgres(_) => "BEGIN; LOCK TABLE messages IN EXCLUSIVE MODE",
        });
        person
    }
}

impl Person {
    pub(crate) fn execute(&mut self, sql: &str) {
        let done = match self {
            Self::Sqlite(connection) => connection.batch_execute(sql),
            #[cfg(feature = "postgres")]
            Self::Postgres(connection) => connection.batch_execute(sql),
        };
        done.expect("the statement runs");
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A database on the server for tests.
    pub(super) struct Created {
        pub(super) url: String,
        name: String,
    }

    fn server() -> String {
        std::env::var("SLACKIR_TEST_POSTGRES").expect(
            "SLACKIR_TEST_POSTGRES should hold the URL of a PostgreSQL superuser: \
             run the tests by `scripts/postgres run cargo test --all-features`",
        )
    }

    pub(super) fn connect(url: &str) -> PgConnection {
        PgConnection::establish(url).expect("the test server is up")
    }

    impl Created {
        pub(super) fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("slackir_test_{}_{count}", std::process::id());
            let server = server();
            let (base, _) = server.rsplit_once('/').expect("a database's URL");
            let url = format!("{base}/{name}");
            // One that a killed test left behind may have the same name.
            connect(&server)
                .batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
                .expect("it can be dropped");
            connect(&server)
                .batch_execute(&format!("CREATE DATABASE {name}"))
                .expect("it can be made");
            Self { url, name }
        }

        pub(super) fn copy(&self) {
            self.make_from(&self.copied(), &self.name);
        }

        pub(super) fn put_back(&self) {
            self.make_from(&self.name, &self.copied());
        }

        fn copied(&self) -> String {
            format!("{}_copy", self.name)
        }

        fn make_from(&self, new: &str, old: &str) {
            let mut server = connect(&server());
            for sql in [
                format!("DROP DATABASE IF EXISTS {new} WITH (FORCE)"),
                format!(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{old}'"
                ),
                format!("CREATE DATABASE {new} TEMPLATE {old}"),
            ] {
                server.batch_execute(&sql).expect("a superuser may");
            }
        }
    }

    impl Drop for Created {
        fn drop(&mut self) {
            let mut server = connect(&server());
            let copy = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.copied());
            let dropped = server.batch_execute(&copy).and_then(|()| {
                server.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name))
            });
            if !std::thread::panicking() {
                dropped.expect("it can be dropped");
            }
        }
    }
}
