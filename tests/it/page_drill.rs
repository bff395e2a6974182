//! One topic, one channel, one nsqd on the page: summed over real nsqds and at each of them, with who consumes; each has an
//! address of its own.

use headless_chrome::Tab;
use nsq_protocol::{ChannelName, Consumer, ConsumerConfig, Producer, ProducerConfig, TopicName};
use playcounts::dashboard::{Dashboard, WatchedQueue};
use playcounts::nsqd::http_tls::HttpTls;
use serde_json::json;

use crate::dashboard_support::{Running, config};
use crate::nsqd::{self, Nsqd};
use crate::nsqlookupd::Nsqlookupd;
use crate::page_support::{MARKUP, click, launch, open, read, text, wait_for};

/// The table of what each nsqd has of a channel.
const AT_EACH: &str = "The channel at each nsqd";

/// The value of that name among the facts.
fn fact(name: &str) -> String {
    format!(
        "[...document.querySelectorAll('#queue-drill .facts > div')].find((pair) => pair.firstElementChild.textContent === {name:?})?.lastElementChild.textContent ?? null"
    )
}

/// The cell of that column in the row with that key of the drill's table with that name.
fn cell(table: &str, key: &str, column: &str) -> String {
    format!(
        "(() => {{ const box = document.querySelector('#queue-drill [aria-label={table:?}]'); \
            const row = [...box.querySelectorAll('tbody tr')].find((row) => row.dataset.key.startsWith({key:?})); \
            const at = row && [...row.closest('table').tHead.rows[0].cells].findIndex((cell) => cell.textContent === {column:?}); \
            return row ? row.cells[at].textContent : null; }})()"
    )
}

fn follow(tab: &Tab, link: &str) {
    let found = format!(
        "[...document.querySelectorAll('#queue a[data-inside]')].find((link) => link.textContent === {link:?} && link.checkVisibility())"
    );
    wait_for(tab, &format!("{found} !== undefined"), true);
    read(tab, &format!("{found}.click()"));
}

/// Waits until the facts say so.
#[track_caller]
fn check_facts(tab: &Tab, facts: &[(&str, &str)]) {
    facts.iter().for_each(|(name, value)| wait_for(tab, &fact(name), *value));
}

/// Two nsqds that register with that nsqlookupd: 10 messages wait at the first, 7 at the second, where the channel is paused.
fn start_nsqds(lookupd: &Nsqlookupd, topic: TopicName, channel: ChannelName) -> [Nsqd; 2] {
    let program = nsqd::find().unwrap();
    let register = format!("--lookupd-tcp-address={}", lookupd.tcp);
    let nsqds = [(); 2].map(|()| Nsqd::start(&program, &[&register, "--mem-queue-size=4"]));
    for (nsqd, messages) in nsqds.iter().zip([10, 7]) {
        let admin = nsq_protocol::Admin::new(&nsqd.http_addr());
        admin.create_topic(&topic).unwrap();
        admin.create_channel(&topic, &channel).unwrap();
        let producer = Producer::connect(ProducerConfig::new().nsqd(nsqd.addr())).unwrap();
        (0..messages).for_each(|_| producer.publish(&topic, b"{}").unwrap());
    }
    nsq_protocol::Admin::new(&nsqds[1].http_addr()).pause_channel(&topic, &channel).unwrap();
    nsqds
}

/// The topic: its sums, and its channels.
fn check_topic(tab: &Tab) {
    follow(tab, "plays");
    wait_for(tab, "location.search", "?view=queue&topic=plays");
    let facts = [("Messages in total", "17"), ("Channels", "1"), ("nsqds", "2"), ("State", "open")];
    check_facts(tab, &facts);
    let channels = "Channels of the topic";
    wait_for(tab, &cell(channels, "processor", "Waiting"), "17");
    wait_for(tab, &cell(channels, "processor", "State"), "paused at 1 of 2");
}

