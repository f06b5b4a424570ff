//! Attributes of sysfs: small files of one value each.
//!
//! The kernel makes the whole text at the first read (`Documentation/filesystems/sysfs.rst`), so one
//! read is enough and there is no asking for the end. They are opened each time: a file held open
//! would save a microsecond, and cost a descriptor and a page of kernel memory for each of what may
//! be hundreds.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Longer texts are no single value.
const MAX_BYTES: usize = 256;

/// What an attribute says, without the line's end. `None` when it is not there, can't be read, or
/// is empty: most attributes are optional, and a driver answers with an error what it does not know.
pub(crate) fn text(path: &Path) -> Option<String> {
    read(path, |text| (!text.is_empty()).then(|| text.to_owned())).ok()?
}

/// The whole number that an attribute says.
pub(crate) fn number(path: &Path) -> Option<i64> {
    read(path, |text| text.parse().ok()).ok()?
}

/// As [`number`], and tells why it can't be read. What is no number is [`io::ErrorKind::InvalidData`].
pub(crate) fn required_number(path: &Path) -> io::Result<u64> {
    read(path, |text| text.parse().ok())?.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn read<T>(path: &Path, take: impl FnOnce(&str) -> Option<T>) -> io::Result<Option<T>> {
    let mut bytes = [0; MAX_BYTES];
    let length = File::open(path)?.read(&mut bytes)?;
    if length == MAX_BYTES {
        return Ok(None);
    }
    Ok(std::str::from_utf8(&bytes[..length])
        .ok()
        .and_then(|text| take(text.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::machines::Machine;

    #[test]
    fn an_attribute_is_one_value_or_unknown() {
        let machine = Machine::new();
        let path = machine.root().join("attribute");
        for (content, as_text, as_number) in [
            ("51000\n", Some("51000"), Some(51000)),
            ("-5000", Some("-5000"), Some(-5000)),
            ("Package id 0\n", Some("Package id 0"), None),
            ("\n", None, None),
            ("", None, None),
            (&"9".repeat(MAX_BYTES), None, None),
        ] {
            machine.write("attribute", content);
            assert_eq!(text(&path).as_deref(), as_text, "{content}");
            assert_eq!(number(&path), as_number, "{content}");
        }
        machine.remove("attribute");
        assert_eq!((text(&path), number(&path)), (None, None));
        // As a sensor whose chip sleeps, a folder opens and can't be read.
        assert_eq!(number(machine.root()), None);
    }
}
