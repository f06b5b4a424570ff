//! Who may log in: the identities in the data folder, and those in the settings.
//!
//! ```text
//! identities.redb (mode 0600)
//!   meta        "format" -> "1"
//!   identities  name -> {"identity": {"role": "viewer"}, "credential": {"sha256": [..]}}   JSON
//! ```
//! All of them stand in memory too, so that a login reads no disk. Whether a login is right is
//! decided in `login`.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::RwLock;

use hostbus_wire::Identity;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use crate::config::ConfiguredIdentity;
use crate::credential::{Credential, Kept};
use crate::error::Error;
use crate::lock::Locked;

const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
const IDENTITIES: TableDefinition<'_, &str, &str> = TableDefinition::new("identities");
const FORMAT: &str = "1";

/// The longest user name, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// An identity as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) identity: Identity,
    pub(crate) credential: Kept,
}

/// The identities of a broker.
#[derive(Debug, Default)]
pub struct Identities {
    file: Option<File>,
    kept: RwLock<BTreeMap<String, Record>>,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    database: Database,
}

impl File {
    fn fault(&self, source: impl Into<redb::Error>) -> Error {
        Error::Database {
            path: self.path.clone(),
            source: Box::new(source.into()),
        }
    }
}

impl Identities {
    /// Opens `identities.redb` in the folder `data`; makes both where they are missing. Nobody else
    /// can open it until this is dropped.
    ///
    /// # Errors
    /// The folder can't be used, another process has the file open, it is damaged or of another
    /// format. A damaged file is left as it is.
    pub fn open(data: &Path) -> Result<Self, Error> {
        make_folder(data)?;
        let path = data.join("identities.redb");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|source| Error::Data {
                path: path.clone(),
                source,
            })?;
        let database = Database::builder()
            .create_file(file)
            .map_err(|error| match error {
                redb::DatabaseError::DatabaseAlreadyOpen => Error::InUse { path: path.clone() },
                other => Error::Database {
                    path: path.clone(),
                    source: Box::new(other.into()),
                },
            })?;
        let file = File { path, database };
        let kept = file.read()?;
        Ok(Self {
            file: Some(file),
            kept: RwLock::new(kept),
        })
    }

    /// No identities, and no file: what is put lasts as long as this value.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::default()
    }

    /// Adds an identity or replaces the one of this name; it can log in from now on. Blocks for
    /// the disk, and some 30 ms for a password.
    ///
    /// # Errors
    /// The name is empty, too long or has control characters, or the file can't be written.
    pub fn put(
        &self,
        name: &str,
        identity: Identity,
        credential: &Credential,
    ) -> Result<(), Error> {
        check_name(name)?;
        let record = Record {
            identity,
            credential: Kept::of(credential)?,
        };
        let mut kept = self.kept.held_to_write();
        if let Some(file) = &self.file {
            let text = serde_json::to_string(&record).map_err(|source| Error::Data {
                path: file.path.clone(),
                source: source.into(),
            })?;
            file.write(name, Some(&text))?;
        }
        kept.insert(name.to_owned(), record);
        Ok(())
    }

    /// Removes an identity; it can't log in any more. A live connection of it goes on. Returns
    /// whether there was one.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn remove(&self, name: &str) -> Result<bool, Error> {
        let mut kept = self.kept.held_to_write();
        if !kept.contains_key(name) {
            return Ok(false);
        }
        if let Some(file) = &self.file {
            file.write(name, None)?;
        }
        kept.remove(name);
        Ok(true)
    }

    /// The identity of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Identity> {
        self.record(name).map(|record| record.identity)
    }

    /// All identities in the data folder, by name.
    #[must_use]
    pub fn list(&self) -> Vec<(String, Identity)> {
        let kept = self.kept.held_to_read();
        kept.iter()
            .map(|(name, record)| (name.clone(), record.identity.clone()))
            .collect()
    }

    pub(crate) fn record(&self, name: &str) -> Option<Record> {
        self.kept.held_to_read().get(name).cloned()
    }
}

/// Makes the data folder where it is missing.
pub(crate) fn make_folder(data: &Path) -> Result<(), Error> {
    if data.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(|source: io::Error| Error::Data {
            path: data.to_owned(),
            source,
        })
}

