//! `broker`: our broker beside mosquitto, under the same load, in turn.
//!
//! | module | owns |
//! |---|---|
//! | [`scenario`] | the loads |
//! | [`server`] | a broker as a process |
//! | [`round`] | one load on one fresh broker |
//! | [`sender`], [`receiver`], [`flow`] | the generator's clients, and what they know of each other |
//! | [`packet`] | the MQTT that they speak |
//! | [`idle`] | connections that do nothing |
//! | [`machine`] | what the machine does beside |
//! | [`report`] | medians and ratios |
//!
//! Every round has a fresh broker process and fresh connections; a round of ours is followed by one
//! of the peer's. The CPU time is the broker process's own as the kernel counts it, so that it stands
//! also where something else takes part of the machine; times and rates suffer then, and the column
//! `others` tells how much of the CPUs that was.

mod flow;
mod idle;
pub(crate) mod machine;
mod packet;
mod receiver;
mod report;
mod round;
mod scenario;
mod sender;
pub(crate) mod server;

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use packet::Version;
use report::Measured;
use scenario::{Choice, Scenario, Times};
use server::Program;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A choice that ends within a minute.
    #[arg(long)]
    quick: bool,
    /// Print the figures as JSON on the last line.
    #[arg(long)]
    json: bool,
    /// Only these loads.
    #[arg(long, value_enum, value_delimiter = ',')]
    load: Vec<Scenario>,
    /// Bytes of a payload.
    #[arg(long, value_delimiter = ',', default_values_t = [200, 400])]
    payload: Vec<usize>,
    /// 0, 1 or both.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1], value_parser = clap::value_parser!(u8).range(0..2))]
    qos: Vec<u8>,
    /// 4 for MQTT 3.1.1, 5 for 5.0.
    #[arg(long, value_delimiter = ',', default_values_t = [4, 5], value_parser = clap::value_parser!(u8).range(4..6))]
    level: Vec<u8>,
    /// How often each broker is measured, in turn.
    #[arg(long, default_value_t = 3)]
    pairs: usize,
    /// For how long, after a warm-up of a third of it.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// The broker to measure instead of ours.
    #[arg(long)]
    broker: Option<PathBuf>,
    /// The broker to compare with: mosquitto, or a `hostbus-broker` of another build.
    #[arg(long, default_value = "mosquitto")]
    peer: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let ours = match &args.broker {
        Some(path) => Program::new(path)?,
        None => Program::ours()?,
    };
    let peer = Program::new(&args.peer)?;
    let choice = Choice {
        scenarios: if args.load.is_empty() {
            Scenario::value_variants().to_vec()
        } else {
            args.load.clone()
        },
        payload_bytes: args.payload.clone(),
        qos: args.qos.clone(),
        versions: args.level.iter().map(|level| version(*level)).collect(),
    };
    let (loads, seconds) = if args.quick {
        (scenario::quick_loads(&choice), 1.0)
    } else {
        (choice.loads(), args.seconds)
    };
    let times = Times {
        warm_up: Duration::from_secs_f64(seconds / 3.0),
        measured: Duration::from_secs_f64(seconds),
        pairs: args.pairs,
    };

    let mut out = std::io::stdout();
    report::head(&mut out, &ours.name, &peer.name)?;
    let mut all = Vec::new();
    for load in loads {
        let mut measured = Measured {
            load,
            ours: Vec::new(),
            peers: Vec::new(),
        };
        for _ in 0..times.pairs {
            measured.ours.push(round::run(&ours, load, times)?);
            measured.peers.push(round::run(&peer, load, times)?);
        }
        report::row(&mut out, &measured)?;
        all.push(measured);
    }
    let mut idle = (Vec::new(), Vec::new());
    if choice.scenarios.contains(&Scenario::Idle) {
        let counts = [2_000, 10_000];
        idle = (idle::run(&ours, &counts)?, idle::run(&peer, &counts)?);
        report::idle_rows(&mut out, &idle.0, &idle.1)?;
    }
    if args.json {
        use std::io::Write;
        let figures = report::figures(&ours.name, &peer.name, &all, &idle);
        writeln!(out, "{figures}")?;
    }
    Ok(())
}

fn version(level: u8) -> Version {
    if level == 5 {
        Version::V5
    } else {
        Version::V311
    }
}
