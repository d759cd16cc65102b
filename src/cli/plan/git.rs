//! Manifests of another commit, read with the git program. Nothing is checked out.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Error, files};

/// Name and text of the files that `paths` name in a commit; what was not there then is left out.
pub(super) fn read(reference: &str, paths: &[PathBuf], recursive: bool) -> Result<Vec<(String, String)>, Error> {
    let failed = |problem: String| Error::Git {
        reference: reference.to_owned(),
        problem,
    };
    // It stands where git takes options.
    if reference.is_empty() || reference.starts_with('-') {
        return Err(failed("name a commit, branch or tag".to_owned()));
    }
    let mut texts = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            return Err(failed(
                "what comes from the standard input has no history: name files".to_owned(),
            ));
        }
        let (folder, name) = if path.is_dir() {
            (path.as_path(), None)
        } else {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            (folder.unwrap_or(Path::new(".")), path.file_name())
        };
        let commit = format!("{reference}^{{commit}}");
        let commit = git(
            folder,
            &["rev-parse", "--verify", "--quiet", "--end-of-options", &commit],
        );
        let commit = commit.map_err(|problem| {
            if problem.is_empty() {
                failed("there is no such commit, branch or tag here: fetch it, or name another".to_owned())
            } else {
                failed(problem)
            }
        })?;
        let commit = commit.trim();
        // Names come relative to the folder, and only of what is in it.
        let mut list = vec!["ls-tree", "-z", "--name-only"];
        if recursive && name.is_none() {
            list.push("-r");
        }
        let name = name.map(|name| format!("./{}", name.to_string_lossy()));
        list.extend([commit, "--"]);
        list.extend(name.as_deref());
        let names = git(folder, &list).map_err(failed)?;
        for found in names.split('\0').filter(|found| !found.is_empty()) {
            let hidden = Path::new(found)
                .components()
                .any(|part| part.as_os_str().to_string_lossy().starts_with('.'));
            if name.is_none() && (hidden || !files::is_manifest(Path::new(found))) {
                continue;
            }
            let text = git(folder, &["show", "--end-of-options", &format!("{commit}:./{found}")]).map_err(failed)?;
            texts.push((format!("{reference}:{}", folder.join(found).display()), text));
        }
    }
    Ok(texts)
}

fn git(folder: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(arguments);
    let output = command
        .output()
        .map_err(|error| format!("the git program cannot be run: {error}"))?;
    if output.status.success() {
        return String::from_utf8(output.stdout).map_err(|_| "a file is not UTF-8".to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    Err(said.strip_prefix("fatal: ").unwrap_or(&said).to_owned())
}
