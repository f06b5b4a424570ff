//! One compiled template: what it may use, how it is tried before it is trusted, how its faults are told.

use hostbus_wire::alert::{Alert, AlertKey, AlertSeverity, AlertState};
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};
use thiserror::Error;

use super::facts::{COMPACT_ABOVE, Facts};
use super::markup::Markup;
use super::words::{self, Language, Style};
use crate::notice::{Line, Notice, Reason};

/// The steps that one rendering may take: enough for thousands of alerts, and over in a moment.
const FUEL: u64 = 5_000_000;

const TITLES: [&str; 2] = [
    include_str!("../templates/en/title.j2"),
    include_str!("../templates/zh/title.j2"),
];
const TEXTS: [&str; 2] = [
    include_str!("../templates/en/text.j2"),
    include_str!("../templates/zh/text.j2"),
];

/// Why a template is broken, or failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}{}", line.map(|line| format!(" in line {line}")).unwrap_or_default())]
pub struct TemplateError {
    /// The line, counted from 1, where it is known.
    pub line: Option<usize>,
    /// What was wrong.
    pub reason: String,
}

impl TemplateError {
    /// It writes more than `messages` hold.
    pub(super) fn endless(messages: usize) -> Self {
        Self {
            line: None,
            reason: format!("it writes more than {messages} messages hold"),
        }
    }
}

/// One compiled template.
#[derive(Debug)]
pub struct Sheet {
    /// On the heap, since it is large and a channel has several.
    environment: Box<Environment<'static>>,
    name: String,
    markup: Markup,
}

impl Sheet {
    /// Compiles `source` and tries it on examples: one alert, one that is over, many, a test without any.
    ///
    /// # Errors
    /// It can't be compiled, or fails on an example: an unknown name, no JSON where JSON is wanted.
    pub fn open(
        name: &str,
        source: String,
        style: &Style,
        markup: Markup,
    ) -> Result<Self, TemplateError> {
        let sheet = Self::compile(name, source, style, markup)?;
        for example in examples() {
            let mut facts = Facts::new(&example, example.lines.len());
            if markup == Markup::Json {
                facts = facts.with_words("main-1", "\"title\"", "a\ntext");
            }
            sheet.render(&facts)?;
        }
        Ok(sheet)
    }

    /// The built-in title, always plain text, and text.
    ///
    /// # Panics
    /// When a built-in template is broken, which a test rules out.
    #[must_use]
    pub fn built_in(style: &Style, markup: Markup) -> (Self, Self) {
        let at = match style.language {
            Language::En => 0,
            Language::Zh => 1,
        };
        let open = |name: &str, source: &str, markup| {
            Self::compile(name, source.to_owned(), style, markup)
                .expect("the built-in templates are well-formed")
        };
        (
            open("title", TITLES[at], Markup::Plain),
            open("text", TEXTS[at], markup),
        )
    }

    /// What the template makes of `facts`.
    ///
    /// # Errors
    /// It uses what is not there, runs for too long, or makes no JSON where JSON is wanted.
    pub fn render(&self, facts: &Facts) -> Result<String, TemplateError> {
        let template = self.environment.get_template(&self.name);
        let text = template
            .and_then(|template| template.render(Serde(facts)))
            .map_err(|error| fault(&error))?;
        if self.markup == Markup::Json {
            serde_json::from_str::<serde::de::IgnoredAny>(&text).map_err(|error| {
                let reason = format!(
                    "it makes no JSON: {error} of what it made. Values come with their quotation \
                     marks: write {{\"text\": {{{{ group }}}}}}"
                );
                TemplateError { line: None, reason }
            })?;
        }
        Ok(text)
    }

    fn compile(
        name: &str,
        source: String,
        style: &Style,
        markup: Markup,
    ) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        environment.set_auto_escape_callback(|_| AutoEscape::Custom("hostbus".into()));
        environment.set_formatter(move |out, _, value| {
            out.write_str(&written(value, markup))?;
            Ok(())
        });
        environment.add_filter("strong", move |value: Value| {
            Value::from_safe_string(markup.strong(&written(&value, markup)))
        });
        let zone = style.zone.clone();
        environment.add_filter("time", move |ms: u64| own(words::time(ms, &zone), markup));
        let language = style.language;
        environment.add_filter("duration", move |ms: u64| {
            own(words::duration(ms, language), markup)
        });
        environment
            .add_template_owned(name.to_owned(), source)
            .map_err(|error| fault(&error))?;
        Ok(Self {
            environment: Box::new(environment),
            name: name.to_owned(),
            markup,
        })
    }
}

/// Words of ours, which need no escaping but in JSON.
fn own(text: String, markup: Markup) -> Value {
    match markup {
        Markup::Json => Value::from(text),
        _ => Value::from_safe_string(text),
    }
}

/// A value as it stands in a text.
fn written(value: &Value, markup: Markup) -> String {
    if value.is_safe() {
        return value.to_string();
    }
    if markup == Markup::Json {
        // What has no JSON (a function) is no use to anybody.
        return serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
    }
    if value.is_none() {
        return String::new();
    }
    markup.escape(&value.to_string())
}

fn fault(error: &minijinja::Error) -> TemplateError {
    let mut reason = match error.kind() {
        ErrorKind::OutOfFuel => "it takes too many steps".to_owned(),
        ErrorKind::UndefinedError => "it uses a name that is not there".to_owned(),
        kind => kind.to_string(),
    };
    if let Some(detail) = error.detail() {
        reason = format!("{reason}: {detail}");
    }
    let line = error.line();
    TemplateError { line, reason }
}

/// Notices that a template must get along with.
pub(super) fn examples() -> Vec<Notice> {
    let line = |at: usize, state, severity| {
        let key = AlertKey {
            node: format!("home.web{at}")
                .parse()
                .expect("it is a well-formed node"),
            rule: "disk-full".into(),
            instance: (at % 2 == 1).then(|| "/data".into()),
        };
        Line {
            alert: Alert {
                fingerprint: key.fingerprint(),
                state,
                severity,
                since: 1_700_000_000_000,
                summary: "\"a\" <b> is 93% full".to_owned(),
                value: (at != 2).then_some(93.0),
                threshold: (at != 2).then_some(90.0),
                ..Alert::default()
            },
            key,
            firing_since: 1_699_999_000_000,
            was: None,
            flaps: 0,
            repeated: false,
        }
    };
    let notice = |reason, lines| Notice {
        id: 1,
        channel: "ops".to_owned(),
        reason,
        group: "rule disk-full".to_owned(),
        formed_ms: 1_700_000_100_000,
        lines,
        still_firing: 0,
    };
    let (firing, resolved) = (AlertState::Firing, AlertState::Resolved);
    let many = |at| match at % 3 {
        0 => line(at, firing, AlertSeverity::Critical),
        1 => line(at, firing, AlertSeverity::Info),
        _ => line(at, resolved, AlertSeverity::Warning),
    };
    vec![
        notice(Reason::Test, Vec::new()),
        notice(
            Reason::Firing,
            vec![line(1, firing, AlertSeverity::Critical)],
        ),
        notice(
            Reason::Repeat,
            vec![line(2, firing, AlertSeverity::Warning)],
        ),
        notice(
            Reason::Resolved,
            vec![line(3, resolved, AlertSeverity::Info)],
        ),
        notice(Reason::Digest, (1..4).map(many).collect()),
        notice(Reason::Firing, (0..=COMPACT_ABOVE).map(many).collect()),
    ]
}
