//! Pure: the JSON that `/api/v1/query` answers with.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::question::milliseconds;
use crate::signals::Why;

/// Longest excerpt of a server's words in a message.
const EXCERPT_MAX: usize = 200;

/// The answer to an instant query.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// When it was evaluated: Unix time in milliseconds on the server's clock. 0 if nothing was found.
    pub evaluated_ms: i64,
    /// What was found.
    pub samples: Vec<Sample>,
}

/// One element of the vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value, which may be NaN or infinite.
    pub value: Result<f64, Why>,
}

/// Why there is no answer in a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not the JSON of this API, or not of an instant vector.
    #[error("the answer is not that of /api/v1/query to a query for an instant vector: {0}")]
    Malformed(String),
    /// The server could not look at everything.
    #[error("the answer is partial: {0}")]
    Partial(String),
}

#[derive(Deserialize)]
struct Body {
    status: String,
    #[serde(default)]
    data: Option<Data>,
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(default)]
    infos: Vec<String>,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Vec<Element>,
}

#[derive(Deserialize)]
struct Element {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    /// Absent in a native histogram, which is no number.
    value: Option<(f64, String)>,
}

impl Answer {
    /// Reads the body of a successful answer.
    ///
    /// # Errors
    /// It is of another shape, or the server says that it is not all.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let malformed = |problem: &dyn std::fmt::Display| Error::Malformed(excerpt(&problem.to_string()));
        let body: Body = serde_json::from_slice(body).map_err(|error| malformed(&error))?;
        if let Some(first) = body.warnings.first() {
            return Err(Error::Partial(excerpt(first)));
        }
        if let Some(first) = body.infos.first() {
            tracing::debug!(info = excerpt(first), "a server remarks on a query");
        }
        if body.status != "success" {
            return Err(malformed(&body.error.unwrap_or(body.status)));
        }
        let data = body.data.ok_or_else(|| malformed(&"no data"))?;
        if data.result_type != "vector" {
            return Err(malformed(&format_args!("a {}", data.result_type)));
        }
        let mut evaluated: Option<f64> = None;
        let mut samples = Vec::with_capacity(data.result.len());
        for element in data.result {
            let value = match element.value {
                None => Err(Why::NotFinite),
                Some((at, text)) => {
                    if evaluated.get_or_insert(at).to_bits() != at.to_bits() {
                        return Err(malformed(&"more than one evaluation time"));
                    }
                    number(&text)
                }
            };
            samples.push(Sample {
                labels: element.metric,
                value,
            });
        }
        let evaluated_ms = match evaluated {
            None => 0,
            Some(at) => milliseconds(Ok(at)).map_err(|_| malformed(&"no evaluation time"))?,
        };
        Ok(Self { evaluated_ms, samples })
    }
}

/// `NaN`, `+Inf`, `-Inf`, or digits as Go and JSON write them; nothing that only Rust would take for a number.
fn number(text: &str) -> Result<f64, Why> {
    match text {
        "NaN" => Ok(f64::NAN),
        "+Inf" | "Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        _ if text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) => {
            text.parse().map_err(|_| Why::Malformed)
        }
        _ => Err(Why::Malformed),
    }
}

/// What the server says about a refused query: its message, or the body's beginning.
pub(super) fn refusal(body: &[u8]) -> String {
    match serde_json::from_slice::<Body>(body) {
        Ok(Body { error: Some(error), .. }) => excerpt(&error),
        _ => excerpt(&String::from_utf8_lossy(body)),
    }
}

/// A server's words, made fit for one line of a log.
pub(super) fn excerpt(text: &str) -> String {
    let mut excerpt = String::new();
    for c in text.chars().take(EXCERPT_MAX) {
        if c.is_control() {
            excerpt.extend(c.escape_default());
        } else {
            excerpt.push(c);
        }
    }
    excerpt
}
