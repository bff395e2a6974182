//! The check at the end of a run: every play of ours once, in the ledger and at each dashboard; what became of the plays of the
//! producer that is none of ours.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use playcounts::ledger::{self, IntegrityCheck, Snapshot};
use playcounts::model::attempted::Attempted;
use playcounts::producer::read_outbox;
use serde::Deserialize;
use ureq::Agent;

use crate::figures::shown;
use crate::foreign::Foreign;
use crate::http::get;
use crate::name::{Kind, Name};
use crate::options::LedgerKind;
use crate::parts::Cluster;
use crate::run::wait;
use playcounts::model::video_id::VideoId;

/// How long a dashboard may take until it shows what is counted.
const SHOWN_LIMIT: std::time::Duration = std::time::Duration::from_secs(60);

/// Compares, while dashboards and database run. `nsqd_kills` of nsqd were no orderly stop: each loses what it held of plays
/// that have no outbox.
pub(crate) fn check(
    cluster: &mut Cluster,
    agent: &Agent,
    foreign: Option<&Foreign>,
    nsqd_kills: usize,
) -> Result<()> {
    let total = snapshot(cluster)?.videos.iter().map(|video| video.plays).sum::<u64>();
    let dashboards: Vec<Name> = cluster.of_kind(Kind::Dashboard).collect();
    for name in &dashboards {
        let mut last = None;
        let shows_all = || {
            last = shown(cluster, agent, *name).ok();
            Ok(last == Some(total))
        };
        wait(&format!("{name} shows all"), SHOWN_LIMIT, shows_all)
            .with_context(|| format!("{total} are counted, {last:?} shown"))?;
    }
    for name in cluster.of_kind(Kind::Process).collect::<Vec<_>>() {
        let status = cluster.terminate(name)?;
        ensure!(status.success(), "{name} ended with {status}:\n{}", cluster.last_words(name));
    }
    let mut ledger = snapshot(cluster)?;
    let counted = by_video(&ledger);
    for name in &dashboards {
        compare(cluster, agent, *name, &counted)?;
    }
    let mut said = Vec::new();
    if let Some(foreign) = foreign {
        said.push(foreign.settle(&mut ledger, nsqd_kills)?);
    }
    if cluster.names().contains(&Name::GO_NSQ) {
        said.push(settle_go_nsq(cluster, &mut ledger, nsqd_kills)?);
    }
    if cluster.options.ledger == LedgerKind::Postgres {
        let log = std::fs::read(cluster.log(Name::POSTGRES))?;
        let log = String::from_utf8_lossy(&log);
        let (deadlocks, waits) =
            (log.matches("deadlock detected").count(), log.matches("still waiting for").count());
        println!("database: {deadlocks} deadlocks, {waits} waits for a lock of more than a second");
        ensure!(deadlocks == 0, "the order of locks is not the same everywhere");
    }
    let check = IntegrityCheck::new(&ledger, &attempted(cluster)?);
    println!("ours: {check}");
    println!(
        "shown: {} plays at each of {} dashboards",
        counted.values().sum::<u64>(),
        dashboards.len()
    );
    said.iter().for_each(|said| println!("{said}"));
    ensure!(check.is_exact() && check.attempted == check.counted, "the counts are not exact");
    Ok(())
}

fn snapshot(cluster: &mut Cluster) -> Result<Snapshot> {
    match cluster.options.ledger {
        LedgerKind::Files => {
            let directory = cluster.directory(Name::new(Kind::Process, 1));
            ledger::read(&directory)?.context("there is a ledger")
        }
        LedgerKind::Postgres => cluster.observer().context("a database")?.snapshot(),
    }
}

fn attempted(cluster: &Cluster) -> Result<Vec<Attempted>> {
    let outbox = |name| {
        read_outbox(&cluster.directory(name))?.with_context(|| format!("{name} has an outbox"))
    };
    cluster.of_kind(Kind::Produce).map(outbox).collect()
}

fn by_video(ledger: &Snapshot) -> HashMap<VideoId, u64> {
    let mut counted = HashMap::new();
    for video in &ledger.videos {
        *counted.entry(video.video_id).or_default() += video.plays;
    }
    counted
}

/// One row of a dashboard's export.
#[derive(Deserialize)]
struct Row {
    video_id: VideoId,
    plays: u64,
}

/// That a dashboard shows each video as the ledger has it, and no other.
fn compare(
    cluster: &Cluster,
    agent: &Agent,
    dashboard: Name,
    counted: &HashMap<VideoId, u64>,
) -> Result<()> {
    let rows = get(agent, cluster.place_of(dashboard).listens, "/api/export/counts.json")?;
    let rows: Vec<Row> = serde_json::from_value(rows)?;
    ensure!(
        rows.len() == counted.len(),
        "{dashboard} shows {} videos of {}",
        rows.len(),
        counted.len()
    );
    for Row { video_id, plays } in rows {
        let expected = counted.get(&video_id).copied().unwrap_or(0);
        ensure!(
            plays == expected,
            "{dashboard} shows {plays} plays of video {video_id}, not {expected}"
        );
    }
    Ok(())
}

/// What the producer of go-nsq says at its end.
#[derive(Deserialize)]
struct Report {
    /// Attempted and acknowledged plays of each video.
    videos: HashMap<VideoId, [u64; 2]>,
}

/// Takes the plays of go-nsq out of what the ledger holds, and says what became of them.
fn settle_go_nsq(cluster: &Cluster, ledger: &mut Snapshot, nsqd_kills: usize) -> Result<String> {
    let path = cluster.report(Name::GO_NSQ);
    let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    let report: Report = serde_json::from_str(&text).context("what go-nsq says at its end")?;
    let mut counted: HashMap<VideoId, u64> = HashMap::new();
    ledger.videos.retain(|video| {
        let is_foreign = report.videos.contains_key(&video.video_id);
        if is_foreign {
            *counted.entry(video.video_id).or_default() += video.plays;
        }
        !is_foreign
    });
    let all: u64 = counted.values().sum();
    ledger.counters.by_message = ledger.counters.by_message.saturating_sub(all);
    let (mut lost, mut too_many, mut acknowledged, mut attempted) = (0, 0, 0, 0);
    for (video, [tried, taken]) in &report.videos {
        let counted = counted.get(video).copied().unwrap_or(0);
        lost += taken.saturating_sub(counted);
        too_many += counted.saturating_sub(*tried);
        (attempted, acknowledged) = (attempted + tried, acknowledged + taken);
    }
    let said = format!(
        "go-nsq: attempted {attempted}, acknowledged {acknowledged}, counted {all}: lost {lost}, phantom or double {too_many}; \
         nsqd was killed {nsqd_kills} times"
    );
    if too_many > 0 || lost > 0 && nsqd_kills == 0 {
        bail!("{said}");
    }
    Ok(said)
}
