//! `install` and `uninstall`: the publisher as a systemd service of this host.
//!
//! ```text
//! /etc/systemd/system/hostbus-publisher.service   the unit, written anew unless somebody changed it
//! /etc/hostbus/publisher.toml                     settings, written if there are none
//! /etc/hostbus/bus-password                       the password, read by systemd if it is there
//! /var/lib/hostbus-publisher                      the service's own, made by systemd
//! ```
//! Nothing is started or stopped unless asked for.

mod unit;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

const SERVICE: &str = "hostbus-publisher";
const UNIT: &str = "etc/systemd/system/hostbus-publisher.service";
const SETTINGS: &str = "etc/hostbus/publisher.toml";
const SETTINGS_TEXT: &str = include_str!("install/publisher.toml");
const PASSWORD: &str = "etc/hostbus/bus-password";

/// Folders whose programs any user, and so the service, can run.
const PROGRAM_FOLDERS: [&str; 5] = ["/usr", "/opt", "/bin", "/sbin", "/nix"];

/// Flags of `install`.
#[derive(Debug, Args)]
pub(crate) struct Install {
    /// Print the unit and write nothing
    #[arg(long, conflicts_with_all = ["now", "force"])]
    print: bool,
    /// The program that the service runs [default: this one]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
    /// Start the service, now and at each boot
    #[arg(long, conflicts_with = "root")]
    now: bool,
}

/// Flags of `uninstall`.
#[derive(Debug, Args)]
pub(crate) struct Uninstall {
    #[command(flatten)]
    place: Place,
    /// Stop the service first
    #[arg(long, conflicts_with = "root")]
    now: bool,
}

#[derive(Debug, Args)]
struct Place {
    /// The folder that stands for /, for packagers
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Also if somebody has changed the unit
    #[arg(long)]
    force: bool,
}

impl Place {
    fn of(&self, path: &str) -> PathBuf {
        self.root.as_deref().unwrap_or(Path::new("/")).join(path)
    }

    /// This host's /etc is root's.
    fn check_rights(&self) -> Result<()> {
        if self.root.is_none() && !rustix::process::geteuid().is_root() {
            bail!(
                "only root may write to /etc: run it with sudo, or look first with install --print"
            );
        }
        Ok(())
    }

    /// Whether the unit is there. One that was changed is an error.
    fn unit_there(&self) -> Result<bool> {
        let path = self.of(UNIT);
        match fs::read_to_string(&path) {
            Ok(text) if self.force || unit::is_untouched(&text) => Ok(true),
            Ok(_) => bail!(
                "somebody has changed {}: keep changes in `systemctl edit {SERVICE}`, and give --force to do without them here",
                path.display()
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).with_context(|| format!("failed to read {}", path.display())),
        }
    }
}

impl Install {
    /// Writes what is missing, and tells what was done and what is left to do.
    pub(crate) fn run(&self) -> Result<String> {
        let program = self.program()?;
        let password = self.place.of(PASSWORD).exists();
        let unit = unit::text(&program, password)?;
        if self.print {
            return Ok(unit.trim_end().to_owned());
        }
        self.place.check_rights()?;
        if self.now {
            find_systemctl()?;
        }
        let mut done = Vec::new();
        let path = self.place.of(UNIT);
        let there = self.place.unit_there()?;
        let changed = !there || fs::read_to_string(&path).is_ok_and(|old| old != unit);
        if changed {
            write(&path, &unit)?;
            done.push(format!("wrote {}", path.display()));
        } else {
            done.push(format!("{} is as it should be", path.display()));
        }
        let settings = self.place.of(SETTINGS);
        if settings.exists() {
            done.push(format!("{} stays as it is", settings.display()));
        } else {
            write(&settings, SETTINGS_TEXT)?;
            done.push(format!("wrote {}", settings.display()));
        }
        if self.now {
            systemctl(&["daemon-reload"])?;
            systemctl(&["enable", "--now", SERVICE])?;
            if there && changed {
                systemctl(&["restart", SERVICE])?;
            }
            done.push(format!("{SERVICE} runs: systemctl status {SERVICE}"));
        } else {
            done.push(next_steps(&program, password));
        }
        Ok(done.join("\n"))
    }

    /// What the service runs.
    fn program(&self) -> Result<PathBuf> {
        if let Some(program) = &self.program {
            return Ok(program.clone());
        }
        let own = std::env::current_exe().context("failed to find this program's own path")?;
        let reachable = PROGRAM_FOLDERS.iter().any(|folder| own.starts_with(folder));
        if !reachable && !self.print {
            bail!(
                "the service can't run {own}: put it in its place with `sudo install -m 755 {own} /usr/local/bin/` and run that one, or name one with --program",
                own = own.display()
            );
        }
        Ok(own)
    }
}

impl Uninstall {
    /// Removes the unit. Settings, password and samples stay.
    pub(crate) fn run(&self) -> Result<String> {
        self.place.check_rights()?;
        let path = self.place.of(UNIT);
        if !self.place.unit_there()? {
            return Ok(format!("there is no {}", path.display()));
        }
        if self.now {
            find_systemctl()?;
            systemctl(&["disable", "--now", SERVICE])?;
        }
        fs::remove_file(&path).with_context(|| format!("failed to remove {}", path.display()))?;
        let mut done = vec![format!("removed {}", path.display())];
        if self.now {
            systemctl(&["daemon-reload"])?;
        } else {
            done.push(format!(
                "if it still runs: systemctl stop {SERVICE} && systemctl daemon-reload"
            ));
        }
        done.push("these stay: /etc/hostbus and /var/lib/hostbus-publisher".to_owned());
        Ok(done.join("\n"))
    }
}

fn next_steps(program: &Path, password: bool) -> String {
    let program = program.display();
    let flags = if password {
        "--config /etc/hostbus/publisher.toml --password-file /etc/hostbus/bus-password"
    } else {
        "--config /etc/hostbus/publisher.toml"
    };
    let mut steps = vec!["name the bus in /etc/hostbus/publisher.toml".to_owned()];
    if !password {
        steps.push(format!(
            "if it wants a password: `sudo install -m 600 FILE /etc/hostbus/bus-password`, then `sudo {program} install` again"
        ));
    }
    steps.push(format!("check it: sudo {program} {flags} check-config"));
    steps.push(format!(
        "start it: sudo systemctl daemon-reload && sudo systemctl enable --now {SERVICE}"
    ));
    let numbered = steps.iter().zip(1..);
    let lines = numbered.map(|(step, number)| format!("  {number}. {step}"));
    format!("next:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

/// Whole or not at all: systemd never sees half a unit.
fn write(path: &Path, text: &str) -> Result<()> {
    let beside = path.with_extension("new");
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&beside, text))
        .and_then(|()| readable_by_all(&beside))
        .and_then(|()| fs::rename(&beside, path))
        .with_context(|| format!("failed to write {}", path.display()))
}

/// The service's user must read its settings, whatever the umask of who installs.
fn readable_by_all(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

fn find_systemctl() -> Result<()> {
    Command::new("systemctl").arg("--version").output().context(
        "failed to run systemctl, which --now needs: without systemd, start the publisher with what this host has instead",
    )?;
    Ok(())
}

fn systemctl(arguments: &[&str]) -> Result<()> {
    let said = || format!("failed to run `systemctl {}`", arguments.join(" "));
    let output = Command::new("systemctl")
        .args(arguments)
        .output()
        .with_context(said)?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}", said(), why.trim());
    }
    Ok(())
}
