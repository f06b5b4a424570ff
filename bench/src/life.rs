//! A small server that lives: its values move from sample to sample as those of a real one do.
//!
//! What packing saves depends on that. [`load`](crate::load)'s samples are noise, each value anew
//! within its whole range: the worst that can be packed. Here the load follows the hour of the day
//! and its own recent past, totals stand still, files grow, most error counters are 0, and rates are
//! what can be counted in ten seconds.

use hostbus_wire::Sample;

use crate::load::{Numbers, sample};

const PAGE: f64 = 4096.0;
const DAY_MS: u64 = 86_400_000;
const TOTAL_MEMORY: f64 = 17_179_869_184.0;
/// What is counted within an interval of ten seconds comes in steps of a tenth a second.
const STEP: f64 = 10.0;

/// The server.
pub(crate) struct Life {
    numbers: Numbers,
    sample: Sample,
    /// Busy cores, 0 to 1, beyond what the hour of the day says.
    drift: f64,
    loads: [f64; 3],
    memory_used: f64,
    cached: f64,
    filesystems_used: [f64; 2],
    celsius: f64,
}

impl Life {
    pub(crate) fn new(seed: u64) -> Self {
        let mut life = Self {
            numbers: Numbers::new(seed),
            sample: sample(seed),
            drift: 0.0,
            loads: [0.4; 3],
            memory_used: 5e9,
            cached: 6e9,
            filesystems_used: [6.1e10, 2.2e11],
            celsius: 41.0,
        };
        if let Some(cpu) = &mut life.sample.cpu {
            cpu.steal_percent = Some(0.0);
        }
        life
    }

    /// The sample of the moment `at_ms`.
    pub(crate) fn next(&mut self, at_ms: u64) -> &Sample {
        let day = (at_ms % DAY_MS) as f64 / DAY_MS as f64 * std::f64::consts::TAU;
        self.drift = 0.97 * self.drift + 0.01 * self.noise();
        let busy = (0.14 - 0.08 * day.cos() + self.drift + 0.01 * self.noise()).clamp(0.005, 1.0);
        self.cpu(busy);
        self.memory(busy);
        self.filesystems();
        self.disk(busy);
        self.networks(busy);
        self.sensors(busy);
        self.sample.round();
        &self.sample
    }

    fn cpu(&mut self, busy: f64) {
        for (load, minutes) in self.loads.iter_mut().zip([1.0, 5.0, 15.0]) {
            *load += (busy * 4.0 - *load) * (1.0 - (-10.0_f64 / (60.0 * minutes)).exp());
        }
        // Ticks of a hundredth of a second, of four cores in ten seconds.
        let percent = |share: f64| (share * 4000.0).round() / 40.0;
        let iowait = if self.chance(0.3) {
            0.004 * self.numbers.up_to(1.0)
        } else {
            0.0
        };
        let cores: Vec<f64> = (0..4)
            .map(|_| ((busy * (0.6 + self.numbers.up_to(0.8))).min(1.0) * 1000.0).round() / 10.0)
            .collect();
        let frequency = 1200.0 + (busy * 20.0).round() * 100.0 + self.numbers.up_to(3.0);
        let irq = percent(0.0008 + 0.0005 * self.numbers.up_to(1.0));
        let Some(cpu) = &mut self.sample.cpu else {
            return;
        };
        cpu.usage_percent = Some(percent(busy));
        cpu.user_percent = Some(percent(busy * 0.7));
        cpu.system_percent = Some(percent(busy * 0.3));
        cpu.iowait_percent = Some(percent(iowait));
        cpu.irq_percent = Some(irq);
        cpu.load1 = Some(self.loads[0]);
        cpu.load5 = Some(self.loads[1]);
        cpu.load15 = Some(self.loads[2]);
        cpu.frequency_mhz = Some(frequency);
        cpu.cores = cores;
    }

    fn memory(&mut self, busy: f64) {
        let pages = 2_000.0 * self.noise() + 4_000.0 * (busy - 0.14);
        self.memory_used = (self.memory_used + pages * PAGE).clamp(3e9, 1.2e10);
        self.cached = (self.cached + 300.0 * self.noise() * PAGE).clamp(1e9, 8e9);
        let used = whole_pages(self.memory_used);
        let cached = whole_pages(self.cached);
        let Some(memory) = &mut self.sample.memory else {
            return;
        };
        memory.used_bytes = Some(used);
        memory.available_bytes = memory.total_bytes.map(|total| total - used);
        memory.used_percent = Some(used as f64 / TOTAL_MEMORY * 100.0);
        memory.cached_bytes = Some(cached);
        memory.buffers_bytes = Some(whole_pages(2.1e8));
        memory.swap_used_bytes = Some(0);
    }

