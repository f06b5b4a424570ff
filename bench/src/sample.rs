//! `sample`: the size of a sample of 60 points on the wire, beside the same as JSON.

use std::io::Write;

use hostbus_wire::encode;
use serde_json::json;

use crate::load;

/// Over how many different samples the size is averaged.
const SAMPLES: u64 = 1000;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print the figures as JSON on the last line.
    #[arg(long)]
    json: bool,
    /// Accepted for all measurements; this one is quick.
    #[arg(long)]
    quick: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let (mut cbor_bytes, mut json_bytes) = (0, 0);
    for seed in 1..=SAMPLES {
        let mut sample = load::sample(seed);
        sample.ts = Some(1_763_630_000_123);
        (sample.boot, sample.seq, sample.first) = (Some(1_763_600_000), Some(70_000), Some(70_000));
        sample.interval_ms = Some(10_000);
        cbor_bytes += encode(&sample)?.len();
        json_bytes += serde_json::to_vec(&sample)?.len();
    }
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let mean = |total: usize| total as f64 / SAMPLES as f64;
    let (cbor, text) = (mean(cbor_bytes), mean(json_bytes));
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{} points: {cbor:.0} bytes as CBOR, {text:.0} as JSON, ratio {:.2}",
        load::POINTS,
        cbor / text
    )?;
    if args.json {
        let figures = json!({"points": load::POINTS, "cbor_bytes": cbor, "json_bytes": text});
        writeln!(out, "{figures}")?;
    }
    Ok(())
}
