//! Processors, memory and pressure against what others say of this machine: `free` and `vmstat` of
//! procps, a load of known size, and the kernel's own averages.
//!
//! The machine may be busy with anything else, so nothing is compared with what the load alone
//! would make. Another tool is asked right before and right after; what lies between is the truth
//! that the publisher had to find.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::collections::HashMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hostbus_publisher::{CollectorState, Config};
use hostbus_wire::Sample;
use tokio::sync::Mutex;

/// Held by each test: the load of one would hide what another looks for.
static TURN: Mutex<()> = Mutex::const_new(());

const DEADLINE: Duration = Duration::from_secs(60);

/// The other tool is asked some milliseconds before and after, of a window of two seconds. On a
/// busy machine these are some tens, in which the load may be another one.
const TOLERANCE_PERCENT: f64 = 5.0;

fn config() -> Config {
    let off = r#"{"enabled": false}"#;
    let text = format!(
        r#"{{"collectors": {{"filesystems": {off}, "disks": {off}, "networks": {off},
            "gpus": {off}, "sensors": {off}, "power_supplies": {off}}}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

async fn sample(apart: Duration) -> Sample {
    hostbus_publisher::once(&config(), apart).await.unwrap().0
}

/// What a program of procps or util-linux prints.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|_| panic!("{program} is needed for this test: apt-get install procps"));
    assert!(output.status.success(), "{program} fails: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A process that does nothing but count, until it is dropped.
struct Spinner(Child);

impl Spinner {
    fn anywhere() -> Self {
        Self::run(Command::new("sh").args(["-c", "while :; do :; done"]))
    }

    fn on_core(core: usize) -> Self {
        let core = core.to_string();
        let arguments = ["-c", &core, "sh", "-c", "while :; do :; done"];
        Self::run(Command::new("taskset").args(arguments))
    }

    fn run(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).spawn();
        Self(child.expect("taskset is needed for this test: apt-get install util-linux"))
    }

    /// The processor time that it had so far, in ticks: fields 14 and 15 of its `stat`, proc(5).
    fn ticks(&self) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let (_, fields) = text.rsplit_once(')').unwrap();
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        [fields[11], fields[12]]
            .iter()
            .map(|ticks| ticks.parse::<f64>().unwrap())
            .sum()
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The counters of `vmstat -s` by their words: `124920126 CPU context switches`.
struct Counters {
    at: Instant,
    by_name: HashMap<String, f64>,
}

impl Counters {
    fn read() -> Self {
        let text = output("vmstat", &["-s"]);
        let line = |line: &str| {
            let (count, name) = line.trim().split_once(' ')?;
            Some((name.trim().to_owned(), count.parse().ok()?))
        };
        Self {
            at: Instant::now(),
            by_name: text.lines().filter_map(line).collect(),
        }
    }

    /// How far the counters of these words went since `before`.
    fn since(&self, before: &Self, names: &[&str]) -> f64 {
        let rise = |name: &&str| {
            let of = |counters: &Self| {
                let count = counters.by_name.get(*name).copied();
                count.unwrap_or_else(|| panic!("vmstat -s knows no `{name}`"))
            };
            of(self) - of(before)
        };
        names.iter().map(rise).sum()
    }
}

fn near(what: &str, ours: Option<f64>, theirs: f64, tolerance: f64) {
    let ours = ours.unwrap_or_else(|| panic!("{what} is unknown"));
    assert!(
        (ours - theirs).abs() <= tolerance,
        "{what}: {ours} here, {theirs} there"
    );
}

fn first_core_allowed() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let first = list.unwrap().trim().split([',', '-']).next();
    first.unwrap().parse().unwrap()
}

