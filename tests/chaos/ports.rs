//! Ports for parts that go away and come back.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result};

/// How far apart the ports of two calls begin: parts of tests that run at one time do not get the same ones, which are free
/// until each of them starts.
const APART: u16 = 16;

/// Addresses that nothing listens on, and that nothing gets by chance while a part is down: below 32768, where
/// Linux begins to choose ports for `bind` to port 0 and for outgoing connections. (A proxy that got the broker's own
/// port would connect to itself for ever, and a client that dials a free port in that range may reach itself.)
pub(crate) fn free_addrs(count: usize) -> Result<Vec<SocketAddr>> {
    static CALLS: AtomicU16 = AtomicU16::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed).wrapping_mul(APART);
    let first = 20_000 + (std::process::id() as u16).wrapping_mul(31).wrapping_add(call) % 12_000;
    let mut free = (first..32_000)
        .chain(20_000..first)
        .filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
    let mut held = Vec::with_capacity(count);
    while held.len() < count {
        held.push(free.next().context("a free port from 20000 to 31999")?);
    }
    held.iter().map(|listener| Ok(listener.local_addr()?)).collect()
}
