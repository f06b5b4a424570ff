//! Secrets of the settings: as `<key>` itself where it may stand there, from `<key>_file`, or from the
//! environment variable that `<key>_env` names.
//!
//! They are read once, when what needs them is opened.

use std::env::{self, VarError};
use std::path::Path;

use hostbus_daemon::secret::{Secret, SecretError};
use thiserror::Error;

/// Where a secret is to be had.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The section of the settings: `notifier.channels.ops`.
    pub section: &'a str,
    /// The key without its ending: `secret` of `secret_file`.
    pub key: &'a str,
    /// The value of `<key>` itself, where there is such a key.
    pub inline: Option<&'a Secret>,
    /// The value of `<key>_file`.
    pub file: Option<&'a Path>,
    /// The value of `<key>_env`.
    pub env: Option<&'a str>,
}

/// A secret and the key that it came by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// `secret_file`.
    pub key: String,
    /// The secret.
    pub secret: Secret,
}

/// Why a secret could not be had. It does not stand in it.
#[derive(Debug, Error)]
pub enum SourceError {
    /// Two keys that say the same.
    #[error("`{section}` has both `{first}` and `{second}`: keep one of them")]
    Both {
        /// The section.
        section: String,
        /// One of them.
        first: String,
        /// The other one.
        second: String,
    },
    /// Its file can't be read or is empty.
    #[error("bad value for `{section}.{key}`: {source}")]
    File {
        /// The section.
        section: String,
        /// The key.
        key: String,
        /// What was wrong with the file.
        source: SecretError,
    },
    /// A variable of the environment that should hold it does not.
    #[error("bad value for `{section}.{key}`: the environment variable `{variable}` {problem}")]
    Variable {
        /// The section.
        section: String,
        /// The key.
        key: String,
        /// The variable.
        variable: String,
        /// `is not set`, `is empty`, `is no UTF-8`.
        problem: &'static str,
    },
}

impl Source<'_> {
    /// The secret, or `None` when the settings name no place for it.
    ///
    /// # Errors
    /// More than one place is named, or the named one holds nothing.
    pub fn read(self) -> Result<Option<Found>, SourceError> {
        let section = self.section.to_owned();
        let key = self.key.to_owned();
        let (file_key, env_key) = (format!("{key}_file"), format!("{key}_env"));
        let both = |section, first, second| SourceError::Both {
            section,
            first,
            second,
        };
        match (self.inline, self.file, self.env) {
            (None, None, None) => Ok(None),
            (Some(_), Some(_), _) => Err(both(section, key, file_key)),
            (Some(_), None, Some(_)) => Err(both(section, key, env_key)),
            (None, Some(_), Some(_)) => Err(both(section, file_key, env_key)),
            (Some(secret), None, None) => Ok(Some(Found {
                key,
                secret: secret.clone(),
            })),
            (None, Some(path), None) => match Secret::read(path) {
                Ok(secret) => Ok(Some(Found {
                    key: file_key,
                    secret,
                })),
                Err(source) => Err(SourceError::File {
                    section,
                    key: file_key,
                    source,
                }),
            },
            (None, None, Some(variable)) => match variable_of(variable) {
                Ok(secret) => Ok(Some(Found {
                    key: env_key,
                    secret,
                })),
                Err(problem) => Err(SourceError::Variable {
                    section,
                    key: env_key,
                    variable: variable.to_owned(),
                    problem,
                }),
            },
        }
    }
}

fn variable_of(name: &str) -> Result<Secret, &'static str> {
    // The system's own function panics on such a name.
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err("is no possible name");
    }
    match env::var(name) {
        Ok(text) if text.trim().is_empty() => Err("is empty"),
        Ok(text) => Ok(Secret::new(text.trim())),
        Err(VarError::NotPresent) => Err("is not set"),
        Err(VarError::NotUnicode(_)) => Err("is no UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_from_one_place_or_the_error_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, " hunter2\n").unwrap();
        let empty = folder.path().join("empty");
        std::fs::write(&empty, "\n").unwrap();
        let absent = folder.path().join("absent");

        let plain = Secret::new("hunter2");
        let check = |inline: bool,
                     file: Option<&Path>,
                     env: Option<&str>,
                     expected: Result<Option<(&str, &str)>, &str>| {
            let source = Source {
                section: "notifier.channels.ops",
                key: "secret",
                inline: inline.then_some(&plain),
                file,
                env,
            };
            match (source.read(), expected) {
                (Ok(found), Ok(wanted)) => {
                    let wanted = wanted.map(|(key, secret)| Found {
                        key: key.to_owned(),
                        secret: Secret::new(secret),
                    });
                    assert_eq!(found, wanted);
                }
                (Err(error), Err(part)) => {
                    let text = error.to_string();
                    assert!(text.contains(part), "{text}");
                    assert!(!text.contains("hunter2"), "{text}");
                }
                (found, wanted) => panic!("{found:?} is not {wanted:?}"),
            }
        };
        let path = env::var("PATH").unwrap();
        check(false, None, None, Ok(None));
        check(true, None, None, Ok(Some(("secret", "hunter2"))));
        check(
            false,
            Some(&file),
            None,
            Ok(Some(("secret_file", "hunter2"))),
        );
        let by_variable = Ok(Some(("secret_env", path.trim())));
        check(false, None, Some("PATH"), by_variable);
        let two = "`secret_file` and `secret_env`";
        check(false, Some(&file), Some("PATH"), Err(two));
        let two = "has both `secret` and `secret_file`";
        check(true, Some(&file), None, Err(two));
        let two = "`notifier.channels.ops` has both `secret` and `secret_env`";
        check(true, None, Some("PATH"), Err(two));
        let wrong = "`notifier.channels.ops.secret_file`";
        check(false, Some(&empty), None, Err(wrong));
        check(
            false,
            Some(&absent),
            None,
            Err("failed to read the secret in"),
        );
        check(
            false,
            None,
            Some("HOSTBUS_NO_SUCH_VARIABLE"),
            Err("`HOSTBUS_NO_SUCH_VARIABLE` is not set"),
        );
        check(false, None, Some("A=B"), Err("is no possible name"));
    }
}
