//! Named threads that their owner joins, and the signal that asks them to stop.
//!
//! The only place of the workspace that spawns a thread. Not part of the client's public face: the
//! `playcounts` package uses the same implementation.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

/// The longest thread name that Linux shows whole in `ps` and gdb, in bytes.
pub const NAME_MAX: usize = 15;

/// A named thread that cannot outlive its owner: dropping it joins.
///
/// The owner must make the thread end (close its channel, shut its socket down) before it joins.
#[derive(Debug)]
pub struct OwnedThread<T> {
    name: String,
    handle: Option<thread::JoinHandle<T>>,
}

impl<T: Send + 'static> OwnedThread<T> {
    /// Starts `body` on a thread called `name`, at most [`NAME_MAX`] bytes.
    ///
    /// # Errors
    /// The operating system's, when it refuses another thread; names the thread.
    pub fn spawn(name: &str, body: impl FnOnce() -> T + Send + 'static) -> io::Result<Self> {
        Self::start(thread::Builder::new(), name, Box::new(body))
    }

    /// As [`spawn`](Self::spawn), with a stack of `bytes`: for threads that come by the hundred and call little.
    ///
    /// # Errors
    /// The operating system's, when it refuses another thread; names the thread.
    pub fn spawn_with_stack(
        name: &str,
        bytes: usize,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Self> {
        Self::start(thread::Builder::new().stack_size(bytes), name, Box::new(body))
    }

    /// Boxed: what the body holds would be copied from frame to frame of the stack of the thread that starts it, and of its own.
    #[allow(clippy::disallowed_methods, reason = "the one place that spawns")]
    fn start(
        builder: thread::Builder,
        name: &str,
        body: Box<dyn FnOnce() -> T + Send>,
    ) -> io::Result<Self> {
        debug_assert!(name.len() <= NAME_MAX, "Linux cuts the thread name {name}");
        let handle = builder.name(name.to_owned()).spawn(body).map_err(|error| {
            io::Error::new(error.kind(), RefusedThread { name: name.to_owned(), error })
        })?;
        Ok(Self { name: name.to_owned(), handle: Some(handle) })
    }
}

impl<T> OwnedThread<T> {
    /// Waits for the thread and returns what it returned; its panic goes on in the caller.
    pub fn join(mut self) -> T {
        let handle = self.handle.take().expect("only join and drop take the handle, each once");
        handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Lets go of a thread that hangs where nothing can end it: it ends when that does. The one way around joining, for
    /// what is not ours: the system's resolver, and a user's handler.
    pub(crate) fn leave_behind(mut self) {
        self.handle = None;
    }

    /// Whether the thread's body has returned.
    pub fn is_finished(&self) -> bool {
        self.handle.as_ref().is_none_or(thread::JoinHandle::is_finished)
    }
}

impl<T> Drop for OwnedThread<T> {
    fn drop(&mut self) {
        let Some(handle) = self.handle.take() else { return };
        if handle.join().is_err() {
            // A second panic while the owner unwinds would abort the process.
            log::error!("thread {} panicked", self.name);
        }
    }
}

/// The system's refusal of a thread, inside the [`io::Error`] of a spawn.
#[derive(Debug)]
struct RefusedThread {
    name: String,
    error: io::Error,
}

impl std::fmt::Display for RefusedThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot start the thread {}: {}; raise `ulimit -u`", self.name, self.error)
    }
}

impl std::error::Error for RefusedThread {}

/// The operating system's own error in the error of a spawn, for who names the thread itself.
pub(crate) fn system_error(refusal: io::Error) -> io::Error {
    refusal.downcast::<RefusedThread>().map_or_else(|other| other, |refused| refused.error)
}

/// Threads that end together.
///
/// A crew owns the one act that makes all its threads end, and does it before it joins any of them: when it is
/// stopped, when it is dropped, and so also when the system refuses one of its threads and a `?` drops the others.
pub struct Crew<T> {
    // Taken by the first to end the crew.
    end: Option<Box<dyn FnOnce() + Send + Sync>>,
    threads: Vec<OwnedThread<T>>,
}

impl<T: Send + 'static> Crew<T> {
    /// A crew without threads yet, all of which end after `end` was called.
    pub fn new(end: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self { end: Some(Box::new(end)), threads: Vec::new() }
    }

    /// A crew whose threads hold a token of `stop`.
    pub fn stopped_by(stop: StopSource) -> Self {
        Self::new(move || drop(stop))
    }

    /// Starts one more thread.
    ///
    /// # Errors
    /// As [`OwnedThread::spawn`]. The others go on until the crew ends.
    pub fn spawn(
        &mut self,
        name: &str,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<()> {
        self.threads.push(OwnedThread::spawn(name, body)?);
        Ok(())
    }
}

