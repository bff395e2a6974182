//! The configuration file: TOML, whose keys are the names of options. Keys at the top hold for every command that has such
//! an option, those of a table with a command's name for that command. What is wrong is told with its line. A file of nsqd
//! is one, too: its keys stand at the top, and those that are no names of options are known beside them.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::catalogue::{Catalogue, CommandSpec, HIDDEN, OptionSpec};
use super::kind::{ValueKind, go_bool};
use super::suggest::{hint, nearest};

/// The largest file that is read, in bytes: one that sets every option of every command is below 100 KiB.
const FILE_MAX: u64 = 1 << 20;

/// The permissions of those who are neither its owner nor of its group.
const OTHERS: u32 = 0o007;

/// A file that was read: every key in it is that of an option.
#[derive(Clone, Debug)]
pub(crate) struct ConfigFile {
    /// Its path, as it was given.
    pub(crate) path: Arc<str>,
    entries: Vec<FileEntry>,
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(crate) struct FileEntry {
    /// The table that it stands in; `None`: the top.
    table: Option<String>,
    key: String,
    /// From 1.
    pub(crate) line: usize,
    value: FileValue,
}

/// The value of a key.
#[derive(Clone, Debug)]
enum FileValue {
    One(Scalar),
    List(Vec<Scalar>),
}

/// A single value, as an option on a command line would have it.
#[derive(Clone, Debug)]
enum Scalar {
    Switch(bool),
    Number(String),
    Text(String),
}

impl ConfigFile {
    /// Reads it.
    ///
    /// # Errors
    /// One line, with path and line: it cannot be read, is no TOML, has a key that is no option's, or holds a secret that
    /// others may read.
    pub(crate) fn read(path: &str, catalogue: &Catalogue) -> Result<Self, String> {
        let cannot = |error: std::io::Error| format!("cannot read --config {path}: {error}");
        let file = File::open(path).map_err(cannot)?;
        let metadata = file.metadata().map_err(cannot)?;
        if metadata.is_dir() {
            return Err(format!("--config {path} is a directory: name a file in it"));
        }
        let mut bytes = Vec::new();
        file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
        if bytes.len() as u64 > FILE_MAX {
            return Err(format!(
                "--config {path} is over {FILE_MAX} bytes: no configuration is that long"
            ));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let line = line_of(error.as_bytes(), valid);
            format!("{path}:{line}: this is not UTF-8, which TOML is written in")
        })?;
        let file = Self::parse(path, &text, catalogue)?;
        let secret = file.entries.iter().find(|entry| entry.is_secret(catalogue));
        if let Some(entry) = secret.filter(|_| metadata.permissions().mode() & OTHERS != 0) {
            return Err(format!(
                "{path}:{}: everybody on this machine may use this file, and {} is a secret: chmod 640 {path}, or 600, fixes that",
                entry.line, entry.key
            ));
        }
        Ok(file)
    }

    /// Reads the text of one. (pure)
    ///
    /// # Errors
    /// As [`read`](Self::read); the first thing that is wrong.
    pub(crate) fn parse(path: &str, text: &str, catalogue: &Catalogue) -> Result<Self, String> {
        let document = DeTable::parse(text).map_err(|error| {
            let line = line_of(text.as_bytes(), error.span().map_or(0, |span| span.start));
            format!("{path}:{line}: {}", error.message().replace('\n', ", "))
        })?;
        let mut reader = FileReader { catalogue, text, entries: Vec::new(), wrong: Vec::new() };
        for (key, value) in document.get_ref() {
            let DeValue::Table(table) = value.get_ref() else {
                reader.take(None, key, value);
                continue;
            };
            let name = key.get_ref();
            match catalogue.commands.iter().find(|command| command.table() == **name) {
                Some(command) => {
                    table.iter().for_each(|(key, value)| reader.take(Some(command), key, value));
                }
                None => reader.wrong.push((reader.line(key), no_table(catalogue, name))),
            }
        }
        // The keys come sorted by their names.
        match reader.wrong.into_iter().min() {
            Some((line, error)) => Err(format!("{path}:{line}: {error}")),
            None => Ok(Self { path: path.into(), entries: reader.entries }),
        }
    }

