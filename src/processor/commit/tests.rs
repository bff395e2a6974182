//! What the committer does with a ledger that fails, or that is away for a while.

use std::sync::mpsc::{Receiver as TestReceiver, Sender as TestSender, channel};

use anyhow::{Context, bail};
use nsq_protocol::thread::{OwnedThread, StopSource, stop_pair};
use nsq_protocol::{ChannelName, Consumer, ConsumerConfig, MessageId, RdyMode, TopicName};
use uuid::Uuid;

use super::*;
use crate::broker::{Broker, BrokerConfig};
use crate::ledger::{
    ArrivedPlay, Counters, LedgerSize, LedgerUpkeep, LedgerUpkept, MemoryLedger, MessageKey,
    MessageWindowSize,
};
use crate::model::dashboard_index::DashboardIndex;
use crate::model::play::{Play, PlayIdentity};
use crate::model::video::{VideoCount, VideoState};
use crate::model::video_id::VideoId;
use crate::processor::report::window_figures;
use crate::processor::wake::wake_publishers;
use crate::wire::{Confirmed, ProducerConfirmed};

/// The longest that anything here may take; far beyond what it does take.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a commit is to do.
enum Answer {
    Count,
    BeAway,
    Fail,
}

/// Does with each commit as it is told. What it counts is in memory.
struct ToldLedger {
    inner: MemoryLedger,
    /// Gets the numbers of the plays of each commit.
    began: TestSender<Vec<u64>>,
    told: TestReceiver<Answer>,
}

impl Ledger for ToldLedger {
    fn processor(&self) -> Uuid {
        self.inner.processor()
    }

    fn life(&self) -> Uuid {
        self.inner.life()
    }

    fn first_version(&self) -> u64 {
        self.inner.first_version()
    }

    fn counters(&self) -> Counters {
        self.inner.counters()
    }

    fn videos(&self) -> Vec<VideoState> {
        self.inner.videos()
    }

    fn group_max(&self) -> usize {
        40
    }

    fn commit(&mut self, arrivals: &mut [Arrivals]) -> Result<Committed> {
        let plays = arrivals.iter().flat_map(|arrivals| &arrivals.plays);
        let numbers = plays.filter_map(|arrived| Some(arrived.play.identity?.seq));
        self.began.send(numbers.collect()).unwrap();
        match self.told.recv_timeout(DEADLINE).unwrap() {
            Answer::Count => self.inner.commit(arrivals),
            Answer::BeAway => Err(LedgerAway::new("down, on purpose")).context("no commit"),
            Answer::Fail => bail!("on purpose"),
        }
    }

    fn upkeep(&mut self, now: Instant) -> Option<LedgerUpkeep> {
        self.inner.upkeep(now)
    }

    fn upkept(&mut self, done: LedgerUpkept) -> Result<NextUpkeep> {
        self.inner.upkept(done)
    }

    fn publish_to(&mut self, dashboards: usize) {
        self.inner.publish_to(dashboards);
    }

    fn published(&mut self, dashboard: DashboardIndex, counts: &[VideoCount]) {
        self.inner.published(dashboard, counts);
    }

    fn publishes_to(&mut self, dashboard: DashboardIndex, database: Uuid) -> Result<bool> {
        self.inner.publishes_to(dashboard, database)
    }

    fn confirmed(&mut self, producer: &Uuid) -> Result<Confirmed> {
        self.inner.confirmed(producer)
    }

    fn take_unreported(
        &mut self,
        dashboard: DashboardIndex,
        limit: usize,
    ) -> Result<Vec<ProducerConfirmed>> {
        self.inner.take_unreported(dashboard, limit)
    }

    fn reported(
        &mut self,
        dashboard: DashboardIndex,
        told: &ProducerConfirmed,
        watermark: u64,
    ) -> bool {
        self.inner.reported(dashboard, told, watermark)
    }

    fn retell(&mut self, dashboard: DashboardIndex, limit: usize) -> bool {
        self.inner.retell(dashboard, limit)
    }

    fn put_back_unreported(&mut self, dashboard: DashboardIndex, producers: &[ProducerConfirmed]) {
        self.inner.put_back_unreported(dashboard, producers);
    }

