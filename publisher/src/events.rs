//! What a publisher tells on `events`, and the queue of what could not be sent yet.

use std::collections::VecDeque;
use std::time::Duration;

use hostbus_wire::event::{Event, Severity};
use hostbus_wire::{Name, Scalar};

use crate::health::IN_USE;

use crate::outbox::DiskFailure;

/// How many events wait for a connection. When it is full the oldest goes.
const MAX_WAITING: usize = 64;

/// Events in the order in which they happened.
#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    waiting: VecDeque<Event>,
}

impl EventQueue {
    pub(crate) fn push(&mut self, event: Event) {
        if self.waiting.len() == MAX_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back(event);
    }

    pub(crate) fn take_oldest(&mut self) -> Option<Event> {
        self.waiting.pop_front()
    }

    /// Puts back the one that was taken, unless the queue has filled up since.
    pub(crate) fn put_back(&mut self, oldest: Event) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_front(oldest);
        }
    }
}

fn event<const N: usize>(
    ts: u64,
    kind: &str,
    severity: Severity,
    message: String,
    details: [(&str, Scalar); N],
) -> Event {
    let details = details
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    Event {
        ts,
        kind: kind.to_owned(),
        severity,
        message,
        details,
    }
}

fn text(value: &str) -> Scalar {
    Scalar::Text(value.to_owned())
}

pub(crate) fn collector_failed(ts: u64, collector: &str, error: &str) -> Event {
    let message = format!("the collector {collector} fails: {error}");
    let details = [("collector", text(collector)), ("error", text(error))];
    event(ts, "collector-failed", Severity::Warning, message, details)
}

pub(crate) fn collector_recovered(ts: u64, collector: &str) -> Event {
    let message = format!("the collector {collector} works again");
    event(
        ts,
        "collector-recovered",
        Severity::Info,
        message,
        [("collector", text(collector))],
    )
}

pub(crate) fn inventory_failed(ts: u64, error: &str) -> Event {
    let message = format!("the inventory of the host can't be read: {error}");
    let details = [("error", text(error))];
    event(ts, "inventory-failed", Severity::Warning, message, details)
}

pub(crate) fn inventory_recovered(ts: u64) -> Event {
    let message = "the inventory of the host can be read again".to_owned();
    event(ts, "inventory-recovered", Severity::Info, message, [])
}

pub(crate) fn clock_stepped(ts: u64, step_ms: i64) -> Event {
    let way = if step_ms < 0 { "back" } else { "forward" };
    let message = format!("the clock was set {way} by {} ms", step_ms.unsigned_abs());
    let details = [("step_ms", Scalar::Float(step_ms as f64))];
    event(ts, "clock-stepped", Severity::Warning, message, details)
}

pub(crate) fn sample_cut(ts: u64, left_out: usize) -> Event {
    let message = format!("a sample is too large: {left_out} instances are left out");
    let details = [("left_out", Scalar::Integer(left_out as u64))];
    event(ts, "sample-cut", Severity::Warning, message, details)
}

pub(crate) fn samples_dropped(ts: u64) -> Event {
    let message = "the outbox is full: the oldest samples are dropped for new ones".to_owned();
    event(ts, "samples-dropped", Severity::Error, message, [])
}

pub(crate) fn outbox_recovered(ts: u64, dropped: u64) -> Event {
    let message = format!("the outbox has room again, {dropped} samples were dropped");
    let details = [("dropped", Scalar::Integer(dropped))];
    event(ts, "outbox-recovered", Severity::Info, message, details)
}

pub(crate) fn samples_damaged(ts: u64, lost: u64) -> Event {
    let message = format!("{lost} samples in the outbox were damaged on disk and are lost");
    let details = [("lost", Scalar::Integer(lost))];
    event(ts, "samples-damaged", Severity::Error, message, details)
}

pub(crate) fn outbox_broken(ts: u64, aside: &str, reason: &str, lost: u64) -> Event {
    let message =
        format!("the outbox's file was damaged ({reason}), it is kept as {aside} and begun anew");
    let details = [
        ("file", text(aside)),
        ("reason", text(reason)),
        ("lost", Scalar::Integer(lost)),
    ];
    event(ts, "outbox-broken", Severity::Error, message, details)
}

pub(crate) fn outbox_disk_failed(ts: u64, failure: &DiskFailure) -> Event {
    let message = format!("samples can't be kept on disk: {failure}");
    let details = [
        ("reason", text(&failure.reason)),
        ("mend", text(failure.mend)),
    ];
    event(
        ts,
        "outbox-disk-failed",
        Severity::Warning,
        message,
        details,
    )
}

pub(crate) fn outbox_disk_recovered(ts: u64) -> Event {
    let message = "samples can be kept on disk again".to_owned();
    event(ts, "outbox-disk-recovered", Severity::Info, message, [])
}

pub(crate) fn node_in_use(ts: u64, boot: u64) -> Event {
    let details = [("boot", Scalar::Integer(boot))];
    event(
        ts,
        "node-in-use",
        Severity::Error,
        IN_USE.to_owned(),
        details,
    )
}

