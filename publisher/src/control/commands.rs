//! What comes on `command/<name>`: who is answered, and what is done. Reads no clock itself.
//!
//! ```text
//! resample   args: seconds 1 to 60 (60), interval_ms 1000 to 3600000 (1000)
//!            samples at that interval for so long; data: what is granted
//! refresh    no args; publishes status, info, details and a fresh sample
//! ```
//! There are no other commands, and none that runs anything. A command is done once, though it may
//! arrive twice (QoS 1): the second time it gets the same answer again. Without an id that fits a
//! topic there is no way to answer, and it is only logged. A flood is neither answered nor logged
//! line by line.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hostbus_wire::Scalar;
use hostbus_wire::codec::{self, Map};
use hostbus_wire::control::{Command, Reply, is_command_id};
use tracing::warn;

/// The commands that are known.
const KNOWN: [&str; 2] = ["refresh", "resample"];
const RESAMPLE_KEYS: [&str; 2] = ["seconds", "interval_ms"];
/// The longest a lease runs from the moment it is asked for.
pub(super) const LONGEST_LEASE_SECONDS: u64 = 60;
/// The shortest interval on command. What settings allow may be less.
pub(super) const SHORTEST_INTERVAL_MS: u64 = 1000;
/// How many commands are done in one second; the others are refused. As many that are not done get
/// an answer.
const MOST_A_SECOND: usize = 10;
const SECOND: Duration = Duration::from_secs(1);
/// Who sends what can't be answered may send a lot of it.
const TELL_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// For how long a command that comes again is known.
const REMEMBERED: Duration = Duration::from_secs(60);
/// What is wanted for longer than this is a slip of the unit.
const FURTHEST_EXPIRY_MS: u64 = 3_600_000;
/// What was asked for again within this time is on its way.
const SAME_REFRESH: Duration = SECOND;

/// What becomes of a command.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    /// The answer, if one is possible.
    pub(crate) reply: Option<Reply>,
    /// What is to be done.
    pub(crate) order: Option<Order>,
}

/// What a command asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Sample at this interval until then.
    Resample { interval: Duration, until: Instant },
    /// Publish all there is to know, now.
    Refresh,
}

/// Remembers what was asked.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    /// What was done, oldest first. Bounded by what is done in a second and remembered.
    done: VecDeque<Done>,
    refreshed_at: Option<Instant>,
    /// When it was last logged that a command had no answer.
    told_at: Option<Instant>,
    /// The answers, lately, to what was not done: refusals and repetitions.
    spare_answers: VecDeque<Instant>,
}

#[derive(Debug)]
struct Done {
    name: &'static str,
    reply: Reply,
    at: Instant,
}

impl Commands {
    /// Takes a command that arrives at `now`, on the wall clock `now_ms`. `present` is the interval
    /// of the samples without leases.
    pub(crate) fn take(
        &mut self,
        name: &str,
        payload: &[u8],
        present: Duration,
        now: Instant,
        now_ms: u64,
    ) -> Outcome {
        let command = match read(payload) {
            Ok(command) => command,
            Err(error) => {
                self.tell(&error, now);
                return Outcome::default();
            }
        };
        self.done
            .retain(|done| now.saturating_duration_since(done.at) < REMEMBERED);
        let again = |done: &&Done| done.name == name && done.reply.id == command.id;
        if let Some(done) = self.done.iter().find(again) {
            let reply = done.reply.clone();
            return self.answer_only(reply, now);
        }
        match self.judge(name, &command, present, now, now_ms) {
            Ok((known, order, data)) => {
                let reply = Reply {
                    id: command.id,
                    ok: true,
                    error: None,
                    data,
                };
                self.done.push_back(Done {
                    name: known,
                    reply: reply.clone(),
                    at: now,
                });
                let reply = Some(reply);
                Outcome { reply, order }
            }
            Err(error) => {
                let reply = Reply {
                    id: command.id,
                    ok: false,
                    error: Some(error),
                    data: Map::new(),
                };
                self.answer_only(reply, now)
            }
        }
    }

    /// Answers what is not done, while such answers are few: a flood is not worth another one.
    fn answer_only(&mut self, reply: Reply, now: Instant) -> Outcome {
        self.spare_answers
            .retain(|at| now.saturating_duration_since(*at) < SECOND);
        if self.spare_answers.len() >= MOST_A_SECOND {
            return Outcome::default();
        }
        self.spare_answers.push_back(now);
        Outcome {
            reply: Some(reply),
            order: None,
        }
    }

