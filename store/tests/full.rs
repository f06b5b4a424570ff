//! A Redis whose memory is full is read from, and what is too old leaves it.

#![expect(clippy::unwrap_used, reason = "what is not there fails the test")]

mod fixture;

use fixture::{Fixture, T, fixture, node};
use hostbus_store::keys::NodeKeys;
use hostbus_store::{Keeper, StoreError, Tier, block};
use hostbus_wire::NodePath;

const HOUR: u64 = 3_600_000;
const SERIES: &str = "custom:a";

/// Writes two old rows, a block of old ones and a new row.
fn fill(fixture: &Fixture, node: &NodePath) {
    let keys = NodeKeys::new(node);
    let mut redis = fixture.redis();
    for at_ms in [T - 50 * HOUR, T - 49 * HOUR, T] {
        redis::cmd("XADD")
            .arg(keys.raw(SERIES))
            .arg(at_ms)
            .arg(&["value", "1"])
            .exec(&mut redis)
            .unwrap();
    }
    let start = Tier::Raw.block(T - 60 * HOUR);
    let row = hostbus_store::Row {
        at_ms: start,
        values: vec![Some(1.0)],
    };
    redis::cmd("HSET")
        .arg(keys.packed(Tier::Raw, SERIES))
        .arg(start)
        .arg(block::encode(&["value".to_owned()], &[row]))
        .exec(&mut redis)
        .unwrap();
    redis::cmd("SADD")
        .arg(keys.series())
        .arg(SERIES)
        .exec(&mut redis)
        .unwrap();
    redis::cmd("CONFIG")
        .arg(&["SET", "maxmemory", "100kb"])
        .exec(&mut redis)
        .unwrap();
}

async fn times(fixture: &Fixture, node: &NodePath) -> Vec<u64> {
    let range = fixture.reader().range(node, SERIES, 0, u64::MAX, 100).await;
    range.unwrap().rows.iter().map(|row| row.at_ms).collect()
}

#[tokio::test]
async fn what_is_too_old_leaves_a_redis_that_takes_nothing() {
    let mut fixture = fixture().await;
    let node = node("a");
    fill(&fixture, &node);
    let packed = Tier::Raw.block(T - 60 * HOUR);
    assert_eq!(
        times(&fixture, &node).await,
        [packed, T - 50 * HOUR, T - 49 * HOUR, T]
    );

    fixture.config.retention.raw.seconds = 24 * 3600;
    let mut keeper = Keeper::open(&fixture.config).unwrap();
    // What needs room can't be done.
    let tended = keeper.tend(&node, SERIES, T + 1).await;
    assert!(
        matches!(tended, Ok(_) | Err(StoreError::Full)),
        "{tended:?}"
    );
    assert_eq!(times(&fixture, &node).await, [T]);
}

#[tokio::test]
async fn a_series_of_which_all_is_too_old_makes_room_in_a_redis_that_takes_nothing() {
    let mut fixture = fixture().await;
    let node = node("a");
    fill(&fixture, &node);
    fixture.config.retention.raw.seconds = 24 * 3600;
    let mut keeper = Keeper::open(&fixture.config).unwrap();
    let now_ms = T + 30 * HOUR;
    let tended = keeper.tend(&node, SERIES, now_ms).await;
    assert!(
        matches!(tended, Ok(_) | Err(StoreError::Full)),
        "{tended:?}"
    );
    assert_eq!(times(&fixture, &node).await, [0; 0]);
    // Once there is room it is gone as if it never was.
    let mut redis = fixture.redis();
    redis::cmd("CONFIG")
        .arg(&["SET", "maxmemory", "0"])
        .exec(&mut redis)
        .unwrap();
    let tended = keeper.tend(&node, SERIES, now_ms).await.unwrap();
    assert!(tended.gone, "{tended:?}");
}