#[tokio::test]
async fn processor_time_and_switches_are_those_of_vmstat_under_a_known_load() {
    let _turn = TURN.lock().await;
    const APART: Duration = Duration::from_secs(2);
    const USER: [&str; 2] = ["non-nice user cpu ticks", "nice user cpu ticks"];
    const SYSTEM: [&str; 3] = ["system cpu ticks", "IRQ cpu ticks", "softirq cpu ticks"];
    const STOLEN: &str = "stolen cpu ticks";
    const WAIT: &str = "IO-wait cpu ticks";
    const IDLE: &str = "idle cpu ticks";

    let core = first_core_allowed();
    let spinner = Spinner::on_core(core);
    let (before, spun_before) = (Counters::read(), spinner.ticks());
    let cpu = sample(APART).await.cpu.unwrap();
    let (spun, after) = (spinner.ticks() - spun_before, Counters::read());

    let ticks = |names: &[&str]| after.since(&before, names);
    let busy = ticks(&USER) + ticks(&SYSTEM) + ticks(&[STOLEN]);
    let all = busy + ticks(&[IDLE, WAIT]);
    let percent = |part: f64| part / all * 100.0;
    let check = |what, ours, part| near(what, ours, percent(part), TOLERANCE_PERCENT);
    check("usage", cpu.usage_percent, busy);
    check("user", cpu.user_percent, ticks(&USER));
    check("system", cpu.system_percent, ticks(&SYSTEM));
    check("iowait", cpu.iowait_percent, ticks(&[WAIT]));
    check("steal", cpu.steal_percent, ticks(&[STOLEN]));

    // The core of the load was busy for at least the time that the load had, by the load's own
    // account: others may have had more of it, and none can take it away.
    let online = cpu.cores.len() as f64;
    let load_percent = (spun / (all / online) * 100.0).min(100.0);
    assert!(load_percent > 5.0, "the load had {spun} ticks only");
    assert!(
        cpu.cores[core] >= load_percent - TOLERANCE_PERCENT,
        "core {core}: {} here, {load_percent} by the load alone",
        cpu.cores[core]
    );

    let switches = after.since(&before, &["CPU context switches"]);
    let theirs = switches / (after.at - before.at).as_secs_f64();
    // The tool's own start switches tasks too, and so does whatever comes in bursts.
    let tolerance = theirs * 0.25 + 100.0;
    near(
        "switches",
        cpu.context_switches_per_second,
        theirs,
        tolerance,
    );
}

#[tokio::test]
async fn load_averages_are_those_of_the_kernel() {
    let _turn = TURN.lock().await;
    let read = || -> Vec<f64> {
        let text = fs::read_to_string("/proc/loadavg").unwrap();
        let words = text.split_ascii_whitespace().take(3);
        words.map(|word| word.parse().unwrap()).collect()
    };
    let before = read();
    let cpu = sample(Duration::ZERO).await.cpu.unwrap();
    let after = read();
    // The kernel changes them every five seconds.
    let ours = [cpu.load1, cpu.load5, cpu.load15].map(Option::unwrap);
    assert!(
        before == ours || after == ours,
        "{ours:?} between {before:?} and {after:?}"
    );
}

/// The row of `free -b -w` that begins so: total, used, free, shared, buffers, cache, available.
fn free(row: &str) -> Vec<u64> {
    let text = output("free", &["-b", "-w"]);
    let numbers = text
        .lines()
        .find_map(|line| line.strip_prefix(row))
        .unwrap();
    let numbers = numbers.split_ascii_whitespace();
    numbers.map(|number| number.parse().unwrap()).collect()
}

