//! Running a program to its end with captured output.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// What a program printed and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit code; absent after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Why a program did not succeed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("cannot run {program}: {source}")]
    Run { program: PathBuf, source: std::io::Error },
    #[error("`{command}` did not end within {timeout:?}")]
    Late { command: String, timeout: Duration },
    #[error("`{command}` failed (exit code {code:?}):\n{stderr}{stdout}")]
    Failed {
        command: String,
        code: Option<i32>,
        stdout: String,
        stderr: String,
    },
}

impl Output {
    /// The output if the exit code is 0, an error that quotes both streams otherwise.
    pub fn success(self, command: String) -> Result<Self, Error> {
        let Self { code, stdout, stderr } = self;
        if code == Some(0) {
            return Ok(Self { code, stdout, stderr });
        }
        Err(Error::Failed {
            command,
            code,
            stdout,
            stderr,
        })
    }
}

/// Runs `program` with `stdin`, ends it at the timeout. The exit code is the caller's to judge.
pub async fn run(
    program: PathBuf,
    args: &[String],
    env: &[(String, String)],
    stdin: &str,
    timeout: Duration,
) -> Result<Output, Error> {
    let failed = |source| Error::Run {
        program: program.clone(),
        source,
    };
    let mut command = Command::new(&program);
    command
        .args(args)
        .env_remove("KUBECONFIG")
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    let mut input = child.stdin.take();
    let work = async {
        let feed = async {
            if let Some(mut input) = input.take() {
                // A program that ends without reading its input closes the pipe; its exit code tells the story.
                let _ = input.write_all(stdin.as_bytes()).await;
            }
        };
        futures::join!(feed, child.wait_with_output()).1
    };
    let output = tokio::time::timeout(timeout, work)
        .await
        .map_err(|_| Error::Late {
            command: shown(&program, args),
            timeout,
        })?
        .map_err(failed)?;
    Ok(Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// The command as one would type it.
pub fn shown(program: &std::path::Path, args: &[String]) -> String {
    let name = program
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    format!("{name} {}", args.join(" "))
}
