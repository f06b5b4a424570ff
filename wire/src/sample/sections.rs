//! The sections of a sample: what is read of a host, field by field.

use crate::ids::Name;
use crate::section::section;

section! {
    /// Processor time, load and frequency of the whole host.
    pub struct Cpu as "cpu" {
        list {
            /// Busy time of each logical core in percent, by core number.
            cores
        }
        fields {
            usage_percent: f64, Percent, Rate, 2, "busy time of all cores: all but idle and iowait";
            user_percent: f64, Percent, Rate, 2, "time in user mode, niced and guest time included";
            system_percent: f64, Percent, Rate, 2, "time in the kernel, interrupts included";
            iowait_percent: f64, Percent, Rate, 2, "idle time while a disk request was pending";
            irq_percent: f64, Percent, Rate, 2, "time in hard and soft interrupts";
            steal_percent: f64, Percent, Rate, 2, "time that the hypervisor gave to other guests";
            load1: f64, None, Gauge, 2, "runnable and blocked tasks, averaged over 1 minute";
            load5: f64, None, Gauge, 2, "runnable and blocked tasks, averaged over 5 minutes";
            load15: f64, None, Gauge, 2, "runnable and blocked tasks, averaged over 15 minutes";
            frequency_mhz: f64, Megahertz, Gauge, 0, "current frequency, average of all cores";
        }
    }
}

section! {
    /// Main memory and swap.
    pub struct Memory as "memory" {
        fields {
            total_bytes: u64, Bytes, State, 0, "main memory that the system can use";
            used_bytes: u64, Bytes, Gauge, 0, "total less available";
            available_bytes: u64, Bytes, Gauge, 0, "what can be had without swapping";
            used_percent: f64, Percent, Gauge, 2, "used of total";
            cached_bytes: u64, Bytes, Gauge, 0, "page cache and reclaimable kernel memory";
            buffers_bytes: u64, Bytes, Gauge, 0, "block device buffers";
            swap_total_bytes: u64, Bytes, State, 0, "swap space";
            swap_used_bytes: u64, Bytes, Gauge, 0, "swap space in use";
        }
    }
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

section! {
    /// One mounted filesystem.
    pub struct Filesystem as "filesystem" {
        labels {
            /// Where it is mounted.
            name: Name,
            /// What is mounted there, `/dev/vda1`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            device: Option<Name>,
            /// Its type, `ext4`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            kind: Option<Name>,
        }
        fields {
            total_bytes: u64, Bytes, State, 0, "its size";
            used_bytes: u64, Bytes, Gauge, 0, "space in use";
            available_bytes: u64, Bytes, Gauge, 0, "space that an ordinary user can still fill";
            used_percent: f64, Percent, Gauge, 2, "used of used and available, as df shows it";
            inodes_used_percent: f64, Percent, Gauge, 2, "inodes in use";
        }
    }
}

section! {
    /// One block device.
    pub struct Disk as "disk" {
        labels {
            /// Its kernel name, `vda`.
            name: Name,
        }
        fields {
            read_bytes_per_second: u64, BytesPerSecond, Rate, 0, "read from the device";
            write_bytes_per_second: u64, BytesPerSecond, Rate, 0, "written to the device";
            reads_per_second: f64, PerSecond, Rate, 2, "read requests completed";
            writes_per_second: f64, PerSecond, Rate, 2, "write requests completed";
            busy_percent: f64, Percent, Rate, 2, "time with at least one request in flight";
            await_ms: f64, Milliseconds, Rate, 3, "average time from request to completion, absent without requests";
            queue: f64, Count, Rate, 3, "average number of requests in flight";
        }
    }
}

section! {
    /// One network interface.
    pub struct Network as "network" {
        labels {
            /// Its name, `eth0`.
            name: Name,
        }
        fields {
            rx_bytes_per_second: u64, BytesPerSecond, Rate, 0, "received";
            tx_bytes_per_second: u64, BytesPerSecond, Rate, 0, "sent";
            rx_packets_per_second: f64, PerSecond, Rate, 2, "packets received";
            tx_packets_per_second: f64, PerSecond, Rate, 2, "packets sent";
            rx_errors_per_second: f64, PerSecond, Rate, 2, "receive errors";
            tx_errors_per_second: f64, PerSecond, Rate, 2, "send errors";
            rx_drops_per_second: f64, PerSecond, Rate, 2, "received packets dropped";
            tx_drops_per_second: f64, PerSecond, Rate, 2, "packets dropped before they were sent";
        }
    }
}

section! {
    /// One graphics processor.
    pub struct Gpu as "gpu" {
        labels {
            /// Its index, `0`.
            name: Name,
            /// Its model.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            model: Option<Name>,
        }
        fields {
            usage_percent: f64, Percent, Rate, 0, "time with at least one kernel running";
            memory_total_bytes: u64, Bytes, State, 0, "its memory";
            memory_used_bytes: u64, Bytes, Gauge, 0, "memory in use";
            memory_used_percent: f64, Percent, Gauge, 2, "memory used of total";
            temperature_celsius: f64, Celsius, Gauge, 0, "temperature of the chip";
            power_watts: f64, Watts, Gauge, 2, "power drawn by the board";
            power_limit_watts: f64, Watts, State, 2, "power that the board may draw";
            fan_percent: f64, Percent, Gauge, 0, "fan speed; absent without a fan";
            clock_mhz: f64, Megahertz, Gauge, 0, "clock of the streaming processors";
            memory_clock_mhz: f64, Megahertz, Gauge, 0, "clock of the memory";
        }
    }
}

section! {
    /// One temperature sensor.
    pub struct Sensor as "sensor" {
        labels {
            /// Chip and label, `coretemp/package-id-0`.
            name: Name,
        }
        fields {
            celsius: f64, Celsius, Gauge, 1, "temperature";
        }
    }
}

section! {
    /// One value of somebody's own.
    pub struct Custom as "custom" {
        labels {
            /// What it is.
            name: Name,
        }
        fields {
            value: f64, None, Gauge, 6, "whatever its publisher means";
        }
    }
}
