//! Which samples are held, oldest first: of which run, how large, how old. Not their payloads.
//!
//! They form stretches without a gap. The last stretch is the live one: it takes what is new, and
//! only it may be empty. Those before it were found on disk, or lie before a hole where a sample
//! was lost. An ingester takes the first sample of a stretch only after all before it.

use std::collections::VecDeque;

use hostbus_wire::committed::Committed;

/// What an entry costs beside its payload: its row in here, and the allocator's share.
const ENTRY_BYTES: u64 = 32;
/// The highest bit of an entry's size tells that it was sent. A payload is far smaller.
const SENT: u32 = 1 << 31;

/// The name of a sample for as long as it is held: the boot under which its run began, which keeps
/// its name when the run moves to another boot, and its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) key: u64,
    pub(crate) seq: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    bytes: u32,
    ts_seconds: u32,
}

/// Samples of one run without a gap.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) key: u64,
    /// The boot that its samples carry.
    pub(super) boot: u64,
    pub(super) first: u64,
    entries: VecDeque<Entry>,
    /// The newest one that was sent; of an earlier process all may have been.
    pub(super) newest_sent: u64,
    /// Its payloads may carry another boot.
    pub(super) recoded: bool,
    /// Its boot must be noted on disk: it is, or was, another one than its key.
    renamed: bool,
}

impl Stretch {
    fn empty(key: u64, boot: u64, first: u64) -> Self {
        Self {
            key,
            boot,
            recoded: false,
            renamed: key != boot,
            first,
            entries: VecDeque::new(),
            newest_sent: first - 1,
        }
    }

    /// The number after the last one.
    pub(super) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn place(&self, seq: u64) -> Place {
        Place { key: self.key, seq }
    }

    fn holds(&self, place: Place) -> bool {
        place.key == self.key && (self.first..self.end()).contains(&place.seq)
    }

    /// Where the entry is that it holds.
    fn index(&self, seq: u64) -> usize {
        usize::try_from(seq - self.first).expect("the index of something in memory")
    }
}

/// A sample that was found on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FoundRow {
    pub(crate) seq: u64,
    pub(crate) ts_ms: u64,
    pub(crate) bytes: usize,
}

/// The samples of one run that were found on disk, in rising order, perhaps with holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundRun {
    pub(crate) key: u64,
    pub(crate) boot: u64,
    pub(crate) rows: Vec<FoundRow>,
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct Held {
    stretches: VecDeque<Stretch>,
    bytes: u64,
    count: usize,
    unsent: usize,
}

impl Held {
    /// What was found, and a live run `boot` behind it, which is later than all of it.
    pub(super) fn new(found: &[FoundRun], boot: u64) -> Self {
        let mut held = Self {
            stretches: VecDeque::from([Stretch::empty(boot, boot, 1)]),
            bytes: 0,
            count: 0,
            unsent: 0,
        };
        let mut found: Vec<&FoundRun> = found.iter().collect();
        found.sort_by_key(|run| (run.boot, run.key));
        for run in found {
            held.insert_before_live(run, run.boot);
        }
        held
    }

    fn insert_before_live(&mut self, run: &FoundRun, boot: u64) {
        let live = self
            .stretches
            .pop_back()
            .expect("there is always a live run");
        for row in &run.rows {
            let goes_on = self.stretches.back().is_some_and(|last| {
                last.key == run.key && last.boot == boot && last.end() == row.seq
            });
            if !goes_on {
                self.stretches
                    .push_back(Stretch::empty(run.key, boot, row.seq));
            }
            let last = self.stretches.back_mut().expect("it was just made");
            last.recoded = true;
            let entry = Entry::new(row.bytes, row.ts_ms);
            self.bytes += entry.cost();
            self.count += 1;
            self.unsent += 1;
            last.entries.push_back(entry);
            last.newest_sent = row.seq;
        }
        self.stretches.push_back(live);
    }

