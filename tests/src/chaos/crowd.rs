//! Clients whose messages nobody counts: they publish and subscribe at random, in storms of
//! filters, or send packets that are wrong. They only have to leave everybody else in peace.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client::{Client, Lost};
use super::packet::{self, Ack, Connect, Message, PINGREQ, Version, Will};
use super::stage::{Phase, Stage};
use crate::random::Random;

/// One of two versions.
fn version(random: &mut Random) -> Version {
    if random.once_in(2) {
        Version::V5
    } else {
        Version::V311
    }
}

fn message(random: &mut Random, topic: String) -> Message {
    let length = match random.within(0..20) {
        0 => random.place(60_000),
        _ => random.place(600),
    };
    Message {
        topic,
        alias: 0,
        payload: vec![b'n'; length],
        qos: random.qos(),
        retain: random.once_in(10),
        dup: false,
        packet_id: 0,
    }
}

/// A filter that may take anything but the system's topics.
fn filter(random: &mut Random) -> String {
    let any = random.within(0..40);
    match random.within(0..6) {
        0 => "#".to_owned(),
        1 => format!("chaos/t/{any}/#"),
        2 => "noise/+".to_owned(),
        3 => format!("+/{any}/+"),
        4 => format!("$share/crowd{}/noise/#", any % 3),
        _ => format!("noise/{any}"),
    }
}

/// Random clients, one after the other: each publishes and subscribes for a while, then dies in
/// some way.
pub async fn wander(stage: Arc<Stage>, actor: u64) {
    let mut random = stage.random(actor);
    while stage.phase() == Phase::Storm {
        stage.did("random client comes");
        let id = format!("crowd-{}", random.within(0..12));
        let expiry = if random.once_in(3) { 5 } else { 0 };
        let mut client = Client::new(stage.address, version(&mut random), &id, expiry);
        client.withholds = random.once_in(4);
        client.connect.will = random.once_in(3).then(|| Will {
            topic: "noise/will".to_owned(),
            payload: b"gone".to_vec(),
            qos: random.qos(),
            delay_seconds: u32::from(random.once_in(2)),
        });
        // Others have the same client id and take it over: losing the connection is no fault.
        match visit(&stage, &mut client, &mut random).await {
            Err(Lost::Wrong(wrong)) if !client.withholds => {
                stage.ledger().violation(format!("{id}: {wrong}"));
            }
            _ => {}
        }
        client.die();
    }
}

async fn visit(stage: &Stage, client: &mut Client, random: &mut Random) -> Result<(), Lost> {
    client.connect().await?;
    for _ in 0..random.within(1..40) {
        if stage.phase() > Phase::Storm {
            return Ok(());
        }
        match random.within(0..6) {
            0 => {
                let filter = filter(random);
                client.subscribe(&[(&filter, random.qos())]).await?;
            }
            1 => {
                let filter = filter(random);
                client.unsubscribe(&[&filter]).await?;
            }
            2 => client.send(&PINGREQ).await?,
            _ if client.may_publish() => {
                let topic = format!("noise/{}", random.within(0..40));
                let message = message(random, topic);
                let upto = random.once_in(30).then(|| random.place(40) + 1);
                client.publish(0, message, upto).await?;
                if !client.is_connected() {
                    return Ok(());
                }
            }
            _ => {}
        }
        let within = Duration::from_millis(random.within(0..20));
        let mut left = 200;
        while left > 0 && client.next(within).await?.is_some() {
            left -= 1;
        }
    }
    if random.once_in(2) {
        client.die_politely().await?;
    }
    Ok(())
}

/// Storms: hundreds of filters come and go, in groups of their own too.
pub async fn storm(stage: Arc<Stage>, actor: u64) {
    let mut random = stage.random(actor);
    while stage.phase() == Phase::Storm {
        stage.did("storm of filters");
        let mut client = Client::new(stage.address, version(&mut random), "storm", 0);
        if let Err(lost) = rain(&mut client, &mut random).await {
            stage.lost(&client, &lost);
        }
        client.die();
        tokio::time::sleep(Duration::from_millis(random.within(0..200))).await;
    }
}

