//! Arrivals over time: recordings from files, and synthetic ones.

use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use super::random::Random;

/// Most arrivals of one load.
pub const ARRIVALS_MAX: usize = 5_000_000;

/// Why there is no load.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the load {}: {source}; the recordings of the repository are found with --traces DIR (its e2e/traces)", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A column is missing.
    #[error("the load {} has no column '{column}': the first line must name {needed}", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        column: String,
        /// What a file of its kind has.
        needed: &'static str,
    },
    /// A line cannot be understood.
    #[error("the load {}, line {line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1, the header included.
        line: usize,
        /// What is wrong there.
        problem: &'static str,
    },
    /// Neither a name that is known nor a file.
    #[error(
        "the load '{0}' is not known: give azure-conv, azure-code, mooncake, servegen:COLUMN, steady:RATE, step:LOW:HIGH, day:LOW:HIGH, or the path of a CSV file (.csv or .csv.gz)"
    )]
    Unknown(String),
    /// Nothing arrives.
    #[error("the load '{0}' has no requests")]
    Empty(String),
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// Milliseconds since the start.
    pub at_ms: u64,
    /// Work relative to the mean request of the load, for stages whose work depends on the size of the request.
    pub work: f64,
}

/// Requests in the order of their arrival.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// What to call it.
    pub name: String,
    /// The requests.
    pub arrivals: Vec<Arrival>,
}

/// What is done to a load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// So many times as many requests.
    pub scale: f64,
    /// So many times as fast.
    pub speed: f64,
    /// Only what arrives within so many seconds, after all else.
    pub seconds: Option<u64>,
}

impl Change {
    /// None.
    pub const NONE: Self = Self {
        scale: 1.0,
        speed: 1.0,
        seconds: None,
    };
}

/// Share of a request's work that its prompt takes, as in the model servers of the demonstration; the rest is the answer.
const PROMPT_SHARE: f64 = 0.15;

/// Recordings by name: file, and the steps of its clock in milliseconds.
const RECORDINGS: [(&str, &str, u64); 3] = [
    ("azure-conv", "azure_llm_2023_conv.csv.gz", 0),
    ("azure-code", "azure_llm_2023_code.csv.gz", 0),
    ("mooncake", "mooncake_fast25_conversation.csv.gz", 3_000),
];
/// Rates per model over days.
const SERVEGEN: &str = "servegen_model_rates.csv.gz";

impl Load {
    /// What `name` stands for: a recording in `traces`, a synthetic shape, or a file.
    ///
    /// # Errors
    /// When the file cannot be read or understood, or the name means nothing.
    pub fn named(name: &str, traces: &Path, change: Change, seed: u64) -> Result<Self, Error> {
        let recorded = |path: &Path, step_ms| -> Result<Self, Error> {
            let load = Self::requests(name, path, step_ms)?;
            let within = change.seconds.map_or(u64::MAX, |seconds| seconds.saturating_mul(1_000));
            Ok(load
                .multiplied(change.scale, seed)
                .compressed(change.speed)
                .until(within))
        };
        let load = if let Some((_, file, step_ms)) = RECORDINGS.iter().find(|(known, ..)| *known == name) {
            recorded(&traces.join(file), *step_ms)?
        } else if let Some(column) = name.strip_prefix("servegen:") {
            Self::rates(name, &traces.join(SERVEGEN), column, change, seed)?
        } else if let Some(shape) = Shape::parse(name) {
            Self::drawn(name, SYNTHETIC_S, |at_s| shape.rate(at_s), change, seed)
        } else if [".csv", ".csv.gz"].iter().any(|ending| name.ends_with(ending)) {
            recorded(Path::new(name), 0)?
        } else {
            return Err(Error::Unknown(name.to_owned()));
        };
        if load.arrivals.is_empty() {
            return Err(Error::Empty(name.to_owned()));
        }
        Ok(load)
    }

    /// Milliseconds to the last arrival.
    pub fn span_ms(&self) -> u64 {
        self.arrivals.last().map_or(0, |last| last.at_ms)
    }

    /// The same requests in `1 / factor` of the time.
    #[must_use]
    pub fn compressed(mut self, factor: f64) -> Self {
        for arrival in &mut self.arrivals {
            arrival.at_ms = (arrival.at_ms as f64 / factor.max(1e-3)) as u64;
        }
        self
    }

