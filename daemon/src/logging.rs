//! Logs to stderr, for people or as JSON. Data goes to stdout, never a log line.

use std::io::IsTerminal;

use serde::Deserialize;
use thiserror::Error;
#[cfg(feature = "span-filters")]
use tracing_subscriber::EnvFilter as Filter;
#[cfg(not(feature = "span-filters"))]
use tracing_subscriber::filter::Targets as Filter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

/// The `[log]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as
    /// `info,hostbus_broker=debug`. Filters on spans are for programs that have some.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people, with colours on a terminal.
    Human,
    /// One JSON object a line.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Human,
        }
    }
}

/// Why logging could not start.
#[derive(Debug, Error)]
pub enum LogError {
    /// The level is no filter.
    #[error(
        "`{level}` is no log level (log.level): use error, warn, info, debug, trace or a filter such as info,hostbus_broker=debug: {source}"
    )]
    Level {
        /// What was given.
        level: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
}

/// Begins to log. A second call in one process keeps the first one's settings.
///
/// # Errors
/// The level is no filter.
pub fn start(config: &LogConfig) -> Result<(), LogError> {
    let filter = filter(&config.level)?;
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let lines = match config.format {
        LogFormat::Human => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // Only the first call can set the process-wide subscriber.
    let _ = registry().with(lines).with(filter).try_init();
    Ok(())
}

fn filter(level: &str) -> Result<Filter, LogError> {
    // Nothing stands for nothing, and an empty part for no more.
    let parts: Vec<&str> = level
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect();
    let directives = match &parts[..] {
        [] => "off".to_owned(),
        parts => parts.join(","),
    };
    directives.parse().map_err(|source| LogError::Level {
        level: level.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::filter::LevelFilter;

    use super::*;

    #[test]
    fn a_level_and_levels_of_parts_are_filters() {
        let check = |level: &str, most: LevelFilter| {
            let filter = filter(level).unwrap();
            let hint = Layer::<tracing_subscriber::Registry>::max_level_hint(&filter);
            assert_eq!(hint, Some(most), "{level}");
        };
        check("info", LevelFilter::INFO);
        check("WARN", LevelFilter::WARN);
        check("off", LevelFilter::OFF);
        check("info,", LevelFilter::INFO);
        check(" , ", LevelFilter::OFF);
        check("warn, hostbus_client=debug", LevelFilter::DEBUG);
        check("hostbus_client=error,info", LevelFilter::INFO);
        check("hostbus_client", LevelFilter::TRACE);
    }

    #[test]
    fn what_is_no_filter_is_told_with_its_key() {
        for level in ["hostbus_client=loud", "info=debug=warn"] {
            let text = filter(level).unwrap_err().to_string();
            assert!(text.contains(level) && text.contains("log.level"), "{text}");
        }
    }

    #[cfg(feature = "span-filters")]
    #[test]
    fn spans_are_filtered_where_there_are_some() {
        assert!(filter("warn,[connection{client=web1}]=debug").is_ok());
    }
}
