//! Both sides of a comparison, row by row: what text and Markdown are written from.

use crate::api::decimal::{money, thousandths};
use crate::plan::change::{Change, Kind};
use crate::plan::report::{Amount, Pipeline, Placement, Report, Stage};

/// One pipeline on both sides.
#[derive(Clone, Debug)]
pub(super) struct Joined<'a> {
    pub(super) before: Option<&'a Pipeline>,
    pub(super) after: Option<&'a Pipeline>,
    /// What differs; absent if nothing does, or there is nothing to compare with.
    pub(super) change: Option<&'a Change>,
    pub(super) rows: Vec<Row<'a>>,
}

/// One stage on one pool on both sides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub(super) stage: &'a str,
    pub(super) pool: &'a str,
    pub(super) before: Option<&'a Placement>,
    pub(super) after: Option<&'a Placement>,
}

impl Joined<'_> {
    /// Namespace and name.
    pub(super) fn name(&self) -> String {
        let one = self.after.or(self.before);
        one.map(|one| format!("{}/{}", one.namespace, one.name))
            .unwrap_or_default()
    }
}

impl Row<'_> {
    /// Replicas or their price differ.
    pub(super) fn differs(&self) -> bool {
        let of = |row: Option<&Placement>| {
            row.map(|row| (row.minimum, row.maximum, row.each_per_hour))
                .filter(|(least, most, _)| least + most > 0)
        };
        of(self.before) != of(self.after)
    }
}

/// Pipelines of a report: those that are wanted in their order, then those that go.
pub(super) fn joined(report: &Report) -> Vec<Joined<'_>> {
    let old = report.before.as_ref();
    let known = old.map(|before| before.plan.pipelines.as_slice()).unwrap_or_default();
    let changes = old.map(|before| before.changes.as_slice()).unwrap_or_default();
    let change = |pipeline: &Pipeline| {
        changes
            .iter()
            .find(|change| (&change.namespace, &change.name) == (&pipeline.namespace, &pipeline.name))
    };
    let mut all = Vec::new();
    for pipeline in &report.after.pipelines {
        let before = known
            .iter()
            .find(|one| (&one.namespace, &one.name) == (&pipeline.namespace, &pipeline.name));
        all.push(join(before, Some(pipeline), change(pipeline)));
    }
    for pipeline in known {
        let change = change(pipeline);
        if change.is_some_and(|change| change.kind == Kind::Removed) {
            all.push(join(Some(pipeline), None, change));
        }
    }
    all
}

fn join<'a>(before: Option<&'a Pipeline>, after: Option<&'a Pipeline>, change: Option<&'a Change>) -> Joined<'a> {
    let stages = |pipeline: Option<&'a Pipeline>| pipeline.map(|one| one.stages.as_slice()).unwrap_or_default();
    let (old, new) = (stages(before), stages(after));
    let gone = old
        .iter()
        .filter(|stage| !new.iter().any(|other| other.name == stage.name));
    let mut rows = Vec::new();
    for stage in new.iter().chain(gone) {
        let find = |stages: &'a [Stage]| stages.iter().find(|other| other.name == stage.name);
        let pools = |stage: Option<&'a Stage>| stage.map(|stage| stage.pools.as_slice()).unwrap_or_default();
        let (old, new) = (pools(find(old)), pools(find(new)));
        let gone = old.iter().filter(|row| !new.iter().any(|other| other.pool == row.pool));
        for row in new.iter().chain(gone) {
            let find = |rows: &'a [Placement]| rows.iter().find(|other| other.pool == row.pool);
            rows.push(Row {
                stage: &stage.name,
                pool: &row.pool,
                before: find(old),
                after: find(new),
            });
        }
    }
    Joined {
        before,
        after,
        change,
        rows,
    }
}

/// Objects of a pipeline by kind, such as `3 Deployments, 1 Service`.
pub(super) fn census(pipeline: &Pipeline) -> String {
    let kinds = ["Deployment", "Service", "PodDisruptionBudget", "ServiceAccount"];
    let counts = kinds.iter().filter_map(|kind| {
        let count = pipeline.children.iter().filter(|child| child.kind == *kind).count();
        (count > 0).then(|| counted(count, kind))
    });
    counts.collect::<Vec<_>>().join(", ")
}

/// `1 stage`, `2 stages`.
pub(super) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// What a pipeline may take at most, in money per hour and in power.
pub(super) fn budget(pipeline: &Pipeline) -> Option<String> {
    let power = pipeline
        .budget_watts
        .map(|milliwatts| format!("{} W", milliwatts / 1_000));
    let parts: Vec<String> = pipeline.budget_per_hour.map(money).into_iter().chain(power).collect();
    (!parts.is_empty()).then(|| parts.join(" and "))
}

/// Requests per second at the maximum, in three digits and rounded down: what is promised is served.
pub(super) fn serves(pipeline: &Pipeline) -> Option<String> {
    let millis = pipeline.requests_per_second_at_maximum?;
    let unit = match millis {
        0..10_000 => 10,
        10_000..100_000 => 100,
        _ => 1_000,
    };
    Some(thousandths(millis - millis % unit))
}

/// Watts, without a fraction that nobody can measure.
pub(super) fn watts(amount: Amount) -> Option<String> {
    amount.watts.map(|milliwatts| {
        milliwatts
            .saturating_add(500)
            .checked_div(1_000)
            .unwrap_or_default()
            .to_string()
    })
}

/// Documents that are no business of ours, in one line; empty without any.
pub(super) fn skipped(report: &Report) -> String {
    let total: u32 = report.skipped.values().sum();
    if total == 0 {
        return String::new();
    }
    let kinds: Vec<String> = report
        .skipped
        .iter()
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    let documents = counted(usize::try_from(total).unwrap_or(usize::MAX), "document");
    format!("{documents} of other kinds left alone ({})", kinds.join(", "))
}
