//! Whether one node is there: its status, its good-bye and its silence.
//!
//! A publisher that stops says `offline` and then, in its health, `stopped`; a lost one's last will says
//! `offline` alone. A will may belong to an earlier connection of a host that is long back, so an `offline`
//! without good-bye is believed only when no sample contradicts it within an interval. Without any word,
//! three intervals of silence say the same.

use hostbus_wire::status::Status;

/// The least time after which silence means that a node is down.
const LEAST_SILENCE_MS: u64 = 15_000;
/// How long a good-bye may take to follow its `offline`, besides an interval.
const GOODBYE_MS: u64 = 2_000;
/// The least time without a new alarm after a start or an outage of the bus.
const LEAST_CALM_MS: u64 = 20_000;
/// The interval of those who do not tell theirs.
const UNTOLD_INTERVAL_MS: u64 = 60_000;

/// See the module's description. All times are by our clock; 0: never.
#[derive(Debug, Clone, Default)]
pub(super) struct Presence {
    /// When it was last heard to live.
    heard_ms: u64,
    /// Since when `offline` stands.
    offline_ms: u64,
    /// It said good-bye.
    stopped: bool,
    online: bool,
    /// It said something itself, or the broker kept what it said.
    known: bool,
    interval_ms: Option<u32>,
}

impl Presence {
    /// From one of its samples to the next.
    pub(super) fn interval_ms(&self) -> u64 {
        self.interval_ms.map_or(UNTOLD_INTERVAL_MS, |told| {
            u64::from(told).clamp(100, 3_600_000)
        })
    }

    /// From one of its samples to the next, as it tells it.
    pub(super) fn told_interval_ms(&self) -> Option<u32> {
        self.interval_ms
    }

    pub(super) fn set_interval(&mut self, told: Option<u32>) {
        self.interval_ms = told.or(self.interval_ms);
    }

    /// When it was last heard to live; 0: never.
    pub(super) fn heard_ms(&self) -> u64 {
        self.heard_ms
    }

    /// A sample of its own came that is not old.
    pub(super) fn heard(&mut self, now_ms: u64) {
        self.known = true;
        self.heard_ms = now_ms;
        self.offline_ms = 0;
        self.stopped = false;
    }

    /// The broker kept a sample of its own: it was there.
    pub(super) fn was_there(&mut self) {
        self.known = true;
    }

    /// Our clock was set to `now_ms`.
    pub(super) fn forget_future(&mut self, now_ms: u64) {
        self.heard_ms = self.heard_ms.min(now_ms);
        self.offline_ms = self.offline_ms.min(now_ms);
    }

    pub(super) fn status(&mut self, status: Status, retained: bool, now_ms: u64) {
        self.known = true;
        self.online = status == Status::Online;
        match status {
            Status::Online => {
                self.offline_ms = 0;
                self.stopped = false;
                // One that was kept by the broker may be older than the host's end.
                if !retained {
                    self.heard_ms = now_ms;
                }
            }
            Status::Offline if self.offline_ms == 0 => self.offline_ms = now_ms,
            Status::Offline => {}
        }
    }

    /// Its health says whether it stopped by itself.
    pub(super) fn stopped(&mut self, stopped: bool, retained: bool) {
        // A kept good-bye of the run before the present one.
        if !(stopped && retained && self.online) {
            self.stopped = stopped;
        }
    }

    /// It said good-bye and was not heard since.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// How long it may be silent.
    pub(super) fn silence_ms(&self) -> u64 {
        (self.interval_ms() * 3).max(LEAST_SILENCE_MS)
    }

    /// Until when no new alarm is raised where the bus came back at `calm_from_ms`.
    fn calm_until_ms(&self, calm_from_ms: u64) -> u64 {
        calm_from_ms.saturating_add((self.interval_ms() * 2).max(LEAST_CALM_MS))
    }

    fn lost_at_ms(&self) -> u64 {
        let contradiction_ms = self.interval_ms().min(LEAST_SILENCE_MS - GOODBYE_MS);
        self.offline_ms + contradiction_ms + GOODBYE_MS
    }

    /// Whether it is down; `None` while nobody can tell.
    pub(super) fn down(&self, calm_from_ms: u64, now_ms: u64) -> Option<bool> {
        if self.stopped {
            return Some(false);
        }
        let silent_at_ms = self.heard_ms + self.silence_ms();
        if self.offline_ms == 0 && self.heard_ms != 0 && now_ms < silent_at_ms {
            return Some(false);
        }
        if !self.known || now_ms < self.calm_until_ms(calm_from_ms) {
            return None;
        }
        if self.offline_ms != 0 && now_ms < self.lost_at_ms() {
            return None;
        }
        Some(true)
    }

    /// When [`down`](Self::down) may change by time alone.
    pub(super) fn due_ms(&self, calm_from_ms: u64, now_ms: u64) -> u64 {
        let silent = if self.heard_ms == 0 {
            0
        } else {
            self.heard_ms + self.silence_ms()
        };
        let lost = if self.offline_ms == 0 {
            0
        } else {
            self.lost_at_ms()
        };
        [silent, lost, self.calm_until_ms(calm_from_ms)]
            .into_iter()
            .filter(|at| *at > now_ms)
            .min()
            .unwrap_or(u64::MAX)
    }
}
