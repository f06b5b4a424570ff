//! Processor time by mode and by core, and switches from task to task, from `/proc/stat`
//! (`Documentation/filesystems/proc.rst`).
//!
//! ```text
//! cpu  user nice system idle iowait irq softirq steal guest guest_nice   (ticks)
//! cpu0 …                                   offline cores have no line
//! intr …                                   a number for each interrupt of the host: a long line
//! ctxt 124536241
//! ```
//! Guest time is part of user time already (proc(5)), so it is not added again.

use hostbus_wire::sample::Cpu;

/// What `/proc/stat` tells.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Stat {
    total: Ticks,
    /// By core number; `None` where a core is offline.
    cores: Vec<Option<Ticks>>,
    /// Since the start of the host.
    pub(super) context_switches: Option<u64>,
}

/// Ticks since the start of the host, by mode.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Ticks {
    user: u64,
    nice: u64,
    system: u64,
    idle: u64,
    iowait: u64,
    irq: u64,
    softirq: u64,
    steal: u64,
}

/// More cores than any kernel can have; a higher number is nonsense.
const MAX_CORES: usize = 8192;

impl Stat {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut total = None;
        let mut cores = Vec::new();
        let mut lines = text.lines();
        let mut context_switches = None;
        for line in &mut lines {
            // The lines of processors come first.
            let Some(rest) = line.strip_prefix("cpu") else {
                let switches = |line: &str| line.strip_prefix("ctxt ")?.trim().parse().ok();
                context_switches = switches(line).or_else(|| lines.find_map(switches));
                break;
            };
            let (number, ticks) = rest.split_once(' ')?;
            let ticks = Ticks::parse(ticks)?;
            if number.is_empty() {
                total = Some(ticks);
                continue;
            }
            let number: usize = number.parse().ok().filter(|number| *number < MAX_CORES)?;
            if cores.len() <= number {
                cores.resize(number + 1, None);
            }
            cores[number] = Some(ticks);
        }
        Some(Self {
            total: total?,
            cores,
            context_switches,
        })
    }
}

impl Ticks {
    /// Old kernels and some containers give fewer columns; what is missing counts as 0.
    fn parse(columns: &str) -> Option<Self> {
        let mut columns = columns
            .split_ascii_whitespace()
            .map(|column| column.parse().ok());
        let (user, nice) = (columns.next()??, columns.next()??);
        let (system, idle) = (columns.next()??, columns.next()??);
        let mut more = || columns.next().flatten().unwrap_or(0);
        Some(Self {
            user,
            nice,
            system,
            idle,
            iowait: more(),
            irq: more(),
            softirq: more(),
            steal: more(),
        })
    }

    fn sum(&self) -> u64 {
        [self.user, self.nice, self.system, self.idle]
            .into_iter()
            .chain([self.iowait, self.irq, self.softirq, self.steal])
            .fold(0, u64::saturating_add)
    }

    /// The ticks since `before`. `None` after a reset. Single modes may fall a little (iowait does,
    /// see proc(5)), which counts as no time.
    fn since(&self, before: &Self) -> Option<Self> {
        self.sum().checked_sub(before.sum())?;
        Some(Self {
            user: self.user.saturating_sub(before.user),
            nice: self.nice.saturating_sub(before.nice),
            system: self.system.saturating_sub(before.system),
            idle: self.idle.saturating_sub(before.idle),
            iowait: self.iowait.saturating_sub(before.iowait),
            irq: self.irq.saturating_sub(before.irq),
            softirq: self.softirq.saturating_sub(before.softirq),
            steal: self.steal.saturating_sub(before.steal),
        })
    }

    fn percent(&self, part: u64) -> Option<f64> {
        crate::rates::percent(part, self.sum())
    }

    fn busy(&self) -> u64 {
        self.sum() - self.idle - self.iowait
    }
}

