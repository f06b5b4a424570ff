//! Secrets of channels: from `<key>_file`, or from the environment variable that `<key>_env` names.
//!
//! They are read once, when the channel is opened.

use std::env::{self, VarError};
use std::path::PathBuf;

use hostbus_daemon::secret::Secret;

use super::error::ChannelError;

/// Where a secret is to be had.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The key without its ending: `secret` of `secret_file`.
    pub key: &'a str,
    /// The value of `<key>_file`.
    pub file: Option<&'a PathBuf>,
    /// The value of `<key>_env`.
    pub env: Option<&'a String>,
}

impl Source<'_> {
    /// The secret, or `None` when the settings name no place for it.
    ///
    /// # Errors
    /// Both places are named, or the named one holds nothing.
    pub fn read(self, channel: &str) -> Result<Option<Secret>, ChannelError> {
        let channel = channel.to_owned();
        let (file_key, env_key) = (format!("{}_file", self.key), format!("{}_env", self.key));
        match (self.file, self.env) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(ChannelError::Both {
                channel,
                first: file_key,
                second: env_key,
            }),
            (Some(path), None) => match Secret::read(path) {
                Ok(secret) => Ok(Some(secret)),
                Err(source) => Err(ChannelError::Secret {
                    channel,
                    key: file_key,
                    source,
                }),
            },
            (None, Some(variable)) => match variable_of(variable) {
                Ok(secret) => Ok(Some(secret)),
                Err(problem) => Err(ChannelError::Variable {
                    channel,
                    key: env_key,
                    variable: variable.clone(),
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

        let check = |file: Option<&PathBuf>, variable: Option<&str>, expected: Result<_, &str>| {
            let env = variable.map(str::to_owned);
            let source = Source {
                key: "secret",
                file,
                env: env.as_ref(),
            };
            match (source.read("ops"), expected) {
                (Ok(found), Ok(wanted)) => assert_eq!(found, wanted),
                (Err(error), Err(part)) => {
                    let text = error.to_string();
                    assert!(text.contains(part), "{text}");
                    assert!(!text.contains("hunter2"), "{text}");
                }
                (found, wanted) => panic!("{found:?} is not {wanted:?}"),
            }
        };
        check(None, None, Ok(None));
        check(Some(&file), None, Ok(Some(Secret::new("hunter2"))));
        check(
            Some(&file),
            Some("PATH"),
            Err("`secret_file` and `secret_env`"),
        );
        check(
            Some(&empty),
            None,
            Err("`notifier.channels.ops.secret_file`"),
        );
        check(Some(&absent), None, Err("failed to read the secret in"));
        let path = Secret::new(env::var("PATH").unwrap().trim());
        check(None, Some("PATH"), Ok(Some(path)));
        check(
            None,
            Some("HOSTBUS_NO_SUCH_VARIABLE"),
            Err("`HOSTBUS_NO_SUCH_VARIABLE` is not set"),
        );
        check(None, Some("A=B"), Err("is no possible name"));
    }
}
