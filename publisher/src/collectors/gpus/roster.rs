//! Which GPU has which name.
//!
//! A name is the index that the driver gave the GPU when it was first seen. The driver numbers its
//! GPUs anew whenever it starts without one that is lost, so a GPU is known by its UUID, or the slot
//! it is in, and keeps its name for as long as the publisher runs.

use std::time::Instant;

use hostbus_wire::Name;

use super::pci::Slot;

/// What tells one GPU from another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uuid: Option<String>,
    pub(super) slot: Option<Slot>,
}

/// A GPU that was seen since the publisher started.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) number: usize,
    pub(super) name: Name,
    pub(super) identity: Identity,
    /// When it is tried again, if it is lost.
    pub(super) lost_until: Option<Instant>,
    /// The last Xid that was told, and when.
    pub(super) xid: Option<(u64, Instant)>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Roster {
    pub(super) boards: Vec<Board>,
}

impl Identity {
    /// Whether it is the same GPU. One that tells nothing of itself is none that is known.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (&self.uuid, &other.uuid) {
            (Some(one), Some(other)) => one == other,
            _ => self.slot.is_some() && self.slot == other.slot,
        }
    }

    fn is_known(&self) -> bool {
        self.uuid.is_some() || self.slot.is_some()
    }
}

impl Roster {
    /// Gives each GPU, by the driver's number, its place on the roster. `None` stands for one that is
    /// lost and can't say who it is. A GPU on the roster that is not among them keeps its place.
    pub(super) fn seat(&mut self, found: &[(usize, Option<Identity>)]) -> Vec<usize> {
        let mut taken = vec![false; self.boards.len()];
        // Those that are known first, so that no other takes their place.
        let mut seats: Vec<Option<usize>> = found
            .iter()
            .map(|(_, identity)| {
                let place = self.place_of(identity.as_ref()?, &taken)?;
                taken[place] = true;
                Some(place)
            })
            .collect();
        for (seat, (index, identity)) in seats.iter_mut().zip(found) {
            if seat.is_none() {
                let place = self.settle(*index, identity.clone().unwrap_or_default(), &mut taken);
                *seat = Some(place);
            }
        }
        seats.into_iter().flatten().collect()
    }

    fn place_of(&self, identity: &Identity, taken: &[bool]) -> Option<usize> {
        let boards = self.boards.iter().zip(taken);
        let mut free = boards.map(|(board, taken)| !taken && board.identity.is(identity));
        free.position(|matches| matches)
    }

    /// A place for one that is not known: one that it may have had before, or a new one.
    fn settle(&mut self, index: usize, identity: Identity, taken: &mut Vec<bool>) -> usize {
        if let Some(place) = self.place_before(index, &identity, taken) {
            taken[place] = true;
            if identity.is_known() {
                self.boards[place].identity = identity;
            }
            return place;
        }
        let number = self.free_number(index);
        self.boards.push(Board {
            number,
            name: number.to_string().parse().expect("digits are a name"),
            identity,
            lost_until: None,
            xid: None,
        });
        taken.push(true);
        taken.len() - 1
    }

    /// A lost GPU that can't say who it is may be any that is missing, best the one of its number. One
    /// that tells may be a lost one that never told.
    fn place_before(&self, index: usize, identity: &Identity, taken: &[bool]) -> Option<usize> {
        let free = || {
            let places = self.boards.iter().enumerate();
            places.filter(|(place, board)| {
                let untold = !board.identity.is_known() && board.lost_until.is_some();
                !taken[*place] && (!identity.is_known() || untold)
            })
        };
        let same_number = free().find(|(_, board)| board.number == index);
        same_number
            .or_else(|| free().next())
            .map(|(place, _)| place)
    }

