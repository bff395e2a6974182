//! A proxy that ends TLS, as nginx does with `listen … ssl`: requests come over TLS and go on in clear, each on a connection
//! of its own and without the path that the proxy serves them under. The client's connection stays.
//!
//! A thread that accepts, and one for each connection; all are joined on drop.
#![allow(dead_code, reason = "each test binary that includes this file uses its own part of it")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use nsq_protocol::thread::{OwnedThread, StopSource, StopToken, stop_pair};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::certs::Issued;

/// What is read at once.
const CHUNK: usize = 16 << 10;

/// A running proxy.
pub(crate) struct TlsProxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<StopSource>,
    accept: Option<OwnedThread<()>>,
}

struct Shared {
    target: SocketAddr,
    path: &'static str,
    config: Arc<ServerConfig>,
    accepted: AtomicU64,
    requests: AtomicU64,
    sockets: Mutex<Vec<TcpStream>>,
}

impl TlsProxy {
    /// Before `target`, with that certificate; `path` is what goes from a request's path, such as `/playcounts`.
    pub(crate) fn start(target: SocketAddr, certificate: &Issued, path: &'static str) -> Self {
        let chain: Vec<_> =
            CertificateDer::pem_file_iter(&certificate.cert).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&certificate.key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target,
            path,
            config: Arc::new(config),
            accepted: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            sockets: Mutex::default(),
        });
        let (stop, token) = stop_pair();
        let accept = OwnedThread::spawn("tls-proxy", {
            let shared = shared.clone();
            move || shared.accept(&listener, &token)
        });
        Self { addr, shared, stop: Some(stop), accept: Some(accept.unwrap()) }
    }

    /// Its port, on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.addr.port()
    }

    /// How many connections there were.
    pub(crate) fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many requests came; none comes before the client trusts the proxy.
    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

impl Drop for TlsProxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = TcpStream::connect(self.addr);
        drop(self.accept.take());
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener, stop: &StopToken) {
        let mut threads: Vec<OwnedThread<()>> = Vec::new();
        loop {
            let client = listener.accept();
            if stop.is_stopped() {
                break;
            }
            threads.retain(|thread| !thread.is_finished());
            let Ok((client, _)) = client else { continue };
            self.accepted.fetch_add(1, Ordering::SeqCst);
            self.sockets.lock().unwrap().push(client.try_clone().unwrap());
            let shared = self.clone();
            // Who does not trust the proxy, or sends no TLS, is gone: its own error says why.
            let serve = move || drop(shared.serve(client));
            threads.push(OwnedThread::spawn("tls-proxy-serve", serve).unwrap());
        }
        for socket in self.sockets.lock().unwrap().iter() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Hands on each request of a connection, until it ends.
    fn serve(&self, client: TcpStream) -> io::Result<()> {
        let session = ServerConnection::new(self.config.clone()).map_err(io::Error::other)?;
        let mut client = StreamOwned::new(session, client);
        while let Some((head, body)) = read_request(&mut client)? {
            self.requests.fetch_add(1, Ordering::SeqCst);
            let head = head
                .replacen(&format!(" {}/", self.path), " /", 1)
                .replace("keep-alive", "close")
                .replacen("\r\n", "\r\nConnection: close\r\n", 1);
            let mut server = TcpStream::connect(self.target)?;
            server.write_all(&[head.as_bytes(), &body].concat())?;
            let mut answer = Vec::new();
            server.read_to_end(&mut answer)?;
            if answer.is_empty() {
                break;
            }
            client.write_all(&without_close(answer))?;
            client.flush()?;
        }
        Ok(())
    }
}

/// The next request, head and body; `None` at the end of the connection.
fn read_request(client: &mut impl Read) -> io::Result<Option<(String, Vec<u8>)>> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; CHUNK]);
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end + 4]).into_owned();
            let length = header(&head, "content-length").map_or(0, |text| text.parse().unwrap());
            if bytes.len() >= end + 4 + length {
                return Ok(Some((head, bytes[end + 4..].to_vec())));
            }
        }
        match client.read(&mut chunk)? {
            0 => return Ok(None),
            count => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// The answer as the client's own connection has it, which does not end.
fn without_close(answer: Vec<u8>) -> Vec<u8> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return answer };
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let lines = head.split("\r\n").filter(|line| !line.to_lowercase().starts_with("connection:"));
    let head: Vec<_> = lines.collect();
    [head.join("\r\n").as_bytes(), &answer[end..]].concat()
}
