//! Ranges of time in the page, in a real Chromium as in `page.rs`: over a slow link, with a clock that is wrong, after a
//! restart, and what is said of time that nobody recorded.

use headless_chrome::protocol::cdp::Emulation::SetTimezoneOverride;
use headless_chrome::protocol::cdp::Network::EmulateNetworkConditions;
use headless_chrome::protocol::cdp::Page::AddScriptToEvaluateOnNewDocument;
use headless_chrome::{Browser, Tab};
use playcounts::dashboard::Dashboard;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::dashboard_support::{Running, ask, config, start, update, video};
use crate::page_support::{launch, open, read, text, wait_for};
use crate::streams::ChildDashboard;
use crate::support::wait_until;

/// What the chart of plays a second says to those who do not see it.
const RATE: &str = "document.querySelector('#figure-rate .chart').ariaLabel";

/// Reports as processor 1 that so many plays are counted.
fn report(running: &Running, counted: u64, per_second: f64) {
    let told = json!({
        "received": counted, "counted": counted, "duplicates": 0, "rejected": 0, "per_second": per_second,
        "realtime_ms": 1.25, "since_start": {"mean": 3.5, "p50": 2.0, "p99": 40.25, "max": 180.0},
    });
    let report = json!({"processor": Uuid::from_u128(1), "consumption": told});
    running.post("/api/consumption", &report, 200);
}

/// (time in ms, plays a second) of each live point.
fn points(running: &Running) -> Vec<(f64, f64)> {
    let series = running.get("/api/series?name=messages_per_second").json();
    let column = |name: &str| -> Vec<f64> {
        series[name].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
    };
    column("time").into_iter().zip(column("messages_per_second")).collect()
}

/// Opens a tab in which `script` runs before the page does.
fn open_after(browser: &Browser, script: &str, url: &str) -> std::sync::Arc<Tab> {
    let tab = browser.new_tab().unwrap();
    tab.set_default_timeout(crate::timing::DEADLINE);
    tab.call_method(AddScriptToEvaluateOnNewDocument {
        source: script.to_owned(),
        world_name: None,
        include_command_line_api: None,
        run_immediately: None,
    })
    .unwrap();
    tab.navigate_to(url).unwrap().wait_until_navigated().unwrap();
    tab
}

/// Every answer takes longer than the pause between two points: none is thrown away for the next.
#[test]
fn page_fills_its_charts_over_a_slow_link() {
    let Some(browser) = launch() else { return };
    let running = start();
    report(&running, 500, 500.0);
    wait_until("the burst is in the charts", || {
        points(&running).iter().any(|(_, rate)| *rate > 1.0)
    });
    let tab = browser.new_tab().unwrap();
    tab.set_default_timeout(crate::timing::DEADLINE);
    // Handles nothing: it is what switches the network's domain on.
    tab.register_response_handling("on", Box::new(|_, _| {})).unwrap();
    tab.call_method(EmulateNetworkConditions {
        offline: false,
        latency: 2_200.0,
        download_throughput: 50_000.0,
        upload_throughput: 50_000.0,
        connection_Type: None,
        packet_loss: None,
        packet_queue_length: None,
        packet_reordering: None,
    })
    .unwrap();
    tab.navigate_to(&running.dashboard.url()).unwrap();
    wait_for(&tab, &format!("{RATE}?.startsWith('Plays per second. plays/s: from 0 to ')"), true);
    // It goes on: what came while the answer was under way is there, and the next point follows it.
    let newest = "document.querySelector('#figure-rate .when')?.textContent";
    let before = read(&tab, newest);
    wait_for(&tab, &format!("{newest} !== {before}"), true);
    let asked = "performance.getEntriesByType('resource').filter(({ name }) => name.includes('/api/series')).length";
    assert!(read(&tab, asked).as_f64().unwrap() <= 3.0, "asked {} times", read(&tab, asked));
}

