//! What is read agrees with the library's own reader, and nothing that comes makes it fall.

use proptest::prelude::*;
use redis::Value;

use super::*;

/// The answers that `bytes` are, of `count` commands, come in pieces of `piece` bytes.
fn read(bytes: &[u8], count: usize, piece: usize) -> Result<Option<Answers>, Unreadable> {
    let mut answers = Answers::default();
    for piece in bytes.chunks(piece.max(1)) {
        answers.room().extend_from_slice(piece);
        if answers.note(count)? {
            return Ok(Some(answers));
        }
    }
    Ok(None)
}

/// The same as the library has it.
fn value(answer: Answer<'_>) -> Value {
    if answer.is_nil() {
        return Value::Nil;
    }
    if let Some(items) = answer.list() {
        return Value::Array(items.map(value).collect());
    }
    if let Some(number) = answer.number() {
        return Value::Int(number);
    }
    if let Some(bytes) = answer.bulk() {
        return Value::BulkString(bytes.to_vec());
    }
    if let Some(refusal) = answer.refusal() {
        return redis::parse_redis_value(format!("-{refusal}\r\n").as_bytes()).unwrap();
    }
    match answer.text() {
        Some("OK") => Value::Okay,
        text => Value::SimpleString(text.unwrap().to_owned()),
    }
}

fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Nil => out.extend(b"$-1\r\n"),
        Value::Okay => out.extend(b"+OK\r\n"),
        Value::SimpleString(text) => out.extend(format!("+{text}\r\n").into_bytes()),
        Value::Int(number) => out.extend(format!(":{number}\r\n").into_bytes()),
        Value::BulkString(bytes) => {
            out.extend(format!("${}\r\n", bytes.len()).into_bytes());
            out.extend(bytes);
            out.extend(b"\r\n");
        }
        Value::Array(items) => {
            out.extend(format!("*{}\r\n", items.len()).into_bytes());
            items.iter().for_each(|item| write(out, item));
        }
        other => panic!("{other:?} is no answer of RESP2"),
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        Just(Value::Okay),
        any::<i64>().prop_map(Value::Int),
        any::<Vec<u8>>().prop_map(Value::BulkString),
        "[a-zA-Z ]{0,9}".prop_map(|text| match text.as_str() {
            "OK" => Value::Okay,
            _ => Value::SimpleString(text),
        }),
    ];
    leaf.prop_recursive(4, 40, 8, |inner| {
        prop::collection::vec(inner, 0..8).prop_map(Value::Array)
    })
}

#[test]
fn answers_are_read_in_whatever_pieces_they_come() {
    let bytes = b"*2\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\na\r\n$2\r\n12\r\n*-1\r\n:-7\r\n+OK\r\n-ERR no\rgood\r\n$-1\r\n*0\r\n";
    for piece in 1..=bytes.len() {
        let answers = read(bytes, 6, piece).unwrap().unwrap();
        let (row, nil) = answers.get(0).pair().unwrap();
        let (id, fields) = row.pair().unwrap();
        assert_eq!((id.text(), nil.is_nil()), (Some("1-0"), true));
        let texts: Vec<_> = fields.items().map(|text| text.text().unwrap()).collect();
        assert_eq!(texts, ["a", "12"]);
        assert_eq!(answers.get(1).number(), Some(-7));
        assert_eq!(
            (answers.get(2).text(), answers.get(2).bulk()),
            (Some("OK"), None)
        );
        assert_eq!(answers.get(3).refusal(), Some("ERR no\rgood"));
        assert!(answers.get(4).is_nil() && answers.get(4).list().is_none());
        assert!(answers.last().list().unwrap().is_empty() && !answers.last().is_nil());
        // What is not there is nothing.
        let none = answers.get(6);
        assert!(none.is_nil() && none.items().first().is_none() && none.pair().is_none());
    }
}

