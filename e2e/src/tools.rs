//! The control plane's programs: found in a folder, or built once from `e2e/controlplane/go.mod` into a cache.
//!
//! A cold build takes minutes (6 min 18 s on 2 cores), so the result is kept in `<cache>/tiercel/tools/<key>/`, where the
//! key is the hash of `go.mod` and `go.sum`. `TIERCEL_TOOLS_DIR` moves the cache; `TIERCEL_TOOLS_BIN` names a folder that
//! already holds the programs and is used as it is.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

/// Kubernetes version that the API server reports; `go.mod` pins the same.
const KUBERNETES_VERSION: &str = "v1.36.4";
/// How often a build that is still running says so.
const PROGRESS_EVERY: Duration = Duration::from_secs(15);

/// One program of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// The API server's store.
    Etcd,
    /// The API server.
    ApiServer,
    /// Deployments, ReplicaSets, garbage collection, node lifecycle.
    ControllerManager,
    /// The scheduler.
    Scheduler,
    /// Plays nodes and pods.
    Kwok,
    /// Serves `metrics.k8s.io`.
    MetricsServer,
    /// The command line of Kubernetes.
    Kubectl,
    /// The package manager that installs the chart.
    Helm,
}

impl Tool {
    /// All tools, the quick ones to build first.
    pub const ALL: [Self; 8] = [
        Self::Etcd,
        Self::Kwok,
        Self::MetricsServer,
        Self::Helm,
        Self::Kubectl,
        Self::Scheduler,
        Self::ControllerManager,
        Self::ApiServer,
    ];

    /// File name of the program; also the name of its process and log file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "server",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kwok => "kwok",
            Self::MetricsServer => "metrics-server",
            Self::Kubectl => "kubectl",
            Self::Helm => "helm",
        }
    }

    const fn package(self) -> &'static str {
        match self {
            Self::Etcd => "go.etcd.io/etcd/server/v3",
            Self::ApiServer => "k8s.io/kubernetes/cmd/kube-apiserver",
            Self::ControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
            Self::Scheduler => "k8s.io/kubernetes/cmd/kube-scheduler",
            Self::Kwok => "sigs.k8s.io/kwok/cmd/kwok",
            Self::MetricsServer => "sigs.k8s.io/metrics-server/cmd/metrics-server",
            Self::Kubectl => "k8s.io/kubernetes/cmd/kubectl",
            Self::Helm => "helm.sh/helm/v4/cmd/helm",
        }
    }
}

/// A folder that holds every [`Tool`].
#[derive(Debug, Clone)]
pub struct Tools {
    folder: PathBuf,
}

impl Tools {
    /// Path of one program.
    pub fn path(&self, tool: Tool) -> PathBuf {
        self.folder.join(tool.name())
    }

    /// The folder itself, for a `PATH`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Why the tools are not there.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("{folder} has no program {missing:?}: unset {variable} to have it built")]
    Incomplete {
        folder: PathBuf,
        missing: &'static str,
        variable: &'static str,
    },
    #[error("no home folder to keep the built control plane in: set TIERCEL_TOOLS_DIR")]
    NoCacheFolder,
    #[error(
        "`go` is not on the PATH: the local control plane is built with Go {needed} or newer. Install it from \
         https://go.dev/dl/ or with your package manager, then run this again"
    )]
    NoGo { needed: String },
    #[error(
        "found {found}, but the local control plane needs Go {needed} or newer: install it from https://go.dev/dl/, or \
         set GOTOOLCHAIN=auto to let go fetch it"
    )]
    OldGo { found: String, needed: String },
    #[error("building {tool} failed:\n{output}")]
    Build { tool: &'static str, output: String },
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
}

pub(crate) fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
    move |source| Error::File {
        path: path.to_owned(),
        source,
    }
}

/// Finds the tools or builds them, which blocks for minutes the first time. `progress` gets one line per step.
pub fn find_or_build(mut progress: impl FnMut(&str)) -> Result<Tools, Error> {
    if let Some(folder) = std::env::var_os("TIERCEL_TOOLS_BIN").filter(|folder| !folder.is_empty()) {
        let folder = PathBuf::from(folder);
        return match missing(&folder) {
            None => Ok(Tools { folder }),
            Some(tool) => Err(Error::Incomplete {
                folder,
                missing: tool.name(),
                variable: "TIERCEL_TOOLS_BIN",
            }),
        };
    }
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("controlplane");
    let cache = cache_folder()?;
    let folder = cache.join(key(&module, KUBERNETES_VERSION)?);
    if missing(&folder).is_none() {
        return Ok(Tools { folder });
    }
    let _lock = lock(&folder, "the control plane", &mut progress)?;
    build_missing(&module, &folder, &mut progress)?;
    Ok(Tools { folder })
}

/// Creates a cache folder and keeps others from building into it for as long as the file lives.
pub(crate) fn lock(folder: &Path, what: &str, progress: &mut impl FnMut(&str)) -> Result<File, Error> {
    fs::create_dir_all(folder).map_err(at(folder))?;
    let lock_path = folder.join("lock");
    let lock = File::create(&lock_path).map_err(at(&lock_path))?;
    if lock.try_lock().is_err() {
        progress(&format!("waiting for another build of {what} to finish"));
        lock.lock().map_err(at(&lock_path))?;
    }
    Ok(lock)
}

