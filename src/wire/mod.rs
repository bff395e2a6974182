//! What the parts say to each other over HTTP: each message with its check beside its type, shared by both ends, and
//! the client that sends them. Pure but for `client`.

mod arrivals;
pub mod client;
mod confirmed;
mod connections;
mod consumption;
mod counts;
mod ledger;
mod ledger_status;
mod letters;
mod limits;
mod videos;
mod written;

pub use arrivals::{
    ArrivalFigures, IgnoredFigure, IgnoredFigures, MessageWindowFigures, REUSED_PRODUCERS_MAX,
    ReusedFigures, ReusedOfProducer, SAMPLE_TEXT_MAX, SkewFigures,
};
pub use confirmed::{
    CONFIRMED_PRODUCERS_MAX, CONFIRMED_RUNS_MAX, Confirmed, ConfirmedAnswer, ConfirmedTaken,
    ConfirmedUpdate, OutboxFigures, ProducerConfirmed,
};
pub use connections::{
    CONNECTION_TEXT_MAX, CONNECTIONS_MAX, ConnectionFigures, ConsumerFigures, LookupdFigures,
};
pub use consumption::{
    CONSUMPTION_BOUNDS_MS, Consumption, ConsumptionHistogram, ConsumptionReport, ConsumptionTimes,
    CrowdedPlays, LedgerFigures, PROGRAM_MAX, ProcessorEnding, PublicationFigures,
};
pub use counts::CountsUpdate;
pub use ledger::{LedgerClaim, LedgerMark};
pub use ledger_status::{
    LEDGER_PROCESSORS_MAX, LEDGER_TEXT_MAX, LedgerKind, LedgerProcessor, LedgerProcessorState,
    LedgerStatus,
};
pub use letters::{LETTER_TEXT_MAX, LETTERS_MAX, LettersUpdate, ToldLetter};
pub use limits::Invalid;
pub use videos::{
    BATCH_MAX, ChangedVideo, ChangedVideoList, Correction, CorrectionChange, ImportRow,
    ImportUpdate, ImportedCount, Imports, TITLES_MAX, TitledVideo, VideoTexts, VideoTitle,
    VideosUpdate, Visibility, VisibilityChange,
};
pub use written::Written;
