//! The private server's folder and settings.
//!
//! ```text
//! <folder>/redis.conf   written anew at each start, 0600
//! <folder>/redis.sock   0700
//! <folder>/redis.log
//! <folder>/redis.pid    the server's process id, while it runs
//! <folder>/appendonlydir/…
//! ```

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{ServerError, private_folder};

/// What fits into the address of a Unix socket on Linux, without the zero at its end.
pub(super) const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Where the private server's things are.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) folder: PathBuf,
    pub(super) file: PathBuf,
    pub(super) process: PathBuf,
    pub(super) socket: PathBuf,
    pub(super) log: PathBuf,
}

impl Settings {
    /// Prepares `folder` and writes the settings.
    pub(super) fn write(folder: &Path) -> Result<Self, ServerError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ServerError::Folder { path, source }
        };
        private_folder(folder).map_err(failed(folder))?;
        let folder = folder.canonicalize().map_err(failed(folder))?;
        let settings = Self {
            file: folder.join("redis.conf"),
            process: folder.join("redis.pid"),
            socket: folder.join("redis.sock"),
            log: folder.join("redis.log"),
            folder,
        };
        let bytes = settings.socket.as_os_str().len();
        if bytes > MAX_SOCKET_PATH_BYTES {
            return Err(ServerError::SocketPath {
                path: settings.socket,
                bytes,
            });
        }
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&settings.file)
            .and_then(|mut file| file.write_all(settings.text().as_bytes()))
            .map_err(failed(&settings.file))?;
        Ok(settings)
    }

    /// The server's address. What has a meaning of its own in a URL is percent-encoded.
    pub(super) fn url(&self) -> String {
        let mut url = "unix://".to_owned();
        for byte in self.socket.as_os_str().as_bytes() {
            match byte {
                b'a'..=b'z'
                | b'A'..=b'Z'
                | b'0'..=b'9'
                | b'/'
                | b'.'
                | b'-'
                | b'_'
                | b'~'
                | b'+'
                | b'@'
                | b','
                | b'='
                | b':' => url.push(char::from(*byte)),
                _ => url.push_str(&format!("%{byte:02X}")),
            }
        }
        url
    }

    /// Streams are compact as they are: compressing them at each rewriting of the append-only file
    /// takes a third of a core while samples come, and saves little on disk. A node of a stream names the
    /// fields of its rows once: nodes four times as large as by default take an eighth of the memory less,
    /// at the same cost of writing and reading.
    fn text(&self) -> String {
        format!(
            "# Written by hostbus at each start; changes here are lost.\n\
             port 0\n\
             unixsocket {}\n\
             unixsocketperm 700\n\
             dir {}\n\
             pidfile {}\n\
             logfile {}\n\
             loglevel notice\n\
             daemonize no\n\
             appendonly yes\n\
             appendfsync everysec\n\
             auto-aof-rewrite-min-size 256mb\n\
             rdbcompression no\n\
             aof-load-truncated yes\n\
             save \"\"\n\
             maxmemory-policy noeviction\n\
             stream-node-max-bytes 16384\n\
             stream-node-max-entries 1000\n",
            quoted(&self.socket),
            quoted(&self.folder),
            quoted(&self.process),
            quoted(&self.log),
        )
    }
}

/// A path as redis.conf reads it.
fn quoted(path: &Path) -> String {
    let mut text = "\"".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stand_in_settings_and_address_whatever_they_hold() {
        let settings = Settings {
            folder: PathBuf::new(),
            file: PathBuf::new(),
            process: PathBuf::new(),
            socket: "/a b/\"c\"/é%/redis.sock".into(),
            log: PathBuf::new(),
        };
        assert_eq!(settings.url(), "unix:///a%20b/%22c%22/%C3%A9%25/redis.sock");
        assert_eq!(
            quoted(&settings.socket),
            "\"/a b/\\\"c\\\"/\\xc3\\xa9%/redis.sock\""
        );
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_refused_with_the_mend() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("x".repeat(100));
        let error = Settings::write(&long).unwrap_err().to_string();
        assert!(error.contains("choose a shorter data folder"), "{error}");
    }
}
