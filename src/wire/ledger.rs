//! Which ledger a processor counts in: what it says before it publishes, and with each message, so that a dashboard notices one
//! that is older than what it has been told (pure).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::limits::{Invalid, check_numbers};
use crate::model::video::MAX_PLAYS;

/// The ledger that a message's counts are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerMark {
    /// Drawn when its files were made: a copy that was put back has another.
    pub life: Uuid,
    /// Plays that it holds, all of them durable.
    #[schemars(range(max = MAX_PLAYS))]
    pub holds: u64,
}

/// The body of `POST /api/ledgers`: a processor says, before it publishes anything, which ledger it counts in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerClaim {
    /// Who counts.
    pub processor: Uuid,
    /// Which ledger, and what it held when the processor started; later in the same start, what it holds.
    pub ledger: LedgerMark,
    /// Plays that it held when the processor started.
    #[schemars(range(max = MAX_PLAYS))]
    pub held_at_start: u64,
    /// Where the dashboard knows of more: the ledger is right, and what the dashboard has of the processor is forgotten.
    #[serde(default)]
    pub accept_loss: bool,
}

impl LedgerMark {
    /// Refuses what a processor would not send.
    ///
    /// # Errors
    /// A number out of range.
    pub fn check(&self) -> Result<(), Invalid> {
        check_numbers([self.holds], "plays in a ledger are")
    }
}

impl LedgerClaim {
    /// Refuses what a processor would not send.
    ///
    /// # Errors
    /// A number out of range; or fewer plays than at the start.
    pub fn check(&self) -> Result<(), Invalid> {
        self.ledger.check()?;
        if self.held_at_start > self.ledger.holds {
            let Self { ledger: LedgerMark { holds, .. }, held_at_start, .. } = self;
            let reason = format!("a ledger that held {held_at_start} plays cannot hold {holds}");
            return Err(Invalid::new(reason));
        }
        Ok(())
    }

    /// Whether the ledger may lack plays of which the dashboard knows: it was told of the life `known_life` that it holds
    /// `known` plays; `None`: nobody has said under which life.
    pub fn is_older(&self, known_life: Option<Uuid>, known: u64) -> bool {
        // Under this life the dashboard may have been told by this start of the processor itself.
        let holds = match known_life {
            Some(life) if life == self.ledger.life => self.ledger.holds,
            _ => self.held_at_start,
        };
        known > holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(held_at_start: u64, holds: u64) -> LedgerClaim {
        let (processor, life) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let ledger = LedgerMark { life, holds };
        LedgerClaim { processor, ledger, held_at_start, accept_loss: false }
    }

    #[test]
    fn a_ledger_is_older_than_one_that_is_known_to_hold_more() {
        let (own, other) = (Some(Uuid::from_u128(2)), Some(Uuid::from_u128(3)));
        for (held_at_start, holds, life, known, is_older) in [
            // A new dashboard.
            (0, 0, None, 0, false),
            (500, 500, None, 0, false),
            // A start: all that was told is in the ledger, or not.
            (500, 500, own, 500, false),
            (500, 500, own, 499, false),
            (500, 500, own, 501, true),
            // Told by an older version, which said no life.
            (500, 500, None, 500, false),
            (500, 500, None, 501, true),
            // A copy that was put back.
            (500, 500, other, 500, false),
            (500, 500, other, 501, true),
            // Met later in the same start: the dashboard was restored, and was told by this start.
            (500, 900, own, 800, false),
            (500, 900, own, 901, true),
            // It knows what another life has counted: the plays since the start make up for nothing.
            (500, 900, other, 800, true),
            (500, 900, other, 500, false),
            (500, 900, None, 800, true),
        ] {
            let found = claim(held_at_start, holds).is_older(life, known);
            assert_eq!(found, is_older, "{held_at_start} {holds} {life:?} {known}");
        }
    }

    #[test]
    fn numbers_are_checked() {
        assert_eq!(claim(5, 5).check(), Ok(()));
        for (bad, want) in
            [(claim(6, 5), "cannot hold 5"), (claim(0, MAX_PLAYS + 1), "over the limit")]
        {
            let text = bad.check().unwrap_err().to_string();
            assert!(text.contains(want), "{text}");
        }
    }
}
