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

use crate::wire::{ConfirmedAnswer, OutboxFigures};

/// How often it is asked which plays are counted.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// Answers which plays of a producer are counted for good; is told how its outbox is.
pub type Confirmations = Arc<dyn Fn(&Uuid, OutboxFigures) -> Result<ConfirmedAnswer> + Send + Sync>;

/// What is answered about one producer; `None`: nobody answers.
pub(super) type Confirmation = Option<ConfirmedAnswer>;

/// What a producer shares with who asks for it.
#[derive(Debug)]
pub(super) struct Asked {
    /// Its present id.
    pub(super) producer: Mutex<Uuid>,
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
    /// A producer with that id and nothing in its outbox.
    pub(super) fn new(producer: Uuid) -> Self {
        let (plays, foreign) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { producer: Mutex::new(producer), plays, foreign }
    }
}

/// Starts the thread that asks for each producer, at once when `asked` says so; it ends with the last of them.
///
/// # Errors
/// The operating system's, when it refuses the thread.
pub(super) fn start(
    confirmations: Confirmations,
    producers: Vec<Asker>,
    asked: Receiver<()>,
) -> io::Result<Crew<()>> {
    let (stop, stopped) = stop_pair();
    let mut crew = Crew::stopped_by(stop);
    crew.spawn("confirm", move || ask_all(&confirmations, producers, &asked, &stopped))?;
    Ok(crew)
}

/// Asks for each producer again and again, until all of them are done or `stop`.
fn ask_all(
    confirmations: &Confirmations,
    mut producers: Vec<Asker>,
    asked: &Receiver<()>,
    stop: &StopToken,
) {
    let mut answered = true;
    while !producers.is_empty() {
        producers.retain(|asker| {
            let Asked { producer, plays, foreign } = &*asker.asked;
            let producer = *producer.lock();
            let figures = OutboxFigures {
                plays: plays.load(Ordering::Relaxed),
                foreign: foreign.load(Ordering::Relaxed),
            };
            let answer = confirmations(&producer, figures);
            if let Err(error) = &answer
                && std::mem::replace(&mut answered, false)
            {
                log::warn!("cannot ask which plays are counted: {error:#}; asking again");
            }
            answered |= answer.is_ok();
            // One that has not been looked at is as good; without a reader there is nothing more to ask.
            !matches!(asker.answer.try_send(answer.ok()), Err(TrySendError::Disconnected(_)))
        });
        select! {
            recv(stop.channel()) -> _ => return,
            recv(asked) -> _ => {}
            default(ASK_EVERY) => {}
        }
    }
}
