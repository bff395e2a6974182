//! What the machine tells of itself and of its processes, mostly in /proc.

use std::fs;
use std::thread::available_parallelism;

use serde::Serialize;

/// A machine, in short.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    /// Its processor, where known.
    pub(super) processor: Option<String>,
    /// Threads that run at one time.
    pub(super) cpus: usize,
}

impl Machine {
    /// This one.
    pub(super) fn this() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name =
            cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Self {
            processor: name.map(|(_, name)| name.trim().to_owned()),
            cpus: available_parallelism().map_or(1, usize::from),
        }
    }
}

/// What a process has used so far, with all its threads; unknown where there is no /proc.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usage {
    /// In user mode and in the kernel, in steps of 10 ms on most systems.
    pub(super) cpu_seconds: Option<f64>,
    /// To the disk.
    pub(super) written_bytes: Option<u64>,
}

impl Usage {
    /// Of this process.
    pub(super) fn of_self() -> Self {
        Self::of("self")
    }

    /// Of a process that is still there, also one that has ended and is not reaped yet.
    pub(super) fn of(pid: &str) -> Self {
        let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        Self {
            cpu_seconds: read("stat").and_then(|stat| cpu_ticks(&stat)).map(|t| t as f64 / ticks),
            written_bytes: read("io").and_then(|io| written_bytes(&io)),
        }
    }

    /// What was used since `before`.
    pub(super) fn since(self, before: Self) -> Self {
        let both = |now: Option<u64>, then: Option<u64>| Some(now?.saturating_sub(then?));
        let cpu = self.cpu_seconds.zip(before.cpu_seconds).map(|(now, then)| now - then);
        Self { cpu_seconds: cpu, written_bytes: both(self.written_bytes, before.written_bytes) }
    }
}

/// utime + stime of /proc/PID/stat. The name before them may hold blanks and brackets.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    // proc(5): state is field 3, utime 14, stime 15.
    let mut fields = behind_name.split_whitespace().skip(14 - 3);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// write_bytes of /proc/PID/io.
fn written_bytes(io: &str) -> Option<u64> {
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files() {
        let stat = "42 (a ) b (c) R 1 2 3 4 5 6 7 8 9 10 120 34 0 0 20 0 1 0 99";
        assert_eq!(cpu_ticks(stat), Some(154));
        assert_eq!(cpu_ticks("42 (a) R 1"), None);
        assert_eq!(cpu_ticks(""), None);
        let io = "rchar: 1\nwchar: 2\nread_bytes: 3\nwrite_bytes: 4096\ncancelled_write_bytes: 0\n";
        assert_eq!(written_bytes(io), Some(4096));
        assert_eq!(written_bytes(""), None);
    }
}
