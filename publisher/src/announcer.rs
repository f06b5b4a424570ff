//! All that a publisher says besides samples, in which order, and until it is out. Sends nothing
//! itself.
//!
//! Status and inventory come first, so that nobody hears of an unknown node; then whoever waits for
//! an answer; then the rest. Of what stands retained only the newest is worth sending. What a
//! connection does not take is put back and waits for the next one.

use std::collections::VecDeque;

use hostbus_wire::control::{ConfigReported, Reply};
use hostbus_wire::details::Details;
use hostbus_wire::event::Event;
use hostbus_wire::health::Health;
use hostbus_wire::info::Info;
use hostbus_wire::status::Status;
use hostbus_wire::{EncodeError, NodeTopic, codec};

use crate::events::EventQueue;
use crate::topics::{Outlet, Topics};

/// How many replies wait. When there are more the oldest goes: its asker gave up first.
const MAX_REPLIES: usize = 64;

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Announcer {
    status_due: bool,
    info: Option<Description>,
    info_due: bool,
    report: Option<Vec<u8>>,
    replies: VecDeque<(Box<str>, Vec<u8>)>,
    events: EventQueue,
    health: Option<Vec<u8>>,
    /// The last table of each name.
    details: Vec<Table>,
}

/// The inventory as payload, and the run that it names.
#[derive(Debug)]
struct Description {
    payload: Vec<u8>,
    boot: Option<u64>,
}

#[derive(Debug)]
struct Table {
    name: &'static str,
    /// Empty: nobody makes the table any more, and what stands there retained is to go.
    payload: Vec<u8>,
    due: bool,
}

impl Table {
    fn stands(&self) -> bool {
        !self.payload.is_empty()
    }
}

/// Something to be sent.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) word: Word,
    pub(crate) payload: Vec<u8>,
}

/// What a letter says.
#[derive(Debug, PartialEq)]
pub(crate) enum Word {
    Status,
    Info { boot: Option<u64> },
    Report,
    Reply { id: Box<str> },
    Event(Event),
    Health,
    Details(&'static str),
}

impl Word {
    /// Where it goes.
    pub(crate) fn outlet(&self, topics: &Topics) -> Outlet {
        match self {
            Self::Status => topics.status.clone(),
            Self::Info { .. } => topics.outlet(NodeTopic::Info),
            Self::Report => topics.outlet(NodeTopic::ConfigReported),
            Self::Reply { id } => topics.outlet(NodeTopic::Reply(id.clone())),
            Self::Event(_) => topics.outlet(NodeTopic::Events),
            Self::Health => topics.health(),
            Self::Details(name) => topics.outlet(NodeTopic::Details((*name).into())),
        }
    }
}

impl Announcer {
    /// A new connection, whose broker may know nothing of us any more. The health and the report
    /// are not repeated here: they are made anew.
    pub(crate) fn on_connected(&mut self) {
        self.repeat_all();
        for table in &mut self.details {
            table.due = true;
        }
    }

    /// Says again all that there is to know of this host.
    fn repeat_all(&mut self) {
        self.info_due = true;
        self.repeat_all_but_info();
    }

    /// The same for when a new inventory comes by itself.
    pub(crate) fn repeat_all_but_info(&mut self) {
        self.status_due = true;
        for table in self.details.iter_mut().filter(|table| table.stands()) {
            table.due = true;
        }
    }

    pub(crate) fn repeat_status(&mut self) {
        self.status_due = true;
    }

    pub(crate) fn repeat_info(&mut self) {
        self.info_due = true;
    }

    pub(crate) fn describe(&mut self, info: &Info) -> Result<(), EncodeError> {
        self.info = Some(Description {
            payload: codec::encode(info)?,
            boot: info.boot,
        });
        self.info_due = true;
        Ok(())
    }

    /// The inventory as it was described last.
    pub(crate) fn described(&self) -> Option<Info> {
        let info = self.info.as_ref()?;
        codec::decode(&info.payload).ok()
    }

    pub(crate) fn report(&mut self, report: &ConfigReported) -> Result<(), EncodeError> {
        self.report = Some(codec::encode(report)?);
        Ok(())
    }

