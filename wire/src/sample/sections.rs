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
            temperature_celsius: f64, Celsius, Gauge, 1, "temperature of the hottest package";
            package_watts: f64, Watts, Rate, 2, "power drawn by all packages, by their energy counters";
            context_switches_per_second: f64, PerSecond, Rate, 0, "switches from task to task";
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
            major_faults_per_second: f64, PerSecond, Rate, 2, "page faults that had to wait for a disk";
            oom_kills: u64, Count, State, 0, "processes killed for want of memory since the host was started";
        }
    }
}

section! {
    /// Pressure stall information: the share of time in which tasks waited for want of a resource.
    /// `some` is when at least one task waited, `full` when all that were not idle did.
    pub struct Pressure as "pressure" {
        fields {
            cpu_some_percent: f64, Percent, Rate, 2, "time in which a task waited for a processor";
            memory_some_percent: f64, Percent, Rate, 2, "time in which a task waited for memory";
            memory_full_percent: f64, Percent, Rate, 2, "time in which all tasks waited for memory";
            io_some_percent: f64, Percent, Rate, 2, "time in which a task waited for a disk";
            io_full_percent: f64, Percent, Rate, 2, "time in which all tasks waited for a disk";
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

impl Default for Pressure {
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
            read_only: u64, None, State, 0, "1 when nothing can be written to it, 0 when something can";
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
            speed_bits_per_second: u64, BitsPerSecond, State, 0, "what the link can carry; absent where it has no speed";
            up: u64, None, State, 0, "1 when it can carry traffic, 0 when not";
        }
    }
}

section! {
    /// One graphics processor.
    pub struct Gpu as "gpu" {
        labels {
            /// NVIDIA's index, `0`, or the slot of an AMD GPU, `0000:03:00.0`.
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
            memory_busy_percent: f64, Percent, Rate, 0, "time in which its memory was read or written";
            ecc_corrected_errors: u64, Count, State, 0, "memory errors corrected since the driver was loaded";
            ecc_uncorrected_errors: u64, Count, State, 0, "memory errors not corrected since the driver was loaded";
        }
    }
}

section! {
    /// One temperature sensor.
    pub struct Sensor as "sensors" {
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
    /// One fan.
    pub struct Fan as "fans" {
        labels {
            /// Chip and label, `nct6775/cpu-fan`.
            name: Name,
        }
        fields {
            rpm: u64, PerMinute, Gauge, 0, "turns a minute";
        }
    }
}

section! {
    /// One voltage.
    pub struct Voltage as "voltages" {
        labels {
            /// Chip and label, `nct6775/vcore`.
            name: Name,
        }
        fields {
            volts: f64, Volts, Gauge, 3, "voltage";
        }
    }
}

section! {
    /// One battery, or the mains.
    pub struct PowerSupply as "power_supply" {
        labels {
            /// Its kernel name, `BAT0`.
            name: Name,
            /// What it is: `battery`, `mains`, `ups`, `usb`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            kind: Option<Name>,
        }
        fields {
            online: u64, None, State, 0, "1 when mains are there, 0 when not; absent for a battery";
            charging: u64, None, State, 0, "1 while a battery is charged, 0 while not";
            charge_percent: f64, Percent, Gauge, 1, "charge of what it holds when full";
            health_percent: f64, Percent, State, 1, "what it holds when full, of what it was made to hold";
            watts: f64, Watts, Gauge, 2, "power into or out of a battery";
            volts: f64, Volts, Gauge, 3, "voltage";
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
