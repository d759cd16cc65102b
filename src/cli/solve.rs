//! `tiercel solve`: one instance in, the plan with its certificate out. For what-if questions, and so that anyone can
//! hold us against any solver.

mod document;
mod fields;

use std::path::PathBuf;
use std::time::Duration;

use crate::controller::clock::Clock;
use crate::files::{self, Unreadable};
use crate::rebalance::solve::{Instance, Memory, Settings, searching, solve};

/// Arguments of `tiercel solve`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Instance as JSON; `-` reads it from the standard input. The format is described in docs/reference/solve.md.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Time for the search, milliseconds. What is found until then is finished and printed.
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    time_limit: u64,
    /// Stop once the plan is proven to be no further than this from the best, per cent.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    gap: f64,
    /// Threads; they do not change the plan.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    threads: u8,
}

/// Solving failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] Unreadable),
    /// The file is not JSON.
    #[error("{file}: not JSON: {problem}; docs/reference/solve.md has an example")]
    Syntax {
        /// The file.
        file: String,
        /// Where and why.
        problem: String,
    },
    /// The instance of a file is wrong.
    #[error("{file}: {source}")]
    Instance {
        /// The file.
        file: String,
        /// What is wrong.
        source: Box<Self>,
    },
    /// A field is wrong.
    #[error("{}{problem}", if path.is_empty() { "the document ".to_owned() } else { format!("`{path}` ") })]
    Field {
        /// Path of the field.
        path: String,
        /// What is wrong and what is allowed.
        problem: String,
    },
    /// The answer cannot be printed.
    #[error("the answer cannot be written: {0}")]
    Print(serde_json::Error),
}

impl Error {
    /// 2 for an instance that cannot be read or understood, 1 for anything else.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Read(_) | Self::Syntax { .. } | Self::Instance { .. } | Self::Field { .. } => 2,
            Self::Print(_) => 1,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When the instance cannot be read.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    let text = files::text(&arguments.file)?;
    let file = files::shown(&arguments.file);
    if text.trim().is_empty() {
        let problem = "the file is empty".to_owned();
        return Err(Error::Syntax { file, problem });
    }
    let value = serde_json::from_str(&text).map_err(|error| Error::Syntax {
        file: file.clone(),
        problem: error.to_string(),
    })?;
    let answer = answer(value, arguments).map_err(|error| Error::Instance {
        file,
        source: Box::new(error),
    })?;
    println!("{}", serde_json::to_string_pretty(&answer).map_err(Error::Print)?);
    Ok(())
}

fn answer(value: serde_json::Value, arguments: &Arguments) -> Result<serde_json::Value, Error> {
    let document = document::Document::read(value)?;
    let clock = Clock::start();
    let limit = Duration::from_millis(arguments.time_limit);
    let start = clock.now();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to 100 per cent in millionths"
    )]
    let gap_ppm = (arguments.gap * 1e4) as u64;
    let settings = Settings {
        threads: usize::from(arguments.threads),
        gap_ppm,
        ..Settings::thorough()
    };
    let instance = Instance::new(&document.rows);
    let limit = searching(instance.options(), limit);
    let mut go_on = || clock.now().duration_since(start) < limit;
    let solution = solve(&instance, &mut Memory::default(), &settings, &mut go_on);
    let milliseconds = clock.now().duration_since(start).as_secs_f64() * 1e3;
    Ok(document.answer(&solution, milliseconds))
}

