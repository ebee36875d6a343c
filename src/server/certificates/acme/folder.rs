//! [`Folder`]: the account and the certificate of ACME on disk. Only the user of the server may read them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use instant_acme::AccountCredentials;

use super::super::files::CertificateFiles;
use super::super::{Certificate, CertificateError};
use super::AcmeError;

/// The file of the account, and of the ACME server that has it.
const ACCOUNT: &str = "account.json";
/// The file of the chain and its key, so that they always belong together.
const CERTIFICATE: &str = "certificate.pem";
/// The first line of that file begins so. The URL of the ACME server's directory follows.
const FROM: &str = "# Ordered at ";

/// The folder `acme_dir`.
#[derive(Clone)]
pub(super) struct Folder(PathBuf);

/// An account, and the ACME server that has it.
#[derive(serde::Deserialize, serde::Serialize)]
struct StoredAccount {
    directory: String,
    credentials: AccountCredentials,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Makes the folder, and checks that files can be written there.
    pub(super) fn prepare(&self) -> Result<(), AcmeError> {
        let mut folder = DirBuilder::new();
        let made = folder.recursive(true).mode(0o700).create(&self.0);
        made.map_err(|source| self.failed("", source))?;
        let tried = self.open_new(CERTIFICATE).map(drop);
        let tried = tried.and_then(|()| fs::remove_file(self.new_path(CERTIFICATE)));
        tried.map_err(|source| self.failed(CERTIFICATE, source))
    }

    /// The certificate that this ACME server has given. `None` if there is none that can be used.
    pub(super) fn certificate(
        &self,
        directory: &str,
    ) -> Result<Option<Certificate>, CertificateError> {
        let path = self.0.join(CERTIFICATE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(CertificateError::Read {
                    setting: "acme_dir",
                    path,
                    source,
                });
            }
        };
        let from = text.lines().next().and_then(|line| line.strip_prefix(FROM));
        if from != Some(directory) {
            return Ok(None);
        }
        Ok(CertificateFiles::one(path).read().ok())
    }

    /// Stores a certificate of this ACME server, and reads it back.
    pub(super) fn store_certificate(
        &self,
        directory: &str,
        chain: &str,
        key: &str,
    ) -> Result<Certificate, AcmeError> {
        let text = format!("{FROM}{directory}\n{}\n{key}", chain.trim_end());
        self.write(CERTIFICATE, text.as_bytes())?;
        Ok(CertificateFiles::one(self.0.join(CERTIFICATE)).read()?)
    }

    /// The account at this ACME server. `None` if there is none that can be used.
    pub(super) fn account(&self, directory: &str) -> Option<AccountCredentials> {
        let text = fs::read(self.0.join(ACCOUNT)).ok()?;
        let stored: StoredAccount = serde_json::from_slice(&text).ok()?;
        (stored.directory == directory).then_some(stored.credentials)
    }

    pub(super) fn store_account(
        &self,
        directory: &str,
        credentials: AccountCredentials,
    ) -> Result<(), AcmeError> {
        let stored = StoredAccount {
            directory: directory.to_owned(),
            credentials,
        };
        let text = serde_json::to_vec(&stored).map_err(instant_acme::Error::from)?;
        self.write(ACCOUNT, &text)
    }

    pub(super) fn forget_account(&self) -> Result<(), AcmeError> {
        fs::remove_file(self.0.join(ACCOUNT)).map_err(|source| self.failed(ACCOUNT, source))
    }

    /// Writes a file whole or not at all.
    fn write(&self, name: &str, text: &[u8]) -> Result<(), AcmeError> {
        let written = self.open_new(name).and_then(|mut file| {
            file.write_all(text)?;
            file.sync_all()?;
            fs::rename(self.new_path(name), self.0.join(name))?;
            File::open(&self.0)?.sync_all()
        });
        written.map_err(|source| self.failed(name, source))
    }

    /// The file that takes the place of another one once it is written.
    fn open_new(&self, name: &str) -> io::Result<File> {
        let path = self.new_path(name);
        // One that a crash has left may have another mode.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).open(path)
    }

    fn new_path(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.new"))
    }

    fn failed(&self, name: impl AsRef<Path>, source: io::Error) -> AcmeError {
        let path = self.0.join(name);
        AcmeError::Folder { path, source }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_for_its_owner_alone_and_from_one_acme_server() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(dir.path().join("new/acme"));
        assert!(
            folder
                .certificate("https://a/dir")
                .expect("readable")
                .is_none()
        );
        folder.prepare().expect("made");
        // A crash has left it.
        let left = dir.path().join("new/acme/certificate.pem.new");
        fs::write(&left, "half").expect("writable");
        fs::set_permissions(&left, fs::Permissions::from_mode(0o644)).expect("it is there");
        let key = rcgen::generate_simple_self_signed(["a.example".to_owned()]).expect("a key");
        let (chain, key) = (key.cert.pem(), key.signing_key.serialize_pem());
        let stored = folder.store_certificate("https://a/dir", &chain, &key);
        stored.expect("it can be used");
        let path = dir.path().join("new/acme/certificate.pem");
        for (path, mode) in [(&path, 0o600), (&dir.path().join("new/acme"), 0o700)] {
            let found = fs::metadata(path).expect("it is there").permissions();
            assert_eq!(found.mode() & 0o777, mode);
        }
        for (directory, is_there) in [("https://a/dir", true), ("https://b/dir", false)] {
            let found = folder.certificate(directory).expect("readable");
            assert_eq!(found.is_some(), is_there, "{directory}");
        }
        fs::write(&path, "# Ordered at https://a/dir\nhalf").expect("writable");
        assert!(
            folder
                .certificate("https://a/dir")
                .expect("readable")
                .is_none()
        );
    }
}
