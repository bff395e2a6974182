//! tiny_http on a private Unix socket, its workers, and the way there for one vetted request.
//!
//! Only the front connects, with whole requests, so tiny_http's parser never waits and its drain on drop has
//! nothing to wait for. Runs on threads called `<name>-w<n>`; tiny_http's own two kinds of thread (accept,
//! connection) end when its server is dropped, the idle ones after 5 s: it offers no handle to join them.

use std::fs::DirBuilder;
use std::io::{self, Cursor, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow};
use crossbeam_channel::{Receiver, Sender, bounded};
use nsq_protocol::thread::OwnedThread;
use parking_lot::Mutex;

use super::head::{self, PEER_HEADER};
use super::{Handler, Request};

/// How long a request waits for a worker. Past it the client hears 503: the work is piling up.
const WORKER_WAIT: Duration = Duration::from_secs(10);

/// How long a worker may take for one answer.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// The largest answer the front holds in memory for a slow client; the largest here is under 1 MiB.
const ANSWER_MAX: u64 = 64 * 1024 * 1024;

/// The longest path that `bind` takes for a Unix socket on Linux is 107 bytes; elsewhere 103.
const SOCKET_PATH_MAX: usize = 100;

/// What the private directories' names start with.
const DIRECTORY_PREFIX: &str = "playcounts-http-";

/// The socket's name in its directory.
const SOCKET: &str = "sock";

/// How old a directory must be to be taken for one that was left behind: a start takes milliseconds.
const SWEPT_AFTER: Duration = Duration::from_secs(60);

/// What becomes of a request that got no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// No worker was free in time.
    Busy,
    /// tiny_http, or the way there, failed.
    Broken(io::Error),
}

/// tiny_http with its workers; replaced whole if its accept thread has died.
pub(super) struct Backend {
    name: &'static str,
    workers: usize,
    routes: Arc<dyn Handler>,
    // One permit for each worker: nothing queues inside tiny_http, where a queue has no limit, and the
    // descriptors that requests in progress take are bounded.
    permits: (Sender<()>, Receiver<()>),
    // Held while a generation is swapped, and to read its path; never across a request.
    current: Mutex<Option<Generation>>,
}

struct Generation {
    number: u64,
    /// Its socket, in a directory of its own.
    path: PathBuf,
    server: Arc<tiny_http::Server>,
    threads: Vec<OwnedThread<()>>,
}

impl Backend {
    pub(super) fn start(
        name: &'static str,
        workers: usize,
        routes: Arc<dyn Handler>,
    ) -> Result<Self> {
        let permits = bounded(workers);
        for _ in 0..workers {
            permits.0.send(()).expect("both ends are held here");
        }
        sweep(&std::env::temp_dir(), SystemTime::now());
        let backend = Self { name, workers, routes, permits, current: Mutex::new(None) };
        let first = backend.generation(0)?;
        *backend.current.lock() = Some(first);
        Ok(backend)
    }

    fn generation(&self, number: u64) -> Result<Generation> {
        let path = private_directory()?.join(SOCKET);
        let server = tiny_http::Server::http_unix(&path)
            .map_err(|error| anyhow!("cannot listen on {}: {error}", path.display()))?;
        let server = Arc::new(server);
        let mut threads = Vec::new();
        for index in 0..self.workers {
            let (server, routes) = (Arc::clone(&server), Arc::clone(&self.routes));
            let name = format!("{}-w{index}", self.name);
            threads.push(OwnedThread::spawn(&name, move || work(&server, &*routes))?);
        }
        Ok(Generation { number, path, server, threads })
    }

    /// Has a worker answer `wire`, a whole request; returns the whole answer.
    ///
    /// The answer is read to its end before anything goes to the client, so a client that reads slowly holds
    /// its own thread and never a worker.
    pub(super) fn answer(&self, wire: &[u8]) -> Result<Vec<u8>, Failure> {
        self.permits.1.recv_timeout(WORKER_WAIT).map_err(|_| Failure::Busy)?;
        let answer = self.exchange(wire);
        // Cannot be full: this is the permit taken above.
        let _ = self.permits.0.try_send(());
        answer.map_err(Failure::Broken)
    }