    /// `factor` times as many requests: copies come up to a second after their original, so that they are no burst; the
    /// fraction is drawn per request.
    #[must_use]
    pub fn multiplied(self, factor: f64, seed: u64) -> Self {
        if (factor - 1.0).abs() < f64::EPSILON {
            return self;
        }
        let mut arrivals = Vec::new();
        for (item, arrival) in (0_u64..).zip(&self.arrivals) {
            let mut random = Random::of(seed, item);
            for copy in 0..random.round(factor.max(0.0)) {
                let later_ms = if copy == 0 { 0 } else { random.draw() % 1_000 };
                arrivals.push(Arrival {
                    at_ms: arrival.at_ms + later_ms,
                    ..*arrival
                });
            }
        }
        Self::sorted(self.name, arrivals)
    }

    /// What arrives before `end_ms`.
    #[must_use]
    pub fn until(mut self, end_ms: u64) -> Self {
        self.arrivals.retain(|arrival| arrival.at_ms < end_ms);
        self
    }

    fn sorted(name: String, mut arrivals: Vec<Arrival>) -> Self {
        arrivals.truncate(ARRIVALS_MAX);
        arrivals.sort_by_key(|arrival| arrival.at_ms);
        Self { name, arrivals }
    }

    /// Requests with `arrival_ms`, `input_tokens` and `output_tokens`. Requests that share one time are spread evenly
    /// over the `step_ms` after it, for recordings with coarse clocks.
    fn requests(name: &str, path: &Path, step_ms: u64) -> Result<Self, Error> {
        let needed = "arrival_ms, input_tokens and output_tokens";
        let table = Table::read(path, &["arrival_ms", "input_tokens", "output_tokens"], needed)?;
        let mut rows: Vec<(u64, f64, f64)> = Vec::with_capacity(table.rows.len());
        for (line, row) in &table.rows {
            let [at_ms, input, output] = row[..] else { continue };
            if at_ms < 0.0 || input < 0.0 || output < 0.0 {
                return Err(Error::Line {
                    path: path.to_owned(),
                    line: *line,
                    problem: "times and tokens must not be negative",
                });
            }
            rows.push((at_ms as u64, input, output));
        }
        rows.sort_by_key(|row| row.0);
        let count = rows.len().max(1) as f64;
        let mean = |part: fn(&(u64, f64, f64)) -> f64| (rows.iter().map(part).sum::<f64>() / count).max(1e-9);
        let (input_mean, output_mean) = (mean(|row| row.1), mean(|row| row.2));
        let mut arrivals = Vec::with_capacity(rows.len());
        for group in rows.chunk_by(|a, b| a.0 == b.0) {
            for (index, (at_ms, input, output)) in (0_u64..).zip(group) {
                arrivals.push(Arrival {
                    at_ms: at_ms + step_ms * index / group.len() as u64,
                    work: PROMPT_SHARE * input / input_mean + (1.0 - PROMPT_SHARE) * output / output_mean,
                });
            }
        }
        Ok(Self::sorted(name.to_owned(), arrivals))
    }

    /// Requests per second in windows, as random arrivals. Windows without any are missing data, not idleness, and keep
    /// the rate before them; those after the last one with a rate are padding and are left out.
    fn rates(name: &str, path: &Path, column: &str, change: Change, seed: u64) -> Result<Self, Error> {
        let needed = "t_s and one column per model, such as m_small_rps";
        let table = Table::read(path, &["t_s", column], needed)?;
        let mut windows: Vec<(f64, f64)> = table
            .rows
            .iter()
            .filter_map(|(_, row)| Some((*row.first()?, *row.get(1)?)))
            .collect();
        while windows.last().is_some_and(|(_, rate)| *rate <= 0.0) {
            windows.pop();
        }
        let width_s = match windows[..] {
            [(first, _), (second, _), ..] => second - first,
            _ => 600.0,
        };
        let mut before = windows
            .iter()
            .map(|(_, rate)| *rate)
            .find(|rate| *rate > 0.0)
            .unwrap_or(0.0);
        for (_, rate) in &mut windows {
            if *rate <= 0.0 {
                *rate = before;
            }
            before = *rate;
        }
        let end_s = windows.len() as f64 * width_s;
        let rate = |at_s: f64| windows.get((at_s / width_s) as usize).map_or(0.0, |(_, rate)| *rate);
        Ok(Self::drawn(name, end_s, rate, change, seed))
    }

