//! The workers that answer requests: tiny_http on a private Unix socket, and the way there for one vetted request.
//!
//! What it is for: tiny_http 0.12 alone on a network socket can be made to abort the process, loses connections under a
//! burst, and stops accepting for good after one error. Here only our own connections reach it, with whole requests, so
//! that its parser never waits and its drain on drop has nothing to wait for; and if its accept thread has died, it is
//! replaced whole. What remains of it is what it does well: one parser and one writer of HTTP/1.1 that are not ours.
//!
//! Runs on threads called `<name>-w<n>`. tiny_http's own two kinds of thread (accept, connection) end when its server
//! is dropped, the idle ones after 5 s: it offers no handle to join them.

use std::io::{self, Cursor, Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use crossbeam_channel::{Receiver, Sender, bounded};
use nsq_protocol::thread::Crew;
use parking_lot::Mutex;

use super::handler::Handler;
use super::head::PEER_HEADER;
use super::request::Request;
use super::socket_dir::{self, SocketDir};
use super::target;

/// How long a request waits for a worker. Past it the client hears 503: the work is piling up.
const WORKER_WAIT: Duration = Duration::from_secs(10);

/// How long a worker may take for one answer.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// The largest answer held in memory for a slow client; the largest here is under 1 MiB.
const ANSWER_MAX: u64 = 64 * 1024 * 1024;

/// How long the first request may take to pass through a new tiny_http: it takes well under 1 ms on an idle machine.
const PROBE_WAIT: Duration = Duration::from_secs(5);

/// What becomes of a request that got no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// No worker was free in time.
    Busy,
    /// tiny_http, or the way there, failed.
    Broken(io::Error),
}

/// tiny_http with its workers; replaced whole if its accept thread has died.
pub(super) struct Pool {
    name: &'static str,
    workers: usize,
    handler: Arc<dyn Handler>,
    // Where the socket may be if nowhere else.
    data_dir: Option<PathBuf>,
    // One permit for each worker: nothing queues inside tiny_http, where a queue has no limit, and the
    // descriptors that requests in progress take are bounded.
    permits: WorkerPermits,
    // What requests that may wait for somebody else need besides: there are half as many.
    waiting: WorkerPermits,
    // Held while a generation is swapped, and to read its path; never across a request.
    current: Mutex<Option<Generation>>,
}

/// So many may do something at one time.
struct WorkerPermits {
    give: Sender<()>,
    take: Receiver<()>,
}

/// Given back when it is dropped.
struct WorkerPermit<'p>(&'p WorkerPermits);

impl WorkerPermits {
    fn new(count: usize) -> Self {
        let (give, take) = bounded(count);
        for _ in 0..count {
            give.send(()).expect("both ends are held here");
        }
        Self { give, take }
    }

    fn take(&self, deadline: Instant) -> Result<WorkerPermit<'_>, Failure> {
        self.take.recv_deadline(deadline).map_err(|_| Failure::Busy)?;
        Ok(WorkerPermit(self))
    }
}

impl Drop for WorkerPermit<'_> {
    fn drop(&mut self) {
        // Cannot be full: this is one that was taken.
        let _ = self.0.give.try_send(());
    }
}

struct Generation {
    number: u64,
    // In the order of their ends: the workers, tiny_http, whose drop wakes its accept thread through the socket, and
    // the socket's directory.
    workers: Crew<()>,
    server: Arc<tiny_http::Server>,
    directory: SocketDir,
}

impl Pool {
    pub(super) fn start(
        name: &'static str,
        workers: usize,
        handler: Arc<dyn Handler>,
        data_dir: Option<PathBuf>,
    ) -> Result<Self> {
        socket_dir::remove_dead(data_dir.as_deref());
        let pool = Self {
            name,
            workers,
            handler,
            data_dir,
            permits: WorkerPermits::new(workers),
            waiting: WorkerPermits::new((workers / 2).max(1)),
            current: Mutex::new(None),
        };
        let first = pool.generation(0)?;
        *pool.current.lock() = Some(first);
        Ok(pool)
    }

    fn generation(&self, number: u64) -> Result<Generation> {
        let directory = SocketDir::create(self.data_dir.as_deref())?;
        let server = Arc::new(start_tiny_http(&directory.socket())?);
        let mut workers = {
            let (server, count) = (Arc::clone(&server), self.workers);
            // One call wakes one worker; one too many wakes nobody.
            Crew::new(move || (0..count).for_each(|_| server.unblock()))
        };
        for index in 0..self.workers {
            let (server, handler) = (Arc::clone(&server), Arc::clone(&self.handler));
            workers.spawn(&format!("{}-w{index}", self.name), move || work(&server, &*handler))?;
        }
        Ok(Generation { number, workers, server, directory })
    }

