//! The directory that a file is in, and how the names in it get to the disk.

use std::fs::File;
use std::io;
use std::path::Path;

/// The directory that a file is in; of a bare name the present one.
pub fn of(file: &Path) -> &Path {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Returns when the names in a directory are on the disk.
///
/// # Errors
/// The operating system's.
pub fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_in_one() {
        for (file, want) in [("a/b", "a"), ("/a", "/"), ("a", "."), ("./a", ".")] {
            assert_eq!(of(Path::new(file)), Path::new(want), "{file}");
        }
    }
}
