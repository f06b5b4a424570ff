//! How many bytes each interface carried in each month. Reads no clock and no file itself.
//!
//! The counters of the kernel begin anew with each start of the host. What they count is added up
//! here by month (UTC), and kept with the last reading of each counter:
//!
//! ```text
//! hostbus-traffic 1
//! boot 5d4ff0e4-…                          the start of the host that the readings are of
//! last eth0 416786582 1771144              rx, tx
//! month eth0 2026-11 91768123 810023 1793000000000      rx, tx, since when (unix ms)
//! end
//! ```

use std::collections::BTreeMap;
use std::fmt;

use hostbus_wire::Scalar;
use hostbus_wire::details::Details;

/// The months kept of each interface.
const MAX_MONTHS: usize = 13;
/// The most interfaces: those of a host whose interfaces come and go under new names.
const MAX_INTERFACES: usize = 64;
/// The most rows in all: readers of the table take some 4,000 numbers, and each row has three.
const MAX_ROWS: usize = 1024;
/// 2024-01-01. A clock before that was not set yet.
const CLOCK_SET_MS: u64 = 1_704_067_200_000;

/// The counters of one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) rx_bytes: u64,
    pub(super) tx_bytes: u64,
}

/// What each interface carried.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    boot: String,
    last: BTreeMap<String, Counters>,
    months: BTreeMap<(String, Month), Carried>,
    /// Interfaces were read at least once since the publisher's start.
    watching: bool,
}

/// A year and a month, 1 to 12.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Month {
    year: u64,
    month: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Carried {
    rx_bytes: u64,
    tx_bytes: u64,
    since_ts: u64,
}

/// One interface at one reading.
pub(super) struct Reading<'r> {
    pub(super) interface: &'r str,
    pub(super) counters: Counters,
    /// By how much each counter rose since the reading before, where that is known though it fell:
    /// one may have wrapped.
    pub(super) rise: Option<Counters>,
}

impl Traffic {
    /// Begins at the start of the host `boot`, with what was `kept`. Counters go on when it is of
    /// the same start.
    pub(super) fn begin(boot: &str, kept: Option<Self>) -> Self {
        let mut traffic = kept.unwrap_or_default();
        if traffic.boot != boot {
            boot.clone_into(&mut traffic.boot);
            for counters in traffic.last.values_mut() {
                *counters = Counters {
                    rx_bytes: 0,
                    tx_bytes: 0,
                };
            }
        }
        traffic
    }

