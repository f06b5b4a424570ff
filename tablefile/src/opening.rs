//! Opening a file of one format, or beginning it.
//!
//! ```text
//! meta      "format" -> u64
//! ```
//! The other tables are the component's. While a file is open, no other process can open it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use redb::{Builder, Database, ReadableTable, TableDefinition, WriteTransaction};

use crate::fault::{Fault, guarded};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// What a file of one kind looks like.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Its format; another one is not read.
    pub format: u64,
    /// Pages that the database may hold in memory.
    pub cache_bytes: usize,
    /// Opens each table once, so that all of them are there.
    pub tables: fn(&WriteTransaction) -> Result<(), redb::Error>,
}

impl Layout {
    /// Opens the file `path`, or begins it for its owner alone, in a folder that is there. A new one is
    /// on disk with its tables when this returns.
    ///
    /// # Errors
    /// It is in use, damaged or of another format, or the system refuses.
    pub fn open(&self, path: &Path) -> Result<Database, Fault> {
        let is_new = !path.try_exists().map_err(Fault::System)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(Fault::System)?;
        let database = guarded(|| {
            let database = builder(self.cache_bytes).create_file(file)?;
            self.check(&database)?;
            Ok(database)
        })?;
        if is_new {
            sync_folder_of(path).map_err(Fault::System)?;
        }
        Ok(database)
    }

    fn check(&self, database: &Database) -> Result<(), Fault> {
        let writing = database.begin_write()?;
        let found = {
            let mut meta = writing.open_table(META)?;
            let found = meta.get("format")?.map(|format| format.value());
            if found.is_none() {
                meta.insert("format", self.format)?;
            }
            found
        };
        match found {
            Some(format) if format == self.format => Ok(writing.abort()?),
            Some(other) => Err(Fault::Format(other)),
            None => {
                (self.tables)(&writing)?;
                Ok(writing.commit()?)
            }
        }
    }
}

/// Opens a file again that this process had open before, and makes none where it is gone.
///
/// # Errors
/// It is in use or damaged, or the system refuses.
pub fn reopen(path: &Path, cache_bytes: usize) -> Result<Database, Fault> {
    let file = File::options().read(true).write(true).open(path);
    let file = file.map_err(Fault::System)?;
    guarded(|| Ok(builder(cache_bytes).create_file(file)?))
}

/// Makes durable that the file is there.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != "" => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

fn builder(cache_bytes: usize) -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(cache_bytes);
    builder
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use redb::ReadableDatabase;

    use super::*;

    const WORDS: TableDefinition<'_, &str, u64> = TableDefinition::new("words");
    const LAYOUT: Layout = Layout {
        format: 1,
        cache_bytes: 64 * 1024,
        tables: |writing| {
            writing.open_table(WORDS)?;
            Ok(())
        },
    };

    #[test]
    fn a_new_file_has_its_tables_and_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("words.redb");
        let database = LAYOUT.open(&path).unwrap();
        assert!(database.begin_read().unwrap().open_table(WORDS).is_ok());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = LAYOUT.open(&path).unwrap_err();
        assert!(matches!(again, Fault::InUse), "{again}");
        drop(database);
        LAYOUT.open(&path).unwrap();
        reopen(&path, LAYOUT.cache_bytes).unwrap();
    }

    #[test]
    fn what_can_not_be_read_is_told_by_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("words.redb");
        drop(LAYOUT.open(&path).unwrap());
        let later = Layout {
            format: 2,
            ..LAYOUT
        };
        let fault = later.open(&path).unwrap_err();
        assert!(matches!(fault, Fault::Format(1)), "{fault}");
        let fault = fault.format_is_damage();
        assert!(matches!(fault, Fault::Damaged(_)), "{fault}");

        fs::write(&path, "no database").unwrap();
        let fault = LAYOUT.open(&path).unwrap_err();
        assert!(matches!(fault, Fault::Damaged(_)), "{fault}");
        let fault = LAYOUT
            .open(&folder.path().join("gone/words.redb"))
            .unwrap_err();
        assert!(matches!(fault, Fault::System(_)), "{fault}");
        let fault = reopen(&folder.path().join("gone.redb"), 1).unwrap_err();
        assert!(matches!(fault, Fault::System(_)), "{fault}");
    }
}
