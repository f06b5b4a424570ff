//! What a keeper leaves alone: series with nothing to do, and late rows as long as more of them come.

use hostbus_store::{Tended, Tier};

use crate::site::*;

/// How many commands the server has taken, but for those that ask for this.
fn commands(site: &mut Site) -> u64 {
    let stats: String = site.ask("INFO", &["commandstats"]);
    let calls = stats.lines().filter(|line| !line.contains("_info:"));
    let calls = calls.filter_map(|line| {
        line.split_once("calls=")?
            .1
            .split(',')
            .next()?
            .parse::<u64>()
            .ok()
    });
    calls.sum()
}

#[tokio::test]
async fn of_a_node_with_nothing_to_do_all_series_are_asked_for_at_once() {
    const SERIES_COUNT: u64 = 20;
    let mut site = Site::new().await;
    let mut keeper = site.keeper(&[]);
    let names: Vec<String> = (0..SERIES_COUNT)
        .map(|number| format!("custom:{number}"))
        .collect();
    let (keys, node) = (site.keys(), site.node.clone());
    let mut now_ms = T + HOUR;
    let write = |site: &mut Site, name: &str, at_ms: u64| {
        let id = format!("{at_ms}-0");
        site.ask::<String>("XADD", &[&keys.raw(name), &id, "value", "1"]);
    };
    // Of a node that was never visited all are due.
    assert_eq!(
        keeper.due(&node, names.clone(), now_ms).await.unwrap(),
        names
    );
    for name in &names {
        for at_ms in (T..now_ms).step_by(60_000) {
            write(&mut site, name, at_ms);
        }
        while keeper.tend(&node, name, now_ms).await.unwrap().more {}
    }
    now_ms += MINUTE;
    let before = commands(&mut site);
    assert_eq!(
        keeper.due(&node, names.clone(), now_ms).await.unwrap(),
        [""; 0]
    );
    assert_eq!(commands(&mut site) - before, SERIES_COUNT + 2);
    // The same of each visited by itself.
    let before = commands(&mut site);
    for name in &names {
        let tended = keeper.tend(&node, name, now_ms).await.unwrap();
        assert_eq!(tended, Tended::default());
    }
    assert_eq!(commands(&mut site) - before, SERIES_COUNT * 7);

    // One with rows of the next ten minutes.
    write(&mut site, &names[3], T + HOUR + 10 * MINUTE);
    now_ms = T + HOUR + 10 * MINUTE;
    let due = keeper.due(&node, names.clone(), now_ms).await.unwrap();
    assert_eq!(due, [names[3].as_str()]);
    while keeper.tend(&node, &names[3], now_ms).await.unwrap().more {}
    assert_eq!(
        keeper.due(&node, names.clone(), now_ms).await.unwrap(),
        [""; 0]
    );
    // A late one may be of any of them.
    let member = format!("{} value 2", T + 7);
    site.ask::<i64>(
        "ZADD",
        &[&keys.late(&names[5]), &(T + 7).to_string(), &member],
    );
    assert_eq!(
        keeper
            .due(&node, names.clone(), now_ms)
            .await
            .unwrap()
            .len(),
        20
    );
    site.ask::<i64>("DEL", &[&keys.late(&names[5])]);
    // Another keeper was there.
    site.ask::<i64>("HINCRBY", &[&keys.kept(), "changes", "1"]);
    assert_eq!(
        keeper
            .due(&node, names.clone(), now_ms)
            .await
            .unwrap()
            .len(),
        20
    );
    site.ask::<i64>("HINCRBY", &[&keys.kept(), "changes", "-1"]);
    // In time all are looked at whole, with no word from anybody.
    let due = keeper.due(&node, names, now_ms + 2 * HOUR).await.unwrap();
    assert_eq!(due.len(), 20);
}

#[tokio::test]
async fn a_block_is_written_anew_once_for_all_late_rows_that_come_one_after_the_other() {
    let mut site = Site::new().await;
    let mut keeper = site.keeper(&[]);
    let mut raw = steady(T, T + 5 * HOUR);
    for (at_ms, row) in &raw {
        site.write(*at_ms, row);
    }
    let mut now_ms = T + 5 * HOUR;
    site.tend(&mut keeper, now_ms).await;
    let (mut rewritten, mut merged) = (0, 0);
    for number in 0..40 {
        let at_ms = T + number * 10_000 + 5;
        if number < 30 {
            site.write(at_ms, &row(number));
            raw.push((at_ms, row(number)));
        }
        let tended = keeper.tend(&site.node, SERIES, now_ms).await.unwrap();
        assert_eq!(tended.waiting, site.late() > 0, "{number}");
        rewritten += tended.rewritten_blocks;
        merged += tended.merged_rows;
        now_ms += MINUTE / 2;
    }
    assert_eq!((rewritten, merged, site.late()), (1, 30, 0));
    raw.sort_by_key(|(at_ms, _)| *at_ms);
    check(&mut site, &raw, T + 5 * HOUR - 10_000);
}

