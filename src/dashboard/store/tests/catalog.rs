//! Titles, what is shown of videos, and imports; before and behind kills, checkpoints, resets and backups.

use proptest::prelude::*;

use super::*;
use crate::model::video_id::VideoId;
use crate::wire::{
    ChangedVideo, Correction, CorrectionChange, ImportRow, ImportUpdate, ImportedCount, VideoTexts,
    VideoTitle, VisibilityChange,
};

fn id(number: u128) -> VideoId {
    match number % 2 {
        0 => VideoId::from_u128(number),
        _ => format!("video {number}").parse().unwrap(),
    }
}

fn titled(title: Option<&str>) -> VideoTexts {
    let url = title.map(|title| format!("https://example.org/{title}"));
    VideoTexts { title: title.map(str::to_owned), url }
}

fn set(store: &Store, number: u128, title: Option<&str>) {
    store.change(CatalogWrite::Texts(vec![(id(number), titled(title))])).unwrap();
}

fn show(store: &Store, number: u128, visibility: Visibility) {
    let change = VisibilityChange { visibility, reason: Some("law".to_owned()) };
    store.change(CatalogWrite::Visibility(id(number), change)).unwrap();
}

fn correct(store: &Store, number: u128, plays: i64) -> Stored {
    let change = CorrectionChange { plays, reason: "bots".to_owned() };
    store.change(CatalogWrite::Correction(id(number), change))
}

fn import(store: &Store, import: u128, counts: &[(u128, u64)]) -> Stored {
    let counts =
        counts.iter().map(|(video, plays)| ImportedCount { video_id: id(*video), plays: *plays });
    store.change(CatalogWrite::Import(ImportUpdate {
        import: Uuid::from_u128(import),
        name: format!("{import}.csv"),
        counts: counts.collect(),
    }))
}

fn take_back(store: &Store, import: u128) {
    store.change(CatalogWrite::TakeBack(Uuid::from_u128(import))).unwrap();
}

/// Tells counts, with titles that plays say.
fn tell(store: &Store, processor: u128, counts: &[(u128, u64)], titles: &[(u128, &str)]) {
    let titles = titles
        .iter()
        .map(|(number, title)| VideoTitle { video_id: id(*number), title: (*title).to_owned() });
    let counts = counts.iter().map(|(number, plays)| VideoCount {
        video_id: id(*number),
        plays: *plays,
        last_played_at: None,
    });
    let update = CountsUpdate {
        counts: counts.collect(),
        titles: titles.collect(),
        ..update(processor, 1, &[])
    };
    store.merge(update).unwrap();
}

/// All that anybody sees of a store.
#[derive(Debug, PartialEq)]
struct Seen {
    totals: Totals,
    rows: Vec<VideoRow>,
    found: Vec<VideoId>,
    changed: Vec<ChangedVideo>,
    imports: Vec<ImportRow>,
    titles: usize,
    counts: Vec<(VideoId, u64)>,
}

fn seen(store: &Store) -> Seen {
    let list = |search: Option<&str>| {
        let query = ListQuery {
            column: Column::Plays,
            descending: true,
            limit: LIST_MAX,
            offset: 0,
            after: None,
            search: search.map(Search::new),
        };
        store.list(&query).rows
    };
    Seen {
        totals: store.totals(),
        rows: list(None),
        found: list(Some("title")).into_iter().map(|row| row.video_id).collect(),
        changed: store.changed_videos(),
        imports: store.imports(),
        titles: store.titles(0, usize::MAX).0.len(),
        counts: store.counts(),
    }
}

