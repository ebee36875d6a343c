//! [`Address`]: the parts of a URL of NATS.

use percent_encoding::percent_decode_str;

use super::error::ConnectError;

/// The port that a URL without a port means.
const PORT: u16 = 4222;

/// Where a server is, and as whom to connect.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// A name, or an IP address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Whether the connection must be encrypted. A server may demand it all the same.
    pub(super) tls: bool,
    pub(super) login: Login,
}

/// As whom to connect.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    /// As anybody.
    None,
    /// With a token: the URL has a user and no password.
    Token(String),
    /// As a user.
    User { name: String, password: String },
}

impl Address {
    /// Takes a URL apart.
    pub(super) fn parse(text: &str) -> Result<Self, ConnectError> {
        let url = ::url::Url::parse(text).map_err(|_| ConnectError::Url("it is no URL"))?;
        let tls = match url.scheme() {
            "nats" => false,
            "tls" => true,
            _ => return Err(ConnectError::Url("its scheme is another")),
        };
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(ConnectError::Url("it names no host"));
        }
        let is_bare = matches!(url.path(), "" | "/") && url.query().is_none();
        if !is_bare || url.fragment().is_some() {
            return Err(ConnectError::Url("something comes after the port"));
        }
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let login = match (url.username(), url.password()) {
            ("", None) => Login::None,
            (token, None) => Login::Token(decoded(token)),
            (name, Some(password)) => Login::User {
                name: decoded(name),
                password: decoded(password),
            },
        };
        Ok(Self {
            host: host.to_owned(),
            port: url.port().unwrap_or(PORT),
            tls,
            login,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn parsed(url: &str) -> Address {
        Address::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    #[test]
    fn a_url_has_a_host_and_may_have_the_rest() {
        let plain = parsed("nats://chat.example.com");
        assert_eq!((&*plain.host, plain.port), ("chat.example.com", 4222));
        assert!(!plain.tls && plain.login == Login::None);
        let all = parsed("tls://ada:s%40cret@[::1]:4333/");
        assert_eq!((&*all.host, all.port, all.tls), ("::1", 4333, true));
        let (name, password) = ("ada".to_owned(), "s@cret".to_owned());
        assert!(all.login == Login::User { name, password });
        let token = parsed("nats://geheim@127.0.0.1:4222").login;
        assert!(token == Login::Token("geheim".to_owned()));
    }

    #[test]
    fn what_is_no_url_of_nats_is_refused_without_its_password() {
        for url in [
            "",
            "127.0.0.1:4222",
            "redis://ada:s3cret@127.0.0.1",
            "nats://",
            "nats://ada:s3cret@host/db",
            "nats://ada:s3cret@host?tls=on",
            "nats://ada:s3cret@one,nats://two",
        ] {
            let error = Address::parse(url).err();
            let error = error.unwrap_or_else(|| panic!("{url} is refused"));
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}
