//! Series that were silent for long, and late rows over a long stretch.

use hostbus_store::Tier;

use crate::site::*;

const DAY: u64 = 24 * HOUR;

#[tokio::test]
async fn the_last_word_of_a_host_that_was_off_for_a_month_is_packed_once_it_is_back() {
    let mut site = Site::new().await;
    let mut keeper = site.keeper(&[]);
    let raw = steady(T, T + 3 * HOUR + 7 * MINUTE);
    for (at_ms, row) in &raw {
        site.write(*at_ms, row);
    }
    // It falls silent, and its last buckets are closed.
    let silent_ms = T + 12 * HOUR;
    while site.tend(&mut keeper, silent_ms).await.more {}
    let (last, _) = site.stream(Tier::TenMinutes).pop().unwrap();
    assert!(last.ends_with("-1"), "{last}");
    let back_ms = T + 40 * DAY;
    for (at_ms, row) in steady(back_ms, back_ms + 2 * HOUR) {
        site.write(at_ms, &row);
    }
    let mut keeper = site.keeper(&[]);
    let now_ms = back_ms + 2 * HOUR;
    while site.tend(&mut keeper, now_ms).await.more {}
    let (first, _) = site.stream(Tier::TenMinutes).remove(0);
    assert!(
        first >= back_ms.to_string(),
        "{first} is still in the stream"
    );
    let start = Tier::TenMinutes.block(T);
    assert!(site.blocks(Tier::TenMinutes).contains_key(&start));
}

#[tokio::test]
async fn late_rows_all_over_a_dense_series_are_merged_at_last() {
    let mut site = Site::new().await;
    let mut keeper = site.keeper(&[(Tier::Raw, 30 * 86_400, Some(12 * 3_600))]);
    let key = site.keys().raw(SERIES);
    let end = T + 8 * HOUR;
    let mut rows = redis::pipe();
    for at_ms in (T..end).step_by(1_000) {
        let fields = &["own", "1"];
        rows.cmd("XADD").arg(&key).arg(at_ms).arg(fields).ignore();
    }
    rows.query::<()>(&mut site.redis).unwrap();
    let own = |value| [None, None, Some(value)];
    // One in each ten minutes: each of these has to be summed up anew.
    for at_ms in (T + 500..end - HOUR).step_by(600_000) {
        site.write(at_ms, &own(3.0));
    }
    let mut next_ms = end;
    for _ in 0..40 {
        // The series goes on meanwhile.
        site.write(next_ms, &own(1.0));
        site.tend(&mut keeper, next_ms).await;
        next_ms += MINUTE;
    }
    assert_eq!(site.late(), 0);
    let hours = site.stream(Tier::Hour);
    assert_eq!(hours.len(), 8);
    assert_eq!(hours[0].1["n"], "3606");
}
