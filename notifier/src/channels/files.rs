//! The files that a channel was opened with: secrets, templates, certificates, a program. They are read once;
//! here stands what they were like then, so that a channel can be opened anew when one has changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a file was like: a change of what it holds or of who may use it changes its inode or the time of the
/// change. `None` when it was not there.
type Look = Option<(u64, u64, i64, i64)>;

/// Files, and what they were like before they were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files(Vec<(PathBuf, Look)>);

impl Files {
    /// Remembers what `path` is like. To be called before it is read: a change in between is seen then.
    pub fn add(&mut self, path: &Path) {
        if !self.0.iter().any(|(known, _)| known == path) {
            self.0.push((path.to_owned(), look(path)));
        }
    }

    /// Whether one of them is not what it was.
    #[must_use]
    pub fn have_changed(&self) -> bool {
        self.0.iter().any(|(path, was)| look(path) != *was)
    }
}

fn look(path: &Path) -> Look {
    let metadata = fs::metadata(path).ok()?;
    Some((
        metadata.ino(),
        metadata.size(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_is_written_replaced_allowed_or_removed_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let check = |change: &dyn Fn(), changed: bool| {
            let mut files = Files::default();
            files.add(&path);
            assert!(!files.have_changed());
            change();
            assert_eq!(files.have_changed(), changed);
        };
        check(&|| fs::write(&path, "one").unwrap(), true);
        check(&|| fs::write(&path, "three").unwrap(), true);
        check(&|| drop(fs::read(&path).unwrap()), false);
        let other = folder.path().join("other");
        check(
            &|| {
                fs::write(&other, "seven").unwrap();
                fs::rename(&other, &path).unwrap();
            },
            true,
        );
        // The clock of the filesystem goes in steps.
        let allowed = || {
            let before = look(&path);
            while look(&path) == before {
                for mode in [0o644, 0o755] {
                    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
                }
            }
        };
        check(&allowed, true);
        check(&|| fs::remove_file(&path).unwrap(), true);
        check(&|| (), false);
    }
}