#[tokio::test]
async fn memory_is_that_of_free() {
    let _turn = TURN.lock().await;
    const NEAR_BYTES: u64 = 8 * 1024 * 1024;
    let start = Instant::now();
    loop {
        let before = free("Mem:");
        let memory = sample(Duration::ZERO).await.memory.unwrap();
        let (after, swap) = (free("Mem:"), free("Swap:"));

        let total = memory.total_bytes.unwrap();
        assert_eq!(total, after[0]);
        assert_eq!(memory.swap_total_bytes, Some(swap[0]));
        // `free` calls this used since procps 4; before, it was what is neither free nor cache.
        let used = memory.used_bytes.unwrap();
        assert_eq!(used, total - memory.available_bytes.unwrap());

        // Others take and give back memory all the time, so this waits for a moment of calm: wrong
        // numbers never agree.
        let pairs = [
            (memory.available_bytes, 6),
            (memory.buffers_bytes, 4),
            (memory.cached_bytes, 5),
        ];
        let agrees = |&(ours, column): &(Option<u64>, usize)| {
            let (low, high) = (
                before[column].min(after[column]),
                before[column].max(after[column]),
            );
            (low.saturating_sub(NEAR_BYTES)..=high + NEAR_BYTES).contains(&ours.unwrap())
        };
        let calm = (0..7).all(|column| before[column].abs_diff(after[column]) < 8 * NEAR_BYTES);
        if calm && pairs.iter().all(agrees) {
            let swap_used = memory.swap_used_bytes.unwrap();
            assert!(
                swap_used.abs_diff(swap[1]) <= NEAR_BYTES,
                "{swap_used} {swap:?}"
            );
            return;
        }
        assert!(
            start.elapsed() < DEADLINE,
            "{memory:?} is not between {before:?} and {after:?}"
        );
        tokio::task::yield_now().await;
    }
}

/// The kernel's words on one resource: `total` in microseconds, and `avg10`.
#[derive(Clone, Copy)]
struct Stall {
    total_us: f64,
    avg10: f64,
}

fn stall(resource: &str, kind: &str) -> Stall {
    let text = fs::read_to_string(format!("/proc/pressure/{resource}")).unwrap();
    let line = text.lines().find(|line| line.starts_with(kind)).unwrap();
    let word = |name: &str| -> f64 {
        let start = line.find(name).unwrap() + name.len();
        let number = line[start..].split(' ').next();
        number.unwrap().parse().unwrap()
    };
    Stall {
        total_us: word("total="),
        avg10: word("avg10="),
    }
}

#[tokio::test]
async fn pressure_is_that_of_the_kernel_while_tasks_queue_for_processors() {
    let _turn = TURN.lock().await;
    const APART: Duration = Duration::from_secs(6);
    const LINES: [(&str, &str); 5] = [
        ("cpu", "some"),
        ("memory", "some"),
        ("memory", "full"),
        ("io", "some"),
        ("io", "full"),
    ];
    if fs::read("/proc/pressure/cpu").is_err() {
        let (_, reports) = hostbus_publisher::once(&config(), Duration::ZERO)
            .await
            .unwrap();
        let pressure = reports.iter().find(|report| report.name == "pressure");
        let state = &pressure.unwrap().state;
        assert!(matches!(state, CollectorState::Nothing(_)), "{state}");
        return;
    }
    let cores = std::thread::available_parallelism().unwrap().get();
    let spinners: Vec<Spinner> = (0..2 * cores).map(|_| Spinner::anywhere()).collect();
    let start = Instant::now();
    let before = LINES.map(|(resource, kind)| stall(resource, kind));
    let pressure = sample(APART).await.pressure.unwrap();
    let after = LINES.map(|(resource, kind)| stall(resource, kind));
    let elapsed_us = start.elapsed().as_micros() as f64;
    drop(spinners);

    let ours = [
        pressure.cpu_some_percent,
        pressure.memory_some_percent,
        pressure.memory_full_percent,
        pressure.io_some_percent,
        pressure.io_full_percent,
    ];
    for (index, ours) in ours.into_iter().enumerate() {
        let theirs = (after[index].total_us - before[index].total_us) / elapsed_us * 100.0;
        let what = format!("{:?}", LINES[index]);
        near(&what, ours, theirs.min(100.0), TOLERANCE_PERCENT);
    }

    // The average decays by the factor e in ten seconds, and moves every two only: up to a third of
    // this window is not in it yet.
    let decay = (-APART.as_secs_f64() / 10.0).exp();
    let of_window = (after[0].avg10 - before[0].avg10 * decay) / (1.0 - decay);
    near("avg10", pressure.cpu_some_percent, of_window, 35.0);
}
