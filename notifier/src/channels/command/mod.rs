//! A program on the notifier's host.
//!
//! ```toml
//! [notifier.channels.siren]
//! type = "command"
//! program = "/usr/local/bin/siren"           # an absolute path; no shell reads it
//! arguments = ["--volume", "7"]              # fixed ones
//! timeout_seconds = 30
//! ```
//! It gets the notice as JSON on its standard input (`channels/document`), and in its environment
//! `HOSTBUS_KEY`, `HOSTBUS_CHANNEL`, `HOSTBUS_REASON`, `HOSTBUS_STATE`, `HOSTBUS_SEVERITY`, `HOSTBUS_GROUP`
//! and `HOSTBUS_TITLE`. Exit code 0: delivered; 75 (`EX_TEMPFAIL`) or ended by a signal: it is tried again;
//! 77, 78 (`EX_NOPERM`, `EX_CONFIG`), 126, 127 (a shell's "can't be run", "not found") or not to be started at
//! all: the channel is broken; any other: refused. The last line it prints is logged.
//!
//! Nothing can be executed over the bus (DESIGN, section 1). A program is named here alone, in the
//! settings file that the notifier's host has and reads at its start: channels have no topic. What comes
//! over the bus, rules, silences, alerts, names no channel and no program. An alert's words reach the
//! program as data, on its standard input and as values of fixed variables, never as arguments and never
//! through a shell. The program itself must not be writable by everybody.

mod ended;
mod process;

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hostbus_wire::alert::AlertSeverity;
use serde::Deserialize;
use tracing::info;

use super::colour::worst_firing;
use super::document::{document, reason};
use super::{ChannelError, Limits, Measure, Message, Opening, Pace, Service, Verdict};
use crate::notice::Notice;
use crate::template::markup::one_line;
use crate::template::{Markup, Templates};
use process::Process;

/// The most of a text, in bytes.
const TEXT_BYTES: usize = 256 * 1024;
/// The most of what it reads, in bytes.
const DOCUMENT_BYTES: usize = 4 * 1024 * 1024;
/// What a program has of the notifier's environment, which may hold secrets.
const KEPT: [&str; 6] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// A command channel.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CommandConfig {
    /// The program, by an absolute path.
    pub program: PathBuf,
    /// What it is called with.
    pub arguments: Vec<String>,
    /// How long it may take, 1 to 55 seconds; then it is killed with all that it started.
    pub timeout_seconds: u32,
}

impl Default for CommandConfig {
    fn default() -> Self {
        Self {
            program: PathBuf::new(),
            arguments: Vec::new(),
            timeout_seconds: 30,
        }
    }
}

/// An open command channel.
pub struct Command {
    process: Process,
    templates: Templates,
    messages: usize,
}

impl Command {
    /// Opens it. The program is not run.
    ///
    /// # Errors
    /// A setting is wrong, or there is no such program that may be run.
    pub fn open(config: &CommandConfig, opening: &Opening<'_>) -> Result<Self, ChannelError> {
        opening.reads(&config.program);
        if let Err(expected) = check(&config.program) {
            let found = format_args!("`{}`", config.program.display());
            return Err(opening.value("program", found, expected));
        }
        if let Some(argument) = config.arguments.iter().find(|text| text.contains('\0')) {
            let expected = "no character NUL";
            return Err(opening.value("arguments", format_args!("{argument:?}"), expected));
        }
        if !(1..=55).contains(&config.timeout_seconds) {
            let expected = "1 to 55 seconds";
            return Err(opening.value("timeout_seconds", config.timeout_seconds, expected));
        }
        let kept = KEPT.iter();
        let kept = kept.filter_map(|name| Some(((*name).to_owned(), std::env::var_os(name)?)));
        Ok(Self {
            process: Process {
                program: config.program.clone(),
                arguments: config.arguments.clone(),
                environment: kept.collect(),
                timeout: Duration::from_secs(config.timeout_seconds.into()),
            },
            templates: opening.templates(Markup::Plain)?,
            messages: opening.messages,
        })
    }

    /// Runs the program with `message`, and returns when it has ended.
    pub async fn send(&self, message: &Message) -> Verdict {
        let input = document(message, DOCUMENT_BYTES).to_string().into_bytes();
        let (ended, last_line) = self.process.run(&input, &variables(message)).await;
        let verdict = ended::judge(&ended, &last_line);
        if verdict == Verdict::Delivered && !last_line.is_empty() {
            info!(
                channel = message.notice.channel,
                last_line, "the program has spoken"
            );
        }
        verdict
    }
}

/// Checks that `program` can be run, and was not put there by just anybody.
fn check(program: &Path) -> Result<(), String> {
    let expected = "the absolute path of a program";
    if !program.is_absolute() {
        return Err(format!("{expected}, such as `/usr/local/bin/siren`"));
    }
    let metadata = program
        .metadata()
        .map_err(|error| format!("{expected} ({error})"))?;
    if !metadata.is_file() {
        return Err(format!("{expected}; this is no file"));
    }
    let mode = metadata.permissions().mode();
    if mode & 0o111 == 0 {
        return Err(format!("{expected}; this may not be run: `chmod +x` it"));
    }
    if mode & 0o002 != 0 {
        let expected = "a program that not everybody may change: `chmod o-w` it";
        return Err(expected.to_owned());
    }
    Ok(())
}

