//! Where a damaged file goes: nobody uses it there, and somebody may still look into it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Renames the file `path` to `<name>.redb.<word>-<unix seconds>`, a name that is free, and tells which.
///
/// # Errors
/// The file can't be renamed.
pub fn set_aside(path: &Path, word: &str, unix_seconds: u64) -> io::Result<PathBuf> {
    for seconds in unix_seconds.. {
        let aside = path.with_extension(format!("redb.{word}-{seconds}"));
        if !aside.try_exists()? {
            fs::rename(path, &aside)?;
            return Ok(aside);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_takes_the_place_of_no_earlier_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state-home.a.redb");
        for seconds in [7, 8] {
            fs::write(&path, seconds.to_string()).unwrap();
            let aside = set_aside(&path, "damaged", 7).unwrap();
            let name = format!("state-home.a.redb.damaged-{seconds}");
            assert_eq!(aside, folder.path().join(name));
            assert_eq!(fs::read_to_string(aside).unwrap(), seconds.to_string());
        }
    }
}
