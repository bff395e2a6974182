//! `import`: takes the counts of an older program over into a dashboard, once, and takes them back. Runs on the main thread.
//!
//! An import is known by what it counts: its id is made of the videos and their plays. So the same file is the same import,
//! under whatever name and in whatever order; what broke off goes on, and a repeat changes nothing.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use argh::{ArgsInfo, FromArgs};
use nsq_protocol::thread::StopToken;
use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use crate::command::shared::csv::{CsvColumn, CsvTable, Lines, quoted};
use crate::command::shared::https;
use crate::command::shared::output::{OutputFormat, print, print_json};
use crate::command::shared::values;
use crate::model::title::{TextKind, check_text};
use crate::model::video::MAX_PLAYS;
use crate::model::video_id::VideoId;
use crate::model::words::{grouped, many, of_number};
use crate::wire::client::DashboardClient;
use crate::wire::{BATCH_MAX, ImportRow, ImportUpdate, ImportedCount, Imports};

/// takes the counts of an older program over from a CSV file: video_id,plays; they are added to what is counted here, once:
/// the same file again changes nothing, and goes on where it broke off; exit status 1 when a row was not taken
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "import", help_triggers("-h", "--help", "help"))]
pub(super) struct TakeOverArgs {
    /// the CSV file, in UTF-8; - is what is piped in; its first row may be a header with the names of the columns; with
    /// --undo also the id of an import
    #[argh(positional)]
    file: Option<String>,
    /// what the import is called in lists [default: the file's name]
    #[argh(option)]
    name: Option<String>,
    /// take the counts of the file, or of the import of that id, back
    #[argh(switch)]
    undo: bool,
    /// list the imports that the dashboard has
    #[argh(switch)]
    list: bool,
    /// say what would be done, and do nothing
    #[argh(switch)]
    dry_run: bool,
    /// the dashboard whose videos are meant [default: http://127.0.0.1:8000]
    #[argh(option, default = "values::DASHBOARD_URL.into()")]
    dashboard_url: String,
    /// PEM file of the certificate authorities of dashboards at https://, and no others [default: SSL_CERT_FILE, else
    /// those that browsers trust]
    #[argh(option)]
    dashboard_ca: Option<String>,
    /// the dashboard's token for writes; others see it in ps, but not --write-token-file
    /// or PLAYCOUNTS_WRITE_TOKEN [default: none]
    #[argh(option)]
    write_token: Option<String>,
    /// file that holds that token, for its owner alone (chmod 600) [default: none]
    #[argh(option)]
    write_token_file: Option<String>,
    /// print what was done, or the list, as one JSON object
    #[argh(switch)]
    json: bool,
}

/// The columns of the file.
const COLUMNS: &[CsvColumn] = &[
    CsvColumn { names: &["video_id", "id"], is_required: true },
    CsvColumn { names: &["plays"], is_required: true },
];

/// The most videos of a file: each is in memory, with 32 bytes and a long id's text.
const VIDEOS_MAX: usize = 20_000_000;

/// The call of imports.
const PATH: &str = "/api/imports";

/// What became of an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Done {
    /// Its counts are in the totals now.
    Imported,
    /// So they were before.
    Unchanged,
    /// They were taken back.
    Undone,
    /// They would be imported, or taken back: nothing was done.
    DryRun,
}

/// What was done, and with what.
#[derive(Debug, Serialize)]
struct TakeOverReport {
    import: Uuid,
    name: String,
    videos: u64,
    plays: u64,
    /// Rows that were told on stderr.
    refused: u64,
    done: Done,
}

/// What a file counts.
struct OldCounts {
    import: Uuid,
    name: String,
    counts: Vec<ImportedCount>,
    plays: u64,
    refused: u64,
}