/// As it is after a kill, in a backup, and after a checkpoint and a kill.
#[track_caller]
fn expect_kept(store: &Store, directory: &Path) {
    let before = seen(store);
    let copy = killed(store, directory);
    assert_eq!(read_counts(copy.path()).unwrap().unwrap(), before.counts);
    assert_eq!(seen(&reopened(copy.path())), before, "killed");
    let backup_dir = tempfile::tempdir().unwrap();
    backup(directory, &backup_dir.path().join(FILE)).unwrap().unwrap();
    assert_eq!(seen(&reopened(backup_dir.path())), before, "restored");
    store.write(Task::Checkpoint).unwrap();
    let copy = killed(store, directory);
    assert_eq!(seen(&reopened(copy.path())), before, "written to the tables, and killed");
    // Opened and closed in order.
    drop(reopened(copy.path()));
    assert_eq!(seen(&reopened(copy.path())), before, "closed");
}

#[test]
fn what_is_shown_is_what_is_counted_and_what_was_changed_of_it() {
    let (temp, store) = store();
    tell(&store, 1, &[(1, 100), (2, 50), (3, 10)], &[(1, "a title")]);
    let plays = |store: &Store, number| store.shown_video(id(number)).unwrap().row.plays;
    show(&store, 1, Visibility::Hidden);
    assert_eq!(store.totals(), Totals { videos: 3, plays: 160 });
    assert_eq!((seen(&store).rows.len(), seen(&store).found.len()), (2, 0));
    show(&store, 2, Visibility::Deleted);
    assert_eq!(store.totals(), Totals { videos: 2, plays: 110 });
    // For plays that come later as well, whoever counts them.
    tell(&store, 1, &[(1, 101), (2, 60)], &[]);
    tell(&store, 2, &[(2, 5), (3, 1)], &[]);
    assert_eq!(store.totals(), Totals { videos: 2, plays: 112 });
    assert_eq!(correct(&store, 3, -4), Ok(store.id()));
    assert_eq!((plays(&store, 3), store.totals().plays), (7, 108));
    // Absolute, and never below 0.
    correct(&store, 3, -400).unwrap();
    assert_eq!((plays(&store, 3), store.totals().plays), (0, 101));
    correct(&store, 3, 4).unwrap();
    let revision = store.revision();
    correct(&store, 3, 4).unwrap();
    assert_eq!((plays(&store, 3), store.revision()), (15, revision));
    let changed = store.changed_videos();
    assert_eq!(changed.iter().map(|video| video.counted).collect::<Vec<_>>(), [65, 101, 11]);
    expect_kept(&store, temp.path());
    show(&store, 2, Visibility::Shown);
    show(&store, 1, Visibility::Shown);
    correct(&store, 3, 0).unwrap();
    assert_eq!(
        (store.totals(), store.changed_videos()),
        (Totals { videos: 3, plays: 177 }, vec![])
    );
    assert_eq!(seen(&store).found, [id(1)]);
    expect_kept(&store, temp.path());
    assert_eq!(store.told(), 177);
}

#[test]
fn an_import_counts_once_and_is_taken_back_whole() {
    let (temp, store) = store();
    tell(&store, 1, &[(1, 10)], &[]);
    let told = store.told();
    for _ in 0..2 {
        import(&store, 5, &[(1, 100), (2, 7)]).unwrap();
        import(&store, 5, &[(3, 1)]).unwrap();
    }
    assert_eq!(store.totals(), Totals { videos: 3, plays: 118 });
    let sums = |store: &Store| {
        store.imports().iter().map(|import| (import.videos, import.plays)).collect::<Vec<_>>()
    };
    assert_eq!(sums(&store), [(3, 108)]);
    // Neither history nor rates know of it.
    let day = store.kept(Scale::Day).unwrap();
    assert_eq!((store.told(), store.top(Scale::Day, day, 9).unwrap().total), (told, 10));
    expect_kept(&store, temp.path());
    import(&store, 6, &[(2, 1)]).unwrap();
    take_back(&store, 5);
    // Of the third nobody else has told.
    assert_eq!(store.totals(), Totals { videos: 2, plays: 11 });
    assert_eq!((seen(&store).rows.len(), store.counts().len()), (2, 2));
    assert!(store.shown_video(id(3)).is_none());
    expect_kept(&store, temp.path());
    // The same again, as if it had never been.
    import(&store, 5, &[(1, 4), (3, 0)]).unwrap();
    assert_eq!(store.totals(), Totals { videos: 3, plays: 15 });
    expect_kept(&store, temp.path());
    assert_eq!(store.top(Scale::Day, store.kept(Scale::Day).unwrap(), 9).unwrap().total, 10);
    let most = crate::model::video::MAX_PLAYS;
    for refused in [import(&store, 7, &[(1, most)]), correct(&store, 1, most as i64)] {
        let Err(NotStored::Refused(reason)) = refused else { panic!("{refused:?}") };
        assert!(reason.contains("more than 9007199254740991"), "{reason}");
    }
    assert_eq!((store.imports().len(), store.totals().plays), (2, 15));
    // No processor's counts were: nothing is wrong with the store.
    assert_eq!(store.refused(), None);
}

