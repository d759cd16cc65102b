//! What was taken from an exposition, and from which series: the same reading as [`Preset::read`], with its reasons. For
//! people whose stage is silent.

use std::collections::BTreeSet;

use super::read::{self, Named, label_set};
use super::{Combine, Kind, Preset, Role, Selection, Signal};
use crate::signals::exposition::{Exposition, Sample, Value};
use crate::signals::{Finite, Served, Why};

/// What was taken for one role.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// The role.
    pub role: Role,
    /// Without it the answer of the pod does not count.
    pub required: bool,
    /// Series that would do, the most wanted first, as `name{selector}`.
    pub wanted: Vec<String>,
    /// Those that were found, if any were.
    pub used: Option<Used>,
    /// The number in the unit of the role, or why there is none.
    pub outcome: Result<Finite, Why>,
    /// Of the role `latency`: what the next reading is compared with.
    pub served: Option<Served>,
}

/// The series behind a number.
#[derive(Clone, Debug, PartialEq)]
pub struct Used {
    /// Name of the metric that was chosen.
    pub metric: String,
    /// Unit of its series.
    pub kind: Kind,
    /// How they become one number within a pod.
    pub within_pod: Combine,
    /// Label over which that number is added up.
    pub per: Option<String>,
    /// How pods become one number.
    pub across_pods: Combine,
    /// The series, in the order of the body.
    pub series: Vec<Series>,
    /// Series of the metric that the preset leaves out, such as the scrapes themselves, as in the format.
    pub excluded: Vec<String>,
}

/// One series.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Name and labels, as in the format.
    pub text: String,
    /// Line in the body, from 1.
    pub line: u32,
    /// What it stands for.
    pub part: Part,
    /// Its number as written; `None` if it is not finite.
    pub raw: Option<f64>,
    /// Why it spoils the number, if it does.
    pub problem: Option<Why>,
}

/// Which part of a number a series is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The number itself, or what is divided.
    Number,
    /// What is divided by.
    Divisor,
}

impl Preset {
    /// What is taken from a body for each role that the preset has, in the order of [`Role::ALL`].
    pub fn account(&self, exposition: &Exposition<'_>) -> Vec<Account> {
        let roles = Role::ALL.into_iter().filter(|role| self.signal(*role).is_some());
        roles.map(|role| self.account_of(exposition, role)).collect()
    }

    fn account_of(&self, exposition: &Exposition<'_>, role: Role) -> Account {
        let (signal, outcome) = self.chosen(exposition, role);
        let alternatives = self.signals.iter().filter(|signal| signal.role == role);
        Account {
            role,
            required: signal.is_some_and(|signal| !signal.optional),
            wanted: alternatives.flat_map(|signal| signal.of.wanted()).collect(),
            used: signal.and_then(|signal| signal.used(exposition)),
            outcome: outcome.map(|amount| amount.number),
            served: outcome.ok().and_then(|amount| amount.served().ok()),
        }
    }
}

impl Signal {
    fn used(&self, exposition: &Exposition<'_>) -> Option<Used> {
        let above = self.of.first(exposition)?;
        let metric = above.name.to_owned();
        let mut series = listed(&above, Part::Number, |raw| self.checked(raw));
        if let Some(below) = self.over.as_ref().and_then(|over| over.first(exposition)) {
            series.extend(listed(&below, Part::Divisor, read::counter));
        }
        Some(Used {
            metric,
            kind: self.kind,
            within_pod: self.within_pod,
            per: self.per.clone(),
            across_pods: self.across_pods,
            series,
            excluded: self.of.excluded(exposition, above.name).map(text).collect(),
        })
    }
}

fn listed<'e, 'a>(found: &Named<'_, 'e, 'a>, part: Part, checked: impl Fn(f64) -> Result<f64, Why>) -> Vec<Series> {
    let mut seen = BTreeSet::new();
    let series = |sample: &&'e Sample<'a>| {
        let (raw, problem) = match sample.value {
            Value::Number(raw) => (Some(raw.get()), checked(raw.get()).err()),
            Value::NotFinite => (None, Some(Why::NotFinite)),
        };
        let again = !seen.insert(label_set(sample));
        Series {
            text: text(sample),
            line: sample.line,
            part,
            raw,
            problem: if again { Some(Why::Ambiguous) } else { problem },
        }
    };
    found.samples.iter().map(series).collect()
}

/// Name and labels as in the format.
fn text(sample: &Sample<'_>) -> String {
    let labels: Vec<_> = sample
        .labels()
        .map(|label| format!("{}={:?}", label.name.resolved(), label.value.resolved()))
        .collect();
    let name = sample.name.resolved();
    if labels.is_empty() {
        name.into_owned()
    } else {
        format!("{name}{{{}}}", labels.join(","))
    }
}

impl Selection {
    fn wanted(&self) -> impl Iterator<Item = String> {
        let labels: Vec<_> = self
            .labels
            .iter()
            .map(|(name, value)| format!("{name}={value:?}"))
            .collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", labels.join(","))
        };
        self.names.iter().map(move |name| format!("{name}{labels}"))
    }
}