    pub(crate) fn reply(&mut self, reply: &Reply) -> Result<(), EncodeError> {
        if self.replies.len() == MAX_REPLIES {
            self.replies.pop_front();
        }
        let payload = codec::encode(reply)?;
        self.replies.push_back((reply.id.as_str().into(), payload));
        Ok(())
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    pub(crate) fn health(&mut self, health: &Health) -> Result<(), EncodeError> {
        self.health = Some(codec::encode(health)?);
        Ok(())
    }

    pub(crate) fn details(
        &mut self,
        name: &'static str,
        details: &Details,
    ) -> Result<(), EncodeError> {
        self.set_table(name, codec::encode(details)?);
        Ok(())
    }

    /// Nobody makes this table any more. One may stand there from an earlier run.
    pub(crate) fn end_details(&mut self, name: &'static str) {
        let ended = |table: &Table| table.name == name && !table.stands();
        if !self.details.iter().any(ended) {
            self.set_table(name, Vec::new());
        }
    }

    fn set_table(&mut self, name: &'static str, payload: Vec<u8>) {
        let table = Table {
            name,
            payload,
            due: true,
        };
        match self.details.iter_mut().find(|table| table.name == name) {
            Some(known) => *known = table,
            None => self.details.push(table),
        }
    }

    /// What to send next.
    pub(crate) fn next(&mut self) -> Result<Option<Letter>, EncodeError> {
        let letter = |word, payload| Ok(Some(Letter { word, payload }));
        if std::mem::take(&mut self.status_due) {
            return letter(Word::Status, Status::Online.as_str().into());
        }
        if let Some(info) = self.info.as_ref().filter(|_| self.info_due) {
            self.info_due = false;
            let boot = info.boot;
            return letter(Word::Info { boot }, info.payload.clone());
        }
        if let Some((id, payload)) = self.replies.pop_front() {
            return letter(Word::Reply { id }, payload);
        }
        if let Some(payload) = self.report.take() {
            return letter(Word::Report, payload);
        }
        if let Some(event) = self.events.take_oldest() {
            let payload = codec::encode(&event)?;
            return letter(Word::Event(event), payload);
        }
        if let Some(payload) = self.health.take() {
            return letter(Word::Health, payload);
        }
        if let Some(table) = self.details.iter_mut().find(|table| table.due) {
            table.due = false;
            return letter(Word::Details(table.name), table.payload.clone());
        }
        Ok(None)
    }

    /// A letter that did not go out. What has become known since is worth more.
    pub(crate) fn put_back(&mut self, letter: Letter) {
        match letter.word {
            Word::Status => self.status_due = true,
            Word::Info { .. } => self.info_due = true,
            Word::Report => {
                self.report.get_or_insert(letter.payload);
            }
            Word::Reply { id } => {
                if self.replies.len() < MAX_REPLIES {
                    self.replies.push_front((id, letter.payload));
                }
            }
            Word::Event(event) => self.events.put_back(event),
            Word::Health => {
                self.health.get_or_insert(letter.payload);
            }
            Word::Details(name) => {
                for table in self.details.iter_mut().filter(|table| table.name == name) {
                    table.due = true;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hostbus_wire::codec::Map;

    use super::*;
    use crate::events;

    fn reply(id: &str) -> Reply {
        Reply {
            id: id.to_owned(),
            ok: true,
            error: None,
            data: Map::new(),
        }
    }

    fn table(ts: u64) -> Details {
        Details {
            ts,
            columns: Vec::new(),
            rows: Vec::new(),
        }
    }

    fn report(revision: u64) -> ConfigReported {
        ConfigReported {
            revision,
            source: None,
            interval_ms: None,
            collectors: Map::new(),
            refused: Map::new(),
        }
    }

    fn words(announcer: &mut Announcer) -> Vec<Word> {
        std::iter::from_fn(|| announcer.next().unwrap())
            .map(|letter| letter.word)
            .collect()
    }

    fn full() -> Announcer {
        let mut announcer = Announcer::default();
        announcer.details("top", &table(1)).unwrap();
        announcer.event(events::samples_dropped(1));
        announcer.report(&report(1)).unwrap();
        announcer.reply(&reply("7")).unwrap();
        let info = Info {
            boot: Some(5),
            ..Info::default()
        };
        announcer.describe(&info).unwrap();
        announcer.on_connected();
        announcer
    }

    fn all() -> [Word; 6] {
        [
            Word::Status,
            Word::Info { boot: Some(5) },
            Word::Reply { id: "7".into() },
            Word::Report,
            Word::Event(events::samples_dropped(1)),
            Word::Details("top"),
        ]
    }

    #[test]
    fn a_host_is_known_before_anything_else_is_said_of_it() {
        let mut announcer = full();
        assert_eq!(words(&mut announcer), all());
        assert_eq!(words(&mut announcer), []);
    }

    #[test]
    fn what_a_connection_does_not_take_waits_in_its_place() {
        let mut announcer = full();
        for word in all() {
            for _ in 0..3 {
                let letter = announcer.next().unwrap().unwrap();
                assert_eq!(letter.word, word);
                announcer.put_back(letter);
            }
            announcer.next().unwrap();
        }
        assert_eq!(words(&mut announcer), []);
    }

    #[test]
    fn what_stands_retained_is_said_again_on_a_new_connection() {
        let mut announcer = full();
        words(&mut announcer);
        announcer.on_connected();
        assert_eq!(
            words(&mut announcer),
            [
                Word::Status,
                Word::Info { boot: Some(5) },
                Word::Details("top")
            ]
        );
    }

    #[test]
    fn a_table_that_nobody_makes_any_more_is_cleared_and_forgotten() {
        let mut announcer = full();
        words(&mut announcer);
        let cleared = |announcer: &mut Announcer| {
            std::iter::from_fn(|| announcer.next().unwrap())
                .filter(|letter| letter.word == Word::Details("top"))
                .map(|letter| letter.payload.is_empty())
                .collect::<Vec<_>>()
        };
        for _ in 0..3 {
            announcer.end_details("top");
        }
        assert_eq!(cleared(&mut announcer), [true]);
        announcer.end_details("top");
        announcer.repeat_all();
        assert!(cleared(&mut announcer).is_empty());
        // This broker may have been restored with the table.
        announcer.on_connected();
        assert_eq!(cleared(&mut announcer), [true]);
        announcer.details("top", &table(2)).unwrap();
        assert_eq!(cleared(&mut announcer), [false]);
    }

    #[test]
    fn the_newest_stands_for_those_before_it() {
        let mut announcer = Announcer::default();
        announcer.report(&report(1)).unwrap();
        let old = announcer.next().unwrap().unwrap();
        announcer.report(&report(2)).unwrap();
        announcer.put_back(old);
        let letter = announcer.next().unwrap().unwrap();
        let read: ConfigReported = codec::decode(&letter.payload).unwrap();
        assert_eq!(read.revision, 2);
        announcer.details("top", &table(1)).unwrap();
        announcer.details("top", &table(2)).unwrap();
        let letter = announcer.next().unwrap().unwrap();
        let read: Details = codec::decode(&letter.payload).unwrap();
        assert_eq!(read.ts, 2);
        assert_eq!(words(&mut announcer), []);
    }

    #[test]
    fn an_inventory_that_is_not_known_yet_is_not_sent() {
        let mut announcer = Announcer::default();
        announcer.on_connected();
        assert_eq!(words(&mut announcer), [Word::Status]);
        announcer.describe(&Info::default()).unwrap();
        assert_eq!(words(&mut announcer), [Word::Info { boot: None }]);
    }

    #[test]
    fn replies_that_nobody_takes_are_bounded() {
        let mut announcer = Announcer::default();
        for id in 0..MAX_REPLIES + 3 {
            announcer.reply(&reply(&id.to_string())).unwrap();
        }
        assert_eq!(announcer.replies.len(), MAX_REPLIES);
        let first = announcer.next().unwrap().unwrap();
        assert_eq!(first.word, Word::Reply { id: "3".into() });
    }
}
