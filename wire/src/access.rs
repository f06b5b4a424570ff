//! What one identity may publish, subscribe to and receive, as the table of topics says.
//!
//! A publisher's rights end at its own node, a joining client's at its own request; all other roles
//! act on the whole bus. The admin may do everything, outside the root too. Who reads `metrics`
//! also reads the broker's own `$SYS` topics. The will is a publish like any other.

use crate::pattern::{Pattern, Reach};
use crate::role::{Identity, Role};
use crate::root::TopicRoot;
use crate::table::{Kind, Row, TABLE};

/// How much of a subscription is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// Nothing of it: the subscription is refused.
    Refused,
    /// A part: each message must pass [`Access::may_read`].
    Filtered,
    /// All of it.
    Full,
}

/// The rights of one identity on the bus.
#[derive(Debug, Clone)]
pub struct Access {
    writes: Vec<Pattern<'static>>,
    reads: Vec<Pattern<'static>>,
}

impl Access {
    /// The rights of `identity` below `root`.
    #[must_use]
    pub fn new(root: &TopicRoot, identity: &Identity) -> Self {
        if *identity == Identity::Admin {
            let everything = vec![
                Pattern::whole("#".to_owned()),
                Pattern::whole("$SYS/#".to_owned()),
            ];
            return Self {
                writes: vec![Pattern::whole("#".to_owned())],
                reads: everything,
            };
        }
        let role = identity.role();
        let shape_of = |shape: &str| match identity {
            Identity::Publisher { node } => shape
                .replace("{site}", node.site.as_str())
                .replace("{node}", node.node.as_str()),
            Identity::Joining { site, id } => shape
                .replace("{site}", site.as_str())
                .replace("{id}", id.as_str()),
            _ => shape.to_owned(),
        };
        let patterns = |chosen: fn(&Row) -> &'static [Role]| {
            TABLE
                .iter()
                .filter(|row| chosen(row).contains(&role))
                .map(|row| Pattern::whole(format!("{root}/{}", shape_of(row.shape))))
                .collect::<Vec<_>>()
        };
        let mut reads = patterns(|row| row.readers);
        if Kind::Metrics.row().readers.contains(&role) {
            reads.push(Pattern::whole("$SYS/#".to_owned()));
        }
        Self {
            writes: patterns(|row| row.writers),
            reads,
        }
    }

    /// Tells whether this identity may publish to `topic`.
    #[must_use]
    pub fn may_write(&self, topic: &str) -> bool {
        !topic.starts_with('$') && self.writes.iter().any(|pattern| pattern.matches(topic))
    }

    /// Tells whether this identity may receive what is published to `topic`.
    #[must_use]
    pub fn may_read(&self, topic: &str) -> bool {
        self.reads.iter().any(|pattern| pattern.matches(topic))
    }

    /// Tells how much of a subscription to `filter` this identity may have. `filter` must be well
    /// formed and, for a shared subscription, without its `$share/<group>/`.
    #[must_use]
    pub fn subscription(&self, filter: &str) -> Coverage {
        // A wildcard in a filter's first level reaches no topic that begins with `$`.
        let reach = self
            .reads
            .iter()
            .map(|pattern| pattern.reach(filter))
            .max()
            .unwrap_or(Reach::None);
        match reach {
            Reach::None => Coverage::Refused,
            Reach::Part => Coverage::Filtered,
            Reach::Full => Coverage::Full,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(identity: &Identity) -> Access {
        Access::new(&TopicRoot::default(), identity)
    }

    fn web1() -> Identity {
        Identity::Publisher {
            node: "home.web1".parse().unwrap(),
        }
    }

    #[test]
    fn a_publisher_writes_its_own_node_and_no_other() {
        let access = access(&web1());
        for own in [
            "metrics",
            "status",
            "info",
            "details/x",
            "events",
            "config/reported",
            "reply/7",
            "alerts/x",
            "alerts/x/%2Fdata",
        ] {
            assert!(
                access.may_write(&format!("hostbus/v1/home/web1/{own}")),
                "{own}"
            );
            assert!(
                !access.may_write(&format!("hostbus/v1/home/web2/{own}")),
                "{own}"
            );
            assert!(
                !access.may_write(&format!("hostbus/v1/other/web1/{own}")),
                "{own}"
            );
        }
        assert!(access.may_write("hostbus/v1/home/_system/publisher/web1"));
        for other in [
            "home/_system/publisher/web2",
            "other/_system/publisher/web1",
            "home/_system/broker/web1",
        ] {
            assert!(!access.may_write(&format!("hostbus/v1/{other}")), "{other}");
        }
        for never in [
            "committed",
            "config/desired",
            "command/refresh",
            "metrics/x",
        ] {
            assert!(
                !access.may_write(&format!("hostbus/v1/home/web1/{never}")),
                "{never}"
            );
        }
    }

    #[test]
    fn a_publisher_reads_what_is_addressed_to_it() {
        let access = access(&web1());
        for own in ["committed", "config/desired", "command/refresh", "info"] {
            assert!(
                access.may_read(&format!("hostbus/v1/home/web1/{own}")),
                "{own}"
            );
            assert!(
                !access.may_read(&format!("hostbus/v1/home/web2/{own}")),
                "{own}"
            );
        }
        assert!(!access.may_read("hostbus/v1/home/web1/metrics"));
        assert_eq!(
            access.subscription("hostbus/v1/home/web1/command/+"),
            Coverage::Full
        );
        assert_eq!(
            access.subscription("hostbus/v1/home/web1/#"),
            Coverage::Filtered
        );
        assert_eq!(access.subscription("#"), Coverage::Filtered);
        assert_eq!(
            access.subscription("hostbus/v1/home/web2/#"),
            Coverage::Refused
        );
        assert_eq!(access.subscription("$SYS/#"), Coverage::Refused);
    }

    #[test]
    fn a_viewer_reads_all_but_the_administration() {
        let access = access(&Identity::Viewer);
        for open in [
            "web1/metrics",
            "web1/alerts/x/y",
            "web1/committed",
            "_rules/x",
            "_system/a/b",
        ] {
            assert!(
                access.may_read(&format!("hostbus/v1/home/{open}")),
                "{open}"
            );
        }
        for closed in [
            "web1/config/desired",
            "web1/config/reported",
            "web1/command/refresh",
            "web1/reply/1",
            "_admin/x",
            "_admin/reply/1",
            "_enrol/1/request",
            "_enrol/1/grant",
        ] {
            assert!(
                !access.may_read(&format!("hostbus/v1/home/{closed}")),
                "{closed}"
            );
        }
        assert!(access.may_read("$SYS/broker/uptime"));
        assert!(!access.may_write("hostbus/v1/home/web1/metrics"));
        assert!(!access.may_write("hostbus/v1/home/_silences/s"));
        assert_eq!(access.subscription("hostbus/v1/#"), Coverage::Filtered);
        assert_eq!(
            access.subscription("hostbus/v1/+/+/metrics"),
            Coverage::Filtered
        );
        assert_eq!(
            access.subscription("hostbus/v1/home/web1/metrics"),
            Coverage::Full
        );
        assert_eq!(access.subscription("zigbee2mqtt/#"), Coverage::Refused);
    }

    #[test]
    fn no_role_but_admin_reaches_rules_through_a_node_topic() {
        let ingester = access(&Identity::Ingester);
        assert!(ingester.may_write("hostbus/v1/home/web1/committed"));
        assert!(!ingester.may_write("hostbus/v1/home/_rules/committed"));
        let operator = access(&Identity::Operator);
        assert!(operator.may_write("hostbus/v1/home/_silences/s"));
        assert!(!operator.may_write("hostbus/v1/home/_rules/r"));
    }

    #[test]
    fn a_joining_client_has_its_own_request_only() {
        let joining = access(&Identity::Joining {
            site: "home".parse().unwrap(),
            id: "t1".parse().unwrap(),
        });
        assert!(joining.may_write("hostbus/v1/home/_enrol/t1/request"));
        assert!(!joining.may_write("hostbus/v1/home/_enrol/t2/request"));
        assert!(!joining.may_write("hostbus/v1/home/_enrol/t1/grant"));
        assert!(joining.may_read("hostbus/v1/home/_enrol/t1/grant"));
        assert_eq!(
            joining.subscription("hostbus/v1/home/_enrol/t2/grant"),
            Coverage::Refused
        );
    }

    #[test]
    fn the_admin_may_do_everything_but_write_the_brokers_own_topics() {
        let admin = access(&Identity::Admin);
        assert!(admin.may_write("homeassistant/sensor/x/config"));
        assert!(admin.may_write("hostbus/v1/home/_rules/r"));
        assert!(!admin.may_write("$SYS/broker/uptime"));
        assert!(admin.may_read("$SYS/broker/uptime"));
        assert_eq!(admin.subscription("#"), Coverage::Full);
        assert_eq!(admin.subscription("$SYS/#"), Coverage::Full);
    }
}
