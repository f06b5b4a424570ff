//! Running one program: its input, the end of its output, its time.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::ended::Ended;

/// How much of the end of its output is kept, in bytes.
const TAIL_BYTES: usize = 4096;
/// How long its output is waited for once it has ended: what it left behind may hold it open.
const OUTPUT_WITHIN: Duration = Duration::from_secs(1);

/// A program and what it is run with.
pub(super) struct Process {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(String, OsString)>,
    pub(super) timeout: Duration,
}

impl Process {
    /// Runs it with `input`. Returns how it ended and the last line that it printed, on its standard
    /// error before its standard output. What it started is killed with it when its time is over, or when
    /// nobody waits for it any more.
    pub(super) async fn run(
        &self,
        input: &[u8],
        variables: &[(&'static str, String)],
    ) -> (Ended, String) {
        let environment = self.environment.iter();
        let environment = environment.map(|(name, value)| (name.as_str(), value.clone()));
        let own = variables.iter();
        let own = own.map(|(name, value)| (*name, OsString::from(value)));
        let spawned = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .envs(environment.chain(own))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => return (Ended::NotStarted(error.to_string()), String::new()),
        };
        let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)));
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (mut out, mut err) = (Tail::default(), Tail::default());
        let ended = {
            let traffic = async {
                let feed = async {
                    if let Some(mut stdin) = stdin {
                        // A program need not read what it is told.
                        let _ = stdin.write_all(input).await;
                    }
                };
                tokio::join!(feed, out.follow(stdout), err.follow(stderr));
            };
            tokio::pin!(traffic);
            let whole = async {
                tokio::select! {
                    status = child.wait() => {
                        let _ = tokio::time::timeout(OUTPUT_WITHIN, &mut traffic).await;
                        status
                    }
                    () = &mut traffic => child.wait().await,
                }
            };
            tokio::time::timeout(self.timeout, whole).await
        };
        let ended = match ended {
            Ok(Ok(status)) => {
                // What it left running on purpose may run on.
                group.0 = None;
                match (status.code(), status.signal()) {
                    (Some(code), _) => Ended::Code(code),
                    (None, signal) => Ended::Signal(signal.unwrap_or_default()),
                }
            }
            Ok(Err(error)) => Ended::NotStarted(error.to_string()),
            Err(_) => Ended::TooLong(self.timeout),
        };
        drop(group);
        let last_line = match err.last_line() {
            line if line.is_empty() => out.last_line(),
            line => line,
        };
        (ended, last_line)
    }
}

/// A program with all that it started; killed when it is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // It may have ended by itself.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// The end of an output.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    /// Reads `output` to its end and keeps the last of it.
    async fn follow(&mut self, output: Option<impl AsyncRead + Unpin>) {
        let Some(mut output) = output else { return };
        let mut piece = [0; 4096];
        while let Ok(read @ 1..) = output.read(&mut piece).await {
            self.0.extend_from_slice(&piece[..read]);
            let surplus = self.0.len().saturating_sub(TAIL_BYTES);
            self.0.drain(..surplus);
        }
    }

    fn last_line(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        let last = text.lines().rev().find(|line| !line.trim().is_empty());
        last.unwrap_or_default().trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Duration) -> Process {
        Process {
            program: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            environment: vec![("PATH".to_owned(), "/usr/bin:/bin".into())],
            timeout,
        }
    }

    #[tokio::test]
    async fn a_program_reads_its_input_and_its_end_and_last_words_are_seen() {
        let check = async |script: &str, ended: Ended, last_line: &str| {
            let process = shell(script, Duration::from_secs(30));
            let variables = [("HOSTBUS_KEY", "main-42".to_owned())];
            let got = process.run(b"{\"v\": 1}", &variables).await;
            assert_eq!(got, (ended, last_line.to_owned()), "{script}");
        };
        check("cat", Ended::Code(0), "{\"v\": 1}").await;
        check("exec true", Ended::Code(0), "").await;
        check("echo $HOSTBUS_KEY", Ended::Code(0), "main-42").await;
        check("echo a; echo b >&2; exit 75", Ended::Code(75), "b").await;
        check("kill -TERM $$", Ended::Signal(15), "").await;
        check("env | grep -c CARGO; pwd", Ended::Code(0), "/").await;
        check(
            "yes | head -c 10000000; echo; echo end",
            Ended::Code(0),
            "end",
        )
        .await;
    }

    #[tokio::test]
    async fn a_program_that_takes_too_long_is_told_from_one_that_fails() {
        let limit = Duration::from_millis(50);
        let (ended, _) = shell("sleep 600", limit).run(b"", &[]).await;
        assert_eq!(ended, Ended::TooLong(limit));
    }

    #[tokio::test]
    async fn a_program_dies_with_all_that_it_started_when_nobody_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let pid_file = folder.path().join("pid");
        let path = pid_file.display();
        let script = format!("sleep 600 & echo $! > {path}.new; mv {path}.new {path}; sleep 600");
        let process = shell(&script, Duration::from_secs(600));
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        let started = async {
            while !pid_file.exists() {
                assert!(std::time::Instant::now() < deadline, "it did not start");
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            got = process.run(b"", &[]) => panic!("{got:?}"),
            () = started => {}
        }
        let pid = std::fs::read_to_string(&pid_file).unwrap();
        let status = format!("/proc/{}/stat", pid.trim());
        // Gone, or dead and not yet fetched by whoever inherited it.
        while std::fs::read_to_string(&status).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(std::time::Instant::now() < deadline, "it still runs");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_program_that_is_gone_says_so() {
        let mut process = shell("", Duration::from_secs(30));
        process.program = "/nowhere/siren".into();
        let (ended, _) = process.run(b"", &[]).await;
        assert!(matches!(ended, Ended::NotStarted(_)), "{ended:?}");
    }
}
