//! Charts: what is drawn is what the rows say, whichever tiers they are taken from.

#![expect(clippy::unwrap_used, reason = "what is not there fails the test")]

mod fixture;

use std::collections::BTreeMap;

use fixture::{fixture, node};
use hostbus_store::{Chart, ChartQuery, Line, Tier};
use hostbus_wire::NodePath;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const MINUTE: u64 = 60_000;
/// The start of an hour.
const T: u64 = 1_763_629_200_000;

/// The raw rows of one field, by time.
type Rows = BTreeMap<u64, Option<f64>>;

fn line(node: &NodePath, series: &str) -> Line {
    Line {
        node: node.clone(),
        series: series.to_owned(),
        fields: vec!["usage_percent".to_owned()],
    }
}

fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "nan".to_owned(), |value| value.to_string())
}

fn send(pipeline: &redis::Pipeline, redis: &mut redis::Connection) {
    if !pipeline.is_empty() {
        pipeline.query::<redis::Value>(redis).unwrap();
    }
}

fn write_raw(redis: &mut redis::Connection, node: &str, series: &str, rows: &Rows) {
    let mut pipeline = redis::pipe();
    for (at_ms, value) in rows {
        let key = format!("hb:{{home.{node}}}:raw:{series}");
        let add = pipeline.cmd("XADD").arg(key).arg(format!("{at_ms}-0"));
        add.arg("usage_percent")
            .arg(shown(*value))
            .arg("load1")
            .arg(1);
    }
    send(&pipeline, redis);
}

/// Writes the rows of a tier whose buckets have ended by `until_ms`.
fn write_tier(
    redis: &mut redis::Connection,
    (node, series): (&str, &str),
    tier: Tier,
    rows: &Rows,
    until_ms: u64,
) {
    let span_ms = tier.span_ms().unwrap();
    let mut buckets: BTreeMap<u64, Vec<Option<f64>>> = BTreeMap::new();
    for (at_ms, value) in rows {
        buckets.entry(tier.bucket(*at_ms)).or_default().push(*value);
    }
    let mut pipeline = redis::pipe();
    for (start, values) in buckets {
        if start + span_ms > until_ms {
            continue;
        }
        let [average, min, max] = summary(&values);
        let key = format!("hb:{{home.{node}}}:{tier}:{series}");
        let add = pipeline.cmd("XADD").arg(key).arg(format!("{start}-0"));
        add.arg("usage_percent").arg(shown(average));
        add.arg("usage_percent_min").arg(shown(min));
        add.arg("usage_percent_max").arg(shown(max));
        add.arg("n").arg(values.len());
    }
    send(&pipeline, redis);
}

fn summary(values: &[Option<f64>]) -> [Option<f64>; 3] {
    let known: Vec<f64> = values.iter().copied().flatten().collect();
    let average = known.iter().sum::<f64>() / known.len() as f64;
    [
        (!known.is_empty()).then_some(average),
        known.iter().copied().reduce(f64::min),
        known.iter().copied().reduce(f64::max),
    ]
}

/// Values a quarter apart, so few of them a minute that all averages are exact to some digits.
fn rows() -> impl Strategy<Value = Rows> {
    let value = prop_oneof![1 => Just(None), 6 => (0_i32..400).prop_map(|value| Some(f64::from(value) / 4.0))];
    let gap = prop_oneof![20 => 5_000_u64..15_000, 1 => 60_000..3_000_000_u64];
    vec((gap, value), 1..500).prop_map(|rows| {
        let mut at_ms = T;
        let rows = rows.into_iter().map(|(gap, value)| {
            at_ms += gap;
            (at_ms, value)
        });
        rows.collect()
    })
}