/// Does it, and says what was done.
pub(super) fn run(args: TakeOverArgs, stop: &StopToken) -> Result<()> {
    let TakeOverArgs { file, name, undo, list, dry_run, dashboard_url, json, .. } = args;
    let format = OutputFormat::from_switch(json);
    let (ca, token, token_file) = (args.dashboard_ca, args.write_token, args.write_token_file);
    let dashboard = https::writable_dashboard(dashboard_url, ca, token, token_file)?;
    let file = match (file, list) {
        (None, true) if !undo && !dry_run && name.is_none() => {
            return print_list(&dashboard, format);
        }
        (_, true) => bail!("--list goes with nothing else: it tells the imports that are there"),
        (None, false) if undo => bail!(
            "--undo needs the file that was imported, or an import's id; --list tells the ids"
        ),
        (None, false) => bail!(
            "import needs the CSV file of an older program's counts; see playcounts import --help"
        ),
        (Some(file), false) => file,
    };
    let known = imports(&dashboard)?;
    if undo {
        return take_back(&dashboard, &known, &file, dry_run, format);
    }
    let old = OldCounts::read(&file, name)?;
    let done = match known.iter().find(|row| row.import == old.import) {
        Some(row) if old.is_all_in(row) => Done::Unchanged,
        found => {
            if found.is_none() {
                old.check_name(&known)?;
            }
            if !dry_run {
                old.send(&dashboard, stop)?;
            }
            if dry_run { Done::DryRun } else { Done::Imported }
        }
    };
    print_report(format, &old.report(done))?;
    match old.refused {
        0 => Ok(()),
        refused => bail!(
            "{} of {} not taken. Put the mended rows into a file of their own and import that: the whole file with other rows is another import",
            many(refused, "row"),
            old.name
        ),
    }
}

impl OldCounts {
    /// Reads a file; tells each row that is none.
    fn read(file: &str, name: Option<String>) -> Result<Self> {
        let mut table = CsvTable::open(file, COLUMNS)?;
        let called = Path::new(table.path()).file_name().unwrap_or_default().to_string_lossy();
        let name = name.unwrap_or_else(|| called.into_owned());
        check_text(TextKind::ImportName, &name)
            .map_err(|error| anyhow!("{error}; --name gives it another one"))?;
        let mut rows: Vec<(VideoId, u64, Lines)> = Vec::new();
        while let Some(row) = table.next()? {
            match counted(&row.fields) {
                Ok(_) if rows.len() == VIDEOS_MAX => {
                    bail!(
                        "{} has over {} videos; split it",
                        table.path(),
                        grouped(VIDEOS_MAX as u64)
                    )
                }
                Ok((video, plays)) => rows.push((video, plays, row.lines)),
                Err(why) => table.refuse_row(row.lines, &why),
            }
            if table.rows().is_multiple_of(PROGRESS_ROWS) {
                table.show_progress(many(table.rows(), "video"));
            }
        }
        // The first of several rows of a video stays, in its order.
        rows.sort_by(|(one, _, a), (other, _, b)| one.cmp(other).then(a.first.cmp(&b.first)));
        let mut counts: Vec<ImportedCount> = Vec::with_capacity(rows.len());
        let mut first = 0;
        for (video_id, plays, lines) in rows {
            if counts.last().is_some_and(|last| last.video_id == video_id) {
                let why = format!("video {video_id} stands on line {first} already");
                table.refuse_row(lines, &why);
                continue;
            }
            first = lines.first;
            counts.push(ImportedCount { video_id, plays });
        }
        let plays = sum(&counts).with_context(|| table.path().to_owned())?;
        if counts.is_empty() {
            bail!("{} has no counts of videos; its columns are video_id,plays", table.path());
        }
        Ok(Self { import: import_id(&counts), name, counts, plays, refused: table.refused() })
    }

    fn is_all_in(&self, row: &ImportRow) -> bool {
        (row.videos, row.plays) == (self.counts.len() as u64, self.plays)
    }

