//! What was probably meant by a word that nobody knows (pure).

/// How alike two words must be, from 0 to 1: a slip of a letter or two, or a part of the name, and no other word.
const ALIKE: f64 = 0.6;

/// The known word that is most like `given`, if one is like it at all.
pub(crate) fn nearest<'a>(
    given: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // Nobody's name is that long, and the comparison takes the square of it.
    if given.len() > 64 {
        return None;
    }
    let given = given.to_lowercase();
    let alike = known
        .into_iter()
        .map(|word| (strsim::normalized_damerau_levenshtein(&given, &word.to_lowercase()), word));
    let (likeness, word) = alike.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    (likeness >= ALIKE).then_some(word)
}

/// An error with what was probably meant and where to look on, in one line.
pub(crate) fn with_hints(error: &str, meant: Option<String>, see: &str) -> String {
    match meant {
        Some(_) => format!("{error}{} See {see}", hint(meant)),
        None => format!("{error}; see {see}"),
    }
}

/// `; did you mean …?`, or nothing.
pub(crate) fn hint(meant: Option<String>) -> String {
    meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_understood_and_nonsense_is_not() {
        let known =
            ["num-messages", "num-videos", "num-threads", "topic", "channel", "log-level", "exit"];
        for (given, want) in [
            ("num-vidoes", Some("num-videos")),
            ("num_videos", Some("num-videos")),
            ("videos", Some("num-videos")),
            ("threads", Some("num-threads")),
            ("Topic", Some("topic")),
            ("chanel", Some("channel")),
            ("loglevel", Some("log-level")),
            ("nonsense", None),
            ("x", None),
            ("", None),
            ("colour", None),
        ] {
            assert_eq!(nearest(given, known), want, "{given}");
        }
        assert_eq!(nearest(&"topic".repeat(1000), known), None);
    }
}
