//! What a look at the files of one part has found: what is whole, what is lost, how to go on (pure).

use std::fmt;

use serde::Serialize;

/// The most places of one kind that are told one by one.
pub const PLACES_MAX: usize = 10;

/// How the files of a part are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PartState {
    /// A start takes them as they are.
    Whole,
    /// A start refuses them.
    Damaged,
}

/// What was found of one part.
#[derive(Clone, Debug, Serialize)]
pub struct PartCheck {
    /// "ledger", "outbox" or "dashboard".
    pub part: &'static str,
    /// How its files are.
    pub state: PartState,
    /// What it holds, or what is left of it; `None`: that cannot be said.
    pub holds: Option<String>,
    /// What is wrong, each with file and place.
    pub damage: Vec<String>,
    /// What else is to be known.
    pub notes: Vec<String>,
    /// What to do about the damage.
    pub way_out: Option<String>,
}

impl PartCheck {
    /// Nothing is wrong, as far as one knows yet.
    pub fn new(part: &'static str) -> Self {
        let (state, holds, way_out) = (PartState::Whole, None, None);
        Self { part, state, holds, damage: Vec::new(), notes: Vec::new(), way_out }
    }

    /// Notes something that is wrong.
    pub fn add_damage(&mut self, what: impl Into<String>) {
        self.state = PartState::Damaged;
        self.damage.push(what.into());
    }

    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.state == PartState::Whole
    }
}

impl fmt::Display for PartCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, state, holds, damage, notes, way_out } = self;
        match (state, holds) {
            (PartState::Whole, Some(holds)) => write!(f, "{part}: whole: {holds}")?,
            (PartState::Whole, None) => write!(f, "{part}: whole")?,
            (PartState::Damaged, Some(holds)) => write!(f, "{part}: damaged; left are {holds}")?,
            (PartState::Damaged, None) => write!(f, "{part}: damaged")?,
        }
        damage.iter().chain(notes).try_for_each(|line| write!(f, "\n  {line}"))?;
        match way_out {
            Some(way_out) => write!(f, "\n  way out: {way_out}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_is_wrong_and_the_way_out() {
        let mut check = PartCheck::new("ledger");
        assert_eq!(check.to_string(), "ledger: whole");
        check.holds = Some("3 plays".into());
        check.notes.push("a note".into());
        assert_eq!(check.to_string(), "ledger: whole: 3 plays\n  a note");
        assert!(check.is_whole());
        check.add_damage("a file is gone");
        check.way_out = Some("bring it back".into());
        assert_eq!(
            check.to_string(),
            "ledger: damaged; left are 3 plays\n  a file is gone\n  a note\n  way out: bring it back"
        );
        check.holds = None;
        assert!(check.to_string().starts_with("ledger: damaged\n") && !check.is_whole());
    }
}
