//! What gets lost, or goes where it should not.

use std::io;
use std::time::Duration;

use crate::claim::{Found, Target, admin, drain, flood};
use crate::client::{Client, PATIENCE, Packet, Version, Who};

pub(crate) fn properties_to_old_clients(target: &Target) -> io::Result<Found> {
    let mut reader = Client::connect(target.old, Version::V311, admin("reader"))?;
    reader.subscribe("mixed/#", 0)?;
    let mut writer = Client::connect(target.new, Version::V5, admin("writer"))?;
    // Content type "t".
    writer.publish("mixed/topic", b"x", &[0x03, 0, 1, b't'])?;
    let got = reader.message(PATIENCE);
    let lives = reader.ping();
    Ok(match (got, lives) {
        (Ok(Some(_)), Ok(())) => Found::Holds("it came, and the reader lives".to_owned()),
        (got, lives) => {
            let got = matches!(got, Ok(Some(_)));
            let lives = lives.map_or_else(|error| error.to_string(), |()| "connected".to_owned());
            Found::Reproduced(format!("message received: {got}; the reader: {lives}"))
        }
    })
}

pub(crate) fn retained_for_new_subscriber(target: &Target) -> io::Result<Found> {
    let mut writer = Client::connect(target.old, Version::V311, admin("writer"))?;
    for number in 0..500 {
        writer.publish_and_wait(&format!("kept/{number}"), b"x", true)?;
    }
    let mut reader = Client::connect(target.old, Version::V311, admin("reader"))?;
    reader.subscribe("kept/#", 0)?;
    let (count, ended) = drain(&mut reader);
    ended.map_or(Ok(()), Err)?;
    Ok(Found::of(count < 500, format!("{count} of 500 came")))
}

/// How many of `sent` messages came, and whether the reader could know that some did not.
fn told(sent: usize, count: usize, ended: Option<io::Error>) -> Found {
    let missing = sent - count;
    match ended {
        None => Found::of(
            missing > 0,
            format!("{count} came, {missing} did not, and the connection lives on"),
        ),
        Some(error) => Found::Holds(format!("{count} came, then the reader was told: {error}")),
    }
}

pub(crate) fn slow_reader(target: &Target) -> io::Result<Found> {
    const SENT: usize = 600_000;
    let mut reader = Client::connect(target.old, Version::V311, admin("reader"))?;
    reader.subscribe("slow/topic", 1)?;
    let mut writer = Client::connect(target.old, Version::V311, admin("writer"))?;
    flood(&mut writer, "slow/topic", SENT)?;
    let (count, ended) = drain(&mut reader);
    Ok(told(SENT, count, ended))
}

pub(crate) fn burst(target: &Target) -> io::Result<Found> {
    const SENT: usize = 20_000;
    let mut reader = Client::connect(target.old, Version::V311, admin("reader"))?;
    reader.subscribe("burst/topic", 1)?;
    let reading = std::thread::spawn(move || drain(&mut reader));
    let mut writer = Client::connect(target.old, Version::V311, admin("writer"))?;
    flood(&mut writer, "burst/topic", SENT)?;
    let (count, ended) = reading
        .join()
        .map_err(|_| io::Error::other("the reader panicked"))?;
    Ok(told(SENT, count, ended))
}

pub(crate) fn no_topic_rights(target: &Target) -> io::Result<Found> {
    const TOPIC: &str = "hostbus/v1/home/web2/metrics";
    let mut reader = Client::connect(target.old, Version::V311, admin("reader"))?;
    reader.subscribe(TOPIC, 0)?;
    let web1 = Who {
        id: "web1",
        user: "web1",
        password: "secret",
        clean: true,
    };
    let mut web1 = Client::connect(target.old, Version::V311, web1)?;
    // It may be cut off for this.
    let _ = web1.publish(TOPIC, b"false", &[]);
    Ok(match reader.message(Duration::from_secs(2))? {
        Some(_) => Found::Reproduced("what web1 published for web2 was delivered".to_owned()),
        None => Found::Holds("it was not delivered".to_owned()),
    })
}

pub(crate) fn sender_is_told(target: &Target) -> io::Result<Found> {
    let mut reader = Client::connect(target.new, Version::V5, admin("reader"))?;
    reader.subscribe("plain/topic", 0)?;
    let mut writer = Client::connect(target.new, Version::V5, admin("writer"))?;
    writer.publish("plain/topic", b"x", &[])?;
    match reader.message(PATIENCE)? {
        Some(Packet::Publish { properties, .. }) => Ok(Found::of(
            !properties.is_empty(),
            format!("properties: {:?}", String::from_utf8_lossy(&properties)),
        )),
        _ => Err(io::Error::other("the message did not come")),
    }
}
