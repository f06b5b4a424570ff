//! The program as people and systemd run it: its verbs, and its life as a service.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

const DEADLINE: Duration = Duration::from_secs(20);
const UNIT: &str = "etc/systemd/system/hostbus-publisher.service";

/// The program, with no settings but those given: nobody listens on port 1.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hostbus-publisher"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("HOSTBUS_") || text == "NOTIFY_SOCKET" || text.starts_with("WATCHDOG_")
        {
            command.env_remove(&name);
        }
    }
    command.env("HOSTBUS_BUS__URL", "mqtt://127.0.0.1:1");
    command.env("HOSTBUS_PUBLISHER__NODE", "web1");
    command
}

fn run(arguments: &[&str]) -> Output {
    program().args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What the program complained about, with its exit code.
fn complaint(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A publisher that runs as systemd would run it.
struct Service {
    process: Child,
    systemd: UnixDatagram,
    log: mpsc::Receiver<String>,
    settings: PathBuf,
    _folder: tempfile::TempDir,
}

impl Service {
    fn start(settings: &str, watchdog: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("publisher.toml");
        fs::write(&file, settings).unwrap();
        let socket = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&socket).unwrap();
        systemd.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut process = program()
            .args(["--config", text(&file)])
            .env("NOTIFY_SOCKET", &socket)
            .env("WATCHDOG_USEC", watchdog.as_micros().to_string())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let (sender, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self {
            process,
            systemd,
            log,
            settings: file,
            _folder: folder,
        }
    }

    /// The next message of this kind to systemd; those before it are passed over.
    fn told(&self, kind: &str) -> String {
        let mut buffer = [0; 1024];
        loop {
            let length = self
                .systemd
                .recv(&mut buffer)
                .unwrap_or_else(|error| panic!("systemd was not told {kind}: {error}"));
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if message.starts_with(kind) {
                return message;
            }
        }
    }

    fn logged(&self, what: &str) -> String {
        loop {
            let line = self
                .log
                .recv_timeout(DEADLINE)
                .unwrap_or_else(|error| panic!("nothing was logged about {what}: {error}"));
            if line.contains(what) {
                return line;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Puts other settings in place and asks for them to be read.
    fn reload(&self, settings: &str) {
        fs::write(&self.settings, settings).unwrap();
        self.signal(Signal::HUP);
        self.told("RELOADING=1\nMONOTONIC_USEC=");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn systemd_is_told_of_start_work_and_end_though_the_bus_is_away() {
    // Far longer from sample to sample than the watchdog waits.
    let mut service = Service::start(
        "[publisher]\ninterval_seconds = 3600\n",
        Duration::from_millis(400),
    );
    let ready = service.told("READY=1\n");
    assert_eq!(
        ready,
        "READY=1\nSTATUS=publishing home.web1 to mqtt://127.0.0.1:1\n"
    );
    for _ in 0..4 {
        service.told("WATCHDOG=1\n");
    }
    service.signal(Signal::TERM);
    service.told("STOPPING=1\n");
    assert!(service.process.wait().unwrap().success());
}

#[test]
fn a_reload_takes_what_it_can_and_bad_settings_change_nothing() {
    let service = Service::start("", Duration::from_secs(60));
    service.told("READY=1\n");

    service.reload("[publisher]\ninterval_second = 1\n");
    let kept = service.told("READY=1\n");
    assert!(kept.contains("the last reload failed"), "{kept}");
    let line = service.logged("can't be used");
    assert!(
        line.contains("publisher.interval_second") && line.contains("interval_seconds"),
        "{line}"
    );

    service.reload("[publisher]\ninterval_seconds = 0\n");
    service.told("READY=1\n");
    assert!(service.logged("can't be used").contains("0.1 to 3600"));

    service.reload("[publisher]\ninterval_seconds = 5\n");
    let taken = service.told("READY=1\n");
    assert!(taken.ends_with("to mqtt://127.0.0.1:1\n"), "{taken}");
    service.logged("the settings were read again");

    service.reload("[bus]\nkeep_alive_seconds = 60\n[publisher]\nsite = \"lab\"\n");
    let waiting = service.told("READY=1\n");
    let keys = "bus.keep_alive_seconds, publisher.site";
    assert!(waiting.contains(keys), "{waiting}");
    assert!(waiting.contains("publishing home.web1"), "{waiting}");
    assert!(service.logged("next start").contains(keys));
}

#[test]
fn collectors_tells_the_state_and_the_cost_of_each() {
    let listed = program()
        .args(["collectors", "--json"])
        .env("HOSTBUS_PUBLISHER__COLLECTORS__DISKS__ENABLED", "false")
        .env(
            "HOSTBUS_PUBLISHER__COLLECTORS__MEMORY__INTERVAL_SECONDS",
            "60",
        )
        .output()
        .unwrap();
    let listed: serde_json::Value = serde_json::from_str(&stdout(&listed)).unwrap();
    let of = |name: &str| -> serde_json::Value {
        let rows = listed["collectors"].as_array().unwrap();
        rows.iter().find(|row| row["name"] == name).unwrap().clone()
    };
    let (cpu, memory, disks) = (of("cpu"), of("memory"), of("disks"));
    assert_eq!(
        (&cpu["state"], &cpu["interval_seconds"]),
        (&"on".into(), &10.0.into())
    );
    assert!(cpu["points"].as_u64() > Some(3), "{cpu}");
    assert!(
        cpu["elapsed_us"].as_u64() > Some(0) && cpu["cpu_us"].is_u64(),
        "{cpu}"
    );
    assert_eq!(memory["interval_seconds"], 60.0);
    assert_eq!(disks["state"], "off: disabled in the settings");
    assert!(disks["cpu_us"].is_null() && disks["points"] == 0, "{disks}");
    assert!(stdout(&run(&["collectors"])).starts_with("COLLECTOR"));
}

#[test]
fn check_config_tells_what_a_start_would_use() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("publisher.toml");
    let password = folder.path().join("password");
    let content = "[bus]\nuser = \"home.web1\"\n[publisher]\ninterval_seconds = 2.5\n\
                   [publisher.collectors.gpus]\nenabled = false\n";
    fs::write(&file, content).unwrap();
    fs::write(&password, "hunter2\n").unwrap();
    let arguments = ["--config", text(&file), "--password-file", text(&password)];

    let shown = stdout(&run(&[&arguments[..], &["check-config"]].concat()));
    for part in [
        "home.web1",
        "mqtt://127.0.0.1:1 as home.web1",
        "2.5 s",
        "collectors off  gpus",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(!shown.contains("hunter2"));

    let json = stdout(&run(&[&arguments[..], &["check-config", "--json"]].concat()));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["node"], "home.web1");
    assert_eq!(json["interval_seconds"], 2.5);
    assert_eq!(json["collectors_off"], serde_json::json!(["gpus"]));
}

#[test]
fn settings_may_stand_before_a_verb_and_after_it() {
    let flags = [
        "--node",
        "a",
        "--interval",
        "3",
        "check-config",
        "--node",
        "b",
        "--json",
    ];
    let summary: serde_json::Value = serde_json::from_str(&stdout(&run(&flags))).unwrap();
    assert_eq!(summary["node"], "home.b");
    assert_eq!(summary["interval_seconds"], 3.0);
}

#[test]
fn check_config_refuses_what_a_start_would_refuse() {
    let folder = tempfile::tempdir().unwrap();
    let none = folder.path().join("none.pem");
    let check = |arguments: &[&str], part: &str| {
        let output = run(&[arguments, &["check-config"]].concat());
        let complaint = complaint(&output, 2);
        assert!(complaint.contains(part), "{part} in {complaint}");
        assert!(output.stdout.is_empty());
    };
    check(&["--interval", "0"], "publisher.interval_seconds");
    check(&["--node", "Web 1"], "--node");
    check(&["--url", "http://x"], "bus.url");
    check(&["--user", "me"], "bus.password_file");
    check(
        &["--user", "me", "--password-file", text(&none)],
        "none.pem",
    );
    check(
        &["--url", "mqtts://x", "--ca-file", text(&none)],
        "bus.ca_file",
    );
    check(&["--config", text(&none)], "none.pem");
}

/// Installs below `root` for the program /usr/bin/true, which systemd finds here.
fn install(root: &Path, more: &[&str]) -> Output {
    let arguments = [
        "install",
        "--root",
        text(root),
        "--program",
        "/usr/bin/true",
    ];
    run(&[&arguments[..], more].concat())
}

#[test]
fn an_installation_is_made_once_and_follows_the_password() {
    let root = tempfile::tempdir().unwrap();
    let unit = root.path().join(UNIT);
    let settings = root.path().join("etc/hostbus/publisher.toml");

    let told = stdout(&install(root.path(), &[]));
    assert!(
        told.contains("next:") && told.contains("enable --now"),
        "{told}"
    );
    let first = fs::read_to_string(&unit).unwrap();
    assert!(first.contains("ExecStart=/usr/bin/true --config /etc/hostbus/publisher.toml\n"));
    assert!(!first.contains("\nLoadCredential="));
    for file in [&unit, &settings] {
        let mode = fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "{}", file.display());
    }
    // The settings to begin with are good ones.
    stdout(&run(&["--config", text(&settings), "check-config"]));

    fs::write(&settings, "[publisher]\nsite = \"lab\"\n").unwrap();
    let told = stdout(&install(root.path(), &[]));
    assert!(told.contains("is as it should be"), "{told}");
    assert_eq!(fs::read_to_string(&unit).unwrap(), first);
    assert!(fs::read_to_string(&settings).unwrap().contains("lab"));

    fs::write(root.path().join("etc/hostbus/bus-password"), "hunter2").unwrap();
    let told = stdout(&install(root.path(), &[]));
    assert!(told.contains("wrote"), "{told}");
    let second = fs::read_to_string(&unit).unwrap();
    assert!(second.contains("\nLoadCredential=bus-password:/etc/hostbus/bus-password\n"));
    assert!(second.contains("HOSTBUS_BUS__PASSWORD_FILE=%d/bus-password\n"));
}

#[test]
fn a_unit_that_somebody_changed_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let unit = root.path().join(UNIT);
    stdout(&install(root.path(), &[]));
    let changed = fs::read_to_string(&unit)
        .unwrap()
        .replace("Nice=5", "Nice=1");
    fs::write(&unit, &changed).unwrap();

    let uninstall = ["uninstall", "--root", text(root.path())];
    for refused in [install(root.path(), &[]), run(&uninstall)] {
        let complaint = complaint(&refused, 1);
        assert!(
            complaint.contains("somebody has changed") && complaint.contains("--force"),
            "{complaint}"
        );
        assert_eq!(fs::read_to_string(&unit).unwrap(), changed);
    }

    stdout(&install(root.path(), &["--force"]));
    assert!(fs::read_to_string(&unit).unwrap().contains("\nNice=5\n"));
    stdout(&run(&uninstall));
    assert!(!unit.exists());
    assert!(root.path().join("etc/hostbus/publisher.toml").exists());
    assert!(stdout(&run(&uninstall)).contains("there is no"));
}

#[test]
fn a_program_that_the_service_could_not_run_is_not_installed() {
    let root = tempfile::tempdir().unwrap();
    let output = run(&["install", "--root", text(root.path())]);
    let complaint = complaint(&output, 1);
    assert!(complaint.contains("/usr/local/bin"), "{complaint}");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

/// systemd's own tool for units.
fn systemd_analyze(arguments: &[&str]) -> Output {
    Command::new("systemd-analyze")
        .args(arguments)
        .output()
        .expect("systemd-analyze is needed for this test: apt-get install systemd")
}

#[test]
fn systemd_takes_the_unit_and_finds_it_well_guarded() {
    /// In tenths; 0 is the best, 96 that of a service with no guard at all.
    const MOST_EXPOSED: &str = "20";
    let root = tempfile::tempdir().unwrap();
    let unit = root.path().join(UNIT);
    fs::create_dir_all(root.path().join("etc/hostbus")).unwrap();
    for password in [false, true] {
        if password {
            fs::write(root.path().join("etc/hostbus/bus-password"), "x").unwrap();
        }
        stdout(&install(root.path(), &[]));
        let verified = systemd_analyze(&["verify", "--man=no", text(&unit)]);
        assert!(verified.status.success(), "{verified:?}");
        assert!(verified.stderr.is_empty(), "{verified:?}");
        let threshold = format!("--threshold={MOST_EXPOSED}");
        let arguments = ["security", "--offline=true", "--no-pager", &threshold];
        let guarded = systemd_analyze(&[&arguments[..], &[text(&unit)]].concat());
        assert!(
            guarded.status.success(),
            "{}",
            String::from_utf8_lossy(&guarded.stdout)
        );
    }
    let printed = stdout(&run(&["install", "--print", "--program", "/usr/bin/true"]));
    assert!(printed.contains("WantedBy=multi-user.target"));
}
