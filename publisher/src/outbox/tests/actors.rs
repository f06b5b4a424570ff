//! Who plays with the outbox in its world: an ingester by the contract's rules, and a disk that fails.

use std::collections::BTreeMap;

use super::*;

/// The ingester's rules, as the contract has them.
#[derive(Default)]
pub(super) struct Ingester {
    pub(super) up: bool,
    /// In Redis.
    pub(super) committed: Option<(u64, u64)>,
    /// The times of the samples, which are their names in this world.
    pub(super) stored: Vec<u64>,
    /// In memory.
    pub(super) taken: Option<(u64, u64)>,
    pub(super) pending: Vec<u64>,
    pub(super) last_gap: Option<((u64, u64), Instant)>,
    pub(super) last_repeat: Option<Instant>,
}

impl Ingester {
    pub(super) fn kill(&mut self) {
        self.up = false;
        self.pending.clear();
    }

    pub(super) fn start(&mut self) {
        if !self.up {
            *self = Self {
                up: true,
                committed: self.committed,
                taken: self.committed,
                stored: std::mem::take(&mut self.stored),
                ..Self::default()
            };
        }
    }

    pub(super) fn commit(&mut self) -> Option<Committed> {
        if !self.up || self.pending.is_empty() {
            return None;
        }
        self.stored.append(&mut self.pending);
        self.committed = self.taken;
        self.committed.map(|(boot, seq)| mark(boot, seq, false))
    }

    pub(super) fn take(&mut self, payload: &[u8], now: Instant) -> Option<Committed> {
        let sample = Sample::decode(payload).unwrap();
        let place = sample.place().unwrap();
        let (boot, seq) = self.taken.unwrap_or((0, 0));
        let old = place.boot < boot || (place.boot == boot && place.seq <= seq);
        if old {
            let soon = |at| now - at < Duration::from_secs(1);
            if self.last_repeat.is_some_and(soon) {
                return None;
            }
            self.last_repeat = Some(now);
            return self.committed.map(|(boot, seq)| mark(boot, seq, false));
        }
        let next = place.boot == boot && place.seq == seq + 1;
        if next || place.seq == place.first {
            self.taken = Some((place.boot, place.seq));
            self.pending.push(sample.ts.unwrap());
            return None;
        }
        // A mark never speaks of what is taken and not yet committed, not even in a wish.
        let missing = self
            .committed
            .filter(|(boot, _)| *boot == place.boot)
            .unwrap_or((place.boot, 0));
        let told = self
            .last_gap
            .is_some_and(|(gap, at)| gap == missing && now - at < 2000 * MS);
        if told {
            return None;
        }
        self.last_gap = Some((missing, now));
        Some(mark(missing.0, missing.1, true))
    }
}

/// The disk of the model: what is durable, and what was ordered and not yet done.
#[derive(Default)]
pub(super) struct FakeDisk {
    pub(super) rows: BTreeMap<(u64, u64), (u64, Vec<u8>)>,
    pub(super) moved: BTreeMap<u64, u64>,
    pub(super) boots: Vec<u64>,
    pub(super) orders: VecDeque<Order>,
    pub(super) hangs: bool,
    /// How many orders fail before one is done.
    pub(super) failing: usize,
}

impl FakeDisk {
    pub(super) fn found(&self) -> Found {
        let mut runs: Vec<FoundRun> = Vec::new();
        for ((key, seq), (ts_ms, payload)) in &self.rows {
            let row = FoundRow {
                seq: *seq,
                ts_ms: *ts_ms,
                bytes: payload.len(),
            };
            match runs.last_mut() {
                Some(run) if run.key == *key => run.rows.push(row),
                _ => runs.push(FoundRun {
                    key: *key,
                    boot: self.moved.get(key).copied().unwrap_or(*key),
                    rows: vec![row],
                }),
            }
        }
        Found {
            boots: self.boots.clone(),
            runs,
            ..Found::default()
        }
    }

    pub(super) fn apply(&mut self, order: Order) -> Report {
        if self.failing > 0 {
            self.failing -= 1;
            return Report::Failed {
                failure: DiskFailure {
                    reason: "fails".to_owned(),
                    mend: "wait",
                },
                reading: matches!(order, Order::Read { .. }),
            };
        }
        match order {
            Order::Open => Report::Found(self.found()),
            Order::Begin(_) => Report::Begun,
            Order::Commit(batch) => {
                for (key, boot) in batch.moved {
                    self.moved.insert(key, boot);
                    self.boots.extend([key, boot]);
                }
                for row in batch.write {
                    let place = (row.place.key, row.place.seq);
                    let before = self.rows.insert(place, (row.ts_ms, row.payload.to_vec()));
                    assert!(before.is_none(), "{place:?} is written twice");
                }
                for (key, upto) in batch.remove {
                    self.rows
                        .retain(|place, _| place.0 != key || place.1 > upto);
                }
                Report::Kept { file_bytes: 1 }
            }
            Order::Read { from, end, .. } => Report::Read(
                (from.seq..end.min(from.seq + 5))
                    .map(|seq| {
                        let row = self.rows.get(&(from.key, seq));
                        let payload = row.map(|(_, payload)| payload.clone());
                        (Place { seq, ..from }, payload)
                    })
                    .collect(),
            ),
            Order::Discard => {
                self.rows.clear();
                self.moved.clear();
                Report::Discarded
            }
        }
    }
}
