//! The outbox's side of the disk: what is to be asked of it, and what its answers change.

use std::time::Instant;

use hostbus_wire::Sample;
use tracing::debug;

use super::marks::some_leap;
use super::{
    DiskFailure, DiskNext, Found, Notice, Order, Outbox, Place, READ_BYTES, READ_WITHIN, ReadRow,
    Report,
};

impl Outbox {
    /// What to do about the disk at `now`.
    pub(crate) fn next_for_disk(&mut self, now: Instant) -> DiskNext {
        if let Some((from, end)) = self.wanted
            && self.reading.is_none()
            && self.keeping.may_read(now)
        {
            self.wanted = None;
            self.reading = Some(now);
            return DiskNext::Order(Order::Read {
                from,
                end,
                max_bytes: READ_BYTES,
            });
        }
        self.keeping.next(&self.held, &self.fresh, now)
    }

    /// From now on all that is left goes to disk.
    pub(crate) fn stop(&mut self) {
        self.keeping.stop();
    }

    /// Whether a stop has nothing more to wait for from the disk.
    pub(crate) fn is_stored(&self) -> bool {
        self.keeping.is_done(&self.fresh)
    }

    /// The disk told something.
    pub(crate) fn on_report(&mut self, report: Report, now: Instant) {
        match report {
            // A start that gave up on a slow disk has asked twice, and is answered twice.
            Report::Found(_) if !self.keeping.is_unopened() => {}
            Report::Found(found) => self.on_found(&found),
            Report::Begun => {}
            Report::Kept { file_bytes } => {
                if let Some(last) = self.keeping.on_kept(file_bytes) {
                    self.tell_kept(last);
                    self.fresh.release_up_to(last);
                }
            }
            Report::Read(rows) => self.on_read(rows, now),
            Report::Discarded => self.keeping.on_discarded(),
            Report::InUse => {
                let failure = DiskFailure {
                    reason: "another publisher of this node runs on this host".to_owned(),
                    mend: "stop one of the two, or give it another publisher.node",
                };
                self.keeping.on_failed(failure, false, now);
            }
            Report::Failed { failure, reading } => {
                if reading {
                    self.reading = None;
                }
                self.keeping.on_failed(failure, reading, now);
            }
            Report::Broken {
                aside,
                reason,
                reading,
            } => {
                if reading {
                    self.reading = None;
                }
                self.keeping.on_broken(reading, now);
                let lost = self.forget_kept();
                self.damaged += lost;
                self.notices.push(Notice::Broken {
                    aside: aside.display().to_string(),
                    reason,
                    lost,
                });
            }
        }
    }

    fn tell_kept(&self, last: Place) {
        for row in self.fresh.up_to(last) {
            let boot = self.held.boot_of(row.place).unwrap_or(row.place.key);
            debug!(boot, seq = row.place.seq, ts = row.ts_ms, "kept");
        }
    }

    /// The folder was opened only now.
    fn on_found(&mut self, found: &Found) {
        self.keeping.on_found(!found.runs.is_empty());
        self.tell_damage(found);
        self.known_boots.clone_from(&found.boots);
        // Nothing that is held is on disk: the folder was closed until now.
        let newest = found.runs.iter().map(|run| run.key).max();
        let by = newest.map_or(0, |newest| self.held.raise_keys(newest));
        self.fresh.raise_keys(by);
        if let Some((place, _)) = &mut self.newest {
            place.key += by;
        }
        if !self.recognised {
            // Our clock may be behind those of the runs before us.
            self.held.move_behind(found.last_boot(), some_leap());
            self.held.forget_sending_live();
        }
        if newest.is_some() {
            self.held.adopt(&found.runs);
        }
        self.keeping.on_moved();
        // Whatever was under way begins anew.
        self.ahead.clear();
        self.probing = true;
        self.catching_up = false;
        self.cursor = self.held.live().first;
    }

    fn on_read(&mut self, rows: Vec<ReadRow>, now: Instant) {
        self.reading = None;
        self.ahead.clear();
        let mut lost = 0;
        for (place, payload) in rows {
            // A row that was released meanwhile may be gone, and is not missed.
            if !self.held.holds(place) {
                continue;
            }
            let whole = payload.filter(|payload| Sample::decode(payload).is_ok());
            match whole {
                Some(payload) => self.ahead.push_back((place, payload)),
                None if self.payload(place).is_some() => {}
                None => {
                    let before = self.held.front().key;
                    self.held.take_out(place);
                    self.mend_cursor(before);
                    lost += 1;
                }
            }
        }
        if lost > 0 {
            self.damaged += lost;
            self.notices.push(Notice::Damaged { lost });
            self.on_progress(now);
        }
    }

    /// Takes out all that only the disk had.
    fn forget_kept(&mut self) -> u64 {
        let before = self.held.front().key;
        let mut lost = 0;
        while self.held.len() > self.fresh.len() {
            let place = self.held.first_not(|place| self.fresh.get(place).is_some());
            let Some(place) = place else { break };
            self.held.take_out(place);
            lost += 1;
        }
        self.ahead.clear();
        self.wanted = None;
        self.mend_cursor(before);
        lost
    }

    /// Asks the disk for what is to be sent from `place` on.
    pub(super) fn want(&mut self, place: Place) {
        if self.reading.is_none() {
            self.wanted = Some((place, self.held.front().end()));
        }
    }

    /// Until when a probe waits for the disk to give `place`; `None` when it is there, or the disk
    /// takes too long.
    pub(super) fn wait_for(&mut self, place: Place, now: Instant) -> Option<Instant> {
        if self.payload(place).is_some() {
            return None;
        }
        self.want(place);
        let since = self.reading.unwrap_or(now);
        let waits_for_retry = self.reading.is_none() && !self.keeping.may_read(now);
        Some(since + READ_WITHIN).filter(|until| *until > now && !waits_for_retry)
    }
}
