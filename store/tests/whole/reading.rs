//! What the reader reads, held against the model.

use hostbus_store::Tier;

use crate::model::{Rows, Series, Values};
use crate::site::{HOUR, Node, Site};

impl Site<'_> {
    /// Rows as they came are what the model has, whatever the keeper is in the middle of.
    pub(crate) async fn check_raw(&self, range: (u64, u64)) {
        for node in &self.nodes {
            for series in &node.series {
                let read = self.read(node, series, Tier::Raw, range).await;
                let gone_ms = self.gone_ms[Tier::Raw as usize];
                let expected = series
                    .rows
                    .range(range.0..=range.1)
                    .flat_map(|(at_ms, rows)| {
                        let mut rows = rows.clone();
                        rows.sort_by_key(|row| format!("{row:?}"));
                        rows.into_iter().map(|row| (*at_ms, row))
                    });
                let expected: Vec<(u64, Values)> = expected.collect();
                for row in &read {
                    let is_old = expected.contains(row) || series.too_late.contains(row);
                    let known = row.0 >= gone_ms || is_old;
                    assert!(known, "{} {}: nobody wrote {row:?}", node.path, series.name);
                }
                let kept = |rows: Vec<(u64, Values)>| {
                    let rows = rows.into_iter().filter(|(at_ms, _)| *at_ms >= gone_ms);
                    rows.collect::<Vec<_>>()
                };
                same(node, series, Tier::Raw, &kept(read), &kept(expected));
            }
        }
    }

    /// Each tier is what the model says, once the keeper has nothing more to do.
    pub(crate) async fn check_tiers(&mut self, range: (u64, u64)) {
        let mut nodes = std::mem::take(&mut self.nodes);
        for node in &mut nodes {
            for place in 0..node.series.len() {
                let closed_ms = self.closed_ms(&node.series[place]);
                let expected = node.series[place].tiers(closed_ms);
                for tier in Tier::ROLLUPS {
                    let read = self.read(node, &node.series[place], tier, range).await;
                    if self.retention.of(tier).seconds == 0 {
                        let none = read.is_empty();
                        assert!(none, "{tier} is not kept, but there are rows of it");
                        continue;
                    }
                    let read: Rows = read.into_iter().collect();
                    let expected = &expected[tier as usize];
                    self.check_tier(node, place, tier, (&read, expected), range, closed_ms);
                    let buckets = &mut node.series[place].tiers[tier as usize];
                    buckets.read.extend(read);
                    let span_ms = tier.span_ms().unwrap();
                    let made_ms = match tier {
                        Tier::Minute => Tier::TenMinutes.bucket(closed_ms),
                        _ => closed_ms,
                    };
                    buckets.unsettled.retain(|start| start + span_ms > made_ms);
                }
            }
        }
        self.nodes = nodes;
    }

    fn check_tier(
        &self,
        node: &Node,
        place: usize,
        tier: Tier,
        (read, expected): (&Rows, &Rows),
        (from_ms, to_ms): (u64, u64),
        closed_ms: u64,
    ) {
        let series = &node.series[place];
        let buckets = &series.tiers[tier as usize];
        let is_certain = |start: &u64| {
            let within = (from_ms..=to_ms).contains(start);
            let closed = start + tier.span_ms().unwrap() <= closed_ms;
            // The minutes of the last ten are made when these are over, unless the writer makes them.
            let waits = tier == Tier::Minute
                && *start >= Tier::TenMinutes.bucket(closed_ms)
                && !read.contains_key(start);
            let certain =
                *start >= self.gone_ms[tier as usize] && !buckets.uncertain.contains(start);
            within && closed && certain && !waits
        };
        let certain = |rows: &Rows| {
            let rows = rows.iter().filter(|(start, _)| is_certain(start));
            rows.map(|(start, row)| (*start, row.clone()))
                .collect::<Vec<_>>()
        };
        same(node, series, tier, &certain(read), &certain(expected));
        // Rows that could not be summed up whole again are as they were, or right.
        for start in &buckets.uncertain {
            if let (Some(have), Some(before)) = (read.get(start), buckets.read.get(start)) {
                let is_one = have == before || expected.get(start) == Some(have);
                let name = &series.name;
                assert!(
                    is_one,
                    "{} {name}: {tier} at {start} was {before:?}, is {have:?}, may be {:?}",
                    node.path,
                    expected.get(start)
                );
            }
        }
    }

    /// Up to where buckets are closed: by a later row, or by a silence.
    fn closed_ms(&self, series: &Series) -> u64 {
        let shortest = Tier::ALL
            .into_iter()
            .map(|tier| self.retention.of(tier).seconds)
            .filter(|seconds| *seconds > 0)
            .min();
        let silence_ms = (6 * HOUR).min(shortest.unwrap() * 500);
        series.top_ms.max(self.now_ms - silence_ms)
    }

    /// Reads one tier. The rows of one time are sorted by what they say.
    async fn read(
        &self,
        node: &Node,
        series: &Series,
        tier: Tier,
        (from_ms, to_ms): (u64, u64),
    ) -> Vec<(u64, Values)> {
        let reader = &self.reader;
        let mut scan = reader.scan_tier(&node.path, &series.name, tier, None, from_ms, to_ms);
        let mut rows = Vec::new();
        loop {
            let page = match scan.next_page().await {
                Ok(Some(page)) => page,
                Ok(None) => break,
                // The server was started anew since it was asked last.
                Err(error) if error.may_retry() => continue,
                Err(error) => panic!("{error}"),
            };
            assert_eq!((page.malformed, page.broken_blocks), (0, 0));
            for row in page.rows {
                let values = scan.fields().iter().cloned().zip(row.values);
                let values = values.filter_map(|(name, value)| Some((name, value?)));
                rows.push((row.at_ms, values.collect::<Values>()));
            }
        }
        assert!(rows.is_sorted_by_key(|(at_ms, _)| *at_ms));
        rows.sort_by_key(|(at_ms, row)| (*at_ms, format!("{row:?}")));
        rows
    }
}

fn same(
    node: &Node,
    series: &Series,
    tier: Tier,
    read: &[(u64, Values)],
    expected: &[(u64, Values)],
) {
    let different = read.iter().zip(expected).find(|(have, want)| have != want);
    let place = format!("{} {} {tier}", node.path, series.name);
    assert_eq!(different, None, "{place}: read and expected");
    let longer = if read.len() > expected.len() {
        read
    } else {
        expected
    };
    let rest = longer.get(read.len().min(expected.len()));
    assert_eq!((read.len(), rest), (expected.len(), None), "{place}");
}
