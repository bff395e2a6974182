//! Answers that are in order, and any others.

use bytes::{BufMut, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::postgres::error::PgErrorKind;
use crate::postgres::param::oid;

/// A message of the server.
fn message(tag: u8, body: &[u8]) -> Message {
    let mut bytes = BytesMut::new();
    bytes.put_u8(tag);
    bytes.put_u32(body.len() as u32 + 4);
    bytes.put_slice(body);
    Message::parse(&mut bytes).unwrap().unwrap()
}

fn described(types: &[u32]) -> Message {
    let mut body = BytesMut::new();
    body.put_u16(types.len() as u16);
    for oid in types {
        body.put_slice(b"n\0\0\0\0\0\0\0");
        body.put_u32(*oid);
        body.put_slice(&[0; 8]);
    }
    message(b'T', &body)
}

fn row(values: &[Option<&[u8]>]) -> Message {
    let mut body = BytesMut::new();
    body.put_u16(values.len() as u16);
    for value in values {
        body.put_i32(value.map_or(-1, |value| value.len() as i32));
        body.put_slice(value.unwrap_or_default());
    }
    message(b'D', &body)
}

fn error(fields: &str) -> Message {
    message(b'E', format!("{}\0\0", fields.replace('|', "\0")).as_bytes())
}

fn ready() -> Message {
    message(b'Z', b"I")
}

fn done() -> Message {
    message(b'C', b"SELECT 1\0")
}

fn take(answers: &mut Answers, all: &[Message]) -> Result<AnswersLeft, PgError> {
    all.iter().try_fold(AnswersLeft::Some, |_, message| answers.take(message, 100))
}

#[test]
fn each_group_has_its_rows_or_its_error() {
    let mut answers = Answers::new("db".into());
    let number = answers.number();
    answers.expect(SentStatement::Parsed(number), SentData::Nothing);
    assert!(answers.is_open(number) && !answers.is_parsed(number));
    answers.expect(SentStatement::Bound(number), SentData::Nothing);
    answers.end_group();
    answers.expect(SentStatement::Unnamed, SentData::Nothing);
    answers.end_group();
    let first = [
        message(b'1', b""),
        message(b't', b"\0\0"),
        described(&[oid::INT4, oid::TEXT]),
        message(b'N', b"Mnotice\0\0"),
        message(b'2', b""),
        row(&[Some(&[0, 0, 0, 7]), None]),
        row(&[None, Some(b"x")]),
        done(),
        message(b'2', b""),
        done(),
        ready(),
    ];
    assert_eq!(take(&mut answers, &first).unwrap(), AnswersLeft::Some);
    let second = [message(b'1', b""), error("SERROR|VERROR|C40001|Mline\none"), ready()];
    assert_eq!(take(&mut answers, &second).unwrap(), AnswersLeft::None);
    let all = answers.finish();
    let rows = all[0].as_ref().unwrap();
    assert_eq!((all.len(), rows.len(), rows[0].len(), rows[1].len()), (2, 2, 2, 0));
    assert_eq!(rows[0].first().unwrap().int(0).unwrap(), 7);
    assert_eq!(rows[0].get(1).unwrap().text_opt(1).unwrap(), Some("x"));
    let error = all[1].as_ref().unwrap_err();
    assert_eq!(error.kind(), PgErrorKind::Retry);
    assert_eq!(error.to_string(), "PostgreSQL at db: line one (SQLSTATE 40001)");
    assert!(answers.is_parsed(number));
}

#[test]
fn a_statement_that_the_server_does_not_have_any_more_is_prepared_anew() {
    let mut answers = Answers::new("db".into());
    let number = answers.number();
    answers.expect(SentStatement::Parsed(number), SentData::Nothing);
    answers.end_group();
    let all = [message(b'1', b""), message(b'n', b""), message(b'2', b""), done(), ready()];
    take(&mut answers, &all).unwrap();
    answers.expect(SentStatement::Bound(number), SentData::Nothing);
    answers.end_group();
    let text = "VERROR|C26000|Mprepared statement \"s1\" does not exist";
    take(&mut answers, &[error(text), ready()]).unwrap();
    assert!(!answers.is_parsed(number));
    let error = answers.finish().pop().unwrap().unwrap_err().to_string();
    assert!(
        error.contains("PgBouncer in transaction mode: connect to the server itself"),
        "{error}"
    );
}

#[test]
fn rows_are_taken_before_a_copy_is_done() {
    let sent = |data: SentData| {
        let mut answers = Answers::new("db".into());
        let number = answers.number();
        answers.expect(SentStatement::Parsed(number), data);
        answers.end_group();
        take(&mut answers, &[message(b'1', b""), message(b'n', b""), message(b'2', b"")]).unwrap();
        answers
    };
    let ready_for_rows = || message(b'G', b"\x01\0\x01\0\x01");
    let mut answers = sent(SentData::Rows);
    let all = [ready_for_rows(), message(b'C', b"COPY 3\0"), ready()];
    assert_eq!(take(&mut answers, &all).unwrap(), AnswersLeft::None);
    assert_eq!(answers.finish().pop().unwrap().unwrap().len(), 1);
    // The server was never ready for them, or there are none.
    assert!(sent(SentData::Rows).take(&done(), 1).is_err());
    let refused = sent(SentData::Nothing).take(&ready_for_rows(), 1).unwrap_err().to_string();
    assert!(refused.contains("a statement with COPY for which no rows were given"), "{refused}");
    // A row that it does not take.
    let mut answers = sent(SentData::Rows);
    let all = [ready_for_rows(), error("VERROR|C23505|Mtwice"), ready()];
    assert_eq!(take(&mut answers, &all).unwrap(), AnswersLeft::None);
    assert_eq!(answers.finish().pop().unwrap().unwrap_err().sqlstate(), Some("23505"));
}

#[test]
fn what_is_not_due_ends_the_connection() {
    let sent = |statement: SentStatement| {
        let mut answers = Answers::new("db".into());
        answers.number();
        answers.expect(statement, SentData::Nothing);
        answers.end_group();
        answers
    };
    let parsed = || [message(b'1', b""), described(&[oid::INT8]), message(b'2', b"")];
    let after = |last: Message| {
        let mut answers = sent(SentStatement::Parsed(1));
        take(&mut answers, &parsed()).unwrap();
        answers.take(&last, 100).unwrap_err().to_string()
    };
    assert!(after(message(b'1', b"")).contains("a message that is not due"));
    assert!(after(ready()).contains("a message that is not due"));
    assert!(after(row(&[])).contains("another number of columns"));
    assert!(after(message(b'D', b"\0\x01\0\0\0\x05abc")).contains("longer than the row"));
    assert!(after(message(b'D', b"\0\x01\0\0")).contains("cut short"));
    assert!(after(message(b'D', b"\0\x01\0\0\0\x01abc")).contains("more bytes than values"));
    assert!(after(message(b'G', b"\0\0\0")).contains("COPY"));
    assert!(after(error("VFATAL|C57P01|Mgone")).contains("it is connected to again"));
    // A statement that was never described, and an answer to nothing.
    assert!(sent(SentStatement::Bound(1)).take(&message(b'2', b""), 1).is_err());
    assert!(Answers::new("db".into()).take(&ready(), 1).is_err());
    let mut huge = sent(SentStatement::Parsed(1));
    huge.take(&message(b'1', b""), MAX_ANSWER - MIN_MESSAGE).unwrap();
    huge.take(&message(b't', b"\0\0"), 7).unwrap();
    let error = huge.take(&message(b't', b"\0\0"), 7).unwrap_err().to_string();
    assert!(error.contains("more than 256 MiB at once"), "{error}");
    let mut many = BytesMut::new();
    many.put_u16(2000);
    many.put_slice(&b"\0".repeat(2000 * 19));
    let mut answers = sent(SentStatement::Parsed(1));
    answers.take(&message(b'1', b""), 1).unwrap();
    assert!(answers.take(&message(b'T', &many), 1).unwrap_err().to_string().contains("too many"));
}

/// Any message, often one that is due.
fn any_message() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let due = prop::sample::select(vec![
        (b'1', Vec::new()),
        (b'2', Vec::new()),
        (b'n', Vec::new()),
        (b'T', b"\0\x01n\0\0\0\0\0\0\0\0\0\0\x14\0\0\0\0\0\0\0\0".to_vec()),
        (b'D', b"\0\x01\0\0\0\x02ab".to_vec()),
        (b'G', b"\x01\0\x01\0\x01".to_vec()),
        (b'C', b"x\0".to_vec()),
        (b'E', b"C42000\0\0".to_vec()),
        (b'Z', b"I".to_vec()),
    ]);
    let other = (
        prop::sample::select(b"12nTDCEZNSAtIsGHWKRcd".to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
    );
    prop_oneof![4 => due, 1 => other]
}

proptest! {
    #[test]
    fn any_messages_are_taken_or_refused(
        all in prop::collection::vec(any_message(), 0..60),
        sent in prop::collection::vec(0..3_usize, 1..8),
    ) {
        let mut answers = Answers::new("db".into());
        let number = answers.number();
        let data = [SentData::Nothing, SentData::Rows, SentData::Rows];
        for kind in sent {
            answers.expect([SentStatement::Parsed(number), SentStatement::Bound(number), SentStatement::Unnamed][kind], data[kind]);
            if kind == 2 {
                answers.end_group();
            }
        }
        answers.end_group();
        for (tag, body) in all {
            let mut bytes = BytesMut::new();
            bytes.put_u8(tag);
            bytes.put_u32(body.len() as u32 + 4);
            bytes.put_slice(&body);
            let Ok(Some(message)) = Message::parse(&mut bytes) else { continue };
            if answers.take(&message, 10).is_err() {
                break;
            }
        }
        for rows in answers.finish().into_iter().flatten().flatten() {
            for row in rows.iter() {
                for column in 0..3 {
                    let _ = (row.int_opt(column), row.bool(column), row.text(column), row.bytes(column), row.uuid(column));
                }
            }
        }
    }
}
