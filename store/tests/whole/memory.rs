//! What the model takes in: rows that were written, and what is gone as time passes.

use std::collections::BTreeSet;

use hostbus_store::{Entry, Retention, Tier};
use hostbus_wire::Sample;

use crate::model::{Series, Values};
use crate::site::Site;

/// The fields of a row in their order, with what is known of them.
type Fields = Vec<(String, Option<f64>)>;

impl Site<'_> {
    /// Has the model take what was written.
    pub(crate) fn took(&mut self, number: usize, entries: Vec<Entry>) {
        let cutoff_ms = self.retention.raw.cutoff_ms(self.now_ms);
        let node = &mut self.nodes[number];
        for entry in &entries {
            for (name, fields) in rows(&entry.sample) {
                if !node.series.iter().any(|series| series.name == name) {
                    node.series.push(Series::new(&name));
                }
                let series = node.series.iter_mut().find(|series| series.name == name);
                let series = series.unwrap();
                let all = fields.iter().map(|(field, _)| field);
                let values: Values = fields
                    .iter()
                    .filter_map(|(field, value)| Some((field.clone(), (*value)?)))
                    .collect();
                series.known.extend(values.keys().cloned());
                if !all.into_iter().any(|field| series.known.contains(field)) {
                    continue;
                }
                let is_late = entry.at_ms <= series.top_ms;
                if is_late && entry.at_ms < cutoff_ms {
                    // It stays only where the keeper has removed the whole series before.
                    series.too_late.push((entry.at_ms, values));
                    continue;
                }
                series.top_ms = series.top_ms.max(entry.at_ms);
                series.insert(entry.at_ms, values);
            }
        }
        if node.numbered {
            node.outbox.extend(entries);
        }
        self.age();
    }

    /// Notes what is gone by now, and which buckets can't be summed up whole any more.
    pub(crate) fn age(&mut self) {
        let whole = |tier: Tier, at_ms: u64| at_ms.next_multiple_of(tier.span_ms().unwrap_or(1));
        // What was dropped under former settings the keeper knows when it comes by.
        for retention in self.former.iter().chain([&self.retention]) {
            for tier in Tier::ALL {
                let kept = retention.of(tier);
                let begin_ms = whole(tier, begin_ms(retention, &self.gone_ms, tier));
                let gone_ms = if kept.seconds == 0 {
                    // Switched on again, it begins with what the finer ones have.
                    begin_ms
                } else {
                    whole(tier, kept.cutoff_ms(self.now_ms))
                };
                self.gone_ms[tier as usize] = gone_ms.max(self.gone_ms[tier as usize]);
            }
        }
        for tier in Tier::ROLLUPS {
            let was_off = |former: &Retention| former.of(tier).seconds == 0;
            if self.former.iter().any(was_off) {
                let begin_ms = whole(tier, begin_ms(&self.retention, &self.gone_ms, tier));
                self.gone_ms[tier as usize] = begin_ms.max(self.gone_ms[tier as usize]);
            }
        }
        for series in self.nodes.iter_mut().flat_map(|node| &mut node.series) {
            for tier in Tier::ROLLUPS {
                let kept = |tier: &Tier| self.retention.of(*tier).seconds > 0;
                if !kept(&tier) {
                    continue;
                }
                let finer = Tier::ALL.into_iter().filter(|finer| *finer < tier);
                let mut lost: BTreeSet<u64> = finer
                    .filter(kept)
                    .flat_map(|finer| &series.tiers[finer as usize].uncertain)
                    .map(|start| tier.bucket(*start))
                    .collect();
                let begin_ms = whole(tier, begin_ms(&self.retention, &self.gone_ms, tier));
                let buckets = &mut series.tiers[tier as usize];
                lost.extend(buckets.unsettled.range(..begin_ms).copied());
                buckets.uncertain.extend(lost);
            }
        }
    }
}

/// From where on there are rows that those of `tier` can be made of.
fn begin_ms(retention: &Retention, gone_ms: &[u64; 4], tier: Tier) -> u64 {
    let finer = Tier::ALL.into_iter().filter(|finer| *finer < tier);
    let kept = finer.filter(|finer| retention.of(*finer).seconds > 0);
    kept.map(|finer| gone_ms[finer as usize]).min().unwrap_or(0)
}

/// The rows of a sample: of each series all fields with their values.
fn rows(sample: &Sample) -> Vec<(String, Fields)> {
    let mut rows = Vec::new();
    sample.for_each_series(|series| {
        let mut fields = Fields::new();
        series.for_each_field(|field, value| {
            // Nobody measured the sign of a zero.
            let value = value.map(|value| value.as_f64() + 0.0);
            fields.push((field.to_owned(), value));
        });
        rows.push((series.name().into_owned(), fields));
    });
    rows
}
