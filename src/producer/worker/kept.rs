//! A worker's outbox, and what it hears of it. Runs on the worker's thread.

use super::*;
use crate::model::words::many;

impl Kept {
    pub(in crate::producer) fn new(
        outbox: Outbox,
        max: u64,
        answers: Receiver<Confirmation>,
        links: Arc<Links>,
        now: Instant,
    ) -> Self {
        let (tended_at, retry_at) = (now, now);
        Self {
            outbox,
            asked: Arc::new(Asked::new(ProducerSpans::one(Uuid::nil()))),
            disk: None,
            max,
            answers,
            tended_at,
            failures: 0,
            retry_at,
            is_full: false,
            heard: false,
            is_resumed: false,
            foreign_heard: 0,
            links,
        }
    }

    /// The next plays are another producer's.
    pub(super) fn renamed(&mut self, producers: &ProducerSpans) {
        *self.asked.producers.lock() = producers.clone();
        self.asked.foreign.store(0, Ordering::Relaxed);
        self.foreign_heard = 0;
    }

    /// For how many more plays there is room.
    pub(super) fn room(&mut self) -> u64 {
        self.tell();
        let room = self.max.saturating_sub(self.outbox.plays());
        if (room == 0) != self.is_full {
            self.is_full = room == 0;
            match self.is_full {
                true => {
                    let plays = many(self.outbox.plays(), "play");
                    let reason = format!("full with {plays} that are not confirmed");
                    self.links.away(PartLink::Outbox, &reason);
                }
                false => self.links.there(PartLink::Outbox),
            }
        }
        room
    }

    pub(super) fn tell(&self) {
        self.asked.plays.store(self.outbox.plays(), Ordering::Relaxed);
    }

    pub(super) fn take_answers(&mut self, next: u64, done: &ProducedTotals) -> Result<()> {
        // One that publishes nothing must hear as well that its files are gone.
        self.disk.as_ref().map_or(Ok(()), DiskOutbox::check)?;
        while let Ok(answer) = self.answers.try_recv() {
            self.take(&answer, next, done)?;
        }
        Ok(())
    }

    /// Takes an answer about the plays below `next`, which is all there are.
    pub(super) fn take(
        &mut self,
        answer: &Confirmation,
        next: u64,
        done: &ProducedTotals,
    ) -> Result<()> {
        let now = Instant::now();
        let id = self.asked.producers.lock().present();
        // One that was asked for under the id of before says nothing of the present one.
        let answer = answer.as_ref().filter(|answer| answer.told.producer == id);
        self.heard |= answer.is_some();
        let told = answer.map_or(0, |answer| answer.told.confirmed.watermark);
        if answer.is_some() && std::mem::take(&mut self.is_resumed) && told > next {
            // Whoever makes a play under another's id does not make just all that come next.
            bail!(
                "the outbox is older than what was published from it: {told} plays are counted, and it knows of {next}; after a power loss or from a copy it cannot go on: give --data-dir another directory"
            );
        }
        let foreign = answer.map_or(0, |answer| answer.told.confirmed.count_from(next));
        if foreign > 0 {
            self.hear_foreign(id, next, foreign, done);
        }
        if answer.is_none_or(|answer| answer.processors == 0) {
            self.outbox.nobody_counts(now);
        }
        // It believes what is said of plays that it has made.
        let confirmed = answer.map(|answer| answer.told.confirmed.below(next)).unwrap_or_default();
        let gone = self.outbox.confirm(&confirmed, now);
        self.tell();
        match &mut self.disk {
            Some(disk) => disk.forget(&gone),
            None => Ok(()),
        }
    }

    /// Says once that plays are counted which it never made.
    pub(super) fn hear_foreign(
        &mut self,
        id: Uuid,
        next: u64,
        foreign: u64,
        done: &ProducedTotals,
    ) {
        if self.foreign_heard == 0 {
            log::warn!(
                "producer {id}: {foreign} plays are counted that it never made, with numbers from {next} on: somebody else \
                 publishes under its id, or its outbox is older than what was published from it; its next plays get \
                 another id"
            );
            done.foreign.fetch_add(foreign, Ordering::Relaxed);
            self.asked.foreign.store(foreign, Ordering::Relaxed);
        }
        self.foreign_heard = self.foreign_heard.saturating_add(1);
    }

    pub(super) fn back_off(&mut self, error: &anyhow::Error) {
        let pause = (MIN_BACKOFF * 2u32.saturating_pow(self.failures.min(16))).min(MAX_BACKOFF);
        self.links.away(PartLink::Publishing, &format!("{error:#}"));
        self.failures += 1;
        // Many producers must not come back in step.
        self.retry_at = Instant::now() + pause.mul_f64(rand::random_range(0.75..1.0));
    }

    pub(super) fn recovered(&mut self) {
        if self.failures > 0 {
            self.links.there(PartLink::Publishing);
        }
        self.failures = 0;
    }
}
