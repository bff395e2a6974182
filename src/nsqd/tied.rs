//! A child process that does not outlive us, however we end: also with a kill -9, where nobody is left to stop it.
//!
//! Linux sends a process a signal when its parent dies, if the process has asked for it, and a program that is executed in
//! its place inherits that. So the child is this very program, which asks, and then becomes what was to be started.
//! Elsewhere than on Linux the child is started as it is, and a kill -9 leaves it.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Command;

/// What this program is told by to become another one. Nobody types it.
#[cfg(target_os = "linux")]
const BECOME: &str = "--become-child-of";

/// This very program, whatever has become of its file.
#[cfg(target_os = "linux")]
const THIS: &str = "/proc/self/exe";

/// Starts `program`, which gets SIGTERM when the thread that starts it ends: so that should be the main thread.
pub(crate) fn command(program: &Path) -> Command {
    #[cfg(target_os = "linux")]
    {
        let mut command = Command::new(THIS);
        command.arg(BECOME).arg(std::process::id().to_string()).arg(program);
        command
    }
    #[cfg(not(target_os = "linux"))]
    Command::new(program)
}

/// If the arguments of this program ask for it, it becomes another one, and this does not return; else nothing happens.
///
/// # Errors
/// It cannot: the parent is gone already, or there is no such program.
pub fn become_child(args: &[OsString]) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if let [asked, parent, program, rest @ ..] = args
        && asked == BECOME
    {
        use std::os::unix::process::CommandExt;

        use rustix::process::{Signal, getppid, set_parent_process_death_signal};

        set_parent_process_death_signal(Some(Signal::TERM))?;
        // It may have died before it was asked for.
        let is_there = getppid()
            .is_some_and(|pid| parent.to_str() == Some(pid.as_raw_nonzero().to_string().as_str()));
        if !is_there {
            return Err(io::Error::other("whoever started it is gone"));
        }
        return Err(Command::new(program).args(rest).exec());
    }
    #[cfg(not(target_os = "linux"))]
    let _ = args;
    Ok(())
}
