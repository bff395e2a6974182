//! Where the sections of a PEM file begin and end, so that what is wrong in one can be told by its line (pure).

/// What stands between `-----BEGIN label-----` and its end.
#[derive(Debug, PartialEq)]
pub(super) struct PemSection<'a> {
    /// The line that it begins in, from 1.
    pub(super) line: usize,
    pub(super) label: &'a str,
    /// All of it, both marks included.
    pub(super) text: &'a str,
}

/// What no reader of PEM takes.
#[derive(Debug, PartialEq)]
pub(super) struct Fault {
    /// From 1.
    pub(super) line: usize,
    pub(super) why: String,
}

impl PemSection<'_> {
    /// Whether it opens by a passphrase only.
    pub(super) fn is_encrypted(&self) -> bool {
        self.label.starts_with("ENCRYPTED") || self.text.contains("Proc-Type: 4,ENCRYPTED")
    }
}

/// The sections of a file, in their order; what stands between them is a comment.
///
/// # Errors
/// One has no end, ends as another, or holds a line that is no base64.
pub(super) fn sections(text: &str) -> Result<Vec<PemSection<'_>>, Fault> {
    let mut sections = Vec::new();
    let mut open: Option<(usize, &str, usize)> = None;
    let mut start = 0;
    for (index, whole) in text.split_inclusive('\n').enumerate() {
        let (line, content, at) = (index + 1, whole.trim(), start);
        start += whole.len();
        let fault = |why: String| Err(Fault { line, why });
        match (open, mark(content, "BEGIN"), mark(content, "END")) {
            (None, Some(label), _) => open = Some((line, label, at)),
            (Some((begun, ..)), Some(_), _) => {
                return fault(format!("a section begins before that of line {begun} has ended"));
            }
            (Some((begun, label, from)), _, Some(ended)) if label == ended => {
                sections.push(PemSection { line: begun, label, text: &text[from..start] });
                open = None;
            }
            (Some((begun, label, _)), _, Some(ended)) => {
                return fault(format!("{label} of line {begun} ends as {ended}"));
            }
            (None, _, Some(ended)) => return fault(format!("{ended} ends here and has not begun")),
            (Some(_), None, None) if !is_content(content) => {
                return fault("a line that is no base64".to_owned());
            }
            _ => {}
        }
    }
    match open {
        Some((line, label, _)) => {
            Err(Fault { line, why: format!("{label} begins here and has no end: was it cut off?") })
        }
        None => Ok(sections),
    }
}

/// The label of a line `-----BEGIN label-----`.
fn mark<'a>(line: &'a str, which: &str) -> Option<&'a str> {
    line.strip_prefix("-----")?.strip_prefix(which)?.strip_prefix(' ')?.strip_suffix("-----")
}

/// Base64, or one of the header lines of an older form: `Proc-Type: 4,ENCRYPTED`.
fn is_content(line: &str) -> bool {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    line.bytes().all(is_base64) || line.contains(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found_by_their_lines() {
        let text = "comment\r\n-----BEGIN A-----\r\nYWJj\r\n-----END A-----\r\n\n-----BEGIN B C-----\nProc-Type: 4,ENCRYPTED\n\nYQ==\n-----END B C-----";
        let found = sections(text).unwrap();
        let found: Vec<_> =
            found.iter().map(|found| (found.line, found.label, found.is_encrypted())).collect();
        assert_eq!(found, [(2, "A", false), (6, "B C", true)]);
        assert_eq!(sections("").unwrap(), []);
    }

    #[test]
    fn what_is_wrong_is_told_by_its_line() {
        for (text, line, why) in [
            ("\n-----BEGIN A-----\nYWJj\n", 2, "A begins here and has no end"),
            ("-----BEGIN A-----\nYWJj\n-----BEGIN A-----\n", 3, "before that of line 1 has ended"),
            ("-----BEGIN A-----\n-----END B-----\n", 2, "A of line 1 ends as B"),
            ("x\n-----END B-----\n", 2, "B ends here and has not begun"),
            ("-----BEGIN A-----\nYWJj\nY W\n-----END A-----\n", 3, "no base64"),
        ] {
            let fault = sections(text).unwrap_err();
            assert_eq!(fault.line, line, "{text}");
            assert!(fault.why.contains(why), "{fault:?}");
        }
    }
}
