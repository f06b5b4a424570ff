//! Why a file can't be used: another process, the system, or what it holds.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use thiserror::Error;

/// Why the file can't be used.
#[derive(Debug, Error)]
pub enum Fault {
    /// Another process has it.
    #[error("another process has it open")]
    InUse,
    /// The system refuses: no right, no room, a device that fails. Says nothing about the content.
    #[error(transparent)]
    System(io::Error),
    /// It has another format than expected: another version of the program wrote it.
    #[error("it has format {0}, of another version of this program")]
    Format(u64),
    /// It is damaged, or no file of ours.
    #[error("{0}")]
    Damaged(String),
}

impl Fault {
    /// For those who begin anew where they can't read: a file of another format is as good as damaged.
    #[must_use]
    pub fn format_is_damage(self) -> Self {
        match self {
            Self::Format(_) => Self::Damaged(self.to_string()),
            other => other,
        }
    }
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            redb::Error::Io(error) if is_of_the_system(&error) => Self::System(error),
            // The library refuses to go on after an error of the system until it is opened again.
            redb::Error::PreviousIo => Self::System(io::Error::other("an earlier error")),
            other => Self::Damaged(other.to_string()),
        }
    }
}

/// An error that says nothing about what the file holds.
fn is_of_the_system(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    !matches!(error.kind(), UnexpectedEof | InvalidData | InvalidInput)
}

/// Does `work` with a database. On a damaged file the library may panic: that is damage too.
///
/// # Errors
/// As `work`.
pub fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Fault::Damaged("the database library gave up".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_device_is_no_damage() {
        let check = |error: io::Error, of_the_system: bool| {
            let told = error.to_string();
            let fault = Fault::from(redb::Error::Io(error));
            assert_eq!(matches!(fault, Fault::System(_)), of_the_system, "{told}");
        };
        for number in [5, 12, 13, 28, 30, 116] {
            check(io::Error::from_raw_os_error(number), true);
        }
        check(io::ErrorKind::UnexpectedEof.into(), false);
        check(io::ErrorKind::InvalidData.into(), false);
    }

    #[test]
    fn a_panic_of_the_library_is_damage() {
        let fault = guarded::<()>(|| panic!("a page that is none")).unwrap_err();
        assert!(matches!(fault, Fault::Damaged(_)), "{fault}");
    }
}
