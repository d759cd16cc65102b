//! Pure: one request for everything that a preset asks about a namespace, and what its answer says of each pod or stage.
//!
//! An instant query is stamped with the time of its evaluation, and a server looks back five minutes for samples. So every
//! query travels with `timestamp(…)` of each of its selectors: the age of a number is evaluation time less the oldest of
//! those, both on the server's clock. All of it is one expression, joined with `or` and told apart by a label.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::answer::Answer;
use super::template::{Names, Template};
use crate::signals::presets::Role;
use crate::signals::sources::Unit;
use crate::signals::{Finite, Why};

/// Tells the parts of a question apart in its answer.
const PART: &str = "tiercel_part";

/// A longer query is put as several: some servers take no more than 16 KiB.
pub const QUERY_BYTES_MAX: usize = 12 * 1024;

/// One way to learn a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// What it is used for. Of several signals of one role the first that the server has any series of decides.
    pub role: Role,
    /// Its unit.
    pub unit: Unit,
    /// How to ask for it.
    pub template: Template,
    /// The label of the answer that names the pod, for a preset per pod.
    pub pod_label: String,
    /// Oldest age at which it is fresh, milliseconds.
    pub freshness_ms: u64,
    /// Whether a pod or stage may go without it.
    pub optional: bool,
}

/// A number and its age by the source's clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number {
    /// In the unit of its role.
    pub value: Finite,
    /// When its oldest sample was taken: Unix time in milliseconds on the source's clock.
    pub source_ms: i64,
    /// How long before the answer that was.
    pub age_ms: u64,
}

/// What a pod or a stage says about each role that it was asked for.
pub type Numbers = BTreeMap<Role, Result<Number, Why>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Content {
    Value,
    /// When the samples of the selector with this number were taken.
    Time(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    subject: usize,
    signal: usize,
    content: Content,
}

/// One request's query.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    signals: &'a [Signal],
    /// The query in PromQL.
    pub text: String,
    parts: Vec<Part>,
    per_pod: bool,
}

