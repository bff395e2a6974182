//! A fake nsqlookupd: answers every request with the bytes that the test set last.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nsq_protocol::thread::OwnedThread;
use parking_lot::{Condvar, Mutex};

use crate::timing::DEADLINE;

/// What a request is answered with.
#[derive(Clone)]
pub(crate) enum Reply {
    /// These bytes, then the end of the stream.
    Bytes(Vec<u8>),
    /// A head that promises 100 MB, and as many bytes of them as the client takes.
    Endless,
    /// Nothing until the fake is dropped.
    Silence,
}

impl Reply {
    /// An HTTP answer.
    pub(crate) fn http(status: u16, body: &str) -> Self {
        let len = body.len();
        Self::Bytes(
            format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{body}"
            )
            .into_bytes(),
        )
    }

    /// nsqlookupd's answer for those `host:port`s.
    pub(crate) fn nsqds(addresses: &[&str]) -> Self {
        let producer = |address: &&str| {
            let (host, port) = address.rsplit_once(':').unwrap();
            format!(r#"{{"broadcast_address":"{host}","tcp_port":{port}}}"#)
        };
        let producers: Vec<_> = addresses.iter().map(producer).collect();
        Self::http(200, &format!(r#"{{"channels":[],"producers":[{}]}}"#, producers.join(",")))
    }

    pub(crate) fn topic_not_found() -> Self {
        Self::http(404, r#"{"message":"TOPIC_NOT_FOUND"}"#)
    }
}

struct State {
    reply: Mutex<Reply>,
    requests: AtomicU64,
    answered: Mutex<u64>,
    changed: Condvar,
    ended: AtomicBool,
}

/// The fake at work.
pub(crate) struct FakeLookupd {
    addr: SocketAddr,
    state: Arc<State>,
    thread: Option<OwnedThread<()>>,
}

impl FakeLookupd {
    pub(crate) fn start(reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(State {
            reply: Mutex::new(reply),
            requests: AtomicU64::new(0),
            answered: Mutex::new(0),
            changed: Condvar::new(),
            ended: AtomicBool::new(false),
        });
        let thread = OwnedThread::spawn("fake-lookupd", {
            let state = state.clone();
            move || serve(&listener, &state)
        });
        Self { addr, state, thread: Some(thread.unwrap()) }
    }

    pub(crate) fn addr(&self) -> String {
        self.addr.to_string()
    }

    /// Answers differently from now on.
    pub(crate) fn set(&self, reply: Reply) {
        *self.state.reply.lock() = reply;
    }

    /// Answers differently from now on, and waits until `times` requests were answered so.
    pub(crate) fn reply(&self, reply: Reply, times: u64) {
        self.set(reply);
        // One may be under way with the reply before.
        self.wait_answers(times + 1);
    }

    /// Waits for that many further answers.
    pub(crate) fn wait_answers(&self, times: u64) {
        let mut answered = self.state.answered.lock();
        let want = *answered + times;
        while *answered < want {
            let late = self.state.changed.wait_for(&mut answered, DEADLINE).timed_out();
            assert!(!late, "the client asks no more");
        }
    }

    /// Requests that came so far.
    pub(crate) fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::SeqCst)
    }
}

fn serve(listener: &TcpListener, state: &State) {
    // Those that get no answer stay open.
    let mut silent = Vec::new();
    for stream in listener.incoming() {
        if state.ended.load(Ordering::SeqCst) {
            return;
        }
        let Ok(mut stream) = stream else { continue };
        let _ = stream.set_read_timeout(Some(DEADLINE));
        let _ = stream.set_write_timeout(Some(DEADLINE));
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => break,
            }
        }
        if !head.starts_with(b"GET /lookup?topic=t HTTP/1.1\r\n") {
            continue;
        }
        state.requests.fetch_add(1, Ordering::SeqCst);
        let reply = state.reply.lock().clone();
        match reply {
            Reply::Bytes(bytes) => drop(stream.write_all(&bytes)),
            Reply::Endless => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n");
                let part = vec![b'['; 64 << 10];
                for _ in 0..1600 {
                    if stream.write_all(&part).is_err() {
                        break;
                    }
                }
            }
            Reply::Silence => silent.push(stream),
        }
        *state.answered.lock() += 1;
        state.changed.notify_all();
    }
}

impl Drop for FakeLookupd {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
        drop(self.thread.take());
    }
}
