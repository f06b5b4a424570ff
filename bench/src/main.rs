//! Load generators and measurements: one name a budget.
//!
//! | module | owns |
//! |---|---|
//! | [`alert`] | `alert`: a threshold crossed on the bus until a webhook is told |
//! | [`broker`] | `broker`: the broker beside mosquitto under the same load |
//! | [`crowd`] | `crowd`: many publishers connected, each at its interval |
//! | [`evaluator`] | `evaluator`: samples through a notifier's rules |
//! | [`pipeline`] | `pipeline`: simulated nodes over MQTT into Redis, and what each part costs |
//! | [`publisher`] | `publisher`: the publisher beside collectd and node_exporter at one interval |
//! | [`sample`] | `sample`: the size of a sample on the wire |
//! | [`load`] | a realistic sample of 60 points, and its endless variations |
//! | [`life`] | a server whose values move as a real one's |
//! | [`past`] | one node with a past, by writer and keeper |
//! | [`meter`] | time, our CPU and that of Redis |
//! | [`node`] | one simulated node: an MQTT connection that keeps the outbox rules |
//! | [`parts`] | broker, ingester and notifier as processes of their own, and their CPU time |
//! | [`peer`] | mosquitto and collectd in the pipeline's place |
//! | [`server`] | what a redis-server holds, takes and gives |
//! | [`read`] | `read`: what readers wait for |
//! | [`soak`] | `soak`: an even load for long, and whether memory stays |
//! | [`store`] | `store`: one writer against Redis alone, and what a node takes |
//! | [`system`] | broker, ingester and Redis for a measurement, and what each takes |
//! | [`paced`] | publishers at an even pace, and how late their samples are |
//! | [`figures`] | figures as a table and as JSON |
//!
//! The exit code says only whether a measurement ran. `--json` prints its figures as one object on
//! the last line.

mod alert;
mod broker;
mod crowd;
mod evaluator;
mod figures;
mod life;
mod load;
mod meter;
mod node;
mod paced;
mod packet;
mod parts;
mod past;
mod peer;
mod pipeline;
mod publisher;
mod read;
mod sample;
mod server;
mod soak;
mod store;
mod system;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measure hostbus.
#[derive(Debug, Parser)]
#[command(name = "hostbus-bench", version, about)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A threshold crossed on the bus until a webhook is told, and what the notifier takes.
    Alert(alert::Args),
    /// The broker beside mosquitto: CPU, latency, rate and memory under the same load.
    Broker(broker::Args),
    /// Many publishers connected at once: memory and CPU of each part, and the latest sample.
    Crowd(crowd::Args),
    /// Samples through 100 rules: samples a second of a core, and bytes for 10,000 nodes.
    Evaluator(evaluator::Args),
    /// Metrics to Redis: points per second, CPU seconds a million points by part, bytes a point.
    Pipeline(pipeline::Args),
    /// The publisher beside collectd and node_exporter: memory, CPU and size.
    Publisher(publisher::Args),
    /// Reading back: latest, charts and rows, with what they cost.
    Read(read::Args),
    /// Bytes of a sample on the wire.
    Sample(sample::Args),
    /// An even load for long with a short retention: the memory of ingester and Redis over time.
    Soak(soak::Args),
    /// One writer against Redis alone, the keeper, and bytes a point in every tier.
    Store(store::Args),
    /// A part of a measurement, in its own process.
    #[command(hide = true)]
    Part {
        #[command(subcommand)]
        part: parts::Part,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().what {
        What::Alert(args) => alert::run(&args),
        What::Broker(args) => broker::run(&args),
        What::Crowd(args) => crowd::run(&args),
        What::Evaluator(args) => evaluator::run(&args),
        What::Pipeline(args) => pipeline::run(&args),
        What::Publisher(args) => publisher::run(&args),
        What::Read(args) => read::run(&args),
        What::Sample(args) => sample::run(&args),
        What::Soak(args) => soak::run(&args),
        What::Store(args) => store::run(&args),
        What::Part { part } => parts::run(part),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the last word of a failed measurement")]
            {
                eprintln!("hostbus-bench: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}
