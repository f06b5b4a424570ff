//! What a notifier says of itself while its telling is troubled: a token that was revoked, a dead man's
//! switch that can't be reached, a spool without a disk.

use std::fs;

use anyhow::{Context, ensure};
use hostbus_tests::mosquitto::Version;
use hostbus_tests::pipeline::Pipeline;
use hostbus_tests::service::Service;
use hostbus_tests::sink::{Mood, Sink};
use hostbus_tests::{poll, tool};
use hostbus_wire::health::{Health, HealthState};

const TOPIC: &str = "hostbus/v1/home/_system/notifier/main";

/// Waits for a health of the notifier `main` that `look` is content with.
#[track_caller]
fn until_says(pipeline: &Pipeline, what: &str, look: impl Fn(&Health) -> bool) -> Health {
    let viewer = pipeline.account("viewer");
    let watcher = viewer.subscribe(&pipeline.folder, Version::V5, &[TOPIC]);
    let watcher = watcher.ready();
    poll::until(what, || {
        let received = watcher.received();
        let last = received.last().context("nothing yet")?;
        let health: Health = hostbus_wire::decode(&last.payload)?;
        ensure!(look(&health), "{health:?}");
        Ok(health)
    })
}

fn of(health: &Health, name: &str) -> Option<u64> {
    health.counters.get(name).copied()
}

/// `hostbus alerts list` as the viewer.
fn listed(pipeline: &Pipeline) -> String {
    let viewer = pipeline.account("viewer");
    let password = pipeline.folder.write("viewer-password", &viewer.password);
    let url = format!("mqtt://{}", viewer.address);
    let list = Service::new("list", &tool::ours("hostbus"), pipeline.folder.path())
        .args(["alerts", "list", "--user", "viewer", "--url", &url])
        .args(["--password-file", &password.display().to_string()]);
    let finished = list.finish();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    finished.stdout
}

#[test]
fn a_revoked_token_keeps_the_notices_until_its_file_holds_another() {
    let pipeline = Pipeline::start();
    let sink = Sink::start();
    sink.set(Mood::Wants("Bearer new"));
    let token = pipeline.folder.write("token", "Bearer old");
    let settings = format!(
        "[notifier.channels.hook]\ntype = \"webhook\"\nurl = \"{}\"\n\
         headers_file = {{ Authorization = {token:?} }}\n\
         [[notifier.routes]]\nchannels = [\"hook\"]\nwait_seconds = 0\ninterval_seconds = 0\n",
        sink.url()
    );
    let _notifier = pipeline.notifier("main", "", &settings).started();
    until_says(&pipeline, "it is active", |health| {
        of(health, "active") == Some(1)
    });
    let operator = pipeline.account("operator");
    for node in ["web1", "web2"] {
        let topic = format!("hostbus/v1/home/{node}/alerts/backup");
        operator.publish_retained(&pipeline.folder, Version::V5, &topic, b"{}");
    }
    let health = until_says(&pipeline, "both wait, and why", |health| {
        of(health, "channel.hook.queued") == Some(2)
            && of(health, "channel.hook.given_up") == Some(0)
            && health.state == HealthState::Degraded
    });
    let reason = health.reason.unwrap_or_default();
    assert!(
        reason.contains("hook has failed since") && reason.contains("401"),
        "{reason}"
    );
    let listed = listed(&pipeline);
    assert!(
        listed.contains("notifier main") && listed.contains("hook has failed since"),
        "{listed}"
    );
    fs::write(&token, "Bearer new").unwrap();
    poll::until("both are told", || {
        ensure!(sink.count() == 2, "{}", sink.count());
        Ok(())
    });
    until_says(&pipeline, "all is well again", |health| {
        health.state == HealthState::Ok && of(health, "channel.hook.given_up") == Some(0)
    });
}

#[test]
fn a_dead_mans_switch_that_fails_and_a_spool_without_a_disk_are_told() {
    let pipeline = Pipeline::start();
    let sink = Sink::start();
    sink.set(Mood::Away);
    let settings = format!(
        "[notifier.channels.hook]\ntype = \"webhook\"\nurl = \"{url}\"\n\
         [notifier.dead_man]\nurl = \"{url}\"\nevery_seconds = 10\n",
        url = sink.url()
    );
    let _notifier = pipeline.notifier_in_memory("main", "", &settings).started();
    let health = until_says(&pipeline, "the switch can't be reached", |health| {
        health.state == HealthState::Degraded
    });
    let reason = health.reason.unwrap_or_default();
    for part in ["the dead man's switch", "notifier.spool.folder"] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    assert_eq!(health.counters.get("spool_on_disk"), Some(&0));
}

#[test]
fn a_spool_without_a_disk_is_told_and_is_no_trouble() {
    let pipeline = Pipeline::start();
    let sink = Sink::start();
    let settings = format!(
        "[notifier.channels.hook]\ntype = \"webhook\"\nurl = \"{}\"\n",
        sink.url()
    );
    let _notifier = pipeline.notifier_in_memory("main", "", &settings).started();
    let health = until_says(&pipeline, "the spool", |health| {
        let reason = health.reason.as_deref().unwrap_or_default();
        of(health, "active") == Some(1) && reason.contains("notifier.spool.folder")
    });
    // It counts before anything was told through it.
    assert_eq!(of(&health, "channels"), Some(1));
    assert_eq!(health.state, HealthState::Ok);
}