    /// Logs why there is no answer, now and then.
    fn tell(&mut self, error: &str, now: Instant) {
        let lately = |at: Instant| now.saturating_duration_since(at) < TELL_AGAIN_AFTER;
        if !self.told_at.is_some_and(lately) {
            warn!(error, "a command can't be answered");
            self.told_at = Some(now);
        }
    }

    fn judge(
        &mut self,
        name: &str,
        command: &Command,
        present: Duration,
        now: Instant,
        now_ms: u64,
    ) -> Result<(&'static str, Option<Order>, Map<Scalar>), String> {
        let Some(known) = KNOWN.iter().copied().find(|known| *known == name) else {
            return Err(format!("no such command, known are: {}", KNOWN.join(", ")));
        };
        if command.expires <= now_ms {
            let late = now_ms - command.expires;
            return Err(format!("expired, {late} ms ago by this host's clock"));
        }
        if command.expires - now_ms > FURTHEST_EXPIRY_MS {
            return Err(format!(
                "expires more than an hour ahead: by this host's clock it is {now_ms} ms since 1970"
            ));
        }
        let lately = |done: &&Done| now.saturating_duration_since(done.at) < SECOND;
        if self.done.iter().rev().take_while(lately).count() >= MOST_A_SECOND {
            return Err(format!("more than {MOST_A_SECOND} commands in a second"));
        }
        if known == "resample" {
            let (order, data) = resample(&command.args, present, now)?;
            return Ok((known, Some(order), data));
        }
        no_args_but(&command.args, &[])?;
        let again = self
            .refreshed_at
            .is_some_and(|at| now.saturating_duration_since(at) < SAME_REFRESH);
        if again {
            return Ok((known, None, Map::new()));
        }
        self.refreshed_at = Some(now);
        Ok((known, Some(Order::Refresh), Map::new()))
    }
}

/// The command, if it can be answered.
fn read(payload: &[u8]) -> Result<Command, String> {
    let command: Command = codec::decode(payload).map_err(|error| super::brief(&error))?;
    if is_command_id(&command.id) {
        Ok(command)
    } else {
        Err(format!(
            "an id of {} bytes makes no topic",
            command.id.len()
        ))
    }
}

fn resample(
    args: &Map<Scalar>,
    present: Duration,
    now: Instant,
) -> Result<(Order, Map<Scalar>), String> {
    no_args_but(args, &RESAMPLE_KEYS)?;
    let longest = LONGEST_LEASE_SECONDS;
    let seconds = whole(args, "seconds", 1..=longest)?.unwrap_or(longest);
    let intervals = SHORTEST_INTERVAL_MS..=*super::wanted::intervals_ms().end();
    let interval_ms = whole(args, "interval_ms", intervals)?.unwrap_or(SHORTEST_INTERVAL_MS);
    // Nobody gets less than there is anyway.
    let interval = Duration::from_millis(interval_ms).min(present);
    let order = Order::Resample {
        interval,
        until: now + Duration::from_secs(seconds),
    };
    let granted_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
    let data = [("seconds", seconds), ("interval_ms", granted_ms)];
    let data = data.map(|(key, value)| (key.to_owned(), Scalar::Integer(value)));
    Ok((order, data.into()))
}

fn no_args_but(args: &Map<Scalar>, known: &[&str]) -> Result<(), String> {
    match args.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) if known.is_empty() => Err(format!("args.{key}: this command takes none")),
        Some(key) => Err(format!(
            "args.{key}: no such key, known are: {}",
            known.join(", ")
        )),
        None => Ok(()),
    }
}

