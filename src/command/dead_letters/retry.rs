//! `dead-letters retry`: counts what is a play of the dead letters now. Runs on the main thread.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use argh::{ArgsInfo, FromArgs};
use nsq_protocol::thread::StopToken;

use super::each::{each_letter, no_ledger};
use super::reading::LetterReader;
use super::retry_report::{RetryReport, RetryWay};
use crate::command::shared::ledger_choice::{FILES, LedgerChoice};
use crate::command::shared::output::{OutputFormat, print_report};
use crate::command::shared::values::{self, HumanDuration};
use crate::ledger::{self, LedgerConfig, LetterRetry, MessageBudget};
use crate::model::play::{JsonPointer, PlayShape};
use crate::storage::data_dir::{DataDir, PROCESSOR};

/// counts, each once, what is a play of the dead letters by the options that are given now, and keeps the others; for files
/// the processor must be stopped, a shared ledger may be in use
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "retry", help_triggers("-h", "--help", "help"))]
pub(super) struct RetryArgs {
    // What bodies look like. Titles are not read: a processor tells them, with later plays.
    /// where a body has the video's id, as a JSON Pointer: empty for the whole body, else it begins with a slash
    /// [default: /video_id]
    #[argh(option, default = "PlayShape::default_video()")]
    video_field: JsonPointer,
    /// where a body has the time of the play, as a JSON Pointer: seconds to nanoseconds since 1970, or RFC 3339; a play
    /// without one has the time at which nsqd took it [default: /enqueued_at]
    #[argh(option, default = "PlayShape::default_time()")]
    time_field: JsonPointer,
    /// where a body has the play's own id, as a JSON Pointer: text or whole number of 1 to 128 bytes; plays of one id
    /// count once within a window: at least 10000 plays for each MiB of --message-window-mb, or 48 hours in PostgreSQL
    /// [default: none, /producer and /seq identify a play]
    #[argh(option)]
    id_field: Option<JsonPointer>,
    /// where a body has an array of plays, up to 10000, as a JSON Pointer: the other fields are then those of its
    /// elements [default: none, a body is a play or an array of them]
    #[argh(option)]
    plays_field: Option<JsonPointer>,
    /// how old a play's time may be to be believed; an older one is left out of the consumption times [default: 7d]
    #[argh(option, default = "values::TIME_WINDOW_BACK")]
    time_window_back: HumanDuration,
    /// how far ahead of this machine's clock it may be [default: 1m]
    #[argh(option, default = "values::TIME_WINDOW_AHEAD")]
    time_window_ahead: HumanDuration,
    /// where the counts are kept: files in --data-dir, or postgres://user@host:port/database, which any number of
    /// processors on one channel share; others see a password in it in ps, but not PGPASSWORD or PGPASSFILE
    /// [default: files]
    #[argh(option, default = "FILES.into()")]
    ledger: String,
    /// directory of the ledger [default: playcounts-data]
    #[argh(option, default = "values::DATA_DIR.into()")]
    data_dir: String,
    /// take a ledger in files that was made on another machine, whose processor will never run again
    #[argh(switch)]
    adopt_ledger: bool,
    /// change nothing, and tell what would be done; also while a processor runs
    #[argh(switch)]
    dry_run: bool,
    /// print the report as one JSON object on one line, and nothing else on stdout
    #[argh(switch)]
    json: bool,
}

/// Does it, and says what was done, also where it was stopped or failed in the middle.
pub(super) fn run(args: &RetryArgs, stop: &StopToken) -> Result<()> {
    let choice = LedgerChoice::parse(&args.ledger)?;
    let window = values::time_window(args.time_window_back, args.time_window_ahead);
    let shape = PlayShape {
        plays: args.plays_field.clone(),
        video: args.video_field.clone(),
        time: args.time_field.clone(),
        id: args.id_field.clone(),
        title: None,
    };
    let mut reader = LetterReader::new(&shape, window);
    let format = OutputFormat::from_switch(args.json);
    if args.dry_run {
        let mut report = RetryReport::new(RetryWay::DryRun);
        each_letter(&choice, &args.data_dir, |letter| {
            report.add_verdict(&reader.judge(&letter));
            if stop.wait(Duration::ZERO) {
                bail!("stopped before the end");
            }
            Ok(())
        })?;
        return print_report(format, &report.finished());
    }
    match choice {
        LedgerChoice::Files => retry_files(args, &mut reader, stop),
        #[cfg(feature = "postgres")]
        LedgerChoice::Postgres(database) => {
            let opened = ledger::SharedRetry::open(&database);
            let ledger = opened.context("the shared ledger cannot be opened")?;
            let report = RetryReport::new(RetryWay::Shared { processor: ledger.processor() });
            retry(Box::new(ledger), report, &mut reader, format, stop)
        }
    }
}

fn retry_files(args: &RetryArgs, reader: &mut LetterReader, stop: &StopToken) -> Result<()> {
    let data_dir = &args.data_dir;
    if !ledger::exists(Path::new(data_dir)) {
        return Err(no_ledger(data_dir));
    }
    let opened = DataDir::open(data_dir)?;
    let _lock = opened.lock(PROCESSOR).context(
        "dead letters of a ledger in files are counted while its processor is stopped: stop it, retry, and start it again",
    )?;
    let ledger = ledger::open_to_retry(&LedgerConfig {
        directory: opened.path().to_owned(),
        simulation: false,
        adopt: args.adopt_ledger,
        // What its processor remembers is not to be forgotten here.
        message_budget: MessageBudget::from_mb(MessageBudget::MAX_MB),
    })?;
    let report = RetryReport::new(RetryWay::Files { data_dir: data_dir.clone() });
    retry(ledger, report, reader, OutputFormat::from_switch(args.json), stop)
}

/// Looks at all letters that there are now. Those that other parts of letters become are not looked at twice.
fn retry(
    mut ledger: Box<dyn LetterRetry>,
    mut report: RetryReport,
    reader: &mut LetterReader,
    format: OutputFormat,
    stop: &StopToken,
) -> Result<()> {
    let behind = ledger.newest_letter()? + 1;
    let (mut next, mut is_stopped) = (1, false);
    let done = loop {
        match ledger.retry_next(next..behind, &mut |letter| reader.judge(letter)) {
            Ok(Some(retried)) => {
                next = retried.last + 1;
                report.add(retried);
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
        is_stopped = stop.wait(Duration::ZERO);
        if is_stopped {
            break Ok(());
        }
    };
    let done = done.and_then(|()| ledger.finish());
    print_report(format, &report.finished())?;
    done.context(
        "what was counted is safe, and its letters are gone: run it again for the others",
    )?;
    if is_stopped {
        bail!("stopped before the end: run it again for the other letters");
    }
    Ok(())
}
