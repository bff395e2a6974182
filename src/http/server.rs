//! The listening socket: accepts, caps connections, and gives each a thread of its own. Says nothing of routes.
//!
//! `<name>-accept` accepts; it and the `<name>-conn` thread of each connection are joined by [`Server::shutdown`].

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use anyhow::{Result, anyhow};
use crossbeam_channel::{Receiver, Sender, bounded};
use nsq_protocol::thread::{Crew, Never, OwnedThread, stop_pair};

use super::connection::{Limits, Service};
use super::handler::Handler;
use super::open::OpenConnections;
use super::pool::Pool;
use super::server_tls::ServerTls;
use super::stream::CHUNK;
use crate::runtime::{accept, listen};

/// The longest [`ServerConfig::name`]: `-accept` and `-conn` are added to it.
const NAME_MAX: usize = 8;

/// The stack of a connection's thread. It parses and copies; handlers run elsewhere.
const STACK: usize = 256 * 1024;

/// How long answers in progress may take when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// `host:port`; port 0 takes a free one, an empty host means every address.
    pub address: String,
    /// The prefix of its threads' names, at most 8 bytes.
    pub name: &'static str,
    /// How many requests are handled at one time; 8.
    pub workers: usize,
    /// The largest body, in bytes; 1 MiB.
    pub max_body: usize,
    /// How many connections at one time, event streams not counted; 256. For one more the one is ended that has waited the
    /// longest for a request; it is refused where none waits.
    pub max_connections: usize,
    /// Deadlines.
    pub limits: Limits,
    /// A directory of its own, for a private socket where temporary files have no place; none.
    pub data_dir: Option<PathBuf>,
    /// It speaks TLS, with that certificate, and no plain HTTP; none.
    pub tls: Option<Arc<ServerTls>>,
}

impl ServerConfig {
    /// The defaults for `address`.
    pub fn new(address: impl Into<String>, name: &'static str) -> Self {
        let limits = Limits {
            handshake_wait: Duration::from_secs(10),
            head_wait: Duration::from_secs(5),
            body_grace: Duration::from_secs(5),
            next_wait: Duration::from_secs(15),
        };
        Self {
            address: address.into(),
            name,
            workers: 8,
            max_body: 1024 * 1024,
            max_connections: 256,
            limits,
            data_dir: None,
            tls: None,
        }
    }
}

/// A running server; dropping it stops it.
pub struct Server {
    local_addr: SocketAddr,
    shared: Arc<Connections>,
    running: Option<Running>,
}

struct Running {
    /// The accept thread; returns the threads of connections still open.
    accept: Crew<Vec<OwnedThread<()>>>,
    // Disconnects when the last connection's thread ends.
    idle: Receiver<Never>,
}

struct Connections {
    service: Service,
    max_connections: usize,
    // To wake its thread when the server stops, or its place is needed.
    open: OpenConnections,
}

impl Server {
    /// Binds and serves what `handler` answers.
    ///
    /// # Errors
    /// One line that names the address and the way out, when it cannot be bound.
    pub fn start(config: ServerConfig, handler: Arc<dyn Handler>) -> Result<Self> {
        let ServerConfig {
            address,
            name,
            workers,
            max_body,
            max_connections,
            limits,
            data_dir,
            tls,
        } = config;
        debug_assert!(name.len() <= NAME_MAX, "{name} is too long");
        let bound = listen::resolve(&address).and_then(|addresses| listen::bind(&addresses));
        let listener = Arc::new(bound.map_err(|error| way_out(&address, &error))?);
        let local_addr = listener.local_addr()?;
        let pool = Pool::start(name, workers.max(1), Arc::clone(&handler), data_dir)?;
        let (stop, stopped) = stop_pair();
        let body_bytes = AtomicUsize::new(0);
        let service = Service { name, limits, max_body, handler, tls, pool, body_bytes, stopped };
        let shared =
            Arc::new(Connections { service, max_connections, open: OpenConnections::default() });
        let (busy, idle) = bounded(0);
        let mut accept = {
            let listener = Arc::clone(&listener);
            Crew::new(move || {
                drop(stop);
                listen::wake(&listener);
            })
        };
        let accepting = Arc::clone(&shared);
        accept.spawn(&format!("{name}-accept"), move || accepting.accept_all(&listener, &busy))?;
        Ok(Self { local_addr, shared, running: Some(Running { accept, idle }) })
    }

