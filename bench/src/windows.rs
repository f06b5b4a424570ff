//! What an evaluator remembers, kept and taken back: how large it is, and how long that holds up all else.

use std::sync::Arc;
use std::time::Instant;

use hostbus_notifier::evaluator::{Evaluator, Kept, Options};
use hostbus_notifier::rule::Rule;
use hostbus_wire::NodePath;
use hostbus_wire::sample::Rows;
use serde_json::json;

/// Keeps what `evaluator` remembers, and gives it to another one, which hears `sample` of each of `paths`.
pub(crate) fn measure(
    evaluator: &Evaluator,
    rules: Vec<Arc<Rule>>,
    paths: &[NodePath],
    sample: &Rows,
    now_ms: u64,
) -> anyhow::Result<serde_json::Value> {
    let begin = Instant::now();
    let mut left = evaluator.remembered().into_iter();
    let first_seconds = begin.elapsed().as_secs_f64();
    let (mut slices, mut longest_seconds) = (Vec::new(), first_seconds);
    loop {
        let begin = Instant::now();
        let Some(slice) = evaluator.keep(&mut left, now_ms) else {
            break;
        };
        longest_seconds = longest_seconds.max(begin.elapsed().as_secs_f64());
        slices.push(slice);
    }
    let seconds = begin.elapsed().as_secs_f64();
    let bytes: usize = slices.iter().map(Vec::len).sum();
    let count = slices.len();
    let begin = Instant::now();
    let mut kept = Kept::default();
    for slice in slices {
        kept.add(slice.into())?;
    }
    let read_seconds = begin.elapsed().as_secs_f64();
    let mut changes = Vec::new();
    let mut next = Evaluator::new(Options::default());
    next.set_rules(rules, now_ms, &mut changes);
    next.take_back(kept);
    next.calm(now_ms);
    let begin = Instant::now();
    for path in paths {
        next.sample(path, sample, true, now_ms, &mut changes);
    }
    let taken_seconds = begin.elapsed().as_secs_f64();
    Ok(json!({
        "bytes": bytes,
        "slices": count,
        "seconds": seconds,
        "longest_milliseconds": longest_seconds * 1e3,
        "read_seconds": read_seconds,
        "taken_seconds": taken_seconds,
    }))
}
