//! What is sent next: a probe, the past while the ingester catches up, or what is new.

use std::time::Instant;

use hostbus_wire::Sample;

use super::{Next, Outbox, Place, SAVED_UP, encode};

impl Outbox {
    /// What to do at `now`. A sample counts as sent once it is returned.
    pub(crate) fn next(&mut self, now: Instant) -> Next {
        // The next start must know of a move before an ingester does.
        if !self.connected || self.held.len() == 0 || self.keeping.holds_up_sending() {
            return Next::Idle;
        }
        if let Some(until) = self.listen_until.filter(|until| *until > now) {
            return Next::Wait(until);
        }
        if self.probe_at.is_some_and(|at| at <= now) {
            self.probing = true;
            self.catching_up = false;
            self.probe_at = None;
        }
        if self.probing {
            let (front, live) = (self.held.front(), self.held.live());
            let oldest = front.place(front.first);
            let only_one = self.held.len() == 1 && !self.held.has_older();
            self.cursor = live.end().saturating_sub(1).max(live.first);
            if !only_one {
                if let Some(until) = self.wait_for(oldest, now) {
                    return Next::Wait(until);
                }
                self.probing = false;
                if self.payload(oldest).is_some() {
                    return self.send(oldest, now);
                }
                self.probe_at
                    .get_or_insert(now + self.probe_wait.next_wait());
            }
            self.probing = false;
        }
        if self.catching_up {
            self.next_of_the_past(now)
        } else {
            self.next_live(now)
        }
    }

    fn next_live(&mut self, now: Instant) -> Next {
        let live = self.held.live();
        if self.held.has_older() && self.cursor == live.first {
            self.cursor += 1;
        }
        if self.cursor >= live.end() {
            return self.wait();
        }
        if self.payload(live.place(self.cursor)).is_none() {
            // Memory has let go of it, and an ingester will ask for it. The newest is always here.
            self.cursor = live.end() - 1;
        }
        let place = self.held.live().place(self.cursor);
        self.cursor += 1;
        self.send(place, now)
    }

    fn next_of_the_past(&mut self, now: Instant) -> Next {
        let front = self.held.front();
        if self.cursor >= front.end() {
            // What follows the front comes when a mark covers it.
            self.catching_up = self.held.has_older();
            return self.wait();
        }
        if self.cursor - front.first >= self.window {
            return self.wait();
        }
        let place = front.place(self.cursor);
        if self.payload(place).is_none() {
            self.want(place);
            return self.wait();
        }
        if let Some(at) = self.next_free.filter(|at| *at > now) {
            return Next::Wait(self.probe_at.map_or(at, |probe_at| probe_at.min(at)));
        }
        let earliest = now.checked_sub(SAVED_UP).unwrap_or(now);
        self.next_free = Some(self.next_free.map_or(now, |at| at.max(earliest)) + self.pace);
        self.cursor += 1;
        self.send(place, now)
    }

    fn wait(&self) -> Next {
        self.probe_at.map_or(Next::Idle, Next::Wait)
    }

    fn send(&mut self, place: Place, now: Instant) -> Next {
        let (front, live) = (self.held.front(), self.held.live());
        let stretch = if place.key == front.key && (front.first..front.end()).contains(&place.seq) {
            front
        } else {
            live
        };
        let (boot, first) = (stretch.boot, stretch.first);
        let recoded = stretch.recoded;
        let Some(held) = self.payload(place) else {
            return self.wait();
        };
        let payload = if place.seq == first && !recoded {
            held.to_vec()
        } else {
            with_place(held, boot, place.seq, first)
        };
        self.sent += 1;
        if self.held.note_sent(place) {
            self.resent += 1;
        }
        if self.probe_at.is_none() {
            self.probe_at = Some(now + self.probe_wait.next_wait());
        }
        Next::Send(payload)
    }

    pub(super) fn payload(&self, place: Place) -> Option<&[u8]> {
        if let Some(payload) = self.fresh.get(place) {
            return Some(payload);
        }
        if let Some((newest, payload)) = &self.newest
            && *newest == place
        {
            return Some(payload);
        }
        let at = self.ahead.binary_search_by_key(&place, |(ahead, _)| *ahead);
        at.ok().map(|at| &self.ahead[at].1[..])
    }
}

/// The held sample as it is sent.
fn with_place(held: &[u8], boot: u64, seq: u64, first: u64) -> Vec<u8> {
    let mut sample = Sample::decode(held).expect("it was read back before it was taken in");
    encode(&mut sample, boot, seq, first).expect("it was encoded before with other numbers")
}
