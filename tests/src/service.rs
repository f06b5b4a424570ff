//! One process: starting, signalling and ending it, and its log when a test fails.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::poll::{self, DEADLINE};

/// How many of the last lines of a log are shown when a test fails.
const SHOWN_LINES: usize = 40;

/// A program with its arguments, which can be started again after it ended. Its standard output
/// and error go to files. It ends with its owner.
#[derive(Debug)]
pub struct Service {
    name: String,
    command: Command,
    stdout: PathBuf,
    stderr: PathBuf,
    child: Option<Child>,
}

/// What a program left behind.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Service {
    /// The program at `path`, with its files in `folder`. It sees none of this process's hostbus
    /// settings, and has `folder` as its home.
    #[must_use]
    pub fn new(name: &str, path: &Path, folder: &Path) -> Self {
        let mut command = Command::new(path);
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("HOSTBUS_") {
                command.env_remove(key);
            }
        }
        command
            .env("HOME", folder)
            .env("STATE_DIRECTORY", folder.join("state"))
            .env_remove("XDG_DATA_HOME")
            .current_dir(folder);
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            name: name.to_owned(),
            command,
            stdout: folder.join(format!("{name}-{number}.out")),
            stderr: folder.join(format!("{name}-{number}.log")),
            child: None,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Sets its working folder.
    #[must_use]
    pub fn within(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Starts it, or starts it again.
    ///
    /// # Panics
    /// It runs already, or can't be started.
    #[track_caller]
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let open = |path: &Path| -> File {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .unwrap_or_else(|error| panic!("failed to open {}: {error}", path.display()))
        };
        let child = self
            .command
            .stdin(Stdio::null())
            .stdout(open(&self.stdout))
            .stderr(open(&self.stderr))
            .spawn();
        self.child =
            Some(child.unwrap_or_else(|error| panic!("failed to start {}: {error}", self.name)));
    }

    /// Starts it and returns it.
    #[must_use]
    #[track_caller]
    pub fn started(mut self) -> Self {
        self.start();
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// It can't be started, or does not end before the deadline.
    #[track_caller]
    pub fn finish(mut self) -> Finished {
        self.start();
        self.finished()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It does not end before the deadline.
    #[track_caller]
    pub fn finished(mut self) -> Finished {
        let status = self.wait(DEADLINE);
        Finished {
            code: status.code(),
            stdout: self.stdout(),
            stderr: self.stderr(),
        }
    }

    /// Its process id.
    ///
    /// # Panics
    /// It does not run.
    #[must_use]
    pub fn pid(&self) -> Pid {
        let child = self
            .child
            .as_ref()
            .unwrap_or_else(|| panic!("{} does not run", self.name));
        Pid::from_child(child)
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// It does not run.
    pub fn signal(&self, signal: Signal) {
        // A child that was not waited for keeps its id, so this can't reach a stranger.
        kill_process(self.pid(), signal)
            .unwrap_or_else(|error| panic!("failed to signal {}: {error}", self.name));
    }

    /// Ends it at once, as `kill -9` does.
    ///
    /// # Panics
    /// It does not run.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait(DEADLINE);
    }

    /// Ends it as Ctrl-C does, and waits until it is gone.
    ///
    /// # Panics
    /// It does not run, or is still there after `within`.
    #[track_caller]
    pub fn interrupt(&mut self, within: Duration) -> ExitStatus {
        self.signal(Signal::INT);
        self.wait(within)
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It does not run, or is still there after `within`.
    #[track_caller]
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{} did not end within {within:?}",
                self.name
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Tells whether it was started and not found to have ended.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// How it ended, once it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut()?;
        let status = child.try_wait().expect("a child can be waited for")?;
        self.child = None;
        Some(status)
    }

    /// What it has written to standard output, over all its starts.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What it has written to standard error, over all its starts.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Waits until the file at `path` is there, and returns its text.
    ///
    /// # Panics
    /// The process ends first, or the deadline is over.
    #[track_caller]
    pub fn wait_for_file(&mut self, path: &Path) -> String {
        let what = format!("{} by {}", path.display(), self.name);
        poll::until(&what, || {
            if let Some(status) = self.ended() {
                panic!(
                    "{} ended with {status} before it was ready:\n{}",
                    self.name,
                    self.stderr()
                );
            }
            Ok(fs::read_to_string(path)?)
        })
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            let log = self.stderr();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
            #[expect(
                clippy::print_stderr,
                reason = "the test runner shows it with the failure"
            )]
            {
                eprintln!("--- log of {} ---\n{}", self.name, tail.join("\n"));
            }
        }
    }
}
