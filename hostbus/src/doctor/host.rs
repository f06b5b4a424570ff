//! Checks of this host: files, ports, programs, libraries, the clock.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use hostbus_store::PrivateServer;
use tokio::process::Command;

use super::finding::Finding;
use crate::folder::Folder;
use crate::up::Settings;

/// The first second of 2025: a clock before it was never set.
const PLAUSIBLE_MS: u64 = 1_735_689_600_000;

/// Is the data folder there, ours alone, and writable?
pub(super) fn data_folder(folder: &Folder) -> Option<Finding> {
    let check = "data";
    let path = folder.path();
    let shown = path.display();
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Some(Finding::warning(
                check,
                format!("{shown} is not there yet"),
                "`hostbus up` makes it",
            ));
        }
        Err(error) => {
            let mend = "run as the user that runs `hostbus up`";
            return Some(Finding::error(check, format!("{shown}: {error}"), mend));
        }
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let found = format!("{shown} is open to other users (mode {mode:o})");
        return Some(Finding::error(check, found, format!("chmod 700 {shown}")));
    }
    let probe = path.join(".doctor");
    let written = fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe));
    Some(match written {
        Ok(()) => Finding::ok(check, format!("{shown}, writable, mode {mode:o}")),
        Err(error) => Finding::error(
            check,
            format!("{shown} can't be written: {error}"),
            "free space on its disk, or run as its owner",
        ),
    })
}

/// Are the secrets readable for their owner only?
pub(super) fn credentials(folder: &Folder) -> Option<Finding> {
    let check = "credentials";
    let entries = fs::read_dir(folder.credentials()).ok()?;
    let files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let open = files.iter().find(|path| {
        fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
    });
    Some(match open {
        Some(path) => {
            let path = path.display();
            let found = format!("{path} is readable for others");
            Finding::error(check, found, format!("chmod 600 {path}"))
        }
        None => Finding::ok(
            check,
            format!("{} secrets, for their owner only", files.len()),
        ),
    })
}

/// Is there a redis-server to start?
pub(super) fn redis_program(settings: &Settings) -> Finding {
    let check = "redis-server";
    if let Some(url) = &settings.redis.url {
        return Finding::ok(check, format!("not needed, redis.url is {url}"));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .flat_map(|folder| ["redis-server", "valkey-server"].map(|name| folder.join(name)))
        .find(|path| path.is_file());
    match found {
        Some(path) => Finding::ok(check, path.display().to_string()),
        None => Finding::error(
            check,
            "neither redis-server nor valkey-server is installed",
            "apt-get install redis-server, or set redis.url",
        ),
    }
}

/// Was something cut off the files of the private Redis?
pub(super) fn redis_files(folder: &Folder) -> Option<Finding> {
    let kept = PrivateServer::cut_off(&folder.redis());
    let one = kept.last()?.display();
    let found = format!(
        "{} damaged ends were cut off the append-only file, such as {one}",
        kept.len()
    );
    let mend = "history of that time may be missing; look at the disk, then remove these files";
    Some(Finding::warning("redis-files", found, mend))
}

/// Is the port of the bus free for the next `hostbus up`?
pub(super) fn port(listen: SocketAddr) -> Finding {
    let check = "port";
    match TcpListener::bind(listen) {
        Ok(_) => Finding::ok(check, format!("{listen} is free")),
        Err(error) => Finding::error(
            check,
            format!("{listen}: {error}"),
            "stop what listens there (another broker?), or start with --listen 127.0.0.1:1884",
        ),
    }
}

/// Can NVIDIA GPUs be read?
pub(super) fn gpu_library(settings: &Settings) -> Finding {
    let check = "gpu";
    let devices = (0..16)
        .filter(|n| Path::new(&format!("/dev/nvidia{n}")).exists())
        .count();
    let library = settings.publisher.collectors.gpus.library.as_deref();
    match (
        hostbus_publisher::collectors::driver_version(library),
        devices,
    ) {
        (Ok(version), _) => Finding::ok(check, format!("NVIDIA driver {version}")),
        (Err(_), 0) => Finding::ok(check, "no NVIDIA device, no GPU section"),
        (Err(error), devices) => Finding::warning(
            check,
            format!("{devices} NVIDIA devices, but {error}"),
            "install the driver's library libnvidia-ml.so.1 in the driver's version",
        ),
    }
}

/// Is the clock set, and kept so?
pub(super) async fn clock() -> Finding {
    let check = "clock";
    if hostbus_daemon::clock::unix_ms() < PLAUSIBLE_MS {
        let mend = "set it: samples are stored by their time";
        return Finding::error(check, "it stands before 2025", mend);
    }
    let asked = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .await;
    match asked.map(|output| output.stdout) {
        Ok(answer) if answer.starts_with(b"yes") => Finding::ok(check, "synchronised"),
        Ok(answer) if answer.starts_with(b"no") => Finding::warning(
            check,
            "not synchronised",
            "enable time synchronisation (timedatectl set-ntp true)",
        ),
        _ => Finding::ok(
            check,
            "plausible; nothing here tells whether it is synchronised",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_folder_open_to_others_is_an_error_with_its_mend() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::at(Some(&temporary.path().join("data"))).unwrap();
        assert_eq!(data_folder(&folder).unwrap().level, Level::Warning);
        folder.create().unwrap();
        assert_eq!(data_folder(&folder).unwrap().level, Level::Ok);
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let finding = data_folder(&folder).unwrap();
        assert_eq!(finding.level, Level::Error);
        assert!(finding.mend.unwrap().starts_with("chmod 700 "));
    }

    #[test]
    fn what_was_cut_off_the_files_of_redis_is_told() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::at(Some(temporary.path())).unwrap();
        folder.create().unwrap();
        assert_eq!(redis_files(&folder), None);
        let parts = folder.redis().join("appendonlydir");
        fs::create_dir(&parts).unwrap();
        fs::write(parts.join("appendonly.aof.1.incr.aof.cut-at-7"), "x").unwrap();
        let finding = redis_files(&folder).unwrap();
        assert_eq!(finding.level, Level::Warning);
        assert!(finding.found.starts_with("1 "), "{finding:?}");
    }

    #[test]
    fn an_open_secret_is_an_error() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::at(Some(temporary.path())).unwrap();
        folder.create().unwrap();
        folder
            .write_credential("viewer", &hostbus_daemon::Secret::new("x"))
            .unwrap();
        assert_eq!(credentials(&folder).unwrap().level, Level::Ok);
        let path = folder.credential("viewer");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(credentials(&folder).unwrap().level, Level::Error);
    }

    #[test]
    fn a_taken_port_is_an_error() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(port(taken.local_addr().unwrap()).level, Level::Error);
    }
}