fn percent(text: &str) -> Result<f64, String> {
    let value: Option<f64> = text.parse().ok();
    value
        .filter(|value| (0.0..=100.0).contains(value))
        .ok_or_else(|| "write a number from 0 to 100".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn arguments() -> Arguments {
        Arguments {
            file: PathBuf::from("-"),
            time_limit: 60_000,
            gap: 0.0,
            threads: 1,
        }
    }

    /// Two stages want the cheap pool, which has room for four replicas; one gains more from it.
    fn two_stages() -> Value {
        let option = |pool: &str, cost: f64, capacity: f64| json!({ "pool": pool, "cpu_millis": 1000, "memory_kib": 1_048_576, "cost_usd_per_hour": cost, "capacity": capacity });
        json!({
            "pools": [
                { "name": "graviton", "cpu_millis": 4000, "memory_kib": 16_777_216 },
                { "name": "x86", "cpu_millis": 64000, "memory_kib": 268_435_456 },
            ],
            "stages": [
                {
                    "name": "embed", "demand": 40.0, "unserved_usd_per_unit": 5.0,
                    "options": [option("graviton", 0.1, 10.0), option("x86", 0.3, 10.0)],
                },
                {
                    "name": "rank", "demand": 40.0, "unserved_usd_per_unit": 5.0,
                    "options": [option("graviton", 0.1, 10.0), option("x86", 0.15, 10.0)],
                },
            ],
        })
    }

    #[test]
    fn the_stage_that_gains_more_gets_the_short_pool() {
        let answer = answer(two_stages(), &arguments()).unwrap();
        assert_eq!(answer["stages"][0]["replicas"], json!({ "graviton": 4 }));
        assert_eq!(answer["stages"][1]["replicas"], json!({ "x86": 4 }));
        assert_eq!(answer["cost_usd_per_hour"], json!(1.0));
        assert_eq!(answer["objective_usd_per_hour"], json!(1.0));
        assert_eq!(answer["gap_percent"], json!(0.0));
        assert_eq!(answer["prices"][0]["pool"], "graviton");
    }

    #[test]
    fn a_wrong_field_is_named_with_what_is_allowed() {
        let cases: [(&str, Value, &str); 8] = [
            (
                "/stages/1/options/0/pool",
                json!("l4"),
                "`stages[1].options[0].pool` is \"l4\", but must name a pool of `pools`; there is graviton, x86",
            ),
            (
                "/stages/0/demand",
                json!("much"),
                "`stages[0].demand` is \"much\", but must be a number that is not negative of at most",
            ),
            (
                "/stages/0/demand",
                json!(-1),
                "`stages[0].demand` is -1, but must be a number that is not negative",
            ),
            ("/stages/0/demand", json!(1.0001), "at most 3 digits behind the point"),
            (
                "/stages/0/options/1/capacity",
                Value::Null,
                "`stages[0].options[1].capacity` is missing",
            ),
            (
                "/pools/1/name",
                json!("graviton"),
                "`pools[1].name` is \"graviton\", which another one is called already",
            ),
            ("/pools/0", json!(7), "`pools[0]` is a number, but must be an object"),
            ("/stages", json!({}), "`stages` is an object, but must be a list"),
        ];
        for (at, value, expected) in cases {
            let mut document = two_stages();
            *document.pointer_mut(at).unwrap() = value;
            let error = answer(document, &arguments()).unwrap_err().to_string();
            assert!(error.contains(expected), "{at}: {error}");
        }
    }

    #[test]
    fn a_field_that_nobody_reads_is_refused_by_its_path() {
        for (at, expected) in [
            (
                "/stages/0/options/0",
                "`stages[0].options[0].cpus` is unknown; known here: pool, cost_usd_per_hour",
            ),
            ("", "`cpus` is unknown; known here: pools, groups, stages"),
        ] {
            let mut document = two_stages();
            document.pointer_mut(at).unwrap()["cpus"] = json!(1);
            let error = answer(document, &arguments()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_example_of_the_manual_comes_out_as_it_says() {
        let manual = include_str!("../../docs/reference/solve.md");
        let example = manual.split("```json").nth(1).unwrap().split("```").next().unwrap();
        let answer = answer(serde_json::from_str(example).unwrap(), &arguments()).unwrap();
        assert_eq!(answer["stages"][0]["replicas"], json!({ "graviton": 6 }));
        assert_eq!(answer["stages"][1]["replicas"], json!({ "l4": 3 }));
        assert_eq!(answer["stages"][0]["unserved"], json!(40.0));
        assert_eq!(answer["stages"][1]["unserved"], json!(40.0));
        assert_eq!(answer["cost_usd_per_hour"], json!(3.84));
        let reason = answer["stages"][0]["reasons"][0].as_str().unwrap();
        assert!(reason.starts_with("another stage of the pipeline"), "{reason}");
    }

    #[test]
    fn what_is_not_served_has_a_reason() {
        let mut document = two_stages();
        document["pools"][1]["cpu_millis"] = json!(0);
        let answer = answer(document, &arguments()).unwrap();
        let unserved: f64 = (0..2)
            .map(|at| answer["stages"][at]["unserved"].as_f64().unwrap())
            .sum();
        assert!((unserved - 40.0).abs() < 1e-9, "{answer}");
        let short = (0..2)
            .find(|&at| answer["stages"][at]["unserved"] != json!(0.0))
            .unwrap();
        assert!(
            !answer["stages"][short]["reasons"].as_array().unwrap().is_empty(),
            "{answer}"
        );
    }
}
