//! Manifests of the file system.

use std::path::{Path, PathBuf};

use super::Error;
use crate::files::{self, Unreadable};
use crate::yaml;

/// What a file may be called.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];
/// How the standard input is called in messages.
const STDIN: &str = "stdin";
/// Folders in each other at most: a link may lead round.
const DEPTH_MAX: usize = 32;

/// Whether a file of a folder is a manifest by its name.
pub(super) fn is_manifest(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.contains(&ending))
}

/// Name and text of files, in the order that they are named in, those of a folder by name.
pub(super) fn read(paths: &[PathBuf], recursive: bool) -> Result<Vec<(String, String)>, Error> {
    let mut texts = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            texts.push((STDIN.to_owned(), files::text(path)?));
            continue;
        }
        let mut found = Vec::new();
        let named = !path.is_dir();
        if named {
            found.push(path.clone());
        } else {
            list(path, recursive, DEPTH_MAX, &mut found)?;
        }
        for file in found {
            let text = files::text(&file)?;
            if named && yaml::documents(&text).is_empty() {
                return Err(Error::Read(Unreadable {
                    file: files::shown(&file),
                    problem: yaml::EMPTY.to_owned(),
                }));
            }
            texts.push((file.display().to_string(), text));
        }
    }
    Ok(texts)
}

fn list(folder: &Path, recursive: bool, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    let failed = |error| Unreadable::because(folder, &error);
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        entries.push(entry.map_err(failed)?.path());
    }
    entries.sort();
    for entry in entries {
        let hidden = entry
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if entry.is_dir() {
            if recursive && depth > 0 && !hidden {
                list(&entry, recursive, depth - 1, files)?;
            }
        } else if is_manifest(&entry) {
            files.push(entry);
        }
    }
    Ok(())
}