    /// What it says of an option: the command's own table comes before the top.
    pub(crate) fn entry(&self, command: &CommandSpec, option: &OptionSpec) -> Option<&FileEntry> {
        let (table, key) = (command.table(), option.key());
        let of = |wanted: Option<&str>| {
            self.entries.iter().find(|entry| entry.table.as_deref() == wanted && entry.key == key)
        };
        of(Some(&table)).or_else(|| of(None))
    }
}

/// The number of the line in which a byte stands.
fn line_of(text: &[u8], byte: usize) -> usize {
    let before = text.get(..byte).unwrap_or(text);
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// A key or table's name, and where it stands.
type FileKey<'i> = Spanned<Cow<'i, str>>;

/// Takes the keys of a document together, and what is wrong with them.
struct FileReader<'r> {
    catalogue: &'r Catalogue,
    text: &'r str,
    entries: Vec<FileEntry>,
    /// By the line.
    wrong: Vec<(usize, String)>,
}

impl FileReader<'_> {
    fn line(&self, key: &FileKey<'_>) -> usize {
        line_of(self.text.as_bytes(), key.span().start)
    }

    fn take(
        &mut self,
        table: Option<&CommandSpec>,
        key: &FileKey<'_>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let line = self.line(key);
        match entry(self.catalogue, table, key.get_ref(), value.get_ref()) {
            Ok(value) => {
                let table = table.map(CommandSpec::table);
                let key = own_key(key.get_ref()).to_owned();
                let is_same = |entry: &&FileEntry| entry.table == table && entry.key == key;
                match self.entries.iter().find(is_same) {
                    Some(same) => {
                        let error =
                            format!("{key} is given in line {} already", same.line.min(line));
                        self.wrong.push((line.max(same.line), error));
                    }
                    None => self.entries.push(FileEntry { table, key, line, value }),
                }
            }
            Err(error) => self.wrong.push((line, error)),
        }
    }
}

impl FileEntry {
    /// Its values, as they would stand behind the option's flag.
    ///
    /// # Errors
    /// What they must be.
    pub(crate) fn values(
        &self,
        command: &CommandSpec,
        option: &OptionSpec,
    ) -> Result<Vec<String>, String> {
        let values: Vec<&Scalar> = match &self.value {
            // nsqd cuts a text where it wants a list, and leaves the texts of a list whole.
            FileValue::One(Scalar::Text(text))
                if command.is_nsqd()
                    && option.is_repeatable
                    && option.row.kind == ValueKind::Address =>
            {
                return Ok(text.split(',').map(str::to_owned).collect());
            }
            FileValue::One(value) => vec![value],
            FileValue::List(values) => values.iter().collect(),
        };
        if values.len() != 1 && !option.is_repeatable {
            return Err(format!(
                "{} must be one value, and this is a list of {}",
                self.key,
                values.len()
            ));
        }
        values.into_iter().map(|value| value.text(command, option)).collect()
    }

    fn is_secret(&self, catalogue: &Catalogue) -> bool {
        let values = match &self.value {
            FileValue::One(value) => std::slice::from_ref(value),
            FileValue::List(values) => values,
        };
        let secrecy = option_of(catalogue, None, &self.key).map(|option| option.row.secrecy);
        secrecy.is_some_and(|secrecy| {
            values.iter().any(|value| matches!(value, Scalar::Text(text) if secrecy.hides(text)))
        })
    }
}

impl Scalar {
    fn of(value: &DeValue<'_>) -> Option<Self> {
        match value {
            DeValue::Boolean(value) => Some(Self::Switch(*value)),
            DeValue::String(text) => Some(Self::Text(text.to_string())),
            DeValue::Float(number) => Some(Self::Number(number.as_str().to_owned())),
            DeValue::Integer(number) => {
                let decimal = i64::from_str_radix(number.as_str(), number.radix());
                // What is too large is shown as it stands, and refused as out of range.
                Some(Self::Number(
                    decimal.map_or_else(|_| number.to_string(), |number| number.to_string()),
                ))
            }
            DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
        }
    }

