//! Child processes of the harness: a log file each, ended by pid, never outliving the harness by accident.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// Lines of a log that a failure quotes.
const QUOTED_LINES: usize = 15;

/// Why a process did not do what it should.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("cannot start {name} ({program}): {source}")]
    Start {
        name: String,
        program: PathBuf,
        source: std::io::Error,
    },
    #[error("{name} ended ({status}); the end of its log {log}:\n{tail}")]
    Ended {
        name: String,
        status: ExitStatus,
        log: PathBuf,
        tail: String,
    },
    #[error("cannot look after {name}: {source}")]
    Os { name: String, source: std::io::Error },
}

/// How to start a process, so that it can be started again in the same way.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Short name: log file, messages.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Further environment variables. The caller's `KUBECONFIG` and Kubernetes variables are never passed on.
    pub env: Vec<(String, String)>,
    /// File that gets standard output and error, appended.
    pub log: PathBuf,
    /// Whether the process lives on when the harness ends (`make cluster DETACH=1`).
    pub outlives_parent: bool,
}

/// A running (or ended) child.
#[derive(Debug)]
pub struct Process {
    spec: Spec,
    child: Child,
    detached: bool,
}

impl Process {
    /// Starts the process. Returns as soon as it runs; whether it is ready is the caller's question.
    pub fn start(spec: Spec) -> Result<Self, Error> {
        let failed = |source| Error::Start {
            name: spec.name.clone(),
            program: spec.program.clone(),
            source,
        };
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&spec.log)
            .map_err(failed)?;
        let child = spawn(command(&spec, log).map_err(failed)?).map_err(failed)?;
        Ok(Self {
            detached: spec.outlives_parent,
            spec,
            child,
        })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What a later run needs to end it: `mark` is a text that its command line holds.
    pub fn remember(&self, mark: String) -> Remembered {
        Remembered {
            name: self.spec.name.clone(),
            pid: self.pid(),
            mark,
        }
    }

    /// How it was started.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// An error with the end of the log if the process has ended.
    pub fn check(&mut self) -> Result<(), Error> {
        match self.child.try_wait().map_err(|source| self.os(source))? {
            None => Ok(()),
            Some(status) => Err(Error::Ended {
                name: self.spec.name.clone(),
                status,
                log: self.spec.log.clone(),
                tail: tail(&self.spec.log),
            }),
        }
    }

    /// Asks the process to end (SIGTERM); see [`Process::wait`].
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Ends the process at once (SIGKILL) and reaps it.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        // Nothing can be done about a failed wait, and a killed process holds no resource of ours.
        let _ = self.child.wait();
    }

    /// Waits up to `grace` for the end after [`Process::terminate`], then kills. Blocks.
    pub fn wait(&mut self, grace: Duration) {
        let start = Instant::now();
        while start.elapsed() < grace {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
    }

    /// The signal goes out only while the child is not reaped, so the pid cannot belong to anybody else.
    fn signal(&mut self, signal: Signal) {
        if matches!(self.child.try_wait(), Ok(None))
            && let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process(pid, signal);
        }
    }

    fn os(&self, source: std::io::Error) -> Error {
        Error::Os {
            name: self.spec.name.clone(),
            source,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.detached {
            self.kill();
        }
    }
}

/// A process that was left running, to be ended by a later run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Remembered {
    /// Its short name.
    pub name: String,
    /// Process id.
    pub pid: u32,
    /// A text in its command line that no stranger has: after a reboot the pid may be somebody else's.
    pub mark: String,
}

impl Remembered {
    /// Whether it still runs, and is still the same process.
    pub fn is_alive(&self) -> bool {
        let ps = || {
            Command::new("ps")
                .args(["-ww", "-o", "command=", "-p", &self.pid.to_string()])
                .output()
        };
        let line = match fs::read(format!("/proc/{}/cmdline", self.pid)) {
            Ok(line) => line,
            Err(_) if Path::new("/proc/self").exists() => return false,
            Err(_) => ps().map(|output| output.stdout).unwrap_or_default(),
        };
        String::from_utf8_lossy(&line).contains(&self.mark)
    }

