//! A realistic sample of 60 points, and its endless variations.
//!
//! A small server: 4 cores, 2 filesystems, a disk, 2 NICs, 5 temperature sensors. Encoding is done
//! ahead of time for a pool of variants; sending one only writes its head.

use hostbus_wire::sample::{Cpu, Disk, Filesystem, Memory, Network, Sensor};
use hostbus_wire::{Name, Sample, encode};

/// The points of one sample.
pub(crate) const POINTS: usize = 60;

/// A source of numbers that is the same in each run (xorshift64*).
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub(crate) fn up_to(&mut self, most: f64) -> f64 {
        self.next() as f64 / (1_u64 << 53) as f64 * most
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small and positive"
    )]
    fn whole(&mut self, most: f64) -> u64 {
        self.up_to(most) as u64
    }
}

/// A sample with every section filled, without its place and time.
pub(crate) fn sample(seed: u64) -> Sample {
    let name = |text: &str| -> Name { text.parse().expect("a fixed name is well formed") };
    let mut n = Numbers::new(seed);

    let mut cpu = Cpu::new();
    let usage = n.up_to(100.0);
    cpu.usage_percent = Some(usage);
    cpu.user_percent = Some(usage * 0.7);
    cpu.system_percent = Some(usage * 0.3);
    cpu.iowait_percent = Some(n.up_to(3.0));
    cpu.irq_percent = Some(n.up_to(1.0));
    cpu.steal_percent = Some(0.0);
    cpu.load1 = Some(n.up_to(8.0));
    cpu.load5 = Some(n.up_to(8.0));
    cpu.load15 = Some(n.up_to(8.0));
    cpu.frequency_mhz = Some(1200.0 + n.up_to(3000.0));
    cpu.cores = (0..4).map(|_| n.up_to(100.0)).collect();

    let total = 16_u64 << 30;
    let mut memory = Memory::new();
    let used = 4096 * n.whole(4e6);
    memory.total_bytes = Some(total);
    memory.used_bytes = Some(used);
    memory.available_bytes = Some(total - used);
    memory.used_percent = Some(percent(used, total));
    memory.cached_bytes = Some(4096 * n.whole(1e6));
    memory.buffers_bytes = Some(4096 * n.whole(1e5));
    memory.swap_total_bytes = Some(2 << 30);
    memory.swap_used_bytes = Some(4096 * n.whole(1e4));

    let mut filesystem = |mount: &str, device: &str| {
        let mut filesystem = Filesystem::new(name(mount), Some(name(device)), Some(name("ext4")));
        let (total, used) = (500_u64 << 30, 4096 * n.whole(1.2e8));
        filesystem.total_bytes = Some(total);
        filesystem.used_bytes = Some(used);
        filesystem.available_bytes = Some(total - used);
        filesystem.used_percent = Some(percent(used, total));
        filesystem.inodes_used_percent = Some(n.up_to(30.0));
        filesystem
    };
    let filesystems = vec![
        filesystem("/", "/dev/sda1"),
        filesystem("/srv", "/dev/sdb1"),
    ];

    let mut disk = Disk::new(name("sda"));
    disk.read_bytes_per_second = Some(n.whole(5e7));
    disk.write_bytes_per_second = Some(n.whole(5e7));
    disk.reads_per_second = Some(n.up_to(500.0));
    disk.writes_per_second = Some(n.up_to(500.0));
    disk.busy_percent = Some(n.up_to(100.0));
    disk.await_ms = Some(n.up_to(20.0));
    disk.queue = Some(n.up_to(4.0));

    let mut network = |device: &str| {
        let mut network = Network::new(name(device));
        network.rx_bytes_per_second = Some(n.whole(1e8));
        network.tx_bytes_per_second = Some(n.whole(1e8));
        network.rx_packets_per_second = Some(n.up_to(1e4));
        network.tx_packets_per_second = Some(n.up_to(1e4));
        network.rx_errors_per_second = Some(0.0);
        network.tx_errors_per_second = Some(0.0);
        network.rx_drops_per_second = Some(0.0);
        network.tx_drops_per_second = Some(0.0);
        network
    };
    let networks = vec![network("eth0"), network("eth1")];

    let sensors = [
        "coretemp/package-0",
        "coretemp/core-0",
        "coretemp/core-1",
        "nvme/composite",
        "acpitz/0",
    ]
    .map(|sensor| Sensor {
        celsius: Some(30.0 + n.up_to(50.0)),
        ..Sensor::new(name(sensor))
    });

    let mut sample = Sample {
        cpu: Some(cpu),
        memory: Some(memory),
        filesystems,
        disks: vec![disk],
        networks,
        sensors: sensors.into(),
        ..Sample::default()
    };
    sample.round();
    debug_assert_eq!(sample.points(), POINTS);
    sample
}