    fn text(&self, command: &CommandSpec, option: &OptionSpec) -> Result<String, String> {
        let (kind, key) = (option.row.kind, option.key());
        let is_on_or_off = kind == ValueKind::Switch || kind.stands_alone();
        // nsqd reads a text there as its flags do.
        if let Self::Text(text) = self
            && command.is_nsqd()
            && is_on_or_off
            && let Some(value) = go_bool(text)
        {
            return Ok(value.to_owned());
        }
        match self {
            Self::Switch(value) if is_on_or_off => Ok(value.to_string()),
            _ if kind == ValueKind::Switch => {
                Err(format!("{key} must be true or false, without quotes"))
            }
            Self::Number(number) if kind.is_number() => Ok(number.clone()),
            Self::Text(text) if text == HIDDEN => Err(format!(
                "{key} is {HIDDEN} here, as `playcounts config` shows it: put the secret itself there"
            )),
            Self::Text(text) => Ok(text.clone()),
            _ => Err(format!("{key} must be text in quotes")),
        }
    }
}

/// What a key holds.
fn entry(
    catalogue: &Catalogue,
    table: Option<&CommandSpec>,
    key: &str,
    value: &DeValue<'_>,
) -> Result<FileValue, String> {
    if option_of(catalogue, table, key).is_none() {
        return Err(no_key(catalogue, table, key));
    }
    let no_value = || format!("{key} must be a value or a list of values");
    match value {
        DeValue::Array(values) => {
            let values =
                values.iter().map(|value| Scalar::of(value.get_ref()).ok_or_else(no_value));
            values.collect::<Result<_, _>>().map(FileValue::List)
        }
        value => Scalar::of(value).map(FileValue::One).ok_or_else(no_value),
    }
}

/// The option of that key, of a command or of any.
fn option_of<'c>(
    catalogue: &'c Catalogue,
    table: Option<&'c CommandSpec>,
    key: &str,
) -> Option<&'c OptionSpec> {
    // A file names no other file.
    if key.contains('-') || key == "config" {
        return None;
    }
    let name = own_key(key).replace('_', "-");
    match table {
        Some(command) => command.option(&name),
        None => catalogue.any_option(&name),
    }
}

/// Keys of nsqd's files that are not the names of its flags.
const NSQD_KEYS: [(&str, &str); 4] = [
    ("id", "node_id"),
    ("nsqlookupd_tcp_addresses", "lookupd_tcp_address"),
    ("auth_http_addresses", "auth_http_address"),
    ("e2e_processing_latency_percentiles", "e2e_processing_latency_percentile"),
];

/// The key as the option's name has it.
fn own_key(key: &str) -> &str {
    NSQD_KEYS.iter().find(|(nsqd, _)| *nsqd == key).map_or(key, |(_, own)| own)
}

/// Why a key is none.
fn no_key(catalogue: &Catalogue, table: Option<&CommandSpec>, key: &str) -> String {
    if key == "config" {
        return "a file cannot name another one: config is not a key".to_owned();
    }
    let commands = catalogue
        .commands
        .iter()
        .filter(|command| table.is_none_or(|table| table.name == command.name));
    let mut known: Vec<String> =
        commands.flat_map(|command| command.options.iter().map(OptionSpec::key)).collect();
    let (error, also) = match table {
        Some(table) => {
            let has = |command: &&CommandSpec| command.option(&key.replace('_', "-")).is_some();
            let others: Vec<String> =
                catalogue.commands.iter().filter(has).map(CommandSpec::table).collect();
            let also = (!others.is_empty() && !key.contains('-'))
                .then(|| format!(": it is one of {}", others.join(", ")));
            (format!("{} has no option {key}", table.name), also)
        }
        None => {
            known.extend(catalogue.commands.iter().map(|command| format!("[{}]", command.table())));
            (format!("no command has an option {key}"), None)
        }
    };
    let meant = nearest(key, known.iter().map(String::as_str)).map(str::to_owned);
    also.map_or_else(|| format!("{error}{}", hint(meant)), |also| format!("{error}{also}"))
}

/// Why a table is none.
fn no_table(catalogue: &Catalogue, name: &str) -> String {
    let known: Vec<String> = catalogue.commands.iter().map(CommandSpec::table).collect();
    let meant = nearest(name, known.iter().map(String::as_str)).map(|name| format!("[{name}]"));
    format!("there is no command for [{name}]{}", hint(meant))
}
