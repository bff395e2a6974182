//! What of a dashboard is secret, its tokens for writes and for reads, and the URL of its webhook: from a file, from the environment, or as they were typed.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, bail};

/// Which of them.
struct Kind {
    /// Its option; the file's has `-file` behind it.
    option: &'static str,
    /// The variable that holds the token where no option does.
    variable: &'static str,
    /// What it is called.
    name: &'static str,
}

const WRITE: Kind =
    Kind { option: "--write-token", variable: "PLAYCOUNTS_WRITE_TOKEN", name: "write token" };

const READ: Kind =
    Kind { option: "--read-token", variable: "PLAYCOUNTS_READ_TOKEN", name: "read token" };

const WEBHOOK: Kind =
    Kind { option: "--alert-webhook", variable: "PLAYCOUNTS_ALERT_WEBHOOK", name: "webhook's URL" };

/// The largest file that is read for one, in bytes: each is a line.
const FILE_MAX: u64 = 4096;

/// The token of `--write-token`, or of the file of `--write-token-file`, or of `PLAYCOUNTS_WRITE_TOKEN`. `None`: none of
/// them is given.
///
/// A file that others may read is warned of. The newline at its end is no part of the token.
///
/// # Errors
/// Two options are given; the file cannot be read; what is given is empty, or not printable ASCII without spaces.
pub(crate) fn write_token(typed: Option<String>, file: Option<String>) -> Result<Option<String>> {
    token(&WRITE, typed, file)
}

/// The same of `--read-token`, `--read-token-file` and `PLAYCOUNTS_READ_TOKEN`.
///
/// # Errors
/// As [`write_token`].
pub(crate) fn read_token(typed: Option<String>, file: Option<String>) -> Result<Option<String>> {
    token(&READ, typed, file)
}

/// The same of `--alert-webhook`, `--alert-webhook-file` and `PLAYCOUNTS_ALERT_WEBHOOK`.
///
/// # Errors
/// As [`write_token`].
pub(crate) fn webhook_url(typed: Option<String>, file: Option<String>) -> Result<Option<String>> {
    token(&WEBHOOK, typed, file)
}

fn token(kind: &Kind, typed: Option<String>, file: Option<String>) -> Result<Option<String>> {
    let Kind { option, variable, name } = kind;
    let (token, from) = match (typed, file) {
        (Some(_), Some(_)) => {
            bail!("{option} and {option}-file cannot be used together: one of them is enough")
        }
        (Some(token), None) => (token, (*option).to_owned()),
        (None, Some(path)) => (read(kind, &path)?, format!("{option}-file {path}")),
        (None, None) => match std::env::var_os(variable) {
            // What is no UTF-8 is no token, and is refused below.
            Some(token) => (token.to_string_lossy().into_owned(), (*variable).to_owned()),
            None => return Ok(None),
        },
    };
    if token.is_empty() {
        bail!("{from} holds no {name}: it is empty");
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        bail!("the {name} of {from} must be printable ASCII without spaces");
    }
    Ok(Some(token))
}

fn read(kind: &Kind, path: &str) -> Result<String> {
    let Kind { option, name, .. } = kind;
    let what = || format!("cannot read {option}-file {path}");
    let file = File::open(path).with_context(what)?;
    let mode = file.metadata().with_context(what)?.permissions().mode();
    if mode & 0o077 != 0 {
        log::warn!(
            "others than its owner may use {path}, which holds the {name}; chmod 600 {path} fixes that"
        );
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).with_context(what)?;
    if bytes.len() as u64 > FILE_MAX {
        bail!("{option}-file {path} is over {FILE_MAX} bytes: it should hold the {name} alone");
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