/// The channel: its sums, what each nsqd has of it, and who consumes, in whose name markup is text.
fn check_channel(tab: &Tab, nsqds: &[Nsqd; 2]) {
    follow(tab, "processor");
    wait_for(tab, "location.search", "?view=queue&topic=plays&channel=processor");
    let facts = [
        ("Messages in total", "17"),
        ("Waiting", "17"),
        ("In memory", "8"),
        ("On disk", "9"),
        ("In flight", "0"),
        ("Consumers", "1"),
        ("State", "paused at 1 of 2"),
    ];
    check_facts(tab, &facts);
    for (nsqd, waiting, state) in [(&nsqds[0], "10", "open"), (&nsqds[1], "7", "paused")] {
        let port = nsqd.http.port();
        let row = format!(
            "[...document.querySelectorAll('#queue-drill [aria-label={AT_EACH:?}] tbody tr')].find((row) => row.dataset.key.endsWith(':{port}'))"
        );
        wait_for(tab, &format!("{row}?.cells[1].textContent"), waiting);
        wait_for(tab, &format!("{row}?.cells[12].textContent"), state);
    }
    let consumers = "Consumers of the channel";
    wait_for(tab, &cell(consumers, "", "Program"), MARKUP);
    wait_for(tab, &format!("/^[0-9]+ (s|min)/.test({})", cell(consumers, "", "For")), true);
    assert_eq!(read(tab, "document.querySelectorAll('main img').length"), json!(0));
}

/// One of the nsqds alone, the way back, and the nsqd itself with both of its ports.
fn check_nsqd(tab: &Tab, nsqds: &[Nsqd; 2], lookupd: &Nsqlookupd) {
    let link = format!(
        "document.querySelector('#queue-drill [aria-label={AT_EACH:?}] tbody a').textContent"
    );
    let first = read(tab, &link);
    let first = first.as_str().unwrap().to_owned();
    follow(tab, &first);
    wait_for(tab, "new URLSearchParams(location.search).get('nsqd')", &*first);
    wait_for(tab, &fact("nsqds"), "1");
    read(tab, "history.back()");
    wait_for(tab, &fact("nsqds"), "2");
    read(tab, "history.go(-2)");
    wait_for(tab, "document.querySelector('#queue-drill').hidden", true);
    let known = |nsqd: &&Nsqd| first.ends_with(&format!(":{}", nsqd.http.port()));
    let tcp = nsqds.iter().find(known).unwrap().tcp.port();
    let link = format!("nsqd {first} (HTTP), TCP port {tcp}");
    let title = format!(
        "[...document.querySelectorAll('#queue h3 a')].find((link) => link.textContent.startsWith({link:?}))"
    );
    wait_for(tab, &format!("{title} !== undefined"), true);
    read(tab, &format!("{title}.click()"));
    check_facts(
        tab,
        &[("HTTP", &first), ("Health", "OK"), ("Named by", &lookupd.http.to_string())],
    );
    wait_for(tab, &format!("({})?.endsWith(':{tcp}')", fact("TCP")), true);
}

#[test]
fn page_drills_down_to_a_topic_a_channel_and_an_nsqd() {
    let Some(browser) = launch() else { return };
    let Some(lookupd) = Nsqlookupd::start() else { return };
    let (topic, channel) = ("plays".parse().unwrap(), "processor".parse().unwrap());
    let nsqds = start_nsqds(&lookupd, topic, channel);
    let consumer = ConsumerConfig::new(topic, channel).nsqd(nsqds[1].addr()).user_agent(MARKUP);
    let consumer = Consumer::start(consumer).unwrap();
    let data = tempfile::tempdir().unwrap();
    let mut config = config(&data);
    let (lookupds, tls) = (vec![lookupd.http.to_string()], HttpTls::default());
    config.watched =
        Some(WatchedQueue { nsqds: Vec::new(), lookupds, tls, topic, channel, depth_alert: None });
    let running = Running { dashboard: Dashboard::start(config).unwrap(), data };
    let url = format!("{}/?view=queue", running.dashboard.url());
    let (tab, complaints) = open(&browser, &url);
    wait_for(&tab, "document.querySelectorAll('#queue .nsqds > section').length >= 2", true);
    check_topic(&tab);
    check_channel(&tab, &nsqds);
    check_nsqd(&tab, &nsqds, &lookupd);
    complaints.assert_none();
    // A shared address of what is not there says so.
    tab.navigate_to(&format!("{url}&topic=nowhere")).unwrap().wait_until_navigated().unwrap();
    wait_for(&tab, &text("#queue-drill .note"), "No nsqd that answers has a topic nowhere.");
    click(&tab, "#queue-drill .crumbs a");
    wait_for(&tab, "document.querySelector('#queue-drill').hidden", true);
    consumer.stop();
}
