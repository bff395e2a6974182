use std::sync::mpsc::{Receiver as TestReceiver, Sender as TestSender, channel};

use nsq_protocol::thread::{OwnedThread, stop_pair};
use nsq_protocol::{ChannelName, Consumer, ConsumerConfig, TopicName};
use uuid::Uuid;

use super::*;
use crate::broker::{Broker, BrokerConfig};
use crate::ledger::Counters;
use crate::model::video::{VideoCount, VideoState};
use crate::processor::wake::wake_pair;
use crate::wire::{Confirmed, ProducerConfirmed};

/// The longest that anything here may take; far beyond what it does take.
const DEADLINE: Duration = Duration::from_secs(60);

/// Fails its checkpoint, once it is told to.
struct FailingCheckpoint {
    began: TestSender<()>,
    fail: TestReceiver<()>,
}

impl Ledger for FailingCheckpoint {
    fn processor(&self) -> Uuid {
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
        panic!("nothing is committed after a failure");
    }

    fn checkpoint(&mut self, _: Instant, _: CommitTraffic) -> Result<Instant> {
        self.began.send(()).unwrap();
        self.fail.recv_timeout(DEADLINE).unwrap();
        anyhow::bail!("on purpose")
    }

    fn published(&mut self, _: &[VideoCount]) {}

    fn publishes_to(&mut self, _: Uuid) -> Result<bool> {
        Ok(false)
    }

    fn confirmed(&self, _: &Uuid) -> Confirmed {
        Confirmed::default()
    }

    fn take_unreported(&mut self, _: usize) -> Vec<ProducerConfirmed> {
        Vec::new()
    }

    fn put_back_unreported(&mut self, _: &[ProducerConfirmed]) {}

    fn size(&self) -> Option<(u64, u64)> {
        None
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A worker that finds the turn taken leaves its batch to the one who has it, also when that one fails.
#[test]
fn a_batch_left_to_a_failing_checkpoint_is_given_back() {
    let broker = Broker::start(BrokerConfig {
        tcp_address: "127.0.0.1:0".to_owned(),
        http_address: None,
        ..BrokerConfig::default()
    })
    .unwrap();
    let (topic, channel_name) =
        (TopicName::new("plays").unwrap(), ChannelName::new("processor").unwrap());
    let nsqd = broker.tcp_addr().to_string();
    let mut to = nsq_protocol::ProducerConfig::new();
    to.nsqd_addresses = vec![nsqd.clone()];
    nsq_protocol::Producer::connect(to).unwrap().publish(&topic, b"a message").unwrap();
    let mut from = ConsumerConfig::new(topic, channel_name);
    from.nsqd_addresses = vec![nsqd];
    let consumer = Consumer::start(from).unwrap();
    let batch = consumer.batches().recv_timeout(DEADLINE).unwrap();

    let (began, has_begun) = channel();
    let (fail, told) = channel();
    let ledger: Box<dyn Ledger> = Box::new(FailingCheckpoint { began, fail: told });
    let (reached, _) = bounded(1);
    let (failed, has_failed) = bounded(1);
    let committer = Arc::new(Committer::new(
        Arc::new(Mutex::new(ledger)),
        Arc::new(ShardedCounts::new(100)),
        Arc::new(Stats::new(Counters::default(), None, reached)),
        wake_pair().0,
        failed,
    ));
    let (_source, stop) = stop_pair();
    let checkpoints = {
        let committer = committer.clone();
        OwnedThread::spawn("ledger", move || committer.run_checkpoints(&stop)).unwrap()
    };
    has_begun.recv_timeout(DEADLINE).unwrap();
    // Whoever checkpoints the ledger has the turn now, and fails behind this.
    committer.put(Decoded { batch, arrivals: Arrivals::default(), received_at: Instant::now() });
    let given_back = || consumer.stats().connections[0].requeued;
    assert_eq!(given_back(), 0);
    fail.send(()).unwrap();
    checkpoints.join();
    assert_eq!(given_back(), 1);
    assert!(has_failed.try_recv().is_ok());
}
