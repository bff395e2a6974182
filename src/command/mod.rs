//! The commands: what may be typed, and what each does. Runs on the main thread.
//!
//! Each command is a file or folder: `…Args`, what may be typed, as argh takes it; `…Config`, what that means, checked
//! once; and `run`, which builds the parts from it, waits, and prints the result. Nothing outside of here sees argh.
//!
//! argh cannot share options between commands, and a macro that could would hide more than it saves: so an option that
//! several commands have stands in each of them, and a test holds their texts together. Those that every command has
//! are `CommonArgs`, which no command has to repeat. `options/` knows the rest of every option, and where its value
//! comes from; argh sees words only that were checked there.

mod backup;
mod bench;
mod broker;
mod check;
mod dashboard;
mod dead_letters;
mod health;
mod import;
#[cfg(feature = "postgres")]
mod ledger;
mod options;
mod process;
mod produce;
mod reset;
mod restore;
mod run;
mod shared;
#[cfg(test)]
mod tests;
mod titles;
mod verify;
mod video;

use anyhow::{Result, anyhow};
use argh::{ArgsInfo, FromArgs};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::broker::NSQD_VERSION;
use crate::command::options::catalogue::{Catalogue, CommandSpec, OptionSpec};
use crate::command::options::completions;
use crate::command::options::file::ConfigFile;
use crate::command::options::settings::{Settings, Sources, Variables, variables};
use crate::command::options::typed::{self, TypedCommand, TypedRequest};
use crate::command::options::{help, manual, markdown, show};
use crate::command::shared::log::{self as logs, LogFormat, LogLevel};
use crate::runtime::signals::SignalWatch;
use crate::runtime::watchdog;

/// Counts video plays from an NSQ queue, exactly, and shows them live.
///
/// `--flag value` and `--flag=value` both work. A duration is `30`, `30s`, `500ms`, `0.5`, `1m30s` or `2d`; a bare
/// number is seconds. Exit status: 0 done, 1 failed, 2 wrong usage.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("-h", "--help", "help"))]
struct Cli {
    #[argh(subcommand)]
    /// what to do
    command: Command,
}

/// what every command takes
#[derive(FromArgs, ArgsInfo, Debug)]
struct CommonArgs {
    /// file of options, in TOML: `playcounts help config` tells more [default: none]
    #[argh(option)]
    #[allow(dead_code, reason = "it is read before argh sees it")]
    config: Option<String>,
    /// what to log: off, fatal (the same), error, warn, info, debug or trace, also by module: warn,playcounts::ledger=debug [default: warn]
    #[argh(option, default = "LogLevel::default()")]
    log_level: LogLevel,
    /// how to log: text, json (one object a line) or journal (systemd's priorities, no time) [default: journal where
    /// stderr is the journal's, else text]
    #[argh(option)]
    log_format: Option<LogFormat>,
}

#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
#[allow(clippy::large_enum_variant, reason = "a process has one")]
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
    Titles(titles::TitlesArgs),
    Import(import::TakeOverArgs),
    Video(video::VideoArgs),
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
    /// Wrong usage or configuration: one line that says what is wrong; to stderr, exit status 2.
    Usage(String),
}

/// A command that was asked for, with its options.
#[derive(Debug)]
pub struct Invocation {
    command: Command,
    common: CommonArgs,
    /// Where the values stand that nobody typed.
    sources: Sources,
}

/// Parses the arguments behind the program's name, with the variables of the environment and the file that they name.
///
/// # Errors
/// [`EarlyExit`] with the text to print.
pub fn parse(args: &[String]) -> Result<Invocation, EarlyExit> {
    parse_with(args, &variables())
}

/// The same with these variables.
fn parse_with(args: &[String], variables: &Variables) -> Result<Invocation, EarlyExit> {
    let catalogue = catalogue();
    if args.is_empty() {
        return Err(EarlyExit::Usage(format!(
            "a command is missing\n\n{}",
            help::of_program(&catalogue)
        )));
    }
    let request = typed::read(&catalogue, args).map_err(EarlyExit::Usage)?;
    if let TypedRequest::Run(typed) = request {
        let settings = settings(&catalogue, typed, variables).map_err(EarlyExit::Usage)?;
        return invocation(&settings).map_err(EarlyExit::Usage);
    }
    let text = printed(&catalogue, request, variables).map_err(EarlyExit::Usage)?;
    Err(EarlyExit::Asked(text))
}

/// Every command with its options.
fn catalogue() -> Catalogue {
    Catalogue::new(Cli::get_args_info(), CommonArgs::get_args_info().flags)
}

/// Reads the text of a configuration file, as a command does that is started with it.
///
/// # Errors
/// One line that says what is wrong with it, and on which line.
pub fn check_config_text(text: &str) -> Result<(), String> {
    let catalogue = catalogue();
    let file = ConfigFile::parse("FILE", text, &catalogue)?;
    catalogue.commands.iter().try_for_each(|command| {
        let typed = TypedCommand::of(command);
        match Settings::merge(typed, &Variables::new(), Some(&file), &probe) {
            // What must be typed is no matter of the file.
            Err(error) if error.starts_with("FILE:") => Err(error),
            _ => Ok(()),
        }
    })
}

/// What holds for a command: typed, in the environment, in the file.
fn settings<'c>(
    catalogue: &Catalogue,
    typed: TypedCommand<'c>,
    variables: &Variables,
) -> Result<Settings<'c>, String> {
    let typed_path = typed.options.get("config").and_then(|paths| paths.first());
    let path = typed_path.or_else(|| variables.get("PLAYCOUNTS_CONFIG"));
    let file = path.map(|path| ConfigFile::read(path, catalogue)).transpose().map_err(|error| {
        match typed_path {
            Some(_) => error,
            None => error.replacen("--config ", "PLAYCOUNTS_CONFIG=", 1),
        }
    })?;
    Settings::merge(typed, variables, file.as_ref(), &probe)
}

