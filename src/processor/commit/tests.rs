use std::sync::mpsc::{Receiver as TestReceiver, Sender as TestSender, channel};

use nsq_protocol::thread::OwnedThread;
use nsq_protocol::{ChannelName, Consumer, ConsumerConfig, TopicName};
use uuid::Uuid;

use super::*;
use crate::broker::{Broker, BrokerConfig};
use crate::ledger::{Counters, LedgerSize, LedgerUpkeep, LedgerUpkept, MessageWindowSize};
use crate::model::dashboard_index::DashboardIndex;
use crate::model::video::{VideoCount, VideoState};
use crate::processor::wake::wake_publishers;
use crate::wire::{Confirmed, ProducerConfirmed};

/// The longest that anything here may take; far beyond what it does take.
const DEADLINE: Duration = Duration::from_secs(60);

/// Fails its commit, once it is told to.
struct FailingLedger {
    began: TestSender<()>,
    fail: TestReceiver<()>,
}

impl Ledger for FailingLedger {
    fn processor(&self) -> Uuid {
        Uuid::nil()
    }

    fn life(&self) -> Uuid {
        Uuid::nil()
    }

    fn first_version(&self) -> u64 {
        1
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }

    fn videos(&self) -> Vec<VideoState> {
        Vec::new()
    }

    fn commit(&mut self, _: &mut [Arrivals]) -> Result<Committed> {
        self.began.send(()).unwrap();
        self.fail.recv_timeout(DEADLINE).unwrap();
        anyhow::bail!("on purpose")
    }

    fn upkeep(&mut self, _: Instant) -> Option<LedgerUpkeep> {
        None
    }

    fn upkept(&mut self, _: LedgerUpkept) -> Result<NextUpkeep> {
        Ok(NextUpkeep::Later)
    }

    fn publish_to(&mut self, _: usize) {}

    fn published(&mut self, _: DashboardIndex, _: &[VideoCount]) {}

    fn publishes_to(&mut self, _: DashboardIndex, _: Uuid) -> Result<bool> {
        Ok(false)
    }

    fn confirmed(&self, _: &Uuid) -> Confirmed {
        Confirmed::default()
    }

    fn take_unreported(&mut self, _: DashboardIndex, _: usize) -> Result<Vec<ProducerConfirmed>> {
        Ok(Vec::new())
    }

    fn reported(&mut self, _: DashboardIndex, _: &ProducerConfirmed, _: u64) -> bool {
        false
    }

    fn retell(&mut self, _: DashboardIndex, _: usize) -> bool {
        false
    }

    fn put_back_unreported(&mut self, _: DashboardIndex, _: &[ProducerConfirmed]) {}

    fn size(&self) -> Option<LedgerSize> {
        None
    }

    fn message_window(&self) -> MessageWindowSize {
        MessageWindowSize::default()
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A worker that finds the turn taken leaves its batch to the one who has it, also when that one fails.
#[test]
fn a_batch_left_to_a_failing_commit_is_given_back() {
    let broker = Broker::start(BrokerConfig {
        tcp_address: "127.0.0.1:0".to_owned(),
        http_address: None,
        ..BrokerConfig::default()
    })
    .unwrap();
    let topic = TopicName::new("plays").unwrap();
    let nsqd = broker.tcp_addr().to_string();
    // A channel each, so that both have a message at a time.
    let consumers = ["first", "second"].map(|channel| {
        let mut from = ConsumerConfig::new(topic, ChannelName::new(channel).unwrap());
        from.nsqd_addresses = vec![nsqd.clone()];
        Consumer::start(from).unwrap()
    });
    let mut to = nsq_protocol::ProducerConfig::new();
    to.nsqd_addresses = vec![nsqd];
    nsq_protocol::Producer::connect(to).unwrap().publish(&topic, b"a message").unwrap();
    let [first, second] = consumers.each_ref().map(|consumer| Decoded {
        batch: consumer.batches().recv_timeout(DEADLINE).unwrap(),
        arrivals: Arrivals::default(),
        received_at: Instant::now(),
    });

    let (began, has_begun) = channel();
    let (fail, told) = channel();
    let ledger: Box<dyn Ledger> = Box::new(FailingLedger { began, fail: told });
    let (reached, _) = bounded(1);
    let (failed, has_failed) = bounded(1);
    let committer = Arc::new(Committer::new(
        Arc::new(Mutex::new(ledger)),
        Arc::new(ShardedCounts::new(100)),
        Arc::new(Stats::new(Counters::default(), None, reached, 1)),
        wake_publishers(1).0,
        failed,
    ));
    let commits = {
        let committer = committer.clone();
        OwnedThread::spawn("worker-0", move || committer.put(first)).unwrap()
    };
    has_begun.recv_timeout(DEADLINE).unwrap();
    // Whoever commits has the turn now, and fails behind this.
    committer.put(second);
    let given_back =
        || consumers.each_ref().map(|consumer| consumer.stats().connections[0].requeued);
    assert_eq!(given_back(), [0, 0]);
    fail.send(()).unwrap();
    commits.join();
    assert_eq!(given_back(), [1, 1]);
    assert!(has_failed.try_recv().is_ok());
}
