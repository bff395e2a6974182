//! `titles`: gives the videos of a dashboard titles and links from a CSV file, and writes one of them. Runs on the main
//! thread.

use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};

use anyhow::{Context, Result, anyhow, bail};
use argh::{ArgsInfo, FromArgs};
use nsq_protocol::thread::StopToken;
use serde::Serialize;

use crate::command::shared::csv::{CsvColumn, CsvTable, quoted};
use crate::command::shared::https;
use crate::command::shared::output::{OutputFormat, print, print_json};
use crate::command::shared::values;
use crate::model::video_id::VideoId;
use crate::model::words::many;
use crate::wire::client::DashboardClient;
use crate::wire::{BATCH_MAX, TitledVideo, VideoTexts, VideosUpdate};

/// gives the videos of a dashboard titles and links from a CSV file, or writes such a file
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "titles", help_triggers("-h", "--help", "help"))]
pub(super) struct TitlesArgs {
    #[argh(subcommand)]
    /// what to do
    command: TitlesCommand,
}

#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
enum TitlesCommand {
    Import(TitlesImportArgs),
    Export(TitlesExportArgs),
}

/// gives videos the titles and links of a CSV file: video_id,title,url; a row that is none is told with its line, and the
/// others are taken; the same file again changes nothing; exit status 1 when a row was not taken
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "import", help_triggers("-h", "--help", "help"))]
struct TitlesImportArgs {
    /// the CSV file, in UTF-8; - is what is piped in; its first row may be a header with the names of the columns
    #[argh(positional)]
    file: String,
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
    /// print how many were taken and refused as one JSON object
    #[argh(switch)]
    json: bool,
}

/// writes the titles and links of all videos that have any to stdout, as the CSV file that `titles import` takes
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "export", help_triggers("-h", "--help", "help"))]
struct TitlesExportArgs {
    /// the dashboard whose videos are meant [default: http://127.0.0.1:8000]
    #[argh(option, default = "values::DASHBOARD_URL.into()")]
    dashboard_url: String,
    /// PEM file of the certificate authorities of dashboards at https://, and no others [default: SSL_CERT_FILE, else
    /// those that browsers trust]
    #[argh(option)]
    dashboard_ca: Option<String>,
    /// the dashboard's token for reads, where it is private; others see it in ps, but not --read-token-file
    /// or PLAYCOUNTS_READ_TOKEN [default: none]
    #[argh(option)]
    read_token: Option<String>,
    /// file that holds that token, for its owner alone (chmod 600) [default: none]
    #[argh(option)]
    read_token_file: Option<String>,
}

/// The columns of the file.
const COLUMNS: &[CsvColumn] = &[
    CsvColumn { names: &["video_id", "id"], is_required: true },
    CsvColumn { names: &["title"], is_required: true },
    CsvColumn { names: &["url"], is_required: false },
];

/// The most of a batch, in bytes of its JSON: half of what a dashboard reads. Very long titles and URLs fill it before
/// [`BATCH_MAX`] does.
const BATCH_BYTES: usize = 512 * 1024;

/// What was done with a file.
#[derive(Serialize)]
struct TitlesReport {
    /// Rows whose title and link are the video's now.
    taken: u64,
    /// Rows that were told on stderr.
    refused: u64,
}

/// Does it, and says what was done.
pub(super) fn run(args: TitlesArgs, stop: &StopToken) -> Result<()> {
    match args.command {
        TitlesCommand::Import(args) => import(args, stop),
        TitlesCommand::Export(args) => export(args),
    }
}