/// The share of each mode and core in the time between two readings.
pub(super) fn usage(before: &Stat, after: &Stat, cpu: &mut Cpu) {
    if let Some(ticks) = after.total.since(&before.total) {
        cpu.usage_percent = ticks.percent(ticks.busy());
        cpu.user_percent = ticks.percent(ticks.user + ticks.nice);
        cpu.system_percent = ticks.percent(ticks.system + ticks.irq + ticks.softirq);
        cpu.iowait_percent = ticks.percent(ticks.iowait);
        cpu.irq_percent = ticks.percent(ticks.irq + ticks.softirq);
        cpu.steal_percent = ticks.percent(ticks.steal);
    }
    // A core's place in the list is its number, so a core that is offline stands there as idle.
    let cores = after.cores.iter().enumerate().map(|(number, core)| {
        let before = before.cores.get(number).copied().flatten();
        let ticks = (*core)?.since(&before?)?;
        ticks.percent(ticks.busy())
    });
    cpu.cores = cores.map(|usage| usage.unwrap_or(0.0)).collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(text: &str) -> Stat {
        Stat::parse(text).unwrap()
    }

    #[test]
    fn time_is_shared_out_among_the_modes() {
        let before = stat("cpu  100 0 100 800 0 0 0 0 0 0\nintr 1 2 3\n");
        let after = stat("cpu  110 5 115 845 10 3 2 10 0 0\nintr 1 2 3\n");
        let mut cpu = Cpu::new();
        usage(&before, &after, &mut cpu);
        assert_eq!(cpu.usage_percent, Some(45.0));
        assert_eq!(cpu.user_percent, Some(15.0));
        assert_eq!(cpu.system_percent, Some(20.0));
        assert_eq!(cpu.iowait_percent, Some(10.0));
        assert_eq!(cpu.irq_percent, Some(5.0));
        assert_eq!(cpu.steal_percent, Some(10.0));
    }

    #[test]
    fn cores_stand_at_their_number_even_when_one_is_offline() {
        let before = stat("cpu  0 0 0 0\ncpu0 0 0 0 0\ncpu2 0 0 0 0\n");
        let after = stat("cpu  3 0 0 5\ncpu0 1 0 0 3\ncpu2 2 0 0 2\nctxt 5\n");
        let mut cpu = Cpu::new();
        usage(&before, &after, &mut cpu);
        assert_eq!(cpu.cores, [25.0, 0.0, 50.0]);
    }

    #[test]
    fn counters_that_fell_give_no_usage_rather_than_a_huge_one() {
        let before = stat("cpu  9000 0 100 80000\n");
        let after = stat("cpu  10 0 1 80\n");
        let mut cpu = Cpu::new();
        usage(&before, &after, &mut cpu);
        assert_eq!(cpu.usage_percent, None);

        // iowait alone may fall on a healthy kernel.
        let before = stat("cpu  100 0 100 800 50\n");
        let after = stat("cpu  110 0 100 890 40\n");
        usage(&before, &after, &mut cpu);
        assert_eq!(cpu.usage_percent, Some(10.0));
        assert_eq!(cpu.iowait_percent, Some(0.0));
    }

    #[test]
    fn text_that_is_no_stat_is_refused() {
        for text in [
            "",
            "cpu",
            "cpu \n",
            "cpu  1 2\n",
            "cpu  a b c d\n",
            "intr 0\ncpu  1 2 3 4\n",
        ] {
            assert_eq!(Stat::parse(text), None, "{text}");
        }
        assert_eq!(Stat::parse("cpu  1 2 3 4\ncpu99999999 1 2 3 4\n"), None);
    }

    #[test]
    fn context_switches_stand_behind_a_long_line_of_interrupts() {
        let interrupts = " 0".repeat(5000);
        let text = format!("cpu  1 2 3 4\nintr 99{interrupts}\nctxt 124536241\nbtime 1\n");
        assert_eq!(stat(&text).context_switches, Some(124_536_241));
        assert_eq!(stat("cpu  1 2 3 4\nctxt 5\n").context_switches, Some(5));
        assert_eq!(stat("cpu  1 2 3 4\nintr 9 ctxt 5\n").context_switches, None);
    }
}
