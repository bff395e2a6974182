//! Dead letters on the page: what was rejected, why, from where and when; as text, and a page at a time.

use headless_chrome::Tab;
use nsq_protocol::{Producer, ProducerConfig};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::dashboard_support::{consumption, start};
use crate::page_support::{MARKUP, click, launch, open, read, text, wait_for};
use crate::support::{Running, dashboard, on_both_brokers};

const LETTERS: &str = "document.querySelectorAll('#letters > li').length";

/// The ways to them: from the numbers of rejected messages in the queue and in the overview.
fn check_links(tab: &Tab) {
    click(tab, "nav a[data-view=queue]");
    let link = "[...document.querySelectorAll('#queue td a')].find((link) => link.href.includes('view=letters'))";
    wait_for(tab, &format!("{link}?.textContent"), "26");
    read(tab, &format!("{link}.click()"));
    wait_for(tab, "document.querySelector('#view-letters').hidden", false);
    click(tab, "nav a[data-view=overview]");
    wait_for(tab, "document.querySelector('.letters-link')?.hidden", false);
    click(tab, ".letters-link a");
    wait_for(tab, LETTERS, 20);
}

#[test]
fn page_shows_what_a_processor_has_rejected() {
    let Some(browser) = launch() else { return };
    on_both_brokers(|dir, broker| {
        let (_dashboard, url) = dashboard(dir);
        let _processor = Running::start(
            dir,
            &[
                "process",
                "--nsqd-tcp-address",
                &broker.tcp(),
                "--dashboard-url",
                &url,
                "--data-dir",
                "ledger",
            ],
        );
        let topic = "plays".parse().unwrap();
        let producer = Producer::connect(ProducerConfig::new().nsqd(broker.tcp())).unwrap();
        let (tab, complaints) = open(&browser, &format!("{url}/?view=letters"));
        wait_for(
            &tab,
            &text("#letters-said"),
            "No message was rejected since the processors' start.",
        );
        producer.publish(&topic, MARKUP.as_bytes()).unwrap();
        producer.publish(&topic, br#"{"video_id":"a"}"#).unwrap();
        wait_for(&tab, LETTERS, 1);
        let said = "1 message rejected since the processors' start; 1 to 1 of the newest 1.";
        wait_for(&tab, &text("#letters-said"), said);
        // As text, with its reason, its size, and where it is from.
        wait_for(&tab, &text("#letters pre"), MARKUP);
        assert_eq!(read(&tab, "document.querySelectorAll('main img').length"), json!(0));
        let letter = read(&tab, &text("#letters > li"));
        let letter = letter.as_str().unwrap();
        for part in [&*broker.tcp(), "JSON", &format!("{} bytes:", MARKUP.len())] {
            assert!(letter.contains(part), "{letter} has no {part}");
        }
        // More than are told: the newest, the first 1,024 characters of each.
        for number in 0..25 {
            producer.publish(&topic, format!("{number} {}", "x".repeat(5_000)).as_bytes()).unwrap();
        }
        wait_for(
            &tab,
            &format!("{}.startsWith('26 messages rejected')", text("#letters-said")),
            true,
        );
        wait_for(&tab, LETTERS, 20);
        wait_for(&tab, "document.querySelector('#letters pre').textContent.length", 1024);
        wait_for(&tab, &format!("{}.startsWith('24 x')", text("#letters pre")), true);
        wait_for(
            &tab,
            &format!("{}.includes('The first of 5,003 bytes:')", text("#letters > li")),
            true,
        );
        check_links(&tab);
        complaints.assert_none();
        tab.close(true).unwrap();
    });
}

#[test]
fn page_pages_through_the_letters_of_all_processors() {
    let Some(browser) = launch() else { return };
    let running = start();
    for processor in [1_u128, 2] {
        let processor = Uuid::from_u128(processor);
        let report = json!({"processor": processor, "consumption": consumption(Some("no play"))});
        running.post("/api/consumption", &report, 200);
        let letters: Vec<Value> = (0..15)
            .map(|number| {
                let at = 1_790_000_000_000_i64 + number * 2 + i64::from(processor == Uuid::from_u128(2));
                json!({"at": at, "nsqd": "a:4150", "message_id": "", "reason": MARKUP, "size": 2, "body": at.to_string()})
            })
            .collect();
        running.post(
            "/api/dead-letters",
            &json!({"processor": processor, "letters": letters}),
            200,
        );
    }
    let (tab, complaints) = open(&browser, &format!("{}/?view=letters", running.dashboard.url()));
    wait_for(&tab, LETTERS, 20);
    let body = text("#letters pre");
    wait_for(&tab, &body, "1790000000029");
    wait_for(&tab, "document.querySelector('#letters-newer').hidden", true);
    click(&tab, "#letters-older");
    wait_for(&tab, LETTERS, 10);
    wait_for(&tab, &body, "1790000000009");
    wait_for(&tab, "location.search", "?view=letters&page=2");
    wait_for(&tab, "document.querySelector('#letters-older').hidden", true);
    read(&tab, "history.back()");
    wait_for(&tab, &body, "1790000000029");
    assert_eq!(read(&tab, "document.querySelectorAll('main img').length"), json!(0));
    complaints.assert_none();
    // What no processor tells is refused, and says why.
    let many = json!({"processor": Uuid::from_u128(1), "letters": vec![
        json!({"at": 1, "nsqd": "", "message_id": "", "reason": "", "size": 0, "body": ""}); 21]});
    running.post("/api/dead-letters", &many, 400);
}