    /// Has a worker answer `wire`, a whole request; returns the whole answer. Where it `may_wait` for somebody else, it waits for
    /// those before it here, and takes no worker meanwhile.
    ///
    /// The answer is read to its end before anything goes to the client, so a client that reads slowly holds
    /// its own thread and never a worker.
    pub(super) fn answer(&self, wire: &[u8], may_wait: bool) -> Result<Vec<u8>, Failure> {
        let deadline = Instant::now() + WORKER_WAIT;
        let _waiting = may_wait.then(|| self.waiting.take(deadline)).transpose()?;
        let _permit = self.permits.take(deadline)?;
        self.exchange(wire).map_err(Failure::Broken)
    }

    fn exchange(&self, wire: &[u8]) -> io::Result<Vec<u8>> {
        let (number, path) = match &*self.current.lock() {
            Some(generation) => (generation.number, generation.directory.socket()),
            None => return Err(io::Error::other("the server stops")),
        };
        let mut stream = match UnixStream::connect(&path) {
            Ok(stream) => stream,
            // Its accept thread ends at the first error, such as a moment without descriptors, and closes
            // the socket; or somebody has tidied up the directory of temporary files. Start another.
            Err(error) if is_gone(&error) => UnixStream::connect(self.replace(number)?)?,
            Err(error) => return Err(error),
        };
        stream.set_read_timeout(Some(ANSWER_WAIT))?;
        stream.set_write_timeout(Some(ANSWER_WAIT))?;
        stream.write_all(wire)?;
        let mut answer = Vec::new();
        stream.take(ANSWER_MAX + 1).read_to_end(&mut answer)?;
        if answer.is_empty() || answer.len() as u64 > ANSWER_MAX {
            return Err(io::Error::other(format!("the answer has {} bytes", answer.len())));
        }
        Ok(answer)
    }

    /// Puts another tiny_http in the place of generation `dead`, unless somebody has; returns its socket.
    fn replace(&self, dead: u64) -> io::Result<PathBuf> {
        let mut current = self.current.lock();
        match &*current {
            Some(generation) if generation.number != dead => {
                return Ok(generation.directory.socket());
            }
            Some(_) => {}
            None => return Err(io::Error::other("the server stops")),
        }
        log::error!("{}: tiny_http cannot be reached any more; starting it again", self.name);
        let next = self.generation(dead + 1).map_err(io::Error::other)?;
        let path = next.directory.socket();
        let old = current.replace(next);
        drop(current);
        if let Some(old) = old {
            old.stop();
        }
        Ok(path)
    }

