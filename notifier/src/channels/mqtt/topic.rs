//! Topics with places for what an alert is about. Pure.

use hostbus_wire::TopicRoot;

use crate::notice::{Line, Notice};

/// The longest topic, in bytes.
const MAX_BYTES: usize = 1024;
/// What may stand in braces.
const PLACES: [&str; 4] = ["{site}", "{node}", "{rule}", "{severity}"];
/// What stands there for a notice without alerts.
const NONE: &str = "test";

/// A checked topic with places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TopicTemplate {
    text: String,
    root: TopicRoot,
}

impl TopicTemplate {
    /// Reads a topic with places.
    ///
    /// # Errors
    /// What was expected instead.
    pub(super) fn parse(text: &str, root: &TopicRoot) -> Result<Self, String> {
        let example = "a topic such as `home/alerts/{node}`";
        let mut plain = text.to_owned();
        for place in PLACES {
            plain = plain.replace(place, "x");
        }
        if plain.contains(['{', '}']) {
            let known = PLACES.join(", ");
            return Err(format!("{example} with no other places than {known}"));
        }
        if plain.contains(['+', '#']) || plain.chars().any(char::is_control) {
            return Err(format!(
                "{example} without wildcards and control characters"
            ));
        }
        if plain.starts_with('$') || plain.split('/').any(str::is_empty) || text.len() > MAX_BYTES {
            return Err(format!(
                "{example}, of at most {MAX_BYTES} bytes, without empty levels or a leading `$`"
            ));
        }
        if is_below(root, &plain) {
            return Err(format!(
                "{example} that is not below `{root}`, where hostbus's own topics are"
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            root: root.clone(),
        })
    }

    /// The topic of a notice whose alerts all have the same one.
    ///
    /// # Errors
    /// With what its alerts are about it would be one of hostbus's own.
    pub(super) fn of(&self, notice: &Notice) -> Result<String, String> {
        let topic = match notice.lines.first() {
            Some(line) => self.of_line(line),
            None => self.filled([NONE; 4]),
        };
        if is_below(&self.root, &topic) || topic.len() > MAX_BYTES || topic.starts_with('$') {
            return Err(format!(
                "the topic `{}` can't be used for this alert: it would be {} bytes long or one of hostbus's \
                 own; give `topic` a first level that is no place",
                self.text,
                topic.len()
            ));
        }
        Ok(topic)
    }

    /// The topic of one alert.
    pub(super) fn of_line(&self, line: &Line) -> String {
        let node = &line.key.node;
        self.filled([
            node.site.as_str(),
            node.node.as_str(),
            &line.key.rule,
            line.alert.severity.as_str(),
        ])
    }

    fn filled(&self, values: [&str; 4]) -> String {
        let mut topic = self.text.clone();
        for (place, value) in PLACES.into_iter().zip(values) {
            topic = topic.replace(place, &level(value));
        }
        topic
    }
}

fn is_below(root: &TopicRoot, topic: &str) -> bool {
    topic == root.as_str() || root.strip(topic).is_some()
}

/// A value as a part of one level: no slashes, wildcards, braces or control characters.
fn level(value: &str) -> String {
    let safe = |c: char| {
        if c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '~') {
            c
        } else {
            '-'
        }
    };
    match value {
        "" => "-".to_owned(),
        value => value.chars().map(safe).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::examples;

    fn parsed(text: &str) -> Result<TopicTemplate, String> {
        TopicTemplate::parse(text, &TopicRoot::default())
    }

    #[test]
    fn a_topic_says_what_an_alert_is_about() {
        let check = |text: &str, expected: &str| {
            let notice = examples::message("main-1").notice;
            assert_eq!(parsed(text).unwrap().of(&notice), Ok(expected.to_owned()));
        };
        check("alerts", "alerts");
        check(
            "{site}/{node}/{rule}/{severity}",
            "home/web1/disk-full/critical",
        );
        check("a/{node}-{node}/b", "a/web1-web1/b");
    }

    #[test]
    fn what_is_no_topic_is_refused_with_what_was_expected() {
        let check = |text: &str, word: &str| {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        };
        check("", "empty levels");
        check("/a", "empty levels");
        check("$SYS/a", "leading `$`");
        check("a/+", "wildcards");
        check("a/#", "wildcards");
        check("a\n", "control");
        check("a/{instance}", "{severity}");
        check("a/{", "{severity}");
        check("hostbus/v1", "hostbus's own");
        check("hostbus/v1/{site}/{node}/alerts/x", "hostbus's own");
    }

    #[test]
    fn an_alert_never_leads_a_notice_into_other_topics() {
        let mut notice = examples::message("main-1").notice;
        notice.lines[0].key.rule = "a/../#+{node}\n".into();
        let topic = parsed("x/{rule}").unwrap().of(&notice).unwrap();
        assert_eq!(topic, "x/a-..----node--");
        notice.lines[0].key.rule = "hostbus".into();
        let own = parsed("{rule}/v1/home/web1/alerts/x").unwrap();
        assert!(own.of(&notice).is_err());
        notice.lines[0].key.rule = "x".repeat(2000).into();
        assert!(parsed("x/{rule}").unwrap().of(&notice).is_err());
    }
}
