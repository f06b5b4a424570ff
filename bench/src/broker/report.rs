//! Medians, ratios and spreads, as a table for people and as JSON.

use std::io::Write;

use serde_json::{Value, json};

use super::idle;
use super::round::Figures;
use super::scenario::Load;

/// All rounds of one load, in the order they ran: ours and the peer's in turn.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) load: Load,
    pub(crate) ours: Vec<Figures>,
    pub(crate) peers: Vec<Figures>,
}

/// The middle of some values.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

fn median_of(rounds: &[Figures], figure: impl Fn(&Figures) -> f64) -> f64 {
    median(rounds.iter().map(figure).collect())
}

/// Ours divided by the peer's, round by round: the least, the median, the most.
fn ratio(measured: &Measured, figure: impl Fn(&Figures) -> f64) -> [f64; 3] {
    let mut ratios: Vec<f64> = std::iter::zip(&measured.ours, &measured.peers)
        .map(|(ours, peers)| figure(ours) / figure(peers))
        .collect();
    ratios.sort_by(f64::total_cmp);
    let edge = |value: Option<&f64>| value.copied().unwrap_or(f64::NAN);
    [
        edge(ratios.first()),
        median(ratios.clone()),
        edge(ratios.last()),
    ]
}

fn latency(figures: &Figures, place: usize) -> f64 {
    figures
        .latency_ms
        .map_or(f64::NAN, |latency| latency[place])
}

fn lost(rounds: &[Figures]) -> u64 {
    rounds.iter().map(|figures| figures.lost).sum()
}

pub(crate) fn head(out: &mut impl Write, ours: &str, peer: &str) -> std::io::Result<()> {
    writeln!(
        out,
        "{ours} / {peer}; medians; ratios as median (least to most of the pairs)\n"
    )?;
    writeln!(
        out,
        "{:<18}{:>5} {:>3} {:<5} | {:>25} {:>17} | {:>25} {:>17} | {:>17} | {:>11} {:>6}",
        "load",
        "bytes",
        "QoS",
        "MQTT",
        "delivered/s",
        "ratio",
        "CPU s/million",
        "ratio",
        "p99 ms",
        "lost",
        "others"
    )
}

/// One line of the table.
pub(crate) fn row(out: &mut impl Write, measured: &Measured) -> std::io::Result<()> {
    let Measured { load, ours, peers } = measured;
    let pair = |figure: fn(&Figures) -> f64| (median_of(ours, figure), median_of(peers, figure));
    let spread = |[least, median, most]: [f64; 3]| format!("{median:.2} ({least:.2}-{most:.2})");
    let rate = pair(|figures| figures.delivered_per_second);
    let cpu = pair(|figures| figures.cpu_seconds_per_million);
    let p99 = pair(|figures| latency(figures, 1));
    let others = median_of(ours, |figures| figures.others_share)
        .max(median_of(peers, |figures| figures.others_share));
    let p99 = if p99.0.is_nan() {
        String::new()
    } else {
        format!("{:.2} / {:.2}", p99.0, p99.1)
    };
    writeln!(
        out,
        "{:<18}{:>5} {:>3} {:<5} | {:>25} {:>17} | {:>25} {:>17} | {:>17} | {:>11} {:>5.0}%",
        load.scenario.name(),
        load.payload_bytes,
        load.qos,
        load.version.name(),
        format!("{:.0} / {:.0}", rate.0, rate.1),
        spread(ratio(measured, |figures| figures.delivered_per_second)),
        format!("{:.2} / {:.2}", cpu.0, cpu.1),
        spread(ratio(measured, |figures| figures.cpu_seconds_per_million)),
        p99,
        format!("{} / {}", lost(ours), lost(peers)),
        others * 100.0,
    )?;
    out.flush()
}

/// The idle connections, in lines.
pub(crate) fn idle_rows(
    out: &mut impl Write,
    ours: &[idle::Figures],
    peers: &[idle::Figures],
) -> std::io::Result<()> {
    for (ours, peer) in std::iter::zip(ours, peers) {
        writeln!(
            out,
            "idle {:>6} connections: {:.0} / {:.0} bytes each; the broker alone {:.1} / {:.1} MiB",
            ours.connections,
            ours.bytes_per_connection,
            peer.bytes_per_connection,
            ours.resident_bytes as f64 / 1_048_576.0,
            peer.resident_bytes as f64 / 1_048_576.0,
        )?;
    }
    Ok(())
}

/// All of it for scripts.
pub(crate) fn figures(
    ours: &str,
    peer: &str,
    loads: &[Measured],
    idle: &(Vec<idle::Figures>, Vec<idle::Figures>),
) -> Value {
    let loads: Vec<Value> = loads.iter().map(of_load).collect();
    json!({
        "broker": ours,
        "peer": peer,
        "cpus": super::machine::cpus(),
        "cpu": super::machine::cpu_name(),
        "loads": loads,
        "idle": { "broker": of_idle(&idle.0), "peer": of_idle(&idle.1) },
    })
}

fn of_load(measured: &Measured) -> Value {
    let spread =
        |[least, median, most]: [f64; 3]| json!({ "median": median, "least": least, "most": most });
    json!({
        "load": measured.load.scenario.name(),
        "payload_bytes": measured.load.payload_bytes,
        "qos": measured.load.qos,
        "mqtt": measured.load.version.name(),
        "broker": of_rounds(&measured.ours),
        "peer": of_rounds(&measured.peers),
        "ratio": {
            "delivered_per_second": spread(ratio(measured, |f| f.delivered_per_second)),
            "cpu_seconds_per_million": spread(ratio(measured, |f| f.cpu_seconds_per_million)),
            "p99_ms": measured.ours.iter().all(|f| f.latency_ms.is_some())
                .then(|| spread(ratio(measured, |f| latency(f, 1)))),
        },
    })
}

fn of_rounds(rounds: &[Figures]) -> Value {
    let middle = |figure: fn(&Figures) -> f64| median_of(rounds, figure);
    json!({
        "rounds": rounds.len(),
        "sent": rounds.iter().map(|f| f.sent).sum::<u64>(),
        "lost": lost(rounds),
        "delivered_per_second": middle(|f| f.delivered_per_second),
        "cpu_seconds_per_million": middle(|f| f.cpu_seconds_per_million),
        "generator_cpu_seconds_per_million": middle(|f| f.generator_cpu_seconds_per_million),
        "others_share_of_cpus": middle(|f| f.others_share),
        "resident_bytes": middle(|f| f.resident_bytes as f64),
        "latency_ms": rounds.iter().all(|f| f.latency_ms.is_some()).then(|| json!({
            "p50": middle(|f| latency(f, 0)),
            "p99": middle(|f| latency(f, 1)),
            "p999": middle(|f| latency(f, 2)),
        })),
    })
}

fn of_idle(figures: &[idle::Figures]) -> Vec<Value> {
    let one = |figures: &idle::Figures| {
        json!({
            "connections": figures.connections,
            "bytes_per_connection": figures.bytes_per_connection,
            "resident_bytes_alone": figures.resident_bytes,
        })
    };
    figures.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }
}