/// Titles that are committed together with a reset are kept over it, in memory as in the journal.
#[test]
fn titles_that_come_with_a_reset_stay() {
    let (temp, store) = store();
    let jobs = store.inboxes.jobs.lock().clone().unwrap();
    let (answer, answers) = bounded(4);
    let told = |number, title: &str| {
        let titles = vec![VideoTitle { video_id: id(number), title: title.to_owned() }];
        Job::Counts(Box::new(CountsUpdate { titles, ..update(1, 1, &[(number, 1)]) }))
    };
    let held = hold(&store);
    {
        // The writer hangs in the first one: the others wait together.
        let _read = store.state.index.read();
        for job in [told(2, "title one"), told(4, "title two"), Job::Clear] {
            jobs.send((job, answer.clone())).unwrap();
        }
    }
    (0..3).for_each(|_| assert_eq!(answers.recv().unwrap().err(), None));
    let copy = copied(temp.path());
    drop(held);
    assert_eq!((store.titles(0, usize::MAX).0.len(), store.totals()), (2, Totals::default()));
    assert_eq!(seen(&store), seen(&reopened(copy.path())));
    expect_kept(&store, temp.path());
}

/// Of what plays say in one commit the last holds, in memory as in the journal.
#[test]
fn of_titles_that_come_together_the_last_stays() {
    let (temp, store) = store();
    tell(&store, 1, &[(2, 1)], &[(2, "title two")]);
    let jobs = store.inboxes.jobs.lock().clone().unwrap();
    let (answer, answers) = bounded(4);
    {
        let _read = store.state.index.read();
        for (plays, title) in [(2, "title one"), (3, "title two")] {
            let titles = vec![VideoTitle { video_id: id(2), title: title.to_owned() }];
            let job = Job::Counts(Box::new(CountsUpdate { titles, ..update(1, 1, &[(2, plays)]) }));
            jobs.send((job, answer.clone())).unwrap();
        }
    }
    (0..2).for_each(|_| assert_eq!(answers.recv().unwrap().err(), None));
    assert_eq!(store.titles(0, 9).0[0].1.title.as_deref(), Some("title two"));
    expect_kept(&store, temp.path());
}

/// A title that is new is shown at once, even where no count is.
#[test]
fn a_title_alone_is_a_change() {
    let (_temp, store) = store();
    tell(&store, 1, &[(2, 1)], &[]);
    let revision = store.revision();
    tell(&store, 1, &[(2, 1)], &[(2, "title")]);
    assert!(store.revision() > revision);
    let revision = store.revision();
    tell(&store, 1, &[(2, 1)], &[(2, "title")]);
    assert_eq!(store.revision(), revision);
}

