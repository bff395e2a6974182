//! Asking which plays are counted: the thread `confirm`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use crossbeam_channel::{Receiver, Sender, TrySendError, select};
use nsq_protocol::thread::{Crew, StopToken, stop_pair};
use uuid::Uuid;

use crate::wire::ConfirmedAnswer;

/// How often it is asked which plays are counted.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// Answers which plays of a producer are counted for good; is told how many are in its outbox.
pub type Confirmations = Arc<dyn Fn(&Uuid, u64) -> Result<ConfirmedAnswer> + Send + Sync>;

/// What is answered about one producer; `None`: nobody answers.
pub(super) type Confirmation = Option<ConfirmedAnswer>;

/// For whom to ask.
pub(super) struct Asker {
    pub(super) producer: Uuid,
    /// Plays in its outbox.
    pub(super) waiting: Arc<AtomicU64>,
    pub(super) answer: Sender<Confirmation>,
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
            let answer = confirmations(&asker.producer, asker.waiting.load(Ordering::Relaxed));
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