/// Checks each point of a chart against the rows that fall into its span.
fn agrees(chart: &Chart, rows: &Rows, query: &ChartQuery) -> Result<(), TestCaseError> {
    prop_assert!(chart.times_ms.len() <= query.points);
    let in_range = rows.range(query.from_ms..=query.to_ms);
    let Some(step_ms) = chart.step_ms else {
        let values = chart.curves.first().map(|curve| curve.values.as_slice());
        let drawn = chart.times_ms.iter().zip(values.unwrap_or_default());
        let known = drawn.filter_map(|(at_ms, value)| Some((*at_ms, (*value)?)));
        let expected = in_range.filter_map(|(at_ms, value)| Some((*at_ms, (*value)?)));
        prop_assert!(known.eq(expected));
        return Ok(());
    };
    let curve = &chart.curves[0];
    for (point, start) in chart.times_ms.iter().enumerate() {
        // Rows as they came are read from the very beginning of the range, others from whole spans.
        let from_ms = if chart.tier == Tier::Raw {
            query.from_ms
        } else {
            0
        };
        // The last row of a tier may reach beyond the range.
        if chart.tier != Tier::Raw && point + 1 == chart.times_ms.len() {
            continue;
        }
        let span = (*start).max(from_ms)..=(start + step_ms - 1).min(query.to_ms);
        let values: Vec<Option<f64>> = rows.range(span).map(|(_, value)| *value).collect();
        let [average, min, max] = summary(&values);
        prop_assert_eq!(curve.min[point], min, "min of {}", start);
        prop_assert_eq!(curve.max[point], max, "max of {}", start);
        prop_assert_eq!(curve.values[point].is_some(), average.is_some());
        // Averages of averages are weighted by rows, be all of their values known or not.
        if let (Some(drawn), Some(average)) = (curve.values[point], average)
            && values.iter().all(Option::is_some)
        {
            prop_assert!((drawn - average).abs() < 0.001, "{} {}", drawn, average);
        }
    }
    Ok(())
}

#[test]
fn a_chart_agrees_with_the_rows_that_it_was_made_from() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let fixture = runtime.block_on(fixture());
    let reader = fixture.reader();
    let redis = std::cell::RefCell::new(fixture.redis());
    let cases = std::cell::Cell::new(0);
    let range = (0_u64..300, 1_u64..600);
    let closed = (0_u64..300, 0_u64..300, 0_u64..300);
    let wanted = (rows(), range, closed, 1_usize..400, any::<bool>());
    let mut runner = TestRunner::new(Config::with_cases(120));
    let checked = runner.run(&wanted, |(rows, (from, length), (a, b, c), points, cut)| {
        cases.set(cases.get() + 1);
        let (name, mut redis) = (format!("n{}", cases.get()), redis.borrow_mut());
        // The coarser a tier, the less of it is there yet.
        let mut until = [T + a * MINUTE, T + b * MINUTE, T + c * MINUTE];
        until.sort_unstable();
        let [hour, ten, minute] = until;
        for (tier, until_ms) in [
            (Tier::Hour, hour),
            (Tier::TenMinutes, ten),
            (Tier::Minute, minute),
        ] {
            write_tier(&mut redis, (&name, "cpu"), tier, &rows, until_ms);
        }
        // The rows as they came may be gone where there are rows of minutes.
        let mut raw = rows.clone();
        if cut {
            raw.retain(|at_ms, _| Tier::Minute.bucket(*at_ms) + MINUTE > minute);
        }
        write_raw(&mut redis, &name, "cpu", &raw);
        let from_ms = T + from * MINUTE + 7;
        let query = ChartQuery {
            lines: vec![line(&node(&name), "cpu")],
            from_ms,
            to_ms: from_ms + length * MINUTE,
            points,
            tier: cut.then_some(Tier::Minute),
        };
        let charts = runtime.block_on(reader.chart(&query)).unwrap();
        // Where all rows of a tier that would do are younger, points are taken from coarser ones.
        let only = rows.range(from_ms - from_ms % MINUTE..).next().is_some();
        if only && !charts[0].curves.is_empty() {
            agrees(&charts[0], &rows, &query)?;
        }
        Ok(())
    });
    checked.unwrap();
}

fn every(step_ms: u64, range: std::ops::Range<u64>) -> Rows {
    range
        .map(|row| (T + row * step_ms, Some((row % 8) as f64)))
        .collect()
}

