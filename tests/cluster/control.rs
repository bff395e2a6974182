//! The socket in a cluster's directory: a line asks, the answer is a line that begins with `ok ` or `failed `, or for
//! `status` and `down` several.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use crossbeam_channel::{Receiver, Sender, bounded};
use nsq_protocol::thread::{OwnedThread, StopSource, StopToken, stop_pair};

/// The socket's name.
const NAME: &str = "control";

/// How long a client may take for its line.
const LINE_LIMIT: Duration = Duration::from_secs(5);

/// How long an answer may take: `start` waits for the part, `down` for all.
const ANSWER_LIMIT: Duration = Duration::from_secs(300);

/// What somebody asked for.
pub(crate) struct Request {
    pub(crate) line: String,
    answer: UnixStream,
}

impl Request {
    /// Answers; who asked may be gone.
    pub(crate) fn answer(mut self, answer: &Result<String>) {
        let text = match answer {
            Ok(text) => format!("ok {text}\n"),
            Err(error) => format!("failed {error:#}\n"),
        };
        let _ = self.answer.write_all(text.as_bytes());
    }
}

/// The listening socket and its thread.
pub(crate) struct Control {
    path: PathBuf,
    stop: Option<StopSource>,
    thread: Option<OwnedThread<()>>,
    pub(crate) requests: Receiver<Request>,
}

impl Control {
    pub(crate) fn listen(dir: &Path) -> Result<Self> {
        let path = dir.join(NAME);
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).with_context(|| format!("{}", path.display()))?;
        // One at a time.
        let (give, requests) = bounded(1);
        let (stop, stopped) = stop_pair();
        let thread = OwnedThread::spawn("control", move || take(&listener, &stopped, &give))?;
        Ok(Self { path, stop: Some(stop), thread: Some(thread), requests })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop = None;
        // A thread that gives a request to nobody sees that.
        self.requests = bounded(0).1;
        let _ = UnixStream::connect(&self.path);
        self.thread = None;
        let _ = std::fs::remove_file(&self.path);
    }
}

fn take(listener: &UnixListener, stopped: &StopToken, give: &Sender<Request>) {
    loop {
        let client = listener.accept();
        if stopped.is_stopped() {
            return;
        }
        let Ok((client, _)) = client else { continue };
        let _ = client.set_read_timeout(Some(LINE_LIMIT));
        let mut line = String::new();
        let read = BufReader::new((&client).take(200)).read_line(&mut line);
        if read.is_ok_and(|bytes| bytes > 0) {
            let request = Request { line: line.trim().to_owned(), answer: client };
            if give.send(request).is_err() {
                return;
            }
        }
    }
}

/// Asks the cluster that runs in the directory; `None` when none does.
pub(crate) fn ask(dir: &Path, line: &str) -> Result<Option<String>> {
    let Ok(mut stream) = UnixStream::connect(dir.join(NAME)) else { return Ok(None) };
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("the cluster gives no answer")?;
    match answer.trim_end().split_once(' ') {
        Some(("ok", text)) => Ok(Some(text.to_owned())),
        Some((_, why)) => bail!("{why}"),
        None => bail!("the cluster has ended"),
    }
}
