//! A site on a Redis of its own, reached through TLS as a user with few rights.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use anyhow::ensure;
use hostbus_tests::folder::Folder;
use hostbus_tests::history::History;
use hostbus_tests::service::{Finished, Service};
use hostbus_tests::site::{NODE, Site};
use hostbus_tests::{poll, tool};
use serde_json::Value;

/// A redis-server that takes outsiders in TLS only; on its socket it asks for no password.
struct Redis {
    _server: Service,
    folder: Folder,
    port: u16,
}

impl Redis {
    fn start(rights: &str) -> Self {
        let folder = Folder::new();
        certificates(folder.path());
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        fs::write(
            folder.join("redis.conf"),
            format!(
                "port 0\ntls-port {port}\nbind 127.0.0.1\nunixsocket redis.sock\nappendonly yes\n\
                 tls-cert-file server.pem\ntls-key-file server.key\ntls-ca-cert-file ca.pem\n\
                 tls-auth-clients no\nuser hostbus on >secret {rights}\n"
            ),
        )
        .expect("failed to write settings");
        let program = tool::of_system("redis-server", "redis-server");
        let server = Service::new("redis", &program, folder.path())
            .args(["redis.conf"])
            .started();
        let redis = Self {
            _server: server,
            folder,
            port,
        };
        poll::until("an answer of redis-server", || {
            let pong: String = redis.history().ask(&["PING"])?;
            ensure!(pong == "PONG");
            Ok(())
        });
        redis
    }

    fn history(&self) -> History {
        History::at(&format!(
            "unix://{}",
            self.folder.join("redis.sock").display()
        ))
    }

    /// The settings of a site that uses it.
    fn settings(&self) -> String {
        let ca_file = self.folder.join("ca.pem");
        format!(
            "[redis]\nurl = \"rediss://localhost:{}\"\nca_file = \"{}\"\nuser = \"hostbus\"\npassword = \"secret\"\n",
            self.port,
            ca_file.display()
        )
    }
}

/// A CA, and a certificate of `localhost` that it has signed.
fn certificates(folder: &Path) {
    let openssl = tool::of_system("openssl", "openssl");
    let run = |arguments: &str| {
        let output = Command::new(&openssl)
            .args(arguments.split(' '))
            .current_dir(folder)
            .output()
            .expect("failed to run openssl");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {said}");
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    run(&format!(
        "req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=test"
    ));
    run(&format!(
        "req {key} -keyout server.key -out server.csr -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    ));
    run(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -copy_extensions copy",
    );
}

/// The rights as `doctor` tells them to somebody who lacks them.
fn rights_by_doctor() -> String {
    let redis = Redis::start("~hb:* -@all +ping");
    let (config, folder) = config_file(&redis);
    let finished = doctor(&folder, &config);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let findings: Value = serde_json::from_str(&finished.stdout).unwrap();
    let findings = findings.as_array().unwrap();
    let found = findings
        .iter()
        .find(|finding| finding["check"] == "redis")
        .unwrap_or_else(|| panic!("{findings:?}"));
    let mend = found["mend"].as_str().unwrap();
    let (_, rights) = mend.split_once("on '>the password' ").unwrap();
    rights.to_owned()
}

fn config_file(redis: &Redis) -> (String, Folder) {
    let folder = Folder::new();
    let file = folder.join("hostbus.toml");
    fs::write(&file, redis.settings()).unwrap();
    (file.display().to_string(), folder)
}

fn doctor(folder: &Folder, config: &str) -> Finished {
    Service::new("doctor", &tool::ours("hostbus"), folder.path())
        .args(["doctor", "--data", "data", "--json", "--config", config])
        .finish()
}

#[test]
fn a_site_serves_with_the_rights_that_doctor_tells() {
    let redis = Redis::start(&rights_by_doctor());
    let (config, _folder) = config_file(&redis);
    let mut site = Site::start_with(&["--config", &config]);
    // Its end looks for a private server that was left behind; here is none.
    site.redis.clear();
    let rows = poll::until("rows of this host's cpu", || {
        let rows = redis.history().rows("home.here", "cpu")?;
        ensure!(rows.len() >= 3, "{} rows", rows.len());
        ensure!(redis.history().committed("home.here")?.1 >= 3);
        Ok(rows)
    });
    let finished = site
        .command(&["history", NODE, "cpu", "--json", "--config", &config])
        .finish();
    let told: Value = serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    assert_eq!(told[0]["ts"].as_u64(), Some(rows[0].ms));

    let finished = site
        .command(&["doctor", "--json", "--config", &config])
        .finish();
    let findings: Value = serde_json::from_str(&finished.stdout).unwrap();
    let findings = findings.as_array().unwrap();
    for (check, told) in [
        ("redis", "version "),
        ("persistence", "append-only file on"),
        ("memory", "nothing is evicted"),
        ("history", "nodes 1, series "),
    ] {
        let found = findings.iter().find(|one| one["check"] == check).unwrap();
        assert_eq!(found["level"], "ok", "{found}");
        assert!(found["found"].as_str().unwrap().contains(told), "{found}");
    }

    let finished = site
        .command(&["forget", NODE, "--yes", "--force", "--config", &config])
        .finish();
    assert!(finished.stdout.contains("keys removed"), "{finished:?}");
}
