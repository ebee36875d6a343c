//! [`ClientTls`]: how the clients speak TLS, and [`TlsStream`]: the TLS of one connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use url::Url;

use super::LoadError;
use crate::server::config::LoadConfig;
use crate::server::tls::{system_roots, tls, unverified_tls};

/// The TLS of all clients.
pub(super) struct ClientTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl ClientTls {
    /// `None` if the URL begins with ws.
    pub(super) fn of(
        config: &LoadConfig,
        addresses: &[SocketAddr],
    ) -> Result<Option<Self>, LoadError> {
        if config.url.scheme() != "wss" {
            return Ok(None);
        }
        let tls = if config.insecure {
            let mut elsewhere = addresses
                .iter()
                .filter(|address| !address.ip().is_loopback());
            if let Some(&address) = elsewhere.next() {
                return Err(LoadError::Insecure { address });
            }
            unverified_tls().map_err(|error| error.to_string())
        } else {
            roots(config).and_then(tls)
        };
        Ok(Some(Self {
            config: tls.map_err(LoadError::Tls)?,
            name: server_name(&config.url)?,
        }))
    }

    /// The TLS of a new connection.
    pub(super) fn stream(&self) -> io::Result<TlsStream> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        Ok(TlsStream(connection.map_err(io::Error::other)?))
    }
}

fn roots(config: &LoadConfig) -> Result<RootCertStore, String> {
    let Some(path) = &config.ca else {
        return system_roots();
    };
    let certificates = CertificateDer::pem_file_iter(path);
    let certificates = certificates.and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = certificates.map_err(|error| format!("--ca {}: {error}", path.display()))?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(format!(
            "--ca {} has no certificate in PEM format: name the file that has it",
            path.display()
        ));
    }
    Ok(roots)
}

fn server_name(url: &Url) -> Result<ServerName<'static>, LoadError> {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare.to_owned());
    name.map_err(|_| LoadError::Tls(format!("{host} is no name that a certificate can have")))
}

/// The TLS of one connection.
pub(super) struct TlsStream(ClientConnection);

impl TlsStream {
    /// Whether records wait for the kernel.
    pub(super) fn has_unsent(&self) -> bool {
        self.0.wants_write()
    }

    /// Sends records that wait, until the kernel takes no more.
    pub(super) fn flush(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        while self.0.wants_write() {
            match self.0.write_tls(stream) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Encrypts and sends bytes; the number of bytes that it has taken. It takes none while records wait, so that the
    /// client knows how much waits.
    pub(super) fn write(&mut self, bytes: &[u8], stream: &mut TcpStream) -> io::Result<usize> {
        self.flush(stream)?;
        if self.has_unsent() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let taken = self.0.writer().write(bytes)?;
        self.flush(stream)?;
        Ok(taken)
    }

    /// Reads records with one system call, and puts what they hold into `buffer` behind its first `len` bytes. Returns
    /// the new length.
    pub(super) fn read(
        &mut self,
        buffer: &mut Vec<u8>,
        mut len: usize,
        stream: &mut TcpStream,
    ) -> io::Result<usize> {
        if self.0.read_tls(stream)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if let Err(error) = self.0.process_new_packets() {
            // The server learns the reason from the alert.
            let _ = self.flush(stream);
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
        self.flush(stream)?;
        loop {
            if buffer.len() == len {
                buffer.resize(len * 2 + 1, 0);
            }
            match self.0.reader().read(&mut buffer[len..]) {
                Ok(0) => return Ok(len),
                Ok(read) => len += read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(len),
                Err(error) => return Err(error),
            }
        }
    }
}