    /// The address it listens on, with the port the kernel chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops accepting, lets answers in progress go out for up to 3 s, closes the rest, joins every thread.
    ///
    /// Event streams belong to their [`EventStream`](super::EventStream), which its owner stops.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        let Some(Running { accept, idle }) = self.running.take() else { return };
        let threads = accept.stop();
        // Those that wait for a request, or linger, see the end of it; an answer still goes out.
        self.shared.open.shut(Shutdown::Read);
        let _ = idle.recv_timeout(STOP_GRACE);
        self.shared.open.shut(Shutdown::Both);
        threads.into_iter().flatten().for_each(OwnedThread::join);
        self.shared.service.pool.shutdown();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Why an address cannot be bound, and what to do.
fn way_out(address: &str, error: &io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            anyhow!("{address} is in use; stop that process or give --http-address another port")
        }
        io::ErrorKind::PermissionDenied => {
            anyhow!(
                "{address} may not be bound by this user; give --http-address a port from 1024 up"
            )
        }
        io::ErrorKind::AddrNotAvailable => {
            anyhow!("{address} is not an address of this machine; give --http-address one that is")
        }
        _ => anyhow!("cannot listen on {address:?}: {error}; give --http-address a host:port"),
    }
}

impl Connections {
    /// Accepts until stopped; returns the threads of connections still open.
    fn accept_all(
        self: &Arc<Self>,
        listener: &TcpListener,
        busy: &Sender<Never>,
    ) -> Vec<OwnedThread<()>> {
        let mut threads: Vec<OwnedThread<()>> = Vec::new();
        let mut last_id = 0;
        let Service { name, stopped, .. } = &self.service;
        accept::accept_all(name, listener, stopped, |socket, peer| {
            // Dropping the finished ones joins them.
            threads.retain(|thread| !thread.is_finished());
            let socket = Arc::new(socket);
            let is_full = threads.len() >= self.max_connections && !self.open.end_idlest();
            // Those whose places were taken end on their own: many at once, and it is full for a moment.
            if is_full || threads.len() >= 2 * self.max_connections {
                self.turn_away(&socket);
                return Ok(());
            }
            last_id += 1;
            let started = self.start_connection(last_id, &socket, peer, busy.clone());
            threads.push(started.inspect_err(|_| self.turn_away(&socket))?);
            Ok(())
        });
        threads
    }

    fn start_connection(
        self: &Arc<Self>,
        id: u64,
        socket: &Arc<TcpStream>,
        peer: SocketAddr,
        busy: Sender<Never>,
    ) -> io::Result<OwnedThread<()>> {
        let open = self.open.add(id, Arc::clone(socket));
        let registered = Registered { shared: Arc::clone(self), id };
        let body = move || {
            let service = &registered.shared.service;
            // Its peer went away or broke the rules: nobody is left to tell.
            if let Err(error) = service.serve(&open, peer) {
                log::debug!("{}: {peer}: {error}", service.name);
            }
            drop(registered);
            drop(busy);
        };
        OwnedThread::spawn_with_stack(&format!("{}-conn", self.service.name), STACK, body)
    }

    /// Answers 503 on the accept thread, which must not wait for anybody; over TLS it only closes.
    fn turn_away(&self, socket: &TcpStream) {
        // Over TLS it would take a handshake to say why.
        if self.service.tls.is_some() || socket.set_nonblocking(true).is_err() {
            return;
        }
        // What has arrived is taken, so that closing does not reset the answer away.
        let mut socket = socket;
        let _ = socket.read(&mut [0; CHUNK]);
        let answer = self.service.handler.refuse(503, "too many connections; try again");
        let _ = socket.write(&answer.with_header("Retry-After", "1").to_wire());
        let _ = socket.shutdown(Shutdown::Write);
    }
}

/// A connection in the registry; dropped, it is taken out, also when its thread panics or was refused.
struct Registered {
    shared: Arc<Connections>,
    id: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.shared.open.remove(self.id);
    }
}
