//! The `[broker]` section.

use std::net::SocketAddr;
use std::path::PathBuf;

use hostbus_daemon::Secret;
use hostbus_wire::{Identity, NodeId, NodePath, Role, SiteId, TopicRoot};
use serde::Deserialize;

use crate::engine::Engine;
use crate::error::Error;
use crate::limits::Limits;
use crate::listeners::{self, ListenerConfig};

/// The settings of a broker.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which broker serves: `hostbus`, or `rumqttd` where that was built in. Default `hostbus`.
    pub engine: Engine,
    /// Where to listen for MQTT over TCP, 3.1.1 and 5.0; `none` for nowhere. Port 0 takes a free
    /// one. Default `127.0.0.1:1883`.
    #[serde(deserialize_with = "listeners::address_or_none")]
    pub listen: Option<SocketAddr>,
    /// Allow `listen`, and `listeners` without TLS, off loopback, where passwords cross the network
    /// in plain text. For private networks, such as those of containers. Default false.
    pub insecure_listen: bool,
    /// Further listeners, with TLS, WebSocket or a proxy before them. Default none.
    pub listeners: Vec<ListenerConfig>,
    /// How often the files of certificates are looked at for changes. 1 to 86,400, default 30.
    pub certificate_check_seconds: u64,
    /// For development: clients without a user name have this role. Works on loopback only.
    /// Absent: every client must log in.
    pub anonymous: Option<Role>,
    /// Where the contract's topics begin. Default `hostbus/v1`.
    pub root: TopicRoot,
    /// The folder of `identities.redb` and `state.redb` (persistent sessions and retained messages).
    /// Absent: only the `identities` below exist, and nothing survives the broker.
    pub data: Option<PathBuf>,
    /// Identities that stand in the settings rather than in the data folder. They take precedence.
    pub identities: Vec<ConfiguredIdentity>,
    /// How often the broker publishes its figures under `$SYS/broker/` and `_system`. 0 to 86,400,
    /// default 10; 0 is never.
    pub sys_interval_seconds: u64,
    /// The site under whose `_system` its health stands. It serves the topics of all sites.
    /// Default `home`.
    pub site: SiteId,
    /// Its name among brokers: the health stands at `_system/broker/<instance>`. Default `main`.
    pub instance: NodeId,
    /// Where Prometheus gets the figures, as `GET /metrics` over HTTP. Port 0 takes a free one.
    /// Absent: nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// Allow `metrics_listen` off loopback, where whoever reaches the port reads the figures,
    /// without login and in plain text: how much goes over the bus and when, no names and no
    /// topics. For private networks. Default false.
    pub insecure_metrics_listen: bool,
    /// Bounds on what clients can take.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            engine: Engine::default(),
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 1883))),
            insecure_listen: false,
            listeners: Vec::new(),
            certificate_check_seconds: 30,
            anonymous: None,
            root: TopicRoot::default(),
            data: None,
            identities: Vec::new(),
            sys_interval_seconds: 10,
            site: SiteId::default(),
            instance: "main".parse().expect("`main` is a well-formed id"),
            metrics_listen: None,
            insecure_metrics_listen: false,
            limits: Limits::default(),
        }
    }
}

/// One entry of `identities`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfiguredIdentity {
    /// The MQTT user name.
    pub name: String,
    /// Its role; not `joining`.
    pub role: Role,
    /// Its node as `site.node`; for publishers, and for them only.
    pub node: Option<NodePath>,
    /// Its password. Either this or `secret_file`.
    pub secret: Option<Secret>,
    /// A file that holds its password.
    pub secret_file: Option<PathBuf>,
}

impl ConfiguredIdentity {
    /// The identity and its secret.
    pub(crate) fn read(&self) -> Result<(Identity, Secret), Error> {
        let identity = identity(&self.name, self.role, self.node.clone())?;
        let secret = match (&self.secret, &self.secret_file) {
            (Some(secret), None) if !secret.reveal().is_empty() => secret.clone(),
            (None, Some(path)) => Secret::read(path).map_err(|source| Error::Secret {
                name: self.name.clone(),
                source,
            })?,
            _ => {
                let problem = "expected either `secret` or `secret_file`, not empty";
                return Err(Error::Identity {
                    name: self.name.clone(),
                    problem,
                });
            }
        };
        Ok((identity, secret))
    }
}

