//! The page's view of the queue in a real Chromium: what it shows of nsqds and nsqlookupds, and what may be done there.

use std::time::Instant;

use headless_chrome::Tab;
use nsq_protocol::{
    Compression, Consumer, ConsumerConfig, Producer, ProducerConfig, StatsFilter, TopicName,
};
use playcounts::dashboard::{Dashboard, RunFigure, RunOutcome, WatchedQueue};
use playcounts::nsqd::http_tls::HttpTls;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::dashboard_support::{Running, config, consumption, shared_ledger, start};
use crate::nsqd::{self, Nsqd};
use crate::nsqlookupd::Nsqlookupd;
use crate::page_support::{Complaints, MARKUP, click, launch, open, read, text, wait_for};
use crate::support::on_both_brokers;
use crate::timing::DEADLINE;

/// The text of the cell of that column in the row with that key of the queue's view.
fn cell(key: &str, column: &str) -> String {
    format!(
        "(() => {{ const row = [...document.querySelectorAll('#queue tbody tr')].find((row) => row.dataset.key === {key:?}); \
            const at = row && [...row.closest('table').tHead.rows[0].cells].findIndex((cell) => cell.textContent === {column:?}); \
            return row ? row.cells[at].textContent : null; }})()"
    )
}

/// The same in the card whose title starts with that.
fn cell_of(card: &str, key: &str, column: &str) -> String {
    format!(
        "(() => {{ const card = [...document.querySelectorAll('#queue .card')].find((card) => card.querySelector('h3')?.textContent.startsWith({card:?})); \
            const row = card && [...card.querySelectorAll('tbody tr')].find((row) => row.dataset.key === {key:?}); \
            const at = row && [...row.closest('table').tHead.rows[0].cells].findIndex((cell) => cell.textContent === {column:?}); \
            return row ? row.cells[at].textContent : null; }})()"
    )
}

/// The input of the open dialog with that number: 0 and 1 are topic and channel, 2 what is to be confirmed, 3 the token.
fn field(number: usize) -> String {
    format!("document.querySelectorAll('dialog[open] input')[{number}]")
}

fn type_into(tab: &Tab, number: usize, typed: &str) {
    read(tab, &format!("{}.focus()", field(number)));
    tab.type_str(typed).unwrap();
}

/// Waits until the open dialog says what is wrong.
#[track_caller]
fn wait_for_error(tab: &Tab, start: &str) {
    let error = "document.querySelector('dialog[open] .error').textContent";
    wait_for(tab, &format!("{error}.startsWith('{start}')"), true);
}

#[track_caller]
fn wait_for_closed(tab: &Tab) {
    wait_for(tab, "document.querySelector('dialog[open]') === null", true);
}

/// Who consumes, and how; what a consumer calls itself is text.
fn check_consumer(tab: &Tab) {
    read(tab, "document.querySelector('#queue details summary').click()");
    let consumer_row = "document.querySelector('#queue details tbody tr').textContent";
    wait_for(tab, &format!("{consumer_row}.includes({})", json!(MARKUP)), true);
    wait_for(tab, &format!("{consumer_row}.includes('snappy')"), true);
    assert_eq!(read(tab, "document.querySelectorAll('main img').length"), json!(0));
}

/// Half of the name is not enough; the whole of it pauses the channel.
fn check_pause(tab: &Tab, complaints: &Complaints, is_paused: &dyn Fn() -> bool) {
    click(tab, "button[aria-label='Choose an action for plays/processor']");
    wait_for(tab, "document.activeElement.closest('dialog') !== null", true);
    type_into(tab, 3, "the-secret");
    type_into(tab, 2, "plays");
    tab.press_key("Enter").unwrap();
    wait_for_error(tab, "confirm must be");
    assert!(!is_paused());
    type_into(tab, 2, "/processor");
    complaints.texts.lock().clear();
    click(tab, "dialog[open] button.danger");
    wait_for_closed(tab);
    assert!(is_paused());
    wait_for(tab, &cell("plays/processor", "State"), "paused");
    let findings = "document.querySelector('.findings').textContent";
    wait_for(tab, &format!("{findings}.includes('is paused')"), true);
    complaints.assert_none();
}

