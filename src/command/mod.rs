//! The commands: what may be typed, and what each does. Runs on the main thread.
//!
//! Each command is a file or folder: `…Args`, what may be typed, as argh takes it; `…Config`, what that means, checked
//! once; and `run`, which builds the parts from it, waits, and prints the result. Nothing outside of here sees argh.
//!
//! argh cannot share options between commands, and a macro that could would hide more than it saves: so an option that
//! several commands have stands in each of them, and a test holds their texts together. [`ArgsInfo`] is the table of all
//! options.

mod backup;
mod bench;
mod broker;
mod check;
mod dashboard;
mod dead_letters;
mod health;
#[cfg(feature = "postgres")]
mod ledger;
mod process;
mod produce;
mod reset;
mod restore;
mod run;
mod shared;
mod spelling;
#[cfg(test)]
mod tests;
mod verify;

use anyhow::Result;
use argh::{ArgsInfo, FlagInfo, FlagInfoKind, FromArgs, SubCommandInfo};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::command::shared::output::log_line;
use crate::command::shared::values::LogLevel;
use crate::runtime::signals::SignalWatch;
use crate::runtime::watchdog;

/// Counts video plays from an NSQ queue, exactly, and shows them live.
///
/// `--flag value` and `--flag=value` both work. A duration is `30`, `30s`, `500ms`, `0.5`, `1m30s` or `2d`; a bare
/// number is seconds. Exit status: 0 done, 1 failed, 2 wrong usage.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("-h", "--help", "help"))]
pub struct Cli {
    #[argh(subcommand)]
    /// what to do
    command: Command,
}

#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
enum Command {
    Run(run::RunArgs),
    Produce(produce::ProduceArgs),
    Process(process::ProcessArgs),
    Dashboard(dashboard::DashboardArgs),
    Broker(broker::BrokerArgs),
    Verify(verify::VerifyArgs),
    Check(check::CheckArgs),
    Reset(reset::ResetArgs),
    DeadLetters(dead_letters::DeadLettersArgs),
    Health(health::HealthArgs),
    Backup(backup::BackupArgs),
    Restore(restore::RestoreArgs),
    #[cfg(feature = "postgres")]
    Ledger(ledger::LedgerArgs),
    Bench(bench::BenchArgs),
}

/// Why parsing ends before a command runs.
#[derive(Debug, PartialEq, Eq)]
pub enum EarlyExit {
    /// Help or version was asked for: to stdout, exit status 0.
    Asked(String),
    /// Wrong usage: what is wrong, and the usage of that command; to stderr, exit status 2.
    Usage(String),
}

/// Parses the arguments behind the program's name.
///
/// # Errors
/// [`EarlyExit`] with the text to print.
pub fn parse(args: &[String]) -> Result<Cli, EarlyExit> {
    if let Some("--version" | "-V" | "-version" | "version") = args.first().map(String::as_str) {
        return Err(EarlyExit::Asked(format!("playcounts {}\n", env!("CARGO_PKG_VERSION"))));
    }
    let switches = switches();
    let args = spelling::normalise(args, |flag| switches.contains(&flag))
        .map_err(|error| EarlyExit::Usage(with_usage(args, &error)))?;
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    Cli::from_args(&["playcounts"], &words).map_err(|exit| match exit.status {
        Ok(()) => EarlyExit::Asked(exit.output),
        Err(()) => EarlyExit::Usage(with_usage(&args, exit.output.trim_end())),
    })
}

/// Every command that does something, with its options: of one that has commands of its own, those.
fn all_commands() -> Vec<(String, &'static [FlagInfo<'static>])> {
    let commands = Cli::get_args_info().commands.into_iter();
    let with_own = |command: SubCommandInfo| match command.command.commands.is_empty() {
        true => vec![(command.name.to_owned(), command.command.flags)],
        false => {
            let own = command.command.commands.into_iter();
            own.map(|own| (format!("{} {}", command.name, own.name), own.command.flags)).collect()
        }
    };
    commands.flat_map(with_own).collect()
}

/// The options that take no value, of any command.
fn switches() -> Vec<&'static str> {
    let flags = all_commands().into_iter().flat_map(|(_, flags)| flags);
    // Help is asked for by a word of its own, and never with `=true`.
    flags
        .filter(|flag| matches!(flag.kind, FlagInfoKind::Switch) && flag.long != "--help")
        .map(|flag| flag.long)
        .collect()
}

/// The error, and behind it the usage of the command that was meant.
fn with_usage(args: &[String], error: &str) -> String {
    // argh points to --help; the help itself follows here.
    let error = error
        .lines()
        .filter(|line| !line.contains("for more information"))
        .collect::<Vec<_>>()
        .join("\n");
    let command = args.first().map(String::as_str).unwrap_or_default();
    let help = |words: &[&str]| {
        Cli::from_args(&["playcounts"], words).err().map(|exit| (exit.status, exit.output))
    };
    let (_, usage) = help(&[command, "--help"])
        .filter(|(status, _)| status.is_ok())
        .or_else(|| help(&["--help"]))
        .unwrap_or((Ok(()), String::new()));
    format!("{}\n\n{usage}", error.trim_end())
}

/// Runs a command to its end.
///
/// # Errors
/// One line, with its causes, that says what went wrong and what to do. Exit status 1.
pub fn run(cli: Cli) -> Result<()> {
    let command = cli.command;
    env_logger::Builder::new().filter_level(command.log_level().0).format(log_line).init();
    raise_descriptor_limit();
    let (_signals, stop) = SignalWatch::start()?;
    let _watchdog = watchdog::start()?;
    match command {
        Command::Run(args) => run::run(args, &stop),
        Command::Produce(args) => produce::run(args, &stop),
        Command::Process(args) => process::run(args, &stop),
        Command::Dashboard(args) => dashboard::run(args, &stop),
        Command::Broker(args) => broker::run(args, &stop),
        Command::Verify(args) => verify::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Reset(args) => reset::run(args),
        Command::DeadLetters(args) => dead_letters::run(&args),
        Command::Health(args) => health::run(args),
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => restore::run(&args),
        #[cfg(feature = "postgres")]
        Command::Ledger(args) => ledger::run(&args),
        Command::Bench(args) => bench::run(args, &stop),
    }
}

impl Command {
    fn log_level(&self) -> LogLevel {
        match self {
            Self::Run(args) => args.log_level,
            Self::Produce(args) => args.log_level,
            Self::Process(args) => args.log_level,
            Self::Dashboard(args) => args.log_level,
            Self::Broker(args) => args.log_level,
            Self::Verify(args) => args.log_level,
            Self::Check(args) => args.log_level,
            Self::Reset(args) => args.log_level,
            Self::DeadLetters(args) => args.log_level,
            Self::Health(args) => args.log_level,
            Self::Backup(args) => args.log_level,
            Self::Restore(args) => args.log_level,
            #[cfg(feature = "postgres")]
            Self::Ledger(args) => args.log_level(),
            Self::Bench(args) => args.log_level,
        }
    }
}

/// Each page, connection and request holds descriptors, and the usual soft limit of 1024 is soon reached; the hard
/// limit is there to be used.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        log::warn!("cannot raise the limit of open files: {error}");
    }
}
