//! The log: how much of it, and how its lines are written. All goes to stderr.

use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::str::FromStr;
use std::sync::OnceLock;

use env_logger::fmt::Formatter;
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::model::plain_text::PlainText;
use crate::runtime::{clock, log_level};

/// The words of levels.
const LEVELS: &str = "off, fatal, error, warn, info, debug, trace";

/// How much to log: of all, and of single modules: `warn,playcounts::ledger=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogLevel {
    all: LevelFilter,
    modules: Vec<(String, LevelFilter)>,
}

impl Default for LogLevel {
    fn default() -> Self {
        Self { all: LevelFilter::Warn, modules: Vec::new() }
    }
}

impl FromStr for LogLevel {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut made = Self::default();
        for word in text.split(',').map(str::trim) {
            let level = |text: &str| match text.trim() {
                // nsqd's word. What ends the program is told in any case.
                text if text.eq_ignore_ascii_case("fatal") => Ok(LevelFilter::Off),
                text => text.parse().map_err(|_| {
                    format!(
                        "must be one of {LEVELS}, or with modules warn,playcounts::ledger=debug"
                    )
                }),
            };
            match word.split_once('=') {
                Some((module, of)) => {
                    let module = module.trim();
                    let is_path = |c: char| c.is_ascii_alphanumeric() || "_:".contains(c);
                    if module.is_empty() || !module.chars().all(is_path) {
                        return Err("a module is written as playcounts::ledger".to_owned());
                    }
                    made.modules.push((module.to_owned(), level(of)?));
                }
                None => made.all = level(word)?,
            }
        }
        Ok(made)
    }
}

/// How lines of the log are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people: `[time level module] text`.
    Text,
    /// One JSON object a line: `time`, `level`, `target`, `message`.
    Json,
    /// For systemd's journal, which keeps the time itself: a priority in front, `<4>module: text`.
    Journal,
}

impl LogFormat {
    const ALL: [(&str, Self); 3] =
        [("text", Self::Text), ("json", Self::Json), ("journal", Self::Journal)];

    /// The journal's where stderr is the journal's, else text.
    pub(crate) fn of_stderr() -> Self {
        let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        // As sd_journal_stream_fd(3) says: device and inode of what stderr is connected to.
        let numbers = stream.split_once(':');
        let numbers =
            numbers.and_then(|(dev, inode)| Some((dev.parse().ok()?, inode.parse().ok()?)));
        let stat = rustix::fs::fstat(io::stderr().as_fd()).ok();
        match numbers.zip(stat) {
            Some((named, stat)) if named == (stat.st_dev, stat.st_ino) => Self::Journal,
            _ => Self::Text,
        }
    }
}

impl FromStr for LogFormat {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(name, _)| *name == text);
        known.map(|(_, format)| *format).ok_or_else(|| "must be text, json or journal".to_owned())
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Self::ALL.iter().find(|(_, format)| format == self);
        f.write_str(known.map_or("", |(name, _)| name))
    }
}

/// The format of this process, once its log has started.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Starts the log of this process.
pub(crate) fn start(level: &LogLevel, format: LogFormat) {
    let format = *FORMAT.get_or_init(|| format);
    let logger = |level: &LogLevel| {
        let mut builder = env_logger::Builder::new();
        builder.filter_level(level.all);
        for (module, level) in &level.modules {
            builder.filter_module(module, *level);
        }
        builder.format(match format {
            LogFormat::Text => text_line,
            LogFormat::Json => json_line,
            LogFormat::Journal => journal_line,
        });
        builder.build()
    };
    let everything = LogLevel { all: LevelFilter::Trace, modules: Vec::new() };
    let asked = logger(level);
    log::set_max_level(asked.filter());
    // A second start of one process keeps the first one's.
    let _ = log::set_boxed_logger(Box::new(ChangingLogger { asked, all: logger(&everything) }));
}

/// Logs what was asked for at the start, or what is asked for now.
struct ChangingLogger {
    asked: env_logger::Logger,
    /// Writes whatever it is given.
    all: env_logger::Logger,
}

impl Log for ChangingLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        match log_level::changed() {
            None => self.asked.enabled(metadata),
            Some(level) => metadata.level() <= level,
        }
    }

    fn log(&self, record: &Record<'_>) {
        match log_level::changed() {
            None => self.asked.log(record),
            Some(level) if record.level() <= level => self.all.log(record),
            Some(_) => {}
        }
    }

    fn flush(&self) {
        self.asked.flush();
    }
}

/// For people. Its colours are the terminal's; what it says has none.
fn text_line(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let (now, style) = (out.timestamp(), out.default_level_style(record.level()));
    let (level, target) = (record.level(), PlainText::Line(record.target()));
    let said = PlainText::Line(record.args());
    writeln!(out, "[{now} {style}{level:<5}{style:#} {target}] {said}")
}

fn json_line(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    writeln!(out, "{}", json(record.level(), record.target(), record.args()))
}

fn json(level: Level, target: &str, message: impl fmt::Display) -> impl fmt::Display {
    let line = serde_json::json!({
        "time": clock::unix_ms().to_string(),
        "level": level.as_str().to_lowercase(),
        "target": target,
        "message": message.to_string(),
    });
    PlainText::Json(line.to_string())
}

/// Writes a line that is no record of the log, such as what a part is connected to or why it ended: in the log's format,
/// so that who reads stderr finds one. As text it is bare.
pub(crate) fn write(level: Level, message: impl fmt::Display) {
    let mut stderr = io::stderr();
    // A closed stderr is no reason to stop.
    let _ = match FORMAT.get() {
        None | Some(LogFormat::Text) => writeln!(stderr, "{}", PlainText::Line(message)),
        Some(LogFormat::Json) => {
            writeln!(stderr, "{}", json(level, env!("CARGO_PKG_NAME"), message))
        }
        Some(LogFormat::Journal) => {
            writeln!(stderr, "<{}>{}", priority(level), PlainText::Line(message))
        }
    };
}

fn journal_line(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let (priority, target) = (priority(record.level()), PlainText::Line(record.target()));
    writeln!(out, "<{priority}>{target}: {}", PlainText::Line(record.args()))
}

/// The priority of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_of_all_and_of_modules() {
        let level = |text: &str| text.parse::<LogLevel>();
        let modules = |text: &str| level(text).map(|level| (level.all, level.modules)).unwrap();
        assert_eq!(level("warn").unwrap(), LogLevel::default());
        assert_eq!(modules("off"), (LevelFilter::Off, vec![]));
        assert_eq!(modules("fatal"), (LevelFilter::Off, vec![]));
        let debug = |module: &str| (module.to_owned(), LevelFilter::Debug);
        assert_eq!(
            modules("playcounts::ledger=debug"),
            (LevelFilter::Warn, vec![debug("playcounts::ledger")])
        );
        let both = modules("info, playcounts::ledger=debug,nsq_protocol=DEBUG");
        assert_eq!(
            both,
            (LevelFilter::Info, vec![debug("playcounts::ledger"), debug("nsq_protocol")])
        );
        for wrong in
            ["", "loud", "warn,", "playcounts=", "=debug", "a b=debug", "warn/x", "a=b=debug"]
        {
            assert!(level(wrong).is_err(), "{wrong:?}");
        }
    }
}
