//! What ends the service of a broker for everyone.

use std::io;

use crate::claim::{Found, Target, admin, is_served};
use crate::client::{Client, PATIENCE, Version, Who};

fn others(target: &Target) -> io::Result<Found> {
    Ok(match is_served(target.old) {
        Ok(()) => Found::Holds("a fresh client is served".to_owned()),
        Err(text) => Found::Reproduced(text),
    })
}

pub(crate) fn letter_beyond_ascii(target: &Target) -> io::Result<Found> {
    let mut reader = Client::connect(target.old, Version::V311, admin("reader"))?;
    reader.subscribe("#", 0)?;
    let mut writer = Client::connect(target.old, Version::V311, admin("writer"))?;
    writer.publish("étage/1", b"x", &[])?;
    // A broker that died does not get this far.
    let _ = reader.message(PATIENCE);
    others(target)
}

pub(crate) fn slash_in_client_id(target: &Target) -> io::Result<Found> {
    for _ in 0..2 {
        // Whether it is let in or refused is not the point.
        let _ = Client::connect(target.old, Version::V311, admin("site/host1"));
    }
    others(target)
}

pub(crate) fn shared_subscriber_dies(target: &Target) -> io::Result<Found> {
    let member = Who {
        clean: false,
        ..admin("member")
    };
    let mut member = Client::connect(target.old, Version::V311, member)?;
    member.subscribe("$share/group/work", 1)?;
    let mut writer = Client::connect(target.old, Version::V311, admin("writer"))?;
    writer.publish_and_wait("work", b"x", false)?;
    member
        .message(PATIENCE)?
        .ok_or_else(|| io::Error::other("the member of the group got nothing"))?;
    member.drop_line();
    // The broker needs a moment to see it.
    for _ in 0..20 {
        std::thread::sleep(std::time::Duration::from_millis(50));
        if is_served(target.old).is_err() {
            break;
        }
    }
    others(target)
}