impl<'a> Question<'a> {
    /// Asks about the pods of a namespace: as few questions as their length allows, each with the pods it is about.
    pub fn per_pod<'n>(signals: &'a [Signal], namespace: &'n str, pods: &'n [&'n str]) -> Vec<(Self, &'n [&'n str])> {
        let mut questions = Vec::new();
        let mut rest = pods;
        while !rest.is_empty() {
            let mut many = rest.len();
            loop {
                let (asked, later) = rest.split_at(many);
                let names = Names {
                    namespace,
                    pipeline: "",
                    stage: "",
                    pods: asked,
                };
                let mut question = Self::new(signals, true);
                question.add(0, &names);
                if many == 1 || question.text.len() <= QUERY_BYTES_MAX {
                    questions.push((question, asked));
                    rest = later;
                    break;
                }
                many = many.div_ceil(2);
            }
        }
        questions
    }

    /// Asks about stages: as few questions as their length allows, each with the stages it is about.
    pub fn per_stage<'n>(signals: &'a [Signal], stages: &'n [Names<'n>]) -> Vec<(Self, &'n [Names<'n>])> {
        let mut questions = Vec::new();
        let mut rest = stages;
        while !rest.is_empty() {
            let mut question = Self::new(signals, false);
            let mut many = 0;
            for names in rest {
                let before = (question.text.len(), question.parts.len());
                question.add(many, names);
                if many > 0 && question.text.len() > QUERY_BYTES_MAX {
                    question.text.truncate(before.0);
                    question.parts.truncate(before.1);
                    break;
                }
                many += 1;
            }
            let (asked, later) = rest.split_at(many);
            questions.push((question, asked));
            rest = later;
        }
        questions
    }

    fn new(signals: &'a [Signal], per_pod: bool) -> Self {
        Self {
            signals,
            text: String::new(),
            parts: Vec::new(),
            per_pod,
        }
    }

    fn add(&mut self, subject: usize, names: &Names<'_>) {
        for (
            signal,
            Signal {
                template, pod_label, ..
            },
        ) in self.signals.iter().enumerate()
        {
            let mut push = |content, expression: &str| {
                if !self.text.is_empty() {
                    self.text.push_str(" or ");
                }
                // Whatever the source label is, an empty pattern matches its absence. Writing to a String cannot fail.
                let _ = write!(
                    self.text,
                    "label_replace({expression}, \"{PART}\", \"{}\", \"\", \"\")",
                    self.parts.len()
                );
                self.parts.push(Part {
                    subject,
                    signal,
                    content,
                });
            };
            push(Content::Value, &template.query(names));
            for (index, selector) in template.selectors(names).enumerate() {
                let oldest = if self.per_pod {
                    format!("min by ({pod_label}) (timestamp({selector}))")
                } else {
                    format!("min(timestamp({selector}))")
                };
                push(Content::Time(index), &oldest);
            }
        }
    }

    /// What the answer says of each of the pods asked about.
    pub fn pods(&self, answer: &Answer, asked: &[&str]) -> Vec<Numbers> {
        let found = self.found(answer);
        asked.iter().map(|pod| self.numbers(&found, answer, 0, pod)).collect()
    }

    /// What the answer says of each of the stages asked about.
    pub fn stages(&self, answer: &Answer, asked: usize) -> Vec<Numbers> {
        let found = self.found(answer);
        (0..asked)
            .map(|stage| self.numbers(&found, answer, stage, ""))
            .collect()
    }

    /// The samples by part and pod; a sample that names no pod, or of a question about stages, is under the empty name.
    fn found<'s>(&self, answer: &'s Answer) -> BTreeMap<(Part, &'s str), Result<f64, Why>> {
        let mut found = BTreeMap::new();
        for sample in &answer.samples {
            let part = sample.labels.get(PART).and_then(|part| part.parse::<usize>().ok());
            let Some(&part) = part.and_then(|part| self.parts.get(part)) else {
                continue;
            };
            let pod = match self.signals.get(part.signal) {
                Some(signal) if self.per_pod => sample.labels.get(&signal.pod_label).map_or("", String::as_str),
                _ => "",
            };
            found
                .entry((part, pod))
                .and_modify(|twice| *twice = Err(Why::Ambiguous))
                .or_insert(sample.value);
        }
        found
    }

    fn numbers(
        &self,
        found: &BTreeMap<(Part, &str), Result<f64, Why>>,
        answer: &Answer,
        subject: usize,
        pod: &str,
    ) -> Numbers {
        let mut numbers = Numbers::new();
        for (index, signal) in self.signals.iter().enumerate() {
            let known = numbers.entry(signal.role).or_insert(Err(Why::NoSeries));
            // Otherwise an earlier alternative has decided, for better or worse.
            if *known == Err(Why::NoSeries) {
                let sample = |content| {
                    let part = Part {
                        subject,
                        signal: index,
                        content,
                    };
                    // A selector of something that is no pod's, such as a limit, counts for all of them.
                    let common = matches!(content, Content::Time(_))
                        .then(|| found.get(&(part, "")))
                        .flatten();
                    found.get(&(part, pod)).or(common).copied()
                };
                *known = number(signal, answer.evaluated_ms, sample);
            }
        }
        numbers
    }
}

/// The number of a signal, given the samples of its parts.
fn number(
    signal: &Signal,
    evaluated_ms: i64,
    sample: impl Fn(Content) -> Option<Result<f64, Why>>,
) -> Result<Number, Why> {
    let raw = sample(Content::Value).ok_or(Why::NoSeries)??;
    let value = signal.unit.converted(Finite::try_from(raw)?)?;
    let mut oldest = i64::MAX;
    for selector in 0..signal.template.selectors_len() {
        // A selector without any sample means that the query made its number of something else.
        let taken = sample(Content::Time(selector)).ok_or(Why::NoSeries)?;
        oldest = oldest.min(milliseconds(taken)?);
    }
    let age = evaluated_ms.checked_sub(oldest).ok_or(Why::Malformed)?;
    Ok(Number {
        value,
        source_ms: oldest,
        // A sample cannot be younger than the evaluation that found it.
        age_ms: u64::try_from(age).map_err(|_| Why::Malformed)?,
    })
}

/// Seconds since 1970, as servers write them, in milliseconds.
pub(super) fn milliseconds(seconds: Result<f64, Why>) -> Result<i64, Why> {
    /// The year 5138.
    const MAX: f64 = 1e14;
    let milliseconds = (seconds? * 1_000.0).round();
    #[expect(clippy::cast_possible_truncation, reason = "checked to be in range")]
    if (0.0..=MAX).contains(&milliseconds) {
        Ok(milliseconds as i64)
    } else {
        Err(Why::Malformed)
    }
}
