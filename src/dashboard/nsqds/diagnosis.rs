//! Why nothing is moving: what each part told, put into sentences with a way out (pure).

mod arrivals;
mod channel;
mod finding;
mod heartbeat;
mod ledgers;
mod silence;

use nsq_protocol::{ChannelStats, Pause};
use uuid::Uuid;

use self::channel::{told, waits};
use super::state::{Alert, WatchState, WatchedLookupd, WatchedNsqd, WatchedQueue};
use super::watch::Watch;
use crate::model::words::{grouped, lasting, many, of_number};
use crate::nsqd::consumers::ChannelConsumers;
use crate::wire::{ConnectionFigures, ConsumerFigures, CrowdedPlays};
pub(crate) use finding::{Finding, Severity};
pub(crate) use heartbeat::Heartbeat;
use heartbeat::SILENT_MS;
pub(crate) use ledgers::{LapsedProcessor, ledger_faults};

/// The finding that nothing moves because there is nothing to count.
const IDLE: &str = "idle";

/// The finding that nothing has been counted for long.
pub(crate) const NOTHING_COUNTED: &str = "nothing-counted";

/// What is to be so before a simulation has filled its queue.
const TO_COME: [&str; 5] = [IDLE, NOTHING_COUNTED, "no-topic", "no-channel", "no-consumer"];

/// What the parts told that is wrong with what was counted, although plays move.
#[derive(Clone, Debug, Default)]
pub(crate) struct CountedTold {
    /// Producers as which plays are counted that they never made, and how many.
    pub(crate) foreign: Vec<(Uuid, u64)>,
    /// Processors that know plays by their messages only, and which.
    pub(crate) crowded: Vec<(Uuid, CrowdedPlays)>,
    /// Why counts were refused within the last minute, if any were.
    pub(crate) refused: Option<String>,
    /// Processors of shared ledgers that are dead.
    pub(crate) dead: Vec<LapsedProcessor>,
    /// How the simulation has ended that the dashboard belongs to, if it has: then nobody is missed, and nothing need move.
    pub(crate) run: Option<Finding>,
    /// Whether the simulation fills its queue yet, and no processor is to be missed.
    pub(crate) fills: bool,
    /// What only the past tells.
    pub(crate) past: Vec<Finding>,
}

impl Watch {
    /// Why nothing is moving, the worst first.
    pub(crate) fn diagnose(
        &self,
        processors: &[Heartbeat],
        counted: &CountedTold,
        store: Option<&str>,
    ) -> Vec<Finding> {
        let mut found = Vec::new();
        if let Some(reason) = store {
            found.push(Finding {
                code: "store",
                severity: Severity::Error,
                text: format!("The dashboard cannot store counts: {reason}"),
                way_out: "Make room on its disk, or fix what the message names. Then processors send everything again.",
            });
        }
        diagnose_processors(processors, &mut found);
        match &counted.run {
            Some(run) => found.push(run.clone()),
            None if counted.fills => found.push(silence::fills()),
            None => silence::diagnose(processors, &counted.dead, &mut found),
        }
        diagnose_counted(counted, &mut found);
        found.extend(ledger_faults(processors, &counted.dead));
        ledgers::diagnose_more(processors, &counted.dead, &mut found);
        if let Some(queue) = &self.queue {
            diagnose_queue(&self.state.lock(), queue, processors, &mut found);
        }
        found.extend(counted.past.iter().cloned());
        if counted.run.is_some() {
            found.retain(|finding| ![IDLE, NOTHING_COUNTED].contains(&finding.code));
        }
        if counted.fills {
            found.retain(|finding| !TO_COME.contains(&finding.code));
        }
        found.sort_by_key(|finding| finding.severity);
        if found.is_empty() {
            found.push(Finding {
                code: "well",
                severity: Severity::Info,
                text: "No problem was found.".to_owned(),
                way_out: "",
            });
        }
        found
    }
}

fn diagnose_queue(
    state: &WatchState,
    queue: &WatchedQueue,
    processors: &[Heartbeat],
    found: &mut Vec<Finding>,
) {
    let mut answering = state.nsqds().filter_map(WatchedNsqd::answering);
    let has_topic = answering.any(|heard| heard.stats.topic(&queue.topic).is_some());
    let sum = state.depth(queue);
    // While nsqds are known, an nsqlookupd that is away keeps new ones from being found, and no more.
    let of_lookupd = if sum.queue.is_some() { Severity::Warning } else { Severity::Error };
    for nsqd in state.nsqds() {
        diagnose_nsqd(nsqd, queue, found);
        // Where another one has the topic, this one needs it not.
        if !has_topic {
            diagnose_missing_topic(nsqd, queue, found);
        }
    }
    for lookupd in &state.lookupds {
        diagnose_lookupd(lookupd, of_lookupd, found);
    }
    if let (Some(Alert { above, on: Some(true) }), Some(sum)) = (sum.alert, sum.queue) {
        found.push(Finding {
            code: "depth-alert",
            severity: Severity::Warning,
            text: format!(
                "{} in the queue, more than the {} of --depth-alert.",
                waits(sum.depth),
                grouped(above)
            ),
            way_out: "Look whether it grows. If it does, more is published than the processors can count.",
        });
    }
    let moving = processors.iter().any(|known| known.per_second > 0.0);
    let is_empty = sum.queue.is_some_and(|queue| queue.depth == 0 && queue.deferred == 0);
    if is_empty && !moving {
        found.push(Finding {
            code: IDLE,
            severity: Severity::Info,
            text: "The queue is empty and nothing is being counted.".to_owned(),
            way_out: "If plays are being made, check that their producers publish to these nsqds and this topic.",
        });
    }
}