/// Charts and lists go by the dashboard's clock, whatever the browser's says.
#[test]
fn page_goes_by_the_dashboard_s_clock() {
    let Some(browser) = launch() else { return };
    let running = start();
    running.tell(1, &[(video(1), 1_000)]);
    report(&running, 500, 500.0);
    wait_until("the burst is in the charts", || {
        points(&running).iter().any(|(_, rate)| *rate > 1.0)
    });
    let mut tabs = Vec::new();
    for minutes in [-2, 2, 60 * 24 * 3] {
        let script = format!(
            "(() => {{ const Real = Date; const now = () => Real.now() + {minutes} * 60000; \
             Date = class extends Real {{ \
               constructor(...given) {{ super(...(given.length ? given : [now()])); }} \
               static now() {{ return now(); }} }}; window.real = () => Real.now(); }})()"
        );
        let tab = open_after(&browser, &script, &running.dashboard.url());
        wait_for(&tab, &text("#top-rows .plays"), "1,000");
        wait_for(
            &tab,
            &format!("{RATE}?.startsWith('Plays per second. plays/s: from 0 to ')"),
            true,
        );
        // The range ends with the dashboard's minute.
        let end = "new URL(document.querySelector('#top-csv').href).searchParams.get('to') - window.real()";
        let left = read(&tab, end).as_f64().unwrap();
        assert!((-61_000.0..=61_000.0).contains(&left), "{minutes} min: {left}");
        // The last play is of today, and told by its time.
        tab.navigate_to(&format!("{}/?range=today&zone=UTC", running.dashboard.url())).unwrap();
        wait_for(&tab, &text("#top-rows .plays"), "1,000");
        wait_for(&tab, &text("#live-text"), "live");
        tabs.push(tab);
    }
    // When it was last heard is a time of its clock, too.
    running.dashboard.shutdown().unwrap();
    let shown = "window.real() - Date.parse(`${new Date(window.real()).toISOString().slice(0, 10)}T${/^stale since (.{8})$/.exec(document.querySelector('#live-text').textContent)[1]}Z`)";
    for tab in tabs {
        tab.bring_to_front().unwrap();
        // A day more, which midnight may be.
        let ago = format!("({shown} + 86401000) % 86400000 < 61000");
        wait_for(&tab, &ago, true);
    }
}

/// The last 30 minutes are those of before a restart, too.
#[test]
fn page_shows_what_was_before_a_restart() {
    let Some(browser) = launch() else { return };
    let running = start();
    report(&running, 600, 600.0);
    wait_until("the plays are in the charts", || {
        points(&running).iter().any(|(_, rate)| *rate > 1.0)
    });
    let before = points(&running).last().unwrap().0;
    let Running { dashboard, data } = running;
    dashboard.shutdown().unwrap();
    let running = Running { dashboard: Dashboard::start(config(&data)).unwrap(), data };
    wait_until("a point a second", || points(&running).len() >= 3);
    let points = points(&running);
    // A bucket may have ended before the report came.
    let is_of_before = |(at, rate): &(f64, f64)| *rate > 1.0 && *at < before + 60_000.0;
    assert!(points.iter().any(is_of_before), "{points:?}");
    assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0), "{points:?}");
    let (tab, complaints) = open(&browser, &running.dashboard.url());
    wait_for(&tab, &format!("/from 0 to [1-9]/.test({RATE})"), true);
    complaints.assert_none();
}

/// A burst is as many plays in the chart as it was, however long its last report is fresh.
#[test]
fn page_draws_a_burst_as_long_as_it_was() {
    let Some(browser) = launch() else { return };
    let running = start();
    report(&running, 0, 0.0);
    wait_until("a point is there", || !points(&running).is_empty());
    report(&running, 100_000, 400_000.0);
    wait_until("it is over for 4 s", || {
        let points = points(&running);
        let burst = points.iter().rposition(|(_, rate)| *rate > 0.0);
        burst.is_some_and(|burst| points.len() > burst + 4)
    });
    let all = points(&running);
    let area: f64 = all.windows(2).map(|pair| (pair[1].0 - pair[0].0) / 1000.0 * pair[1].1).sum();
    assert!((95_000.0..105_000.0).contains(&area), "{area} plays of area: {all:?}");
    let (tab, complaints) = open(&browser, &running.dashboard.url());
    wait_for(&tab, &format!("{RATE}?.startsWith('Plays per second. plays/s: from 0 to ')"), true);
    complaints.assert_none();
}