    /// Adds what was carried since the last reading, all interfaces at once. While the clock is not
    /// set nothing is added, and all of it afterwards.
    pub(super) fn count<'r>(&mut self, ts: u64, readings: impl IntoIterator<Item = Reading<'r>>) {
        if ts < CLOCK_SET_MS {
            return;
        }
        let month = Month::at(ts);
        let rows_before = self.months.len();
        let mut last = BTreeMap::new();
        for reading in readings {
            let now = reading.counters;
            let rise = match self.last.get(reading.interface) {
                // Made after the last reading: all it carried is new.
                None if self.watching => now,
                // Nobody knows when it carried what it did.
                None => Counters {
                    rx_bytes: 0,
                    tx_bytes: 0,
                },
                Some(before) => now.since(*before).or(reading.rise).unwrap_or(now),
            };
            last.insert(reading.interface.to_owned(), now);
            let key = (reading.interface.to_owned(), month);
            let carried = self.months.entry(key).or_insert(Carried {
                rx_bytes: 0,
                tx_bytes: 0,
                since_ts: ts,
            });
            carried.rx_bytes = carried.rx_bytes.saturating_add(rise.rx_bytes);
            carried.tx_bytes = carried.tx_bytes.saturating_add(rise.tx_bytes);
        }
        self.last = last;
        self.watching = true;
        if self.months.len() > rows_before || rows_before > MAX_ROWS {
            self.prune(month);
        }
    }

    /// Forgets the oldest months, and interfaces that are gone when they are too many. Months after
    /// `now`, which a wrong clock left behind, go before all others. Of one month those rows go first
    /// that carried the least.
    fn prune(&mut self, now: Month) {
        let mut by_interface: BTreeMap<&str, Vec<Month>> = BTreeMap::new();
        for (interface, month) in self.months.keys() {
            by_interface.entry(interface).or_default().push(*month);
        }
        let mut gone = Vec::new();
        for (interface, months) in &mut by_interface {
            months.sort_unstable_by_key(|month| (*month <= now, *month));
            let surplus = months.len().saturating_sub(MAX_MONTHS);
            gone.extend(
                months[..surplus]
                    .iter()
                    .map(|m| ((*interface).to_owned(), *m)),
            );
        }
        let mut surplus = by_interface.len().saturating_sub(MAX_INTERFACES);
        for (interface, months) in by_interface {
            if surplus > 0 && !self.last.contains_key(interface) {
                gone.extend(months.iter().map(|month| (interface.to_owned(), *month)));
                surplus -= 1;
            }
        }
        for key in gone {
            self.months.remove(&key);
        }
        let surplus = self.months.len().saturating_sub(MAX_ROWS);
        if surplus > 0 {
            let mut rows: Vec<_> = std::mem::take(&mut self.months).into_iter().collect();
            rows.sort_by_key(|((_, month), carried)| (*month <= now, *month, carried.bytes()));
            self.months = rows.into_iter().skip(surplus).collect();
        }
    }

    /// The table `details/traffic`.
    pub(super) fn details(&self, ts: u64) -> Details {
        let columns = ["interface", "month", "rx_bytes", "tx_bytes", "since_ts"];
        let rows = self.months.iter().map(|((interface, month), carried)| {
            vec![
                Scalar::Text(interface.clone()),
                Scalar::Text(month.to_string()),
                Scalar::Integer(carried.rx_bytes),
                Scalar::Integer(carried.tx_bytes),
                Scalar::Integer(carried.since_ts),
            ]
        });
        Details {
            ts,
            columns: columns.map(str::to_owned).to_vec(),
            rows: rows.collect(),
        }
    }

    /// Reads what [`Self::fmt`] wrote. `None` when a single byte of it is not understood.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != HEAD {
            return None;
        }
        let mut traffic = Self::default();
        loop {
            let words: Vec<&str> = lines.next()?.split(' ').collect();
            match words[..] {
                ["boot", boot] => boot.clone_into(&mut traffic.boot),
                ["last", interface, rx, tx] => {
                    let counters = Counters {
                        rx_bytes: rx.parse().ok()?,
                        tx_bytes: tx.parse().ok()?,
                    };
                    traffic.last.insert(interface.to_owned(), counters);
                }
                ["month", interface, month, rx, tx, since] => {
                    let carried = Carried {
                        rx_bytes: rx.parse().ok()?,
                        tx_bytes: tx.parse().ok()?,
                        since_ts: since.parse().ok()?,
                    };
                    let key = (interface.to_owned(), Month::parse(month)?);
                    traffic.months.insert(key, carried);
                }
                ["end"] if lines.next().is_none() => return Some(traffic),
                _ => return None,
            }
        }
    }
}

const HEAD: &str = "hostbus-traffic 1";

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}\nboot {}", self.boot)?;
        for (interface, counters) in &self.last {
            let Counters { rx_bytes, tx_bytes } = counters;
            writeln!(f, "last {interface} {rx_bytes} {tx_bytes}")?;
        }
        for ((interface, month), carried) in &self.months {
            let Carried {
                rx_bytes,
                tx_bytes,
                since_ts,
            } = carried;
            writeln!(
                f,
                "month {interface} {month} {rx_bytes} {tx_bytes} {since_ts}"
            )?;
        }
        writeln!(f, "end")
    }
}

impl Counters {
    /// What was carried since `before`. `None` when a counter fell.
    fn since(self, before: Self) -> Option<Self> {
        Some(Self {
            rx_bytes: self.rx_bytes.checked_sub(before.rx_bytes)?,
            tx_bytes: self.tx_bytes.checked_sub(before.tx_bytes)?,
        })
    }
}