    fn exchange(&self, wire: &[u8]) -> io::Result<Vec<u8>> {
        let (number, path) = match &*self.current.lock() {
            Some(generation) => (generation.number, generation.path.clone()),
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
            Some(generation) if generation.number != dead => return Ok(generation.path.clone()),
            Some(_) => {}
            None => return Err(io::Error::other("the server stops")),
        }
        log::error!("{}: tiny_http is not to be reached any more; starting it again", self.name);
        let next = self.generation(dead + 1).map_err(io::Error::other)?;
        let path = next.path.clone();
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

impl Drop for Backend {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Generation {
    fn stop(self) {
        // One call wakes one worker.
        for _ in &self.threads {
            self.server.unblock();
        }
        for thread in self.threads {
            thread.join();
        }
        // The last handle: its drop ends tiny_http's accept thread, by a connection, and removes the socket. Where the
        // socket has been taken away nothing reaches that thread any more: it stays, one for each time.
        drop(self.server);
        if let Some(directory) = self.path.parent()
            && let Err(error) = std::fs::remove_dir(directory)
            && error.kind() != io::ErrorKind::NotFound
        {
            log::warn!("cannot remove {}: {error}", directory.display());
        }
    }
}

/// Nobody listens at a socket, or it is not there.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

/// A new directory that only this user may enter, so that nobody else reaches tiny_http.
fn private_directory() -> Result<PathBuf> {
    let name = format!("{DIRECTORY_PREFIX}{}", uuid::Uuid::new_v4().simple());
    let mut path = std::env::temp_dir().join(&name);
    if path.join(SOCKET).as_os_str().len() > SOCKET_PATH_MAX {
        path = Path::new("/tmp").join(&name);
    }
    DirBuilder::new().mode(0o700).create(&path).with_context(|| {
        format!("cannot make {}; set TMPDIR to a directory with room", path.display())
    })?;
    Ok(path)
}

/// Removes what processes that were killed have left: directories with a socket that nobody listens on. Young ones are
/// left alone: between its `bind` and its `listen` a server that starts looks dead.
fn sweep(temp: &Path, now: SystemTime) {
    let directories = std::fs::read_dir(temp).into_iter().flatten().flatten();
    for directory in directories {
        let is_ours = directory.file_name().to_string_lossy().starts_with(DIRECTORY_PREFIX);
        let changed = directory.metadata().and_then(|metadata| metadata.modified());
        let age = changed.ok().and_then(|changed| now.duration_since(changed).ok());
        if !is_ours || age.is_none_or(|age| age < SWEPT_AFTER) {
            continue;
        }
        let mut dead = false;
        for socket in std::fs::read_dir(directory.path()).into_iter().flatten().flatten() {
            let refused = UnixStream::connect(socket.path())
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
            dead |= refused && std::fs::remove_file(socket.path()).is_ok();
        }
        if dead {
            // Fails, as it should, if a live socket lies beside the dead one.
            let _ = std::fs::remove_dir(directory.path());
        }
    }
}

/// Answers until the server is unblocked.
fn work(server: &tiny_http::Server, routes: &dyn Handler) {
    while let Ok(mut incoming) = server.recv() {
        let answer = match read_request(&mut incoming) {
            Ok(request) => catch_unwind(AssertUnwindSafe(|| routes.handle(&request)))
                .unwrap_or_else(|_| {
                    // The panic hook has logged it; the worker must live on.
                    routes.refuse(500, "internal error")
                }),
            Err(reason) => routes.refuse(400, &reason),
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
                // Chunks would be of no use to the front, which has the whole answer anyway.
                .with_chunked_threshold(usize::MAX);
        if let Err(error) = incoming.respond(response) {
            log::debug!("the front took no answer: {error}");
        }
    }
}

fn read_request(incoming: &mut tiny_http::Request) -> Result<Request, String> {
    let mut body = Vec::with_capacity(incoming.body_length().unwrap_or(0));
    incoming.as_reader().read_to_end(&mut body).map_err(|error| error.to_string())?;
    let (path, query) =
        head::parse_target(incoming.url()).map_err(|refusal| refusal.reason.to_owned())?;
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
    use super::super::Response;
    use super::*;

    struct Echo;

    impl Handler for Echo {
        fn handle(&self, request: &Request) -> Response {
            assert_ne!(request.path, "/panic");
            Response::text(200, format!("{} {}", request.method, request.path))
        }
    }

    #[track_caller]
    fn answered(backend: &Backend, path: &str) -> String {
        let wire = format!(
            "GET {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        String::from_utf8(backend.answer(wire.as_bytes()).unwrap()).unwrap()
    }

    fn directory(backend: &Backend) -> PathBuf {
        let path = backend.current.lock().as_ref().unwrap().path.clone();
        path.parent().unwrap().to_owned()
    }

    #[test]
    fn it_answers_again_after_tiny_http_has_died() {
        let backend = Backend::start("test", 2, Arc::new(Echo)).unwrap();
        assert!(answered(&backend, "/a").ends_with("GET /a"));
        let first = backend.current.lock().as_ref().unwrap().path.clone();
        // What a dead accept thread leaves: a socket file that refuses.
        std::fs::remove_file(&first).unwrap();
        drop(std::os::unix::net::UnixListener::bind(&first).unwrap());
        assert!(answered(&backend, "/b").ends_with("GET /b"));
        assert_eq!(backend.current.lock().as_ref().unwrap().number, 1);
    }

    /// systemd-tmpfiles removes what lies in /tmp for ten days.
    #[test]
    fn it_answers_again_after_its_directory_was_tidied_away() {
        let backend = Backend::start("test", 2, Arc::new(Echo)).unwrap();
        std::fs::remove_dir_all(directory(&backend)).unwrap();
        assert!(answered(&backend, "/b").ends_with("GET /b"));
        backend.shutdown();
    }

    #[test]
    fn a_panic_is_a_500_and_costs_no_worker() {
        let backend = Backend::start("test", 1, Arc::new(Echo)).unwrap();
        for _ in 0..3 {
            assert!(answered(&backend, "/panic").starts_with("HTTP/1.1 500 "));
        }
        assert!(answered(&backend, "/a").starts_with("HTTP/1.1 200 "));
    }

    #[test]
    fn what_a_killed_process_left_is_removed() {
        let temp = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = temp.path().join(format!("{DIRECTORY_PREFIX}{name}"));
            std::fs::create_dir(&path).unwrap();
            path
        };
        let (dead, live, starting) = (make("dead"), make("live"), make("starting"));
        drop(std::os::unix::net::UnixListener::bind(dead.join(SOCKET)).unwrap());
        let _listener = std::os::unix::net::UnixListener::bind(live.join(SOCKET)).unwrap();
        // One that has bound its socket and does not listen yet looks just like a dead one.
        sweep(temp.path(), SystemTime::now());
        assert!(dead.join(SOCKET).exists());
        sweep(temp.path(), SystemTime::now() + SWEPT_AFTER + Duration::from_secs(1));
        assert!(!dead.exists() && live.join(SOCKET).exists() && starting.exists());
    }

    #[test]
    fn nobody_else_may_enter_and_nothing_is_left() {
        use std::os::unix::fs::PermissionsExt;
        let backend = Backend::start("test", 1, Arc::new(Echo)).unwrap();
        let directory = directory(&backend);
        let mode = std::fs::metadata(&directory).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        backend.shutdown();
        assert!(!directory.exists());
    }
}