#[expect(clippy::cast_precision_loss, reason = "a percentage")]
fn percent(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64 * 100.0
}

/// Encoded variants, to be sent with any head.
pub(crate) struct Variants(Vec<Vec<u8>>);

/// How many entries the head adds to a sample's map.
const HEAD_KEYS: u8 = 5;

impl Variants {
    /// `count` variants.
    pub(crate) fn new(count: u64) -> anyhow::Result<Self> {
        let variants = (1..=count).map(|seed| Ok(encode(&sample(seed))?));
        Ok(Self(variants.collect::<anyhow::Result<_>>()?))
    }

    /// Those that are encoded already, without their heads.
    pub(crate) fn of(encoded: Vec<Vec<u8>>) -> Self {
        Self(encoded)
    }

    /// Appends the sample number `seq` of `boot` as CBOR to `out`.
    pub(crate) fn write(&self, out: &mut Vec<u8>, ts: u64, boot: u64, seq: u64, first: u64) {
        let index = usize::try_from(seq).unwrap_or_default() % self.0.len();
        let [head, rest @ ..] = &self.0[index][..] else {
            return;
        };
        // A map of fewer than 24 entries: its head is one byte.
        out.push(head + HEAD_KEYS);
        for (key, value) in [
            ("ts", ts),
            ("boot", boot),
            ("seq", seq),
            ("first", first),
            ("interval_ms", 10_000),
        ] {
            out.push(0x60 + u8::try_from(key.len()).unwrap_or_default());
            out.extend(key.as_bytes());
            integer(out, value);
        }
        out.extend(rest);
    }
}

/// The shortest encoding of an unsigned integer, RFC 8949 section 3.
fn integer(out: &mut Vec<u8>, value: u64) {
    if let Ok(byte) = u8::try_from(value) {
        if byte >= 24 {
            out.push(0x18);
        }
        out.push(byte);
    } else if let Ok(short) = u16::try_from(value) {
        out.push(0x19);
        out.extend(short.to_be_bytes());
    } else if let Ok(word) = u32::try_from(value) {
        out.push(0x1a);
        out.extend(word.to_be_bytes());
    } else {
        out.push(0x1b);
        out.extend(value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_with_a_head_is_the_sample_with_that_head() {
        let variants = Variants::new(3).unwrap();
        for seq in [1, 23, 24, 300, 70_000] {
            let mut bytes = Vec::new();
            variants.write(&mut bytes, 1_763_630_000_123, 1_763_600_000, seq, 1);
            let read = Sample::decode(&bytes).unwrap();
            let place = read.place().unwrap();
            assert_eq!(
                (place.boot, place.seq, place.first),
                (1_763_600_000, seq, 1)
            );
            assert_eq!(read.points(), POINTS);
            let head = Sample {
                ts: None,
                boot: None,
                seq: None,
                first: None,
                interval_ms: None,
                ..read
            };
            assert_eq!(head, sample(seq % 3 + 1));
        }
    }
}
