//! The order of a node's samples as bytes, and back.
//!
//! ```text
//! placed, timed   0, or 1 and two whole numbers
//! least           0, or 1, two signed numbers and since when: past
//! run             its length: byte  its key: two whole numbers  its delay: signed
//! ```

use super::{Key, Order, RHYTHM, Run};
use crate::evaluator::kept::bytes::{Packer, Unpacker};

impl Order {
    pub(in crate::evaluator) fn pack(&self, to: &mut Packer, kept_ms: u64) {
        for key in [self.placed, self.timed] {
            to.byte(u8::from(key.is_some()));
            if let Some((first, second)) = key {
                to.whole(first);
                to.whole(second);
            }
        }
        to.byte(u8::from(self.least.is_some()));
        if let Some([recent, before]) = self.least {
            to.signed(recent);
            to.signed(before);
            to.past(self.least_since_ms, kept_ms);
        }
        to.byte(self.run.length);
        to.whole(self.run.key.0);
        to.whole(self.run.key.1);
        to.signed(self.run.delay_ms);
    }

    /// The order that comes next; `None`: there is none.
    pub(in crate::evaluator) fn unpack(from: &mut Unpacker<'_>, kept_ms: u64) -> Option<Self> {
        let (placed, timed) = (key(from)?, key(from)?);
        let (least, least_since_ms) = match from.byte()? {
            0 => (None, 0),
            _ => (Some([from.signed()?, from.signed()?]), from.past(kept_ms)?),
        };
        let run = Run {
            length: from.byte()?.min(RHYTHM),
            key: (from.whole()?, from.whole()?),
            delay_ms: from.signed()?,
        };
        Some(Self {
            placed,
            timed,
            least,
            least_since_ms,
            run,
        })
    }
}

fn key(from: &mut Unpacker<'_>) -> Option<Option<Key>> {
    match from.byte()? {
        0 => Some(None),
        _ => Some(Some((from.whole()?, from.whole()?))),
    }
}
