//! Silences as they come and go on the bus.
//!
//! One that is given by `seconds` ends so long after it came, and only who heard it come knows when that
//! was. So the notifier that is active puts it back with the time at which it ends: a notifier that hears
//! it later, or that kept nothing over a restart, ends it then, too. `seconds` stays beside `until`, and
//! what comes first counts, so that a clock that is ahead can't make it longer.
//!
//! Each message that names no end is answered once, and an answer names its end: there is nothing to
//! answer to it. Where somebody changed or took away the silence while the answer was on its way, so that
//! it stands on the bus in the place of what was meant, that is put back, once as well.

use std::collections::BTreeMap;

use hostbus_wire::silence::Silence;
use hostbus_wire::{SiteId, SiteTopic};

use super::agenda::Deadline;
use super::silences::{Entry, Held, SilenceId};
use super::{Clear, Dispatcher, KEEP_SILENCE_MS, MAX_SILENCES, Refused};

/// What this notifier said of silences, until it is heard.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// There may be silences to be answered.
    due: bool,
    under_way: BTreeMap<SilenceId, Silence>,
    /// What is to be put back.
    again: BTreeMap<SilenceId, Silence>,
}

/// A silence that is to be put on the bus, retained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its site.
    pub site: SiteId,
    /// Its id.
    pub id: Box<str>,
    /// How it reads.
    pub silence: Silence,
}

/// Whether only who heard it come knows when it is over.
fn names_no_end(silence: &Silence) -> bool {
    silence.seconds.is_some() && silence.until.is_none() && silence.from.is_none()
}

impl Dispatcher {
    /// The silence `id` of a site is this; `None`: it is gone. `retained`: it stood on the bus before we came.
    /// What is given by `seconds` begins with its coming; when the same comes once more it begins anew.
    ///
    /// # Errors
    /// It makes no sense, or there are too many. One of the same id that was taken before is gone then.
    pub fn silence(
        &mut self,
        site: &SiteId,
        id: &str,
        silence: Option<Silence>,
        retained: bool,
        now_ms: u64,
    ) -> Result<(), Refused> {
        self.mind_the_clock(now_ms);
        let id = SilenceId {
            site: site.clone(),
            id: id.into(),
        };
        let Some(silence) = silence else {
            self.put_silence(&id, None, now_ms);
            return Ok(());
        };
        if self.answers.under_way.get(&id) == Some(&silence) {
            self.answers.under_way.remove(&id);
            if self.is_overtaken(&id, &silence) {
                return Ok(());
            }
        }
        if let Some(entry) = self.silences.get_mut(&id) {
            entry.heard = true;
            let again = !retained && names_no_end(&silence);
            if entry.held.silence == silence && !again {
                entry.unsaid = names_no_end(&silence);
                self.answers.due |= entry.unsaid;
                return Ok(());
            }
        } else if self.silences.len() >= MAX_SILENCES {
            return Err(Refused::too_many(&id.id, "silences", MAX_SILENCES));
        }
        match Held::new(silence, now_ms) {
            Ok(held) => {
                self.put_silence(&id, Some(held), now_ms);
                Ok(())
            }
            Err(error) => {
                self.put_silence(&id, None, now_ms);
                let id = id.id.into();
                Err(Refused::Silence { id, error })
            }
        }
    }

    /// Our answer has come. Whether it is not what is meant any more; then what is meant is put back.
    fn is_overtaken(&mut self, id: &SilenceId, answer: &Silence) -> bool {
        let Some(entry) = self.silences.get(id) else {
            self.clear.push(Clear {
                site: id.site.clone(),
                topic: SiteTopic::Silence(id.id.clone()),
            });
            return true;
        };
        if entry.unsaid {
            // It came anew, and is answered anew.
            return true;
        }
        let meant = &entry.held.silence;
        let asked = Silence {
            until: None,
            ..answer.clone()
        };
        let overtaken = *meant != asked && meant != answer;
        if overtaken {
            self.answers.again.insert(id.clone(), meant.clone());
        }
        overtaken
    }

    /// What is to be said of silences, for the notifier that is active: asked for, it counts as said.
    pub fn answers(&mut self) -> Vec<Answer> {
        let again = std::mem::take(&mut self.answers.again);
        let mut said: Vec<(SilenceId, Silence)> = again.into_iter().collect();
        if std::mem::take(&mut self.answers.due) {
            for (id, entry) in self.silences.iter_mut().filter(|(_, entry)| entry.unsaid) {
                entry.unsaid = false;
                let silence = Silence {
                    until: entry.held.over_ms(),
                    ..entry.held.silence.clone()
                };
                // Where answers do not come back it is not seen either that one was overtaken.
                if self.answers.under_way.len() < MAX_SILENCES {
                    let under_way = (id.clone(), silence.clone());
                    self.answers.under_way.extend([under_way]);
                }
                said.push((id.clone(), silence));
            }
        }
        let answer = |(SilenceId { site, id }, silence)| Answer { site, id, silence };
        said.into_iter().map(answer).collect()
    }

    /// The bus was joined again: all that stands there is heard, and what we said may be lost.
    pub(super) fn await_silences(&mut self) {
        for entry in self.silences.values_mut() {
            entry.heard = false;
        }
        self.answers = Answers::default();
    }

    pub(super) fn put_silence(&mut self, id: &SilenceId, held: Option<Held>, now_ms: u64) {
        self.answers.again.remove(id);
        let old = self.silences.remove(id).map(|mut old| {
            let deadline = Deadline::Silence(id.clone());
            self.agenda.wake(&mut old.wake_ms, None, deadline);
            old
        });
        self.changed.silences.insert(id.clone());
        if let Some(held) = held {
            let unsaid = names_no_end(&held.silence);
            let entry = Entry {
                held,
                holds: false,
                heard: true,
                unsaid,
                wake_ms: None,
            };
            self.answers.due |= entry.unsaid;
            self.silences.insert(id.clone(), entry);
            self.turn_silence(id, now_ms);
        }
        // Only now: between the old one and the new one nothing is told.
        if let Some(old) = old.filter(|old| old.holds) {
            self.settle_meant(&id.site, &old.held, now_ms);
        }
    }

    /// A silence may begin or end to hold.
    pub(super) fn turn_silence(&mut self, id: &SilenceId, now_ms: u64) {
        let Some(entry) = self.silences.get_mut(id) else {
            return;
        };
        let over_ms = entry.held.over_ms();
        if over_ms.is_some_and(|ms| ms.saturating_add(KEEP_SILENCE_MS) <= now_ms) {
            self.clear.push(Clear {
                site: id.site.clone(),
                topic: SiteTopic::Silence(id.id.clone()),
            });
            self.put_silence(id, None, now_ms);
            return;
        }
        let held_before = std::mem::replace(&mut entry.holds, entry.held.holds(now_ms));
        let next_ms = entry
            .held
            .same_until(now_ms)
            .or(over_ms.map(|ms| ms.saturating_add(KEEP_SILENCE_MS)));
        let deadline = Deadline::Silence(id.clone());
        self.agenda.wake(&mut entry.wake_ms, next_ms, deadline);
        if held_before != entry.holds {
            let held = entry.held.clone();
            self.settle_meant(&id.site, &held, now_ms);
        }
    }
}
