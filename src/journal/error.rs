//! Why a journal cannot be used.

use std::io;

use crate::storage::in_place::GONE;

/// What is wrong with a journal, where, and the way out.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Bytes were changed, or are gone, where no crash can have done it.
    #[error("{file} is damaged at byte {offset}: {what}; {WAY_OUT}")]
    Damaged {
        /// The file's name in the journal's directory.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A file that must be there is not.
    #[error("{file} is missing: {what}; bring it back from where it went, or {WAY_OUT}")]
    Missing {
        /// The file's name in the journal's directory.
        file: String,
        /// Why it must be there.
        what: String,
    },
    /// A file of something else.
    #[error(
        "{file} is {what}; give --data-dir another directory, or bring back the files that belong together"
    )]
    Foreign {
        /// The file's name in the journal's directory.
        file: String,
        /// What it is.
        what: String,
    },
    /// A payload that no frame takes.
    #[error("{bytes} bytes are more than the {most} that the journal takes at once")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The most.
        most: usize,
    },
    /// The file that is written to has lost its name: the directory was removed, or another one put in its place.
    #[error("{file} {GONE}")]
    Gone {
        /// The file's name in the journal's directory.
        file: String,
    },
    /// The operating system's reason.
    #[error("{file} cannot be {act}")]
    Io {
        /// The file's name in the journal's directory.
        file: String,
        /// What was tried: "written", "read", …
        act: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// Ends the errors that only a person can decide on.
const WAY_OUT: &str = "`playcounts check` says what is whole and how to go on with it";

impl JournalError {
    /// What to do with an error of the operating system about a file.
    pub(super) fn io(file: &str, act: &'static str) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::Io { file, act, source }
    }
}
