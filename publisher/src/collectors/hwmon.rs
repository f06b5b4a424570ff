//! The chips below `/sys/class/hwmon` and their inputs (`Documentation/hwmon/sysfs-interface.rst`).
//! What the inputs mean is not its business.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::attribute;

/// Where chips stand, below the root.
pub(crate) const CHIPS: &str = "sys/class/hwmon";

/// One chip, or what a driver shows as one.
pub(crate) struct Chip {
    /// Its driver's name for it, `coretemp`.
    pub(crate) name: String,
    path: PathBuf,
}

/// One input of a chip.
pub(crate) struct Input {
    /// Its kind and number, `temp1`.
    pub(crate) id: String,
    /// What is measured there, `Package id 0`.
    pub(crate) label: Option<String>,
    /// The file of its value.
    pub(crate) value: PathBuf,
    /// The file that says 1 while it is broken.
    pub(crate) fault: Option<PathBuf>,
}

/// All chips that have a name. None where the kernel knows no such thing.
pub(crate) fn chips(folder: &Path) -> io::Result<Vec<Chip>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut chips: Vec<Chip> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter_map(|path| {
            let name = attribute::text(&path.join("name"))?;
            Some(Chip { name, path })
        })
        .collect();
    chips.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(chips)
}

impl Chip {
    /// The last part of the path of its device: `nvme0`, `0000:00:18.3`. Unlike the number of its
    /// folder it is the same after a restart.
    pub(crate) fn device(&self) -> String {
        let target = fs::read_link(self.path.join("device")).unwrap_or_else(|_| self.path.clone());
        target
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    /// Its inputs, of all kinds. None when it is gone.
    pub(crate) fn inputs(&self) -> Vec<Input> {
        let Ok(entries) = fs::read_dir(&self.path) else {
            return Vec::new();
        };
        let mut ids: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter_map(|file| file.strip_suffix("_input").map(str::to_owned))
            .collect();
        ids.sort_unstable();
        ids.into_iter().map(|id| self.input(id)).collect()
    }

    fn input(&self, id: String) -> Input {
        let file = |what: &str| self.path.join(format!("{id}_{what}"));
        Input {
            label: attribute::text(&file("label")),
            value: file("input"),
            fault: Some(file("fault")).filter(|path| path.exists()),
            id,
        }
    }
}