pub(crate) fn oom_kill(ts: u64, killed: u64) -> Event {
    let what = if killed == 1 { "process" } else { "processes" };
    let message = format!("the kernel killed {killed} {what} for want of memory");
    let details = [("killed", Scalar::Integer(killed))];
    event(ts, "oom-kill", Severity::Warning, message, details)
}

pub(crate) fn mains_lost(ts: u64) -> Event {
    let message = "the mains are gone: the host runs on its battery".to_owned();
    event(ts, "mains-lost", Severity::Warning, message, [])
}

pub(crate) fn mains_back(ts: u64) -> Event {
    event(
        ts,
        "mains-back",
        Severity::Info,
        "the mains are back".to_owned(),
        [],
    )
}

/// `xid` is NVIDIA's code of the error that went before, where it is known.
pub(crate) fn gpu_lost(ts: u64, gpu: &Name, reason: &str, xid: Option<u64>) -> Event {
    let of_xid = xid.map_or(String::new(), |xid| format!(" (Xid {xid})"));
    let message = format!("GPU {} {reason}{of_xid}", gpu.as_str());
    let details = [("gpu", text(gpu.as_str())), ("reason", text(reason))];
    let mut event = event(ts, "gpu-lost", Severity::Error, message, details);
    if let Some(xid) = xid {
        event.details.insert("xid".to_owned(), Scalar::Integer(xid));
    }
    event
}

pub(crate) fn gpu_back(ts: u64, gpu: &Name) -> Event {
    let message = format!("GPU {} works again", gpu.as_str());
    let details = [("gpu", text(gpu.as_str()))];
    event(ts, "gpu-back", Severity::Info, message, details)
}

/// A critical error that the GPU survived.
pub(crate) fn gpu_xid(ts: u64, gpu: &Name, xid: u64) -> Event {
    let message = format!(
        "the NVIDIA driver tells of a critical error of GPU {}: Xid {xid}",
        gpu.as_str()
    );
    let details = [("gpu", text(gpu.as_str())), ("xid", Scalar::Integer(xid))];
    event(ts, "gpu-xid", Severity::Warning, message, details)
}

pub(crate) fn filesystem_hangs(ts: u64, point: &str, silence: Duration) -> Event {
    let seconds = silence.as_secs();
    let message = format!("the filesystem at {point} does not answer for {seconds} s");
    let details = [("name", text(point)), ("seconds", Scalar::Integer(seconds))];
    event(ts, "filesystem-hangs", Severity::Warning, message, details)
}

pub(crate) fn filesystem_answers(ts: u64, point: &str, silence: Duration) -> Event {
    let seconds = silence.as_secs();
    let message = format!("the filesystem at {point} answers again, after {seconds} s");
    let details = [("name", text(point)), ("seconds", Scalar::Integer(seconds))];
    event(ts, "filesystem-answers", Severity::Info, message, details)
}

/// A filesystem that became read-only, or no longer is.
pub(crate) fn filesystem_flips(ts: u64, point: &str, read_only: bool) -> Event {
    let details = [("name", text(point))];
    if read_only {
        let message = format!("the filesystem at {point} is read-only now");
        event(
            ts,
            "filesystem-read-only",
            Severity::Error,
            message,
            details,
        )
    } else {
        let message = format!("the filesystem at {point} can be written to again");
        event(ts, "filesystem-writable", Severity::Info, message, details)
    }
}

pub(crate) fn filesystems_left_out(ts: u64, taken: usize, left_out: usize) -> Event {
    too_many(ts, "filesystems-left-out", "filesystems", taken, left_out)
}

/// There are more network interfaces than are taken.
pub(crate) fn interfaces_left_out(ts: u64, taken: usize, left_out: usize) -> Event {
    let what = "network interfaces";
    too_many(ts, "interfaces-left-out", what, taken, left_out)
}

fn too_many(ts: u64, kind: &str, what: &str, taken: usize, left_out: usize) -> Event {
    let message = format!("there are too many {what}: {taken} are taken, {left_out} are left out");
    let details = [("left_out", Scalar::Integer(left_out as u64))];
    event(ts, kind, Severity::Warning, message, details)
}

/// The link of a network interface that came up or went down.
pub(crate) fn link_flips(ts: u64, interface: &str, up: bool) -> Event {
    let (kind, severity, way) = if up {
        ("link-up", Severity::Info, "up")
    } else {
        ("link-down", Severity::Warning, "down")
    };
    let message = format!("the link of {interface} is {way}");
    event(ts, kind, severity, message, [("name", text(interface))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_loses_its_oldest_event() {
        let mut queue = EventQueue::default();
        for ts in 0..MAX_WAITING as u64 + 3 {
            queue.push(samples_dropped(ts));
        }
        assert_eq!(queue.waiting.len(), MAX_WAITING);
        let oldest = queue.take_oldest().unwrap();
        assert_eq!(oldest.ts, 3);
        queue.put_back(oldest);
        assert_eq!(queue.take_oldest().unwrap().ts, 3);
        assert_eq!(queue.take_oldest().unwrap().ts, 4);
    }
}
