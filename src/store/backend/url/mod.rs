//! Database URLs.

#[cfg(feature = "postgres")]
mod postgres;
mod sqlite;

use crate::store::backend::Fault;
use std::path::{Path, PathBuf};

#[cfg(feature = "postgres")]
pub(in crate::store) use self::postgres::PostgresUrl;
#[cfg(feature = "sqlite")]
pub(in crate::store) use self::sqlite::SqliteMode;
pub(in crate::store) use self::sqlite::SqliteUrl;

/// The kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Scheme {
    Sqlite,
    Postgres,
}

/// `ecto://` begins the `DATABASE_URL` of a Phoenix application.
const POSTGRES: [&str; 3] = ["postgres://", "postgresql://", "ecto://"];

impl Scheme {
    /// As in diesel_cli, a URL with PostgreSQL's scheme is for PostgreSQL, and any other text is a file for SQLite.
    /// But the URL of another database is refused.
    pub(in crate::store) fn of(url: &str) -> Result<Self, Fault> {
        if POSTGRES.iter().any(|scheme| url.starts_with(scheme)) {
            return Ok(Self::Postgres);
        }
        if sqlite::has_scheme(url) {
            return Ok(Self::Sqlite);
        }
        if let Some((scheme, _)) = url.split_once(':')
            && is_scheme(scheme)
        {
            // Only the scheme: the rest may hold a password.
            return Err(Fault::UnsupportedUrl(scheme.to_owned()));
        }
        match url.split_once('=') {
            Some((key, _)) if !key.contains(['.', '/', '\\']) => Err(Fault::KeyValues),
            _ => Ok(Self::Sqlite),
        }
    }
}

/// Whether this text before a colon is a scheme. A single letter is a drive of Windows; before the colon of
/// `:memory:` is no text.
fn is_scheme(text: &str) -> bool {
    text.len() > 1
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-_ ".contains(&byte))
}

/// The URL without passwords, for logs and messages.
pub fn redacted(url: &str) -> String {
    let Some(scheme) = POSTGRES.iter().find(|scheme| url.starts_with(*scheme)) else {
        return url.to_owned();
    };
    let rest = strip(url, &POSTGRES);
    let rest = rest.split('?').next().unwrap_or_default();
    match rest.rsplit_once('@') {
        Some((user, place)) => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}{user}@{place}")
        }
        // The password has a question mark.
        None if url.contains('@') => format!("{scheme}***"),
        None => format!("{scheme}{rest}"),
    }
}

fn strip<'a>(url: &'a str, schemes: &[&str]) -> &'a str {
    let rest = schemes.iter().find_map(|scheme| url.strip_prefix(scheme));
    rest.unwrap_or(url)
}

/// The path with a suffix.
pub(in crate::store) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(suffix);
    beside.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        for (url, shown) in [
            ("sqlite://chat.db", "sqlite://chat.db"),
            (
                "postgres://ada:s3cret@db:5432/chat",
                "postgres://ada@db:5432/chat",
            ),
            ("ecto://db/chat?password=s3cret", "ecto://db/chat"),
            ("postgres://ada:s3?cret@db/chat", "postgres://***"),
            ("postgresql://ada@/chat?host=/run", "postgresql://ada@/chat"),
        ] {
            assert_eq!(redacted(url), shown);
        }
    }

    #[test]
    fn the_scheme_tells_the_database() {
        for (url, scheme) in [
            ("postgres://db/chat", Scheme::Postgres),
            ("postgresql:///chat", Scheme::Postgres),
            (
                "ecto://postgres:postgres@localhost/chat_dev",
                Scheme::Postgres,
            ),
            ("sqlite://chat.db", Scheme::Sqlite),
            ("sqlite:/var/lib/chat.db", Scheme::Sqlite),
            ("file:chat.db?mode=rw", Scheme::Sqlite),
            ("sqlite://host=db", Scheme::Sqlite),
            ("chat.db", Scheme::Sqlite),
            ("C:\\chat.db", Scheme::Sqlite),
            ("./host=db", Scheme::Sqlite),
            ("data/2026-01-01T12:00.db", Scheme::Sqlite),
        ] {
            assert_eq!(Scheme::of(url).ok(), Some(scheme), "{url}");
        }
        for url in [
            "mysql://u:s3cret@db/chat",
            "postgres:u:s3cret@db/chat",
            "Postgres://u:s3cret@db/chat",
            "jdbc:postgresql://db/chat?password=s3cret",
            "me:s3cret@db/chat",
            "host=db password=s3cret",
            " dbname = chat",
            "Server=db;Password=s3cret",
        ] {
            let error = Scheme::of(url).expect_err(url).to_string();
            assert!(error.contains("postgres://USER"), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
