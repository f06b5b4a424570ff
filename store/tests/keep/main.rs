//! What the keeper makes of a series is what a plain model makes of the same samples.

#![expect(clippy::unwrap_used, reason = "what is not there fails the test")]

#[path = "../fixture/mod.rs"]
mod fixture;
mod long;
mod rest;
mod site;
mod storm;

use hostbus_store::keys::NodeKeys;
use hostbus_store::{Tended, Tier};
use site::*;

#[tokio::test]
async fn closed_buckets_are_made_of_the_rows_of_the_finer_tier() {
    let mut site = Site::new().await;
    let mut keeper = site.keeper(&[]);
    let raw = steady(T + 20_000, T + 2 * HOUR + 7 * MINUTE);
    for (at_ms, row) in &raw {
        site.write(*at_ms, row);
    }
    let top_ms = raw.last().unwrap().0;
    let tended = site.tend(&mut keeper, top_ms).await;
    check(&mut site, &raw, top_ms);
    assert_eq!(tended.rolled_up_rows, 126 + 12 + 2);
    assert_eq!(
        (tended.malformed, tended.refused, tended.contended),
        (0, 0, false)
    );
    let again = site.tend(&mut keeper, top_ms).await;
    assert_eq!(again, Tended::default());
    let restarted = site.tend(&mut site.keeper(&[]), top_ms).await;
    assert_eq!(restarted, Tended::default());
}

#[tokio::test]
async fn late_rows_find_their_place_in_stream_block_and_buckets() {
    let mut site = Site::new().await;
    let mut keeper = site.keeper(&[(Tier::Raw, 30 * 86_400, Some(3 * 3_600))]);
    let mut raw = steady(T, T + 5 * HOUR + 2 * MINUTE);
    for (at_ms, row) in &raw {
        site.write(*at_ms, row);
    }
    let top_ms = raw.last().unwrap().0;
    let tended = site.tend(&mut keeper, top_ms).await;
    assert_eq!((tended.packed_blocks, tended.packed_rows), (2, 720));
    check(&mut site, &raw, top_ms);
    // In a block, in the stream, at a time that has a row, and one that is there already.
    for (at_ms, number) in [
        (T + 30 * MINUTE + 5_000, 7),
        (T + 4 * HOUR + 1, 8),
        (T + 5 * HOUR, 9),
    ] {
        site.write(at_ms, &row(number));
        raw.push((at_ms, row(number)));
    }
    site.write(T + 10_000, &row(1));
    assert_eq!(site.late(), 4);
    raw.sort_by_key(|(at_ms, _)| *at_ms);
    let tended = site.tend(&mut keeper, top_ms).await;
    check(&mut site, &raw, top_ms);
    assert_eq!((site.late(), tended.merged_rows), (0, 3));
    assert_eq!(tended.rewritten_blocks, 1);
    assert_eq!(site.tend(&mut keeper, top_ms).await, Tended::default());
    // The writer goes on where it was.
    let next = top_ms + 10_000;
    site.write(next, &row(1));
    assert_eq!(site.late(), 0);
}

#[tokio::test]
async fn a_late_row_of_an_open_bucket_waits_until_that_is_closed() {
    let mut site = Site::new().await;
    let mut keeper = site.keeper(&[]);
    let mut raw = vec![(T, row(1)), (T + 40_000, row(2))];
    for (at_ms, row) in &raw {
        site.write(*at_ms, row);
    }
    site.write(T + 30_000, &row(3));
    raw.insert(1, (T + 30_000, row(3)));
    let tended = site.tend(&mut keeper, T + 40_000).await;
    assert_eq!(
        (tended.waiting, tended.merged_rows, site.late()),
        (true, 0, 1)
    );
    raw.push((T + 60_000, row(4)));
    site.write(T + 60_000, &row(4));
    let tended = site.tend(&mut keeper, T + 60_000).await;
    assert_eq!(
        (tended.waiting, tended.merged_rows, site.late()),
        (false, 1, 0)
    );
    check(&mut site, &raw, T + 60_000);
}

#[tokio::test]
async fn a_stream_that_was_emptied_takes_rows_from_before_its_last_one() {
    let mut site = Site::new().await;
    let mut keeper = site.keeper(&[]);
    let raw = steady(T, T + 25 * MINUTE);
    for (at_ms, row) in &raw {
        site.write(*at_ms, row);
    }
    // As a shorter retention leaves it.
    for tier in [Tier::Minute, Tier::TenMinutes] {
        let stream = site.keys().rows(tier, SERIES);
        let id = format!("{}-0", T + HOUR);
        site.ask::<String>("XADD", &[&stream, &id, "n", "1"]);
        site.ask::<u64>("XTRIM", &[&stream, "MAXLEN", "0"]);
    }
    let top_ms = raw.last().unwrap().0;
    let tended = site.tend(&mut keeper, top_ms).await;
    assert_eq!((tended.refused, tended.rolled_up_rows), (0, 24 + 2));
    check(&mut site, &raw, top_ms);
}