/// What is set by hand stays; titles stay over a reset, and so does what is not shown.
#[test]
fn a_reset_leaves_titles_and_what_is_not_shown() {
    let (temp, store) = store();
    tell(&store, 1, &[(1, 10), (2, 20), (3, 30)], &[(1, "title one"), (2, "title two")]);
    set(&store, 2, Some("title by hand"));
    tell(&store, 1, &[(1, 11)], &[(1, "title uno"), (2, "title dos")]);
    show(&store, 3, Visibility::Hidden);
    correct(&store, 1, 5).unwrap();
    import(&store, 5, &[(1, 100)]).unwrap();
    // Both in the journal alone, and in the tables.
    for is_written in [false, true] {
        let held = if is_written {
            store.write(Task::Checkpoint).unwrap();
            None
        } else {
            Some(hold(&store))
        };
        store.clear().unwrap();
        assert_eq!(store.totals(), Totals::default());
        let copy = copied(temp.path());
        drop(held);
        let titles = |store: &Store| {
            let mut titles = store.titles(0, usize::MAX).0;
            titles.sort_by_key(|(id, _)| *id);
            titles.into_iter().map(|(_, row)| row.title.unwrap()).collect::<Vec<_>>()
        };
        for store in [&store, &reopened(copy.path())] {
            assert_eq!(titles(store), ["title by hand".into(), "title uno".into()]);
            assert!(store.imports().is_empty());
            let changed = store.changed_videos();
            assert_eq!((changed.len(), changed[0].visibility), (1, Visibility::Hidden));
        }
        expect_kept(&store, temp.path());
        tell(&store, 1, &[(1, 11), (2, 20), (3, 30)], &[]);
        assert_eq!((store.totals().plays, seen(&store).rows.len()), (61, 2));
        correct(&store, 1, 5).unwrap();
        import(&store, 5, &[(1, 100)]).unwrap();
        expect_kept(&store, temp.path());
    }
}

/// The most played of a period are those that are shown.
#[test]
fn what_is_not_shown_is_in_no_top() {
    let (_temp, store) = store();
    tell(&store, 1, &[(1, 10), (2, 20), (3, 30)], &[(1, "one")]);
    show(&store, 2, Visibility::Hidden);
    show(&store, 3, Visibility::Deleted);
    let day = store.kept(Scale::Day).unwrap();
    for _ in 0..2 {
        let top = store.top(Scale::Day, day, 9).unwrap();
        assert_eq!((top.total, top.videos, top.top.len()), (30, 2, 1));
        assert_eq!((top.top[0].video_id, top.top[0].title.as_deref()), (id(1), Some("one")));
        store.write(Task::Checkpoint).unwrap();
    }
}

#[test]
fn rows_that_vanish_or_change_are_found() {
    let (temp, store) = store();
    tell(&store, 1, &[(1, 10)], &[(1, "one")]);
    correct(&store, 1, 5).unwrap();
    import(&store, 5, &[(1, 100)]).unwrap();
    drop(store);
    for (change, what) in [
        ("DELETE FROM titles", "the tables titles, changes and imports have 2 rows"),
        ("DELETE FROM changes", "have 2 rows, and were written with 3"),
        ("UPDATE titles SET title = 'x'", "a row of the table titles does not fit its check"),
        ("UPDATE imports SET name = 'x'", "a row of the table imports does not fit its check"),
        ("UPDATE changes SET correction = 6", "a row of the table changes does not fit its check"),
        ("UPDATE identity SET catalog_rows = 2", "a row of the table identity does not fit"),
    ] {
        let copy = copied(temp.path());
        let connection = Connection::open(copy.path().join(FILE)).unwrap();
        assert!(connection.execute(change, []).unwrap() > 0);
        drop(connection);
        let error = Store::open(copy.path(), JournalOwner::Part, 1, Keep::default()).err().unwrap();
        let error = format!("{error:#}");
        assert!(error.contains(what), "{error}");
        let error = format!("{:#}", read_counts(copy.path()).unwrap_err());
        assert!(error.contains(what), "{error}");
    }
}

