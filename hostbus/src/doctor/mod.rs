//! `hostbus doctor`: what is wrong with this host's site, and how to mend it.
//!
//! [`host`] looks at files, ports, clock and libraries; [`parts`] asks the broker, and each part how it
//! is; [`history`] asks Redis; [`finding`] is what any of them found.

mod finding;
mod history;
mod host;
mod parts;

use std::io::Write;

use finding::{Finding, Level};
use hostbus_daemon::exit;

use crate::cli::DoctorArgs;
use crate::folder::Folder;
use crate::up::Settings;

pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let findings = runtime.block_on(examine(args))?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&findings)?)?;
    } else {
        write!(out, "{}", finding::text(&findings))?;
    }
    let worst = findings.iter().map(|finding| finding.level).max();
    Ok(if worst == Some(Level::Error) {
        exit::FAILED
    } else {
        exit::OK
    })
}

async fn examine(args: &DoctorArgs) -> anyhow::Result<Vec<Finding>> {
    let folder = Folder::at(args.data.as_deref())?;
    let read = Settings::read(args.config.as_deref())
        .map_err(anyhow::Error::from)
        .and_then(|settings| {
            settings.check()?;
            Ok(settings)
        });
    let (mut findings, settings) = match read {
        Ok(settings) => {
            let from = args.config.as_ref().map_or_else(
                || "defaults and environment".to_owned(),
                |path| path.display().to_string(),
            );
            (vec![Finding::ok("settings", from)], settings)
        }
        Err(error) => {
            let mend = "correct the key or value; the checks below use the defaults";
            (
                vec![Finding::error("settings", format!("{error:#}"), mend)],
                Settings::default(),
            )
        }
    };
    findings.extend(host::data_folder(&folder));
    findings.extend(host::credentials(&folder));
    findings.push(host::redis_program(&settings));
    findings.extend(host::redis_files(&folder));
    findings.push(host::gpu_library(&settings));
    findings.push(host::clock().await);
    match folder.endpoints() {
        Ok(endpoints) => {
            findings.push(Finding::ok("site", format!("up: {}", endpoints.mqtt)));
            findings.extend(parts::parts(&folder, &endpoints).await);
            findings.extend(history::redis(&settings.redis, &endpoints.redis).await);
        }
        Err(_) if folder.is_locked() => findings.push(Finding::warning(
            "site",
            "it is starting, or stopping",
            "ask again in some seconds",
        )),
        Err(_) => {
            findings.push(Finding::warning(
                "site",
                format!("not up on {}", folder.path().display()),
                "start it with `hostbus up`",
            ));
            findings.extend(settings.broker.listen.map(host::port));
            if let Some(url) = &settings.redis.url {
                findings.extend(history::redis(&settings.redis, url).await);
            }
        }
    }
    Ok(findings)
}