#[tokio::test]
async fn late_rows_are_merged_though_redis_is_lost_between_the_visits() {
    let mut site = Site::new().await;
    let mut keeper = site.keeper(&[]);
    for (at_ms, row) in &steady(T, T + HOUR) {
        site.write(*at_ms, row);
    }
    let mut now_ms = T + HOUR + MINUTE;
    site.tend(&mut keeper, now_ms).await;
    site.write(T + 5, &row(1));
    assert!(
        keeper
            .tend(&site.node, SERIES, now_ms)
            .await
            .unwrap()
            .waiting
    );

    // Somebody closes connections on which nobody speaks.
    site.ask::<i64>("CLIENT", &["KILL", "TYPE", "normal"]);
    now_ms += MINUTE / 2;
    let tended = keeper.tend(&site.node, SERIES, now_ms).await.unwrap();
    assert!(tended.waiting);

    // Redis serves nobody for a while.
    site.ask::<String>("ACL", &["SETUSER", "default", "-xrevrange"]);
    let failed = keeper.tend(&site.node, SERIES, now_ms).await;
    assert!(failed.unwrap_err().may_retry());
    site.ask::<String>("ACL", &["SETUSER", "default", "+@all"]);
    now_ms += MINUTE / 2;
    let tended = keeper.tend(&site.node, SERIES, now_ms).await.unwrap();
    assert_eq!((tended.merged_rows, site.late()), (1, 0));
}

#[tokio::test]
async fn rows_that_come_after_the_first_look_are_summed_up() {
    let mut site = Site::new().await;
    let mut keeper = site.keeper(&[]);
    // A late row is all that there is.
    let member = format!("{} total_bytes 1", T + 5_000);
    let late = site.keys().late(SERIES);
    site.ask::<i64>("ZADD", &[&late, &(T + 5_000).to_string(), &member]);
    keeper.tend(&site.node, SERIES, T + 10_000).await.unwrap();
    let mut raw = steady(T + 20_000, T + 50 * MINUTE);
    for (at_ms, row) in &raw {
        site.write(*at_ms, row);
    }
    raw.insert(0, (T + 5_000, vec![Some(1.0), None, None]));
    let top_ms = raw[raw.len() - 1].0;
    site.tend(&mut keeper, top_ms).await;
    check(&mut site, &raw, top_ms);
}

#[tokio::test]
async fn what_is_gone_under_a_shorter_retention_is_no_base_for_sums() {
    let mut site = Site::new().await;
    let days = 10 * 86_400;
    let minutes = |seconds: u64| [(Tier::Raw, days, None), (Tier::Minute, seconds, None)];
    let mut raw = steady(T, T + 5 * HOUR);
    for (at_ms, row) in &raw {
        site.write(*at_ms, row);
    }
    let top_ms = raw[raw.len() - 1].0;
    site.tend(&mut site.keeper(&minutes(7_200)), top_ms).await;
    // Kept longer now; of the first hours the minutes are gone.
    let mut keeper = site.keeper(&minutes(days));
    site.tend(&mut keeper, top_ms).await;
    let late = (T + 30 * MINUTE + 5, row(7));
    site.write(late.0, &late.1);
    raw.push(late);
    raw.sort_by_key(|(at_ms, _)| *at_ms);
    site.tend(&mut keeper, top_ms).await;
    let expected = model(&raw, top_ms);
    for tier in [Tier::Raw, Tier::TenMinutes, Tier::Hour] {
        assert_eq!(site.rows(tier), expected[tier as usize], "{tier}");
    }
    assert!(site.rows(Tier::Minute).len() < 200);
}

#[tokio::test]
async fn a_tier_that_is_switched_on_again_is_made_again() {
    let mut site = Site::new().await;
    let raw = steady(T, T + 3 * HOUR);
    for (at_ms, row) in &raw {
        site.write(*at_ms, row);
    }
    let top_ms = raw[raw.len() - 1].0;
    for seconds in [86_400, 0, 86_400] {
        let mut keeper = site.keeper(&[(Tier::Minute, seconds, None)]);
        site.tend(&mut keeper, top_ms).await;
        if seconds == 0 {
            assert!(site.rows(Tier::Minute).is_empty());
        } else {
            check(&mut site, &raw, top_ms);
        }
    }
}
