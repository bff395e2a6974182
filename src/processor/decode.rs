//! A worker thread: takes batches of messages, decodes the plays and has them committed.

use std::sync::Arc;
use std::time::Instant;

use nsq_protocol::{Batches, MessageRef};

use super::commit::{Committer, Decoded};
use super::notes::BodyNotes;
use super::titles::TitleNotes;
use crate::ledger::{
    Arrivals, ArrivedPlay, DeadLetter, LETTERS_OF_MESSAGE, MessageKey, PartOf, append_element,
    array_of,
};
use crate::model::play::{BodyDecoder, BodyPart, BodyPlay, NoPlay, PlayShape, Rejection};
use crate::model::time_window::TimeWindow;
use crate::runtime::clock::unix_ns;
use crate::storage::failpoint;

/// A batch of messages that hold so many plays and more is committed in several steps, between two messages: each waits in
/// memory for its turn, at about 150 bytes a play. With the largest message behind it a step has 12,500 plays.
const STEP_PLAYS: usize = 2_500;

/// The same for bytes of dead letters' bodies, of which one message may make 16 MiB.
const STEP_LETTER_BYTES: usize = 1 << 20;

/// How bodies are read.
pub(super) struct ReadsBodies {
    /// What they look like.
    pub(super) shape: PlayShape,
    /// Which times of theirs are believed.
    pub(super) window: TimeWindow,
}

pub(super) struct DecodeWorker {
    decoder: BodyDecoder,
    window: TimeWindow,
    committer: Arc<Committer>,
}

impl DecodeWorker {
    pub(super) fn new(reads: &ReadsBodies, committer: Arc<Committer>) -> Self {
        Self { decoder: BodyDecoder::new(&reads.shape), window: reads.window, committer }
    }

    /// Works until the consumer has stopped.
    pub(super) fn run(&mut self, batches: &Batches) {
        while let Some(batch) = batches.recv() {
            let received_at = Instant::now();
            failpoint::hit("worker-after-receive");
            let arrivals = self.decode(batch.nsqd(), batch.iter(), received_at);
            self.committer.put(Decoded { batch: Some(batch), arrivals, received_at });
        }
    }

    /// What a batch of that nsqd's brought; of one that brought very much, the last of it.
    fn decode<'a>(
        &mut self,
        nsqd: &str,
        messages: impl Iterator<Item = MessageRef<'a>>,
        received_at: Instant,
    ) -> Arrivals {
        let Self { decoder, window, committer } = self;
        let mut step = Step::new(nsqd, *window, messages.size_hint().0);
        for message in messages {
            step.take(decoder, &message);
            if step.is_full() {
                let arrivals = step.end(decoder, committer);
                committer.put(Decoded { batch: None, arrivals, received_at });
            }
        }
        step.end(decoder, committer)
    }
}

/// What is committed together.
struct Step<'a> {
    nsqd: &'a str,
    window: TimeWindow,
    /// One for all: when the batch was taken. A step of it may wait for its commit before the next is decoded.
    now_ns: u64,
    arrivals: Arrivals,
    notes: BodyNotes,
    titles: TitleNotes,
    /// Messages that brought several plays.
    several: u32,
    letter_bytes: usize,
}

