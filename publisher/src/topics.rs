//! Where each thing goes and where orders come from, by the contract's table.

use hostbus_wire::topic::SiteTopic;
use hostbus_wire::{Kind, NodePath, NodeTopic, QoS, Topic, TopicRoot};

/// The topics of one node.
#[derive(Debug)]
pub(crate) struct Topics {
    root: TopicRoot,
    path: NodePath,
    pub(crate) metrics: Outlet,
    pub(crate) status: Outlet,
    committed: String,
    desired: String,
    info: String,
    /// What all commands begin with.
    commands: String,
}

/// Where something is published, and how.
#[derive(Debug, Clone)]
pub(crate) struct Outlet {
    pub(crate) topic: String,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
}

/// What a message from the bus is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Incoming<'t> {
    Committed,
    Desired,
    /// Our own info, or another's under our name.
    Info,
    Command(&'t str),
}

impl Topics {
    pub(crate) fn new(root: &TopicRoot, path: &NodePath) -> Self {
        let text = |what: NodeTopic| what.text(root, path);
        Self {
            metrics: outlet(Kind::Metrics, text(NodeTopic::Metrics)),
            status: outlet(Kind::Status, text(NodeTopic::Status)),
            committed: text(NodeTopic::Committed),
            desired: text(NodeTopic::ConfigDesired),
            info: text(NodeTopic::Info),
            commands: text(NodeTopic::Command("".into())),
            root: root.clone(),
            path: path.clone(),
        }
    }

    /// Where `what` goes.
    pub(crate) fn outlet(&self, what: NodeTopic) -> Outlet {
        let kind = what.kind();
        outlet(kind, Topic::Node(self.path.clone(), what).text(&self.root))
    }

    /// Where this publisher's health goes.
    pub(crate) fn health(&self) -> Outlet {
        let what = SiteTopic::System {
            component: "publisher".into(),
            instance: self.path.node.as_str().into(),
        };
        outlet(what.kind(), what.text(&self.root, &self.path.site))
    }

    /// What a publisher listens to.
    pub(crate) fn filters(&self) -> Vec<(String, QoS)> {
        vec![
            (self.committed.clone(), QoS::AtMostOnce),
            (self.desired.clone(), QoS::AtLeastOnce),
            (format!("{}+", self.commands), QoS::AtLeastOnce),
            (self.info.clone(), QoS::AtMostOnce),
        ]
    }

    /// What came in on `topic`. Something else may come when a broker's administrator adds
    /// subscriptions of his own.
    pub(crate) fn incoming<'t>(&self, topic: &'t str) -> Option<Incoming<'t>> {
        if topic == self.committed {
            Some(Incoming::Committed)
        } else if topic == self.desired {
            Some(Incoming::Desired)
        } else if topic == self.info {
            Some(Incoming::Info)
        } else {
            topic.strip_prefix(&self.commands).map(Incoming::Command)
        }
    }
}

fn outlet(kind: Kind, topic: String) -> Outlet {
    let row = kind.row();
    Outlet {
        topic,
        qos: row.qos,
        retain: row.retain,
    }
}

#[cfg(test)]
mod tests {
    use hostbus_wire::{Access, Coverage, Identity};

    use super::*;

    fn topics() -> Topics {
        Topics::new(&TopicRoot::default(), &"home.web1".parse().unwrap())
    }

    #[test]
    fn what_comes_in_is_known_by_its_topic() {
        let check = |topic: &str, expected: Option<Incoming>| {
            let topic = format!("hostbus/v1/home/{topic}");
            assert_eq!(topics().incoming(&topic), expected, "{topic}");
        };
        check("web1/committed", Some(Incoming::Committed));
        check("web1/config/desired", Some(Incoming::Desired));
        check("web1/info", Some(Incoming::Info));
        check("web1/command/refresh", Some(Incoming::Command("refresh")));
        check("web1/config/reported", None);
        check("web1/command", None);
        check("web2/command/refresh", None);
        assert_eq!(topics().incoming("web1/info"), None);
    }

    #[test]
    fn a_publisher_may_hear_and_say_all_that_it_wants_to() {
        let node = "home.web1".parse().unwrap();
        let access = Access::new(&TopicRoot::default(), &Identity::Publisher { node });
        let topics = topics();
        for (filter, _) in topics.filters() {
            assert_eq!(access.subscription(&filter), Coverage::Full, "{filter}");
        }
        let node_topics = [
            NodeTopic::Info,
            NodeTopic::Events,
            NodeTopic::ConfigReported,
            NodeTopic::Reply("7".into()),
            NodeTopic::Details("top".into()),
        ];
        let outlets = node_topics.map(|what| topics.outlet(what));
        let others = [&topics.metrics, &topics.status, &topics.health()];
        for outlet in outlets.iter().chain(others) {
            assert!(access.may_write(&outlet.topic), "{}", outlet.topic);
        }
        let health = topics.health();
        assert_eq!(health.topic, "hostbus/v1/home/_system/publisher/web1");
        assert!(health.retain && health.qos == QoS::AtMostOnce);
    }
}
