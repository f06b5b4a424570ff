//! What a check found: ok, a warning or an error, with the mend.

use std::fmt::Write;

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Ok,
    Warning,
    Error,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What was checked.
    pub(crate) check: &'static str,
    pub(crate) level: Level,
    /// What was found.
    pub(crate) found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mend: Option<String>,
}

impl Finding {
    pub(crate) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            level: Level::Ok,
            found: found.into(),
            mend: None,
        }
    }

    pub(crate) fn warning(
        check: &'static str,
        found: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            check,
            level: Level::Warning,
            found: found.into(),
            mend: Some(mend.into()),
        }
    }

    pub(crate) fn error(
        check: &'static str,
        found: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            check,
            level: Level::Error,
            found: found.into(),
            mend: Some(mend.into()),
        }
    }
}

/// The findings for people, a line each and the mend below.
pub(crate) fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding {
        check,
        level,
        found,
        mend,
    } in findings
    {
        let level = match level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        // Writing to a String can't fail, here and below.
        let _ = writeln!(text, "{level:<8} {check:<12} {found}");
        if let Some(mend) = mend {
            let _ = writeln!(text, "{:21} -> {mend}", "");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_bad_it_is_and_the_next_how_to_mend_it() {
        let findings = [
            Finding::ok("bus", "fine"),
            Finding::error("redis", "away", "start it"),
        ];
        assert_eq!(
            text(&findings),
            "ok       bus          fine\nerror    redis        away\n                      -> start it\n"
        );
    }
}
