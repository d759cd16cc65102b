//! Pure: named texts become one archive.

use std::io::{Cursor, Write as _};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A file of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) text: String,
}

/// The archive's bytes.
pub(super) fn packed(entries: &[Entry]) -> Result<Vec<u8>, String> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let mut pack = || {
        for entry in entries {
            archive.start_file(entry.name.as_str(), options)?;
            archive.write_all(entry.text.as_bytes())?;
        }
        Ok::<(), zip::result::ZipError>(())
    };
    pack().map_err(|error| error.to_string())?;
    let bytes = archive.finish().map_err(|error| error.to_string())?;
    Ok(bytes.into_inner())
}
