//! Database URLs: which database one means, and what of it nobody may see.

use std::path::{Path, PathBuf};

use super::StoreError;

/// Which database a URL means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Sqlite,
    Postgres,
}

const SQLITE: [&str; 2] = ["sqlite://", "sqlite:"];
/// `ecto://` is what a Phoenix application's `DATABASE_URL` begins with.
const POSTGRES: [&str; 3] = ["postgres://", "postgresql://", "ecto://"];

impl Scheme {
    /// The rule of diesel_cli: PostgreSQL by its scheme, and anything else is a file for SQLite.
    pub(super) fn of(url: &str) -> Result<Self, StoreError> {
        if POSTGRES.iter().any(|scheme| url.starts_with(scheme)) {
            return Ok(Self::Postgres);
        }
        let path = strip(url, &SQLITE);
        // Every pooled connection would have a memory of its own.
        let no_file = path.is_empty() || path.contains(":memory:") || path.starts_with("file:");
        if no_file || path.contains("://") {
            // The scheme alone: the rest may hold a password.
            let scheme = url.split(':').next().unwrap_or_default();
            return Err(StoreError::UnsupportedUrl(scheme.to_owned()));
        }
        Ok(Self::Sqlite)
    }
}

fn strip<'a>(url: &'a str, schemes: &[&str]) -> &'a str {
    let rest = schemes.iter().find_map(|scheme| url.strip_prefix(scheme));
    rest.unwrap_or(url)
}

/// The file of a SQLite URL: `sqlite://FILE`, `sqlite:FILE` or `FILE`.
pub(super) fn sqlite_path(url: &str) -> PathBuf {
    strip(url, &SQLITE).into()
}

/// A path beside another, with this behind its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(suffix);
    beside.into()
}

/// A PostgreSQL URL as libpq takes it, and its passwords.
#[cfg(feature = "postgres")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PostgresUrl {
    /// Complete, with the settings that it did not make itself.
    pub(super) connection_string: String,
    secrets: Vec<String>,
}

/// What a connection needs so that a server which is gone is noticed within seconds.
#[cfg(feature = "postgres")]
const SETTINGS: [(&str, &str); 6] = [
    ("connect_timeout", "5"),
    ("tcp_user_timeout", "10000"),
    ("keepalives_idle", "10"),
    ("keepalives_interval", "5"),
    ("keepalives_count", "3"),
    ("fallback_application_name", "slackir"),
];

#[cfg(feature = "postgres")]
impl PostgresUrl {
    /// Refuses what libpq would read otherwise than it was meant: it would take a part of the
    /// password for a host or a port, and say so in its error.
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        let rest = strip(url, &POSTGRES);
        let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (user_info, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let password = user_info
            .split_once(':')
            .map_or("", |(_, password)| password);
        let misread = |c: char| matches!(c, '@' | '/' | ':' | '#' | '[' | ']') || c.is_whitespace();
        // Without a user, an @ further on is one that belongs to a password with a question mark.
        let cut_off = user_info.is_empty() && query.contains('@') && hosts.contains(':');
        if cut_off || password.contains(misread) || !percent_encoded(rest) {
            return Err(StoreError::PasswordEncoding);
        }
        let mut connection_string = format!("postgresql://{rest}");
        let has = |name: &str| {
            query
                .split('&')
                .any(|pair| pair.split('=').next() == Some(name))
        };
        for (name, value) in SETTINGS.into_iter().filter(|(name, _)| !has(name)) {
            let separator = if connection_string.contains('?') {
                '&'
            } else {
                '?'
            };
            connection_string.push_str(&format!("{separator}{name}={value}"));
        }
        let in_query = query.split('&').filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            name.to_ascii_lowercase()
                .contains("password")
                .then_some(value)
        });
        let secrets = std::iter::once(password).chain(in_query);
        let secrets = secrets
            .filter(|secret| !secret.is_empty())
            .map(str::to_owned);
        Ok(Self {
            secrets: secrets.collect(),
            connection_string,
        })
    }

    /// What libpq said, on one line and without a password.
    pub(super) fn redact(&self, message: &str) -> String {
        let mut message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        for secret in &self.secrets {
            message = message.replace(secret, "***");
        }
        message
    }
}

/// Whether each percent sign begins an encoded byte other than 0, as libpq demands.
#[cfg(feature = "postgres")]
fn percent_encoded(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| {
        let digits = rest
            .get(..2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        digits.is_some_and(|byte| byte != 0) && !rest.starts_with('+')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("chat.db", Scheme::Sqlite),
        ] {
            assert_eq!(Scheme::of(url).ok(), Some(scheme), "{url}");
        }
        for url in [
            "mysql://u:s3cret@db/chat",
            "",
            "sqlite://",
            ":memory:",
            "file:x?mode=memory",
        ] {
            let error = Scheme::of(url).expect_err(url).to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn settings_of_the_url_stay_and_others_are_added() {
        let url = PostgresUrl::parse("ecto://u:p@db/chat?connect_timeout=9&sslmode=require");
        let url = url.expect("a sound URL").connection_string;
        assert!(url.starts_with("postgresql://u:p@db/chat?connect_timeout=9&sslmode=require&tcp"));
        assert_eq!(url.matches("connect_timeout").count(), 1, "{url}");
        let plain = PostgresUrl::parse("postgres://db").expect("a sound URL");
        assert!(
            plain
                .connection_string
                .starts_with("postgresql://db?connect_timeout=5&")
        );
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn passwords_that_libpq_would_misread_are_refused_and_others_redacted() {
        for password in [
            "s3@cret", "s3/cret", "s3:cret", "s3?cret", "s3#cret", "100%", "%zz", "%00",
        ] {
            let url = format!("postgres://ada:{password}@db/chat");
            let error = PostgresUrl::parse(&url).expect_err(password).to_string();
            assert!(error.contains("percent"), "{error}");
            assert!(!error.contains("cret"), "{error}");
        }
        let url = PostgresUrl::parse("postgres://ada:s3cret@[::1/chat?sslpassword=0ther");
        let url = url.expect("libpq finds this fault");
        assert_eq!(
            url.redact("in URI:\n\t s3cret, 0ther\n"),
            "in URI: ***, ***"
        );
    }
}
