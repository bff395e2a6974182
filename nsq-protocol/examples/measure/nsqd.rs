//! The nsqd that is measured against.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use nsq_protocol::thread::OwnedThread;

/// A real nsqd with a queue in memory that takes all of a measurement.
pub(crate) struct Nsqd {
    child: Child,
    pub(crate) addr: String,
    data: std::path::PathBuf,
    /// Drains its log.
    log: Option<OwnedThread<()>>,
}

impl Nsqd {
    pub(crate) fn start() -> Self {
        let program = std::env::var("NSQD").unwrap_or_else(|_| "nsqd".into());
        let data = std::env::temp_dir().join(format!("measure-{}", std::process::id()));
        std::fs::create_dir_all(&data).unwrap();
        let mut child = Command::new(program)
            .args(["--tcp-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"])
            .args(["--mem-queue-size", "3000000", "--data-path"])
            .arg(&data)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let line = log.find(|line| line.contains("TCP: listening on ")).unwrap();
        let addr = line.split("listening on ").nth(1).unwrap().to_owned();
        let log = OwnedThread::spawn("log", move || log.for_each(drop)).unwrap();
        Self { child, addr, data, log: Some(log) }
    }

    /// User and system time so far.
    pub(crate) fn cpu(&self) -> f64 {
        cpu(&self.child.id().to_string())
    }
}

impl Drop for Nsqd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        drop(self.log.take());
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

/// User and system time of a process in seconds.
pub(crate) fn cpu(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    // Fields 14 and 15 of the line, in ticks of 10 ms.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}
