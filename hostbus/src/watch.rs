//! `hostbus watch`: messages as they come, one JSON document a line.

use std::io::Write;

use hostbus_client::{Event, Message};
use hostbus_daemon::{CancellationToken, clock, exit, shutdown};
use hostbus_wire::{Kind, QoS, TopicRoot, codec, pattern, table};
use serde_json::json;
use serde_json::value::RawValue;

use crate::cli::WatchArgs;
use crate::reach;

pub(crate) fn run(args: &WatchArgs) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(watch(args))
}

async fn watch(args: &WatchArgs) -> anyhow::Result<u8> {
    let bus = reach::bus(&args.bus)?;
    let mut filters = args.filters.clone();
    if filters.is_empty() {
        filters.push(format!("{}/#", bus.root));
    }
    if let Some(wrong) = filters.iter().find(|filter| !pattern::is_filter(filter)) {
        anyhow::bail!(
            "`{wrong}` is no MQTT filter: `+` and `#` stand alone in their level, `#` comes last"
        );
    }
    let filters = filters
        .into_iter()
        .map(|filter| (filter, QoS::AtLeastOnce))
        .collect();
    let mut connection = reach::connect(&bus, "watch", filters).await?;
    let token = CancellationToken::new();
    let signals = tokio::spawn(shutdown::on_signal(token.clone()));
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let message = tokio::select! {
            event = connection.next() => match event {
                Event::Message(message) => message,
                Event::Connected | Event::Disconnected => continue,
            },
            () = token.cancelled() => break,
        };
        print(&bus.root, &message, args.raw)?;
        left -= 1;
    }
    connection.close().await;
    signals.abort();
    Ok(exit::OK)
}

fn print(root: &TopicRoot, message: &Message, raw: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if raw {
        out.write_all(&message.payload)?;
    } else {
        let line = document(root, message, clock::unix_ms())?;
        writeln!(out, "{line}")?;
    }
    out.flush()?;
    Ok(())
}

/// One message as a JSON document.
fn document(root: &TopicRoot, message: &Message, now_ms: u64) -> anyhow::Result<String> {
    let mut document = serde_json::Map::new();
    document.insert("at".to_owned(), json!(now_ms));
    document.insert("topic".to_owned(), json!(message.topic));
    document.insert("retained".to_owned(), json!(message.retained));
    let head = serde_json::to_string(&document)?;
    let head = head.trim_end_matches('}');
    Ok(match readable(root, &message.topic, &message.payload) {
        Ok(payload) => format!("{head},\"payload\":{payload}}}"),
        Err(error) => {
            let hex: String = message
                .payload
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            format!("{head},\"error\":{},\"hex\":\"{hex}\"}}", json!(error))
        }
    })
}

/// The payload as JSON text: as the contract says for its topics, and by a look at the bytes for
/// topics of others.
fn readable(root: &TopicRoot, topic: &str, payload: &[u8]) -> Result<String, String> {
    if payload.is_empty() {
        return Ok("null".to_owned());
    }
    match table::kind_of(root, topic) {
        Some(Kind::Status | Kind::Rule) => std::str::from_utf8(payload)
            .map(|text| json!(text).to_string())
            .map_err(|error| error.to_string()),
        // What people and scripts write may be JSON.
        Some(_) if payload.trim_ascii_start().first() == Some(&b'{') => {
            let json: Result<&RawValue, _> = serde_json::from_slice(payload);
            json.map(|json| json.get().replace(['\n', '\r'], " "))
                .map_err(|error| error.to_string())
        }
        Some(_) => codec::to_json(payload).map_err(|error| error.to_string()),
        None => match std::str::from_utf8(payload) {
            Ok(text) => Ok(serde_json::from_str::<&RawValue>(text)
                .ok()
                .filter(|_| !text.contains('\n'))
                .map_or_else(|| json!(text).to_string(), |json| json.get().to_owned())),
            Err(_) => codec::to_json(payload).map_err(|error| error.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(topic: &str, payload: &'static [u8], expected: &str) {
        let message = Message {
            topic: topic.to_owned(),
            payload: bytes::Bytes::from_static(payload),
            retained: true,
        };
        let text = document(&TopicRoot::default(), &message, 7).unwrap();
        let head = format!(r#"{{"at":7,"retained":true,"topic":"{topic}","#);
        assert_eq!(
            text.strip_prefix(&head).unwrap(),
            format!("{expected}}}"),
            "{text}"
        );
        assert!(
            serde_json::from_str::<serde_json::Value>(&text).is_ok(),
            "{text}"
        );
    }

    #[test]
    fn payloads_show_as_their_topic_says() {
        check(
            "hostbus/v1/home/a/status",
            b"online",
            r#""payload":"online""#,
        );
        check(
            "hostbus/v1/home/a/metrics",
            b"\xa1\x61v\x01",
            r#""payload":{"v":1}"#,
        );
        check("hostbus/v1/home/a/alerts/x", b"", r#""payload":null"#);
        check(
            "hostbus/v1/home/a/alerts/x",
            b"{\"state\":\n\"firing\"}",
            r#""payload":{"state": "firing"}"#,
        );
        check(
            "hostbus/v1/home/a/metrics",
            b"\xa1",
            r#""error":"refused payload: it ends too early","hex":"a1""#,
        );
    }

    #[test]
    fn payloads_of_foreign_topics_show_as_what_they_look_like() {
        check("x/y", b"{\"a\": 1}", r#""payload":{"a": 1}"#);
        check("x/y", b"21.5", r#""payload":21.5"#);
        check("x/y", b"say \"hi\"\n", r#""payload":"say \"hi\"\n""#);
        check("x/y", b"\xa1\x61a\xf9\x3e\x00", r#""payload":{"a":1.5}"#);
        check(
            "x/y",
            b"\xff\xff",
            r#""error":"refused payload: an indefinite length","hex":"ffff""#,
        );
    }
}
