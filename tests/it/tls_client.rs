//! A client of HTTPS whose bytes a test sees: what it writes, and what comes back.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::certs::Issued;
use crate::timing::DEADLINE;

/// A connection over TLS.
pub(crate) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A session with whom must have that name, by the authority of that file.
pub(crate) fn session(name: &str, ca: &Path) -> ClientConnection {
    session_by(rustls::DEFAULT_VERSIONS, name, ca)
}

/// The same that speaks one version alone.
pub(crate) fn session_of(
    version: &'static SupportedProtocolVersion,
    name: &str,
    ca: &Path,
) -> ClientConnection {
    session_by(&[version], name, ca)
}

fn session_by(
    versions: &[&'static SupportedProtocolVersion],
    name: &str,
    ca: &Path,
) -> ClientConnection {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    ClientConnection::new(config_of(versions, ca, None), name).unwrap()
}

/// What a client that shows a certificate, or none, and trusts the authority of that file remembers of its sessions.
pub(crate) fn config_of(
    versions: &[&'static SupportedProtocolVersion],
    ca: &Path,
    client: Option<&Issued>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let config = match client {
        None => config.with_no_client_auth(),
        Some(Issued { cert, key }) => {
            let chain = vec![CertificateDer::from_pem_file(cert).unwrap()];
            config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
        }
    };
    Arc::new(config)
}

/// A connection to whom must have that name, by the authority of that file. The handshake comes with the first byte.
pub(crate) fn connect(at: SocketAddr, name: &str, ca: &Path) -> TlsStream {
    stream(at, session(name, ca))
}

/// The same with what is remembered there, to its address.
pub(crate) fn connect_by(config: &Arc<ClientConfig>, at: SocketAddr) -> TlsStream {
    let name = ServerName::from(at.ip());
    stream(at, ClientConnection::new(Arc::clone(config), name).unwrap())
}

fn stream(at: SocketAddr, session: ClientConnection) -> TlsStream {
    let socket = TcpStream::connect(at).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.set_write_timeout(Some(DEADLINE)).unwrap();
    StreamOwned::new(session, socket)
}

/// Sends `wire` and reads to the end, which must be announced.
#[track_caller]
pub(crate) fn ask(at: SocketAddr, name: &str, ca: &Path, wire: &[u8]) -> String {
    let mut stream = connect(at, name, ca);
    stream.write_all(wire).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

/// The certificate that is shown there, as it is, and whether there is one.
pub(crate) fn shown(at: SocketAddr, name: &str, ca: &Path) -> Option<CertificateDer<'static>> {
    let mut stream = connect(at, name, ca);
    while stream.conn.is_handshaking() {
        match stream.conn.complete_io(&mut stream.sock) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Some(stream.conn.peer_certificates()?[0].clone().into_owned())
}