    /// The index, or the lowest number above all names when another GPU has it.
    fn free_number(&self, index: usize) -> usize {
        let numbers = || self.boards.iter().map(|board| board.number);
        if numbers().all(|number| number != index) {
            return index;
        }
        numbers().max().map_or(0, |number| number + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(letter: char) -> Option<Identity> {
        Some(Identity {
            uuid: Some(format!("GPU-{letter}")),
            slot: None,
        })
    }

    /// Seats GPUs that the driver numbers from 0.
    fn seat(roster: &mut Roster, found: &[Option<Identity>]) -> Vec<usize> {
        let found: Vec<_> = found.iter().cloned().enumerate().collect();
        roster.seat(&found)
    }

    fn names(roster: &Roster, seats: &[usize]) -> Vec<String> {
        let names = seats.iter().map(|&seat| roster.boards[seat].name.as_str());
        names.map(str::to_owned).collect()
    }

    #[test]
    fn a_gpu_keeps_its_name_when_the_driver_counts_anew() {
        let mut roster = Roster::default();
        let all = [gpu('a'), gpu('b'), gpu('c')];
        let seats = seat(&mut roster, &all);
        assert_eq!(names(&roster, &seats), ["0", "1", "2"]);
        let seats = seat(&mut roster, &all[1..]);
        assert_eq!(names(&roster, &seats), ["1", "2"]);
        let seats = seat(&mut roster, &all);
        assert_eq!(names(&roster, &seats), ["0", "1", "2"]);
    }

    #[test]
    fn a_new_gpu_never_takes_a_name_that_was_anothers() {
        let mut roster = Roster::default();
        seat(&mut roster, &[gpu('a'), gpu('b')]);
        let seats = seat(&mut roster, &[gpu('x'), gpu('b')]);
        assert_eq!(names(&roster, &seats), ["2", "1"]);
        let seats = seat(&mut roster, &[gpu('a'), gpu('b'), gpu('x'), gpu('y')]);
        assert_eq!(names(&roster, &seats), ["0", "1", "2", "3"]);
    }

    #[test]
    fn one_that_was_lost_from_the_start_gets_its_number_when_it_comes_back() {
        let mut roster = Roster::default();
        let seats = seat(&mut roster, &[None, gpu('b')]);
        roster.boards[seats[0]].lost_until = Some(Instant::now());
        let seats = seat(&mut roster, &[gpu('b')]);
        assert_eq!(names(&roster, &seats), ["1"]);
        let seats = seat(&mut roster, &[gpu('a'), gpu('b')]);
        assert_eq!(names(&roster, &seats), ["0", "1"]);
        // And from now on it is known.
        let seats = seat(&mut roster, &[gpu('b'), gpu('a')]);
        assert_eq!(names(&roster, &seats), ["1", "0"]);
    }

    #[test]
    fn one_that_cannot_say_who_it_is_is_one_that_is_missing() {
        let mut roster = Roster::default();
        seat(&mut roster, &[gpu('a'), gpu('b'), gpu('c')]);
        let seats = seat(&mut roster, &[gpu('a'), None, gpu('c')]);
        assert_eq!(names(&roster, &seats), ["0", "1", "2"]);
        let seats = seat(&mut roster, &[None, gpu('c')]);
        assert_eq!(names(&roster, &seats), ["0", "2"]);
    }

    #[test]
    fn two_that_claim_to_be_one_are_two() {
        let mut roster = Roster::default();
        let twins = [gpu('a'), gpu('a')];
        let seats = seat(&mut roster, &twins);
        assert_eq!(names(&roster, &seats), ["0", "1"]);
        let seats = seat(&mut roster, &twins);
        assert_eq!(names(&roster, &seats), ["0", "1"]);
    }

    #[test]
    fn the_slot_tells_where_the_uuid_does_not() {
        let at = |bus: &str| {
            Some(Identity {
                uuid: None,
                slot: bus.parse().ok(),
            })
        };
        let mut roster = Roster::default();
        seat(
            &mut roster,
            &[at("00000000:17:00.0"), at("00000000:65:00.0")],
        );
        let seats = seat(&mut roster, &[at("00000000:65:00.0")]);
        assert_eq!(names(&roster, &seats), ["1"]);
    }
}
