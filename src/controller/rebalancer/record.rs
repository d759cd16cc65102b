//! The decision log: one line of JSON per decision, for audit and replay.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;

use crate::api::tiered_pipeline::DecisionSummary;

/// Version of the lines.
const VERSION: u32 = 1;

/// An open decision log.
#[derive(Debug)]
pub struct DecisionLog(File);

/// One line.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    version: u32,
    namespace: &'a str,
    pipeline: &'a str,
    demand_millis: u64,
    #[serde(flatten)]
    decision: &'a DecisionSummary,
}

impl DecisionLog {
    /// Opens the log for appending.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().create(true).append(true).open(path).map(Self)
    }

    /// Appends one decision. A log that cannot be written stops no decision.
    pub fn append(&mut self, namespace: &str, pipeline: &str, demand_millis: u64, decision: &DecisionSummary) {
        let line = Line {
            version: VERSION,
            namespace,
            pipeline,
            demand_millis,
            decision,
        };
        let written = serde_json::to_string(&line)
            .map_err(io::Error::other)
            .and_then(|mut text| {
                text.push('\n');
                self.0.write_all(text.as_bytes())
            });
        if let Err(error) = written {
            tracing::warn!(%error, "the decision log cannot be written");
        }
    }
}
