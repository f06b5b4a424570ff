//! The table, the ratios and the JSON.

use std::io::Write;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::footprint::Footprint;
use crate::broker::machine;

/// How a measurement is laid out in time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// From sample to sample.
    pub(crate) interval: Duration,
    /// Before anything is counted.
    pub(crate) warm_up: Duration,
    /// What is counted.
    pub(crate) window: Duration,
}

/// One agent, measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) version: String,
    /// After the warm-up; [`Footprint::resident_bytes`] is at the end.
    pub(crate) resident_bytes_before: u64,
    pub(crate) footprint: Footprint,
    /// The program's own file.
    pub(crate) program_bytes: u64,
    /// Of the window, as it was.
    pub(crate) seconds: f64,
    /// How many intervals it held.
    pub(crate) passes: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) points_per_pass: f64,
    /// What left it, without the headers of the network.
    pub(crate) bytes_per_pass: f64,
}

/// One line of the report: what it is called for people and for scripts, and its value.
struct Figure {
    label: &'static str,
    key: &'static str,
    decimals: usize,
    /// What the value is divided by for people.
    unit: f64,
    value: fn(&Measured) -> f64,
}

const MIB: f64 = 1_048_576.0;

const fn figure(
    label: &'static str,
    key: &'static str,
    decimals: usize,
    unit: f64,
    value: fn(&Measured) -> f64,
) -> Figure {
    Figure {
        label,
        key,
        decimals,
        unit,
        value,
    }
}

const FIGURES: [Figure; 13] = [
    figure("resident MiB, at the end", "resident_bytes", 2, MIB, |m| {
        m.footprint.resident_bytes as f64
    }),
    figure(
        "resident MiB, after the warm-up",
        "resident_bytes_before",
        2,
        MIB,
        |m| m.resident_bytes_before as f64,
    ),
    figure("resident MiB, at most", "peak_bytes", 2, MIB, |m| {
        m.footprint.peak_bytes as f64
    }),
    figure("of it heap and stacks", "anonymous_bytes", 2, MIB, |m| {
        m.footprint.anonymous_bytes as f64
    }),
    figure(
        "proportional MiB (PSS)",
        "proportional_bytes",
        2,
        MIB,
        |m| m.footprint.proportional_bytes as f64,
    ),
    figure("CPU seconds", "cpu_seconds", 3, 1.0, |m| m.cpu_seconds),
    figure("CPU, % of one core", "cpu_percent", 4, 1.0, |m| {
        m.cpu_seconds / m.seconds * 100.0
    }),
    figure(
        "CPU microseconds a point",
        "cpu_microseconds_per_point",
        2,
        1.0,
        |m| m.cpu_seconds * 1e6 / (m.points_per_pass * m.passes),
    ),
    figure("threads", "threads", 0, 1.0, |m| m.footprint.threads as f64),
    figure("points a pass", "points_per_pass", 0, 1.0, |m| {
        m.points_per_pass
    }),
    figure("bytes sent a pass", "bytes_per_pass", 0, 1.0, |m| {
        m.bytes_per_pass
    }),
    figure("program MiB", "program_bytes", 2, MIB, |m| {
        m.program_bytes as f64
    }),
    figure(
        "program and its libraries MiB",
        "mapped_files_bytes",
        2,
        MIB,
        |m| m.footprint.mapped_files_bytes as f64,
    ),
];

/// For people: a column an agent, and for each peer the first agent's figure divided by its own.
pub(crate) fn table(
    out: &mut impl Write,
    measured: &[Measured],
    times: Times,
) -> std::io::Result<()> {
    writeln!(
        out,
        "a sample every {} s, measured for {:.0} s after {:.0} s; in brackets: {} divided by it\n",
        times.interval.as_secs_f64(),
        times.window.as_secs_f64(),
        times.warm_up.as_secs_f64(),
        measured[0].name,
    )?;
    write!(out, "{:<32}", "")?;
    for agent in measured {
        write!(out, " {:>24}", format!("{} {}", agent.name, agent.version))?;
    }
    writeln!(out)?;
    for figure in &FIGURES {
        write!(out, "{:<32}", figure.label)?;
        let ours = (figure.value)(&measured[0]);
        for (place, agent) in measured.iter().enumerate() {
            let value = (figure.value)(agent);
            let mut cell = format!("{:.*}", figure.decimals, value / figure.unit);
            if place > 0 {
                cell.push_str(&format!(" ({:.2})", ours / value));
            }
            write!(out, " {cell:>24}")?;
        }
        writeln!(out)?;
    }
    out.flush()
}

/// For scripts.
pub(crate) fn figures(measured: &[Measured], times: Times) -> Value {
    let each = |value: &dyn Fn(&Figure) -> f64| -> Map<String, Value> {
        let pairs = FIGURES
            .iter()
            .map(|figure| (figure.key.to_owned(), value(figure).into()));
        pairs.collect()
    };
    let mut agents = Vec::new();
    let mut ratios = Map::new();
    for (place, agent) in measured.iter().enumerate() {
        let mut object = each(&|figure| (figure.value)(agent));
        object.insert("name".to_owned(), agent.name.as_str().into());
        object.insert("version".to_owned(), agent.version.as_str().into());
        agents.push(object);
        if place > 0 {
            let ratio = each(&|figure| (figure.value)(&measured[0]) / (figure.value)(agent));
            ratios.insert(agent.name.clone(), ratio.into());
        }
    }
    json!({
        "interval_seconds": times.interval.as_secs_f64(),
        "seconds": times.window.as_secs_f64(),
        "warm_up_seconds": times.warm_up.as_secs_f64(),
        "cpus": machine::cpus(),
        "cpu": machine::cpu_name(),
        "agents": agents,
        "ratios": ratios,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str, resident_mib: u64, cpu_seconds: f64) -> Measured {
        Measured {
            name: name.to_owned(),
            version: "1.2".to_owned(),
            resident_bytes_before: resident_mib << 20,
            footprint: Footprint {
                resident_bytes: resident_mib << 20,
                peak_bytes: resident_mib << 20,
                anonymous_bytes: 1 << 20,
                proportional_bytes: 1 << 20,
                threads: 1,
                mapped_files_bytes: 5 << 20,
            },
            program_bytes: 4 << 20,
            seconds: 100.0,
            passes: 10.0,
            cpu_seconds,
            points_per_pass: 50.0,
            bytes_per_pass: 900.0,
        }
    }

    #[test]
    fn ratios_are_the_first_agents_figures_divided_by_each_others() {
        let measured = [agent("ours", 6, 0.1), agent("theirs", 12, 0.2)];
        let times = Times {
            interval: Duration::from_secs(10),
            warm_up: Duration::from_secs(30),
            window: Duration::from_secs(100),
        };
        let figures = figures(&measured, times);
        let number = |pointer: &str| figures.pointer(pointer).and_then(Value::as_f64);
        assert_eq!(number("/ratios/theirs/resident_bytes"), Some(0.5));
        assert_eq!(number("/ratios/theirs/cpu_percent"), Some(0.5));
        assert_eq!(number("/agents/0/cpu_percent"), Some(0.1));
        assert_eq!(number("/agents/1/cpu_microseconds_per_point"), Some(400.0));
        assert!(figures.pointer("/ratios/ours").is_none());

        let mut text = Vec::new();
        table(&mut text, &measured, times).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.contains("ours 1.2") && text.contains("12.00 (0.50)"),
            "{text}"
        );
    }
}
