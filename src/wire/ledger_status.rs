//! The part of a processor's report that tells of its ledger as a whole: where it is, whether it can be reached, and who counts in
//! it besides (pure).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::limits::{Invalid, check_numbers};
use crate::model::video::MAX_PLAYS;

/// The most processors that one report tells of: as many as a dashboard shows.
pub const LEDGER_PROCESSORS_MAX: usize = 64;

/// The longest text of a [`LedgerStatus`], in characters.
pub const LEDGER_TEXT_MAX: usize = 200;

/// Where a ledger is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LedgerKind {
    /// In files of the processor's own, or in its memory.
    #[default]
    Files,
    /// In a PostgreSQL database that processors may share.
    Postgres,
}

/// A ledger, as one of its processors knows it. A ledger in files is the default: nothing else is to be told of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerStatus {
    /// Where it is.
    pub kind: LedgerKind,
    /// Its database, `host:port/name`, without a password; cut to 200 characters. Empty of files.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Drawn when its tables were made: processors that tell the same count in one ledger, whatever they call its host. Absent:
    /// not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life: Option<Uuid>,
    /// Who counts in it, or has: the one that tells this, and those that are alive, first. As of the last time that the
    /// database answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = LEDGER_PROCESSORS_MAX))]
    pub processors: Vec<LedgerProcessor>,
    /// Processors that are left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(max = MAX_PLAYS))]
    pub left_out: u64,
    /// Why its database cannot be used; absent while it can. Cut to 200 characters. Meanwhile nothing is counted and nothing is
    /// finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away: Option<String>,
    /// For how long that is so, in ms; absent while it can be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = MAX_PLAYS))]
    pub away_for_ms: Option<u64>,
    /// The median time of the newest commits, in ms; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub commit_ms_p50: Option<f64>,
    /// Their 99th percentile, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub commit_ms_p99: Option<f64>,
    /// How it is known that the database lacks what was committed to it; absent where it lacks nothing. Cut to 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<String>,
}

/// A processor of a shared ledger, as the ledger knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerProcessor {
    /// Who.
    pub id: Uuid,
    /// For how long the others must take it to be alive, in ms, by the database's clock. Below 0: since when they need not.
    #[schemars(range(min = LEASE_MIN, max = MAX_PLAYS))]
    pub lease_ms_left: i64,
    /// How often it was taken over, by a new start of it or by another processor.
    #[schemars(range(max = MAX_PLAYS))]
    pub epoch: u64,
    /// Whether it is the one that tells this.
    #[serde(default)]
    pub is_me: bool,
    /// Whether its lease had not run out.
    pub is_alive: bool,
    /// Who publishes what it has counted in its place; absent while it does that itself, or nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_by: Option<Uuid>,
    /// The number of its newest commit; 0 before the first.
    #[schemars(range(max = MAX_PLAYS))]
    pub last_record: u64,
    /// Plays that it has counted since it was made.
    #[schemars(range(max = MAX_PLAYS))]
    pub plays: u64,
    /// Of its commits, those that a dashboard has not been told of; absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = MAX_PLAYS))]
    pub untold: Option<u64>,
}

impl LedgerProcessor {
    /// How it is: whether somebody must do something about it.
    pub fn state(&self) -> LedgerProcessorState {
        match (self.is_alive, self.published_by, self.untold) {
            (true, ..) => LedgerProcessorState::Alive,
            (false, Some(_), _) => LedgerProcessorState::Published,
            (false, None, Some(0)) => LedgerProcessorState::Done,
            (false, None, _) => LedgerProcessorState::Dead,
        }
    }
}

/// How a processor of a shared ledger is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LedgerProcessorState {
    /// It counts.
    Alive,
    /// Its lease has run out, and another one publishes what it has counted.
    Published,
    /// Its lease has run out, and every dashboard has been told what it has counted.
    Done,
    /// Its lease has run out, and nobody publishes what it has counted.
    Dead,
}

impl LedgerProcessorState {
    /// Every one, with its name.
    pub const ALL: [(&str, Self); 4] = [
        ("alive", Self::Alive),
        ("published", Self::Published),
        ("done", Self::Done),
        ("dead", Self::Dead),
    ];
}