    /// Independent arrivals at a rate per second that changes over time, drawn per hundredth of a second, or per
    /// thousandth where they are many; all of mean work.
    fn drawn(name: &str, end_s: f64, rate: impl Fn(f64) -> f64, change: Change, seed: u64) -> Self {
        let mut random = Random::of(seed, 0x10ad);
        let mut arrivals = Vec::new();
        let end_s =
            (end_s / change.speed.max(1e-3)).min(change.seconds.map_or(f64::INFINITY, |seconds| seconds as f64));
        let mut at_ms = 0;
        while at_ms < (end_s * 1e3) as u64 && arrivals.len() < ARRIVALS_MAX {
            let per_second = rate(at_ms as f64 / 1e3 * change.speed) * change.speed * change.scale;
            let width_ms = if per_second > 20.0 { 1 } else { 10 };
            for _ in 0..random.round(per_second * width_ms as f64 / 1e3) {
                arrivals.push(Arrival {
                    at_ms: at_ms + random.draw() % width_ms,
                    work: 1.0,
                });
            }
            at_ms += width_ms;
        }
        Self::sorted(name.to_owned(), arrivals)
    }
}

/// Length of synthetic loads, seconds.
const SYNTHETIC_S: f64 = 3_600.0;

/// A synthetic load of one hour; rates in requests per second.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Steady(f64),
    /// Low, high for the middle third, low.
    Step(f64, f64),
    /// One smooth rise from low to high and back.
    Day(f64, f64),
}

impl Shape {
    fn parse(name: &str) -> Option<Self> {
        let (kind, rest) = name.split_once(':')?;
        let numbers: Option<Vec<f64>> = rest.split(':').map(|part| part.parse().ok()).collect();
        let numbers = numbers?;
        if numbers.iter().any(|number| !number.is_finite() || *number < 0.0) {
            return None;
        }
        match (kind, &numbers[..]) {
            ("steady", &[rate]) => Some(Self::Steady(rate)),
            ("step", &[low, high]) => Some(Self::Step(low, high)),
            ("day", &[low, high]) => Some(Self::Day(low, high)),
            _ => None,
        }
    }

    fn rate(self, at_s: f64) -> f64 {
        let part = at_s / SYNTHETIC_S;
        match self {
            Self::Steady(rate) => rate,
            Self::Step(low, high) => {
                if (1.0 / 3.0..2.0 / 3.0).contains(&part) {
                    high
                } else {
                    low
                }
            }
            // A parabola: smooth enough, and without a function whose last bit depends on the platform.
            Self::Day(low, high) => low + (high - low) * 4.0 * part * (1.0 - part),
        }
    }
}

/// The wanted columns of a CSV file as numbers, with line numbers.
struct Table {
    rows: Vec<(usize, Vec<f64>)>,
}