    /// SIGTERM, then SIGKILL after `grace`. Blocks. Does nothing if the pid is not the same process any more.
    pub fn stop(&self, grace: Duration) {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return;
        };
        let start = Instant::now();
        if self.is_alive() {
            let _ = kill_process(pid, Signal::TERM);
        }
        while self.is_alive() && start.elapsed() < grace {
            std::thread::sleep(Duration::from_millis(50));
        }
        if self.is_alive() {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// The last lines of a log file, for messages.
pub fn tail(log: &Path) -> String {
    let text = fs::read(log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let from = lines.len().saturating_sub(QUOTED_LINES);
    let quoted = lines.get(from..).unwrap_or_default();
    quoted.iter().flat_map(|line| ["  | ", line, "\n"]).collect()
}

fn command(spec: &Spec, log: File) -> std::io::Result<Command> {
    let mut command = match setpriv().filter(|_| !spec.outlives_parent) {
        // `setpriv` becomes the program, so the pid stays the child's.
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(&spec.program);
            command
        }
        None => Command::new(&spec.program),
    };
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    for name in ["KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"] {
        command.env_remove(name);
    }
    command
        .args(&spec.args)
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stderr(log.try_clone()?)
        .stdout(log);
    Ok(command)
}

/// Linux can end children when their parent dies, even by SIGKILL; asking for it needs code in the child, which
/// util-linux has and we (without unsafe code) do not.
fn setpriv() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            let path = std::env::var_os("PATH")?;
            std::env::split_paths(&path)
                .map(|folder| folder.join("setpriv"))
                .find(|program| program.is_file())
        })
        .as_deref()
}

type Job = (Command, mpsc::Sender<std::io::Result<Child>>);

/// Spawns on one thread that lives as long as the harness: the death signal above comes when the *thread* that started
/// the child ends, and threads of an async runtime come and go.
fn spawn(command: Command) -> std::io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (send, receive) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, answer) in receive {
                let _ = answer.send(command.spawn());
            }
        });
        send
    });
    let gone = || std::io::Error::other("the thread that starts processes is gone");
    let (answer, started) = mpsc::channel();
    spawner.send((command, answer)).map_err(|_| gone())?;
    started.recv().map_err(|_| gone())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(folder: &Path, script: &str) -> Spec {
        Spec {
            name: "shell".into(),
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: vec![("WORD".into(), "sesame".into())],
            log: folder.join("shell.log"),
            outlives_parent: false,
        }
    }

    #[test]
    fn an_early_end_quotes_the_end_of_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Process::start(shell(folder.path(), "echo open $WORD; exit 3")).unwrap();
        let start = Instant::now();
        let error = loop {
            match process.check() {
                Ok(()) if start.elapsed() < Duration::from_secs(10) => std::thread::sleep(Duration::from_millis(10)),
                Ok(()) => panic!("it runs for ever"),
                Err(error) => break error.to_string(),
            }
        };
        assert!(
            error.contains("exit status: 3") && error.contains("| open sesame"),
            "{error}"
        );
    }

    #[test]
    fn a_process_that_ignores_the_polite_signal_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let mut process =
            Process::start(shell(folder.path(), "trap '' TERM; echo up; while :; do sleep 1; done")).unwrap();
        while !tail(&process.spec().log).contains("up") {
            std::thread::sleep(Duration::from_millis(10));
        }
        process.terminate();
        process.wait(Duration::from_millis(100));
        assert!(process.check().unwrap_err().to_string().contains("SIGKILL"));
    }

    #[test]
    fn a_remembered_pid_of_somebody_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Process::start(shell(folder.path(), "sleep 60; : mark-of-this-test")).unwrap();
        let start = Instant::now();
        // Until `setpriv` has become the shell.
        while !process.remember("mark-of-this-test".into()).is_alive() && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let stranger = process.remember("another mark".into());
        assert!(!stranger.is_alive());
        stranger.stop(Duration::ZERO);
        process.check().unwrap();
        process
            .remember("mark-of-this-test".into())
            .stop(Duration::from_millis(10));
        process.wait(Duration::from_secs(5));
        assert!(process.check().is_err());
    }
}