/// The least [`LedgerProcessor::lease_ms_left`]: as far back as numbers go forward.
const LEASE_MIN: i64 = -(MAX_PLAYS as i64);

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl LedgerStatus {
    /// Whether several processors may count in it.
    pub fn is_shared(&self) -> bool {
        self.kind != LedgerKind::Files
    }

    /// Whether the processor counts in it, as it tells.
    pub fn lists(&self, processor: &Uuid) -> bool {
        self.processors.iter().any(|known| known.id == *processor)
    }

    /// The one that tells this.
    pub fn me(&self) -> Option<&LedgerProcessor> {
        self.processors.iter().find(|known| known.is_me)
    }

    /// Cuts what a stranger could send that a processor would not, and what a database says at length.
    pub fn cut(&mut self) {
        let texts = [Some(&mut self.name), self.away.as_mut(), self.behind.as_mut()];
        for text in texts.into_iter().flatten() {
            *text = text.chars().take(LEDGER_TEXT_MAX).collect();
        }
    }

    /// Refuses what a processor would not send.
    pub(super) fn check(&self) -> Result<(), Invalid> {
        if self.processors.len() > LEDGER_PROCESSORS_MAX {
            return Err(Invalid::new(format!(
                "a report tells of at most {LEDGER_PROCESSORS_MAX} processors of a ledger"
            )));
        }
        if self.processors.iter().filter(|known| known.is_me).nth(1).is_some() {
            return Err(Invalid::new("two processors of a ledger cannot both tell this"));
        }
        let times = [self.commit_ms_p50, self.commit_ms_p99];
        if !times.into_iter().flatten().all(|ms| ms.is_finite() && ms >= 0.0) {
            return Err(Invalid::new("a commit took less than no time"));
        }
        let of_processors = self.processors.iter().flat_map(|known| {
            let LedgerProcessor { lease_ms_left, epoch, last_record, plays, untold, .. } = known;
            [lease_ms_left.unsigned_abs(), *epoch, *last_record, *plays, untold.unwrap_or_default()]
        });
        let own = [Some(self.left_out), self.away_for_ms].into_iter().flatten();
        check_numbers(own.chain(of_processors), "of a shared ledger is")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processor(id: u128) -> LedgerProcessor {
        LedgerProcessor {
            id: Uuid::from_u128(id),
            lease_ms_left: 9_000,
            epoch: 1,
            is_me: false,
            is_alive: true,
            published_by: None,
            last_record: 3,
            plays: 40,
            untold: None,
        }
    }

    fn status() -> LedgerStatus {
        LedgerStatus {
            kind: LedgerKind::Postgres,
            name: "db.example:5432/plays".to_owned(),
            processors: vec![LedgerProcessor { is_me: true, ..processor(1) }, processor(2)],
            ..LedgerStatus::default()
        }
    }

    #[test]
    fn what_no_processor_sends_is_refused() {
        type Change = fn(&mut LedgerStatus);
        let check = |change: Change| {
            let mut status = status();
            change(&mut status);
            status.check().err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(check(|_| {}), "");
        assert_eq!(check(|status| status.processors[1].lease_ms_left = LEASE_MIN), "");
        let changes: [(Change, &str); 11] = [
            (|status| status.processors = vec![processor(1); 65], "at most 64 processors"),
            (|status| status.processors[1].is_me = true, "cannot both"),
            (|status| status.commit_ms_p50 = Some(-0.5), "less than no time"),
            (|status| status.commit_ms_p99 = Some(f64::NAN), "less than no time"),
            (|status| status.left_out = MAX_PLAYS + 1, "over the limit"),
            (|status| status.away_for_ms = Some(u64::MAX), "over the limit"),
            (|status| status.processors[0].lease_ms_left = i64::MIN, "over the limit"),
            (|status| status.processors[0].epoch = u64::MAX, "over the limit"),
            (|status| status.processors[0].last_record = u64::MAX, "over the limit"),
            (|status| status.processors[0].plays = MAX_PLAYS + 1, "over the limit"),
            (|status| status.processors[1].untold = Some(u64::MAX), "over the limit"),
        ];
        for (change, want) in changes {
            let error = check(change);
            assert!(error.contains(want), "{error}: {want}");
        }
    }

    #[test]
    fn a_dead_processor_needs_a_publisher_until_all_is_told() {
        use LedgerProcessorState::{Alive, Dead, Done, Published};
        let other = Some(Uuid::from_u128(9));
        for (is_alive, published_by, untold, state) in [
            (true, None, Some(5), Alive),
            (false, other, Some(5), Published),
            (false, None, Some(0), Done),
            (false, None, Some(5), Dead),
            (false, None, None, Dead),
        ] {
            let one = LedgerProcessor { is_alive, published_by, untold, ..processor(1) };
            assert_eq!(one.state(), state);
            let (name, _) = LedgerProcessorState::ALL.iter().find(|(_, of)| *of == state).unwrap();
            assert_eq!(serde_json::json!(state), *name);
        }
    }

    #[test]
    fn long_texts_are_cut() {
        let mut long = status();
        let text = "é".repeat(1_000);
        (long.name, long.away, long.behind) = (text.clone(), Some(text.clone()), Some(text));
        long.cut();
        for text in [Some(long.name), long.away, long.behind] {
            assert_eq!(text.unwrap().chars().count(), LEDGER_TEXT_MAX);
        }
    }

    #[test]
    fn what_is_not_told_takes_no_room() {
        let files = serde_json::to_string(&LedgerStatus::default()).unwrap();
        assert_eq!(files, r#"{"kind":"files"}"#);
        assert_eq!(serde_json::from_str::<LedgerStatus>(&files).unwrap(), LedgerStatus::default());
        assert!(!LedgerStatus::default().is_shared() && status().is_shared());
        let text = serde_json::to_string(&status()).unwrap();
        assert_eq!(serde_json::from_str::<LedgerStatus>(&text).unwrap(), status());
        assert_eq!(status().me().map(|me| me.id), Some(Uuid::from_u128(1)));
        assert!(status().lists(&Uuid::from_u128(2)) && !status().lists(&Uuid::from_u128(3)));
    }
}