/// A dashboard whose charts have 10 plays a second in each of the last `days` days' minutes.
fn with_even_plays(days: u32) -> Running {
    let Running { dashboard, data } = start();
    dashboard.shutdown().unwrap();
    let database = rusqlite::Connection::open(data.path().join("dashboard.sqlite3")).unwrap();
    playcounts::storage::row_check::add_function(&database).unwrap();
    let sql = format!(
        "DELETE FROM points;
         WITH RECURSIVE n(minute) AS (
           SELECT unixepoch() / 60 - {days} * 1440 UNION ALL SELECT minute + 1 FROM n WHERE minute < unixepoch() / 60 - 1)
         INSERT INTO points SELECT minute, 600, 9.5, 1.0, 1.0, 1.0, 1.0, 0, row_check(minute, 600, 9.5, 1.0, 1.0, 1.0, 1.0, 0) FROM n"
    );
    database.execute_batch(&sql).unwrap();
    drop(database);
    Running { dashboard: Dashboard::start(config(&data)).unwrap(), data }
}

/// A step of which only a part is in the range, or was recorded, is no dip.
#[test]
fn page_has_no_dip_where_a_range_begins_or_ends() {
    let Some(browser) = launch() else { return };
    let running = with_even_plays(9);
    // Steps of several minutes, at neither end of which the range begins or ends.
    for (from, to) in [("7d1h7m", "6h3m"), ("20d", "6h3m"), ("2d3h1m", "61m")] {
        let script = format!(
            "(() => {{ const ago = (text) => Date.now() - [...text.matchAll(/(\\d+)([dhm])/g)].reduce((sum, [, n, unit]) => \
             sum + n * {{ d: 86400000, h: 3600000, m: 60000 }}[unit], 0); \
             const at = (text) => new Date(ago(text)).toISOString().slice(0, 16) + 'Z'; \
             return `?range=custom&from=${{at('{from}')}}&to=${{at('{to}')}}`; }})()"
        );
        let (tab, complaints) = open(&browser, &running.dashboard.url());
        let query = read(&tab, &script);
        tab.navigate_to(&format!("{}/{}", running.dashboard.url(), query.as_str().unwrap()))
            .unwrap();
        wait_for(&tab, RATE, "Plays per second. plays/s: from 10 to 10");
        complaints.assert_none();
    }
}