impl Carried {
    fn bytes(&self) -> u64 {
        self.rx_bytes.saturating_add(self.tx_bytes)
    }
}

impl Month {
    /// The month of a moment in milliseconds since 1970, UTC.
    pub(super) fn at(ts: u64) -> Self {
        // Howard Hinnant's civil_from_days: years begin in March, so that a leap day ends one.
        let days = ts / 86_400_000 + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        Self {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (year, month) = text.split_once('-')?;
        let month = Self {
            year: year.parse().ok()?,
            month: month
                .parse()
                .ok()
                .filter(|month| (1..=12).contains(month))?,
        };
        Some(month)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOVEMBER: u64 = 1_795_000_000_000;
    const MONTH: u64 = 31 * 86_400_000;

    fn reading(interface: &str, rx_bytes: u64, tx_bytes: u64) -> Reading<'_> {
        Reading {
            interface,
            counters: Counters { rx_bytes, tx_bytes },
            rise: None,
        }
    }

    /// Interface, month, bytes received and sent.
    fn rows(traffic: &Traffic) -> Vec<(String, u64, u64)> {
        let rows = traffic.months.iter();
        rows.map(|((interface, month), c)| (format!("{interface} {month}"), c.rx_bytes, c.tx_bytes))
            .collect()
    }

    fn row(name: &str, rx: u64, tx: u64) -> (String, u64, u64) {
        (name.to_owned(), rx, tx)
    }

    #[test]
    fn months_begin_at_midnight_utc() {
        let check = |ts: u64, month: &str| assert_eq!(Month::at(ts).to_string(), month, "{ts}");
        check(0, "1970-01");
        check(1_709_164_799_999, "2024-02");
        check(1_709_251_199_999, "2024-02"); // the leap day
        check(1_709_251_200_000, "2024-03");
        check(1_767_225_599_999, "2025-12");
        check(1_767_225_600_000, "2026-01");
        check(NOVEMBER, "2026-11");
        check(4_102_444_800_000, "2100-01");
    }

    #[test]
    fn what_is_carried_while_we_watch_is_added_to_its_month() {
        let mut traffic = Traffic::begin("a", None);
        traffic.count(NOVEMBER, [reading("eth0", 5000, 700)]);
        traffic.count(NOVEMBER + 10, [reading("eth0", 6000, 900)]);
        traffic.count(NOVEMBER + MONTH, [reading("eth0", 6001, 902)]);
        assert_eq!(
            rows(&traffic),
            [row("eth0 2026-11", 1000, 200), row("eth0 2026-12", 1, 2)]
        );
        assert_eq!(traffic.details(7).rows[0][4], Scalar::Integer(NOVEMBER));
    }

    #[test]
    fn a_table_is_one_that_readers_take_however_many_interfaces_there_are() {
        let mut traffic = Traffic::begin("a", None);
        let names: Vec<String> = (0..1000).map(|number| format!("pod{number}")).collect();
        let month = |traffic: &mut Traffic, ts, bytes| {
            let pods = names.iter().map(|name| reading(name, bytes, bytes));
            traffic.count(ts, pods.chain([reading("zt0", bytes * 9, 0)]));
        };
        month(&mut traffic, NOVEMBER, 0);
        month(&mut traffic, NOVEMBER, 1);
        month(&mut traffic, NOVEMBER + MONTH, 2);
        let table = traffic.details(7);
        assert_eq!(table.rows.len(), MAX_ROWS);
        let bytes = hostbus_wire::encode(&table).unwrap();
        assert_eq!(hostbus_wire::decode::<Details>(&bytes).unwrap(), table);
        // All of the last month, and of the one before the most.
        let text = |text: &str| Scalar::Text(text.to_owned());
        let of = |month: &str| {
            table
                .rows
                .iter()
                .filter(|row| row[1] == text(month))
                .count()
        };
        assert_eq!((of("2026-12"), of("2026-11")), (1001, 23));
        let last = &table.rows[MAX_ROWS - 2];
        assert_eq!((&last[0], &last[1]), (&text("zt0"), &text("2026-11")));
    }

    #[test]
    fn what_is_kept_is_bounded_however_many_interfaces_live_on() {
        let mut traffic = Traffic::begin("a", None);
        let names: Vec<String> = (0..300).map(|number| format!("vlan{number}")).collect();
        let mut rows_seen = 0;
        for month in 0..MAX_MONTHS as u64 {
            let readings = names.iter().map(|name| reading(name, month, 0));
            traffic.count(NOVEMBER + month * MONTH, readings);
            rows_seen = rows_seen.max(traffic.months.len());
        }
        assert_eq!(rows_seen, MAX_ROWS);
        let months: std::collections::BTreeSet<Month> =
            traffic.months.keys().map(|(_, month)| *month).collect();
        assert_eq!(
            months.len(),
            MAX_ROWS.div_ceil(names.len()),
            "the oldest go"
        );
        assert!(months.contains(&Month::at(NOVEMBER + 12 * MONTH)));
        // A file of more rows than that.
        let mut text = "hostbus-traffic 1\nboot a\n".to_owned();
        for number in 0..MAX_ROWS * 2 {
            text += &format!("last vlan{number} 1 1\nmonth vlan{number} 2026-11 1 1 1\n");
        }
        let mut traffic = Traffic::parse(&(text + "end\n")).unwrap();
        traffic.count(NOVEMBER, [reading("vlan0", 2, 2)]);
        assert!(traffic.months.len() <= MAX_ROWS);
    }

    #[test]
    fn an_interface_that_comes_later_or_anew_counts_whole() {
        let mut traffic = Traffic::begin("a", None);
        traffic.count(NOVEMBER, [reading("eth0", 5000, 700)]);
        traffic.count(
            NOVEMBER,
            [reading("eth0", 5000, 700), reading("wg0", 30, 40)],
        );
        traffic.count(NOVEMBER, [reading("eth0", 50, 700), reading("wg0", 31, 41)]);
        traffic.count(NOVEMBER, [reading("eth0", 50, 700)]);
        traffic.count(
            NOVEMBER,
            [reading("eth0", 50, 700), reading("wg0", 100, 100)],
        );
        assert_eq!(
            rows(&traffic),
            [row("eth0 2026-11", 50, 700), row("wg0 2026-11", 131, 141)]
        );
    }

    #[test]
    fn a_rise_over_a_wrap_is_taken_as_it_is() {
        let mut traffic = Traffic::begin("a", None);
        let before = u64::from(u32::MAX);
        traffic.count(NOVEMBER, [reading("eth0", before, 0)]);
        let mut wrapped = reading("eth0", 9, 1);
        wrapped.rise = Some(Counters {
            rx_bytes: 10,
            tx_bytes: 1,
        });
        traffic.count(NOVEMBER, [wrapped]);
        assert_eq!(rows(&traffic), [row("eth0 2026-11", 10, 1)]);
    }

    #[test]
    fn a_restart_of_the_publisher_goes_on_and_one_of_the_host_begins_at_zero() {
        let mut traffic = Traffic::begin("a", None);
        traffic.count(NOVEMBER, [reading("eth0", 5000, 700)]);
        traffic.count(NOVEMBER, [reading("eth0", 5100, 800)]);
        let kept = traffic.to_string();
        for (boot, expected) in [("a", (150, 160)), ("b", (5250, 960))] {
            let mut traffic = Traffic::begin(boot, Traffic::parse(&kept));
            traffic.count(NOVEMBER + 99, [reading("eth0", 5150, 860)]);
            assert_eq!(
                rows(&traffic),
                [row("eth0 2026-11", expected.0, expected.1)]
            );
            assert_eq!(traffic.details(7).rows[0][4], Scalar::Integer(NOVEMBER));
        }
    }

    #[test]
    fn an_interface_nobody_watched_before_counts_from_now() {
        let mut traffic = Traffic::begin("a", None);
        traffic.count(NOVEMBER, [reading("eth0", 1, 1)]);
        let mut traffic = Traffic::begin("b", Traffic::parse(&traffic.to_string()));
        traffic.count(
            NOVEMBER,
            [reading("eth0", 5, 5), reading("eth1", 9000, 9000)],
        );
        assert_eq!(
            rows(&traffic),
            [row("eth0 2026-11", 5, 5), row("eth1 2026-11", 0, 0)]
        );
    }

    #[test]
    fn a_clock_that_was_not_set_yet_holds_the_count_back() {
        let mut traffic = Traffic::begin("a", None);
        traffic.count(5000, [reading("eth0", 100, 100)]);
        assert!(rows(&traffic).is_empty());
        traffic.count(NOVEMBER, [reading("eth0", 200, 200)]);
        for (ts, bytes) in [(6000, 300), (NOVEMBER, 400)] {
            let mut reading = reading("eth0", bytes, bytes);
            reading.rise = Some(Counters {
                rx_bytes: 100,
                tx_bytes: 100,
            });
            traffic.count(ts, [reading]);
        }
        assert_eq!(rows(&traffic), [row("eth0 2026-11", 200, 200)]);
    }

    #[test]
    fn a_clock_set_to_another_month_and_back_loses_nothing() {
        let mut traffic = Traffic::begin("a", None);
        for (ts, bytes) in [
            (NOVEMBER, 0),
            (NOVEMBER + MONTH, 10),
            (NOVEMBER, 30),
            (NOVEMBER - MONTH, 70),
        ] {
            traffic.count(ts, [reading("eth0", bytes, 0)]);
        }
        assert_eq!(
            rows(&traffic),
            [
                row("eth0 2026-10", 40, 0),
                row("eth0 2026-11", 20, 0),
                row("eth0 2026-12", 10, 0)
            ]
        );
    }

    #[test]
    fn months_and_interfaces_are_bounded_and_a_wrong_future_goes_first() {
        let mut traffic = Traffic::begin("a", None);
        traffic.count(NOVEMBER + 900 * MONTH, [reading("eth0", 0, 0)]);
        for month in 0..MAX_MONTHS as u64 {
            traffic.count(NOVEMBER + month * MONTH, [reading("eth0", month, 0)]);
        }
        let kept: Vec<Month> = traffic.months.keys().map(|(_, month)| *month).collect();
        assert_eq!(kept.len(), MAX_MONTHS);
        assert_eq!(kept[0].to_string(), "2026-11");
        for number in 0..MAX_INTERFACES * 2 {
            let name = format!("ppp{number}");
            traffic.count(NOVEMBER, [reading("eth0", 0, 0), reading(&name, 0, 0)]);
        }
        let mut names: Vec<&str> = traffic
            .months
            .keys()
            .map(|(name, _)| name.as_str())
            .collect();
        names.dedup();
        assert_eq!(names.len(), MAX_INTERFACES);
        assert!(names.contains(&"eth0"));
    }

    #[test]
    fn a_file_that_is_cut_or_foreign_is_refused() {
        let mut traffic = Traffic::begin("a", None);
        traffic.count(NOVEMBER, [reading("eth0", 5000, 700)]);
        let text = traffic.to_string();
        traffic.watching = false;
        assert_eq!(Traffic::parse(&text), Some(traffic));
        for end in 0..text.len() - 1 {
            assert_eq!(Traffic::parse(&text[..end]), None, "{end}");
        }
        for foreign in [
            text.replace("2026-11", "2026-13"),
            text.replace(" 1\n", " 2\n"),
            text.replace("5000", "-1"),
            format!("{text}more\n"),
        ] {
            assert_eq!(Traffic::parse(&foreign), None, "{foreign}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_of_a_file_are_read_or_refused(text in "(hostbus-traffic 1\n)?(.*\n){0,9}") {
            if let Some(traffic) = Traffic::parse(&text) {
                let mut traffic = Traffic::begin("a", Some(traffic));
                traffic.count(NOVEMBER, [reading("eth0", u64::MAX, u64::MAX)]);
            }
        }
    }
}
