//! What differs between two plans.

use std::collections::BTreeMap;

use serde::Serialize;

use super::report::{Child, Pipeline, Plan, Stage};

/// What becomes of one pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What happens to it as a whole.
    pub kind: Kind,
    /// Objects that come, as `Deployment chat--generate--l4`.
    pub created: Vec<String>,
    /// Objects that go.
    pub deleted: Vec<String>,
    /// Objects that are written anew without touching a pod.
    pub updated: Vec<String>,
    /// Deployments whose pods start anew.
    pub restarted: Vec<String>,
    /// Replicas or their cost differ although no object may.
    pub placed_anew: bool,
}

/// What happens to a pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Kind {
    /// It is new.
    Added,
    /// It goes.
    Removed,
    /// It stays, and something of it changes.
    #[default]
    Changed,
}

/// What differs, pipeline by pipeline: those of `after` in their order, then those that are gone.
pub fn changes(before: &Plan, after: &Plan) -> Vec<Change> {
    let same = |one: &Pipeline, other: &Pipeline| (&one.namespace, &one.name) == (&other.namespace, &other.name);
    let mut all = Vec::new();
    for pipeline in &after.pipelines {
        match before.pipelines.iter().find(|known| same(known, pipeline)) {
            None => all.push(whole(pipeline, Kind::Added)),
            Some(known) => all.extend(change(known, pipeline)),
        }
    }
    let gone = before
        .pipelines
        .iter()
        .filter(|known| !after.pipelines.iter().any(|other| same(known, other)));
    all.extend(gone.map(|pipeline| whole(pipeline, Kind::Removed)));
    all
}

/// A stage that is refused stays as it was before.
pub fn keep_refused(before: &Plan, after: &mut Plan) {
    let Plan { pipelines, pools, cost } = after;
    for pipeline in pipelines {
        let same = |one: &&Pipeline| (&one.namespace, &one.name) == (&pipeline.namespace, &pipeline.name);
        let known = before.pipelines.iter().find(same).map(|known| known.stages.as_slice());
        let refused = |stage: &&Stage| pipeline.refused_stages.contains(&stage.name);
        let kept: Vec<Stage> = known.unwrap_or_default().iter().filter(refused).cloned().collect();
        for mut stage in kept {
            for row in &mut stage.pools {
                row.created = None;
                row.why_not_more = Some("refused: stays as it is".to_owned());
                pipeline.cost = pipeline.cost.plus(row.cost());
                *cost = cost.plus(row.cost());
                for pool in pools.iter_mut().filter(|pool| pool.name == row.pool) {
                    pool.minimum = pool.minimum.saturating_add(row.minimum);
                    pool.maximum = pool.maximum.saturating_add(row.maximum);
                }
            }
            pipeline.stages.push(stage);
        }
    }
}

fn named(child: &Child) -> String {
    format!("{} {}", child.kind, child.name)
}

fn whole(pipeline: &Pipeline, kind: Kind) -> Change {
    let children = pipeline.children.iter().map(named).collect();
    let (created, deleted) = if kind == Kind::Added {
        (children, Vec::new())
    } else {
        (Vec::new(), children)
    };
    Change {
        namespace: pipeline.namespace.clone(),
        name: pipeline.name.clone(),
        kind,
        created,
        deleted,
        placed_anew: true,
        ..Change::default()
    }
}

fn change(before: &Pipeline, after: &Pipeline) -> Option<Change> {
    let key = |child: &Child| (child.kind.clone(), child.name.clone());
    let known: BTreeMap<_, _> = before.children.iter().map(|child| (key(child), child)).collect();
    let wanted: BTreeMap<_, _> = after.children.iter().map(|child| (key(child), child)).collect();
    let mut change = Change {
        namespace: after.namespace.clone(),
        name: after.name.clone(),
        ..Change::default()
    };
    for child in &after.children {
        match known.get(&key(child)) {
            None => change.created.push(named(child)),
            Some(old) if old.template != child.template => change.restarted.push(named(child)),
            Some(old) if old.body != child.body => change.updated.push(named(child)),
            Some(_) => {}
        }
    }
    let goes = |child: &&Child| !wanted.contains_key(&key(child)) && !after.refused_stages.contains(&child.stage);
    change.deleted = before.children.iter().filter(goes).map(named).collect();
    let counts = |pipeline: &Pipeline| {
        let rows = pipeline.stages.iter().flat_map(|stage| {
            let row = |pool: &super::report::Placement| (pool.pool.clone(), pool.minimum, pool.maximum);
            let name = stage.name.clone();
            stage.pools.iter().map(row).map(move |row| (name.clone(), row))
        });
        // Where nothing runs nothing differs.
        rows.filter(|(_, (_, minimum, maximum))| minimum + maximum > 0)
            .collect::<Vec<_>>()
    };
    let terms = |pipeline: &Pipeline| (pipeline.mode.clone(), pipeline.budget_per_hour, pipeline.budget_watts);
    let cost = |pipeline: &Pipeline| (pipeline.cost.minimum, pipeline.cost.maximum);
    change.placed_anew =
        counts(before) != counts(after) || cost(before) != cost(after) || terms(before) != terms(after);
    let nothing = change.created.is_empty()
        && change.deleted.is_empty()
        && change.updated.is_empty()
        && change.restarted.is_empty()
        && !change.placed_anew;
    (!nothing).then_some(change)
}
