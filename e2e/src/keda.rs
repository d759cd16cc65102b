//! KEDA's programs and definitions, for the benchmark that measures beside it: built once from `e2e/keda/go.mod`, a module of
//! its own so that nobody who only tests has to build it. Kept beside the control plane's programs, see [`crate::tools`].
//!
//! One line of its source is changed on the way: the adapter would serve its own metrics on all interfaces, and has no flag
//! for the address.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use crate::tools::{self, Error, at, minutes};

const MODULE: &str = "github.com/kedacore/keda/v2";
/// File names of the programs and their packages below [`MODULE`].
const PROGRAMS: [(&str, &str); 2] = [("keda-operator", "cmd/operator"), ("keda-adapter", "cmd/adapter")];
/// The adapter's address of its own metrics, as released and as built here.
const METRICS_ADDRESS: [&str; 2] = [
    r#"fmt.Sprintf(":%v", metricsAPIServerPort)"#,
    r#"fmt.Sprintf("127.0.0.1:%v", metricsAPIServerPort)"#,
];

/// A folder that holds the programs and the custom resource definitions.
#[derive(Debug, Clone)]
pub struct Keda {
    folder: PathBuf,
}

impl Keda {
    /// The operator: makes an autoscaler of each `ScaledObject` and reads its triggers.
    pub fn operator(&self) -> PathBuf {
        self.folder.join(PROGRAMS[0].0)
    }

    /// The adapter: serves `external.metrics.k8s.io` from the operator's readings.
    pub fn adapter(&self) -> PathBuf {
        self.folder.join(PROGRAMS[1].0)
    }

    /// Paths of the custom resource definitions.
    pub fn definitions(&self) -> Result<Vec<PathBuf>, Error> {
        let folder = self.folder.join("crds");
        let entries = fs::read_dir(&folder).map_err(at(&folder))?;
        let mut all: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        all.sort();
        Ok(all)
    }
}

/// The version that `e2e/keda/go.mod` pins.
pub fn version() -> Result<String, Error> {
    let path = module().join("go.mod");
    let text = fs::read_to_string(&path).map_err(at(&path))?;
    let pinned = text
        .split_whitespace()
        .skip_while(|word| *word != MODULE)
        .nth(1)
        .unwrap_or_default();
    Ok(pinned.to_owned())
}

/// Finds the programs or builds them, which blocks for minutes the first time. `progress` gets one line per step.
pub fn find_or_build(mut progress: impl FnMut(&str)) -> Result<Keda, Error> {
    let module = module();
    let key = tools::key(&module, METRICS_ADDRESS[1])?;
    let folder = tools::cache_folder()?.join(format!("keda-{key}"));
    let is_built = || folder.join("crds").is_dir() && PROGRAMS.iter().all(|(name, _)| folder.join(name).is_file());
    if is_built() {
        return Ok(Keda { folder });
    }
    let _lock = tools::lock(&folder, "KEDA", &mut progress)?;
    if !is_built() {
        tools::check_go(&module)?;
        build(&module, &folder, &mut progress)?;
    }
    Ok(Keda { folder })
}

fn module() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("keda")
}

fn build(module: &Path, folder: &Path, progress: &mut impl FnMut(&str)) -> Result<(), Error> {
    let start = Instant::now();
    progress(&format!(
        "building KEDA from {} into {}: 2 programs, some minutes the first time",
        module.display(),
        folder.display()
    ));
    let source = folder.join("source");
    if source.exists() {
        // Of a build that was cut off.
        fs::remove_dir_all(&source).map_err(at(&source))?;
    }
    copy(&download(module)?, &source)?;
    keep_metrics_on_loopback(&source)?;
    let pins = module.join("go.mod");
    let pins = fs::read_to_string(&pins).map_err(at(&pins))? + &format!("\nreplace {MODULE} => ./source\n");
    let (mod_path, sum_path) = (folder.join("go.mod"), folder.join("go.sum"));
    fs::write(&mod_path, pins).map_err(at(&mod_path))?;
    fs::copy(module.join("go.sum"), &sum_path).map_err(at(&sum_path))?;
    for (name, package) in PROGRAMS {
        progress(&format!("{name} (elapsed {})", minutes(start.elapsed())));
        tools::build(folder, folder, name, &format!("{MODULE}/{package}"), "", "", || {
            progress(&format!(
                "{name}, still building (elapsed {})",
                minutes(start.elapsed())
            ));
        })?;
    }
    copy(&source.join("config/crd/bases"), &folder.join("crds"))?;
    fs::remove_dir_all(&source).map_err(at(&source))?;
    progress(&format!("KEDA built in {}", minutes(start.elapsed())));
    Ok(())
}

/// The released source in Go's module cache, checked against `go.sum`.
fn download(module: &Path) -> Result<PathBuf, Error> {
    let output = tools::go()
        .current_dir(module)
        .args(["mod", "download", "-json", MODULE])
        .stdin(Stdio::null())
        .output()
        .map_err(at(module))?;
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    match answer.pointer("/Dir").and_then(serde_json::Value::as_str) {
        Some(folder) => Ok(folder.into()),
        None => Err(Error::Build {
            tool: "KEDA",
            output: String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        }),
    }
}

fn keep_metrics_on_loopback(source: &Path) -> Result<(), Error> {
    let path = source.join("cmd/adapter/main.go");
    let text = fs::read_to_string(&path).map_err(at(&path))?;
    if text.matches(METRICS_ADDRESS[0]).count() != 1 {
        return Err(Error::Build {
            tool: "KEDA",
            output: format!("{}: expected {:?} once", path.display(), METRICS_ADDRESS[0]),
        });
    }
    fs::write(&path, text.replace(METRICS_ADDRESS[0], METRICS_ADDRESS[1])).map_err(at(&path))
}

/// Copies a folder with all below it. What comes from Go's module cache is read-only; the copy is not.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir_all(to).map_err(at(to))?;
    for entry in fs::read_dir(from).map_err(at(from))? {
        let entry = entry.map_err(at(from))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().map_err(at(&path))?.is_dir() {
            copy(&path, &target)?;
        } else {
            let bytes = fs::read(&path).map_err(at(&path))?;
            fs::write(&target, bytes).map_err(at(&target))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinned_version_is_read_from_the_module() {
        let version = version().unwrap();
        assert!(version.starts_with("v2."), "{version:?}");
    }

    #[test]
    fn a_source_that_listens_elsewhere_than_expected_is_not_built() {
        let source = tempfile::tempdir().unwrap();
        let main = source.path().join("cmd/adapter/main.go");
        fs::create_dir_all(main.parent().unwrap()).unwrap();
        fs::write(&main, format!("a := {}\n", METRICS_ADDRESS[0])).unwrap();
        keep_metrics_on_loopback(source.path()).unwrap();
        assert_eq!(
            fs::read_to_string(&main).unwrap(),
            format!("a := {}\n", METRICS_ADDRESS[1])
        );
        let error = keep_metrics_on_loopback(source.path()).unwrap_err();
        assert!(error.to_string().contains("main.go: expected"), "{error}");
    }
}