#[tokio::test]
async fn a_row_that_the_writer_missed_is_put_between_those_that_it_wrote() {
    let mut site = Site::new().await;
    let mut keeper = site.keeper(&[]);
    let raw = steady(T, T + 30 * MINUTE + 10_000);
    for (at_ms, row) in &raw {
        site.write(*at_ms, row);
    }
    let top_ms = raw.last().unwrap().0;
    let minutes = NodeKeys::new(&site.node).rows(Tier::Minute, SERIES);
    for (at_ms, row) in &model(&raw, top_ms)[Tier::Minute as usize] {
        if ![3, 4, 17, 29].contains(&((at_ms - T) / MINUTE)) {
            let texts: Vec<String> = row
                .iter()
                .flat_map(|(name, value)| [name.clone(), value.to_string()])
                .collect();
            let id = format!("{at_ms}-0");
            let mut add = redis::cmd("XADD");
            add.arg(&minutes)
                .arg(id)
                .arg(texts)
                .query::<()>(&mut site.redis)
                .unwrap();
        }
    }
    let tended = site.tend(&mut keeper, top_ms).await;
    check(&mut site, &raw, top_ms);
    assert_eq!(
        (tended.rolled_up_rows, tended.rewritten_streams),
        (4 + 3, 1)
    );
}

#[tokio::test]
async fn a_series_that_falls_silent_is_closed_and_goes_on_as_if_it_had_not() {
    let mut site = Site::new().await;
    let mut keeper = site.keeper(&[]);
    let mut raw = steady(T, T + 75 * MINUTE + 30_000);
    for (at_ms, row) in &raw {
        site.write(*at_ms, row);
    }
    let top_ms = raw.last().unwrap().0;
    site.tend(&mut keeper, top_ms).await;
    site.tend(&mut keeper, top_ms + HOUR).await;
    check(&mut site, &raw, top_ms);
    for now_ms in [top_ms + 8 * HOUR, top_ms + 9 * HOUR] {
        site.tend(&mut keeper, now_ms).await;
        check(&mut site, &raw, u64::MAX);
    }
    assert_eq!(
        site.stream(Tier::Hour).last().unwrap().0,
        format!("{}-1", T + HOUR)
    );
    // What it had kept comes, in order.
    let rest = steady(top_ms + 10_000, T + 125 * MINUTE);
    for (at_ms, row) in &rest {
        site.write(*at_ms, row);
    }
    raw.extend(rest);
    let top_ms = raw.last().unwrap().0;
    for mut keeper in [keeper, site.keeper(&[])] {
        site.tend(&mut keeper, T + 12 * HOUR).await;
        check(&mut site, &raw, u64::MAX);
    }
    site.write(T + 12 * HOUR, &row(5));
    raw.push((T + 12 * HOUR, row(5)));
    site.tend(&mut site.keeper(&[]), T + 12 * HOUR).await;
    check(&mut site, &raw, T + 12 * HOUR);
    assert!(
        site.stream(Tier::Hour)
            .iter()
            .all(|(id, _)| id.ends_with("-0")),
        "{top_ms}"
    );
}

#[tokio::test]
async fn what_is_too_old_goes_and_a_series_with_nothing_left_is_removed() {
    let mut site = Site::new().await;
    let kept = [
        (Tier::Raw, 4 * 3600, Some(3600)),
        (Tier::Minute, 2 * 3600, None),
        (Tier::TenMinutes, 0, None),
        (Tier::Hour, 86_400, None),
    ];
    let mut keeper = site.keeper(&[]);
    let raw = steady(T, T + 6 * HOUR);
    for (at_ms, row) in &raw {
        site.write(*at_ms, row);
    }
    let now_ms = T + 6 * HOUR;
    site.tend(&mut keeper, now_ms).await;
    assert!(!site.rows(Tier::TenMinutes).is_empty());
    let mut keeper = site.keeper(&kept);
    let tended = site.tend(&mut keeper, now_ms).await;
    assert_eq!(tended.dropped_blocks, 2);
    assert_eq!(
        site.blocks(Tier::Raw).into_keys().collect::<Vec<_>>(),
        [T + 2 * HOUR, T + 3 * HOUR, T + 4 * HOUR]
    );
    assert_eq!(site.rows(Tier::Raw).first().unwrap().0, T + 2 * HOUR);
    assert_eq!(site.rows(Tier::Minute).first().unwrap().0, T + 4 * HOUR);
    let expected: [Rows; 4] = model(&raw, T + 6 * HOUR - 10_000);
    assert_eq!(site.rows(Tier::Hour), expected[Tier::Hour as usize]);
    let keys = site.keys();
    let gone: usize = site.ask("EXISTS", &[&keys.rows(Tier::TenMinutes, SERIES)]);
    assert_eq!(gone, 0);
    for (key, seconds) in [
        (keys.packed(Tier::Raw, SERIES), 5 * 3600),
        (keys.rows(Tier::Minute, SERIES), 3 * 3600),
        (keys.rows(Tier::Hour, SERIES), 25 * 3600),
    ] {
        let left: i64 = site.ask("TTL", &[&key]);
        assert!((seconds - 60..=seconds).contains(&left), "{key}: {left}");
    }
    for now_ms in [T + 10 * HOUR, T + 11 * HOUR] {
        assert!(!site.tend(&mut keeper, now_ms).await.gone);
    }
    assert!(site.rows(Tier::Raw).is_empty());
    let later = [T + 40 * HOUR, T + 42 * HOUR];
    let gone = [
        site.tend(&mut keeper, later[0]).await.gone,
        site.tend(&mut keeper, later[1]).await.gone,
    ];
    assert!(gone.contains(&true));
    let left: Vec<String> = site.ask("KEYS", &["*"]);
    assert_eq!(left, [keys.kept()]);
}

