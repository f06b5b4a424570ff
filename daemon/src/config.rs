//! Settings: a flag wins over the environment, that over the TOML file, that over the default.
//!
//! ```text
//! file          [publisher]
//!               interval_seconds = 5
//! environment   HOSTBUS_PUBLISHER__INTERVAL_SECONDS=5      a list as TOML: '["/boot", "/snap/*"]'
//! ```
//! An unknown key is an error wherever it stands, and the error names the nearest known one. A
//! secret has a twin key `<key>_file` that names a file to read it from.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use config::{Config, ConfigError as LibraryError, File, FileFormat, Value};
use serde::de::DeserializeOwned;
use thiserror::Error;

/// What every variable of the environment that holds a setting begins with.
pub const PREFIX: &str = "HOSTBUS_";

/// Variables with this prefix that programs read as flags, and that are no settings.
pub const FLAG_VARIABLES: [&str; 2] = ["HOSTBUS_DATA", "HOSTBUS_CONFIG"];

/// Why settings could not be loaded.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("failed to read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{} is no valid TOML: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where, and what was expected.
        message: String,
    },
    /// A key that no setting has.
    #[error("{origin}: unknown key `{key}`{}", hint(nearest.as_deref()))]
    UnknownKey {
        /// The flag, variable or file.
        origin: String,
        /// The key with its section.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// A value that its key can't have.
    #[error("{origin}: bad value for `{key}`: {message}")]
    Value {
        /// The flag, variable or file.
        origin: String,
        /// The key with its section.
        key: String,
        /// What was found and what was expected.
        message: String,
    },
}

fn hint(nearest: Option<&str>) -> String {
    nearest
        .map(|key| format!(", did you mean `{key}`?"))
        .unwrap_or_default()
}

/// Where a value came from, and the value as text.
struct Override {
    origin: String,
    text: String,
}

/// Collects the sources of one process's settings.
#[derive(Default)]
pub struct Loader {
    file: Option<PathBuf>,
    environment: BTreeMap<String, Override>,
    flags: BTreeMap<String, Override>,
}

impl Loader {
    /// Settings from the defaults and this process's environment.
    #[must_use]
    pub fn new() -> Self {
        // A variable that is no UTF-8 can't hold a setting, but its name may still be a mistake.
        let variables = env::vars_os().map(|(name, value)| {
            (
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            )
        });
        Self::with_environment(variables)
    }

    /// Settings from the defaults and the given environment.
    #[must_use]
    pub fn with_environment(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let environment = variables
            .into_iter()
            .filter(|(name, _)| !FLAG_VARIABLES.contains(&name.as_str()) && !is_service_link(name))
            .filter_map(|(name, text)| {
                let key = name.strip_prefix(PREFIX)?.to_lowercase().replace("__", ".");
                Some((key, Override { origin: name, text }))
            })
            .collect();
        Self {
            environment,
            ..Self::default()
        }
    }

    /// Adds the settings in a TOML file.
    #[must_use]
    pub fn file(mut self, path: Option<&Path>) -> Self {
        self.file = path.map(Path::to_owned);
        self
    }

