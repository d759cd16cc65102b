//! Arrivals over time: recordings, and what is done to them before they are sent.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use flate2::read::GzDecoder;

use super::rng::Rng;

/// Most arrivals that a trace may hold.
const MAX_ARRIVALS: usize = 5_000_000;

/// Why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be read or is not gzip.
    #[error("cannot read trace {name}: give a gzip-compressed CSV file")]
    Read {
        /// Which trace.
        name: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A column is missing.
    #[error("trace {name} has no column {column}: the first line must name arrival_ms, input_tokens and output_tokens")]
    Column {
        /// Which trace.
        name: String,
        /// Which column.
        column: &'static str,
    },
    /// A value is not a number, or time goes back.
    #[error("trace {name}, line {line}: {problem}")]
    Line {
        /// Which trace.
        name: String,
        /// Counted from 1, the header included.
        line: usize,
        /// What is wrong there.
        problem: &'static str,
    },
}

/// One request of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Time since the start of the trace.
    pub at: Duration,
    /// Tokens in the prompt.
    pub input_tokens: u32,
    /// Tokens in the answer.
    pub output_tokens: u32,
}

/// The recordings that come with the repository; `e2e/traces/README.md` says where they are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recording {
    /// Azure 2023, code completion: bursts, up to 26 times the mean over one second.
    AzureCode,
    /// Azure 2023, conversation: smooth.
    AzureConversation,
    /// Mooncake 2025, conversation: long inputs.
    MooncakeConversation,
}

/// Requests in the order of their arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// What to call it in reports.
    pub name: String,
    arrivals: Vec<Arrival>,
}

impl Trace {
    /// A trace of these arrivals, in any order.
    pub fn new(name: impl Into<String>, mut arrivals: Vec<Arrival>) -> Self {
        arrivals.sort_by_key(|a| a.at);
        Self {
            name: name.into(),
            arrivals,
        }
    }

    /// One of the recordings. Mooncake's 3 s steps are spread.
    pub fn recorded(recording: Recording) -> Result<Self, TraceError> {
        let (name, bytes): (_, &[u8]) = match recording {
            Recording::AzureCode => ("azure-code", include_bytes!("../../traces/azure_llm_2023_code.csv.gz")),
            Recording::AzureConversation => ("azure-conv", include_bytes!("../../traces/azure_llm_2023_conv.csv.gz")),
            Recording::MooncakeConversation => (
                "mooncake-conv",
                include_bytes!("../../traces/mooncake_fast25_conversation.csv.gz"),
            ),
        };
        let trace = Self::parse(name, GzDecoder::new(bytes))?;
        Ok(match recording {
            Recording::MooncakeConversation => trace.spread_steps(Duration::from_secs(3)),
            Recording::AzureCode | Recording::AzureConversation => trace,
        })
    }

    /// Reads a gzip-compressed CSV file with at least the columns `arrival_ms`, `input_tokens` and `output_tokens`.
    pub fn read(path: &Path) -> Result<Self, TraceError> {
        let name = path
            .file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy()
            .into_owned();
        let file = std::fs::File::open(path).map_err(|source| TraceError::Read {
            name: name.clone(),
            source,
        })?;
        Self::parse(&name, GzDecoder::new(file))
    }

    /// Reads CSV text. The columns may be in any order and others are ignored; the values are plain numbers.
    pub fn parse(name: &str, text: impl Read) -> Result<Self, TraceError> {
        let mut lines = BufReader::new(text).lines().enumerate();
        let read = |source| TraceError::Read {
            name: name.to_owned(),
            source,
        };
        let header = lines.next().map_or(Ok(String::new()), |(_, line)| line).map_err(read)?;
        let column = |column| {
            let position = header.split(',').position(|c| c.trim() == column);
            position.ok_or_else(|| TraceError::Column {
                name: name.to_owned(),
                column,
            })
        };
        let columns = [column("arrival_ms")?, column("input_tokens")?, column("output_tokens")?];
        let mut arrivals: Vec<Arrival> = Vec::new();
        for (index, line) in lines {
            let line = line.map_err(read)?;
            if line.is_empty() {
                continue;
            }
            let problem = |problem| TraceError::Line {
                name: name.to_owned(),
                line: index + 1,
                problem,
            };
            let mut values = [0_u64; 3];
            for (value, column) in values.iter_mut().zip(columns) {
                let field = line.split(',').nth(column).and_then(|f| f.trim().parse().ok());
                *value = field.ok_or_else(|| problem("arrival and tokens must be whole numbers"))?;
            }
            let [at_ms, input, output] = values;
            let tokens = |n: u64| u32::try_from(n).map_err(|_| problem("more than 4,294,967,295 tokens"));
            let arrival = Arrival {
                at: Duration::from_millis(at_ms),
                input_tokens: tokens(input)?,
                output_tokens: tokens(output)?,
            };
            if arrivals.last().is_some_and(|last| last.at > arrival.at) {
                return Err(problem(
                    "it arrives before the line above: sort the trace by arrival_ms",
                ));
            }
            if arrivals.len() == MAX_ARRIVALS {
                return Err(problem("a trace holds at most 5,000,000 requests"));
            }
            arrivals.push(arrival);
        }
        Ok(Self {
            name: name.to_owned(),
            arrivals,
        })
    }

    /// The requests, ordered by time.
    pub fn arrivals(&self) -> &[Arrival] {
        &self.arrivals
    }

    /// Time of the last arrival.
    pub fn span(&self) -> Duration {
        self.arrivals.last().map_or(Duration::ZERO, |a| a.at)
    }

    /// The part that begins at `from` and lasts `length`, with times counted from `from`.
    #[must_use]
    pub fn slice(mut self, from: Duration, length: Duration) -> Self {
        self.arrivals.retain(|a| a.at >= from && a.at < from + length);
        for arrival in &mut self.arrivals {
            arrival.at -= from;
        }
        self
    }

    /// The same requests in `1 / factor` of the time.
    #[must_use]
    pub fn compress(mut self, factor: f64) -> Self {
        for arrival in &mut self.arrivals {
            arrival.at = arrival.at.div_f64(factor.max(1e-9));
        }
        self
    }

    /// `factor` times as many requests. Whole copies are laid up to one second after their original, so that they do not
    /// come as one burst; the fraction is drawn per request from `seed`.
    #[must_use]
    pub fn amplify(self, factor: f64, seed: u64) -> Self {
        let factor = factor.max(0.0);
        let mut arrivals = Vec::new();
        for (index, arrival) in (0_u64..).zip(&self.arrivals) {
            let mut rng = Rng::for_item(seed, index);
            let copies = rng.round(factor);
            arrivals.extend((0..copies).map(|copy| {
                let later = if copy == 0 {
                    Duration::ZERO
                } else {
                    Duration::from_secs_f64(rng.next_f64())
                };
                Arrival {
                    at: arrival.at + later,
                    ..*arrival
                }
            }));
        }
        Self::new(self.name, arrivals)
    }

    /// Spreads requests that share one time evenly over the `step` that follows it, for recordings with coarse clocks.
    #[must_use]
    pub fn spread_steps(mut self, step: Duration) -> Self {
        for group in self.arrivals.chunk_by_mut(|a, b| a.at == b.at) {
            let count = u32::try_from(group.len()).unwrap_or(u32::MAX);
            for (index, arrival) in (0_u32..).zip(group.iter_mut()) {
                arrival.at += step * index / count;
            }
        }
        Self::new(self.name, self.arrivals)
    }
}
