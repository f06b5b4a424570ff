//! The file that tells scripts where a process listens: one JSON object, written once all serves.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

/// Writes `object` to `path` as JSON, whole or not at all: a reader never sees half a file.
///
/// # Errors
/// The folder is missing or not writable.
pub fn write(path: &Path, object: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(object)?;
    text.push('\n');
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    fs::write(&beside, text)?;
    fs::rename(&beside, path)
}