/// What nobody recorded is compared with nothing.
#[test]
fn page_compares_with_nothing_that_was_not_recorded() {
    let Some(browser) = launch() else { return };
    let running = start();
    running.tell(1, &[(video(1), 1_000)]);
    let url = running.dashboard.url();
    let (tab, complaints) = open(&browser, &url);
    let told = text("#figure-plays .told");
    for (range, shown) in [
        ("30m", "1,000 plays in the last 30 minutes"),
        ("today", "1,000 plays today"),
        ("7d", "1,000 plays in 7 days with today"),
        ("30d", "1,000 plays in 30 days with today"),
    ] {
        tab.navigate_to(&format!("{url}/?range={range}")).unwrap();
        let since = format!("/^{shown}; plays are known only since .*\\d\\d:\\d\\d$/");
        wait_for(&tab, &format!("{since}.test({told})"), true);
        wait_for(&tab, &text("#top-summary"), "1,000 plays of 1 video");
        assert_eq!(read(&tab, &text("#top-rows .change")), json!("–"));
    }
    tab.navigate_to(&format!("{url}/?view=video&video={}", video(1))).unwrap();
    let told = "[...document.querySelectorAll('#view-video .told')].map((one) => one.textContent).join(' | ')";
    wait_for(&tab, &format!("({told}).match(/known only since/g)?.length"), 3);
    complaints.assert_none();
    let Running { dashboard, data } = running;
    dashboard.shutdown().unwrap();
    // Three hours later there is a time before that is known.
    let database = rusqlite::Connection::open(data.path().join("dashboard.sqlite3")).unwrap();
    playcounts::storage::row_check::add_function(&database).unwrap();
    let rows = [("minute", 1), ("hour", 60), ("day", 1440)].map(|(name, minutes)| {
        format!(
            "DELETE FROM history_{name};
             INSERT INTO history_{name} SELECT bucket, video_id, 500, row_check(bucket, video_id, 500)
             FROM (SELECT video_id, (unixepoch() / 60 - 185) / {minutes} AS bucket FROM counts)
             WHERE bucket IS NOT NULL;"
        )
    });
    database.execute_batch(&rows.concat()).unwrap();
    drop(database);
    let running = Running { dashboard: Dashboard::start(config(&data)).unwrap(), data };
    running.tell(2, &[(video(1), 2_000)]);
    let top = running.get("/api/top").json();
    assert_eq!((&top["total"], &top["total_before"]), (&json!(1_000), &json!(0)));
    let now = top["to"].as_i64().unwrap();
    let top = running.get(&format!("/api/top?from={}&to={now}", now - 2 * 3_600_000)).json();
    assert_eq!((&top["total"], &top["total_before"]), (&json!(1_000), &Value::Null));
}

/// A dashboard with a play in each minute of the last three days, and of each hour before, of 40 days.
/// With it the minute that goes on, in which there is none.
fn with_a_play_a_minute() -> (Running, i64) {
    let running = start();
    running.tell(1, &[(video(1), 1)]);
    let Running { dashboard, data } = running;
    dashboard.shutdown().unwrap();
    let database = rusqlite::Connection::open(data.path().join("dashboard.sqlite3")).unwrap();
    playcounts::storage::row_check::add_function(&database).unwrap();
    let epoch = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let now = i64::try_from(epoch.as_secs() / 60).unwrap();
    // What is kept by the minute, by the hour and by the day, and the charts' minutes, which part an hour.
    let tables = [("minute", 1, 2 * 1440), ("hour", 60, 40 * 24), ("day", 1440, 40)].map(|(name, minutes, count)| {
        format!(
            "DELETE FROM history_{name};
             WITH RECURSIVE n(bucket) AS (
               SELECT {now} / {minutes} - {count} UNION ALL SELECT bucket + 1 FROM n WHERE bucket < {now} / {minutes} - 1)
             INSERT INTO history_{name}
             SELECT bucket, video_id, {minutes}, row_check(bucket, video_id, {minutes}) FROM n, (SELECT video_id FROM counts);
             INSERT INTO history_{name}
             SELECT bucket, video_id, plays, row_check(bucket, video_id, plays)
             FROM (SELECT {now} / {minutes} AS bucket, video_id, {now} % {minutes} AS plays FROM counts)
             WHERE plays > 0;"
        )
    });
    let points = format!(
        "DELETE FROM points;
        WITH RECURSIVE n(minute) AS (
          SELECT {now} - 40 * 1440 UNION ALL SELECT minute + 1 FROM n WHERE minute < {now} - 1)
        INSERT INTO points SELECT minute, 1, 0.0, 1.0, 1.0, 1.0, 1.0, 0, row_check(minute, 1, 0.0, 1.0, 1.0, 1.0, 1.0, 0) FROM n"
    );
    database.execute_batch(&(tables.concat() + &points)).unwrap();
    drop(database);
    (Running { dashboard: Dashboard::start(config(&data)).unwrap(), data }, now)
}