/// What argh says of one value.
fn probe(command: &CommandSpec, option: &OptionSpec, value: &str) -> Result<(), String> {
    let flag = option.flag();
    let words = command.words();
    let words = match option.is_common {
        true => vec![flag.as_str(), value],
        false => [&words[..], &[flag.as_str(), value]].concat(),
    };
    let exit = match option.is_common {
        true => CommonArgs::from_args(&["playcounts"], &words).err(),
        false => Cli::from_args(&["playcounts"], &words).err(),
    };
    let start = format!("Error parsing option '{flag}' with value '{value}': ");
    match exit.as_ref().and_then(|exit| exit.output.strip_prefix(&start)) {
        Some(error) => Err(error.trim_end().to_owned()),
        None => Ok(()),
    }
}

/// The command that the settings are for.
fn invocation(settings: &Settings<'_>) -> Result<Invocation, String> {
    let (own, common) = settings.words();
    // Each value was taken before, and nothing is missing: what argh still says is of its own making.
    let said = |exit: argh::EarlyExit| exit.output.trim_end().replace('\n', ", ");
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let common: Vec<&str> = common.iter().map(String::as_str).collect();
    let cli = Cli::from_args(&["playcounts"], &own).map_err(said)?;
    let common = CommonArgs::from_args(&["playcounts"], &common).map_err(said)?;
    Ok(Invocation { command: cli.command, common, sources: settings.sources() })
}

/// What is printed for a request that runs no command.
fn printed(
    catalogue: &Catalogue,
    request: TypedRequest<'_>,
    variables: &Variables,
) -> Result<String, String> {
    Ok(match request {
        TypedRequest::Run(typed) => typed.command.name.clone(),
        TypedRequest::Config(mut typed) => {
            typed.misses_nothing = true;
            let settings = settings(catalogue, typed, variables)?;
            show::of_command(&settings) + &show::passed_over(catalogue, variables)
        }
        TypedRequest::ConfigOfAll(path) => {
            let tables = catalogue.commands.iter().map(|command| {
                let mut typed = TypedCommand::of(command);
                typed.options.extend(path.clone().map(|path| ("config", vec![path])));
                typed.misses_nothing = true;
                settings(catalogue, typed, variables).map(|settings| show::of_table(&settings))
            });
            let tables: Vec<String> = tables.collect::<Result<_, _>>()?;
            tables.join("\n") + &show::passed_over(catalogue, variables)
        }
        TypedRequest::Markdown => markdown::page(catalogue),
        TypedRequest::Completions(shell) => match completions::script(&shell) {
            Some(script) => script.to_owned(),
            None => {
                let shells: Vec<_> = completions::shells().collect();
                return Err(format!(
                    "there are completions for {}, and none for {shell:?}",
                    shells.join(", ")
                ));
            }
        },
        TypedRequest::Candidates(words) => completions::candidates(catalogue, &words),
        TypedRequest::Manual(Some(name)) if !manual::is_page(catalogue, &name) => {
            return Err(format!(
                "{name} has no manual page of its own: playcounts man tells of it"
            ));
        }
        TypedRequest::Manual(name) => manual::page(catalogue, name.as_deref()),
        TypedRequest::Help(None) => help::of_program(catalogue),
        TypedRequest::Help(Some(name)) => help::of(catalogue, &name),
        TypedRequest::Version => format!("playcounts {}\n", env!("CARGO_PKG_VERSION")),
        TypedRequest::NsqdVersion => {
            format!("nsqd v{NSQD_VERSION} (built w/playcounts-{})\n", env!("CARGO_PKG_VERSION"))
        }
    })
}

/// Runs a command to its end.
///
/// # Errors
/// One line, with its causes, that says what went wrong and what to do. Exit status 1.
pub fn run(invocation: Invocation) -> Result<()> {
    let Invocation { command, common, sources } = invocation;
    logs::start(&common.log_level, common.log_format.unwrap_or_else(LogFormat::of_stderr));
    raise_descriptor_limit();
    let (_signals, stop) = SignalWatch::start()?;
    let _watchdog = watchdog::start()?;
    let done = match command {
        Command::Run(args) => run::run(args, &stop),
        Command::Produce(args) => produce::run(args, &stop),
        Command::Process(args) => process::run(args, &stop),
        Command::Dashboard(args) => dashboard::run(args, &stop),
        Command::Broker(args) => broker::run(args, &stop),
        Command::Verify(args) => verify::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Reset(args) => reset::run(args),
        Command::DeadLetters(args) => dead_letters::run(&args, &stop),
        Command::Titles(args) => titles::run(args, &stop),
        Command::Import(args) => import::run(args, &stop),
        Command::Video(args) => video::run(args),
        Command::Health(args) => health::run(args),
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => restore::run(&args),
        #[cfg(feature = "postgres")]
        Command::Ledger(args) => ledger::run(&args),
        Command::Bench(args) => bench::run(args, &stop),
    };
    done.map_err(|error| anyhow!(sources.named_in(&format!("{error:#}"))))
}

/// Says on stderr why a command failed, in the format of its log.
pub fn tell_failure(error: &anyhow::Error) {
    logs::write(log::Level::Error, format_args!("playcounts: {error:#}"));
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