impl Table {
    fn read(path: &Path, columns: &[&str], needed: &'static str) -> Result<Self, Error> {
        let failed = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let file = std::fs::File::open(path).map_err(failed)?;
        let text: Box<dyn Read> = if path.extension().is_some_and(|extension| extension == "gz") {
            Box::new(GzDecoder::new(file))
        } else {
            Box::new(file)
        };
        let mut lines = BufReader::new(text).lines();
        let header = lines.next().unwrap_or_else(|| Ok(String::new())).map_err(failed)?;
        let mut places = Vec::with_capacity(columns.len());
        for column in columns {
            let place = header.split(',').position(|name| name.trim() == *column);
            places.push(place.ok_or_else(|| Error::Column {
                path: path.to_owned(),
                column: (*column).to_owned(),
                needed,
            })?);
        }
        let mut rows = Vec::new();
        for (line, text) in (2..).zip(lines) {
            let text = text.map_err(failed)?;
            if text.is_empty() {
                continue;
            }
            let fields: Vec<&str> = text.split(',').collect();
            let number = |place: &usize| fields.get(*place)?.trim().parse::<f64>().ok().filter(|n| n.is_finite());
            let row: Option<Vec<f64>> = places.iter().map(number).collect();
            let problem = |problem| Error::Line {
                path: path.to_owned(),
                line,
                problem,
            };
            rows.push((line, row.ok_or_else(|| problem("the columns must hold numbers"))?));
            if rows.len() > ARRIVALS_MAX {
                return Err(problem("a load holds at most 5,000,000 requests"));
            }
        }
        Ok(Self { rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traces() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/traces")
    }

    fn named(name: &str) -> Result<Load, Error> {
        Load::named(name, &traces(), Change::NONE, 1)
    }

    #[test]
    fn recordings_hold_what_their_page_says_and_their_mean_request_is_one_unit_of_work() {
        for (name, requests) in [("azure-conv", 19_366), ("azure-code", 8_819), ("mooncake", 12_031)] {
            let load = named(name).unwrap();
            assert_eq!(load.arrivals.len(), requests, "{name}");
            let work: f64 = load.arrivals.iter().map(|arrival| arrival.work).sum::<f64>() / requests as f64;
            assert!((work - 1.0).abs() < 1e-9, "{name}: {work}");
            assert!(load.arrivals.is_sorted_by_key(|arrival| arrival.at_ms), "{name}");
        }
    }

    #[test]
    fn coarse_steps_are_spread() {
        let load = named("mooncake").unwrap();
        let mut seconds = [0_u32; 4_000];
        for arrival in &load.arrivals {
            seconds[(arrival.at_ms / 1_000) as usize] += 1;
        }
        let busy = seconds[..3_537].iter().filter(|count| **count > 0).count();
        assert!(
            busy > 3_300,
            "{busy} seconds with an arrival; in steps of 3 s it were a third"
        );
    }

    #[test]
    fn synthetic_rates_are_kept_and_repeat() {
        let load = named("step:2:20").unwrap();
        let between = |from: u64, to: u64| {
            let inside = |arrival: &&Arrival| (from..to).contains(&(arrival.at_ms / 1_000));
            load.arrivals.iter().filter(inside).count() as f64 / (to - from) as f64
        };
        assert!((between(0, 1_200) - 2.0).abs() < 0.2, "{}", between(0, 1_200));
        assert!((between(1_200, 2_400) - 20.0).abs() < 0.6, "{}", between(1_200, 2_400));
        assert_eq!(load, named("step:2:20").unwrap());
    }

    #[test]
    fn multiplying_and_compressing_change_count_and_time_only() {
        let load = named("steady:5").unwrap();
        let more = load.clone().multiplied(2.5, 3);
        let ratio = more.arrivals.len() as f64 / load.arrivals.len() as f64;
        assert!((ratio - 2.5).abs() < 0.05, "{ratio}");
        assert_eq!(load.clone().compressed(4.0).span_ms(), load.span_ms() / 4);
    }

    #[test]
    fn rates_are_scaled_before_they_are_drawn_and_missing_windows_are_no_idleness() {
        let change = Change {
            scale: 0.01,
            speed: 10.0,
            seconds: Some(3_600),
        };
        let load = Load::named("servegen:m_mid_rps", &traces(), change, 1).unwrap();
        // Ten hours of about 1,100 per second in one hour, a hundredth of it.
        let rate = load.arrivals.len() as f64 / 3_600.0;
        assert!((60.0..250.0).contains(&rate), "{rate}");
        let mut gap_ms = 0;
        for pair in load.arrivals.windows(2) {
            gap_ms = gap_ms.max(pair[1].at_ms - pair[0].at_ms);
        }
        assert!(gap_ms < 1_000, "{gap_ms} ms without a request");
        let short = Load::named(
            "servegen:deepseek_r1_rps",
            &traces(),
            Change {
                seconds: None,
                speed: 1_000.0,
                scale: 0.01,
            },
            1,
        );
        assert!(
            short.unwrap().span_ms() < 90_000,
            "padding after the first day is left out"
        );
    }

    #[test]
    fn errors_say_what_to_give() {
        let unknown = named("azure").unwrap_err().to_string();
        assert!(
            unknown.contains("azure-conv") && unknown.contains("steady:RATE"),
            "{unknown}"
        );
        let missing = named("nowhere.csv").unwrap_err().to_string();
        assert!(
            missing.contains("nowhere.csv") && missing.contains("--traces"),
            "{missing}"
        );
        assert!(matches!(named("steady:0"), Err(Error::Empty(_))));
        assert!(matches!(named("steady:nan"), Err(Error::Unknown(_))));
    }
}
