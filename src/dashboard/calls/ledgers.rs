//! `/api/ledgers`: which ledger a processor counts in, and whether it is older than what is known of it.

use std::time::Instant;

use uuid::Uuid;

use super::written;
use crate::dashboard::answer::{CallError, CallResult, Status};
use crate::dashboard::app::App;
use crate::dashboard::body::parse;
use crate::dashboard::operation::{JSON, Operation, PLAIN, of};
use crate::dashboard::query::Call;
use crate::wire::{LedgerClaim, LedgerMark, Written};

/// How a message that says in which ledger its processor counts may be refused.
pub(super) const OF_A_LEDGER: &[Status] =
    &[Status::BadRequest, Status::Conflict, Status::Damaged, Status::Unavailable];

pub(in super::super) const CLAIM: Operation = Operation {
    id: "claimLedger",
    summary: "Compares a processor's ledger with what is known of it",
    description: "409: the dashboard knows of plays that the ledger does not hold. With `accept_loss` it forgets what it has of the processor, and is another database from then on.",
    body: Some(of::<LedgerClaim>),
    success: "the processor may publish",
    media: &[(JSON, of::<Written>)],
    refusals: OF_A_LEDGER,
    ..PLAIN
};

pub(in super::super) fn claim(app: &App, call: Call<'_>) -> CallResult {
    let claim: LedgerClaim = parse(&call.request.body)?;
    claim.check()?;
    let LedgerClaim { processor, held_at_start, .. } = claim;
    match app.store.claim(claim) {
        Ok(stored) => {
            app.notify_changed();
            written::answer(&Written { accepted: 1, dashboard: stored })
        }
        Err(Ok(known)) => {
            let reason = format!(
                "the ledger is older than the dashboard: it held {held_at_start} plays at the start, and {known} are known of"
            );
            log::error!("processor {processor}: {reason}");
            app.live.lock().refuse(processor, &reason, Instant::now());
            Err(CallError::new(Status::Conflict, reason))
        }
        Err(Err(reason)) => Err(CallError::not_stored(reason)),
    }
}

/// Goes on if a message is of the ledger that its processor has said to count in, if it has.
///
/// # Errors
/// It is of another one, or does not say of which.
pub(super) fn check(
    app: &App,
    processor: &Uuid,
    ledger: Option<&LedgerMark>,
) -> Result<(), CallError> {
    if ledger.map(|ledger| ledger.life) == app.store.ledger_life(processor) {
        return Ok(());
    }
    let reason = match ledger {
        Some(_) => "it is not the ledger that the processor has claimed: claim it first",
        None => {
            "the processor has claimed a ledger, and the message does not say that it is of that"
        }
    };
    Err(CallError::new(Status::Conflict, reason))
}