/// A channel of a topic that is not there is refused; the topic is made.
fn check_create(tab: &Tab, complaints: &Complaints) {
    click(tab, "button[aria-label^='Create a topic or channel']");
    for (number, typed) in [(0, "made"), (1, "c"), (2, "made/c")] {
        type_into(tab, number, typed);
    }
    // Its topic comes first, says nsqd.
    click(tab, "dialog[open] button.danger");
    wait_for_error(tab, "there is no topic made");
    for number in [1, 2] {
        read(tab, &format!("{}.value = ''", field(number)));
    }
    type_into(tab, 2, "made");
    complaints.texts.lock().clear();
    click(tab, "dialog[open] button.danger");
    wait_for_closed(tab);
    wait_for(tab, &cell("made", "State"), "open");
}

/// What passes by is shown as text; how many messages were published for it.
fn check_peek(tab: &Tab, nsqd: String, topic: &TopicName) -> u64 {
    click(tab, "button[aria-label='Peek at the messages of plays']");
    read(tab, "document.querySelector('dialog[open] select').value = '1'");
    read(tab, "document.querySelector('dialog[open] form').requestSubmit()");
    wait_for(
        tab,
        "document.querySelector('dialog[open] [role=status]').textContent",
        "Waiting for messages…",
    );
    let producer = Producer::connect(ProducerConfig::new().nsqd(nsqd)).unwrap();
    let mut published = 0;
    let body =
        "document.querySelector('dialog[open] tbody tr')?.lastElementChild.textContent ?? ''";
    let deadline = Instant::now() + DEADLINE;
    while read(tab, body) != json!(MARKUP) {
        assert!(Instant::now() < deadline, "nothing is shown");
        producer.publish(topic, MARKUP.as_bytes()).unwrap();
        published += 1;
    }
    assert_eq!(read(tab, "document.querySelectorAll('dialog img').length"), json!(0));
    tab.press_key("Escape").unwrap();
    wait_for_closed(tab);
    published
}

#[test]
fn page_pauses_a_channel_when_its_name_is_typed() {
    let Some(browser) = launch() else { return };
    on_both_brokers(|_, broker| {
        let (topic, channel) = ("plays".parse().unwrap(), "processor".parse().unwrap());
        let admin = nsq_protocol::Admin::new(&broker.http());
        admin.create_topic(&topic).unwrap();
        admin.create_channel(&topic, &channel).unwrap();
        let consumer = ConsumerConfig::new(topic, channel).nsqd(broker.tcp());
        let consumer = consumer.compression(Compression::Snappy).user_agent(MARKUP);
        let consumer = Consumer::start(consumer).unwrap();
        let data = tempfile::tempdir().unwrap();
        let mut config = config(&data);
        config.write_token = Some("the-secret".to_owned());
        let (nsqds, lookupds, tls) = (vec![broker.http()], Vec::new(), HttpTls::default());
        config.watched =
            Some(WatchedQueue { nsqds, lookupds, tls, topic, channel, depth_alert: Some(20) });
        let running = Running { dashboard: Dashboard::start(config).unwrap(), data };
        let (tab, complaints) = open(&browser, &format!("{}/?view=queue", running.dashboard.url()));
        wait_for(&tab, &cell("plays/processor", "State"), "open");
        wait_for(&tab, &cell("plays/processor", "Consumers"), "1");
        check_consumer(&tab);
        let stats = || admin.stats(&StatsFilter::default()).unwrap();
        let is_paused = || stats().channel(&topic, &channel).unwrap().paused;
        check_pause(&tab, &complaints, &is_paused);
        check_create(&tab, &complaints);
        let published = check_peek(&tab, broker.tcp(), &topic);
        // The channel has all that was shown.
        assert_eq!(stats().channel(&topic, &channel).unwrap().message_count, published);
        complaints.assert_none();
        // Escape leaves it alone.
        click(&tab, "button[aria-label='Choose an action for plays']");
        tab.press_key("Escape").unwrap();
        wait_for_closed(&tab);
        tab.close(true).unwrap();
        consumer.stop();
    });
}