    fn filesystems(&mut self) {
        for (number, filesystem) in self.sample.filesystems.iter_mut().enumerate() {
            let used = &mut self.filesystems_used[number.min(1)];
            // Logs grow, and are rotated at times.
            let chance = self.numbers.up_to(1.0);
            if chance < 0.5 {
                *used += self.numbers.up_to(40.0).round() * PAGE;
            } else if chance > 0.9998 {
                *used -= 4e8;
            }
            let Some(total) = filesystem.total_bytes else {
                continue;
            };
            let bytes = whole_pages(*used);
            filesystem.used_bytes = Some(bytes);
            filesystem.available_bytes = Some(total.saturating_sub(bytes));
            filesystem.used_percent = Some(bytes as f64 / total as f64 * 100.0);
            filesystem.inodes_used_percent = Some(4.0 + *used / 1e11);
        }
    }

    fn disk(&mut self, busy: f64) {
        let writes = counted(8.0 + 40.0 * busy + 3.0 * self.noise());
        let reads = if self.chance(0.1) {
            counted(self.numbers.up_to(60.0))
        } else {
            0.0
        };
        let sizes = (
            11.0 + 4.0 * self.noise().abs(),
            14.0 + 9.0 * self.noise().abs(),
        );
        let share = (0.0004 * (writes + reads)).min(1.0);
        let wait = 0.8 + 0.3 * self.noise().abs();
        let Some(disk) = self.sample.disks.first_mut() else {
            return;
        };
        disk.write_bytes_per_second = Some(whole_pages(writes * sizes.0 * PAGE / 8.0) / 10);
        disk.read_bytes_per_second = Some(whole_pages(reads * sizes.1 * PAGE) / 10);
        disk.writes_per_second = Some(writes);
        disk.reads_per_second = Some(reads);
        // Milliseconds of ten seconds.
        disk.busy_percent = Some((share * 10_000.0).round() / 100.0);
        disk.await_ms = Some(wait);
        disk.queue = Some(wait * (writes + reads) / 1000.0);
    }

    fn networks(&mut self, busy: f64) {
        for number in 0..self.sample.networks.len() {
            // The second one is for backups, and mostly idle.
            let scale = if number == 0 { 1.0 } else { 0.01 };
            let burst = if self.chance(0.05) { 4.0 } else { 1.0 };
            let rx = counted(900.0 * busy * scale * burst + 12.0 * self.noise().abs());
            let tx = counted(rx * (0.7 + 0.05 * self.noise()));
            let (rx_size, tx_size) = (340.0 + 60.0 * self.noise(), 520.0 + 90.0 * self.noise());
            let network = &mut self.sample.networks[number];
            network.rx_packets_per_second = Some(rx);
            network.tx_packets_per_second = Some(tx);
            network.rx_bytes_per_second = Some(whole(rx * rx_size));
            network.tx_bytes_per_second = Some(whole(tx * tx_size));
        }
    }

    fn sensors(&mut self, busy: f64) {
        self.celsius += (38.0 + 35.0 * busy - self.celsius) * 0.15 + 0.2 * self.noise();
        for number in 0..self.sample.sensors.len() {
            // Most sensors tell whole degrees.
            let own = [0.0, -2.0, -3.0, -6.0, -13.0]
                .get(number)
                .copied()
                .unwrap_or(0.0);
            let celsius = (self.celsius + own + 0.4 * self.noise()).round();
            self.sample.sensors[number].celsius = Some(celsius);
        }
    }

    /// About normal, with a deviation of one.
    fn noise(&mut self) -> f64 {
        let sum: f64 = (0..12).map(|_| self.numbers.up_to(1.0)).sum();
        sum - 6.0
    }

    fn chance(&mut self, share: f64) -> bool {
        self.numbers.up_to(1.0) < share
    }
}

/// A rate that comes of counting for ten seconds.
fn counted(rate: f64) -> f64 {
    (rate.max(0.0) * STEP).round() / STEP
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

fn whole_pages(bytes: f64) -> u64 {
    whole(bytes / PAGE) * 4096
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::POINTS;

    #[test]
    fn it_has_all_points_and_moves_by_little() {
        let mut life = Life::new(1);
        let mut before: Option<f64> = None;
        for number in 0..1_000 {
            let sample = life.next(number * 10_000);
            assert_eq!(sample.points(), POINTS);
            let usage = sample.cpu.as_ref().unwrap().usage_percent.unwrap();
            if let Some(before) = before {
                assert!((usage - before).abs() < 15.0, "{before} {usage}");
            }
            before = Some(usage);
        }
    }
}