    /// Other counts under the same name are most likely the same file with changes, which would count twice.
    fn check_name(&self, known: &[ImportRow]) -> Result<()> {
        let Some(row) = known.iter().find(|row| row.name == self.name) else { return Ok(()) };
        bail!(
            "an import {} with other counts is there: {} of {}, since {}. If this is its newer version, take that back first: \
             playcounts import --undo {}; if not, give this one another --name",
            quoted(&row.name),
            many(row.plays, "play"),
            many(row.videos, "video"),
            row.at,
            row.import
        )
    }

    fn send(&self, dashboard: &DashboardClient, stop: &StopToken) -> Result<()> {
        let mut sent = 0_u64;
        for counts in self.counts.chunks(BATCH_MAX) {
            let again = || {
                format!(
                    "{} of {} are in; then it broke off. The same command again does the rest, and --undo takes it back",
                    many(sent, "video"),
                    self.name
                )
            };
            if stop.is_stopped() {
                return Err(anyhow!("stopped by a signal").context(again()));
            }
            let (import, name) = (self.import, self.name.clone());
            let update = ImportUpdate { import, name, counts: counts.to_vec() };
            dashboard.post(PATH, &update).map_err(knows_imports).with_context(again)?;
            sent += counts.len() as u64;
        }
        Ok(())
    }

    fn report(&self, done: Done) -> TakeOverReport {
        TakeOverReport {
            import: self.import,
            name: self.name.clone(),
            videos: self.counts.len() as u64,
            plays: self.plays,
            refused: self.refused,
            done,
        }
    }
}

/// How many rows are read between two looks at the progress.
const PROGRESS_ROWS: u64 = 10_000;

/// What a row says.
fn counted(fields: &[String]) -> Result<(VideoId, u64), String> {
    let [id, plays] = fields else { return Err("no count".to_owned()) };
    let video = VideoId::parse(id).map_err(|error| format!("{error}: {}", quoted(id)))?;
    match plays.trim().parse() {
        Ok(plays) if plays <= MAX_PLAYS => Ok((video, plays)),
        _ => Err(format!(
            "plays must be a whole number from 0 to {MAX_PLAYS}, not {}",
            quoted(plays)
        )),
    }
}

fn sum(counts: &[ImportedCount]) -> Result<u64> {
    let sum = counts.iter().try_fold(0_u64, |sum, count| sum.checked_add(count.plays));
    sum.filter(|sum| *sum <= MAX_PLAYS).with_context(|| {
        format!("its plays are over {MAX_PLAYS} altogether, which no dashboard counts")
    })
}