/// A zone that is chosen is in the address, is kept, and holds in every view.
fn check_choice(tab: &Tab, url: &str) {
    tab.call_method(SetTimezoneOverride { timezone_id: "America/New_York".to_owned() }).unwrap();
    tab.navigate_to(&format!("{url}/?range=today")).unwrap();
    wait_for(
        tab,
        "document.querySelector('select.zone').selectedOptions[0]?.textContent",
        "browser (America/New_York)",
    );
    let choose = "(() => { const list = document.querySelector('select.zone'); list.focus(); \
        list.value = [...list.options].find(({ value }) => /^Asia.Kath?mandu$/.test(value)).value; \
        list.dispatchEvent(new Event('change')); })()";
    read(tab, choose);
    // Browsers differ in how they spell it.
    wait_for(
        tab,
        "/^.range=today&zone=Asia.Kath?mandu$/.test(decodeURIComponent(location.search))",
        true,
    );
    let minutes = "(() => { const at = new Date(Date.now() + 345 * 60000); return at.getUTCHours() * 60 + at.getUTCMinutes(); })()";
    let total =
        "parseInt(document.querySelector('#figure-plays .told').textContent.replaceAll(',', ''))";
    wait_for(tab, &format!("Math.abs({total} - {minutes}) <= 2"), true);
    tab.navigate_to(&format!("{url}/?view=video&video={}", video(1))).unwrap();
    // 22:13:20 of UTC, which is the next day there.
    wait_for(
        tab,
        "/^03:58:20, Asia.Kath?mandu$/.test(document.querySelector('#video-last-more').textContent)",
        true,
    );
    wait_for(
        tab,
        "/^Plays by day, the last 30 days. plays: from 1,440 to 1,440;/.test(document.querySelector('#figure-days .chart').ariaLabel)",
        true,
    );
    // The week's hours are means: each hour has 60 plays, whichever day comes once more.
    wait_for(
        tab,
        "document.querySelector('#heat-text').textContent.endsWith(', 60 on average in the last 7 days.')",
        true,
    );
}

/// Bars of days are those of the reader's zone, or of the one that was chosen, whole hours from UTC or not.
#[test]
fn page_sums_the_days_of_any_zone() {
    let Some(browser) = launch() else { return };
    let (running, _) = with_a_play_a_minute();
    let url = running.dashboard.url();
    let (tab, complaints) = open(&browser, &url);
    let chart = "document.querySelector('#figure-plays .chart').ariaLabel";
    for zone in
        ["Asia/Kolkata", "Australia/Lord_Howe", "America/St_Johns", "UTC", "Pacific/Kiritimati"]
    {
        tab.call_method(SetTimezoneOverride { timezone_id: zone.to_owned() }).unwrap();
        tab.navigate_to(&format!("{url}/?range=7d")).unwrap();
        // Six days of 1,440 minutes; in Lord Howe and St. John's one of them may be longer or shorter.
        wait_for(
            &tab,
            &format!(
                "/^Plays by day, 7 days. plays: from 1,(4[1-7]|38|50)0 to 1,(4[1-7]|38|50)0;/.test({chart})"
            ),
            true,
        );
        if !zone.starts_with("A") || zone == "Asia/Kolkata" {
            assert!(
                read(&tab, chart).as_str().unwrap().contains("plays: from 1,440 to 1,440;"),
                "{zone}: {}",
                read(&tab, chart)
            );
        }
        wait_for(
            &tab,
            "document.querySelector('#figure-plays .told').textContent.includes(' against the 7 days before up to this time')",
            true,
        );
        // Now is as far into its day as clocks there say.
        let minutes = "new Date().getHours() * 60 + new Date().getMinutes()";
        let today = "Number(document.querySelectorAll('#figure-plays output')[1].textContent.replaceAll(',', ''))";
        let off = read(&tab, &format!("{today} - ({minutes})")).as_f64().unwrap();
        assert!((-2.0..=2.0).contains(&off), "{zone}: {off}");
    }
    check_choice(&tab, &url);
    complaints.assert_none();
}

