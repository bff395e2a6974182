//! One accept loop for every server.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use nsq_protocol::thread::StopToken;

/// How long `accept` pauses after an error, which is mostly "no descriptor left" and would come back at once.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts until `stop`, whatever `accept` says, and hands each connection to `admit`, which must not wait for anybody.
/// `server` is the prefix of what is logged. [`wake`](super::listen::wake) ends the wait for the next connection.
///
/// An error of `accept` or `admit` is logged once for each row of failures, since they come by the thousand when no
/// descriptor is left; then there is a pause.
pub fn accept_all(
    server: &str,
    listener: &TcpListener,
    stop: &StopToken,
    mut admit: impl FnMut(TcpStream, SocketAddr) -> io::Result<()>,
) {
    let mut is_failing = false;
    loop {
        let accepted = listener.accept();
        if stop.is_stopped() {
            return;
        }
        let Err(error) = accepted.and_then(|(socket, peer)| admit(socket, peer)) else {
            is_failing = false;
            continue;
        };
        if !std::mem::replace(&mut is_failing, true) {
            log::error!(
                "{server}: cannot take a connection: {error}; raise `ulimit -n` or `ulimit -u` if it is that"
            );
        }
        if stop.wait(PAUSE) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nsq_protocol::thread::{Crew, stop_pair};

    use super::*;
    use crate::runtime::listen;

    #[test]
    fn it_goes_on_after_a_failure_and_ends_when_woken() {
        let listener = Arc::new(listen::bind(&listen::resolve("127.0.0.1:0").unwrap()).unwrap());
        let address = listener.local_addr().unwrap();
        let (source, stop) = stop_pair();
        let (admitted_tx, admitted) = crossbeam_channel::bounded(2);
        let mut crew = {
            let listener = Arc::clone(&listener);
            Crew::new(move || {
                drop(source);
                listen::wake(&listener);
            })
        };
        let accepting = move || {
            let mut refused = false;
            accept_all("test", &listener, &stop, |_socket, peer| {
                if !std::mem::replace(&mut refused, true) {
                    return Err(io::Error::other("the first is refused"));
                }
                admitted_tx.send(peer).map_err(io::Error::other)
            });
        };
        crew.spawn("test-accept", accepting).unwrap();
        let _first = TcpStream::connect(address).unwrap();
        let second = TcpStream::connect(address).unwrap();
        assert_eq!(admitted.recv(), second.local_addr().map_err(|_| crossbeam_channel::RecvError));
        crew.stop();
    }
}
