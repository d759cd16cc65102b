//! Pure: what the API server would say of a manifest, without one, and what a reader with experience would add.

mod advice;
mod rules;
mod schema;

pub(crate) use self::rules::member;
#[cfg(test)]
pub(crate) use self::schema::check;
pub(crate) use self::schema::kind;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::api::{self, ComputePool, TieredPipeline};

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// The API server would refuse the object.
    Error,
    /// It would take it; somebody should look at this.
    Advice,
}

impl fmt::Display for Weight {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Error => "error",
            Self::Advice => "advice",
        })
    }
}

/// One thing about one field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Whether it is refused.
    pub weight: Weight,
    /// The field, such as `spec.stages[0].replicas.min`.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// What is said of one document.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Place in the file, from 1.
    pub document: usize,
    /// `TieredPipeline` or `ComputePool`.
    pub kind: String,
    /// Name of the object, with its namespace if it says one.
    pub name: String,
    /// All findings, errors first.
    pub findings: Vec<Finding>,
}

/// What was looked at, and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lint {
    /// The documents that are tiercel's.
    pub reports: Vec<Report>,
    /// How many are not.
    pub others: usize,
    /// Rules that only the API server can check.
    pub unchecked: BTreeSet<String>,
}

/// The definitions cannot be derived from the types: a defect.
#[derive(Debug, thiserror::Error)]
#[error("the definitions cannot be derived from the types: {0}")]
pub struct Error(#[from] serde_json::Error);

/// Looks at documents. Pools among them are those that pipelines among them are held against.
///
/// # Errors
/// When the definitions cannot be derived; a defect.
pub fn lint(documents: Vec<Value>) -> Result<Lint, Error> {
    let schemas = Schemas::installed()?;
    let mut lint = Lint::default();
    let mut objects = Vec::new();
    for (at, mut document) in (1..).zip(documents) {
        if document.is_null() {
            continue;
        }
        let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).map(ToOwned::to_owned);
        let kind = text("/kind").unwrap_or_default();
        let version = text("/apiVersion").unwrap_or_default();
        let (group, _) = version.split_once('/').unwrap_or_default();
        let Some(schema) = schemas.of(&kind).filter(|_| group == api::GROUP) else {
            lint.others += 1;
            continue;
        };
        let name = text("/metadata/name").unwrap_or_default();
        let mut report = Report {
            document: at,
            kind,
            name: text("/metadata/namespace").map_or(name.clone(), |namespace| format!("{namespace}/{name}")),
            findings: Vec::new(),
        };
        let mut refusals = Vec::new();
        if version != format!("{}/{}", api::GROUP, api::VERSION) {
            let message = format!(
                "must be '{}/{}', the one version that is served",
                api::GROUP,
                api::VERSION
            );
            refusals.push(Refusal::fatal("apiVersion", message));
        }
        refusals.extend(refused(schema, &mut document, &mut lint.unchecked));
        let refused = refusals.into_iter().map(|refusal| Finding {
            weight: Weight::Error,
            path: refusal.field,
            message: refusal.message,
        });
        report.findings.extend(refused);
        if report.findings.is_empty() {
            objects.push((lint.reports.len(), document));
        }
        lint.reports.push(report);
    }
    advise(&mut lint, objects);
    for report in &mut lint.reports {
        report.findings.sort();
        report.findings.dedup();
    }
    Ok(lint)
}

/// Advice for what the server would take.
fn advise(lint: &mut Lint, objects: Vec<(usize, Value)>) {
    let mut pools: Vec<(usize, ComputePool)> = Vec::new();
    let mut pipelines: Vec<(usize, TieredPipeline)> = Vec::new();
    for (at, object) in objects {
        let kind = object.get("kind").and_then(Value::as_str).map(ToOwned::to_owned);
        let problem = match kind.as_deref() {
            Some("ComputePool") => serde_json::from_value(object).map(|pool| pools.push((at, pool))),
            _ => serde_json::from_value(object).map(|pipeline| pipelines.push((at, pipeline))),
        };
        if let (Err(problem), Some(report)) = (problem, lint.reports.get_mut(at)) {
            report.findings.push(Finding {
                weight: Weight::Error,
                path: String::new(),
                message: format!("cannot be read: {problem}"),
            });
        }
    }
    let known: Vec<&ComputePool> = pools.iter().map(|(_, pool)| pool).collect();
    let of_pools = pools.iter().map(|(at, pool)| (*at, advice::pool(pool)));
    let of_pipelines = pipelines
        .iter()
        .map(|(at, pipeline)| (*at, advice::pipeline(pipeline, &known)));
    for (at, said) in of_pools.chain(of_pipelines) {
        let findings = said.into_iter().map(|(path, message)| Finding {
            weight: Weight::Advice,
            path,
            message,
        });
        if let Some(report) = lint.reports.get_mut(at) {
            report.findings.extend(findings);
        }
    }
}

/// Kind and structural schema of each definition.
#[derive(Debug)]
pub struct Schemas(Vec<(String, Value)>);

impl Schemas {
    /// Those that this program installs.
    ///
    /// # Errors
    /// When the definitions cannot be derived; a defect.
    pub fn installed() -> Result<Self, Error> {
        let mut schemas = Vec::new();
        for crd in api::crds()? {
            let kind = crd.spec.names.kind.clone();
            let mut value = serde_json::to_value(&crd)?;
            if let Some(schema) = value.pointer_mut("/spec/versions/0/schema/openAPIV3Schema") {
                schemas.push((kind, schema.take()));
            }
        }
        Ok(Self(schemas))
    }

    /// The schema of a kind.
    pub(crate) fn of(&self, kind: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == kind).map(|(_, schema)| schema)
    }
}

/// Something that strict admission refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Path of the field.
    pub(crate) field: String,
    /// What is wrong, and what is allowed.
    pub(crate) message: String,
    /// The object cannot be understood, or is never taken. A server that is not strict leaves an unknown field out.
    pub(crate) fatal: bool,
}

impl Refusal {
    pub(crate) fn fatal(field: &str, message: String) -> Self {
        Self {
            field: field.to_owned(),
            message,
            fatal: true,
        }
    }
}

/// What the API server refuses of an object of a kind, in the order of its fields. Defaults are filled in. Rules that only the
/// server can check are put into `unchecked`.
pub(crate) fn refused(schema: &Value, document: &mut Value, unchecked: &mut BTreeSet<String>) -> Vec<Refusal> {
    let mut complaints = Vec::new();
    schema::head(document, &mut complaints);
    schema::check(schema, document, "", &mut complaints);
    // Rules count on what the schema promises; they do not look at what it does not know.
    if complaints
        .iter()
        .all(|(_, message)| message.starts_with(schema::UNKNOWN))
    {
        rules::check(schema, document, &mut complaints, unchecked);
    }
    let each = complaints.into_iter().map(|(field, message)| Refusal {
        fatal: !message.starts_with(schema::UNKNOWN),
        field,
        message,
    });
    each.collect()
}