/// A list of moments that does not fit is refused with what would.
#[test]
fn plays_between_moments_are_bounded_and_whole() {
    let (running, minute) = with_a_play_a_minute();
    let now = minute * 60_000;
    let hour = 3_600_000;
    let sums = |path: &str, edges: &[i64]| -> Vec<i64> {
        let edges: Vec<String> = edges.iter().map(i64::to_string).collect();
        let answer = running.get(&format!("{path}?edges={}", edges.join(",")));
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer.json()["plays"]
            .as_array()
            .unwrap()
            .iter()
            .map(|plays| plays.as_i64().unwrap())
            .collect()
    };
    let one = format!("/api/counts/{}/plays", video(1));
    for path in ["/api/plays", &one] {
        assert_eq!(sums(path, &[now - 25 * 60_000, now - 10 * 60_000, now]), [15, 10]);
        // By the hour, parted by the minutes: 30 days ago a half.
        let begin = (now - 720 * hour) / hour * hour + hour / 2;
        assert_eq!(
            sums(path, &[begin, begin + hour, begin + 24 * hour, now - hour])
                .iter()
                .take(2)
                .sum::<i64>(),
            1_440
        );
    }
    // What was played now is in it.
    running.tell(2, &[(video(1), 8)]);
    assert_eq!(sums("/api/plays", &[now - 120_000, now + 10 * 60_000]), [2 + 7]);
    for edges in ["", "5", "x,y", "120000,60000", "60000,60001", "-1,5", "1,99999999999999999"] {
        let answer = running.get(&format!("/api/plays?edges={edges}"));
        assert_eq!(answer.status, 400, "{edges}");
        assert!(
            answer.error().starts_with("edges must be 2 to 500 moments in ms"),
            "{}",
            answer.error()
        );
    }
    let many: Vec<String> = (1..=501).map(|minute| (minute * 60_000).to_string()).collect();
    assert_eq!(running.get(&format!("/api/plays?edges={}", many.join(","))).status, 400);
    assert_eq!(running.get(&format!("/api/plays?edges={}", many[1..].join(","))).status, 200);
    assert_eq!(running.get(&format!("/api/counts/{}/plays?edges=0,60000", video(9))).status, 404);
}

/// Plays of the minute that goes on are in the sums, after a kill -9 of the dashboard, too.
#[test]
fn plays_of_the_running_minute_outlive_a_kill() {
    let data = tempfile::tempdir().unwrap();
    let sums = |dashboard: &ChildDashboard| {
        let get = |path: &str| ask(dashboard.address, "GET", path, "", b"").json();
        let now = get("/api/stats")["time"].as_i64().unwrap();
        get(&format!("/api/plays?edges={},{}", now - 600_000, now + 60_000))["plays"][0].clone()
    };
    let dashboard = ChildDashboard::start(data.path(), "");
    let told = update(1, &[(video(1), 42)]).to_string();
    assert_eq!(ask(dashboard.address, "POST", "/api/counts", "", told.as_bytes()).status, 200);
    assert_eq!(sums(&dashboard), json!(42));
    drop(dashboard);
    assert_eq!(sums(&ChildDashboard::start(data.path(), "")), json!(42));
}

/// Charts are a fraction as long for those who take gzip.
#[test]
fn charts_are_gzipped() {
    let running = with_even_plays(3);
    let now = running.get("/api/stats").json()["time"].as_i64().unwrap();
    let path = format!("/api/series?from={}", now - 2 * 86_400_000);
    let plain = running.get(&path);
    let gzipped = running.ask("GET", &path, "Accept-Encoding: gzip\r\n", b"");
    assert!(gzipped.head.to_lowercase().contains("content-encoding: gzip"), "{}", gzipped.head);
    assert!(!plain.head.to_lowercase().contains("content-encoding"), "{}", plain.head);
    assert!(
        gzipped.body.len() * 3 < plain.body.len(),
        "{} of {}",
        gzipped.body.len(),
        plain.body.len()
    );
}