/// With what its journal has besides; a damaged identity is not covered by a check that is made anew.
#[test]
fn a_database_of_schema_5_is_taken_over() {
    let (temp, store) = store();
    tell(&store, 1, &[(1, 10)], &[]);
    store.write(Task::Checkpoint).unwrap();
    tell(&store, 1, &[(1, 11), (2, 1)], &[]);
    let before = seen(&store);
    let copy = killed(&store, temp.path());
    drop(as_schema_5(copy.path()));
    assert!(read_counts(copy.path()).unwrap_err().to_string().contains("of an older playcounts"));
    let store = reopened(copy.path());
    assert_eq!(seen(&store), before);
    tell(&store, 1, &[(1, 12)], &[(1, "a title")]);
    expect_kept(&store, copy.path());
    let copy = killed(&store, copy.path());
    as_schema_5(copy.path()).execute("UPDATE identity SET count_rows = 9", []).unwrap();
    assert!(Store::open(copy.path(), JournalOwner::Part, 1, Keep::default()).is_err());
}

#[derive(Clone, Debug)]
enum Step {
    Tell(u128, u128, u64, Option<u8>),
    Title(u128, Option<u8>),
    Show(u128, u8),
    Correct(u128, i64),
    Import(u128, u128, u64),
    TakeBack(u128),
    Checkpoint,
    Clear,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let video = || 0u128..6;
    prop_oneof![
        6 => (0u128..2, video(), 1u64..50, prop::option::of(0u8..3)).prop_map(|(by, id, plays, title)| Step::Tell(by, id, plays, title)),
        3 => (video(), prop::option::of(0u8..3)).prop_map(|(id, title)| Step::Title(id, title)),
        3 => (video(), 0u8..3).prop_map(|(id, at)| Step::Show(id, at)),
        3 => (video(), -40i64..40).prop_map(|(id, plays)| Step::Correct(id, plays)),
        3 => (0u128..2, video(), 1u64..50).prop_map(|(import, id, plays)| Step::Import(import, id, plays)),
        1 => (0u128..2).prop_map(Step::TakeBack),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Clear),
        2 => Just(Step::Kill),
    ]
}

fn take(store: &Store, step: &Step) {
    let text = |title: &Option<u8>| title.map(|title| format!("title {title}"));
    match step {
        Step::Tell(by, number, plays, title) => {
            let title = text(title);
            let titles: Vec<_> = title.iter().map(|title| (*number, title.as_str())).collect();
            tell(store, 100 + by, &[(*number, *plays)], &titles);
        }
        Step::Title(number, title) => set(store, *number, text(title).as_deref()),
        Step::Show(number, at) => {
            let all = [Visibility::Shown, Visibility::Hidden, Visibility::Deleted];
            show(store, *number, all[usize::from(*at)]);
        }
        Step::Correct(number, plays) => drop(correct(store, *number, *plays).unwrap()),
        Step::Import(of, number, plays) => drop(import(store, *of, &[(*number, *plays)]).unwrap()),
        Step::TakeBack(of) => take_back(store, *of),
        Step::Checkpoint => store.write(Task::Checkpoint).unwrap(),
        Step::Clear => drop(store.clear().unwrap()),
        Step::Kill => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// Whatever happened, at whatever moment it is killed.
    #[test]
    fn what_was_acknowledged_is_there_after_a_kill(steps in prop::collection::vec(step(), 1..40)) {
        let (mut temp, mut store) = store();
        for step in &steps {
            take(&store, step);
            if matches!(step, Step::Kill) {
                let before = seen(&store);
                let copy = killed(&store, temp.path());
                (store, temp) = (reopened(copy.path()), copy);
                prop_assert_eq!(seen(&store), before);
            }
        }
        expect_kept(&store, temp.path());
    }
}

/// A correction is kept with its time.
#[test]
fn why_and_when_are_kept() {
    let (temp, store) = store();
    tell(&store, 1, &[(2, 10)], &[]);
    correct(&store, 2, -3).unwrap();
    show(&store, 2, Visibility::Hidden);
    let changed = store.changed_videos().remove(0);
    let Some(Correction { plays: -3, reason, at }) = changed.correction else {
        panic!("{changed:?}")
    };
    assert!(reason == "bots" && changed.reason.as_deref() == Some("law"));
    assert!(at.0 > 1_500_000_000_000 && changed.at.unwrap() >= at);
    expect_kept(&store, temp.path());
}