#[tokio::test]
async fn series_of_several_nodes_are_drawn_at_once_and_an_unknown_one_has_no_curves() {
    let fixture = fixture().await;
    let (a, b) = (node("a"), node("b"));
    for (name, rows) in [("a", every(10_000, 0..30)), ("b", every(10_000, 20..60))] {
        write_raw(&mut fixture.redis(), name, "cpu", &rows);
    }
    let lines = vec![line(&a, "cpu"), line(&b, "memory"), line(&b, "cpu")];
    let query = ChartQuery {
        lines: lines.clone(),
        from_ms: T,
        to_ms: T + 10 * MINUTE,
        points: 1_000,
        tier: None,
    };
    let charts = fixture.reader().chart(&query).await.unwrap();
    let drawn: Vec<&Line> = charts.iter().map(|chart| &chart.line).collect();
    assert_eq!(drawn, lines.iter().collect::<Vec<_>>());
    let points: Vec<usize> = charts.iter().map(|chart| chart.times_ms.len()).collect();
    assert_eq!(points, [30, 0, 40]);
    assert!(charts[1].curves.is_empty());
    assert_eq!(charts[2].curves[0].values[0], Some(4.0));
    // All fields when none is named.
    let mut all = line(&a, "cpu");
    all.fields.clear();
    let query = ChartQuery {
        lines: vec![all],
        ..query
    };
    let charts = fixture.reader().chart(&query).await.unwrap();
    let fields: Vec<&str> = charts[0].curves.iter().map(|curve| &*curve.field).collect();
    assert_eq!(fields, ["usage_percent", "load1"]);
}

#[tokio::test]
async fn a_line_breaks_where_rows_are_missing() {
    let fixture = fixture().await;
    let a = node("a");
    let mut rows = every(10_000, 0..12);
    rows.extend(every(10_000, 60..66));
    write_raw(&mut fixture.redis(), "a", "cpu", &rows);
    let query = |points: usize| ChartQuery {
        lines: vec![line(&a, "cpu")],
        from_ms: T,
        to_ms: T + 11 * MINUTE,
        points,
        tier: Some(Tier::Raw),
    };
    let plain = fixture.reader().chart(&query(100)).await.unwrap().remove(0);
    assert_eq!((plain.step_ms, plain.times_ms.len()), (None, 19));
    assert_eq!(plain.times_ms[12], T + 120_000);
    assert_eq!(plain.curves[0].values[12], None);
    let summed = fixture.reader().chart(&query(12)).await.unwrap().remove(0);
    assert_eq!((summed.step_ms, summed.times_ms.len()), (Some(MINUTE), 12));
    let known: Vec<bool> = summed.curves[0]
        .values
        .iter()
        .map(Option::is_some)
        .collect();
    let expected = [
        true, true, false, false, false, false, false, false, false, false, true, false,
    ];
    assert_eq!(known, expected);
}

#[tokio::test]
async fn what_a_tier_has_no_longer_is_drawn_from_the_coarser_ones() {
    let fixture = fixture().await;
    let a = node("a");
    let whole = every(MINUTE, 0..48 * 60);
    let mut redis = fixture.redis();
    let end = T + 48 * 60 * MINUTE;
    write_tier(&mut redis, ("a", "cpu"), Tier::Hour, &whole, end);
    let half = every(MINUTE, 24 * 60..48 * 60);
    write_tier(&mut redis, ("a", "cpu"), Tier::TenMinutes, &half, end);
    let query = |from_ms: u64, to_ms: u64| ChartQuery {
        lines: vec![line(&a, "cpu")],
        from_ms,
        to_ms,
        points: 300,
        tier: None,
    };
    let reader = fixture.reader();
    let chart = reader.chart(&query(T, end - 1)).await.unwrap().remove(0);
    assert_eq!(
        (chart.tier, chart.step_ms),
        (Tier::TenMinutes, Some(10 * MINUTE))
    );
    assert_eq!(chart.times_ms.len(), 288);
    let unknown: Vec<usize> = (0..288)
        .filter(|point| chart.curves[0].values[*point].is_none())
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert!(chart.curves[0].max.iter().all(|max| *max <= Some(7.0)));
    // A range of which the finer tiers have nothing at all.
    let old = reader
        .chart(&query(T, T + 600 * MINUTE))
        .await
        .unwrap()
        .remove(0);
    assert_eq!(old.tier, Tier::Raw);
    assert!(old.times_ms.len() <= 300);
    assert!(old.curves[0].values.iter().all(Option::is_some));
    // Where rows are there, but none in the range, nothing is made up.
    write_raw(&mut redis, "a", "cpu", &every(MINUTE, 0..1));
    let gap = reader
        .chart(&query(T + 90 * MINUTE, T + 100 * MINUTE))
        .await
        .unwrap()
        .remove(0);
    assert_eq!(gap.tier, Tier::Raw);
    assert!(gap.curves.is_empty(), "{gap:?}");
}