#[test]
fn the_first_answers_can_be_left_out() {
    let mut answers = read(b":1\r\n:2\r\n:3\r\n", 3, 99).unwrap().unwrap();
    answers.skip(2);
    assert_eq!((answers.len(), answers.get(0).number()), (1, Some(3)));
    answers.skip(9);
    assert_eq!((answers.len(), answers.last().is_nil()), (0, true));
}

#[test]
fn what_no_redis_answers_is_refused() {
    let deep = "*1\r\n".repeat(MOST_DEPTH + 1);
    let endless = "+".repeat(MOST_LINE_BYTES + 9);
    for wrong in [
        "x\r\n",
        "\r\n",
        ":\r\n",
        ":1x\r\n",
        ":9223372036854775808\r\n",
        "$x\r\n",
        "$\r\n",
        "$-2\r\n",
        "$+1\r\nx\r\n",
        "$99999999999\r\n",
        "$536870913\r\n",
        "*4294967296\r\n",
        "*-2\r\n",
        "$1\r\nxyz\r\n",
        "%1\r\n",
        "_\r\n",
        ",1.5\r\n",
        ":1\r\n:2\r\n",
        &deep,
        &endless,
    ] {
        let answers = read(wrong.as_bytes(), 1, usize::MAX);
        assert!(matches!(answers, Err(Unreadable)), "{wrong:.40?}");
    }
    for part in [
        "",
        "*",
        "*1\r\n",
        "*2\r\n:1\r\n",
        "$3\r\nab",
        "$3\r\nabc\r",
        "+OK\r",
        "*536870912\r\n",
    ] {
        assert!(matches!(read(part.as_bytes(), 1, 99), Ok(None)), "{part:?}");
    }
}

proptest! {
    #[test]
    fn the_library_reads_the_same(values in prop::collection::vec(any_value(), 1..5), piece in 1..99_usize) {
        let mut bytes = Vec::new();
        values.iter().for_each(|value| write(&mut bytes, value));
        let answers = read(&bytes, values.len(), piece).unwrap().unwrap();
        prop_assert_eq!(answers.iter().map(value).collect::<Vec<_>>(), values.clone());
        let mut one = Vec::new();
        for value in &values {
            one.clear();
            write(&mut one, value);
            prop_assert_eq!(&redis::parse_redis_value(&one).unwrap(), value);
        }
    }

    #[test]
    fn bytes_that_were_changed_are_read_as_the_library_reads_them_or_refused(
        mut top in any_value(), at in any::<prop::sample::Index>(), byte in prop::sample::select(&b"0123456789-+:$*\r\nx\xff"[..]), cut in any::<bool>(),
    ) {
        if !matches!(top, Value::Array(_)) {
            top = Value::Array(vec![top]);
        }
        let mut bytes = Vec::new();
        write(&mut bytes, &top);
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] = byte;
        }
        if let Ok(Some(answers)) = read(&bytes, 1, bytes.len()) {
            let ours = value_or_none(answers.get(0));
            if let (Some(ours), Ok(theirs)) = (ours, redis::parse_redis_value(&bytes)) {
                prop_assert_eq!(ours, theirs);
            }
        }
    }

    #[test]
    fn any_bytes_are_answers_or_none(bytes in prop::collection::vec(prop::sample::select(&b"0123-+:$*\r\nx"[..]), 0..60), count in 0..4_usize) {
        if let Ok(Some(answers)) = read(&bytes, count, 3) {
            prop_assert_eq!(answers.len(), count);
            let seen = answers.iter().map(|answer| format!("{answer:?}")).collect::<String>();
            prop_assert!(!seen.is_empty());
        }
    }
}

/// None where the answer has a word that is no text: the library reads none of it then.
fn value_or_none(answer: Answer<'_>) -> Option<Value> {
    let readable = answer.bulk().is_some() || answer.bytes().is_none() || answer.text().is_some();
    let all = answer.items().all(|item| value_or_none(item).is_some());
    (readable && all).then(|| value(answer))
}
