//! [`TitleIndex`] beside a list that is looked through each time.

use proptest::prelude::*;

use super::*;

fn id(number: u32) -> VideoId {
    VideoId::parse(&format!("v{number}")).unwrap()
}

fn row(title: &str) -> TitleRow {
    TitleRow { title: Some(title.into()), url: None, origin: TitleOrigin::Hand }
}

#[test]
fn words_are_compared_in_one_form() {
    for (text, want) in [
        ("", &[][..]),
        (" - ¡! ", &[]),
        ("The Cat's  meow, No.3", &["the", "cat", "s", "meow", "no", "3"]),
        ("E\u{301}TE\u{301} Été ÉTÉ", &["été", "été", "été"]),
        ("ＦＵＬＬ ﬁne ΣΑΣ", &["full", "fine", "σας"]),
        ("foo_bar-baz.com/x", &["foo", "bar", "baz", "com", "x"]),
        ("猫の本 кот हिन्दी", &["猫", "の", "本", "кот", "हिन्दी"]),
        ("<b>bold</b>", &["b", "bold", "b"]),
    ] {
        assert_eq!(ordered_words(text), want, "{text}");
    }
}

#[test]
fn a_search_finds_whole_words_and_the_start_of_the_last() {
    let mut titles = TitleIndex::default();
    for (number, title) in ["Cats and dogs", "Catalogue", "A dog's life", "Dogs"].iter().enumerate()
    {
        titles.set(id(number as u32), Some(row(title)));
        titles.set_listed(&id(number as u32), Some(7));
    }
    for (search, want) in [
        ("cat", &[0, 1][..]),
        ("CAT", &[0, 1]),
        ("cats", &[0]),
        ("cat dog", &[]),
        ("cats do", &[0]),
        ("do cats", &[]),
        ("dogs CATS", &[0]),
        ("dog", &[0, 2, 3]),
        ("dog's", &[2]),
        ("x", &[]),
        ("", &[]),
        ("!", &[]),
    ] {
        assert_eq!(titles.find(search).iter().collect::<Vec<_>>(), want, "{search}");
    }
    titles.set_listed(&id(0), None);
    assert_eq!(titles.find("dog").len(), 2);
    titles.unlist_all();
    assert!(titles.find("dog").is_empty());
}

#[test]
fn pages_have_every_title_once() {
    let mut titles = TitleIndex::default();
    for number in 0..10 {
        titles.set(id(number), Some(row("x")));
    }
    titles.set(id(4), None);
    let (mut all, mut next) = (Vec::new(), Some(0));
    while let Some(from) = next {
        let page;
        (page, next) = titles.page(from, 3);
        all.extend(page.into_iter().map(|(id, _)| id));
    }
    let want: Vec<_> = (0..10).filter(|number| *number != 4).map(id).collect();
    assert_eq!((all, titles.len()), (want, 9));
}

/// What [`TitleIndex::find`] must answer, by reading every title.
fn expected(known: &BTreeMap<u32, (Option<String>, bool)>, search: &str) -> Vec<VideoId> {
    let mut wanted = ordered_words(search);
    let Some(start) = wanted.pop() else { return Vec::new() };
    let fits = |title: &str| {
        let has = ordered_words(title);
        wanted.iter().all(|word| has.contains(word))
            && has.iter().any(|word| word.starts_with(&start))
    };
    let fitting = known
        .iter()
        .filter(|(_, (title, is_listed))| *is_listed && title.as_deref().is_some_and(fits));
    let mut ids: Vec<_> = fitting.map(|(number, _)| id(*number)).collect();
    ids.sort_unstable();
    ids
}

proptest! {
    #[test]
    fn a_search_finds_what_reading_every_title_does(
        changes in prop::collection::vec((0u32..12, prop::option::of("[aAbB ]{0,8}"), any::<bool>(), any::<bool>()), 0..80),
        search in "[abAB ]{0,6}",
    ) {
        let (mut titles, mut known) = (TitleIndex::default(), BTreeMap::new());
        for (number, title, has_url, is_listed) in changes {
            let new = TitleRow {
                title: title.clone().map(Into::into),
                url: has_url.then(|| Box::new("http://a".into())),
                origin: TitleOrigin::Play,
            };
            let is_kept = title.is_some() || has_url;
            let before = titles.get(&id(number)).cloned();
            prop_assert_eq!(titles.set(id(number), Some(new.clone())), before != Some(new).filter(|_| is_kept));
            titles.set_listed(&id(number), is_listed.then_some(i64::from(number)));
            known.insert(number, (title, is_listed));
        }
        let mut found: Vec<_> =
            titles.find(&search).iter().map(|number| *titles.video(number)).collect();
        found.sort_unstable();
        prop_assert_eq!(&found, &expected(&known, &search));
        let mut places: Vec<_> = titles.places(&titles.find(&search)).into_iter().map(|(plays, video)| (video, plays)).collect();
        places.sort_unstable();
        let plays = |video: &VideoId| (0..12).find(|number| id(*number) == *video).map_or(0, i64::from);
        prop_assert_eq!(places, found.iter().map(|video| (*video, plays(video))).collect::<Vec<_>>());
        for (number, _) in known {
            prop_assert_eq!(titles.is_in(&titles.find(&search), &id(number)), found.contains(&id(number)));
            titles.set(id(number), None);
        }
        // No word is left behind.
        prop_assert!(titles.words.is_empty() && titles.listed.is_empty() && titles.len() == 0 && titles.free.len() == titles.ids.len());
    }
}
