//! A real mail server for tests: aiosmtpd, from `tests/python/mail_server.py`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(60);

/// A running mail server, with a certificate of its own for `localhost`.
pub(crate) struct MailServer {
    pub(crate) port: u16,
    child: Child,
    mails: Receiver<Value>,
    folder: TempDir,
}

impl MailServer {
    /// Starts one; `tls` is `none`, `starttls` or `tls`. With a login, it takes no mail without it.
    pub(crate) fn start(tls: &str, login: Option<(&str, &str)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (
            folder.path().join("cert.pem"),
            folder.path().join("key.pem"),
        );
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let mut config = json!({"tls": tls, "cert": cert, "key": key});
        if let Some((user, password)) = login {
            config["user"] = json!(user);
            config["password"] = json!(password);
        }
        let mut child = Command::new(python())
            .args(["-W", "ignore"])
            .arg(workspace().join("tests/python/mail_server.py"))
            .arg(config.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, mails) = channel();
        let (port_sender, port) = channel();
        std::thread::spawn(move || {
            let first = lines.next().and_then(Result::ok);
            let _ = port_sender.send(first.and_then(|line| line.parse().ok()));
            while let Some(Ok(line)) = lines.next() {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        let port = port.recv_timeout(DEADLINE).unwrap();
        Self {
            port: port.expect("the mail server prints its port"),
            child,
            mails,
            folder,
        }
    }

    /// The next mail that it took.
    pub(crate) fn mail(&self) -> Value {
        self.mails.recv_timeout(DEADLINE).expect("a mail")
    }

    /// Stops it, and returns the mails that nobody asked for.
    pub(crate) fn stop(mut self) -> Vec<Value> {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
        let mut mails = Vec::new();
        loop {
            match self.mails.recv_timeout(DEADLINE) {
                Ok(mail) => mails.push(mail),
                Err(RecvTimeoutError::Disconnected) => return mails,
                Err(RecvTimeoutError::Timeout) => panic!("its output does not end"),
            }
        }
    }

    /// A file with `text`, which lives as long as the server.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Its certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        // It ends by itself when its standard input does; this is for one that hangs.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap().to_owned()
}

fn python() -> PathBuf {
    let path = workspace().join(".venv/bin/python");
    assert!(
        path.exists(),
        "{} is missing: make it with `scripts/python`",
        path.display()
    );
    path
}