impl<T> Crew<T> {
    /// Ends the threads, joins them, and returns what they returned, in the order of their start. A panic of one goes
    /// on in the caller, after all have ended.
    pub fn stop(mut self) -> Vec<T> {
        self.end();
        self.join_all()
    }

    /// Waits for threads that end by themselves, without ending them first.
    pub fn join(mut self) -> Vec<T> {
        self.join_all()
    }

    fn end(&mut self) {
        if let Some(end) = self.end.take() {
            end();
        }
    }

    fn join_all(&mut self) -> Vec<T> {
        std::mem::take(&mut self.threads).into_iter().map(OwnedThread::join).collect()
    }
}

impl<T> Drop for Crew<T> {
    fn drop(&mut self) {
        self.end();
        // The threads are joined as they are dropped.
    }
}

impl<T> std::fmt::Debug for Crew<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crew").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

/// Nothing of this type exists: a channel of it carries one signal, its own end.
#[derive(Debug)]
pub enum Never {}

/// The owner's end of a stop signal: dropping it asks every holder of a token to stop.
#[derive(Debug)]
pub struct StopSource {
    _open: Sender<Never>,
}

/// A thread's end of a stop signal. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StopToken {
    closed: Receiver<Never>,
}

/// A connected pair: drop the source and every token stops.
pub fn stop_pair() -> (StopSource, StopToken) {
    let (open, closed) = bounded(0);
    (StopSource { _open: open }, StopToken { closed })
}

impl StopToken {
    /// Whether the source is gone.
    pub fn is_stopped(&self) -> bool {
        matches!(self.closed.try_recv(), Err(TryRecvError::Disconnected))
    }

    /// Waits at most `timeout`; true once the source is gone.
    pub fn wait(&self, timeout: Duration) -> bool {
        match self.closed.recv_timeout(timeout) {
            Ok(never) => match never {},
            Err(RecvTimeoutError::Disconnected) => true,
            Err(RecvTimeoutError::Timeout) => false,
        }
    }

    /// Waits until `deadline`; true once the source is gone.
    pub fn wait_until(&self, deadline: Instant) -> bool {
        self.wait(deadline.saturating_duration_since(Instant::now()))
    }

    /// The channel to `select!` on: it disconnects when the source is dropped and carries nothing.
    pub fn channel(&self) -> &Receiver<Never> {
        &self.closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_the_source_ends_every_wait() {
        let (source, token) = stop_pair();
        assert!(!token.is_stopped());
        assert!(!token.wait(Duration::ZERO));
        let waiter = {
            let token = token.clone();
            OwnedThread::spawn("waiter", move || token.wait(Duration::from_secs(60))).unwrap()
        };
        drop(source);
        assert!(waiter.join());
        assert!(token.is_stopped());
    }

    #[test]
    fn dropping_a_thread_joins_it() {
        let (done, finished) = bounded(1);
        drop(OwnedThread::spawn("worker", move || done.send(7)).unwrap());
        assert_eq!(finished.try_recv(), Ok(7));
    }

    #[test]
    fn join_passes_a_panic_on() {
        let thread = OwnedThread::spawn("panics", || panic!("on purpose")).unwrap();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| thread.join()));
        assert!(caught.is_err());
    }

    /// What an early `?` does to a crew: nobody else holds what makes its threads end.
    #[test]
    fn a_dropped_crew_ends_its_threads_before_it_joins_them() {
        let (source, token) = stop_pair();
        let (done, finished) = bounded(2);
        let mut crew = Crew::stopped_by(source);
        for name in ["crew-0", "crew-1"] {
            let (token, done) = (token.clone(), done.clone());
            crew.spawn(name, move || done.send(token.wait(Duration::from_secs(60)))).unwrap();
        }
        drop(crew);
        assert_eq!((finished.try_recv(), finished.try_recv()), (Ok(true), Ok(true)));
    }

    #[test]
    fn a_crew_returns_what_its_threads_did_in_order() {
        let (source, token) = stop_pair();
        let mut crew = Crew::stopped_by(source);
        for number in 0..3 {
            let token = token.clone();
            crew.spawn("crew", move || (number, token.wait(Duration::from_secs(60)))).unwrap();
        }
        assert_eq!(crew.stop(), [(0, true), (1, true), (2, true)]);
    }

    #[test]
    fn a_crew_is_waited_for_without_being_ended() {
        let (source, token) = stop_pair();
        let mut crew = Crew::stopped_by(source);
        crew.spawn("crew", move || token.is_stopped()).unwrap();
        assert_eq!(crew.join(), [false]);
    }
}
