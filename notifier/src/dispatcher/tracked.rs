//! What is known of one alert: how it stands, and what each channel was told of it.

use hostbus_wire::alert::{Alert, AlertKey, AlertSeverity, AlertState};
use serde::{Deserialize, Serialize};

use super::agenda::Member;
use super::stage::Change;

/// For how long it is remembered that an alert's end was told, in milliseconds: a day. Until then a mark
/// of another notifier that is older than the end does not bring it back.
pub(super) const REMEMBER_MS: u64 = 86_400_000;

/// One alert.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) standing: Standing,
    /// One for each channel that it goes to or that was told of it.
    pub(super) posts: Vec<Post>,
    pub(super) fingerprint: Box<str>,
    /// Whether it was heard since the bus was last joined.
    pub(super) heard: bool,
    /// When it must be looked at again.
    pub(super) wake_ms: Option<u64>,
}

/// How an alert stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Standing {
    /// As it was heard; once it is over, as it ended, with the severity and labels it fired with.
    pub(super) alert: Alert,
    pub(super) firing: bool,
    /// Since when it fires or fired.
    pub(super) firing_since: u64,
    /// Another alert hides it.
    pub(super) hidden: bool,
    /// What hid it is over: until when it is waited.
    pub(super) settles_ms: Option<u64>,
}

/// What one channel has to do with an alert.
#[derive(Debug)]
pub(super) struct Post {
    /// The channel's place in the routing.
    pub(super) channel: usize,
    pub(super) known: Known,
    pub(super) member: Option<Member>,
    /// How far it had come, as the log said it last.
    pub(super) stage: Option<Box<str>>,
}

/// What a channel knows of an alert.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    /// What it was told as firing and not yet to be over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) told: Option<Word>,
    /// What it was told to be over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ended: Option<Word>,
    /// How often it came back since the channel was told of it last.
    #[serde(default)]
    pub(super) flaps: u32,
    /// What held a change back, as the digest's group says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) held_by: Option<String>,
    /// The change that waits for its group, and when it is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) waiting: Option<(Change, u64)>,
}

/// One thing that a channel was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Word {
    pub(super) severity: AlertSeverity,
    /// Since when it fires or fired.
    pub(super) since: u64,
    pub(super) at_ms: u64,
}

impl Tracked {
    pub(super) fn new(key: &AlertKey, standing: Standing) -> Self {
        Self {
            standing,
            posts: Vec::new(),
            fingerprint: key.fingerprint().into(),
            heard: true,
            wake_ms: None,
        }
    }

    /// What `channel` knows of it, from now on something.
    pub(super) fn post(&mut self, channel: usize) -> &mut Post {
        let at = self.posts.iter().position(|post| post.channel == channel);
        let at = at.unwrap_or_else(|| {
            self.posts.push(Post {
                channel,
                known: Known::default(),
                member: None,
                stage: None,
            });
            self.posts.len() - 1
        });
        &mut self.posts[at]
    }
}

impl Standing {
    /// An alert that fires.
    pub(super) fn firing(alert: Alert) -> Self {
        Self {
            firing_since: alert.since,
            alert,
            firing: true,
            hidden: false,
            settles_ms: None,
        }
    }

    /// It is over; `last` is what its author said of that. It ends with what it fired with, so that it
    /// takes the same ways.
    pub(super) fn end(&mut self, key: &AlertKey, last: Option<Alert>, now_ms: u64) {
        let fired = &self.alert;
        let mut ended = match last {
            Some(last) if last.state == AlertState::Resolved => last,
            _ => Alert {
                since: now_ms,
                ..fired.clone()
            },
        };
        ended.state = AlertState::Resolved;
        ended.severity = fired.severity;
        if ended.labels.is_empty() {
            ended.labels.clone_from(&fired.labels);
        }
        if ended.summary == key.to_string() {
            ended.summary.clone_from(&fired.summary);
        }
        self.alert = ended;
        self.firing = false;
        self.hidden = false;
        self.settles_ms = None;
    }
}

impl Known {
    /// The end was told, or is passed over in silence.
    pub(super) fn end(&mut self, now_ms: u64) {
        self.ended = self.told.take().map(|word| Word {
            at_ms: now_ms,
            ..word
        });
    }

    /// It came back. That counts as flapping where the channel has just heard that it was over, or has not
    /// even heard it.
    pub(super) fn come_back(&mut self, cooldown_ms: u64, now_ms: u64) {
        let lately = self
            .ended
            .is_some_and(|word| now_ms < word.at_ms.saturating_add(cooldown_ms));
        self.flaps = if self.told.is_some() || lately {
            self.flaps.saturating_add(1)
        } else {
            0
        };
    }
}
