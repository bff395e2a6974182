//! What a run leaves in its data directory, to be checked against what the dashboard shows.
//!
//! `produced.csv` and `counted.csv` hold `video_id,plays`, sorted; `processed.json` the processor's report;
//! the dashboard's counts are in its database.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

pub(crate) use crate::command::shared::verification::RunEnding;
use crate::command::shared::verification::{COUNTED, PROCESSED, PRODUCED, Plays, Verification};
use crate::dashboard;
use crate::model::video_id::VideoId;
use crate::storage::private;

/// The first line of both CSV files.
const HEADER: &str = "video_id,plays";

/// The part of the processor's report that the check needs.
#[derive(Debug, Serialize, Deserialize)]
struct ProcessedFile {
    consumed: u64,
    /// Absent from a file of an older version, which did not tell.
    #[serde(default)]
    ending: RunEnding,
}

/// The files of the last run in one data directory.
#[derive(Clone, Debug)]
pub(crate) struct RunFiles {
    dir: PathBuf,
}

impl RunFiles {
    /// The files in `dir`, whether they are there or not.
    pub(crate) fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Removes them, so that no check mixes two runs.
    ///
    /// # Errors
    /// The file that cannot be removed, and why.
    pub(crate) fn clear(&self) -> Result<()> {
        for name in [PRODUCED, COUNTED, PROCESSED] {
            let path = self.dir.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a run, or parts of one, have left something to check.
    pub(crate) fn exist(&self) -> bool {
        [PRODUCED, COUNTED, PROCESSED].iter().any(|file| self.dir.join(file).exists())
    }

    /// Keeps what was produced.
    ///
    /// # Errors
    /// The file that cannot be written, and why.
    pub(crate) fn write_produced(&self, counts: &[(VideoId, u64)]) -> Result<()> {
        write_counts(&self.dir.join(PRODUCED), counts)
    }

    /// Keeps what was counted, out of that many messages consumed, and how that ended.
    ///
    /// # Errors
    /// The file that cannot be written, and why.
    pub(crate) fn write_counted(
        &self,
        consumed: u64,
        counts: &[(VideoId, u64)],
        ending: RunEnding,
    ) -> Result<()> {
        write_counts(&self.dir.join(COUNTED), counts)?;
        let path = self.dir.join(PROCESSED);
        let json = serde_json::to_vec(&ProcessedFile { consumed, ending })?;
        create(&path)
            .and_then(|mut file| file.write_all(&json))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Checks that what was produced was consumed, counted and published.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub(crate) fn verify(&self) -> Result<Verification> {
        let produced = read_counts(&self.dir.join(PRODUCED))?;
        let counted = read_counts(&self.dir.join(COUNTED))?;
        let processed = match private::options().read(true).open(self.dir.join(PROCESSED)) {
            Ok(file) => Some(serde_json::from_reader::<_, ProcessedFile>(file).context(PROCESSED)?),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error).context(PROCESSED),
        };
        let shown = dashboard::read_counts(&self.dir)?
            .map(|counts| counts.into_iter().collect::<HashMap<_, _>>());
        let ending = processed.as_ref().map_or(RunEnding::Complete, |file| file.ending);
        let consumed = processed.map(|file| file.consumed);
        Ok(Verification::of(ending, produced, consumed, counted, shown))
    }
}

/// Makes a file, in place of one that is there.
fn create(path: &Path) -> std::io::Result<File> {
    private::options().write(true).create(true).truncate(true).open(path)
}

fn write_counts(path: &Path, counts: &[(VideoId, u64)]) -> Result<()> {
    let mut sorted = counts.to_vec();
    sorted.sort_unstable();
    let write = || -> std::io::Result<()> {
        let mut file = BufWriter::new(create(path)?);
        writeln!(file, "{HEADER}")?;
        for (video, plays) in sorted {
            writeln!(file, "{video},{plays}")?;
        }
        file.flush()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// The counts in a file; `None` when there is no such file.
fn read_counts(path: &Path) -> Result<Option<Plays>> {
    let file = match private::options().read(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let mut counts = HashMap::new();
    for (index, line) in BufReader::new(file).lines().enumerate().skip(1) {
        let line = line.with_context(|| path.display().to_string())?;
        let parsed = line
            .rsplit_once(',')
            .and_then(|(video, plays)| Some((video.parse().ok()?, plays.parse().ok()?)));
        let (video, plays) = parsed
            .ok_or_else(|| anyhow!("{}:{}: {line:?} is no {HEADER}", path.display(), index + 1))?;
        counts.insert(video, plays);
    }
    Ok(Some(counts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_survive_their_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.csv");
        assert_eq!(read_counts(&path).unwrap(), None);
        let counts = [(VideoId::from_u128(2), 4), (VideoId::from_u128(1), 3)];
        write_counts(&path, &counts).unwrap();
        assert_eq!(
            read_counts(&path).unwrap(),
            Some(HashMap::from([(VideoId::from_u128(1), 3), (VideoId::from_u128(2), 4)]))
        );
        let text = [("a, b".parse().unwrap(), 7)];
        write_counts(&path, &text).unwrap();
        assert_eq!(read_counts(&path).unwrap(), Some(HashMap::from(text)));
        fs::write(&path, "video_id,plays\n,1\n").unwrap();
        assert!(read_counts(&path).unwrap_err().to_string().contains(":2: "));
    }
}
