//! NVIDIA's GPUs over time: when the library is opened, and which of them are lost, asleep, or back.
//!
//! A library that is absent or whose driver fails is left alone for five minutes. A GPU that is
//! lost is asked again each minute, and the library is opened anew every five minutes while one is
//! lost, for an open one may never take a GPU back. The other GPUs go on.
//!
//! One that the kernel put to sleep is not asked, because the question would wake it. And where the
//! kernel has ever done so, as in laptops, an open library would keep it awake: when such GPUs have
//! nothing to do the library is closed, and they are asked once a minute until they sleep. Where some
//! of several GPUs sleep, they are woken once, when the library is opened for the others.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hostbus_wire::Name;
use tracing::info;

use super::nvml::{Library, Trouble};
use super::pci::{self, Pci, Slot};
use super::processes::Process;
use super::roster::{Board, Roster};
use crate::collectors::{Pass, Presence};
use crate::error::{CollectorError, DriverError};
use crate::events;
use crate::selection::Selection;

/// How long a library that is absent or fails is left alone.
pub(super) const OPEN_AGAIN: Duration = Duration::from_secs(300);
/// How long a lost GPU is left alone.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(60);
/// How long GPUs that may sleep and have nothing to do are left alone.
pub(super) const REST: Duration = Duration::from_secs(60);
/// How long an Xid that is seen again and again is told once.
const TELL_XID_AGAIN: Duration = Duration::from_secs(3600);

/// NVIDIA's GPUs.
pub(super) struct Nvidia {
    library: Option<PathBuf>,
    pci: Pci,
    roster: Roster,
    state: State,
    /// Why there is nothing, as it was last logged.
    logged: Option<&'static str>,
}

enum State {
    Unopened,
    /// Not opened because all GPUs sleep.
    Asleep(Vec<Slot>),
    Open(Session),
    /// Closed so that GPUs with nothing to do may go to sleep.
    Resting {
        until: Instant,
        slots: Vec<Slot>,
    },
    Closed {
        until: Instant,
        why: Why,
    },
}

/// The open library, and who its GPUs are.
struct Session {
    library: Library,
    seats: Vec<Seat>,
    opened: Instant,
    /// All GPUs may sleep, and had nothing to do.
    idle: bool,
}

#[derive(Clone, Copy)]
struct Seat {
    /// The library's number.
    index: usize,
    /// The place on the roster.
    place: usize,
}

/// Why no library is open.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Why {
    /// The host has no NVIDIA GPU that could be asked.
    Nothing(&'static str),
    /// Its GPUs may go to sleep.
    Rest,
    Failure(DriverError),
}

impl Why {
    fn outcome(self) -> Result<Presence, CollectorError> {
        match self {
            Self::Nothing(why) => Ok(Presence::Nothing(why.to_owned())),
            Self::Rest => Ok(Presence::Here),
            Self::Failure(error) => Err(error.into()),
        }
    }
}

const NO_GPU: &str = "no NVIDIA GPU";
const NO_LIBRARY: &str = "no NVIDIA library on this host";
const ALL_ASLEEP: &str = "NVIDIA's GPUs are asleep, and left so";
const ALL_LOST: &str = "NVIDIA's GPUs are lost";
const ALL_EXCLUDED: &str = "NVIDIA's GPUs are excluded in the settings";

/// What became of the GPUs in one turn.
#[derive(Default)]
struct Tally {
    read: usize,
    asleep: usize,
    excluded: usize,
    /// With something to do, or that never sleep.
    busy: usize,
    /// Places on the roster of those that were lost just now, and why.
    newly_lost: Vec<(usize, &'static str)>,
}

impl Nvidia {
    /// The kernel lists PCI devices in the folder `devices`.
    pub(super) fn new(library: Option<PathBuf>, devices: &Path) -> Self {
        Self {
            library,
            pci: Pci::at(devices),
            roster: Roster::default(),
            state: State::Unopened,
            logged: None,
        }
    }

    /// Adds the GPUs to the pass.
    pub(super) fn collect(
        &mut self,
        pass: &mut Pass,
        selection: &Selection,
    ) -> Result<Presence, CollectorError> {
        let read = self
            .open(pass)
            .and_then(|()| self.ask_all(pass, selection).map_err(Trouble::into))
            .map_err(|why| self.close(pass.now, why));
        read.map_or_else(Why::outcome, Ok)
    }