    fn size(&self) -> Option<LedgerSize> {
        self.inner.size()
    }

    fn message_window(&self) -> MessageWindowSize {
        self.inner.message_window()
    }

    fn close(&mut self) -> Result<()> {
        self.inner.close()
    }
}

/// A committer of a [`ToldLedger`], and a consumer whose messages it gets.
struct Bench {
    committer: Arc<Committer>,
    stats: Arc<Stats>,
    ledger: SharedLedger,
    stop: Option<StopSource>,
    has_begun: TestReceiver<Vec<u64>>,
    tell: TestSender<Answer>,
    has_failed: Receiver<()>,
    publisher: nsq_protocol::Producer,
    consumer: Consumer,
    taken: u64,
    _broker: Broker,
}

impl Bench {
    fn new() -> Self {
        let broker = Broker::start(BrokerConfig {
            tcp_address: "127.0.0.1:0".to_owned(),
            http_address: None,
            ..BrokerConfig::default()
        })
        .unwrap();
        let nsqd = broker.tcp_addr().to_string();
        let from = ConsumerConfig::new(topic(), ChannelName::new("channel").unwrap())
            .nsqd(&nsqd)
            .max_in_flight(1_000)
            // One that follows the load waits for the answers before it takes more.
            .rdy(RdyMode::Fixed)
            .output_buffer_timeout(Duration::from_millis(25));
        let to = nsq_protocol::ProducerConfig::new().nsqd(nsqd);
        let ((began, has_begun), (tell, told)) = (channel(), channel());
        let inner = MemoryLedger::new();
        let ledger: Box<dyn Ledger> = Box::new(ToldLedger { inner, began, told });
        let ledger = Arc::new(Mutex::new(ledger));
        let ((reached, _), (failed, has_failed)) = (bounded(1), bounded(1));
        let (stop, stopped) = stop_pair();
        let stats = Arc::new(Stats::new(Counters::default(), None, reached, 1, Arc::default()));
        let committer = Arc::new(Committer::new(
            ledger.clone(),
            Arc::new(ShardedCounts::new(100)),
            stats.clone(),
            Arc::new(PlayTitles::new(1)),
            wake_publishers(1).0,
            failed,
            stopped,
        ));
        Self {
            committer,
            stats,
            ledger,
            stop: Some(stop),
            has_begun,
            tell,
            has_failed,
            publisher: nsq_protocol::Producer::connect(to).unwrap(),
            consumer: Consumer::start(from).unwrap(),
            taken: 0,
            _broker: broker,
        }
    }

    /// One message, in a batch of its own, whose play has the next number.
    fn batch(&mut self) -> Decoded {
        self.publisher.publish(&topic(), b"a message").unwrap();
        let batch = self.consumer.batches().recv_timeout(DEADLINE).unwrap();
        assert_eq!(batch.len(), 1);
        let identity = Some(PlayIdentity { producer: Uuid::from_u128(1), seq: self.taken });
        let play =
            Play { video_id: VideoId::from_u128(7), enqueued_at_ns: None, identity, resent: false };
        let message = MessageKey::new(MessageId::from_u64(self.taken), 1);
        let plays = vec![ArrivedPlay::new(play, message)];
        self.taken += 1;
        Decoded {
            batch: Some(batch),
            arrivals: Arrivals { plays, rejected: Vec::new() },
            received_at: Instant::now(),
        }
    }

    /// A worker puts these.
    fn put(&self, name: &str, batches: Vec<Decoded>) -> OwnedThread<()> {
        let committer = self.committer.clone();
        OwnedThread::spawn(name, move || batches.into_iter().for_each(|put| committer.put(put)))
            .unwrap()
    }

    /// The numbers of the commit that begins next.
    fn next_commit(&self) -> Vec<u64> {
        self.has_begun.recv_timeout(DEADLINE).unwrap()
    }

    fn tell(&self, answer: Answer) {
        self.tell.send(answer).unwrap();
    }

    /// Messages that are finished, and that went back.
    fn answered(&self) -> (u64, u64) {
        let connection = &self.consumer.stats().connections[0];
        (connection.finished, connection.requeued)
    }