/// What the program finds in its environment of the message.
fn variables(message: &Message) -> [(&'static str, String); 7] {
    let notice = &message.notice;
    let worst = worst_firing(notice);
    let severities = notice.lines.iter().map(|line| line.alert.severity);
    let severity = worst.or(severities.max()).unwrap_or(AlertSeverity::Info);
    let state = match worst {
        None if !notice.lines.is_empty() => "resolved",
        _ => "firing",
    };
    [
        ("HOSTBUS_KEY", message.key.clone()),
        ("HOSTBUS_CHANNEL", notice.channel.clone()),
        ("HOSTBUS_REASON", reason(notice.reason).to_owned()),
        ("HOSTBUS_STATE", state.to_owned()),
        ("HOSTBUS_SEVERITY", severity.as_str().to_owned()),
        ("HOSTBUS_GROUP", one_line(&notice.group)),
        ("HOSTBUS_TITLE", one_line(&message.title)),
    ]
}

impl Service for Command {
    fn kind(&self) -> &'static str {
        "command"
    }

    fn limits(&self) -> Limits {
        Limits {
            title: Measure::Characters(1000),
            text: Measure::Bytes(TEXT_BYTES),
            markup: Markup::Plain,
            messages: self.messages,
        }
    }

    fn pace(&self) -> Pace {
        Pace::FREE
    }

    fn messages(&self, notice: &Notice, instance: &str) -> Vec<Message> {
        self.templates.messages(notice, instance, &self.limits())
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("program", &self.process.program)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::examples;

    fn program(folder: &tempfile::TempDir, script: &str, mode: u32) -> PathBuf {
        let path = folder.path().join("program");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn opened(text: &str) -> Result<Command, String> {
        examples::open(text.parse().unwrap(), Command::open)
    }

    #[tokio::test]
    async fn a_program_gets_the_notice_as_data_and_fixed_arguments() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let script = format!(
            "{{ echo \"$#,$1\"; echo \"$HOSTBUS_STATE,$HOSTBUS_SEVERITY,$HOSTBUS_REASON\"; \
             echo \"$HOSTBUS_TITLE\"; cat; }} > {}",
            out.display()
        );
        let program = program(&folder, &script, 0o755);
        let text = format!("program = {program:?}\narguments = [\"$(id); a b\"]");
        let command = opened(&text).unwrap();
        let mut message = examples::message("main-1");
        message.title = "$(id)\n`id`\0".to_owned();
        assert_eq!(command.send(&message).await, Verdict::Delivered);
        let told = std::fs::read_to_string(&out).unwrap();
        let mut lines = told.lines();
        assert_eq!(lines.next(), Some("1,$(id); a b"));
        assert_eq!(lines.next(), Some("firing,critical,firing"));
        assert_eq!(lines.next(), Some("$(id) `id`"));
        let read: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
        assert_eq!(read, document(&message, DOCUMENT_BYTES));
    }

    #[test]
    fn a_recovery_says_so_in_the_environment() {
        let of = |message: &Message, name: &str| {
            let variables = variables(message);
            let found = variables.into_iter().find(|(known, _)| *known == name);
            found.unwrap().1
        };
        let recovery = examples::recovery("main-2");
        assert_eq!(of(&recovery, "HOSTBUS_STATE"), "resolved");
        assert_eq!(of(&recovery, "HOSTBUS_SEVERITY"), "critical");
        assert_eq!(of(&recovery, "HOSTBUS_KEY"), "main-2");
    }

    #[test]
    fn only_a_program_by_its_whole_path_that_not_everybody_may_change_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let check = |text: &str, words: &[&str]| {
            let error = opened(text).map(drop).unwrap_err();
            for word in words {
                assert!(error.contains(word), "{text}: {word} in {error}");
            }
        };
        check("", &["x.program", "absolute"]);
        check("program = \"siren\"", &["x.program", "absolute"]);
        check("program = \"../siren\"", &["x.program", "absolute"]);
        check(
            "program = \"/nowhere/siren\"",
            &["x.program", "No such file"],
        );
        check("program = \"/etc\"", &["x.program", "no file"]);
        let text = |mode| format!("program = {:?}", program(&folder, "", mode));
        check(&text(0o644), &["x.program", "chmod +x"]);
        check(&text(0o757), &["x.program", "chmod o-w"]);
        let good = text(0o755);
        assert!(opened(&good).is_ok());
        check(
            &format!("{good}\ntimeout_seconds = 56"),
            &["x.timeout_seconds", "55"],
        );
        check(
            &format!("{good}\narguments = [\"a\\u0000b\"]"),
            &["x.arguments", "NUL"],
        );
        check(&format!("{good}\nshell = true"), &["shell", "unknown"]);
    }
}