    /// Adds the value of a flag, if it was given.
    #[must_use]
    pub fn flag(mut self, flag: &str, key: &str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            let value = Override {
                origin: flag.to_owned(),
                text: value.to_string(),
            };
            self.flags.insert(key.to_owned(), value);
        }
        self
    }

    /// Merges the sources into the settings `T`, whose structs deny unknown fields.
    ///
    /// # Errors
    /// A source can't be read, a key is unknown, or a value does not fit.
    pub fn load<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let mut builder = Config::builder();
        let mut in_file = None;
        if let Some(path) = &self.file {
            let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
                path: path.clone(),
                source,
            })?;
            if let Err(error) = text.parse::<toml::Table>() {
                return Err(syntax(path, &text, &error));
            }
            let source = File::from_str(&text, FileFormat::Toml);
            let alone = Config::builder().add_source(source.clone()).build();
            in_file = Some(alone.map_err(|error| ConfigError::Syntax {
                path: path.clone(),
                message: error.to_string(),
            })?);
            builder = builder.add_source(source);
        }
        // Flags come second: the later override of a key wins.
        for (key, given) in self.environment.iter().chain(&self.flags) {
            let value = given.value().map_err(|message| ConfigError::Value {
                origin: given.origin.clone(),
                key: key.clone(),
                message,
            })?;
            builder = builder
                .set_override(key, value)
                .map_err(|_| self.unknown(in_file.as_ref(), key.clone(), None))?;
        }
        let merged = builder.build().map_err(|error| ConfigError::Value {
            origin: self.origin(in_file.as_ref(), ""),
            key: String::new(),
            message: error.to_string(),
        })?;
        serde_path_to_error::deserialize(merged).map_err(|error| {
            let path = error.path().to_string();
            self.explain(in_file.as_ref(), path, error.into_inner())
        })
    }

    fn explain(&self, in_file: Option<&Config>, path: String, error: LibraryError) -> ConfigError {
        let message = match error {
            LibraryError::Type {
                ref unexpected,
                expected,
                ..
            } => {
                format!("found {unexpected}, expected {expected}")
            }
            LibraryError::At { error, .. } => return self.explain(in_file, path, *error),
            other => other.to_string(),
        };
        if let Some((field, known)) = unknown_field(&message) {
            let section = section_of(&path, field);
            let key = join(section, field);
            let nearest = nearest(field, &known).map(|name| join(section, name));
            return self.unknown(in_file, key, nearest);
        }
        ConfigError::Value {
            origin: self.origin(in_file, &path),
            key: path,
            message,
        }
    }

    fn unknown(
        &self,
        in_file: Option<&Config>,
        key: String,
        nearest: Option<String>,
    ) -> ConfigError {
        ConfigError::UnknownKey {
            origin: self.origin(in_file, &key),
            key,
            nearest,
        }
    }

    /// The source that `key` came from: the strongest one that has it, or something below it.
    fn origin(&self, in_file: Option<&Config>, key: &str) -> String {
        let below = |have: &str| {
            have.strip_prefix(key)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let given = [&self.flags, &self.environment]
            .into_iter()
            .find_map(|source| source.iter().find(|(have, _)| below(have)));
        if let Some((_, given)) = given {
            return given.origin.clone();
        }
        match (in_file, &self.file) {
            (Some(_), Some(path)) => path.display().to_string(),
            _ => "settings".to_owned(),
        }
    }
}

impl Override {
    /// The value for the library: text, which it turns into numbers and switches where these are
    /// wanted, or a list. What is wrong with a list is said without its text: it may hold secrets.
    fn value(&self) -> Result<Value, String> {
        if !self.text.starts_with('[') {
            return Ok(Value::from(self.text.as_str()));
        }
        let text = format!("list = {}", self.text);
        if let Err(error) = text.parse::<toml::Table>() {
            return Err(format!("a list as TOML was expected: {}", error.message()));
        }
        Config::builder()
            .add_source(File::from_str(&text, FileFormat::Toml))
            .build()
            .and_then(|list| list.get_array("list"))
            .map(Value::from)
            .map_err(|_| "a list as TOML was expected".to_owned())
    }
}

/// Where a file is no TOML, and why, without the line itself: it may hold a secret.
fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let before = error
        .span()
        .and_then(|span| text.get(..span.start))
        .unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    ConfigError::Syntax {
        path: path.to_owned(),
        message: format!("line {line}: {}", error.message()),
    }
}

/// Tells whether a variable is one that Kubernetes gives to each container for a service whose name
/// begins with `hostbus`, such as `HOSTBUS_BROKER_PORT_1883_TCP_ADDR`. Settings have a `__`.
fn is_service_link(name: &str) -> bool {
    !name.contains("__")
        && (name.ends_with("_SERVICE_HOST")
            || name.contains("_SERVICE_PORT")
            || name.ends_with("_PORT")
            || name.contains("_PORT_"))
}