impl<'a> Step<'a> {
    /// Of a batch of so many messages.
    fn new(nsqd: &'a str, window: TimeWindow, messages: usize) -> Self {
        Self {
            nsqd,
            window,
            now_ns: unix_ns(),
            arrivals: Arrivals { plays: Vec::with_capacity(messages), rejected: Vec::new() },
            notes: BodyNotes::default(),
            titles: TitleNotes::default(),
            several: 0,
            letter_bytes: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.arrivals.len() >= STEP_PLAYS && self.several > 0
            || self.letter_bytes >= STEP_LETTER_BYTES
    }

    /// What it has of plays and dead letters, to be committed. The rest is noted before: a title is told with its plays.
    fn end(&mut self, decoder: &mut BodyDecoder, committer: &Committer) -> Arrivals {
        let mut notes = std::mem::take(&mut self.notes);
        notes.ignored = decoder.take_ignored();
        committer.note(notes, &std::mem::take(&mut self.titles));
        self.letter_bytes = 0;
        std::mem::take(&mut self.arrivals)
    }

    /// Decodes a message.
    #[inline]
    fn take(&mut self, decoder: &mut BodyDecoder, message: &MessageRef<'_>) {
        let before = (self.arrivals.plays.len(), self.arrivals.rejected.len());
        let titles = self.titles.len();
        let mut is_array = false;
        let decoded = match message.is_whole() {
            true => decoder.decode(message.body, |part| match part {
                BodyPart::Alone(play) => self.play(message, &play, PartOf::Alone),
                BodyPart::Element(play) => {
                    is_array = true;
                    self.play(message, &play, PartOf::Message(self.several));
                }
                BodyPart::NoPlay(no_play) => {
                    is_array = true;
                    self.no_play(message, before.1, &no_play);
                }
            }),
            false => Err(Rejection::too_large(message.full_len())),
        };
        match decoded {
            Ok(()) => self.several += u32::from(is_array),
            Err(reason) => {
                self.arrivals.plays.truncate(before.0);
                self.arrivals.rejected.truncate(before.1);
                self.titles.truncate(titles);
                log::info!("a message body is not a play: {reason}");
                let (size, body) = (message.full_len(), message.body.to_owned());
                self.letter(message, PartOf::Alone, reason, (size, body));
            }
        }
    }

    #[inline]
    fn play(&mut self, message: &MessageRef<'_>, body: &BodyPlay<'_>, part: PartOf) {
        let BodyPlay { play, id, title } = *body;
        let times = self.window.times(play.enqueued_at_ns, message.timestamp_ns, self.now_ns);
        self.notes.add(&times);
        let (key, part_of) = match &id {
            None => (MessageKey::new(message.id, message.timestamp_ns), part),
            // It is new or a repeat by itself.
            Some(id) => (MessageKey::of_site_play(id), PartOf::Alone),
        };
        if let Some(title) = title {
            self.titles.add(play.video_id, title);
        }
        self.arrivals.plays.push(ArrivedPlay {
            play,
            message: key,
            part_of,
            attempts: message.attempts,
            played_at_ns: times.played_at_ns,
            waited_from_ns: times.waited_from_ns,
        });
    }

    /// Keeps an element of an array as an array of its own, which can be read, and sent, as it is. `first` is the number of the
    /// dead letters before this message's.
    #[cold]
    fn no_play(&mut self, message: &MessageRef<'_>, first: usize, no_play: &NoPlay<'_>) {
        let NoPlay { element, reason } = no_play;
        if self.arrivals.rejected.len() - first >= LETTERS_OF_MESSAGE
            && let Some(last) = self.arrivals.rejected.last_mut()
        {
            self.letter_bytes += append_element(&mut last.size, &mut last.body, element);
            return;
        }
        log::info!("an element of a message body is not a play: {reason}");
        let part_of = PartOf::Message(self.several);
        self.letter(message, part_of, reason.clone(), array_of(element));
    }

    fn letter(
        &mut self,
        message: &MessageRef<'_>,
        part_of: PartOf,
        reason: Rejection,
        (size, body): (usize, Vec<u8>),
    ) {
        self.letter_bytes += body.len();
        self.arrivals.rejected.push(DeadLetter {
            nsqd: self.nsqd.to_owned(),
            message: MessageKey::new(message.id, message.timestamp_ns),
            part_of,
            reason,
            size,
            body,
        });
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;
    use nsq_protocol::MessageId;
    use nsq_protocol::thread::stop_pair;
    use parking_lot::Mutex;

    use super::*;
    use crate::ledger::{Counters, Ledger, MemoryLedger};
    use crate::model::counts::ShardedCounts;
    use crate::model::dashboard_index::DashboardIndex;
    use crate::model::video_id::VideoId;
    use crate::processor::stats::Stats;
    use crate::processor::titles::PlayTitles;
    use crate::processor::wake::wake_publishers;

    fn message(id: u64, body: &[u8]) -> MessageRef<'_> {
        let id = MessageId::from_u64(id);
        MessageRef { timestamp_ns: 1, attempts: 1, id, body, skipped: 0 }
    }

    /// A batch of several steps does not hold all its titles until its end.
    #[test]
    fn a_step_s_titles_are_noted_with_it() {
        let titles = Arc::new(PlayTitles::new(1));
        let ledger: Box<dyn Ledger> = Box::new(MemoryLedger::new());
        let (_stop, stopped) = stop_pair();
        let committer = Arc::new(Committer::new(
            Arc::new(Mutex::new(ledger)),
            Arc::new(ShardedCounts::new(100)),
            Arc::new(Stats::new(Counters::default(), None, bounded(1).0, 1, Arc::default())),
            titles.clone(),
            wake_publishers(1).0,
            bounded(1).0,
            stopped,
        ));
        let title = Some("/title".parse().unwrap());
        let shape = PlayShape { title, ..PlayShape::default() };
        let reads = ReadsBodies { shape, window: TimeWindow::default() };
        let mut worker = DecodeWorker::new(&reads, committer);
        let many = |from: usize| {
            let play = |video| format!(r#"{{"video_id":"{video}","title":"title {video}"}}"#);
            format!("[{}]", (from..from + STEP_PLAYS).map(play).collect::<Vec<_>>().join(","))
        };
        let bodies = [many(0), many(STEP_PLAYS), r#"{"video_id":"last","title":"x"}"#.to_owned()];
        let told = |video: &str| {
            let video_id: VideoId = video.parse().unwrap();
            titles.of(DashboardIndex::FIRST, [video_id].into_iter()).len()
        };
        // When a message is asked for, what those before it brought is known.
        let mut known = Vec::new();
        let messages = bodies.iter().zip(0..).map(|(body, id)| {
            known.push([told("0"), told("2500")]);
            message(id, body.as_bytes())
        });
        let last = worker.decode("nsqd", messages, Instant::now());
        assert_eq!(known, [[0, 0], [1, 0], [1, 1]]);
        assert_eq!((last.plays.len(), told("last")), (1, 1));
    }
}
