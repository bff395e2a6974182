//! Why nothing is moving: what each part told, put into sentences with a way out (pure).

use nsq_protocol::Pause;
use serde::Serialize;

use super::state::{Alert, WatchState, WatchedLookupd, WatchedNsqd, WatchedQueue};
use super::watch::Watch;
use crate::wire::{ConnectionFigures, ConsumerFigures};

/// A processor that has not been heard for so long does not count.
const SILENT_MS: u64 = 10_000;

/// One thing that may keep plays from moving, or that all is well.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Finding {
    pub(crate) code: &'static str,
    /// `error`: nothing moves; `warning`: it may soon not; `info`.
    pub(crate) severity: &'static str,
    pub(crate) text: String,
    pub(crate) way_out: &'static str,
}

/// A processor, as the diagnosis sees it.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeat {
    pub(crate) id: String,
    pub(crate) silent_ms: u64,
    pub(crate) failure: Option<String>,
    pub(crate) per_second: f64,
    pub(crate) consumer: Option<ConsumerFigures>,
}

impl Watch {
    /// Why nothing is moving, the worst first.
    pub(crate) fn diagnose(&self, processors: &[Heartbeat], store: Option<&str>) -> Vec<Finding> {
        let mut found = Vec::new();
        if let Some(reason) = store {
            found.push(Finding {
                code: "store",
                severity: "error",
                text: format!("The dashboard cannot store counts: {reason}"),
                way_out: "Make room on its disk, or mend what is named; processors send everything again.",
            });
        }
        diagnose_processors(processors, &mut found);
        if let Some(queue) = &self.queue {
            diagnose_queue(&self.state.lock(), queue, processors, &mut found);
        }
        found.sort_by_key(|finding| match finding.severity {
            "error" => 0,
            "warning" => 1,
            _ => 2,
        });
        if found.is_empty() {
            found.push(Finding {
                code: "well",
                severity: "info",
                text: "Nothing is found that holds plays up.".to_owned(),
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
    let is_known = sum.queue.is_some();
    for nsqd in state.nsqds() {
        diagnose_nsqd(nsqd, queue, has_topic, found);
    }
    for lookupd in &state.lookupds {
        diagnose_lookupd(lookupd, is_known, found);
    }
    if let (Some(Alert { above, on: Some(true) }), Some(sum)) = (sum.alert, sum.queue) {
        found.push(Finding {
            code: "depth-alert",
            severity: "warning",
            text: format!("{} messages wait, more than the {above} of --depth-alert.", sum.depth),
            way_out: "Look whether it grows: then more is published than the processors count.",
        });
    }
    let moving = processors.iter().any(|known| known.per_second > 0.0);
    let is_empty = sum.queue.is_some_and(|queue| queue.depth == 0 && queue.deferred == 0);
    if is_empty && !moving {
        found.push(Finding {
            code: "idle",
            severity: "info",
            text: "The queue is empty and nothing is being counted.".to_owned(),
            way_out: "If plays are made: look whether their producers reach these nsqds and this topic.",
        });
    }
}

/// While nsqds are known, an nsqlookupd that is away keeps new ones from being found, and no more.
fn diagnose_lookupd(lookupd: &WatchedLookupd, is_nsqd_known: bool, found: &mut Vec<Finding>) {
    let severity = if is_nsqd_known { "warning" } else { "error" };
    if let Some(error) = &lookupd.peer.error {
        found.push(Finding {
            code: "lookupd-away",
            severity,
            // The error names it.
            text: format!("An nsqlookupd does not answer: {error}"),
            way_out: "Start it, or give --lookupd-http-address its HTTP address; new nsqds are not found meanwhile.",
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
        if let Some(failure) = &processor.failure {
            found.push(Finding {
                code: "processor-failed",
                severity: "error",
                text: format!("Processor {} has stopped counting: {failure}", processor.id),
                way_out: "Mend what is named and start it again; nothing is lost, nsqd has the messages.",
            });
        }
        // What is old is told by its silence.
        let fresh = processor.consumer.as_ref().filter(|_| processor.silent_ms <= SILENT_MS);
        if let Some(consumer) = fresh {
            diagnose_consumer(&processor.id, consumer, found);
        }
    }
    let Some(quietest) = processors.iter().map(|known| known.silent_ms).min() else {
        found.push(Finding {
            code: "no-processor",
            severity: "error",
            text: "No processor has reported since this dashboard started.".to_owned(),
            way_out: "Start `playcounts process` with --dashboard-url of this dashboard.",
        });
        return;
    };
    if quietest > SILENT_MS {
        found.push(Finding {
            code: "processor-silent",
            severity: "error",
            text: format!("No processor has reported for {} s.", quietest / 1000),
            way_out: "Look whether it runs, and whether it reaches this dashboard: its log says so.",
        });
    }
}

/// What keeps a processor from getting messages, as it says itself.
fn diagnose_consumer(id: &str, consumer: &ConsumerFigures, found: &mut Vec<Finding>) {
    let mut find = |code, severity, text: String, way_out| {
        found.push(Finding { code, severity, text, way_out });
    };
    if let Some(ms) = consumer.backoff_ms {
        let level = consumer.backoff_level;
        let text = format!(
            "Processor {id} is in backoff for {:.1} s: messages failed, {level} in a row.",
            ms as f64 / 1000.0
        );
        find("processor-backoff", "error", text, "Its log says what it could not handle.");
    }
    let is_connected = consumer.connections.iter().any(|nsqd| nsqd.connected);
    let severity = if is_connected { "warning" } else { "error" };
    for ConnectionFigures { nsqd, connected, pause, last_error, .. } in &consumer.connections {
        match (connected, pause, last_error) {
            (_, Some(Pause::Stopping), _) => {}
            (false, _, Some(error)) => find(
                "processor-nsqd",
                severity,
                format!("Processor {id} cannot connect to nsqd {nsqd}: {error}"),
                "Start that nsqd, or look whether its TCP address can be reached from the processor.",
            ),
            (true, Some(Pause::TimedOut), _) => find(
                "processor-timed-out",
                "warning",
                format!("Messages of nsqd {nsqd} timed out while processor {id} held them."),
                "It is too slow for what it holds: a smaller --max-in-flight, or a longer msg_timeout.",
            ),
            _ => {}
        }
    }
    for lookupd in consumer.lookupds.iter().filter(|lookupd| !lookupd.answering) {
        if let Some(error) = &lookupd.last_error {
            find(
                "processor-lookupd",
                severity,
                format!("An nsqlookupd does not answer processor {id}: {error}"),
                "Start it; what is connected stays, new nsqds are not found meanwhile.",
            );
        }
    }
}

/// Adds what it finds at one nsqd. Where another one has the topic, this one needs it not.
fn diagnose_nsqd(
    nsqd: &WatchedNsqd,
    queue: &WatchedQueue,
    has_topic: bool,
    found: &mut Vec<Finding>,
) {
    let at = &nsqd.peer.address;
    let mut find = |code, severity, text: String, way_out| {
        found.push(Finding { code, severity, text, way_out });
    };
    if let Some(error) = &nsqd.peer.error {
        let text = format!("nsqd {at} does not answer: {error}");
        find("nsqd-away", "error", text, "Start it, or give --nsqd-http-address its HTTP address.");
        return;
    }
    let Some(heard) = &nsqd.heard else { return };
    let (topic_name, channel_name) = (queue.topic.as_str(), queue.channel.as_str());
    let Some(topic) = heard.stats.topic(&queue.topic) else {
        if has_topic {
            return;
        }
        let text = format!("nsqd {at} has no topic {topic_name}: nobody has published to it.");
        find("no-topic", "warning", text, "Look at the producers' topic and nsqd address.");
        return;
    };
    if topic.paused {
        let text = format!("Topic {topic_name} at {at} is paused; {} messages wait.", topic.depth);
        find("topic-paused", "error", text, "Unpause it.");
    }
    let Some(channel) = heard.stats.channel(&queue.topic, &queue.channel) else {
        let text = format!("Topic {topic_name} at {at} has no channel {channel_name}.");
        find("no-channel", "error", text, "Start the processor, or give it this --channel.");
        return;
    };
    let waiting = channel.depth.saturating_add(channel.deferred_count);
    let name = format!("Channel {topic_name}/{channel_name} at {at}");
    if channel.paused {
        find(
            "channel-paused",
            "error",
            format!("{name} is paused; {waiting} messages wait."),
            "Unpause it.",
        );
    }
    let rdy: i64 = channel.clients.iter().map(|client| client.ready_count).sum();
    if channel.client_count == 0 && waiting > 0 {
        let text = format!("{name} has {waiting} messages and no consumer.");
        find("no-consumer", "error", text, "Start `playcounts process`.");
    } else if channel.client_count > 0 && rdy == 0 && waiting > 0 {
        let text = format!(
            "{name} has {waiting} messages, and its consumers ask for none (RDY 0): they back off."
        );
        find("backoff", "error", text, "The processor's log says what it could not handle.");
    } else if channel.depth > 0 && rdy > 0 && channel.in_flight_count >= rdy {
        let text = format!(
            "{name}: {} messages wait while {} are in flight, as many as its consumers ask for.",
            channel.depth, channel.in_flight_count
        );
        find(
            "behind",
            "warning",
            text,
            "It works at its limit: more --num-threads, or a larger --max-in-flight.",
        );
    }
}

#[cfg(test)]
mod tests {
    use nsq_protocol::TopicStats;

    use super::super::tests::{stats, watch};
    use super::*;
    use crate::wire::LookupdFigures;

    fn processor() -> Heartbeat {
        let id = "p".to_owned();
        Heartbeat { id, silent_ms: 100, failure: None, per_second: 5.0, consumer: None }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut TopicStats), want: &[&str]) {
        let watch = watch(&["a:1"], &[]);
        watch.hear("a:1", stats(change));
        let found = watch.diagnose(&[processor()], None);
        let codes: Vec<_> = found.iter().map(|finding| finding.code).collect();
        assert_eq!(codes, want, "{found:?}");
    }

    #[test]
    fn each_cause_is_found() {
        check(|_| {}, &["well"]);
        check(|topic| topic.topic_name = "other".to_owned(), &["no-topic"]);
        check(|topic| topic.channels.clear(), &["no-channel"]);
        check(|topic| topic.paused = true, &["topic-paused"]);
        check(|topic| topic.channels[0].paused = true, &["channel-paused"]);
        check(
            |topic| {
                (topic.channels[0].depth, topic.channels[0].client_count) = (5, 0);
                topic.channels[0].clients.clear();
            },
            &["no-consumer"],
        );
        check(
            |topic| {
                topic.channels[0].deferred_count = 5;
                topic.channels[0].clients[0].ready_count = 0;
            },
            &["backoff"],
        );
        check(
            |topic| (topic.channels[0].depth, topic.channels[0].in_flight_count) = (5, 10),
            &["behind"],
        );
        let watch = watch(&["a:1"], &[]);
        let codes = |processors: &[Heartbeat], store| {
            let found = watch.diagnose(processors, store);
            found.iter().map(|finding| finding.code).collect::<Vec<_>>()
        };
        watch.hear("a:1", stats(|_| {}));
        let quiet = Heartbeat { per_second: 0.0, ..processor() };
        assert_eq!(codes(&[quiet], None), ["idle"]);
        assert_eq!(codes(&[], Some("full")), ["store", "no-processor", "idle"]);
        let gone = Heartbeat { silent_ms: 60_000, failure: Some("x".to_owned()), ..processor() };
        assert_eq!(codes(&[gone], None), ["processor-failed", "processor-silent"]);
    }

    #[test]
    fn an_nsqlookupd_that_is_away_is_told() {
        let watch = watch(&["a:1"], &["l:1", "l:2"]);
        let codes = || {
            let found = watch.diagnose(&[processor()], None);
            found.iter().map(|finding| (finding.code, finding.severity)).collect::<Vec<_>>()
        };
        watch.hear_lookupd(0, Err("gone"));
        watch.hear_lookupd(1, Ok(&[]));
        assert_eq!(codes(), [("lookupd-away", "error"), ("no-nsqd", "error")]);
        watch.hear("a:1", stats(|_| {}));
        assert_eq!(codes(), [("lookupd-away", "warning"), ("no-nsqd", "warning")]);
        watch.hear_lookupd(0, Ok(&["a:1", "b:1"]));
        watch.hear_lookupd(1, Ok(&["a:1"]));
        assert_eq!(codes(), [("well", "info")]);
        // Another nsqd need not have the topic.
        watch.hear("b:1", stats(|topic| topic.topic_name = "other".to_owned()));
        assert_eq!(codes(), [("well", "info")]);
        watch.hear("a:1", stats(|topic| topic.topic_name = "other".to_owned()));
        assert_eq!(codes(), [("no-topic", "warning"), ("no-topic", "warning")]);
    }

    #[test]
    fn what_a_processor_says_of_its_connections_is_told() {
        let watch = watch(&["a:1"], &[]);
        watch.hear("a:1", stats(|_| {}));
        let nsqd = |name: &str, connected, pause| ConnectionFigures {
            nsqd: name.to_owned(),
            connected,
            rdy: 0,
            pause,
            in_flight: 0,
            reconnects: 0,
            last_error: Some("refused".to_owned()),
        };
        let lookupd = LookupdFigures {
            lookupd: "l:1".to_owned(),
            answering: false,
            nsqds: 0,
            last_error: Some("gone".to_owned()),
        };
        let away = Some(Pause::NotConnected);
        let check = |consumer: ConsumerFigures, silent_ms, want: &[(&str, &str)]| {
            let heartbeat = Heartbeat { consumer: Some(consumer), silent_ms, ..processor() };
            let found = watch.diagnose(&[heartbeat], None);
            let codes: Vec<_> = found.iter().map(|one| (one.code, one.severity)).collect();
            assert_eq!(codes, want, "{found:?}");
            found[0].text.clone()
        };
        let with = |connections| ConsumerFigures { connections, ..ConsumerFigures::default() };
        // An error that is over is none.
        check(with(vec![nsqd("a:1", true, None)]), 0, &[("well", "info")]);
        let text = check(with(vec![nsqd("a:1", false, away)]), 0, &[("processor-nsqd", "error")]);
        assert_eq!(text, "Processor p cannot connect to nsqd a:1: refused");
        let both = vec![nsqd("a:1", true, None), nsqd("b:1", false, away)];
        check(with(both.clone()), 0, &[("processor-nsqd", "warning")]);
        check(with(both.clone()), SILENT_MS + 1, &[("processor-silent", "error")]);
        check(with(vec![nsqd("a:1", false, Some(Pause::Stopping))]), 0, &[("well", "info")]);
        let held = with(vec![nsqd("a:1", true, Some(Pause::TimedOut))]);
        check(held, 0, &[("processor-timed-out", "warning")]);
        let backoff = ConsumerFigures {
            backoff_ms: Some(3_040),
            backoff_level: 2,
            lookupds: vec![lookupd],
            ..with(vec![nsqd("a:1", true, Some(Pause::Backoff))])
        };
        let want = [("processor-backoff", "error"), ("processor-lookupd", "warning")];
        let text = check(backoff, 0, &want);
        assert_eq!(text, "Processor p is in backoff for 3.0 s: messages failed, 2 in a row.");
    }
}
