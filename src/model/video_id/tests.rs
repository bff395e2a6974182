//! Ids of all kinds: what is one, that it comes back, and that ids are in the order of their texts.

use proptest::prelude::*;
use uuid::Uuid;

use super::{NoVideoId, VideoId};

const GUID: &str = "3fa85f64-5717-4562-b3fc-2c963f66afa6";

#[track_caller]
fn check(text: &str, shown: &str) -> VideoId {
    let id = VideoId::parse(text).unwrap();
    assert_eq!(id.to_string(), shown);
    assert_eq!(VideoId::parse_bytes(text.as_bytes()), Ok(id));
    assert_eq!(VideoId::find(text), Ok(Some(id)), "known by now");
    assert_eq!(VideoId::parse(shown), Ok(id));
    let bytes = id.to_bytes();
    assert_eq!(VideoId::from_bytes(&bytes), Some(id), "{bytes:?}");
    assert_eq!(bytes.len() == 16, id.guid().is_some(), "{bytes:?}");
    assert!(bytes.len() <= VideoId::MAX_LEN);
    assert_eq!(serde_json::to_string(&id).unwrap(), serde_json::to_string(shown).unwrap());
    assert_eq!(serde_json::from_value::<VideoId>(text.into()).unwrap(), id);
    id
}

#[test]
fn a_guid_is_one_in_any_spelling() {
    for text in [
        GUID,
        "3FA85F64-5717-4562-B3FC-2C963F66AFA6",
        "3fa85f6457174562b3fc2c963f66afa6",
        "{3fa85f64-5717-4562-b3fc-2c963f66afa6}",
        "urn:uuid:3fa85f64-5717-4562-b3fc-2c963f66afa6",
    ] {
        assert_eq!(check(text, GUID).guid(), Some(GUID.parse().unwrap()));
    }
    // Of a variant that nobody makes.
    for guid in [Uuid::max(), Uuid::from_u128(0xe0 << 56), Uuid::from_u128(0xff << 56)] {
        let text = guid.hyphenated().to_string();
        assert_eq!(check(&text.to_uppercase(), &text).guid(), Some(guid));
    }
    assert_eq!(VideoId::NIL, Uuid::nil().into());
    assert_eq!(size_of::<VideoId>(), 16);
}

#[test]
fn any_other_text_is_one_as_it_is() {
    for text in [
        "dQw4w9WgXcQ",
        "9vhm8ufg1k",
        "7",
        "-7",
        "123456789012345",
        "1234567890123456",
        "12345678901234567",
        "https://video.example/watch?v=1&t=2",
        "  ",
        "gr\u{f6}\u{df}e",
        "\u{1f600}\u{1f600}\u{1f600}\u{1f600}",
        "3fa85f64-5717-4562-b3fc-2c963f66afa",
        &"x".repeat(128),
    ] {
        assert_eq!(check(text, text).guid(), None);
    }
    assert_ne!(VideoId::parse("abc"), VideoId::parse("ABC"));
}

#[test]
fn what_is_none_says_why() {
    for (text, why) in [
        (&b""[..], NoVideoId::Empty),
        (&[b'x'; 129], NoVideoId::TooLong(129)),
        (b"a\nb", NoVideoId::Control(1)),
        (b"abc\0", NoVideoId::Control(3)),
        (b"\x7f", NoVideoId::Control(0)),
        ("a\u{9b}31m".as_bytes(), NoVideoId::Control(1)),
        (b"ab\xff", NoVideoId::NotUtf8(2)),
    ] {
        assert_eq!(VideoId::parse_bytes(text), Err(why));
        if let Ok(text) = str::from_utf8(text) {
            assert_eq!(VideoId::find(text), Err(why));
        }
    }
    assert_eq!(VideoId::find("a long text that nobody has ever told of"), Ok(None));
    assert_eq!(VideoId::find("ffffffff-ffff-ffff-fffe-fffffffffffd"), Ok(None));
}

#[test]
fn bytes_that_no_id_gives_are_refused() {
    let padded = |text: &[u8]| [text, &[0; 17]].concat()[..17].to_vec();
    for bytes in [
        b"abc".to_vec(),
        vec![],
        vec![0; 17],
        padded(b"a\0b"),
        padded(b"\xff"),
        [&[b'x'; 17][..], b"\0"].concat(),
        vec![b'x'; 129],
        GUID.as_bytes().to_vec(),
    ] {
        assert_eq!(VideoId::from_bytes(&bytes), None, "{bytes:?}");
    }
    assert_eq!(VideoId::from_bytes(&padded(b"abc")), VideoId::parse("abc").ok());
}

#[test]
fn threads_that_meet_the_same_texts_get_the_same_ids() {
    let ids = || -> Vec<VideoId> {
        (0..2_000).map(|n| format!("a text for each of them {n}").parse().unwrap()).collect()
    };
    let all: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ids)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(all.iter().all(|one| *one == all[0]));
    assert!(all[0].iter().enumerate().all(|(n, id)| id.to_string().ends_with(&format!(" {n}"))));
}

fn any_id() -> impl Strategy<Value = VideoId> {
    prop_oneof![
        any::<u128>().prop_map(VideoId::from_u128),
        // Of all variants, near each other.
        (0u8..=255, 0u8..4)
            .prop_map(|(kind, low)| VideoId::from_u128(u128::from(kind) << 56 | u128::from(low))),
        "[0-9a-f]{1,17}".prop_map(|text| text.parse().unwrap()),
        "[0-9a-f]{8}-[0-9a-f]{1,4}".prop_map(|text| text.parse().unwrap()),
        "\\PC{1,20}".prop_map(|text| text.parse().unwrap()),
    ]
}

proptest! {
    #[test]
    fn ids_are_in_the_order_of_their_texts(one in any_id(), other in any_id()) {
        let texts = (one.to_string(), other.to_string());
        prop_assert_eq!(one.cmp(&other), texts.0.cmp(&texts.1));
        prop_assert_eq!(one == other, texts.0 == texts.1);
        prop_assert_eq!(one.cmp_text(&texts.1), texts.0.cmp(&texts.1));
        for id in [one, other] {
            prop_assert_eq!(VideoId::from_bytes(&id.to_bytes()), Some(id));
            prop_assert_eq!(VideoId::parse(&id.to_string()), Ok(id));
        }
        let bytes = (one.to_bytes(), other.to_bytes());
        if bytes.0.len() > 16 && bytes.1.len() > 16 {
            prop_assert_eq!(bytes.0.as_ref().cmp(bytes.1.as_ref()), one.cmp(&other));
        }
    }

    #[test]
    fn bytes_are_of_one_id_or_of_none(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Some(id) = VideoId::from_bytes(&bytes) {
            prop_assert_eq!(&id.to_bytes()[..], &bytes[..]);
        }
    }

    #[test]
    fn any_text_is_an_id_or_says_why_not(text in any::<String>()) {
        if let Ok(id) = VideoId::parse(&text) {
            prop_assert_eq!(VideoId::find(&text), Ok(Some(id)));
        }
    }
}
