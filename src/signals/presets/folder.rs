//! An administrator's presets: a folder of YAML files, as a mounted ConfigMap is one, added to those that ship.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_saphyr::Spanned;

use super::{Error, Preset, Source};
use crate::files::said;

const FILES_MAX: usize = 64;
const BYTES_MAX: u64 = 64 * 1024;

/// Name and text of the preset files of a folder, in the order of their names. Names that begin with a dot are left out:
/// a mounted ConfigMap keeps its bookkeeping under `..data`.
pub(super) fn files(folder: &Path) -> Result<Vec<(String, String)>, Error> {
    let refused = |path: &Path, problem: String| Error::Folder {
        path: path.display().to_string(),
        problem,
    };
    let entries = std::fs::read_dir(folder).map_err(|error| refused(folder, said(&error)))?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| refused(folder, said(&error)))?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if name.starts_with('.') {
            continue;
        }
        let yaml = path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml");
        // Of the file, not of the link: a mounted ConfigMap consists of links.
        let about = std::fs::metadata(&path).map_err(|error| refused(&path, said(&error)))?;
        if !yaml || !about.is_file() {
            return Err(refused(
                &path,
                "not a preset: name its file `*.yaml`, or take it away".to_owned(),
            ));
        }
        if about.len() > BYTES_MAX {
            return Err(refused(&path, format!("larger than {BYTES_MAX} bytes")));
        }
        let text = std::fs::read_to_string(&path).map_err(|error| refused(&path, said(&error)))?;
        files.push((name, text));
        if files.len() > FILES_MAX {
            return Err(refused(folder, format!("holds more than {FILES_MAX} presets")));
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// The shipped presets with those of some files. A shipped one is replaced by a file that says so, and never by accident.
pub(super) fn merged(shipped: &[Preset], files: &[(String, String)]) -> Result<Vec<Preset>, Error> {
    let mut all = shipped.to_vec();
    let mut added = BTreeMap::new();
    for (file, text) in files {
        let preset = Preset::parse(file, text)?;
        let refused = |field: &str, problem| Err(field_error(file, text, field.to_owned(), problem));
        if added.insert(preset.name.clone(), file).is_some() {
            return refused("name", "another file of the folder has this name: use a name once");
        }
        match (all.iter_mut().find(|other| other.name == preset.name), preset.replaces) {
            (None, false) => all.push(preset),
            (None, true) => {
                return refused("replaces", "no preset of this name ships with tiercel: leave this out");
            }
            (Some(_), false) => {
                return refused(
                    "name",
                    "ships with tiercel: use another name, or add `replaces: true` to put this one in its place",
                );
            }
            // Admission rules speak of it: it needs neither a port nor a queue.
            (Some(other), true) if other.source == Source::ResourceMetrics => {
                return refused(
                    "replaces",
                    "the preset of metrics.k8s.io cannot be replaced: use another name",
                );
            }
            (Some(other), true) => *other = preset,
        }
    }
    Ok(all)
}

/// A refusal with the line of its field.
pub(super) fn field_error(file: &str, text: &str, field: String, problem: &'static str) -> Error {
    Error::Field {
        file: file.to_owned(),
        line: line(text, &field).unwrap_or(1),
        field,
        problem,
    }
}

type Lines = BTreeMap<String, Spanned<IgnoredAny>>;

/// Line of a field such as `name` or `signals[1].over.metric`; of what it belongs to where it is not written itself.
fn line(text: &str, field: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Signals {
        signals: Vec<Spanned<Lines>>,
    }
    let (first, rest) = field.split_once('.').unwrap_or((field, ""));
    if let Some(index) = first.strip_prefix("signals[").and_then(|index| index.strip_suffix(']')) {
        let all: Signals = serde_saphyr::from_str(text).ok()?;
        let signal = all.signals.get(index.parse::<usize>().ok()?)?;
        let within = signal.value.get(rest.split('.').next().unwrap_or(rest));
        return Some(within.map_or(signal.referenced, |found| found.referenced).line());
    }
    let all: Lines = serde_saphyr::from_str(text).ok()?;
    all.get(first).map(|found| found.referenced.line())
}
