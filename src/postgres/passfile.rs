//! The file of passwords, `~/.pgpass` or what PGPASSFILE names: `host:port:database:user:password` a line.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Of the file, bytes: it has a line for each server.
const MAX_FILE: u64 = 1 << 20;

/// What the file holds; nothing where there is none. One that others may read is left alone, as libpq does.
pub(super) fn read(path: &Path) -> String {
    let Ok(about) = fs::metadata(path) else { return String::new() };
    let shown = path.display();
    let left_out = |why: &str| {
        log::warn!("password file {shown}: {why}; it is not used");
        String::new()
    };
    if !about.is_file() {
        return left_out("it is not a file");
    }
    if about.mode() & 0o077 != 0 {
        return left_out("others may read or write it: chmod 0600");
    }
    if about.len() > MAX_FILE {
        return left_out("it is larger than 1 MiB");
    }
    fs::read_to_string(path).unwrap_or_else(|error| left_out(&error.to_string()))
}

/// The password of the first line that fits: `*` fits all, and `\` takes the next character as it is.
pub(super) fn find(file: &str, wanted: [&str; 4]) -> Option<String> {
    file.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut rest = line;
        for wanted in wanted {
            let (field, behind) = field(rest)?;
            let is_star = rest.starts_with("*:");
            if !is_star && field != wanted {
                return None;
            }
            rest = behind?;
        }
        let (password, _) = field(rest)?;
        Some(password).filter(|password| !password.is_empty())
    })
}

/// What stands before the next `:`, and what behind it.
fn field(line: &str) -> Option<(String, Option<&str>)> {
    let mut value = String::new();
    let mut chars = line.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => value.push(chars.next().map_or('\\', |(_, next)| next)),
            ':' => return Some((value, Some(&line[at + 1..]))),
            _ => value.push(char),
        }
    }
    Some((value, None))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const FILE: &str = "# a comment\n\
        db:5432:plays:me:one\n\
        db:*:plays:me:two\\:\\\\\n\
        \n\
        cut:short\n\
        \\*:1:2:3:star\n\
        *:*:*:me:any\n";

    #[test]
    fn the_first_line_that_fits_is_taken() {
        for (wanted, password) in [
            (["db", "5432", "plays", "me"], Some("one")),
            (["db", "5433", "plays", "me"], Some("two:\\")),
            (["x", "1", "y", "me"], Some("any")),
            (["x", "1", "y", "you"], None),
            (["*", "1", "2", "3"], Some("star")),
            (["cut", "short", "", ""], None),
        ] {
            assert_eq!(find(FILE, wanted).as_deref(), password, "{wanted:?}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pgpass");
        assert_eq!(read(&path), "");
        fs::write(&path, FILE).unwrap();
        for (mode, want) in [(0o600, FILE), (0o640, ""), (0o604, ""), (0o400, FILE)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path), want, "{mode:o}");
        }
        assert_eq!(read(dir.path()), "");
    }
}