fn missing(folder: &Path) -> Option<Tool> {
    Tool::ALL.into_iter().find(|tool| !folder.join(tool.name()).is_file())
}

/// Where built programs are kept.
pub(crate) fn cache_folder() -> Result<PathBuf, Error> {
    let given = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(folder) = given("TIERCEL_TOOLS_DIR") {
        return Ok(folder);
    }
    let caches = given("XDG_CACHE_HOME").or_else(|| {
        let home = given("HOME")?;
        Some(if cfg!(target_os = "macos") {
            home.join("Library/Caches")
        } else {
            home.join(".cache")
        })
    });
    Ok(caches.ok_or(Error::NoCacheFolder)?.join("tiercel/tools"))
}

/// First 16 hex digits over what decides the build.
pub(crate) fn key(module: &Path, salt: &str) -> Result<String, Error> {
    let mut hash = Sha256::new();
    for file in ["go.mod", "go.sum"] {
        let path = module.join(file);
        hash.update(fs::read(&path).map_err(at(&path))?);
    }
    hash.update(salt);
    Ok(hash
        .finalize()
        .iter()
        .take(8)
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}")))
}

fn build_missing(module: &Path, folder: &Path, progress: &mut impl FnMut(&str)) -> Result<(), Error> {
    check_go(module)?;
    let start = Instant::now();
    let version = "k8s.io/component-base/version";
    let minor = KUBERNETES_VERSION.split('.').nth(1).unwrap_or_default();
    let stamps = format!(
        "-X {version}.gitVersion={KUBERNETES_VERSION} -X {version}.gitMajor=1 -X {version}.gitMinor={minor} -X \
         {version}.gitTreeState=clean"
    );
    let total = Tool::ALL.len();
    progress(&format!(
        "building the control plane from {} into {}: {total} programs, some minutes the first time",
        module.display(),
        folder.display()
    ));
    for (index, tool) in Tool::ALL.into_iter().enumerate() {
        if folder.join(tool.name()).is_file() {
            continue;
        }
        let step = format!("[{}/{total}] {}", index + 1, tool.name());
        progress(&format!("{step} (elapsed {})", minutes(start.elapsed())));
        build(module, folder, tool.name(), tool.package(), "", &stamps, || {
            progress(&format!(
                "{step}, still building (elapsed {})",
                minutes(start.elapsed())
            ));
        })?;
    }
    progress(&format!("control plane built in {}", minutes(start.elapsed())));
    Ok(())
}

pub(crate) fn minutes(elapsed: Duration) -> String {
    format!("{}:{:02} min", elapsed.as_secs() / 60, elapsed.as_secs() % 60)
}

/// Builds into a temporary name first: a build that is cut off leaves nothing that looks finished. `tags` are build tags,
/// `stamps` further flags for the linker.
pub(crate) fn build(
    module: &Path,
    folder: &Path,
    name: &'static str,
    package: &str,
    tags: &str,
    stamps: &str,
    mut still_building: impl FnMut(),
) -> Result<(), Error> {
    let partial = folder.join(format!("{name}.partial"));
    let log_path = folder.join(format!("{name}.log"));
    let log = File::create(&log_path).map_err(at(&log_path))?;
    let mut child = go()
        .current_dir(module)
        .env("CGO_ENABLED", "0")
        .args(["build", "-trimpath", "-tags", tags, "-ldflags"])
        .arg(format!("-s -w {stamps}"))
        .arg("-o")
        .args([partial.as_os_str(), package.as_ref()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(at(module))?;
    let mut last_word = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(at(module))? {
            break status;
        }
        if last_word.elapsed() >= PROGRESS_EVERY {
            still_building();
            last_word = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    if !status.success() {
        let output = fs::read_to_string(&log_path).map_err(at(&log_path))?;
        return Err(Error::Build { tool: name, output });
    }
    fs::remove_file(&log_path).map_err(at(&log_path))?;
    let program = folder.join(name);
    fs::rename(&partial, &program).map_err(at(&program))
}

pub(crate) fn go() -> Command {
    let mut go = Command::new("go");
    // The installed toolchain, unless the caller says otherwise: fetching another one is a surprise, and fails offline.
    if std::env::var_os("GOTOOLCHAIN").is_none() {
        go.env("GOTOOLCHAIN", "local");
    }
    go
}

/// Whether a Go that can build this module is there.
pub(crate) fn check_go(module: &Path) -> Result<(), Error> {
    let mod_path = module.join("go.mod");
    let needed = fs::read_to_string(&mod_path)
        .map_err(at(&mod_path))?
        .lines()
        .find_map(|line| line.strip_prefix("go ").map(str::to_owned))
        .unwrap_or_default();
    let Ok(output) = go().current_dir(module).arg("version").output() else {
        return Err(Error::NoGo { needed });
    };
    let found = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let version = found
        .split_whitespace()
        .find_map(|word| word.strip_prefix("go1."))
        .unwrap_or_default();
    if numbers(&format!("1.{version}")) < numbers(&needed) && std::env::var_os("GOTOOLCHAIN").is_none() {
        return Err(Error::OldGo { found, needed });
    }
    Ok(())
}

fn numbers(version: &str) -> Vec<u64> {
    version.split('.').map_while(|part| part.parse().ok()).collect()
}
