//! Samples made of a number: the same number, the same sample.

use hostbus_wire::Sample;
use hostbus_wire::sample::{Cpu, Custom, Filesystem, Memory, Network};

/// A plain generator of numbers.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `below`.
    pub(crate) fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.roll(times) == 0
    }

    /// A number with two places, or none.
    fn measured(&mut self, unknown: bool) -> Option<f64> {
        let value = self.roll(10_000) as f64 / 100.0;
        (!unknown && !self.one_in(5)).then_some(value)
    }
}

/// A sample at `at_ms`. What it has, and has values of, follows from `seed`, which differs from
/// stretch to stretch, and from the sample's own `number`.
pub(crate) fn sample(seed: u64, number: u64, at_ms: u64) -> Sample {
    // Fields that this stretch does not have.
    let mut stretch = Dice::new(seed);
    let mut gone = [false; 8];
    gone.fill_with(|| stretch.one_in(3));
    let cores = stretch.roll(4) as usize;
    let mut dice = Dice::new(seed ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let mut sample = Sample {
        ts: Some(at_ms),
        ..Sample::default()
    };
    if !gone[0] || dice.one_in(3) {
        let mut cpu = Cpu::new();
        cpu.usage_percent = dice.measured(gone[1]);
        cpu.load1 = dice.measured(gone[2]);
        cpu.temperature_celsius = dice.measured(gone[3]).map(|value| value - 50.0);
        cpu.context_switches_per_second = Some(dice.roll(1_000_000) as f64);
        cpu.cores = (0..cores)
            .map(|_| dice.roll(10_001) as f64 / 100.0)
            .collect();
        sample.cpu = Some(cpu);
    }
    let mut memory = Memory::new();
    memory.total_bytes = (!gone[4]).then(|| 1 << (30 + dice.roll(3)));
    memory.used_bytes = (!dice.one_in(6)).then(|| dice.roll(1 << 40));
    memory.used_percent = dice.measured(gone[5]);
    memory.oom_kills = (!dice.one_in(4)).then(|| dice.roll(3));
    sample.memory = Some(memory);
    if !gone[6] {
        let mut root = Filesystem::new("/".parse().unwrap(), None, None);
        // Often nothing of it is known.
        root.used_percent = dice.measured(gone[7]);
        root.read_only = (!dice.one_in(3)).then(|| dice.roll(2));
        sample.filesystems = vec![root];
        let mut network = Network::new("eth0".parse().unwrap());
        network.rx_bytes_per_second = Some(dice.roll(1 << 34));
        network.up = (!gone[5]).then(|| dice.roll(2));
        sample.networks = vec![network];
    }
    let mut own = Custom::new("own".parse().unwrap());
    own.value = match dice.roll(8) {
        0 => None,
        1 => Some(-0.0),
        2 => Some(1.7e308),
        3 => Some(0.1 * dice.roll(1_000) as f64),
        4 => Some(-(dice.roll(1 << 60) as f64)),
        _ => Some(dice.roll(100) as f64 / 7.0),
    };
    sample.custom = vec![own];
    sample
}
