//! Files that people name: read whole, and one line where that fails.

use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

/// Largest text that is read, bytes.
const BYTES_MAX: u64 = 64 << 20;

/// A file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {file}: {problem}")]
pub struct Unreadable {
    /// The file, as it was named.
    pub file: String,
    /// Why, and what to do about it.
    pub problem: String,
}

impl Unreadable {
    /// A file, and what the system said of it.
    pub fn because(file: &Path, error: &io::Error) -> Self {
        Self {
            file: shown(file),
            problem: said(error),
        }
    }
}

/// What a file is called in messages.
pub fn shown(file: &Path) -> String {
    if file.as_os_str() == "-" {
        "standard input".to_owned()
    } else {
        file.display().to_string()
    }
}

/// The whole text of a file; of standard input for `-`.
///
/// # Errors
/// When it cannot be read, is too large, or is not text.
pub fn text(file: &Path) -> Result<String, Unreadable> {
    let mut text = String::new();
    let read = if file.as_os_str() == "-" {
        io::stdin().lock().take(BYTES_MAX + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|open| open.take(BYTES_MAX + 1).read_to_string(&mut text))
    };
    match read {
        Err(error) => Err(Unreadable::because(file, &error)),
        Ok(_) if text.len() as u64 > BYTES_MAX => Err(Unreadable {
            file: shown(file),
            problem: format!("it has more than {} MiB", BYTES_MAX >> 20),
        }),
        Ok(_) => Ok(text),
    }
}

/// What the system said, and what to do about it.
pub fn said(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such file or folder: check the name".to_owned(),
        ErrorKind::PermissionDenied => "not permitted: check whose it is, and its mode".to_owned(),
        ErrorKind::IsADirectory => "it is a folder: name a file".to_owned(),
        ErrorKind::InvalidData => "it is not text (UTF-8)".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_said_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("binary");
        std::fs::write(&binary, [0xff, 0xfe, 0]).unwrap();
        for (path, said) in [
            (folder.path().join("none"), "no such file"),
            (folder.path().to_owned(), "is a folder"),
            (binary, "not text"),
        ] {
            let error = text(&path).unwrap_err().to_string();
            assert!(
                error.starts_with("cannot read ") && error.contains(said) && error.lines().count() == 1,
                "{error}"
            );
        }
    }
}
