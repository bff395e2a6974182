//! Servers that are none, or mean harm: no panic, no wait without an end, no memory without a bound.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use playcounts::postgres::{PgConfig, PgConnection, PgError};

/// Nothing here waits longer than this, on a machine that does much else: the limits below are 1 s each.
const SOON: Duration = Duration::from_secs(20);

/// One message of a server.
fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], &(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
}

/// What lets a client in.
fn welcome() -> Vec<u8> {
    [message(b'R', &[0; 4]), message(b'Z', b"I")].concat()
}

/// A statement that is parsed and bound, and gives one bytea.
fn bound() -> Vec<u8> {
    let column = b"\0\x01n\0\0\0\0\0\0\0\0\0\0\x11\0\0\0\0\0\0\0\0";
    [message(b'1', b""), message(b't', b"\0\0"), message(b'T', column), message(b'2', b"")].concat()
}

/// Reads the next message of the client; false at the end.
fn read_message(socket: &mut TcpStream, head: usize) -> bool {
    let mut bytes = vec![0; head];
    if socket.read_exact(&mut bytes).is_err() {
        return false;
    }
    let len = u32::from_be_bytes(bytes[head - 4..].try_into().unwrap()) as usize;
    socket.read_exact(&mut vec![0; len - 4]).is_ok()
}

/// Reads what a statement is asked with: Parse, Describe, Bind, Execute, Sync.
fn questions(socket: &mut TcpStream) {
    for _ in 0..5 {
        read_message(socket, 5);
    }
}

/// Connects to a server that does `act` behind the client's first message, and asks it something.
fn ask(rest: &str, act: impl FnOnce(&mut TcpStream) + Send + 'static) -> PgError {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        read_message(&mut socket, 4);
        act(&mut socket);
    });
    let url =
        format!("postgres://me:never-shown@{addr}/x?connect_timeout=1&answer_timeout=1&{rest}");
    let started = Instant::now();
    let connected = PgConnection::connect(&PgConfig::parse(&url, &|_| None).unwrap());
    let asked = connected.and_then(|mut connection| connection.query("SELECT 1", &[]).map(drop));
    let error = asked.unwrap_err();
    assert!(started.elapsed() < SOON, "{:?}: {error}", started.elapsed());
    assert!(
        !error.to_string().contains("never-shown") && !error.to_string().contains('\n'),
        "{error}"
    );
    server.join().unwrap();
    error
}

/// Sends that and waits for the client's end.
fn says(bytes: Vec<u8>) -> impl FnOnce(&mut TcpStream) + Send {
    move |socket| {
        let _ = socket.write_all(&bytes);
        let _ = std::io::copy(socket, &mut std::io::sink());
    }
}

/// Sends that again and again, until the client has gone.
fn repeats(first: Vec<u8>, then: Vec<u8>) -> impl FnOnce(&mut TcpStream) + Send {
    move |socket| {
        let _ = socket.write_all(&first);
        while socket.write_all(&then).is_ok() {}
    }
}

#[track_caller]
fn assert_says(error: &PgError, want: &str) {
    assert!(error.to_string().contains(want), "{error}");
}

#[test]
fn a_login_with_what_is_no_server_ends_with_an_error() {
    let plain = "sslmode=disable";
    assert_says(
        &ask(plain, says(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())),
        "is it a PostgreSQL server?",
    );
    assert_says(&ask(plain, says(vec![0; 64])), "is it a PostgreSQL server?");
    assert_says(&ask(plain, says(Vec::new())), "no answer within the connect_timeout");
    assert_says(&ask(plain, |_| {}), "it closed the connection");
    // Half a message, and then nothing, or the end.
    assert_says(
        &ask(plain, says(b"R\0\0\0\x08\0\0".to_vec())),
        "no answer within the connect_timeout",
    );
    assert_says(
        &ask(plain, |socket| drop(socket.write_all(b"R\0\0\0\x08\0\0"))),
        "it closed the connection",
    );
    // A length of 2 GiB, and one that is none.
    assert_says(&ask(plain, says(b"R\x7f\xff\xff\xff".to_vec())), "a message of more than 64 MiB");
    assert_says(&ask(plain, says(b"R\0\0\0\x01".to_vec())), "something that is not a message");
    // Let in without being asked for a proof it may; answers that nobody asked for it may not send.
    assert_says(&ask(plain, says(message(b'Z', b"I"))), "not due while logging in");
    assert_says(&ask(plain, says(message(b'R', b"\0\0\0\x0cv=x"))), "not due while logging in");
    assert_says(
        &ask(plain, says(message(b'R', b"\0\0\0\x0aOTHER\0\0"))),
        "not due while logging in",
    );
    // The password goes nowhere as it is.
    assert_says(&ask(plain, says(message(b'R', b"\0\0\0\x03"))), "it wants the password as it is");
    assert_says(&ask(plain, says(message(b'R', b"\0\0\0\x07"))), "a login by GSS");
    // Notices without an end.
    let notice = message(b'N', &[&b"M"[..], &[b'x'; 5000], b"\0\0"].concat());
    assert_says(&ask(plain, repeats(Vec::new(), notice)), "no answer within the connect_timeout");
}

