//! What a Prometheus answers to the shipped presets. `make alerts` has promtool evaluate `tests/presets/presets_test.yaml`;
//! here its expressions are held against what the operator sends, and its answers are read as the operator reads them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use crate::signals::Why;
use crate::signals::presets::Role;
use crate::signals::prometheus::answer::Answer;
use crate::signals::prometheus::question::{Numbers, Question, Signal};
use crate::signals::sources::{Ask, Sources};

const EVALUATED: &str = include_str!("../../../../tests/presets/presets_test.yaml");
const PODS: [&str; 2] = ["chat-0", "chat-1"];

#[derive(Deserialize)]
struct File {
    tests: Vec<Test>,
}

#[derive(Deserialize)]
struct Test {
    name: String,
    promql_expr_test: Vec<Evaluated>,
}

#[derive(Deserialize)]
struct Evaluated {
    expr: String,
    eval_time: String,
    exp_samples: Vec<Sample>,
}

#[derive(Deserialize)]
struct Sample {
    /// `{name="value", …}`.
    labels: String,
    value: f64,
}

fn shipped(preset: &str) -> Vec<Signal> {
    let sources = Sources::parse("test", "prometheus: [{name: main, url: 'http://p'}]\n").unwrap();
    match sources.ask(preset) {
        Some((Ask::Queries { signals, .. }, Some(0))) => signals.clone(),
        other => panic!("{other:?}"),
    }
}

impl Evaluated {
    /// The answer as `/api/v1/query` has it.
    fn answer(&self) -> Answer {
        let seconds: f64 = self.eval_time.strip_suffix('s').unwrap().parse().unwrap();
        let labels = |text: &str| -> BTreeMap<String, String> {
            let pairs = text.trim_matches(['{', '}']).split(", ");
            let pair = |pair: &str| {
                let (name, value) = pair.split_once('=').unwrap();
                (name.to_owned(), value.trim_matches('"').to_owned())
            };
            pairs.map(pair).collect()
        };
        let element = |it: &Sample| json!({"metric": labels(&it.labels), "value": [seconds, it.value.to_string()]});
        let result: Vec<_> = self.exp_samples.iter().map(element).collect();
        let body = json!({"status": "success", "data": {"resultType": "vector", "result": result}});
        Answer::parse(body.to_string().as_bytes()).unwrap()
    }
}

/// What the pods say in the test of this name.
fn said(name: &str) -> Vec<Numbers> {
    let file: File = serde_saphyr::from_str(EVALUATED).unwrap();
    let test = file.tests.into_iter().find(|test| test.name == name).unwrap();
    let signals = shipped(name.split(',').next().unwrap());
    let mut questions = Question::per_pod(&signals, "ai", &PODS);
    assert_eq!((questions.len(), test.promql_expr_test.len()), (1, 1));
    let (question, asked) = questions.remove(0);
    let evaluated = &test.promql_expr_test[0];
    assert_eq!(evaluated.expr.trim_end(), question.text, "write the file anew: {name}");
    question.pods(&evaluated.answer(), asked)
}

/// Value in thousandths, and age in seconds.
fn number(numbers: &Numbers, role: Role) -> Result<(u64, u64), Why> {
    numbers[&role].map(|number| (number.value.thousandths().unwrap(), number.age_ms / 1_000))
}

#[test]
fn every_evaluated_answer_reads_as_what_the_exporters_showed() {
    use Role::{CacheUse, Utilization};
    let all = [
        (
            "dcgm, labels of whoever uses the GPU",
            Utilization,
            [Ok((750, 0)), Ok((250, 15))],
        ),
        (
            "dcgm, labels of whoever uses the GPU",
            CacheUse,
            [Ok((375, 0)), Err(Why::NoSeries)],
        ),
        (
            "dcgm, labels of the exporter itself kept",
            Utilization,
            [Ok((400, 0)), Ok((600, 0))],
        ),
        (
            "dcgm, labels of the exporter itself kept",
            CacheUse,
            [Ok((250, 0)), Err(Why::NoSeries)],
        ),
        (
            "dcgm, a GPU without profiling metrics",
            Utilization,
            [Ok((800, 0)), Err(Why::NoSeries)],
        ),
        (
            "dcgm, a GPU without profiling metrics",
            CacheUse,
            [Err(Why::NoSeries), Err(Why::NoSeries)],
        ),
        (
            "psi, the pod and its containers",
            Utilization,
            [Ok((500, 0)), Ok((0, 0))],
        ),
        (
            "psi, labels of the target kept, and a pod that was restarted",
            Utilization,
            [Ok((200, 0)), Ok((173, 0))],
        ),
        (
            "psi, too few samples for a rate",
            Utilization,
            [Err(Why::NoSeries), Err(Why::NoSeries)],
        ),
    ];
    for (name, role, expected) in all {
        let pods = said(name);
        let found: Vec<_> = pods.iter().map(|pod| number(pod, role)).collect();
        assert_eq!(found, expected, "{name}: {role:?}");
    }
    let file: File = serde_saphyr::from_str(EVALUATED).unwrap();
    for test in file.tests {
        assert!(all.iter().any(|(name, ..)| *name == test.name), "{}", test.name);
    }
}
