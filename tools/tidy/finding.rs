//! What is wrong, where, and the way out.

use std::fmt;

/// One thing that is wrong. Ordered by file and line.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// From the root of the repository.
    pub(crate) file: String,
    /// From 1.
    pub(crate) line: usize,
    /// What is wrong; details from the second line on.
    pub(crate) wrong: String,
    /// What to do about it.
    pub(crate) way_out: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (wrong, details) = self.wrong.split_once('\n').unwrap_or((&self.wrong, ""));
        write!(f, "{}:{}: {wrong}; {}", self.file, self.line, self.way_out)?;
        details.lines().try_for_each(|detail| write!(f, "\n    {detail}"))
    }
}