/// Adds what it finds at one nsqlookupd; how bad that is depends on what is known without it.
fn diagnose_lookupd(lookupd: &WatchedLookupd, severity: Severity, found: &mut Vec<Finding>) {
    if let Some(error) = &lookupd.peer.error {
        found.push(Finding {
            code: "lookupd-away",
            severity,
            // The error names it.
            text: format!("An nsqlookupd does not answer: {error}"),
            way_out: "Start it, or give --lookupd-http-address its HTTP address. Until then new nsqds are not found.",
        });
    } else if lookupd.heard.is_some() && lookupd.named == 0 {
        found.push(Finding {
            code: "no-nsqd",
            severity,
            text: format!("nsqlookupd {} knows no nsqd.", lookupd.peer.address),
            way_out: "Start nsqd with --lookupd-tcp-address of this nsqlookupd.",
        });
    }
}

fn diagnose_processors(processors: &[Heartbeat], found: &mut Vec<Finding>) {
    for processor in processors {
        // That its database is away is told once for all who share it, and ends by itself.
        let is_away = processor.ledger.as_ref().is_some_and(|ledger| ledger.away.is_some());
        if let Some(failure) = processor.failure.as_ref().filter(|_| !is_away) {
            found.push(Finding {
                code: "processor-failed",
                severity: Severity::Error,
                text: format!("Processor {} has stopped counting: {failure}", processor.id),
                way_out: "Fix what the message names, and start it again. Nothing is lost: the messages wait in nsqd.",
            });
        }
        // What is old is told by its silence.
        let fresh = processor.consumer.as_ref().filter(|_| processor.silent_ms <= SILENT_MS);
        if let Some(consumer) = fresh {
            diagnose_consumer(&processor.id, consumer, found);
        }
        let fresh = processor.arrivals.as_ref().filter(|_| processor.silent_ms <= SILENT_MS);
        if let Some(told) = fresh {
            arrivals::diagnose(&processor.id, told, found);
        }
    }
}

/// Adds what is wrong with what was counted.
fn diagnose_counted(told: &CountedTold, found: &mut Vec<Finding>) {
    for (producer, plays) in &told.foreign {
        found.push(Finding {
            code: "foreign-plays",
            severity: Severity::Warning,
            text: format!(
                "{} {} counted under the id of producer {producer} that it never made.",
                many(*plays, "play"),
                of_number(*plays, "is", "are")
            ),
            way_out: "Find out who publishes under its id, or whether an old copy of its outbox was put back. It goes on under another id by itself.",
        });
    }
    for (processor, CrowdedPlays { producer, plays }) in &told.crowded {
        found.push(Finding {
            code: "crowded-producer",
            severity: Severity::Warning,
            text: format!(
                "Producers left too many gaps in their numbers (seq), the latest one was {producer}. Processor {processor} \
                 recognises {} by NSQ message only: one that is published again is counted again.",
                many(*plays, "play")
            ),
            way_out: "Number each producer's plays 0, 1, 2, … without gaps, or leave producer and seq out.",
        });
    }
    if let Some(reason) = &told.refused {
        found.push(Finding {
            code: "counts-refused",
            severity: Severity::Error,
            text: format!("Counts from a processor were refused: {reason}"),
            way_out: "Find out which processor sends them, and stop it. `playcounts reset` starts from zero, and real processors send everything again.",
        });
    }
}

/// What keeps a processor from getting messages, as it says itself.
fn diagnose_consumer(id: &str, consumer: &ConsumerFigures, found: &mut Vec<Finding>) {
    let mut find = |code, severity, text: String, way_out| {
        found.push(Finding { code, severity, text, way_out });
    };
    if let Some(reason) = &consumer.waiting {
        let text = format!("Processor {id} waits to start: {reason}");
        let way_out =
            "It goes on by itself when that is over. If it never will be, give it other addresses.";
        find("processor-waits", Severity::Error, text, way_out);
    }
    if let Some(ms) = consumer.backoff_ms {
        let level = consumer.backoff_level;
        let text = format!(
            "Processor {id} takes no messages for {} (backoff), because {level} in a row failed.",
            lasting(ms)
        );
        find(
            "processor-backoff",
            Severity::Error,
            text,
            "Its log says which messages it could not handle, and why.",
        );
    }
    let is_connected = consumer.connections.iter().any(|nsqd| nsqd.connected);
    let severity = if is_connected { Severity::Warning } else { Severity::Error };
    for nsqd in &consumer.connections {
        diagnose_connection(id, nsqd, severity, found);
    }
    for lookupd in consumer.lookupds.iter().filter(|lookupd| !lookupd.answering) {
        if let Some(error) = &lookupd.last_error {
            found.push(Finding {
                code: "processor-lookupd",
                severity,
                text: format!("An nsqlookupd does not answer processor {id}: {error}"),
                way_out: "Start it. Connections stay as they are; until then new nsqds are not found.",
            });
        }
    }
}

