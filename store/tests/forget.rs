//! A node is removed whole, and nothing else with it.

#![expect(clippy::unwrap_used, reason = "test code")]

mod fixture;

use std::collections::BTreeSet;

use fixture::{WriteWhole, at, entries, fixture, node, numbers};
use hostbus_store::keys::NodeKeys;
use hostbus_store::{Connection, Describer, Extent, Forgotten, Tier, forget};
use hostbus_wire::info::Info;
use hostbus_wire::status::Status;

fn keys(redis: &mut redis::Connection) -> BTreeSet<String> {
    redis::cmd("KEYS").arg("*").query(redis).unwrap()
}

#[tokio::test]
async fn all_keys_of_a_node_go_and_those_of_others_stay() {
    let fixture = fixture().await;
    let mut redis = fixture.redis();
    let connection = Connection::open(&fixture.config).unwrap();
    let describer = Describer::open(&fixture.config).unwrap();
    // Names that begin alike, and one of another site.
    let others = [node("web10"), node("we"), node("other")];
    let mut appender = fixture.appender();
    for other in &others {
        appender.write(&entries(other, 1..=2), at(2)).await.unwrap();
    }
    let stranger = "hb:{lab.web1}:raw:cpu";
    redis::cmd("SET")
        .arg(stranger)
        .arg(1)
        .exec(&mut redis)
        .unwrap();
    let before = keys(&mut redis);

    let web1 = node("web1");
    appender.write(&entries(&web1, 1..=3), at(3)).await.unwrap();
    describer
        .info(&web1, &Info::default(), at(3))
        .await
        .unwrap();
    let own = NodeKeys::new(&web1);
    for tier in Tier::ROLLUPS {
        redis::cmd("XADD")
            .arg(&[&own.rows(tier, "cpu"), "1-0", "n", "1"])
            .exec(&mut redis)
            .unwrap();
    }
    redis::cmd("HSET")
        .arg(&[&own.packed(Tier::Raw, "cpu"), "0", "block"])
        .exec(&mut redis)
        .unwrap();
    redis::cmd("ZADD")
        .arg(&[&own.late("memory"), "1", "1 used_bytes 7"])
        .exec(&mut redis)
        .unwrap();
    // A thousand series that the set of series does not name.
    let mut many = redis::pipe();
    for n in 0..1_000 {
        many.cmd("SET").arg(own.raw(&format!("disk:{n}"))).arg(1);
    }
    many.exec(&mut redis).unwrap();
    let of_node = keys(&mut redis).len() - before.len();

    let forgotten = forget::forget(&connection, &web1).await.unwrap();
    assert_eq!(
        forgotten,
        Forgotten {
            series: 4,
            keys: of_node as u64,
            was_listed: true,
        }
    );
    assert_eq!(keys(&mut redis), before);
    let left = fixture.reader().nodes().await.unwrap();
    assert_eq!(left.len(), others.len());
    assert_eq!(numbers(&fixture.reader(), &others[0]).await, [1, 2]);
    let again = forget::forget(&connection, &web1).await.unwrap();
    assert_eq!(again, Forgotten::default());
}

#[tokio::test]
async fn a_node_that_publishes_is_told_from_one_that_said_good_bye() {
    let fixture = fixture().await;
    let connection = Connection::open(&fixture.config).unwrap();
    let describer = Describer::open(&fixture.config).unwrap();
    let a = node("a");
    let publishes = async || forget::is_publishing(&connection, &a).await.unwrap();
    assert!(!publishes().await);
    let samples = entries(&a, 1..=1);
    fixture.appender().write(&samples, at(1)).await.unwrap();
    assert!(publishes().await);
    describer.status(&a, Status::Online, at(1)).await.unwrap();
    assert!(publishes().await);
    describer.status(&a, Status::Offline, at(1)).await.unwrap();
    assert!(!publishes().await);
}

#[tokio::test]
async fn the_extent_counts_nodes_and_series_and_measures_some() {
    let fixture = fixture().await;
    let connection = Connection::open(&fixture.config).unwrap();
    assert_eq!(Extent::ask(&connection).await.unwrap(), Extent::default());
    let mut appender = fixture.appender();
    for n in 0..12 {
        let node = node(&format!("n{n}"));
        appender.write(&entries(&node, 1..=2), at(2)).await.unwrap();
    }
    let extent = Extent::ask(&connection).await.unwrap();
    assert_eq!((extent.nodes, extent.series), (12, 48));
    // Four streams of two rows each; a stream begins with about a kilobyte.
    let bytes = extent.bytes_per_node.unwrap();
    assert!((1_000..20_000).contains(&bytes), "{bytes}");
}
