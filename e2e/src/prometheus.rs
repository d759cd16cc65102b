//! Prometheus and promtool, for the check of dashboard and alerts: built once from `e2e/prometheus/go.mod`, a module of its
//! own so that nobody who only tests has to build it. Kept beside the control plane's programs, see [`crate::tools`].
//!
//! `TIERCEL_PROMETHEUS_BIN` names a folder that already holds both programs and is used as it is.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::process::{self, Process, Spec};
use crate::tools::{self, Error, minutes};

/// File names of the programs; their packages have the same.
const PROGRAMS: [&str; 2] = ["promtool", "prometheus"];
/// Service discovery of cloud providers is most of what would have to be compiled, and only a fixed target is scraped.
const TAGS: &str = "remove_all_sd";
/// An answer that is larger than what any query here comes to.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A folder that holds the programs.
#[derive(Debug, Clone)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// The checker of rules.
    pub fn promtool(&self) -> PathBuf {
        self.folder.join(PROGRAMS[0])
    }

    /// The server.
    pub fn prometheus(&self) -> PathBuf {
        self.folder.join(PROGRAMS[1])
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Finds the programs or builds them, which blocks for minutes the first time. `progress` gets one line per step.
pub fn find_or_build(mut progress: impl FnMut(&str)) -> Result<Programs, Error> {
    let missing = |folder: &Path| PROGRAMS.into_iter().find(|name| !folder.join(name).is_file());
    if let Some(folder) = std::env::var_os("TIERCEL_PROMETHEUS_BIN").filter(|folder| !folder.is_empty()) {
        let folder = PathBuf::from(folder);
        return match missing(&folder) {
            None => Ok(Programs { folder }),
            Some(missing) => Err(Error::Incomplete {
                folder,
                missing,
                variable: "TIERCEL_PROMETHEUS_BIN",
            }),
        };
    }
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("prometheus");
    let folder = tools::cache_folder()?.join(format!("prometheus-{}", tools::key(&module, TAGS)?));
    if missing(&folder).is_none() {
        return Ok(Programs { folder });
    }
    let _lock = tools::lock(&folder, "Prometheus", &mut progress)?;
    if missing(&folder).is_some() {
        tools::check_go(&module)?;
        let start = Instant::now();
        progress(&format!(
            "building Prometheus from {} into {}: 2 programs, some minutes the first time",
            module.display(),
            folder.display()
        ));
        for name in PROGRAMS {
            let package = format!("github.com/prometheus/prometheus/cmd/{name}");
            tools::build(&module, &folder, name, &package, TAGS, "", || {
                progress(&format!(
                    "{name}, still building (elapsed {})",
                    minutes(start.elapsed())
                ));
            })?;
        }
        progress(&format!("Prometheus built in {}", minutes(start.elapsed())));
    }
    Ok(Programs { folder })
}

/// A server on loopback that scrapes one target every second. Ends with this value.
#[derive(Debug)]
pub struct Server {
    process: Process,
    port: u16,
    _folder: tempfile::TempDir,
}

/// Why a server does not run, or does not answer.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Failure {
    #[error("Prometheus: {0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Process(#[from] process::Error),
    #[error("Prometheus did not answer {path} within {}s", ANSWER_WITHIN.as_secs())]
    Late { path: String },
    #[error("Prometheus answered {path} with what is not JSON: {answer}")]
    Answer { path: String, answer: String },
}

impl Server {
    /// Starts with the rule file, scraping `/metrics` of `127.0.0.1:target` as the chart has it done.
    pub async fn start(programs: &Programs, target: u16, rules: &Path) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("prometheus.yml");
        let rules = rules.display();
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [\"{rules}\"]\nscrape_configs:\n  - job_name: \
             tiercel-metrics\n    honor_labels: true\n    static_configs: [{{targets: ['127.0.0.1:{target}'], labels: {{namespace: \
             tiercel-system}}}}]\n"
        );
        std::fs::write(&config, text)?;
        let port = TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?.port();
        let process = Process::start(Spec {
            name: "prometheus".into(),
            program: programs.prometheus(),
            args: vec![
                format!("--config.file={}", config.display()),
                format!("--storage.tsdb.path={}", folder.path().join("data").display()),
                format!("--web.listen-address=127.0.0.1:{port}"),
            ],
            env: Vec::new(),
            log: folder.path().join("prometheus.log"),
            outlives_parent: false,
        })?;
        Ok(Self {
            process,
            port,
            _folder: folder,
        })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What `/api/v1/PATH?NAME=VALUE&…` answers.
    pub async fn ask(&mut self, path: &str, parameters: &[(&str, &str)]) -> Result<serde_json::Value, Failure> {
        self.process.check()?;
        let query: Vec<String> = parameters
            .iter()
            .map(|(name, value)| format!("{name}={}", encoded(value)))
            .collect();
        let path = format!("/api/v1/{path}?{}", query.join("&"));
        let exchange = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
            // Of version 1.0, so that the body comes in one piece.
            let request = format!("GET {path} HTTP/1.0\r\nHost: prometheus\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let Ok(answer) = tokio::time::timeout(ANSWER_WITHIN, exchange).await else {
            return Err(Failure::Late { path });
        };
        let answer = answer?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).map_err(|_| Failure::Answer {
            path,
            answer: answer.clone(),
        })
    }
}

/// Percent-encoded, all but letters and digits.
fn encoded(value: &str) -> String {
    let encode = |byte: u8| {
        if byte.is_ascii_alphanumeric() {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    value.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_survive_the_way_into_a_query() {
        assert_eq!(encoded("a{b=\"é\"} > 1"), "a%7Bb%3D%22%C3%A9%22%7D%20%3E%201");
    }
}