/// The identities of the settings, by name.
pub(crate) fn configured(
    entries: &[ConfiguredIdentity],
) -> Result<BTreeMap<String, Record>, Error> {
    let mut configured = BTreeMap::new();
    for entry in entries {
        check_name(&entry.name)?;
        let (identity, secret) = entry.read()?;
        let record = Record {
            identity,
            credential: Kept::of_secret(&secret),
        };
        if configured.insert(entry.name.clone(), record).is_some() {
            let problem = "stands twice in broker.identities";
            return Err(Error::Identity {
                name: entry.name.clone(),
                problem,
            });
        }
    }
    Ok(configured)
}

fn check_name(name: &str) -> Result<(), Error> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        let problem = "expected a name of 1 to 128 bytes without control characters";
        return Err(Error::Identity {
            name: name.chars().take(64).collect(),
            problem,
        });
    }
    Ok(())
}

impl File {
    /// Reads all identities; begins a new file.
    fn read(&self) -> Result<BTreeMap<String, Record>, Error> {
        let writing = self
            .database
            .begin_write()
            .map_err(|error| self.fault(error))?;
        {
            let mut meta = writing
                .open_table(META)
                .map_err(|error| self.fault(error))?;
            let format = meta
                .get("format")
                .map_err(|error| self.fault(error))?
                .map(|format| format.value().to_owned());
            match format.as_deref() {
                Some(FORMAT) => {}
                None => {
                    meta.insert("format", FORMAT)
                        .map_err(|error| self.fault(error))?;
                }
                Some(other) => {
                    let found = format!("format {other}");
                    return Err(Error::Format {
                        path: self.path.clone(),
                        found,
                    });
                }
            }
            writing
                .open_table(IDENTITIES)
                .map_err(|error| self.fault(error))?;
        }
        writing.commit().map_err(|error| self.fault(error))?;
        let reading = self
            .database
            .begin_read()
            .map_err(|error| self.fault(error))?;
        let table = reading
            .open_table(IDENTITIES)
            .map_err(|error| self.fault(error))?;
        let mut kept = BTreeMap::new();
        for row in table.iter().map_err(|error| self.fault(error))? {
            let (name, text) = row.map_err(|error| self.fault(error))?;
            let record = serde_json::from_str(text.value()).map_err(|error| Error::Format {
                path: self.path.clone(),
                found: format!("an unreadable identity `{}` ({error})", name.value()),
            })?;
            kept.insert(name.value().to_owned(), record);
        }
        Ok(kept)
    }

    /// Writes or removes one identity; it is on disk when this returns.
    fn write(&self, name: &str, record: Option<&str>) -> Result<(), Error> {
        let writing = self
            .database
            .begin_write()
            .map_err(|error| self.fault(error))?;
        {
            let mut table = writing
                .open_table(IDENTITIES)
                .map_err(|error| self.fault(error))?;
            match record {
                Some(text) => table
                    .insert(name, text)
                    .map_err(|error| self.fault(error))?,
                None => table.remove(name).map_err(|error| self.fault(error))?,
            };
        }
        writing.commit().map_err(|error| self.fault(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostbus_daemon::Secret;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn identities_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let secret = Credential::Secret(Secret::new("s"));
        {
            let identities = Identities::open(&data).unwrap();
            identities.put("ann", Identity::Viewer, &secret).unwrap();
            identities.put("bob", Identity::Admin, &secret).unwrap();
            assert!(identities.remove("bob").unwrap());
            assert!(!identities.remove("bob").unwrap());
        }
        let mode = fs::metadata(data.join("identities.redb"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let identities = Identities::open(&data).unwrap();
        assert_eq!(identities.list(), [("ann".to_owned(), Identity::Viewer)]);
        assert!(identities.record("ann").unwrap().credential.is_secret(b"s"));
    }

    #[test]
    fn a_file_in_use_is_told_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let _first = Identities::open(folder.path()).unwrap();
        let error = Identities::open(folder.path()).unwrap_err();
        assert!(matches!(error, Error::InUse { .. }), "{error}");
    }

    #[test]
    fn a_damaged_file_is_told_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identities.redb");
        fs::write(&path, "no database at all, but long enough to look at").unwrap();
        let error = Identities::open(folder.path()).unwrap_err();
        assert!(matches!(error, Error::Database { .. }), "{error}");
        assert!(
            fs::read_to_string(&path)
                .unwrap()
                .starts_with("no database")
        );
    }

    #[test]
    fn names_are_checked() {
        let identities = Identities::in_memory();
        let secret = Credential::Secret(Secret::new("s"));
        for bad in ["", "a\nb", &"x".repeat(129)] {
            assert!(
                identities.put(bad, Identity::Viewer, &secret).is_err(),
                "{bad}"
            );
        }
    }
}