/// The id of an import: the same for the same counts, which are in the order of their videos.
fn import_id(counts: &[ImportedCount]) -> Uuid {
    let mut digest = Sha256::new_with_prefix("playcounts import\n");
    for ImportedCount { video_id, plays } in counts {
        // No id has a line's end.
        video_id.with_text(|text| digest.update(text));
        digest.update(format!("\n{plays}\n"));
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.finalize()[..16]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

fn imports(dashboard: &DashboardClient) -> Result<Vec<ImportRow>> {
    let Imports { imports } = dashboard.read(PATH).map_err(knows_imports)?;
    Ok(imports)
}

fn knows_imports(error: anyhow::Error) -> anyhow::Error {
    https::name_older_dashboard(error, "takes no imports")
}

/// Takes an import back, by its id or its file.
fn take_back(
    dashboard: &DashboardClient,
    known: &[ImportRow],
    file: &str,
    dry_run: bool,
    format: OutputFormat,
) -> Result<()> {
    let import = match Uuid::try_parse(file) {
        Ok(import) if !Path::new(file).exists() => import,
        _ => OldCounts::read(file, Some("import".to_owned()))?.import,
    };
    let Some(ImportRow { name, videos, plays, .. }) = known.iter().find(|row| row.import == import)
    else {
        bail!(
            "no import of {file} is there: nothing was changed; playcounts import --list tells those that are"
        )
    };
    if !dry_run {
        dashboard.delete(&format!("{PATH}/{import}")).map_err(knows_imports)?;
    }
    let done = if dry_run { Done::DryRun } else { Done::Undone };
    let (name, videos, plays) = (name.clone(), *videos, *plays);
    let report = TakeOverReport { import, name, videos, plays, refused: 0, done };
    match (format, done) {
        (OutputFormat::Text, Done::DryRun) => {
            print(format_args!("would take back import {}: {}", report.import, report.counts()))
        }
        _ => print_report(format, &report),
    }
}

impl TakeOverReport {
    fn counts(&self) -> String {
        let Self { name, videos, plays, .. } = self;
        format!("{} of {} from {name}", many(*plays, "play"), many(*videos, "video"))
    }
}

fn print_report(format: OutputFormat, report: &TakeOverReport) -> Result<()> {
    if format == OutputFormat::Json {
        return print_json(report);
    }
    let (import, counts) = (report.import, report.counts());
    match report.done {
        Done::Imported => print(format_args!(
            "imported {counts}; import {import}; playcounts import --undo {import} takes them back"
        )),
        Done::Unchanged => {
            print(format_args!("nothing was changed: import {import} is there already, {counts}"))
        }
        Done::Undone => print(format_args!("took back import {import}: {counts}")),
        Done::DryRun => print(format_args!("would import {counts}, as import {import}")),
    }
}

fn print_list(dashboard: &DashboardClient, format: OutputFormat) -> Result<()> {
    let imports = imports(dashboard)?;
    if format == OutputFormat::Json {
        return print_json(&Imports { imports });
    }
    for ImportRow { import, name, at, videos, plays } in &imports {
        print(format_args!(
            "{import} {at} {} of {} {name}",
            many(*plays, "play"),
            many(*videos, "video")
        ))?;
    }
    match imports.len() as u64 {
        0 => print(format_args!("no import is there")),
        count => {
            print(format_args!("{} {} there", many(count, "import"), of_number(count, "is", "are")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(id: &str, plays: u64) -> ImportedCount {
        ImportedCount { video_id: VideoId::parse(id).unwrap(), plays }
    }

    #[test]
    fn an_import_is_known_by_what_it_counts() {
        let id = import_id(&[count("a", 1), count("b", 2)]);
        assert_eq!(id, import_id(&[count("a", 1), count("b", 2)]));
        assert_eq!(id.get_version_num(), 8);
        for other in [vec![count("a", 1)], vec![count("a", 1), count("b", 3)], vec![count("a", 12)]]
        {
            assert_ne!(id, import_id(&other));
        }
        // As it is now, so that the imports of earlier versions are found again.
        assert_eq!(id.to_string(), "1a040cde-3e5e-81fc-bc09-9d2cdd7190c0");
    }

    #[test]
    fn plays_are_whole_numbers() {
        let read =
            |plays: &str| counted(&["a".to_owned(), plays.to_owned()]).map(|(_, plays)| plays);
        for (text, want) in [("0", 0), (" 5 ", 5), ("9007199254740991", MAX_PLAYS)] {
            assert_eq!(read(text), Ok(want), "{text}");
        }
        for text in ["", "-1", "1.5", "1,000", "9007199254740992", "99999999999999999999", "x"] {
            let why = read(text).unwrap_err();
            assert!(why.ends_with(&format!("to 9007199254740991, not {text:?}")), "{why}");
        }
        let long = counted(&["a".repeat(129), "1".to_owned()]).unwrap_err();
        assert!(long.starts_with("a video id has at most 128 bytes, not 129: \"aaa"), "{long}");
    }

    #[test]
    fn no_sum_is_over_what_a_dashboard_counts() {
        assert_eq!(sum(&[count("a", MAX_PLAYS - 1), count("b", 1)]).unwrap(), MAX_PLAYS);
        assert!(sum(&[count("a", MAX_PLAYS), count("b", 1)]).is_err());
    }
}
