//! Documents of rules from files: reads those that the settings name, and tells the book what is new.
//!
//! Only the name of a file may be a glob, not its folder: `rules/*.toml`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use wildmatch::WildMatch;

use super::book::{Book, Origin};
use super::document;
use super::mistake::Mistake;

/// The most files that are read.
const MAX_FILES: usize = 256;

/// The files that the settings name.
#[derive(Debug, Clone, Default)]
pub struct Files {
    patterns: Vec<PathBuf>,
    /// What each file and pattern held when it was last read; a message where it could not be.
    seen: BTreeMap<PathBuf, Result<Vec<u8>, String>>,
}

impl Files {
    /// The files of `patterns`, relative ones below the folder of this process.
    #[must_use]
    pub fn new(patterns: &[String]) -> Self {
        Self {
            patterns: patterns.iter().map(PathBuf::from).collect(),
            seen: BTreeMap::new(),
        }
    }

    /// Reads the files again, and tells `book` of those that are new, changed or gone. Returns whether
    /// other rules may be in force. A file that can't be read is a mistake of its document.
    pub fn update(&mut self, book: &mut Book) -> bool {
        let found = self.read();
        let mut changed = false;
        for gone in self.seen.keys().filter(|path| !found.contains_key(*path)) {
            changed |= book.remove(&Origin::File(gone.clone()));
        }
        for (path, content) in &found {
            if self.seen.get(path) == Some(content) {
                continue;
            }
            let origin = Origin::File(path.clone());
            match content {
                // The book keeps the mistakes.
                Ok(document) => changed |= book.set(origin, document).unwrap_or(false),
                Err(problem) => book.refuse(origin, vec![Mistake::whole(problem.clone())]),
            }
        }
        self.seen = found;
        changed
    }

    fn read(&self) -> BTreeMap<PathBuf, Result<Vec<u8>, String>> {
        let mut found = BTreeMap::new();
        for pattern in &self.patterns {
            let paths = match matching(pattern) {
                Ok(paths) => paths,
                Err(problem) => {
                    found.insert(pattern.clone(), Err(problem));
                    continue;
                }
            };
            for path in paths {
                if found.len() >= MAX_FILES {
                    let problem = format!("more than {MAX_FILES} files of rules");
                    found.insert(pattern.clone(), Err(problem));
                    return found;
                }
                let content = content(&path).map_err(|error| told(&error));
                found.insert(path, content);
            }
        }
        found
    }
}

/// The files that a pattern means, by name.
fn matching(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let is_glob = |text: &str| text.contains(['*', '?']);
    let name = pattern.file_name().and_then(|name| name.to_str());
    let name = name.ok_or("expected the name of a file, or a glob such as rules/*.toml")?;
    let folder = pattern.parent().unwrap_or(Path::new(""));
    if is_glob(&folder.to_string_lossy()) {
        return Err("only the name of a file may have `*` and `?`, not its folder".to_owned());
    }
    if !is_glob(name) {
        return Ok(vec![pattern.to_owned()]);
    }
    let here = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let glob = WildMatch::new(name);
    let mut paths = Vec::new();
    for entry in fs::read_dir(here).map_err(|error| told(&error))? {
        let entry = entry.map_err(|error| told(&error))?;
        let name = entry.file_name();
        let shown = name.to_str().unwrap_or_default();
        // Editors leave hidden files behind.
        if glob.matches(shown) && !shown.starts_with('.') {
            paths.push(folder.join(name));
        }
    }
    paths.sort();
    Ok(paths)
}

/// A file's content; of one that is too long, enough to see that.
fn content(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let most = document::MAX_BYTES as u64 + 1;
    File::open(path)?.take(most).read_to_end(&mut content)?;
    Ok(content)
}

fn told(error: &io::Error) -> String {
    format!("failed to read it: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(book: &Book) -> Vec<String> {
        let rules = book.rules().into_iter();
        rules.map(|rule| rule.name.to_string()).collect()
    }

    #[test]
    fn files_come_change_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, rule: &str| {
            let text = format!(
                "[[rule]]\nname = \"{rule}\"\nmetric = \"cpu.load1\"\nwarning = {{ above = 1 }}\n"
            );
            fs::write(path(name), text).unwrap();
        };
        let pattern = path("*.toml").display().to_string();
        let (mut files, mut book) = (Files::new(&[pattern]), Book::default());
        assert!(!files.update(&mut book));
        write("a.toml", "a");
        write("b.toml", "b");
        write("c.txt", "c");
        write(".d.toml", "d");
        assert!(files.update(&mut book));
        assert_eq!(names(&book), ["a", "b"]);
        assert!(!files.update(&mut book));

        write("a.toml", "other");
        fs::write(path("b.toml"), "[[rule]]").unwrap();
        assert!(files.update(&mut book));
        assert_eq!(names(&book), ["b", "other"]);
        let told: Vec<String> = book
            .mistakes()
            .map(|(origin, _)| origin.to_string())
            .collect();
        assert_eq!(told, [path("b.toml").display().to_string()]);

        fs::remove_file(path("b.toml")).unwrap();
        assert!(files.update(&mut book));
        assert_eq!(names(&book), ["other"]);
        assert_eq!(book.mistakes().count(), 0);
    }

    #[test]
    fn what_can_not_be_read_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let check = |pattern: &str, expected: &str| {
            let pattern = folder.path().join(pattern).display().to_string();
            let mut book = Book::default();
            assert!(!Files::new(&[pattern]).update(&mut book));
            let (_, mistakes) = book.mistakes().next().unwrap();
            assert!(mistakes[0].problem.contains(expected), "{mistakes:?}");
        };
        check("none.toml", "No such file");
        check("none/*.toml", "No such file");
        check("*/a.toml", "not its folder");
        check("..", "expected the name of a file");
        fs::write(folder.path().join("long.toml"), vec![b'#'; 70_000]).unwrap();
        check("long.toml", "expected at most 65536");
    }
}