    /// Takes in runs that were found only now that the live one may have been sent: they come after
    /// what is held, as runs of their own, and what is new after them as another one.
    pub(super) fn adopt(&mut self, found: &[FoundRun]) {
        let live = self.live();
        let keys = found.iter().map(|run| run.key).max().unwrap_or(0);
        let mut boot = live.boot;
        let key = live.key.max(keys);
        self.stretches.push_back(Stretch::empty(key, boot, 1));
        let mut found: Vec<&FoundRun> = found.iter().collect();
        found.sort_by_key(|run| (run.boot, run.key));
        for run in found {
            boot += 1;
            self.insert_before_live(run, boot);
        }
        let key = key.max(boot) + 1;
        let live = self
            .stretches
            .back_mut()
            .expect("there is always a live run");
        live.boot = boot + 1;
        live.key = key;
        live.renamed = true;
        self.stretches
            .retain(|stretch| !stretch.is_empty() || stretch.key == key);
    }

    /// Gives every stretch a key beyond `key`. Only for samples that are not on disk.
    pub(super) fn raise_keys(&mut self, key: u64) -> u64 {
        let lowest = self.front().key;
        let by = (key + 1).saturating_sub(lowest);
        for stretch in &mut self.stretches {
            stretch.key += by;
            stretch.renamed |= by > 0;
            stretch.recoded |= by > 0;
        }
        by
    }

    /// The oldest stretch. Empty only when nothing is held.
    pub(super) fn front(&self) -> &Stretch {
        self.stretches.front().expect("there is always a live run")
    }

    /// The stretch that takes what is new.
    pub(super) fn live(&self) -> &Stretch {
        self.stretches.back().expect("there is always a live run")
    }