/// The identity of a role, with the node that a publisher needs and no other role has.
///
/// # Errors
/// The node is missing or does not belong there, or the role is `joining`.
pub fn identity(name: &str, role: Role, node: Option<NodePath>) -> Result<Identity, Error> {
    let wrong = |problem| {
        Err(Error::Identity {
            name: name.to_owned(),
            problem,
        })
    };
    match (role, node) {
        (Role::Publisher, Some(node)) => Ok(Identity::Publisher { node }),
        (Role::Publisher, None) => wrong("a publisher needs its node, as `site.node`"),
        (Role::Joining, _) => wrong("`joining` comes from a join token, it can't be set"),
        (_, Some(_)) => wrong("only a publisher has a node"),
        (Role::Ingester, None) => Ok(Identity::Ingester),
        (Role::Notifier, None) => Ok(Identity::Notifier),
        (Role::Viewer, None) => Ok(Identity::Viewer),
        (Role::Operator, None) => Ok(Identity::Operator),
        (Role::Admin, None) => Ok(Identity::Admin),
    }
}

impl Config {
    /// Checks what can be checked before anything is opened.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub fn check(&self) -> Result<(), Error> {
        self.engine.check(self)?;
        self.limits.check().map_err(|wrong| Error::Limit {
            key: wrong.key,
            value: wrong.value,
            least: wrong.least,
            most: wrong.most,
        })?;
        if self.sys_interval_seconds > 86_400 {
            return Err(Error::SysInterval(self.sys_interval_seconds));
        }
        if !(1..=86_400).contains(&self.certificate_check_seconds) {
            return Err(Error::CertificateCheck(self.certificate_check_seconds));
        }
        let listeners = listeners::all(self);
        if listeners.is_empty() {
            return Err(Error::NoListener);
        }
        for (setting, listener) in listeners {
            listener.check(&setting, self)?;
        }
        if let Some(role @ (Role::Publisher | Role::Joining)) = self.anonymous {
            return Err(Error::AnonymousRole(role));
        }
        match self.metrics_listen {
            Some(listen) if !listen.ip().is_loopback() && !self.insecure_metrics_listen => {
                Err(Error::InsecureMetrics { listen })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_would_be_unsafe_are_refused_by_name() {
        let check = |change: fn(&mut Config), key: &str| {
            let mut config = Config::default();
            change(&mut config);
            let text = config.check().expect_err(key).to_string();
            assert!(text.contains(key), "{text}");
        };
        check(
            |c| c.listen = Some(([0, 0, 0, 0], 1883).into()),
            "broker.insecure_listen",
        );
        check(
            |c| {
                c.listen = Some(([0, 0, 0, 0], 1883).into());
                c.insecure_listen = true;
                c.anonymous = Some(Role::Admin);
            },
            "broker.anonymous",
        );
        check(|c| c.anonymous = Some(Role::Publisher), "broker.anonymous");
        check(
            |c| c.metrics_listen = Some(([0, 0, 0, 0], 0).into()),
            "broker.insecure_metrics_listen",
        );
        check(
            |c| c.limits.queue_messages = 0,
            "broker.limits.queue_messages",
        );
        let open = Config {
            listen: Some(([0, 0, 0, 0], 1883).into()),
            insecure_listen: true,
            metrics_listen: Some(([0, 0, 0, 0], 0).into()),
            insecure_metrics_listen: true,
            ..Config::default()
        };
        assert!(open.check().is_ok());
    }

    #[test]
    fn an_identity_has_a_node_exactly_when_it_publishes() {
        let node: NodePath = "home.web1".parse().unwrap();
        assert!(identity("x", Role::Publisher, Some(node.clone())).is_ok());
        assert!(identity("x", Role::Publisher, None).is_err());
        assert!(identity("x", Role::Viewer, Some(node)).is_err());
        assert!(identity("x", Role::Joining, None).is_err());
    }
}