/// What is wrong with a processor's connection to one nsqd; how bad it is that there is none depends on the others.
fn diagnose_connection(
    id: &str,
    connection: &ConnectionFigures,
    severity: Severity,
    found: &mut Vec<Finding>,
) {
    let mut find = |code, severity, text: String, way_out| {
        found.push(Finding { code, severity, text, way_out });
    };
    let ConnectionFigures { nsqd, connected, pause, oversized, last_error, .. } = connection;
    if *oversized > 0 {
        find(
            "oversized",
            Severity::Warning,
            format!(
                "Processor {id} got {} from nsqd {nsqd}, larger than it accepts.",
                many(*oversized, "message")
            ),
            "They are kept as dead letters: their size and first bytes. If they may be plays, start it with a larger --max-msg-size.",
        );
    }
    match (connected, pause, last_error) {
        (_, Some(Pause::Stopping), _) => {}
        (false, _, Some(error)) => find(
            "processor-nsqd",
            severity,
            format!("Processor {id} cannot connect to nsqd {nsqd}: {error}"),
            "Start that nsqd, or check that the processor reaches its TCP address.",
        ),
        (true, Some(Pause::TimedOut), _) => find(
            "processor-timed-out",
            Severity::Warning,
            format!("Messages of nsqd {nsqd} timed out while processor {id} held them."),
            "It is too slow for as many messages as it holds. Use a smaller --max-in-flight, or a longer msg_timeout.",
        ),
        _ => {}
    }
}

/// Says that an nsqd, which answers, has no topic.
fn diagnose_missing_topic(nsqd: &WatchedNsqd, queue: &WatchedQueue, found: &mut Vec<Finding>) {
    if nsqd.answering().is_some() {
        let (at, topic) = (&nsqd.peer.address, &queue.topic);
        found.push(Finding {
            code: "no-topic",
            severity: Severity::Warning,
            text: format!("nsqd {at} has no topic {topic}: nobody has published to it."),
            way_out: "Check the topic and the nsqd address of the producers.",
        });
    }
}

/// Adds what it finds at one nsqd, and at the topic and the channel there.
fn diagnose_nsqd(nsqd: &WatchedNsqd, queue: &WatchedQueue, found: &mut Vec<Finding>) {
    let at = &nsqd.peer.address;
    let mut find = |code, severity, text: String, way_out| {
        found.push(Finding { code, severity, text, way_out });
    };
    if let Some(error) = &nsqd.peer.error {
        let text = format!("nsqd {at} does not answer: {error}");
        find(
            "nsqd-away",
            Severity::Error,
            text,
            "Start it, or give --nsqd-http-address its HTTP address.",
        );
        return;
    }
    let Some(heard) = &nsqd.heard else { return };
    let (topic_name, channel_name) = (queue.topic.as_str(), queue.channel.as_str());
    let Some(topic) = heard.stats.topic(&queue.topic) else { return };
    if topic.paused {
        let text = format!("Topic {topic_name} at {at} is paused; {}.", waits(told(topic.depth)));
        find("topic-paused", Severity::Error, text, "Unpause it on the page's queue view.");
    }
    let Some(channel) = heard.stats.channel(&queue.topic, &queue.channel) else {
        let text = format!("Topic {topic_name} at {at} has no channel {channel_name}.");
        find(
            "no-channel",
            Severity::Error,
            text,
            "Start the processor, or give it this --channel.",
        );
        return;
    };
    let name = format!("Channel {topic_name}/{channel_name} at {at}");
    let rate_out = heard.rates.of(topic_name, Some(channel_name)).rate_out;
    channel::diagnose(&name, channel, rate_out, found);
    diagnose_foreign(&name, channel, found);
}

/// Adds, of the channel called `name`, the consumers that are no processors.
fn diagnose_foreign(name: &str, channel: &ChannelStats, found: &mut Vec<Finding>) {
    let mut consumers = ChannelConsumers::default();
    consumers.add(channel);
    if let Some(first) = consumers.foreign.first() {
        let count = consumers.foreign.len() as u64;
        found.push(Finding {
            code: "foreign-consumer",
            severity: Severity::Warning,
            text: format!(
                "{name} has {} that {} not of playcounts, such as {first}. What they take is not counted.",
                many(count, "consumer"),
                of_number(count, "is", "are")
            ),
            way_out: "Give them a channel of their own. A processor of an older version looks like one of them: update it.",
        });
    }
}

#[cfg(test)]
mod tests;