/// Reads serde's message about an unknown field: its name, and the names that were expected.
fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (field, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2).collect();
    Some((field, known))
}

/// The section that holds `field`: the error's path may end in the field or in its section.
fn section_of<'p>(path: &'p str, field: &str) -> &'p str {
    if path == field {
        return "";
    }
    match path
        .strip_suffix(field)
        .and_then(|rest| rest.strip_suffix('.'))
    {
        Some(section) => section,
        None if path == "." => "",
        None => path,
    }
}

fn join(section: &str, field: &str) -> String {
    if section.is_empty() {
        field.to_owned()
    } else {
        format!("{section}.{field}")
    }
}

fn nearest<'k>(field: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|name| (strsim::jaro_winkler(field, name), *name))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .filter(|(likeness, _)| *likeness > 0.7)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Settings {
        publisher: Publisher,
        log: crate::logging::LogConfig,
    }

    #[derive(Debug, Clone, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Publisher {
        interval_seconds: f64,
        exclude: Vec<String>,
        enabled: bool,
        password: Option<crate::Secret>,
        limit: u32,
        nested: Nested,
    }

    #[derive(Debug, Clone, Default, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Nested {
        depth: u8,
    }

    #[expect(clippy::derivable_impls, reason = "the settings of a test")]
    impl Default for Settings {
        fn default() -> Self {
            Self {
                publisher: Publisher::default(),
                log: crate::logging::LogConfig::default(),
            }
        }
    }

    impl Default for Publisher {
        fn default() -> Self {
            Self {
                interval_seconds: 10.0,
                exclude: vec!["/boot".to_owned()],
                enabled: true,
                password: None,
                limit: 3,
                nested: Nested::default(),
            }
        }
    }

    impl PartialEq for crate::logging::LogConfig {
        fn eq(&self, other: &Self) -> bool {
            self.level == other.level && self.format == other.format
        }
    }

    fn environment(pairs: &[(&str, &str)]) -> Loader {
        Loader::with_environment(
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
        )
    }

    struct TempFile(PathBuf);

    impl TempFile {
        fn new(name: &str, text: &str) -> Self {
            let path = env::temp_dir().join(format!("hostbus-{}-{name}.toml", std::process::id()));
            std::fs::write(&path, text).unwrap();
            Self(path)
        }
    }

    impl Drop for TempFile {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn nothing_given_means_the_defaults() {
        let settings: Settings = environment(&[("PATH", "/bin")]).load().unwrap();
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_that_over_the_file() {
        let file = TempFile::new(
            "order",
            "[publisher]\ninterval_seconds = 1\nenabled = false\nlimit = 1\nexclude = []\n",
        );
        let settings: Settings = environment(&[
            ("HOSTBUS_PUBLISHER__INTERVAL_SECONDS", "2"),
            ("HOSTBUS_PUBLISHER__LIMIT", "2"),
            ("HOSTBUS_PUBLISHER__EXCLUDE", r#"["/a", "/b,c"]"#),
            ("HOSTBUS_PUBLISHER__NESTED__DEPTH", "9"),
            ("HOSTBUS_PUBLISHER__PASSWORD", "0123"),
            ("HOSTBUS_DATA", "/var"),
        ])
        .file(Some(&file.0))
        .flag("--interval", "publisher.interval_seconds", Some(3.5))
        .flag("--limit", "publisher.limit", None::<u32>)
        .load()
        .unwrap();
        let publisher = settings.publisher;
        assert_eq!(publisher.interval_seconds, 3.5);
        assert_eq!(publisher.limit, 2);
        assert_eq!(publisher.exclude, ["/a", "/b,c"]);
        assert!(!publisher.enabled);
        assert_eq!(publisher.nested.depth, 9);
        assert_eq!(publisher.password, Some(crate::Secret::new("0123")));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_source_and_the_nearest_known_one() {
        let file = TempFile::new("unknown", "[publisher]\nintervall_seconds = 1\n");
        let check = |loader: &Loader, expected: &str| {
            let error = loader.load::<Settings>().unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check(
            &environment(&[]).file(Some(&file.0)),
            &format!(
                "{}: unknown key `publisher.intervall_seconds`, did you mean `publisher.interval_seconds`?",
                file.0.display()
            ),
        );
        check(
            &environment(&[("HOSTBUS_PUBLISHER__INTERVAL", "1")]),
            "HOSTBUS_PUBLISHER__INTERVAL: unknown key `publisher.interval`, did you mean `publisher.interval_seconds`?",
        );
        check(
            &environment(&[("HOSTBUS_PUBLISHER__NESTED__DEEP", "1")]),
            "HOSTBUS_PUBLISHER__NESTED__DEEP: unknown key `publisher.nested.deep`, did you mean `publisher.nested.depth`?",
        );
        check(
            &environment(&[("HOSTBUS_PUBLISHR__LIMIT", "1")]),
            "HOSTBUS_PUBLISHR__LIMIT: unknown key `publishr`, did you mean `publisher`?",
        );
        check(
            &environment(&[("HOSTBUS_ZZZ", "1")]),
            "HOSTBUS_ZZZ: unknown key `zzz`",
        );
    }

    #[test]
    fn a_bad_value_is_named_with_its_key_and_source() {
        let file = TempFile::new("value", "[publisher]\nlimit = \"many\"\n");
        let message = |loader: &Loader| loader.load::<Settings>().unwrap_err().to_string();
        let text = message(&environment(&[]).file(Some(&file.0)));
        assert!(text.contains("bad value for `publisher.limit`"), "{text}");
        assert!(
            text.contains("many") && text.contains("value.toml"),
            "{text}"
        );
        let text = message(&environment(&[("HOSTBUS_LOG__FORMAT", "xml")]));
        assert!(
            text.starts_with("HOSTBUS_LOG__FORMAT: bad value for `log.format`"),
            "{text}"
        );
        let text = message(&environment(&[("HOSTBUS_PUBLISHER__LIMIT", "-1")]));
        assert!(text.contains("HOSTBUS_PUBLISHER__LIMIT"), "{text}");
    }

    #[test]
    fn no_error_shows_a_secret() {
        let message = |loader: &Loader| loader.load::<Settings>().unwrap_err().to_string();
        let file = TempFile::new("secret", "[publisher]\nlimit = 1\npassword = \"hunter2\n");
        let text = message(&environment(&[]).file(Some(&file.0)));
        assert!(
            !text.contains("hunter2") && text.contains("line 3"),
            "{text}"
        );
        let text = message(&environment(&[(
            "HOSTBUS_PUBLISHER__EXCLUDE",
            "[\"hunter2\", ",
        )]));
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("HOSTBUS_PUBLISHER__EXCLUDE"), "{text}");
    }

    #[test]
    fn variables_that_kubernetes_adds_for_a_service_are_no_settings() {
        let settings: Settings = environment(&[
            ("HOSTBUS_BROKER_SERVICE_HOST", "10.0.0.1"),
            ("HOSTBUS_BROKER_SERVICE_PORT_MQTT", "1883"),
            ("HOSTBUS_BROKER_PORT", "tcp://10.0.0.1:1883"),
            ("HOSTBUS_BROKER_PORT_1883_TCP_ADDR", "10.0.0.1"),
        ])
        .load()
        .unwrap();
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn a_file_that_is_missing_or_no_toml_is_named() {
        let missing = Path::new("/nonexistent/hostbus.toml");
        let error = environment(&[])
            .file(Some(missing))
            .load::<Settings>()
            .unwrap_err();
        assert!(matches!(error, ConfigError::Read { .. }), "{error}");
        let file = TempFile::new("syntax", "[publisher\n");
        let error = environment(&[])
            .file(Some(&file.0))
            .load::<Settings>()
            .unwrap_err();
        assert!(matches!(error, ConfigError::Syntax { .. }), "{error}");
    }
}