    /// Ends the workers after the request they are at, and joins them.
    pub(super) fn shutdown(&self) {
        let last = self.current.lock().take();
        if let Some(last) = last {
            last.stop();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Generation {
    /// Ends the workers after the request they are at, and joins them. Then goes the last handle of tiny_http: its drop
    /// ends its accept thread, by a connection, and removes the socket. Where the socket has been taken away nothing
    /// reaches that thread any more: it stays, one for each time.
    fn stop(self) {
        self.workers.stop();
        drop(self.server);
        drop(self.directory);
    }
}

/// tiny_http on the socket `path`, with one request through it: it panics where the system refuses it a thread, in part on
/// a thread of its own, and then it would look alive and accept nothing.
fn start_tiny_http(path: &Path) -> Result<tiny_http::Server> {
    let refused = || anyhow!("the system refuses tiny_http its threads; raise `ulimit -u`");
    let server = catch_unwind(|| tiny_http::Server::http_unix(path))
        .map_err(|_| refused())?
        .map_err(|error| anyhow!("cannot listen on {}: {error}", path.display()))?;
    let answered = || {
        let mut probe = UnixStream::connect(path)?;
        probe.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")?;
        let request = server.recv_timeout(PROBE_WAIT)?.ok_or(io::ErrorKind::TimedOut)?;
        request.respond(tiny_http::Response::empty(200))
    };
    answered().map_err(|_| refused())?;
    Ok(server)
}

/// Nobody listens at a socket, or it is not there.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

/// Answers until the server is unblocked.
fn work(server: &tiny_http::Server, handler: &dyn Handler) {
    while let Ok(mut incoming) = server.recv() {
        let answer = match read_request(&mut incoming, handler.text_paths()) {
            Ok(request) => catch_unwind(AssertUnwindSafe(|| handler.handle(&request)))
                .unwrap_or_else(|_| {
                    // The panic hook has logged it; the worker must live on.
                    handler.refuse(500, "internal error")
                }),
            Err(reason) => handler.refuse(400, &reason),
        };
        let headers = answer
            .safe_headers()
            .chain([("Server", "playcounts")])
            .filter_map(|(name, value)| tiny_http::Header::from_bytes(name, value).ok())
            .collect();
        let length = answer.body.len();
        let status = tiny_http::StatusCode(answer.status);
        let response =
            tiny_http::Response::new(status, headers, Cursor::new(answer.body), Some(length), None)
                // Chunks would be of no use to the connection, which has the whole answer anyway.
                .with_chunked_threshold(usize::MAX);
        if let Err(error) = incoming.respond(response) {
            log::debug!("nobody took the answer: {error}");
        }
    }
}

fn read_request(incoming: &mut tiny_http::Request, text_paths: &[&str]) -> Result<Request, String> {
    let mut body = Vec::with_capacity(incoming.body_length().unwrap_or(0));
    incoming.as_reader().read_to_end(&mut body).map_err(|error| error.to_string())?;
    let (path, query) =
        target::parse(incoming.url(), text_paths).map_err(|refusal| refusal.reason.to_owned())?;
    let mut peer = None;
    let mut headers = Vec::with_capacity(incoming.headers().len());
    for header in incoming.headers() {
        let name = header.field.as_str().as_str().to_ascii_lowercase();
        if name == PEER_HEADER {
            peer = header.value.as_str().parse().ok();
        } else {
            headers.push((name, header.value.as_str().to_owned()));
        }
    }
    Ok(Request { method: incoming.method().to_string(), path, query, headers, body, peer })
}

#[cfg(test)]
mod tests {
    use super::super::response::Response;
    use super::*;

    struct Echo;

    impl Handler for Echo {
        fn handle(&self, request: &Request) -> Response {
            assert_ne!(request.path, "/panic");
            Response::text(200, format!("{} {}", request.method, request.path))
        }
    }

    #[track_caller]
    fn answered(pool: &Pool, path: &str) -> String {
        let wire = format!(
            "GET {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        String::from_utf8(pool.answer(wire.as_bytes(), path == "/wait").unwrap()).unwrap()
    }

    /// Whoever asks for `/wait` tells it, and waits until the test goes on.
    struct Waits {
        come: Sender<()>,
        go_on: Receiver<()>,
    }

    impl Handler for Waits {
        fn handle(&self, request: &Request) -> Response {
            if request.path == "/wait" {
                self.come.send(()).unwrap();
                // An error where the test has failed.
                let _ = self.go_on.recv();
            }
            Response::text(200, "done")
        }
    }

    #[test]
    fn requests_that_wait_take_half_the_workers() {
        let ((come, came), (go_on, held)) = (bounded(100), bounded(100));
        let pool = Pool::start("test", 4, Arc::new(Waits { come, go_on: held }), None).unwrap();
        let is_done = |answer: String| answer.ends_with("done");
        std::thread::scope(|scope| {
            // So that a failure drops it, and nobody waits on.
            let go_on = go_on;
            let all: Vec<_> = (0..6).map(|_| scope.spawn(|| answered(&pool, "/wait"))).collect();
            (0..2).for_each(|_| came.recv().unwrap());
            for _ in 0..20 {
                assert!(is_done(answered(&pool, "/a")));
            }
            assert!(came.is_empty(), "a third one has a worker");
            // The others follow.
            (0..6).for_each(|_| go_on.send(()).unwrap());
            assert!(all.into_iter().all(|one| is_done(one.join().unwrap())));
        });
    }

    fn socket(pool: &Pool) -> PathBuf {
        pool.current.lock().as_ref().unwrap().directory.socket()
    }

    fn directory(pool: &Pool) -> PathBuf {
        socket(pool).parent().unwrap().to_owned()
    }

    #[test]
    fn it_answers_again_after_tiny_http_has_died() {
        let pool = Pool::start("test", 2, Arc::new(Echo), None).unwrap();
        assert!(answered(&pool, "/a").ends_with("GET /a"));
        let first = socket(&pool);
        // What a dead accept thread leaves: a socket file that refuses.
        std::fs::remove_file(&first).unwrap();
        drop(std::os::unix::net::UnixListener::bind(&first).unwrap());
        assert!(answered(&pool, "/b").ends_with("GET /b"));
        assert_eq!(pool.current.lock().as_ref().unwrap().number, 1);
    }

    /// systemd-tmpfiles removes what lies in /tmp for ten days.
    #[test]
    fn it_answers_again_after_its_directory_was_tidied_away() {
        let pool = Pool::start("test", 2, Arc::new(Echo), None).unwrap();
        std::fs::remove_dir_all(directory(&pool)).unwrap();
        assert!(answered(&pool, "/b").ends_with("GET /b"));
        pool.shutdown();
    }

    #[test]
    fn a_panic_is_a_500_and_costs_no_worker() {
        let pool = Pool::start("test", 1, Arc::new(Echo), None).unwrap();
        for _ in 0..3 {
            assert!(answered(&pool, "/panic").starts_with("HTTP/1.1 500 "));
        }
        assert!(answered(&pool, "/a").starts_with("HTTP/1.1 200 "));
    }

    #[test]
    fn nobody_else_may_enter_and_nothing_is_left() {
        use std::os::unix::fs::PermissionsExt;
        let pool = Pool::start("test", 1, Arc::new(Echo), None).unwrap();
        let directory = directory(&pool);
        let mode = std::fs::metadata(&directory).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        pool.shutdown();
        assert!(!directory.exists());
    }
}