fn import(args: TitlesImportArgs, stop: &StopToken) -> Result<()> {
    let TitlesImportArgs { file, dashboard_url, dashboard_ca, write_token, write_token_file, json } =
        args;
    let dashboard =
        https::writable_dashboard(dashboard_url, dashboard_ca, write_token, write_token_file)?;
    let mut table = CsvTable::open(&file, COLUMNS)?;
    let mut batches = Batches { dashboard, stop, videos: Vec::new(), bytes: 0, taken: 0 };
    while let Some(row) = table.next()? {
        match titled(&row.fields) {
            Ok(video) => batches.add(video, &table)?,
            Err(why) => table.refuse_row(row.lines, &why),
        }
    }
    batches.send(&table)?;
    let report = TitlesReport { taken: batches.taken, refused: table.refused() };
    let taken = many(report.taken, "video");
    match OutputFormat::from_switch(json) {
        OutputFormat::Json => print_json(&report)?,
        OutputFormat::Text => {
            print(format_args!("{taken} of {} got title and link", table.path()))?
        }
    }
    match report.refused {
        0 => Ok(()),
        refused => bail!(
            "{} of {} not taken: mend them, and give the file again; what is taken already does not change by that",
            many(refused, "row"),
            table.path()
        ),
    }
}

/// What a row says.
fn titled(fields: &[String]) -> Result<TitledVideo, String> {
    let [id, title, url] = fields else { return Err("no video".to_owned()) };
    let video_id = VideoId::parse(id).map_err(|error| format!("{error}: {}", quoted(id)))?;
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    let texts = VideoTexts { title: some(title), url: some(url) };
    texts.check().map_err(|error| error.to_string())?;
    let VideoTexts { title, url } = texts;
    Ok(TitledVideo { video_id, title, url })
}

/// Sends videos by as many as a dashboard takes at a time.
struct Batches<'a> {
    dashboard: DashboardClient,
    stop: &'a StopToken,
    videos: Vec<TitledVideo>,
    bytes: usize,
    taken: u64,
}

impl Batches<'_> {
    fn add(&mut self, video: TitledVideo, table: &CsvTable) -> Result<()> {
        let bytes = serde_json::to_vec(&video)?.len() + 1;
        if self.videos.len() == BATCH_MAX || self.bytes + bytes > BATCH_BYTES {
            self.send(table)?;
        }
        self.bytes += bytes;
        self.videos.push(video);
        Ok(())
    }

    fn send(&mut self, table: &CsvTable) -> Result<()> {
        if self.videos.is_empty() {
            return Ok(());
        }
        let videos = std::mem::take(&mut self.videos);
        let (so_far, sent) = (self.taken, videos.len() as u64);
        self.bytes = 0;
        let again = || {
            format!(
                "{} of {} got title and link; then it broke off. The same command again does the rest",
                many(so_far, "video"),
                table.path()
            )
        };
        if self.stop.is_stopped() {
            return Err(anyhow!("stopped by a signal").context(again()));
        }
        self.dashboard
            .post("/api/videos", &VideosUpdate { videos })
            .map_err(knows_titles)
            .with_context(again)?;
        self.taken += sent;
        table.show_progress(many(self.taken, "video"));
        Ok(())
    }
}

fn knows_titles(error: anyhow::Error) -> anyhow::Error {
    https::name_older_dashboard(error, "knows no titles")
}

/// The most of a line that is held before it is written, in bytes.
const PIECE: usize = 64 * 1024;

fn export(args: TitlesExportArgs) -> Result<()> {
    let TitlesExportArgs { dashboard_url, dashboard_ca, read_token, read_token_file } = args;
    let dashboard =
        https::readable_dashboard(dashboard_url, dashboard_ca, read_token, read_token_file)?;
    let titles = dashboard.download("/api/videos.csv").map_err(knows_titles)?;
    let mut titles = BufReader::with_capacity(PIECE, titles);
    let broken = || format!("{} broke off its answer; what is written is not all", dashboard.url());
    let mut stdout = io::stdout().lock();
    // What strangers write may not steer a terminal; a file is to have it as it is.
    if stdout.is_terminal() {
        drop(stdout);
        let mut line = Vec::new();
        while titles
            .by_ref()
            .take(PIECE as u64)
            .read_until(b'\n', &mut line)
            .with_context(broken)?
            > 0
        {
            print(format_args!("{}", String::from_utf8_lossy(&line).trim_end()))?;
            line.clear();
        }
        return Ok(());
    }
    loop {
        let piece = titles.fill_buf().with_context(broken)?;
        if piece.is_empty() {
            return stdout.flush().context("cannot write the result to stdout");
        }
        let len = piece.len();
        stdout.write_all(piece).context("cannot write the result to stdout")?;
        titles.consume(len);
    }
}
