//! [`PostgresUrl`]: a URL for libpq, and its passwords.

use super::{POSTGRES, strip};
use crate::store::backend::Fault;

/// A PostgreSQL URL as libpq takes it, and its passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct PostgresUrl {
    /// With the defaults that the URL did not set.
    pub(in crate::store) connection_string: String,
    secrets: Vec<String>,
}

/// Keepalive settings that notice a lost server within seconds.
const SETTINGS: [(&str, &str); 6] = [
    ("connect_timeout", "5"),
    ("tcp_user_timeout", "10000"),
    ("keepalives_idle", "10"),
    ("keepalives_interval", "5"),
    ("keepalives_count", "3"),
    ("fallback_application_name", "slackir"),
];

impl PostgresUrl {
    /// Refuses a URL that libpq would misread: libpq would take a part of the password for a host or a port, and
    /// print that part in its error.
    pub(in crate::store) fn parse(url: &str) -> Result<Self, Fault> {
        let rest = strip(url, &POSTGRES);
        let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (user_info, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let password = user_info
            .split_once(':')
            .map_or("", |(_, password)| password);
        let misread = |c: char| matches!(c, '@' | '/' | ':' | '#' | '[' | ']') || c.is_whitespace();
        // Without a user, a later @ belongs to a password with a question mark.
        let cut_off = user_info.is_empty() && query.contains('@') && hosts.contains(':');
        if cut_off || password.contains(misread) || !percent_encoded(rest) {
            return Err(Fault::PasswordEncoding);
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

    /// libpq's error, on one line and without a password.
    pub(in crate::store) fn redact(&self, message: &str) -> String {
        let mut message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        for secret in &self.secrets {
            message = message.replace(secret, "***");
        }
        message
    }
}

/// Whether each percent sign begins an encoded byte other than 0, as libpq requires.
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