#[test]
fn page_sums_over_the_nsqds_of_an_nsqlookupd() {
    let Some(browser) = launch() else { return };
    let Some(lookupd) = Nsqlookupd::start() else { return };
    let program = nsqd::find().unwrap();
    let register = format!("--lookupd-tcp-address={}", lookupd.tcp);
    // The second one measures how long messages take.
    let measure = "--e2e-processing-latency-percentile=0.5,0.99";
    let nsqds = ["--mem-queue-size=1", measure]
        .map(|more| Nsqd::start(&program, &[&register, "--mem-queue-size=1", more]));
    let (topic, channel) = ("plays".parse().unwrap(), "processor".parse().unwrap());
    for nsqd in &nsqds {
        let admin = nsq_protocol::Admin::new(&nsqd.http_addr());
        admin.create_topic(&topic).unwrap();
        admin.create_channel(&topic, &channel).unwrap();
        let producer = Producer::connect(ProducerConfig::new().nsqd(nsqd.addr())).unwrap();
        (0..10).for_each(|_| producer.publish(&topic, b"{}").unwrap());
    }
    let consumer = ConsumerConfig::new(topic, "other".parse().unwrap()).nsqd(nsqds[1].addr());
    let consumer = Consumer::start(consumer).unwrap();
    let producer = Producer::connect(ProducerConfig::new().nsqd(nsqds[1].addr())).unwrap();
    producer.publish(&topic, b"{}").unwrap();
    consumer.batches().recv().unwrap().finish();
    consumer.stop();
    nsq_protocol::Admin::new(&nsqds[0].http_addr()).pause_channel(&topic, &channel).unwrap();
    let data = tempfile::tempdir().unwrap();
    let mut config = config(&data);
    let at = lookupd.http.to_string();
    let (watched, lookupds, tls) = (Vec::new(), vec![at.clone()], HttpTls::default());
    config.watched =
        Some(WatchedQueue { nsqds: watched, lookupds, tls, topic, channel, depth_alert: Some(20) });
    let running = Running { dashboard: Dashboard::start(config).unwrap(), data };
    let (tab, complaints) = open(&browser, &format!("{}/?view=queue", running.dashboard.url()));
    wait_for(&tab, &cell(&at, "State"), "answers");
    wait_for(&tab, &cell(&at, "nsqds that it names"), "2");
    wait_for(&tab, "document.querySelectorAll('.nsqds > section').length", 2);
    // The first table with that row is the one of the sums.
    wait_for(&tab, &cell("plays/processor", "nsqds"), "2");
    wait_for(&tab, &cell("plays/processor", "Waiting"), "21");
    wait_for(&tab, &cell("plays/processor", "State"), "paused at 1 of 2");
    wait_for(&tab, &format!("Number({}) > 10", cell("plays/processor", "On disk")), true);
    // Its columns are there where an nsqd measures, and only there.
    let head = |text: &str| {
        format!(
            "[...document.querySelectorAll('.nsqds > section')].map((box) => box.textContent.includes('{text}')).sort().join()"
        )
    };
    wait_for(&tab, &head("p50"), "false,true");
    wait_for(&tab, &head("p99"), "false,true");
    let measured = "[...document.querySelectorAll('.nsqds tbody tr')].some((row) => \
        row.dataset.key === 'plays/other' && /[0-9] (µs|ms|s)/.test(row.cells[12].textContent))";
    wait_for(&tab, measured, true);
    // At a glance, in words and not by colour alone.
    click(&tab, "nav a[data-view=overview]");
    wait_for(
        &tab,
        &format!("{}.startsWith('⚠ more than 20; paused; ')", text("#depth-more")),
        true,
    );
    assert_eq!(read(&tab, "document.querySelector('#depth-tile').dataset.alert"), json!("true"));
    complaints.assert_none();
}

