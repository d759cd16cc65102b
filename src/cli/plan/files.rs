//! Manifests of the file system.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::Error;

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
            let mut text = String::new();
            let read = std::io::stdin().lock().read_to_string(&mut text);
            read.map_err(|error| failed(Path::new(STDIN), &error))?;
            texts.push((STDIN.to_owned(), text));
            continue;
        }
        let mut files = Vec::new();
        if path.is_dir() {
            list(path, recursive, DEPTH_MAX, &mut files)?;
        } else {
            files.push(path.clone());
        }
        for file in files {
            let text = std::fs::read_to_string(&file).map_err(|error| failed(&file, &error))?;
            texts.push((file.display().to_string(), text));
        }
    }
    Ok(texts)
}

fn list(folder: &Path, recursive: bool, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    let failed = |error| failed(folder, &error);
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

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::Read {
        path: path.display().to_string(),
        problem: error.to_string(),
    }
}
