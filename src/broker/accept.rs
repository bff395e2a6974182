//! Listens, accepts and admits connections, on the thread `broker-accept`.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use nsq_protocol::thread::OwnedThread;
use nsq_protocol::{CommandError, ErrorCode};

use super::core::ClientId;
use super::hub::{Connection, Hub};
use super::outbox::ConsumerOutbox;
use super::reader::{ConnectionReader, READER_STACK};
use super::session::encode_error;
use crate::runtime::{accept, listen};

/// How long a refused connection may take for its error frame: the accept thread waits for it.
const REFUSE_WAIT: Duration = Duration::from_millis(100);

/// After how long without a byte the kernel asks whether the client is still there. For connections without
/// heartbeats it is the only sign of life.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A send buffer of the kernel: a reader that never reads holds no more of our memory. Linux doubles it.
const SEND_BUFFER: usize = 256 << 10;

/// Listens on what the option `flag` names.
pub(super) fn bind(address: &str, flag: &str) -> Result<TcpListener> {
    let addresses = listen::resolve(address).with_context(|| {
        format!("{address} is not an address to listen on; give {flag} host:port")
    })?;
    listen::bind(&addresses).with_context(|| {
        format!("cannot listen on {address}; stop what holds it or give another {flag}, port 0 takes a free one")
    })
}

/// Accepts until the hub's stop; the owner wakes it.
pub(super) fn accept_loop(hub: &Arc<Hub>, listener: &TcpListener) {
    let mut last_id = 1;
    accept::accept_all("broker", listener, &hub.stop, |stream, address| {
        last_id += 1;
        admit(hub, last_id, stream, address)
    });
}

fn admit(hub: &Arc<Hub>, id: ClientId, stream: TcpStream, address: SocketAddr) -> io::Result<()> {
    let max = hub.config.max_connections;
    if hub.connections.lock().len() >= max {
        refuse(&stream, max);
        return Ok(());
    }
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(&stream);
    socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEPALIVE))?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    let stream = Arc::new(stream);
    let outbox = Arc::new(ConsumerOutbox::default());
    let reader = ConnectionReader::new(
        Arc::clone(hub),
        id,
        address,
        Arc::clone(&stream),
        Arc::clone(&outbox),
    );
    // Held until the connection is entered, so that its end cannot be reported before.
    let mut connections = hub.connections.lock();
    let thread = OwnedThread::spawn_with_stack("broker-read", READER_STACK, move || reader.run())?;
    connections.insert(id, Connection { stream, outbox, _thread: thread });
    Ok(())
}

fn refuse(mut stream: &TcpStream, max: usize) {
    let text =
        format!("connection limit: {max} of {max} are open; close some or raise --max-connections");
    let mut out = Vec::new();
    encode_error(&CommandError::new(ErrorCode::Invalid, text), &mut out);
    // It is closed either way.
    let _ = stream.set_write_timeout(Some(REFUSE_WAIT));
    let _ = stream.write_all(&out);
    let _ = stream.shutdown(Shutdown::Write);
}
