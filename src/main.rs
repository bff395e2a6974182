//! Arguments in, exit code out.

use std::io::Write;
use std::process::ExitCode;

use playcounts::command::{self, EarlyExit};
use playcounts::model::plain_text::PlainText;
use playcounts::nsqd::tied;
use playcounts::storage::private::keep_private;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    if let Err(error) = tied::become_child(&args) {
        let _ = writeln!(std::io::stderr(), "playcounts: cannot start it: {error}");
        return ExitCode::FAILURE;
    }
    // What is kept, by us and by what we start, is for our user alone.
    keep_private();
    // Bytes that are no UTF-8 are no option, and show as such in the refusal.
    let args: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let invocation = match command::parse(&args) {
        Ok(invocation) => invocation,
        Err(EarlyExit::Asked(text)) => {
            // `--help | head` closes the pipe early, and that is fine.
            let _ = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(EarlyExit::Usage(text)) => {
            let _ =
                writeln!(std::io::stderr(), "playcounts: {}", PlainText::Lines(text.trim_end()));
            return ExitCode::from(2);
        }
    };
    match command::run(invocation) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            command::tell_failure(&error);
            ExitCode::FAILURE
        }
    }
}