    /// The processes of the GPUs that work. `None` when no library is open.
    pub(super) fn processes(&self, selection: &Selection) -> Option<Vec<(Name, Process)>> {
        let State::Open(session) = &self.state else {
            return None;
        };
        let mut all = Vec::new();
        for &Seat { index, place } in &session.seats {
            let board = &self.roster.boards[place];
            let works = board.lost_until.is_none() && !self.pci.has_asleep(&board.identity.slot);
            if works && selection.takes(board.name.as_str()) {
                let processes = session.library.processes(index).into_iter();
                all.extend(processes.map(|process| (board.name.clone(), process)));
            }
        }
        Some(all)
    }

    /// Whether the GPUs are left alone for a moment, and nothing new is known of them.
    pub(super) fn rests(&self) -> bool {
        matches!(self.state, State::Resting { .. })
    }

    /// Sees to it that the library is open.
    fn open(&mut self, pass: &mut Pass) -> Result<(), Why> {
        let now = pass.now;
        match &self.state {
            State::Closed { until, why } if now < *until => return Err(why.clone()),
            State::Asleep(slots) if self.pci.all_asleep(slots) => {
                return Err(Why::Nothing(ALL_ASLEEP));
            }
            State::Resting { until, slots } if now < *until && !self.pci.all_asleep(slots) => {
                return Err(Why::Rest);
            }
            State::Open(session) if session.idle => {
                self.state = State::Resting {
                    until: now + REST,
                    slots: session.slots(&self.roster).cloned().collect(),
                };
                return Err(Why::Rest);
            }
            State::Open(session) => {
                let lost = self.roster.boards.iter().any(Board::is_lost);
                if !lost || now.saturating_duration_since(session.opened) < OPEN_AGAIN {
                    return Ok(());
                }
            }
            _ => {}
        }
        // An old one goes before the new one comes: the library counts its users.
        self.state = State::Unopened;
        match self.pci.nvidia() {
            pci::Nvidia::Slots(slots) if slots.is_empty() && self.library.is_none() => {
                return Err(Why::Nothing(NO_GPU));
            }
            pci::Nvidia::Slots(slots) if !slots.is_empty() && self.pci.all_asleep(&slots) => {
                self.state = State::Asleep(slots);
                return Err(Why::Nothing(ALL_ASLEEP));
            }
            _ => {}
        }
        let library = Library::open(self.library.as_deref())?;
        let seats = self.seat(&library, pass)?;
        self.state = State::Open(Session {
            library,
            seats,
            opened: now,
            idle: false,
        });
        Ok(())
    }

    /// Leaves the library alone for a while, unless it is for another reason than its own.
    fn close(&mut self, now: Instant, why: Why) -> Why {
        if let Why::Nothing(reason) = why
            && self.logged != Some(reason)
        {
            info!(reason, "no NVIDIA GPUs are collected");
            self.logged = Some(reason);
        }
        if matches!(self.state, State::Unopened | State::Open(_)) {
            self.state = State::Closed {
                until: now + OPEN_AGAIN,
                why: why.clone(),
            };
        }
        why
    }

    /// Finds out who the library's GPUs are, and which are missing.
    fn seat(&mut self, library: &Library, pass: &mut Pass) -> Result<Vec<Seat>, Why> {
        let mut found = Vec::new();
        let mut refused = None;
        for (index, device) in library.devices().enumerate() {
            match device {
                Ok(identity) => found.push((index, Some(identity.clone()))),
                Err(Trouble::Lost(_)) => found.push((index, None)),
                // One that another container has.
                Err(trouble) => refused = Some(trouble.clone()),
            }
        }
        if found.is_empty() {
            return Err(refused.map_or(Why::Nothing(NO_GPU), Why::from));
        }
        let places = self.roster.seat(&found);
        let seats = found.iter().zip(places);
        let seats: Vec<Seat> = seats
            .map(|(&(index, _), place)| Seat { index, place })
            .collect();
        for (place, board) in self.roster.boards.iter_mut().enumerate() {
            if !seats.iter().any(|seat| seat.place == place) && !board.is_lost() {
                board.lost_until = Some(pass.now);
                let event = events::gpu_lost(pass.ts, &board.name, "is no longer there", None);
                pass.events.push(event);
            }
        }
        Ok(seats)
    }