fn whole(
    args: &Map<Scalar>,
    key: &str,
    range: std::ops::RangeInclusive<u64>,
) -> Result<Option<u64>, String> {
    match args.get(key) {
        None => Ok(None),
        Some(Scalar::Integer(value)) if range.contains(value) => Ok(Some(*value)),
        Some(_) => {
            let (least, most) = (range.start(), range.end());
            Err(format!(
                "args.{key}: expected a whole number, {least} to {most}"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_763_630_000_000;
    const TEN: Duration = Duration::from_secs(10);

    fn command<const N: usize>(id: &str, args: [(&str, Scalar); N]) -> Vec<u8> {
        codec::encode(&Command {
            id: id.to_owned(),
            expires: NOW_MS + 5000,
            args: args.map(|(key, value)| (key.to_owned(), value)).into(),
        })
        .unwrap()
    }

    fn expiring(expires: u64) -> Vec<u8> {
        let command = Command {
            id: "1".to_owned(),
            expires,
            args: Map::new(),
        };
        codec::encode(&command).unwrap()
    }

    #[track_caller]
    fn refusal(outcome: &Outcome) -> &str {
        let reply = outcome.reply.as_ref().unwrap();
        assert!(!reply.ok && outcome.order.is_none(), "{outcome:?}");
        reply.error.as_deref().unwrap()
    }

    #[test]
    fn resample_is_granted_as_asked_within_its_bounds() {
        let now = Instant::now();
        let check = |args: &[(&str, u64)], present: Duration, seconds: u64, interval_ms: u64| {
            let args = args
                .iter()
                .map(|(key, value)| ((*key).to_owned(), Scalar::Integer(*value)));
            let bytes = codec::encode(&Command {
                id: "1".to_owned(),
                expires: NOW_MS + 1,
                args: args.collect(),
            });
            let got = Commands::default().take("resample", &bytes.unwrap(), present, now, NOW_MS);
            let reply = got.reply.unwrap();
            assert!(
                reply.ok && reply.id == "1" && reply.error.is_none(),
                "{reply:?}"
            );
            assert_eq!(reply.data["seconds"], Scalar::Integer(seconds));
            assert_eq!(reply.data["interval_ms"], Scalar::Integer(interval_ms));
            let expected = Order::Resample {
                interval: Duration::from_millis(interval_ms),
                until: now + Duration::from_secs(seconds),
            };
            assert_eq!(got.order, Some(expected));
        };
        check(&[], TEN, 60, 1000);
        check(&[("seconds", 1)], TEN, 1, 1000);
        check(&[("seconds", 30), ("interval_ms", 2000)], TEN, 30, 2000);
        check(&[("interval_ms", 20_000)], TEN, 60, 10_000);
        check(&[], Duration::from_millis(100), 60, 100);
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_with_what_was_expected() {
        let check = |name: &str, args: [(&str, Scalar); 1], expected: &str| {
            let bytes = command("1", args);
            let outcome = Commands::default().take(name, &bytes, TEN, Instant::now(), NOW_MS);
            assert_eq!(refusal(&outcome), expected);
        };
        let seconds = "args.seconds: expected a whole number, 1 to 60";
        for wrong in [
            Scalar::Integer(0),
            Scalar::Integer(61),
            Scalar::Float(1.5),
            Scalar::Null,
        ] {
            check("resample", [("seconds", wrong)], seconds);
        }
        check(
            "resample",
            [("interval_ms", Scalar::Integer(999))],
            "args.interval_ms: expected a whole number, 1000 to 3600000",
        );
        check(
            "resample",
            [("second", Scalar::Integer(1))],
            "args.second: no such key, known are: seconds, interval_ms",
        );
        check(
            "refresh",
            [("run", Scalar::Text("reboot".to_owned()))],
            "args.run: this command takes none",
        );
    }

    #[test]
    fn an_unknown_command_is_refused_with_those_that_are_known() {
        for name in ["rotate-credential", "exec", "Refresh", ""] {
            let bytes = command("1", []);
            let outcome = Commands::default().take(name, &bytes, TEN, Instant::now(), NOW_MS);
            assert_eq!(
                refusal(&outcome),
                "no such command, known are: refresh, resample"
            );
        }
    }

    #[test]
    fn a_command_holds_until_it_expires_and_for_an_hour_at_most() {
        let check = |expires: u64, expected: Option<&str>| {
            let outcome = Commands::default().take(
                "refresh",
                &expiring(expires),
                TEN,
                Instant::now(),
                NOW_MS,
            );
            match expected {
                None => assert_eq!(outcome.order, Some(Order::Refresh), "{expires}"),
                Some(why) => assert!(refusal(&outcome).starts_with(why), "{outcome:?}"),
            }
        };
        check(NOW_MS + 1, None);
        check(NOW_MS + 3_600_000, None);
        check(NOW_MS, Some("expired, 0 ms ago"));
        check(NOW_MS / 1000, Some("expired, "));
        check(0, Some("expired, "));
        check(NOW_MS + 3_600_001, Some("expires more than an hour ahead"));
        check(u64::MAX, Some("expires more than an hour ahead"));
    }

    #[test]
    fn a_command_that_comes_twice_is_done_once_and_answered_twice() {
        let now = Instant::now();
        let mut commands = Commands::default();
        let bytes = command("a", [("seconds", Scalar::Integer(20))]);
        let first = commands.take("resample", &bytes, TEN, now, NOW_MS);
        assert!(first.order.is_some());
        // Later than it expires, even.
        let later = now + Duration::from_secs(59);
        let second = commands.take("resample", &bytes, TEN, later, NOW_MS + 59_000);
        assert_eq!((second.reply, second.order), (first.reply, None));
        // The same id of another command is another command.
        let other = commands.take("refresh", &command("a", []), TEN, later, NOW_MS);
        assert_eq!(other.order, Some(Order::Refresh));
        let forgotten = now + Duration::from_secs(60);
        let third = commands.take("resample", &bytes, TEN, forgotten, NOW_MS);
        assert!(third.order.is_some());
    }

    #[test]
    fn what_was_refused_may_be_asked_again() {
        let now = Instant::now();
        let mut commands = Commands::default();
        let early = commands.take("refresh", &expiring(NOW_MS + 10), TEN, now, NOW_MS + 20);
        assert!(refusal(&early).starts_with("expired"));
        let corrected = commands.take("refresh", &expiring(NOW_MS + 10), TEN, now, NOW_MS);
        assert_eq!(corrected.order, Some(Order::Refresh));
    }

    #[test]
    fn a_flood_is_refused_and_passes() {
        let now = Instant::now();
        let mut commands = Commands::default();
        let (mut done, mut refused) = (0, 0);
        for number in 0..1000 {
            let bytes = command(&number.to_string(), []);
            let outcome = commands.take("resample", &bytes, TEN, now, NOW_MS);
            if outcome.order.is_some() {
                done += 1;
            } else if outcome.reply.is_some() {
                assert_eq!(refusal(&outcome), "more than 10 commands in a second");
                refused += 1;
            }
        }
        assert_eq!((done, refused, commands.done.len()), (10, 10, 10));
        let later = commands.take("resample", &command("later", []), TEN, now + SECOND, NOW_MS);
        assert!(later.order.is_some());
    }

    #[test]
    fn what_is_not_done_is_answered_at_a_bounded_rate() {
        let now = Instant::now();
        let check = |name: &str, payload: fn(u32) -> Vec<u8>| {
            let mut commands = Commands::default();
            let mut answered = |at: Instant| {
                (0..500)
                    .filter(|number| {
                        let outcome = commands.take(name, &payload(*number), TEN, at, NOW_MS);
                        outcome.reply.is_some() && outcome.order.is_none()
                    })
                    .count()
            };
            assert_eq!(answered(now), MOST_A_SECOND, "{name}");
            assert_eq!(answered(now + SECOND / 2), 0, "{name}");
            assert_eq!(answered(now + SECOND), MOST_A_SECOND, "{name}");
        };
        check("reboot", |number| command(&number.to_string(), []));
        check("resample", |_| command("again", []));
    }

    #[test]
    fn many_who_refresh_at_once_get_one_refresh() {
        let now = Instant::now();
        let mut commands = Commands::default();
        let mut take =
            |id: &str, at: Instant| commands.take("refresh", &command(id, []), TEN, at, NOW_MS);
        assert_eq!(take("1", now).order, Some(Order::Refresh));
        let second = take("2", now + SECOND / 2);
        assert!(second.reply.unwrap().ok && second.order.is_none());
        assert_eq!(take("3", now + SECOND).order, Some(Order::Refresh));
    }

    #[test]
    fn what_has_no_answer_is_done_neither() {
        let now = Instant::now();
        let silent = |payload: &[u8]| {
            let mut commands = Commands::default();
            let outcome = commands.take("refresh", payload, TEN, now, NOW_MS);
            assert_eq!(outcome, Outcome::default());
            assert_eq!(commands.told_at, Some(now));
            read(payload).unwrap_err()
        };
        for id in ["", "a/b", "+", "#", "a\nb"] {
            assert!(silent(&command(id, [])).contains("makes no topic"));
        }
        silent(b"");
        silent(b"\xa1");
        silent(b"\x00");
        // {"id": "1"}: it never expires.
        assert!(silent(b"\xa1\x62id\x611").contains("expires"));
        // An argument that is no scalar.
        silent(b"\xa3\x62id\x611\x67expires\x1b\0\0\x01\x9a\xa0\x8a\x27\x7b\x64args\xa1\x61x\x80");
        let mut commands = Commands::default();
        let read = commands.take("refresh", &command("1", []), TEN, now, NOW_MS);
        assert!(read.reply.is_some() && commands.told_at.is_none());
    }

    #[test]
    fn what_has_no_answer_is_logged_once_in_ten_seconds_whatever_it_is() {
        let start = Instant::now();
        let mut commands = Commands::default();
        let mut lines = Vec::new();
        for second in 0..=30 {
            let now = start + SECOND * second;
            let id = "/".repeat(second as usize);
            commands.take("refresh", &command(&id, []), TEN, now, NOW_MS);
            commands.take("refresh", &command("1", []), TEN, now, NOW_MS);
            if commands.told_at == Some(now) {
                lines.push(second);
            }
        }
        assert_eq!(lines, [0, 10, 20, 30]);
    }
}
