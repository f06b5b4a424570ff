//! All figures of a broker at one moment, whoever they are told to.
//!
//! `sys` writes them below `$SYS/broker/`, `health` into `_system`, `prometheus` for scraping. What
//! is counted as it happens stands in the table of `counters`; here stands what is asked when it is
//! told. `docs/broker-figures.md` is the list for people, and a test here holds it.

use crate::hub::Hub;

/// How a figure moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only up, from 0 at the broker's start.
    Counter,
    /// Up and down.
    Gauge,
}

/// One figure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    /// Its name in `_system`; the name for Prometheus is made from it. A unit stands at its end.
    pub(crate) name: &'static str,
    /// What it is about, where several figures share a name. They stand side by side.
    pub(crate) cause: Option<&'static str>,
    pub(crate) kind: Kind,
    /// One or more sentences, maybe with space around.
    pub(crate) help: &'static str,
    /// Its topics below `$SYS/broker/`.
    pub(crate) topics: &'static [&'static str],
    pub(crate) value: u64,
}

/// The figures of `hub` now.
pub(crate) fn figures(hub: &Hub) -> Vec<Figure> {
    let gauge = |name, help, topics, value| Figure {
        name,
        cause: None,
        kind: Kind::Gauge,
        help,
        topics,
        value,
    };
    let (sessions, absent) = hub.session_counts();
    let (retained, retained_bytes) = hub.retained().usage();
    let mut figures = vec![
        gauge(
            "uptime_seconds",
            "Time since the broker started.",
            &[],
            hub.started().elapsed().as_secs(),
        ),
        gauge(
            "sessions",
            "Sessions, those whose client is away included.",
            &["clients/total"],
            sessions as u64,
        ),
        gauge(
            "sessions_absent",
            "Sessions whose client is away.",
            &["clients/disconnected", "clients/inactive"],
            absent as u64,
        ),
        gauge(
            "subscriptions",
            "Subscriptions of all sessions.",
            &["subscriptions/count"],
            hub.subscriptions().load().count() as u64,
        ),
        gauge(
            "shared_subscriptions",
            "Shared subscriptions, each counted once for all its members.",
            &["shared_subscriptions/count"],
            hub.subscriptions().load().group_count() as u64,
        ),
        gauge(
            "retained_messages",
            "Retained messages, the broker's own included.",
            &["retained messages/count"],
            retained as u64,
        ),
        gauge(
            "retained_bytes",
            "Bytes of retained messages, counted as for the limit on them.",
            &[],
            retained_bytes as u64,
        ),
        gauge(
            "stored_messages",
            "Messages that the broker keeps: retained, or queued for a session.",
            &["store/messages/count", "messages/stored"],
            retained as u64 + hub.counters().queued_messages.get(),
        ),
        gauge(
            "stored_bytes",
            "Bytes of the messages that the broker keeps, counted as for the limits.",
            &["store/messages/bytes"],
            retained_bytes as u64 + hub.counters().queued_bytes.get(),
        ),
    ];
    figures.extend(hub.counters().figures());
    figures
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::Config;
    use crate::identities::Identities;
    use crate::login::Logins;
    use std::collections::HashSet;
    use std::sync::Arc;

    pub(crate) fn hub() -> Hub {
        let config = Config::default();
        let identities = Arc::new(Identities::in_memory());
        let logins = Logins::new(identities, Default::default(), None, &config.limits).unwrap();
        Hub::new(config, logins, None)
    }

    #[test]
    fn names_and_topics_stand_once() {
        let mut names = HashSet::new();
        let mut topics = HashSet::new();
        for figure in figures(&hub()) {
            assert!(names.insert((figure.name, figure.cause)), "{figure:?}");
            for topic in figure.topics {
                assert!(topics.insert(*topic), "{figure:?}");
            }
            assert!(figure.help.trim().ends_with('.'), "{figure:?}");
        }
    }

    #[test]
    fn the_list_for_people_is_complete() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/broker-figures.md");
        let text = std::fs::read_to_string(path).unwrap();
        let written: Vec<&str> = text
            .lines()
            .skip_while(|line| !line.starts_with("| Prometheus "))
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .collect();
        let rows: Vec<String> = figures(&hub())
            .iter()
            .map(|figure| {
                let topics: Vec<String> = figure
                    .topics
                    .iter()
                    .map(|topic| format!("`{topic}`"))
                    .collect();
                let cause = figure.cause.map(|cause| format!("{{cause=\"{cause}\"}}"));
                format!(
                    "| `{}{}` | `{}` | {} | {} |",
                    crate::prometheus::name(figure),
                    cause.unwrap_or_default(),
                    crate::health::name(figure),
                    topics.join(", "),
                    figure.help.trim(),
                )
            })
            .collect();
        assert_eq!(written, rows, "expected in {path}:\n{}", rows.join("\n"));
    }
}