    /// Why it does not count, as a report says it.
    fn failure(&self) -> Option<String> {
        let window = window_figures(MessageWindowSize::default(), 0);
        self.stats.report(DashboardIndex::FIRST, 0, 1.0, None, window).failure
    }
}

fn topic() -> TopicName {
    TopicName::new("plays").unwrap()
}

/// A worker that finds the turn taken leaves its batch to the one who has it, also when that one fails.
#[test]
fn a_batch_left_to_a_failing_commit_is_given_back() {
    let mut bench = Bench::new();
    let (first, second) = (bench.batch(), bench.batch());
    let commits = bench.put("worker-0", vec![first]);
    assert_eq!(bench.next_commit(), [0]);
    // Whoever commits has the turn now, and fails behind this.
    bench.committer.put(second);
    assert_eq!(bench.answered(), (0, 0));
    bench.tell(Answer::Fail);
    commits.join();
    assert_eq!(bench.answered(), (0, 2));
    assert!(bench.has_failed.try_recv().is_ok());
}

#[test]
fn what_finds_the_ledger_away_is_committed_once_it_is_back_in_order_and_once() {
    let mut bench = Bench::new();
    let mut batches: Vec<Decoded> = (0..WAITING_MAX + 2).map(|_| bench.batch()).collect();
    let others = batches.split_off(1);
    let commits = bench.put("worker-0", batches);
    assert_eq!(bench.next_commit(), [0]);
    assert_eq!(bench.failure(), None);
    bench.tell(Answer::BeAway);
    // As many wait as may; who has more waits with it.
    let waits = bench.put("worker-1", others);
    let want = "its ledger is away, and is tried again: no commit: down, on purpose";
    for _ in 0..2 {
        // The same batch alone, whatever waits. Before it nobody holds the ledger.
        {
            let _ledger = bench.ledger.try_lock_for(DEADLINE).unwrap();
            assert!(bench.has_begun.try_recv().is_err());
        }
        assert_eq!(bench.next_commit(), [0]);
        assert_eq!((bench.answered(), bench.failure().as_deref()), ((0, 0), Some(want)));
        bench.tell(Answer::BeAway);
    }
    assert_eq!(bench.next_commit(), [0]);
    while bench.committer.waiting.1.len() < WAITING_MAX {
        std::thread::yield_now();
    }
    assert!(!waits.is_finished());
    bench.tell(Answer::Count);
    // Behind it what waited, as much as the ledger wants at a time.
    let mut committed = vec![0];
    while committed.len() < WAITING_MAX + 2 {
        let next = bench.next_commit();
        assert!(next.len() <= 40);
        assert_eq!((bench.answered(), bench.failure()), ((committed.len() as u64, 0), None));
        committed.extend(next);
        bench.tell(Answer::Count);
    }
    commits.join();
    waits.join();
    assert_eq!(committed, (0..WAITING_MAX as u64 + 2).collect::<Vec<_>>());
    assert_eq!(bench.answered(), (committed.len() as u64, 0));
    assert_eq!(bench.ledger.lock().counters().counted, committed.len() as u64);
    assert!(bench.has_failed.try_recv().is_err());
}

#[test]
fn a_stop_while_the_ledger_is_away_gives_the_messages_back() {
    let mut bench = Bench::new();
    let (first, second, third) = (bench.batch(), bench.batch(), bench.batch());
    let commits = bench.put("worker-0", vec![first]);
    assert_eq!(bench.next_commit(), [0]);
    bench.committer.put(second);
    bench.tell(Answer::BeAway);
    assert_eq!(bench.next_commit(), [0]);
    bench.stop = None;
    bench.tell(Answer::BeAway);
    commits.join();
    assert_eq!(bench.answered(), (0, 2));
    // Nobody asks the ledger any more.
    bench.committer.put(third);
    assert_eq!(bench.answered(), (0, 3));
    assert!(bench.has_begun.try_recv().is_err() && bench.has_failed.try_recv().is_err());
    assert_eq!(bench.stats.failure(), None);
}