#[tokio::test]
async fn packing_may_be_switched_on_and_off() {
    let mut site = Site::new().await;
    let raw = steady(T, T + 4 * HOUR);
    for (at_ms, row) in &raw {
        site.write(*at_ms, row);
    }
    let now_ms = T + 4 * HOUR;
    let top_ms = raw.last().unwrap().0;
    for (stream_seconds, packed) in [
        (None, 0),
        (Some(7200), 2),
        (Some(3600), 3),
        (None, 3),
        (Some(86_400), 3),
    ] {
        let mut keeper = site.keeper(&[(Tier::Raw, 86_400, stream_seconds)]);
        site.tend(&mut keeper, now_ms).await;
        assert_eq!(site.blocks(Tier::Raw).len(), packed, "{stream_seconds:?}");
        check(&mut site, &raw, top_ms);
    }
}

#[tokio::test]
async fn two_keepers_do_each_other_no_harm() {
    let mut site = Site::new().await;
    let mut raw = steady(T, T + 6 * HOUR);
    for (at_ms, row) in &raw {
        site.write(*at_ms, row);
    }
    for number in 0..40 {
        let at_ms = T + number * 500_000 + 77;
        site.write(at_ms, &row(number));
        raw.push((at_ms, row(number)));
    }
    raw.sort_by_key(|(at_ms, _)| *at_ms);
    let (mut one, mut other) = (site.keeper(&[]), site.keeper(&[]));
    let now_ms = T + 6 * HOUR;
    tokio::join!(site.tend(&mut one, now_ms), site.tend(&mut other, now_ms));
    site.tend(&mut one, now_ms).await;
    check(&mut site, &raw, now_ms - 10_000);
    assert_eq!(site.late(), 0);
}

#[tokio::test]
async fn garbage_is_passed_over_and_counted() {
    let mut site = Site::new().await;
    let mut keeper = site.keeper(&[]);
    let keys = site.keys();
    for seconds in 0..90 {
        site.write(T + seconds * 10_000, &row(seconds));
    }
    let raw = keys.raw(SERIES);
    site.ask::<String>(
        "XADD",
        &[&raw, &format!("{}-0", T + 900_000), "used_percent", "many"],
    );
    site.ask::<String>(
        "XADD",
        &[&raw, &format!("{}-0", T + 5 * HOUR), "used_percent", "1"],
    );
    let late = keys.late(SERIES);
    site.ask::<i64>(
        "ZADD",
        &[
            &late,
            "1",
            "no row",
            "-inf",
            "nothing",
            "inf",
            "9 a b",
            &T.to_string(),
            "x y z",
        ],
    );
    let packed = keys.packed(Tier::Raw, SERIES);
    site.ask::<i64>(
        "HSET",
        &[&packed, &T.to_string(), "\u{1}no block", "a", "b", "7", "c"],
    );
    site.ask::<i64>("HSET", &[&keys.rows(Tier::Hour, SERIES), "a", "b"]);
    site.ask::<String>("XADD", &[&keys.rows(Tier::Minute, SERIES), "7-7", "a", "b"]);
    let tended = site.tend(&mut keeper, T + 5 * HOUR).await;
    assert!(tended.malformed >= 5 && tended.refused > 0, "{tended:?}");
    assert_eq!(site.late(), 0);
    assert_eq!(tended.packed_rows, 90);
    assert_eq!(site.rows(Tier::Minute).len(), 15);
    // All of it is somebody else's.
    let fresh = Site::new().await;
    let mut site = fresh;
    let mut keeper = site.keeper(&[]);
    for tier in Tier::ALL {
        site.ask::<()>("SET", &[&keys.rows(tier, SERIES), "x"]);
        site.ask::<()>("SET", &[&keys.packed(tier, SERIES), "x"]);
    }
    site.ask::<()>("SET", &[&keys.late(SERIES), "x"]);
    site.tend(&mut keeper, T).await;
    site.ask::<()>("SET", &[&keys.kept(), "x"]);
    let tended = keeper.tend(&site.node, SERIES, T).await;
    assert!(tended.is_ok_and(|tended| tended.refused > 0));
}