    /// Whether samples are held before the live stretch.
    pub(super) fn has_older(&self) -> bool {
        self.stretches.len() > 1
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn unsent(&self) -> usize {
        self.unsent
    }

    /// Whether `boot` is one of ours.
    pub(super) fn knows(&self, boot: u64) -> bool {
        self.stretches.iter().any(|stretch| stretch.boot == boot)
    }

    /// The boots of the runs that moved, by their keys.
    pub(super) fn moved(&self) -> Vec<(u64, u64)> {
        let mut moved: Vec<(u64, u64)> = self
            .stretches
            .iter()
            .filter(|stretch| stretch.renamed)
            .map(|stretch| (stretch.key, stretch.boot))
            .collect();
        moved.dedup();
        moved
    }

    /// The time of the oldest sample, in unix seconds.
    pub(super) fn oldest_ts_seconds(&self) -> Option<u32> {
        self.front().entries.front().map(|entry| entry.ts_seconds)
    }

    /// The time from the oldest sample to the newest.
    pub(super) fn span_seconds(&self) -> u32 {
        let newest = self.live().entries.back().map(|entry| entry.ts_seconds);
        match (self.oldest_ts_seconds(), newest) {
            (Some(oldest), Some(newest)) => newest.saturating_sub(oldest),
            _ => 0,
        }
    }

    /// Takes in the next live sample, with the number that [`Stretch::end`] told.
    pub(super) fn push(&mut self, bytes: usize, ts_ms: u64) -> Place {
        let live = self
            .stretches
            .back_mut()
            .expect("there is always a live run");
        let place = live.place(live.end());
        let entry = Entry::new(bytes, ts_ms);
        self.bytes += entry.cost();
        self.count += 1;
        self.unsent += 1;
        live.entries.push_back(entry);
        place
    }

    /// Lets go of the oldest sample.
    pub(super) fn release_oldest(&mut self) -> Option<Place> {
        let front = self
            .stretches
            .front_mut()
            .expect("there is always a live run");
        let entry = front.entries.pop_front()?;
        let place = front.place(front.first);
        front.first += 1;
        self.forget(entry);
        self.drop_empty_front();
        Some(place)
    }

    fn drop_empty_front(&mut self) {
        while self.has_older() && self.front().is_empty() {
            self.stretches.pop_front();
        }
    }

    fn forget(&mut self, entry: Entry) {
        self.bytes -= entry.cost();
        self.count -= 1;
        self.unsent -= usize::from(!entry.is_sent());
    }

    /// Whether `mark` covers the oldest sample.
    pub(super) fn is_covered(&self, mark: Committed) -> bool {
        let front = self.front();
        !front.is_empty() && (front.boot, front.first) <= (mark.boot, mark.seq)
    }

    /// Notes that a sample goes out. Tells whether it did before.
    pub(super) fn note_sent(&mut self, place: Place) -> bool {
        let Some(stretch) = self
            .stretches
            .iter_mut()
            .find(|stretch| stretch.holds(place))
        else {
            return false;
        };
        stretch.newest_sent = stretch.newest_sent.max(place.seq);
        let index = stretch.index(place.seq);
        let entry = &mut stretch.entries[index];
        let before = entry.is_sent();
        entry.bytes |= SENT;
        self.unsent -= usize::from(!before);
        before
    }

    /// Whether the sample is held.
    pub(super) fn holds(&self, place: Place) -> bool {
        self.stretches.iter().any(|stretch| stretch.holds(place))
    }

    /// The boot that the sample carries.
    pub(super) fn boot_of(&self, place: Place) -> Option<u64> {
        let stretch = self.stretches.iter().find(|stretch| stretch.holds(place));
        stretch.map(|stretch| stretch.boot)
    }

    /// The oldest sample that is not `kept`.
    pub(super) fn first_not(&self, kept: impl Fn(Place) -> bool) -> Option<Place> {
        self.stretches
            .iter()
            .flat_map(|stretch| (stretch.first..stretch.end()).map(|seq| stretch.place(seq)))
            .find(|place| !kept(*place))
    }

    /// Takes one sample out, wherever it is. Tells whether it was there.
    pub(super) fn take_out(&mut self, place: Place) -> bool {
        let Some(at) = self
            .stretches
            .iter()
            .position(|stretch| stretch.holds(place))
        else {
            return false;
        };
        let is_live = at + 1 == self.stretches.len();
        let stretch = &mut self.stretches[at];
        let index = stretch.index(place.seq);
        if index == 0 {
            let entry = stretch.entries.pop_front().expect("it holds the sample");
            stretch.first += 1;
            if stretch.is_empty() && !is_live {
                self.stretches.remove(at);
            }
            self.forget(entry);
            return true;
        }
        let mut tail = stretch.entries.split_off(index);
        let entry = tail.pop_front().expect("it holds the sample");
        let newest_sent = stretch.newest_sent;
        let rest = Stretch {
            key: stretch.key,
            boot: stretch.boot,
            first: place.seq + 1,
            entries: tail,
            newest_sent: newest_sent.max(place.seq),
            recoded: stretch.recoded,
            renamed: stretch.renamed,
        };
        if !rest.is_empty() || is_live {
            self.stretches.insert(at + 1, rest);
        }
        self.forget(entry);
        true
    }

    /// Moves every run that does not come after `boot` behind it, in order, the first of them by
    /// `leap` more than it must. Tells whether any had to move.
    pub(super) fn move_behind(&mut self, boot: u64, mut leap: u64) -> bool {
        let (mut last, mut before) = (boot, None);
        let mut any = false;
        for stretch in &mut self.stretches {
            // The parts of one run stay one run.
            let same_run = before == Some((stretch.key, stretch.boot));
            let from = stretch.boot;
            before = Some((stretch.key, from));
            if same_run {
                stretch.boot = last;
            } else if stretch.boot <= last {
                stretch.boot = last + 1 + std::mem::take(&mut leap);
                any = true;
            }
            if stretch.boot != from {
                stretch.renamed = true;
                stretch.recoded = true;
            }
            last = stretch.boot;
        }
        any
    }

    /// Nothing of the live run was taken by anyone: what was sent of it counts no more.
    pub(super) fn forget_sending_live(&mut self) {
        let live = self
            .stretches
            .back_mut()
            .expect("there is always a live run");
        live.newest_sent = live.first - 1;
        for entry in &mut live.entries {
            self.unsent += usize::from(entry.is_sent());
            entry.bytes &= !SENT;
        }
    }
}

impl Entry {
    fn new(bytes: usize, ts_ms: u64) -> Self {
        Self {
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX) & !SENT,
            ts_seconds: u32::try_from(ts_ms / 1000).unwrap_or(u32::MAX),
        }
    }

    fn is_sent(self) -> bool {
        self.bytes & SENT != 0
    }

    fn cost(self) -> u64 {
        u64::from(self.bytes & !SENT) + ENTRY_BYTES
    }
}
