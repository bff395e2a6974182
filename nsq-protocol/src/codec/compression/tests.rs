//! Tests of `compression`.

use super::*;
use flate2::{Compress, FlushCompress};
use proptest::prelude::*;

const LIMIT: usize = 64 << 20;

fn pack(mut compressor: Compressor, writes: &[Vec<u8>]) -> Vec<u8> {
    let mut wire = Vec::new();
    for write in writes {
        for (index, part) in write.chunks(PACK_MAX).enumerate() {
            let last = (index + 1) * PACK_MAX >= write.len();
            wire.extend_from_slice(compressor.pack(part, last).unwrap());
        }
    }
    wire
}

/// Bytes that compress, but not to nothing.
fn text(len: usize) -> Vec<u8> {
    (0..len as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 28) as u8).collect()
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

type Fuzz = fn(&[u8], usize, usize, usize) -> Result<Vec<u8>, DecompressError>;

fn both() -> [(Fuzz, fn() -> Compressor); 2] {
    [(fuzz_snappy, Compressor::snappy), (fuzz_deflate, || Compressor::deflate(6))]
}

#[test]
fn all_that_was_written_can_be_read_at_once_whatever_its_size() {
    // nothing more comes behind `wire`: what is not read here would wait for ever.
    for (unpack, compressor) in both() {
        for around in [1, 32 << 10, 64 << 10] {
            for len in around - 1..=around + 1 {
                for body in [text(len), noise(len), vec![b'a'; len]] {
                    let wire = pack(compressor(), &[body.clone(), body.clone()]);
                    for room in [1000, 64 << 10] {
                        let got = unpack(&wire, wire.len().max(1), room, LIMIT).unwrap();
                        assert!(got == [&body[..], &body].concat(), "{len} bytes, room {room}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_identifier_goes_out_with_the_first_chunk_and_once() {
    let wire = pack(Compressor::snappy(), &[b"NOP\n".to_vec(), b"NOP\n".to_vec()]);
    let chunk = b"\x01\x08\0\0";
    assert_eq!(wire[..10], *b"\xff\x06\0\0sNaPpY");
    assert_eq!(wire[10..14], *chunk);
    assert_eq!(wire[18..26], *b"NOP\n\x01\x08\0\0");
    assert_eq!(wire.len(), 10 + 2 * 12);
}

#[track_caller]
fn check_snappy(wire: &[u8], want: Result<&[u8], DecompressError>) {
    for step in [1, 7, wire.len()] {
        assert_eq!(fuzz_snappy(wire, step, 100, LIMIT).as_deref(), want.as_ref().map(|b| *b));
    }
}

#[test]
fn snappy_streams() {
    let [first, again] =
        [b"a".to_vec(), b"b".to_vec()].map(|body| pack(Compressor::snappy(), &[body]));
    let damaged = |detail: &str| {
        Err(DecompressError::Damaged { format: "snappy", detail: detail.to_owned() })
    };
    // The identifier may come again: pynsq sends it before every command.
    check_snappy(&[&first[..], &again].concat(), Ok(b"ab"));
    // Chunks to be skipped, one of them longer than any buffer here.
    let padding = [b"\xfe\x40\x0d\x03", &vec![0; 0x03_0d40][..], b"\x80\0\0\0"].concat();
    check_snappy(&[&first[..], &padding, &again].concat(), Ok(b"ab"));
    // Cut off: no error, but nothing made up.
    check_snappy(&first[..first.len() - 1], Ok(b""));
    check_snappy(&first[10..], Err(DecompressError::NoIdentifier { kind: 1 }));
    check_snappy(&padding, Err(DecompressError::NoIdentifier { kind: 0xfe }));
    check_snappy(
        &[&first[..], b"\x02\0\0\0"].concat(),
        Err(DecompressError::UnknownChunk { kind: 2 }),
    );
    for (head, kind, len, min, max) in [
        (b"\x00\xcb\x2a\x01", 0, 76_491, 4, 76_490),
        (b"\x01\x05\x00\x01", 1, 65_541, 4, 65_540),
        (b"\x01\x03\0\0", 1, 3, 4, 65_540),
        (b"\xff\x07\0\0", 0xff, 7, 6, 6),
    ] {
        let error = DecompressError::ChunkLength { kind, len, min, max };
        check_snappy(&[&first[..], head].concat(), Err(error));
    }
    let mut bad = first.clone();
    bad[14] ^= 1;
    assert!(fuzz_snappy(&bad, 5, 100, LIMIT).unwrap_err().to_string().contains("checksum"));
    check_snappy(
        b"\xff\x06\0\0sNaPpy",
        damaged("snappy: corrupt input (expected sNaPpY stream header but got sNaPpy)"),
    );
    // A compressed chunk that announces more than a block.
    let bomb = [b"\xff\x06\0\0sNaPpY\0\x08\0\0\0\0\0\0", &b"\x80\x80\x80\x08"[..]].concat();
    assert!(matches!(fuzz_snappy(&bomb, 100, 100, LIMIT), Err(DecompressError::Damaged { .. })));
}

#[test]
fn deflate_streams() {
    let mut end = Vec::with_capacity(100);
    let mut compress = Compress::new(flate2::Compression::fast(), false);
    compress.compress_vec(b"a", &mut end, FlushCompress::Finish).unwrap();
    assert_eq!(fuzz_deflate(&end, 100, 100, LIMIT), Err(DecompressError::Ended));
    let error = fuzz_deflate(b"\xff\xff\xff\xff", 100, 100, LIMIT).unwrap_err();
    assert!(matches!(error, DecompressError::Damaged { format: "deflate", .. }), "{error}");
    // A bomb comes out a piece at a time, and whoever takes the pieces can stop.
    let wire = pack(Compressor::deflate(9), &[vec![0; 16 << 20]]);
    assert!(wire.len() < 32 << 10, "{}", wire.len());
    assert_eq!(fuzz_deflate(&wire, wire.len(), 4096, 1 << 20).unwrap().len(), 1 << 20);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn any_split_gives_the_same_bytes(
        lens in proptest::collection::vec((1usize..100_000, any::<bool>()), 1..5),
        step in 30usize..100_000,
        room in 30usize..100_000,
    ) {
        let writes: Vec<_> =
            lens.iter().map(|(len, dull)| if *dull { text(*len) } else { noise(*len) }).collect();
        for (unpack, compressor) in both() {
            let wire = pack(compressor(), &writes);
            prop_assert!(unpack(&wire, step, room, LIMIT).unwrap() == writes.concat());
        }
    }

    #[test]
    fn garbage_never_panics(
        wire in proptest::collection::vec(any::<u8>(), 0..4000),
        step in 1usize..500,
    ) {
        let _ = fuzz_deflate(&wire, step, 300, LIMIT);
        let _ = fuzz_snappy(&wire, step, 300, LIMIT);
        let with_identifier = [b"\xff\x06\0\0sNaPpY", &wire[..]].concat();
        let _ = fuzz_snappy(&with_identifier, step, 300, LIMIT);
    }
}
