//! Asking which plays are counted: the thread `confirm`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use crossbeam_channel::{Receiver, Sender, TrySendError, select};
use nsq_protocol::thread::{Crew, StopToken, stop_pair};
use parking_lot::Mutex;
use uuid::Uuid;

use super::outbox::spans::ProducerSpans;
use crate::wire::{ConfirmedAnswer, OutboxFigures, ProducerConfirmed};

/// How often it is asked which plays are counted.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// Answers which plays of a producer are counted for good; is told how its outbox is.
pub type Confirmations = Arc<dyn Fn(&Uuid, OutboxFigures) -> Result<ConfirmedAnswer> + Send + Sync>;

/// What is answered about one producer; `None`: nobody answers.
pub(super) type Confirmation = Option<ConfirmedAnswer>;

/// What a producer shares with who asks for it.
#[derive(Debug)]
pub(super) struct Asked {
    /// Under which ids its plays are published.
    pub(super) producers: Mutex<ProducerSpans>,
    /// Plays in its outbox.
    pub(super) plays: AtomicU64,
    /// Plays that are counted under that id and that it never made.
    pub(super) foreign: AtomicU64,
}

/// For whom to ask.
pub(super) struct Asker {
    pub(super) asked: Arc<Asked>,
    pub(super) answer: Sender<Confirmation>,
}

impl Asked {
    /// A producer with these ids and nothing in its outbox.
    pub(super) fn new(producers: ProducerSpans) -> Self {
        let (plays, foreign) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { producers: Mutex::new(producers), plays, foreign }
    }
}

/// Starts the thread that asks for each producer, at once when `asked` says so; it ends with the last of them, or asks no
/// more once they are to stop.
///
/// # Errors
/// The operating system's, when it refuses the thread.
pub(super) fn start(
    confirmations: Confirmations,
    producers: Vec<Asker>,
    asked: Receiver<()>,
    producing: StopToken,
) -> io::Result<Crew<()>> {
    let (stop, stopped) = stop_pair();
    let mut crew = Crew::stopped_by(stop);
    let stops = [stopped, producing];
    crew.spawn("confirm", move || ask_all(&confirmations, producers, &asked, &stops))?;
    Ok(crew)
}

/// Asks for each producer again and again, until all of them are done or one of the `stops`.
fn ask_all(
    confirmations: &Confirmations,
    mut producers: Vec<Asker>,
    asked: &Receiver<()>,
    stops: &[StopToken; 2],
) {
    let [stop, producing] = stops;
    while !producers.is_empty() {
        producers.retain(|asker| {
            let Asked { producers, plays, foreign } = &*asker.asked;
            let producers = producers.lock().clone();
            let figures = OutboxFigures {
                plays: plays.load(Ordering::Relaxed),
                foreign: foreign.load(Ordering::Relaxed),
            };
            let answer = ask(confirmations, &producers, figures);
            if let Err(error) = &answer {
                log::debug!("cannot ask which plays are counted: {error:#}; asking again");
            }
            // One that has not been looked at is as good; without a reader there is nothing more to ask.
            !matches!(asker.answer.try_send(answer.ok()), Err(TrySendError::Disconnected(_)))
        });
        select! {
            recv(stop.channel()) -> _ => return,
            recv(producing.channel()) -> _ => return,
            recv(asked) -> _ => {}
            default(ASK_EVERY) => {}
        }
    }
}

/// Asks for all plays of an outbox, whoever they are of.
fn ask(
    confirmations: &Confirmations,
    producers: &ProducerSpans,
    figures: OutboxFigures,
) -> Result<ConfirmedAnswer> {
    let mut processors = 0;
    let confirmed = producers.confirmed(|producer| {
        // A former one's plays are in the same outbox.
        let is_present = *producer == producers.present();
        let figures = if is_present { figures } else { OutboxFigures::default() };
        let answer = confirmations(producer, figures)?;
        processors = answer.processors;
        anyhow::Ok(answer.told.confirmed)
    })?;
    let told = ProducerConfirmed { producer: producers.present(), confirmed };
    Ok(ConfirmedAnswer { told, processors })
}
