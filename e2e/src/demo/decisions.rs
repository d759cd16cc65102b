//! The operator's decision log, read while it is written.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use serde::Deserialize;

use crate::report::DecisionLine;

/// What a line of the log tells about one decision.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Logged {
    /// The decision's number.
    pub id: String,
    /// When, RFC 3339 with milliseconds.
    pub time: jiff::Timestamp,
    /// What set it off.
    pub trigger: String,
    /// The stage and its moves: `generate: l4-spot 4->6, h100 1->0`.
    pub summary: String,
    /// USD per hour.
    pub cost_before: String,
    /// USD per hour.
    pub cost_after: String,
    /// What shaped it.
    pub reason: String,
    /// What the stage needs, thousandths of requests per second.
    pub demand_millis: u64,
}

/// A line of the log, without what only a replay needs.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(default)]
    told: Vec<Logged>,
}

/// How many replicas a pool had and gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolMove {
    /// The pool.
    pub pool: String,
    /// Replicas before.
    pub from: u32,
    /// Replicas after.
    pub to: u32,
}

impl Logged {
    /// The stage.
    pub fn stage(&self) -> &str {
        self.summary.split_once(": ").map_or("", |(stage, _)| stage)
    }

    /// What changed, without the stage.
    pub fn change(&self) -> &str {
        self.summary
            .split_once(": ")
            .map_or(&self.summary, |(_, change)| change)
    }

    /// The moves.
    pub fn moves(&self) -> Vec<PoolMove> {
        let parse = |text: &str| {
            let (pool, counts) = text.split_once(' ')?;
            let (from, to) = counts.split_once("->")?;
            Some(PoolMove {
                pool: pool.to_owned(),
                from: from.trim().parse().ok()?,
                to: to.split(' ').next()?.parse().ok()?,
            })
        };
        self.change().split(", ").filter_map(parse).collect()
    }

    /// For the report, with times since `start`.
    pub fn line(&self, start: jiff::Timestamp) -> DecisionLine {
        #[allow(clippy::cast_precision_loss)] // far below 2^53
        let need = self.demand_millis as f64 / 1e3;
        DecisionLine {
            t_s: self.time.duration_since(start).as_secs_f64(),
            stage: self.stage().to_owned(),
            trigger: self.trigger.clone(),
            change: self.change().replace("->", " → "),
            reason: self.reason.clone(),
            message: format!(
                "{need:.1}/s needed with headroom; {} → {} $/h for the pipeline",
                self.cost_before, self.cost_after
            ),
        }
    }
}

/// A reader that remembers how far it has come. A log that is not there yet is empty.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    offset: u64,
    /// Everything read so far.
    pub all: Vec<Logged>,
}

impl Tail {
    /// A reader from the start.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            offset: 0,
            all: Vec::new(),
        }
    }

    /// Takes in what was written since the last call and says how many decisions that were. A line that is still being
    /// written waits; a line that is none is left out.
    pub fn read(&mut self) -> usize {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.offset))?;
            file.read_to_end(&mut bytes)
        });
        if read.is_err() {
            return 0;
        }
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        bytes.truncate(whole);
        self.offset += whole as u64;
        let before = self.all.len();
        let text = String::from_utf8_lossy(&bytes);
        let told = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
        self.all.extend(told.flat_map(|line| line.told));
        self.all.len() - before
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn told(summary: &str, reason: &str) -> serde_json::Value {
        serde_json::json!({"namespace": "agents", "pipeline": "p", "demandMillis": 2_500, "id": "1-7",
            "time": "2026-11-21T04:00:01.250Z", "trigger": "DemandRose", "summary": summary, "costBefore": "1.00",
            "costAfter": "1.29", "reason": reason})
    }

    fn logged(summary: &str, reason: &str) -> Logged {
        serde_json::from_value(told(summary, reason)).unwrap()
    }

    #[test]
    fn half_a_line_waits_for_its_rest() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let told = told("generate: l4-spot 4->6", "Cheapest");
        let text = serde_json::json!({"at_ms": 7, "decisions": [{"id": 7}], "told": [told]}).to_string();
        let (head, rest) = text.split_at(30);
        let beginning = r#"{"log":"tiercel decision log","version":1}"#;
        write!(file, "{beginning}\n{{\"at_ms\":6}}\n{text}\n{head}").unwrap();
        let mut tail = Tail::new(file.path().to_owned());
        assert_eq!(tail.read(), 1);
        writeln!(file, "{rest}").unwrap();
        assert_eq!((tail.read(), tail.all.len()), (1, 2));
        assert_eq!(Tail::new("/nowhere".into()).read(), 0);
    }

    #[test]
    fn the_report_says_when_what_and_at_which_price() {
        let start = "2026-11-21T04:00:00Z".parse().unwrap();
        let line = logged("generate: l4-spot 4->6 (advisory)", "Cheapest").line(start);
        assert_eq!((line.t_s, line.stage.as_str()), (1.25, "generate"));
        assert_eq!(line.change, "l4-spot 4 → 6 (advisory)");
        assert!(
            line.message.contains("2.5/s") && line.message.contains("1.00 → 1.29"),
            "{}",
            line.message
        );
        assert_eq!(logged("g: a 4->6 (advisory)", "x").moves()[0].to, 6);
    }
}
