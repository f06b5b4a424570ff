//! Where a publisher's things go, by the contract's table.

use hostbus_wire::{NodePath, NodeTopic, QoS, Topic, TopicRoot};

/// Where each thing goes, by the contract's table.
pub(super) struct Topics {
    pub(super) metrics: Outlet,
    pub(super) status: Outlet,
    pub(super) info: Outlet,
    pub(super) events: Outlet,
    pub(super) committed: String,
}

#[derive(Clone)]
pub(super) struct Outlet {
    pub(super) topic: String,
    pub(super) qos: QoS,
    pub(super) retain: bool,
}

impl Topics {
    pub(super) fn new(root: &TopicRoot, path: &NodePath) -> Self {
        let outlet = |what: NodeTopic| {
            let row = what.kind().row();
            let topic = Topic::Node(path.clone(), what).text(root);
            Outlet {
                topic,
                qos: row.qos,
                retain: row.retain,
            }
        };
        Self {
            metrics: outlet(NodeTopic::Metrics),
            status: outlet(NodeTopic::Status),
            info: outlet(NodeTopic::Info),
            events: outlet(NodeTopic::Events),
            committed: outlet(NodeTopic::Committed).topic,
        }
    }
}
