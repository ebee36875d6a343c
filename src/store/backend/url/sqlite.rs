//! [`SqliteUrl`]: the file of a URL, as diesel_cli and SQLite read it.

use crate::store::backend::Fault;
use std::path::PathBuf;

use super::strip;

/// The prefixes of a SQLite URL. diesel makes a `file:` URI of the first.
const SQLITE: [&str; 2] = ["sqlite://", "sqlite:"];
const FILE: &str = "file:";

/// Whether a URL names SQLite explicitly.
pub(super) fn has_scheme(url: &str) -> bool {
    SQLITE.iter().any(|scheme| url.starts_with(scheme)) || url.starts_with(FILE)
}

/// The file of a SQLite URL, and how it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct SqliteUrl {
    pub(in crate::store) path: PathBuf,
    pub(in crate::store) mode: SqliteMode,
}

/// The parameter `mode` of the URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) enum SqliteMode {
    /// To read a file that nobody writes: SQLite creates no files beside it.
    #[cfg_attr(
        not(feature = "sqlite"),
        expect(dead_code, reason = "without SQLite no file is opened")
    )]
    Still,
    /// `ro`.
    Read,
    /// `rw`: the file must exist.
    Write,
    /// `rwc`: it is created if it is missing.
    #[default]
    Create,
}

impl SqliteUrl {
    /// `sqlite://FILE` and `file:FILE` are SQLite's URIs: `%20` is a space, `?mode=` is the mode, `#` ends the
    /// name. `sqlite:FILE` and `FILE` are plain names.
    pub(in crate::store) fn parse(url: &str) -> Result<Self, Fault> {
        let uri = [SQLITE[0], FILE]
            .iter()
            .find_map(|scheme| url.strip_prefix(scheme));
        let (path, query) = match uri {
            Some(uri) => {
                let uri = uri.split_once('#').map_or(uri, |(uri, _)| uri);
                let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
                (decode(without_authority(path)?)?, query)
            }
            None => (strip(url, &SQLITE).to_owned(), ""),
        };
        // Each pooled connection would have a memory of its own.
        if path.is_empty() || path.contains(":memory:") {
            return Err(Fault::NoFile);
        }
        Ok(Self {
            path: path.into(),
            mode: mode(query)?,
        })
    }

    /// As diesel takes it.
    #[cfg(feature = "sqlite")]
    pub(in crate::store) fn connection_string(&self) -> String {
        let mode = match self.mode {
            SqliteMode::Still => "ro&immutable=1",
            SqliteMode::Read => "ro",
            SqliteMode::Write => "rw",
            SqliteMode::Create => "rwc",
        };
        let path = self.path.to_string_lossy();
        let path = path
            .replace('%', "%25")
            .replace('?', "%3f")
            .replace('#', "%23");
        // Two slashes before a path would begin an authority.
        let authority = if path.starts_with('/') { "//" } else { "" };
        format!("file:{authority}{path}?mode={mode}")
    }
}

/// SQLite opens files of this machine only.
fn without_authority(path: &str) -> Result<&str, Fault> {
    let Some(rest) = path.strip_prefix("//") else {
        return Ok(path);
    };
    let slash = rest.find('/').unwrap_or(rest.len());
    match &rest[..slash] {
        "" | "localhost" => Ok(&rest[slash..]),
        _ => Err(Fault::SqliteUrl(
            "it names a machine; a path begins with one slash or with three".to_owned(),
        )),
    }
}

/// Decodes percent-encoded bytes. As in SQLite, a percent sign without two digits stays.
fn decode(text: &str) -> Result<String, Fault> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let digits = behind
            .get(..2)
            .filter(|digits| first == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let decoded = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match decoded {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8(bytes)
        .ok()
        .filter(|name| !name.contains('\0'))
        .ok_or_else(|| {
            Fault::SqliteUrl("its percent-encoded bytes are no text in UTF-8".to_owned())
        })
}

/// The parameters of SQLite that a server supports. SQLite ignores unknown ones.
fn mode(query: &str) -> Result<SqliteMode, Fault> {
    let mut mode = SqliteMode::default();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        mode = match parameter {
            "mode=ro" => SqliteMode::Read,
            "mode=rw" => SqliteMode::Write,
            "mode=rwc" => SqliteMode::Create,
            "mode=memory" => return Err(Fault::NoFile),
            "cache=private" => mode,
            _ => {
                let name = parameter.split('=').next().unwrap_or_default();
                return Err(Fault::SqliteUrl(format!(
                    "its parameter {name:?} is not supported: use mode=rwc, mode=rw or mode=ro (write a \
                     question mark of the file's name as %3F)"
                )));
            }
        };
    }
    Ok(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_means_what_diesel_cli_means_by_it() {
        for (url, path, mode) in [
            ("sqlite://chat.db", "chat.db", SqliteMode::Create),
            ("sqlite:///var/chat.db", "/var/chat.db", SqliteMode::Create),
            ("sqlite://chat.db?mode=rwc", "chat.db", SqliteMode::Create),
            (
                "sqlite://chat.db?mode=rw&cache=private",
                "chat.db",
                SqliteMode::Write,
            ),
            ("sqlite://chat.db?mode=ro#end", "chat.db", SqliteMode::Read),
            ("sqlite://my%20chat.db", "my chat.db", SqliteMode::Create),
            ("sqlite://%c3%a9%3f100%.db", "é?100%.db", SqliteMode::Create),
            ("file:chat.db", "chat.db", SqliteMode::Create),
            ("file:///var/chat.db", "/var/chat.db", SqliteMode::Create),
            (
                "file://localhost/var/chat.db",
                "/var/chat.db",
                SqliteMode::Create,
            ),
            ("sqlite:my%20chat?.db", "my%20chat?.db", SqliteMode::Create),
            ("my%20chat?.db", "my%20chat?.db", SqliteMode::Create),
        ] {
            let parsed = SqliteUrl::parse(url).expect(url);
            let expected = SqliteUrl {
                path: path.into(),
                mode,
            };
            assert_eq!(parsed, expected, "{url}");
        }
        for url in [
            "",
            "sqlite://",
            ":memory:",
            "sqlite://:memory:",
            "file::memory:",
            "file:chat?mode=memory",
            "sqlite://?mode=ro",
            "sqlite://chat.db?mode=wo",
            "sqlite://chat.db?vfs=unix-none",
            "sqlite://%00",
            "sqlite://%ff",
            "file://elsewhere/chat.db",
        ] {
            assert!(SqliteUrl::parse(url).is_err(), "{url}");
        }
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn diesel_opens_the_very_file() {
        for name in ["/var/chat.db", "chat.db", "a b", "é?100%#%20.db"] {
            let url = SqliteUrl {
                path: name.into(),
                mode: SqliteMode::Write,
            };
            assert_eq!(SqliteUrl::parse(&url.connection_string()).ok(), Some(url));
        }
    }
}