async fn rain(client: &mut Client, random: &mut Random) -> Result<(), Lost> {
    client.connect().await?;
    let count = random.within(20..200);
    let filters: Vec<String> = (0..count)
        .map(|number| match number % 4 {
            0 => format!("storm/{number}/#"),
            1 => format!("$share/storm{}/chaos/t/+/{number}", number % 3),
            2 => format!("storm/+/{number}"),
            _ => format!("chaos/t/{}/+", number % 7),
        })
        .collect();
    for some in filters.chunks(random.place(20) + 1) {
        let some: Vec<(&str, u8)> = some.iter().map(|f| (&**f, random.qos())).collect();
        client.subscribe(&some).await?;
    }
    for some in filters.chunks(random.place(20) + 1) {
        if random.once_in(2) {
            let some: Vec<&str> = some.iter().map(String::as_str).collect();
            client.unsubscribe(&some).await?;
        }
        while client.next(Duration::from_millis(1)).await?.is_some() {}
    }
    Ok(())
}

/// Wrong packets: each connection begins well most times, and then sends a packet of which some
/// bytes were changed, added, removed or cut off.
pub async fn mutate(stage: Arc<Stage>, actor: u64) {
    let mut random = stage.random(actor);
    while stage.phase() == Phase::Storm {
        stage.did("wrong packets");
        let version = version(&mut random);
        let mut bytes = greeting(&mut random).bytes(version);
        if random.once_in(5) {
            spoil(&mut bytes, &mut random);
        }
        for _ in 0..random.within(1..6) {
            let mut next = template(&mut random, version);
            if random.once_in(2) {
                spoil(&mut next, &mut random);
            }
            bytes.extend(next);
        }
        // Nothing that happens here is a fault; it has only to end.
        let talk = async {
            let mut stream = TcpStream::connect(stage.address).await?;
            for piece in bytes.chunks(random.place(bytes.len() + 1) + 1) {
                stream.write_all(piece).await?;
                tokio::task::yield_now().await;
            }
            let mut answer = [0; 4_096];
            for _ in 0..3 {
                let wait = timeout(Duration::from_millis(5), stream.read(&mut answer)).await;
                if !matches!(wait, Ok(Ok(1..))) {
                    break;
                }
            }
            std::io::Result::Ok(())
        };
        let _ = timeout(Duration::from_secs(5), talk).await;
    }
}

fn greeting(random: &mut Random) -> Connect {
    Connect {
        client_id: format!("wrong-{}", random.within(0..20)),
        clean: random.once_in(2),
        expiry_seconds: 2,
        receive_maximum: 10,
        alias_maximum: 10,
        will: random.once_in(2).then(|| Will {
            topic: "noise/will".to_owned(),
            payload: b"gone".to_vec(),
            qos: random.qos(),
            delay_seconds: 1,
        }),
    }
}

/// A packet that is right, or would be at another time.
fn template(random: &mut Random, version: Version) -> Vec<u8> {
    let packet_id = u16::try_from(random.within(1..9)).expect("below 9");
    match random.within(0..10) {
        0 => packet::subscribe(version, packet_id, &[("noise/#", random.qos())]),
        1 => packet::unsubscribe(version, packet_id, &["noise/#", "noise/1"]),
        2 => PINGREQ.to_vec(),
        3 => Ack::PubAck.bytes(packet_id),
        4 => Ack::PubRec.bytes(packet_id),
        5 => Ack::PubRel.bytes(packet_id),
        6 => Ack::PubComp.bytes(packet_id),
        _ => {
            let topic = format!("noise/{}", random.within(0..9));
            let mut message = message(random, topic);
            message.packet_id = packet_id;
            message.dup = message.qos > 0 && random.once_in(3);
            message.bytes(version)
        }
    }
}

fn spoil(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..random.within(1..4) {
        if bytes.is_empty() {
            return;
        }
        let place = random.place(bytes.len().min(60));
        let byte = u8::try_from(random.within(0..256)).expect("a byte");
        match random.within(0..5) {
            0 => bytes[place] = byte,
            1 => bytes[place] ^= 1 << (byte % 8),
            2 => bytes.insert(place, byte),
            3 => drop(bytes.remove(place)),
            _ => bytes.truncate(place),
        }
    }
}