#[test]
fn a_server_that_does_not_know_the_password_is_no_server_of_ours() {
    let plain = "sslmode=disable";
    let scram = || message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    let error = ask(plain, move |socket| {
        let _ = socket.write_all(&scram());
        read_message(socket, 5);
        let _ = socket.write_all(&message(b'R', b"\0\0\0\x0br=other,s=AAAA,i=4096"));
        let _ = std::io::copy(socket, &mut std::io::sink());
    });
    assert_says(&error, "it does not prove that it knows the password");
    // It lets us in before its proof.
    let error = ask(plain, move |socket| {
        let _ = socket.write_all(&[scram(), welcome()].concat());
        let _ = std::io::copy(socket, &mut std::io::sink());
    });
    assert_says(&error, "not due while logging in");
    // What it says of the login is shown in one line, and not the password.
    let text = b"SFATAL\0VFATAL\0C28000\0Mno\nnever-shown\x1b[31m\0\0";
    let error = ask(plain, says(message(b'E', text)));
    assert_says(&error, "no … [31m (SQLSTATE 28000)");
}

#[test]
fn tls_with_what_has_none_ends_with_an_error() {
    let tls = "sslmode=require";
    assert_says(&ask(tls, says(b"N".to_vec())), "it does no TLS");
    assert_says(&ask(tls, says(b"X".to_vec())), "no answer within the connect_timeout");
    assert_says(&ask(tls, says(message(b'E', b"C53300\0Mfull\0\0"))), "raise max_connections");
    // In clear, behind the agreement on TLS.
    assert_says(&ask(tls, says([b"S".to_vec(), welcome()].concat())), "TLS: ");
    assert_says(&ask(tls, says(b"S".to_vec())), "no answer within the connect_timeout");
}

#[test]
fn answers_that_make_no_sense_or_do_not_end_are_given_up() {
    let plain = "sslmode=disable";
    let after = |bytes: Vec<u8>| {
        move |socket: &mut TcpStream| {
            let _ = socket.write_all(&welcome());
            questions(socket);
            says(bytes)(socket);
        }
    };
    assert_says(&ask(plain, after(Vec::new())), "no answer within 1 s (answer_timeout)");
    assert_says(&ask(plain, after(message(b'Z', b"I"))), "a message that is not due");
    assert_says(
        &ask(plain, after([bound(), message(b'D', b"\0\x02")].concat())),
        "another number of columns",
    );
    assert_says(
        &ask(plain, after([bound(), vec![b'?'; 100]].concat())),
        "is it a PostgreSQL server?",
    );
    let far = [bound(), b"D\x10\0\0\0".to_vec()].concat();
    assert_says(&ask(plain, after(far)), "a message of more than 64 MiB");
    // Rows without an end.
    let row = message(b'D', &[&b"\0\x01\0\x10\0\0"[..], &[7; 1 << 20]].concat());
    let error = ask(plain, move |socket| {
        let _ = socket.write_all(&welcome());
        questions(socket);
        repeats(bound(), row)(socket);
    });
    assert_says(&error, "it answers with more than 256 MiB at once");
    // Answers before the question was sent.
    let early =
        [welcome(), bound(), message(b'C', b"x\0"), message(b'Z', b"I"), message(b'Z', b"I")]
            .concat();
    assert_says(&ask(plain, says(early)), "it answers what it was not asked yet");
}

#[test]
fn a_server_that_trickles_is_given_up() {
    let error = ask("sslmode=disable", |socket| {
        let _ = socket.set_nodelay(true);
        let _ = socket.write_all(&welcome());
        let row = message(b'D', b"\0\x01\0\x10\0\0");
        let slow = [bound(), row, vec![7; 1 << 20]].concat();
        for byte in slow {
            if socket.write_all(&[byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    assert_says(&error, "no answer within 1 s (answer_timeout)");
}