#[test]
fn page_shows_who_shares_a_ledger() {
    let Some(browser) = launch() else { return };
    let running = start();
    let id = |number| Uuid::from_u128(number).to_string();
    let report = |me, change: &dyn Fn(&mut Value)| {
        let (mut told, mut ledger) = (consumption(None), shared_ledger(me));
        change(&mut ledger);
        told["ledger_status"] = ledger;
        let report = json!({"processor": Uuid::from_u128(me), "consumption": told});
        running.post("/api/consumption", &report, 200);
    };
    report(1, &|_| {});
    report(2, &|_| {});
    running.post(
        "/api/counts",
        &json!({"processor": id(3), "version": 1, "counts": [{"video_id": id(9), "plays": 7}]}),
        200,
    );
    let (tab, complaints) = open(&browser, &running.dashboard.url());
    let of = |number, part: &str| text(&format!("[data-processor='{}'] {part}", id(number)));
    let name = "PostgreSQL db.example:5432/plays, shared by 2 processors";
    wait_for(&tab, &of(1, ".ledger-name"), name);
    wait_for(
        &tab,
        &of(1, ".ledger-line"),
        "lease: 9.5 s left; commits p50 / p99: 1.5 ms / 8.25 ms",
    );
    wait_for(&tab, &of(3, ".heard"), "dead");
    let published = format!("dead; {} publishes what it counted", id(1));
    wait_for(&tab, &of(3, ".ledger-line"), &*published);
    report(2, &|told| told["away"] = json!(MARKUP));
    wait_for(&tab, &of(2, ".rejection"), format!("Its ledger cannot be used: {MARKUP}"));
    report(2, &|_| {});
    click(&tab, "nav a[data-view=queue]");
    wait_for(&tab, &cell_of("Who shares", &id(3), "State"), "dead");
    wait_for(&tab, &cell_of("Who shares", &id(3), "Who publishes"), id(1));
    wait_for(&tab, &cell_of("Who shares", &id(3), "Reports here"), "no");
    wait_for(&tab, &cell_of("Who shares", &id(4), "Who publishes"), "all is published");
    wait_for(&tab, &cell_of("Who shares", &id(2), "Lease"), "9.5 s left");
    wait_for(&tab, &cell(&id(1), "Ledger"), "PostgreSQL db.example:5432/plays");
    assert_eq!(read(&tab, "document.querySelectorAll('main img').length"), json!(0));
    complaints.assert_none();
}

/// What a run has come to stands on the page for as long as it is served; who has said goodbye is not called silent.
#[test]
fn page_keeps_how_a_run_has_ended() {
    let Some(browser) = launch() else { return };
    let running = start();
    let report = json!({
        "processor": Uuid::from_u128(1), "consumption": consumption(None), "ending": "finished",
    });
    running.post("/api/consumption", &report, 200);
    let outcome = |fault: Option<&str>| RunOutcome {
        counted: 1_000,
        wanted: 1_000,
        fault: fault.map(str::to_owned),
        report: vec![RunFigure { name: "messages", value: "1,000 in 0.03 s".to_owned() }],
    };
    running.dashboard.run_ended(outcome(None));
    let (tab, complaints) = open(&browser, &running.dashboard.url());
    wait_for(&tab, &text("#run-title"), "Run finished: 1,000 of 1,000, verified");
    wait_for(&tab, &text("#run-report"), "messages1,000 in 0.03 s");
    wait_for(&tab, &format!("{}.startsWith('finished at ')", text(".processor .heard")), true);
    let colour = "getComputedStyle(document.querySelector('#run-title')).color";
    let calm = read(&tab, colour);
    click(&tab, "nav a[data-view=queue]");
    let finding = "document.querySelector('.findings li')";
    let said = format!("{finding}?.textContent.trim()");
    wait_for(&tab, &said, "Run finished: 1,000 of 1,000, verified.");
    wait_for(&tab, &format!("{finding}.dataset.severity"), "info");
    wait_for(&tab, "document.querySelectorAll('.findings li').length", 1);
    click(&tab, "nav a[data-view=overview]");
    running.dashboard.run_ended(outcome(Some(MARKUP)));
    let wrong = format!("Run finished: 1,000 of 1,000, NOT verified: {MARKUP}");
    wait_for(&tab, &text("#run-title"), &*wrong);
    assert_ne!(read(&tab, colour), calm);
    click(&tab, "nav a[data-view=queue]");
    wait_for(&tab, &format!("{finding}.dataset.severity"), "error");
    assert_eq!(read(&tab, "document.querySelectorAll('main img').length"), json!(0));
    complaints.assert_none();
}
