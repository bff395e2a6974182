//! Tests of `outbox`.

use super::*;
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

fn push(outbox: &Outbox, command: Command<'_>) -> bool {
    outbox.append(|out| command.encode(out))
}

#[test]
fn what_gathers_goes_out_together_and_answers_the_heartbeat() {
    let (outbox, mut bytes) = (Outbox::default(), Vec::new());
    assert!(push(&outbox, Command::Rdy(1)));
    outbox.nop();
    assert!(push(&outbox, Command::Cls));
    assert!(outbox.take(&mut bytes));
    assert_eq!(bytes, b"RDY 1\nCLS\n");
    outbox.nop();
    assert!(outbox.take(&mut bytes));
    assert_eq!(bytes, b"NOP\n");
}

#[test]
fn a_flush_wakes_the_writer_once_and_also_with_nothing_to_write() {
    let (outbox, mut bytes) = (Outbox::default(), vec![7]);
    outbox.flush();
    assert!(outbox.take(&mut bytes));
    assert_eq!(bytes, b"");
    outbox.flush();
    assert!(push(&outbox, Command::Cls));
    assert!(outbox.take(&mut bytes));
    assert_eq!(bytes, b"CLS\n");
    outbox.finish();
    assert!(!outbox.take(&mut bytes));
}

#[test]
fn an_orderly_end_writes_what_is_left_and_an_abort_does_not() {
    let (outbox, mut bytes) = (Outbox::default(), Vec::new());
    assert!(push(&outbox, Command::Cls));
    outbox.finish();
    assert!(!push(&outbox, Command::Cls));
    assert!(outbox.take(&mut bytes));
    assert!(!outbox.take(&mut bytes));

    let outbox = Outbox::default();
    assert!(push(&outbox, Command::Cls));
    outbox.close(None);
    assert!(!outbox.take(&mut bytes));
    assert!(!outbox.is_open());
}

/// Two ends of a connection, the first as commands are sent through it.
fn connected() -> (Direct, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (Direct::new(Arc::new(near.into())), listener.accept().unwrap().0)
}

#[cfg(target_os = "linux")]
#[test]
fn what_the_socket_takes_is_sent_at_once_and_the_rest_in_its_order() {
    let (direct, mut far) = connected();
    let outbox = Outbox { direct: Some(direct), ..Outbox::default() };
    assert!(push(&outbox, Command::Rdy(1)));
    let mut got = [0; 6];
    far.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"RDY 1\n");
    // Until the socket is full, and something is left for the writer.
    let mut sent = 0;
    while outbox.state.lock().bytes.is_empty() {
        assert!(outbox.append(|out| out.extend((0..DIRECT_MAX).map(|n| (n % 251) as u8))));
        sent += 1;
    }
    assert!(push(&outbox, Command::Cls));
    outbox.finish();
    let mut left = Vec::new();
    assert!(outbox.take(&mut left));
    let whole = sent * DIRECT_MAX;
    let mut all = vec![0; whole + 4 - left.len()];
    far.read_exact(&mut all).unwrap();
    all.extend(left);
    let is_whole = (0..whole).all(|n| all[n] == (n % DIRECT_MAX % 251) as u8);
    assert!(is_whole && all.ends_with(b"CLS\n"));
    assert!(!outbox.take(&mut Vec::new()));
}

#[cfg(target_os = "linux")]
#[test]
fn nothing_is_sent_past_the_writer_and_much_is_left_to_it() {
    let (direct, far) = connected();
    far.set_nonblocking(true).unwrap();
    let nothing_came = || (&far).read(&mut [0; 1]).unwrap_err().kind() == ErrorKind::WouldBlock;
    let outbox = Outbox { direct: Some(direct), ..Outbox::default() };
    assert!(outbox.append(|out| out.resize(DIRECT_MAX + 1, b'x')));
    let mut bytes = Vec::new();
    assert!(outbox.take(&mut bytes));
    assert_eq!(bytes.len(), DIRECT_MAX + 1);
    // The writer has them, and has not said that it is done.
    assert!(push(&outbox, Command::Cls));
    assert!(nothing_came());
    assert!(outbox.take(&mut bytes));
    assert_eq!(bytes, b"CLS\n");
    outbox.close(None);
    assert!(!push(&outbox, Command::Cls) && !outbox.take(&mut bytes));
    assert!(nothing_came());
}

#[test]
fn touches_have_a_limit_and_answers_have_not() {
    let outbox = Outbox::default();
    assert!(outbox.append(|out| out.resize(TOUCHES_MAX + 1, b'x')));
    assert!(!outbox.append_optional(|_| {}));
    assert!(outbox.append(|_| {}));
}
