//! `/api/imports`: the totals of an older program, which count beside those of processors and can be taken back.

use super::actions;
use super::videos::{commit, commit_logged};
use crate::dashboard::answer::{CallError, CallResult, Status, json};
use crate::dashboard::app::App;
use crate::dashboard::body::parse;
use crate::dashboard::operation::{JSON, Operation, PLAIN, of};
use crate::dashboard::query::{Call, IdParam, Location};
use crate::dashboard::store::CatalogWrite;
use crate::wire::{ImportUpdate, Imports, Written};

/// The import of the path.
static IMPORT: IdParam = IdParam {
    name: "import",
    about: "the import; a UUID in any spelling",
    location: Location::Path,
    refusal: "{} is not an import's id: it must be a UUID",
};

pub(in super::super) const TAKE: Operation = Operation {
    id: "importCounts",
    summary: "Takes the totals of an older program, or a part of them",
    description: "They raise counts and sums, but neither history nor rates. Absolute: of each (import, video) the highest \
                  that was told counts, so that a repeat changes nothing. They are kept in the journal before the answer, then \
                  in the tables `imports` and `counts`, as those of a processor of their own; a reset takes them away. 409 \
                  where all counts together would be more than 2^53 - 1, or where 10,000 processors and imports are known.",
    body: Some(of::<ImportUpdate>),
    success: "committed",
    media: &[(JSON, of::<Written>)],
    refusals: &[Status::BadRequest, Status::Conflict, Status::Damaged, Status::Unavailable],
    ..PLAIN
};

pub(in super::super) const LIST: Operation = Operation {
    id: "getImports",
    summary: "Imports that count",
    success: "all of them, the newest first",
    media: &[(JSON, of::<Imports>)],
    ..PLAIN
};

pub(in super::super) const TAKE_BACK: Operation = Operation {
    id: "takeImportBack",
    summary: "Takes an import back, as if it had never been",
    description: "The same may be imported again.",
    parameters: &[&IMPORT],
    success: "taken back",
    media: &[(JSON, of::<Written>)],
    refusals: &[Status::BadRequest, Status::NotFound, Status::Damaged, Status::Unavailable],
    ..PLAIN
};

pub(in super::super) fn take(app: &App, call: Call<'_>) -> CallResult {
    let update: ImportUpdate = parse(&call.request.body)?;
    update.check()?;
    let (import, accepted) = (update.import, update.counts.len());
    let target = format!("{import} {}", update.name);
    let is_new = !app.store.has_import(&import);
    let answer = commit(app, CatalogWrite::Import(update), accepted)?;
    // A line an import, not one for each of its parts.
    if is_new {
        actions::log(app, actions::line(call.request, "import", &target, "begun"))?;
    }
    Ok(answer)
}

pub(in super::super) fn list(app: &App, _call: Call<'_>) -> CallResult {
    json(&Imports { imports: app.store.imports() })
}

pub(in super::super) fn take_back(app: &App, call: Call<'_>) -> CallResult {
    let import = IMPORT.read(call)?;
    if !app.store.has_import(&import) {
        return Err(CallError::new(Status::NotFound, format!("no import is {import}")));
    }
    let write = CatalogWrite::TakeBack(import);
    commit_logged(app, call, write, ("take back", &import.to_string(), "done"))
}
