//! What is measured: the shapes of the load, and in which variants each is tried.

use std::time::Duration;

use clap::ValueEnum;

use super::packet::Version;

/// A shape of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// 20,000 messages a second from 50 publishers to one wildcard subscriber.
    Paced,
    /// 100 messages a second from one publisher to 200 subscribers each.
    FanOutPaced,
    /// One publisher to 200 subscribers, as fast as they get it.
    FanOut,
    /// One publisher to one subscriber, as fast as it gets it.
    OneToOne,
    /// 50 publishers to one subscriber, as fast as it gets it.
    ManyToOne,
    /// 50 publishers to one subscriber, as fast as the broker reads: QoS 0, some may be lost.
    Flood,
    /// 2,000 and 10,000 connections that do nothing.
    Idle,
}

impl Scenario {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Paced => "paced 50 to 1",
            Self::FanOutPaced => "paced 1 to 200",
            Self::FanOut => "flat out 1 to 200",
            Self::OneToOne => "flat out 1 to 1",
            Self::ManyToOne => "flat out 50 to 1",
            Self::Flood => "flood 50 to 1",
            Self::Idle => "idle",
        }
    }
}

/// One load to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) scenario: Scenario,
    pub(crate) payload_bytes: usize,
    pub(crate) qos: u8,
    pub(crate) version: Version,
}

/// How fast messages are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// So many a second, all publishers together.
    PerSecond(f64),
    /// As long as fewer than so many are on their way to any subscriber.
    Window(u64),
    /// As fast as the broker takes them.
    Unbounded,
}

impl Load {
    pub(crate) fn publishers(self) -> usize {
        match self.scenario {
            Scenario::FanOutPaced | Scenario::FanOut | Scenario::OneToOne => 1,
            _ => 50,
        }
    }

    pub(crate) fn subscribers(self) -> usize {
        match self.scenario {
            Scenario::FanOutPaced | Scenario::FanOut => 200,
            _ => 1,
        }
    }

    pub(crate) fn pace(self) -> Pace {
        match self.scenario {
            Scenario::Paced => Pace::PerSecond(20_000.0),
            Scenario::FanOutPaced => Pace::PerSecond(100.0),
            Scenario::FanOut => Pace::Window(256),
            Scenario::OneToOne | Scenario::ManyToOne => Pace::Window(8_192),
            Scenario::Flood | Scenario::Idle => Pace::Unbounded,
        }
    }
}

/// Which variants are tried.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) payload_bytes: Vec<usize>,
    pub(crate) qos: Vec<u8>,
    pub(crate) versions: Vec<Version>,
}

impl Choice {
    /// All loads of the choice, without the idle connections.
    pub(crate) fn loads(&self) -> Vec<Load> {
        let mut loads = Vec::new();
        for &scenario in &self.scenarios {
            for &payload_bytes in &self.payload_bytes {
                for &qos in &self.qos {
                    for &version in &self.versions {
                        let lossy = scenario == Scenario::Flood && qos > 0;
                        if scenario != Scenario::Idle && !lossy {
                            loads.push(Load {
                                scenario,
                                payload_bytes,
                                qos,
                                version,
                            });
                        }
                    }
                }
            }
        }
        loads
    }
}

/// The few loads that fit into a minute.
pub(crate) fn quick_loads(choice: &Choice) -> Vec<Load> {
    let few = [
        (Scenario::Paced, 0, Version::V311),
        (Scenario::Paced, 1, Version::V5),
        (Scenario::FanOutPaced, 0, Version::V5),
        (Scenario::OneToOne, 0, Version::V311),
        (Scenario::ManyToOne, 1, Version::V5),
    ];
    few.into_iter()
        .filter(|(scenario, ..)| choice.scenarios.contains(scenario))
        .map(|(scenario, qos, version)| Load {
            scenario,
            payload_bytes: 400,
            qos,
            version,
        })
        .collect()
}

/// How long each round is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    /// How many rounds each broker has, in turn.
    pub(crate) pairs: usize,
}