    fn ask_all(&mut self, pass: &mut Pass, selection: &Selection) -> Result<Presence, Trouble> {
        let mut tally = Tally::default();
        let State::Open(session) = &mut self.state else {
            return Ok(tally.presence());
        };
        for &Seat { index, place } in &session.seats {
            let board = &mut self.roster.boards[place];
            if !selection.takes(board.name.as_str()) {
                tally.excluded += 1;
                continue;
            }
            if board.lost_until.is_some_and(|until| pass.now < until) {
                continue;
            }
            if self.pci.has_asleep(&board.identity.slot) {
                tally.asleep += 1;
                continue;
            }
            match session.library.read(index, board.name.clone()) {
                Ok(gpu) => {
                    tally.read += 1;
                    let naps = self.pci.has_slept(&board.identity.slot);
                    if !naps || gpu.usage_percent != Some(0.0) {
                        tally.busy += 1;
                    }
                    if board.lost_until.take().is_some() {
                        pass.events.push(events::gpu_back(pass.ts, &board.name));
                    }
                    pass.sample.gpus.push(gpu);
                }
                Err(Trouble::Lost(reason)) => {
                    if !board.is_lost() {
                        tally.newly_lost.push((place, reason));
                    }
                    board.lost_until = Some(pass.now + ASK_AGAIN);
                }
                Err(trouble) => return Err(trouble),
            }
        }
        session.idle = tally.read > 0 && tally.busy == 0;
        tell(session, &mut self.roster, &tally.newly_lost, pass);
        Ok(tally.presence())
    }
}

impl Session {
    fn slots<'r>(&self, roster: &'r Roster) -> impl Iterator<Item = &'r Slot> {
        let boards = self.seats.iter().map(|seat| &roster.boards[seat.place]);
        boards.filter_map(|board| board.identity.slot.as_ref())
    }
}

/// Tells of GPUs that were lost just now, and of critical errors.
fn tell(session: &Session, roster: &mut Roster, lost: &[(usize, &str)], pass: &mut Pass) {
    let place_of = |index| {
        let seat = session.seats.iter().find(|seat| seat.index == index)?;
        Some(seat.place)
    };
    let xids = session.library.xids().into_iter().map(|(index, xid)| {
        let only_lost = || (lost.len() == 1).then(|| lost[0].0);
        (index.and_then(place_of).or_else(only_lost), xid)
    });
    let xids: Vec<(Option<usize>, u64)> = xids.collect();
    for (place, reason) in lost {
        let of_it = xids.iter().rfind(|(whose, _)| *whose == Some(*place));
        let name = &roster.boards[*place].name;
        let event = events::gpu_lost(pass.ts, name, reason, of_it.map(|(_, xid)| *xid));
        pass.events.push(event);
    }
    for (place, xid) in xids {
        let Some(place) = place.filter(|place| lost.iter().all(|(lost, _)| lost != place)) else {
            continue;
        };
        let board = &mut roster.boards[place];
        if !board.has_told(xid, pass.now) {
            board.xid = Some((xid, pass.now));
            pass.events.push(events::gpu_xid(pass.ts, &board.name, xid));
        }
    }
}

impl Board {
    fn is_lost(&self) -> bool {
        self.lost_until.is_some()
    }

    fn has_told(&self, xid: u64, now: Instant) -> bool {
        self.xid.is_some_and(|(told, at)| {
            told == xid && now.saturating_duration_since(at) < TELL_XID_AGAIN
        })
    }
}

impl Tally {
    fn presence(&self) -> Presence {
        let why = match self {
            Self { read: 1.., .. } => return Presence::Here,
            Self { asleep: 1.., .. } => ALL_ASLEEP,
            Self { excluded: 1.., .. } => ALL_EXCLUDED,
            _ => ALL_LOST,
        };
        Presence::Nothing(why.to_owned())
    }
}

impl From<Trouble> for Why {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::NoLibrary => Self::Nothing(NO_LIBRARY),
            other => Self::Failure(other.into_error()),
        }
    }
}
