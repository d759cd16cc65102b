//! The report, and whether the run was good.

use std::path::Path;

use kube::ResourceExt as _;
use tiercel::api::compute_pool::Tier as PoolTier;

use super::accelerators::{self, Moment};
use super::planning::{self, Planning};
use super::reaction;
use super::scene::Scene;
use super::schedule::{SEED, Schedule};
use super::stage_set::{StageSet, machines_of};
use super::tally;
use super::{Failure, NAMESPACE, OPERATOR_NAMESPACE};
use crate::observe::Kind;
use crate::report::{PoolInfo, Reaction, Report, ReportFiles, Tier, Timeline};

/// What the run came to.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The report.
    pub report: Report,
    /// Where it is.
    pub files: ReportFiles,
    /// What was crossed, in words.
    pub crossed: Vec<String>,
}

impl Verdict {
    /// Why the run was not good, in a sentence each; empty if it was.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let Report {
            floor_violations: floors,
            ceiling_violations: ceilings,
            ..
        } = self.report;
        if floors + ceilings > 0 {
            let list = self.crossed.join("; ");
            faults.push(format!(
                "floors were crossed {floors} times and ceilings {ceilings} times: {list}"
            ));
        }
        if self.report.shifts == 0 {
            faults.push(
                "no replicas moved from one pool to another: see decisions.jsonl and cluster/operator.log".into(),
            );
        }
        faults
    }
}

/// Writes `report.json` and `report.html` into `folder`.
pub fn write(
    set: &StageSet,
    scene: &mut Scene,
    schedule: Schedule,
    startup_s: f64,
    folder: &Path,
) -> Result<Verdict, Failure> {
    scene.decisions.read();
    let start = scene.begun_at().ok_or("the load never began")?;
    let logged = &scene.decisions.all;

    let moments: Vec<Moment> = scene.samples.iter().map(|(_, _, moment)| *moment).collect();
    let only = accelerators::cost_per_hour(&scene.stages, &scene.pools, &machines_of, &moments);
    let mut timeline = Timeline::default();
    for ((t_s, sample, _), cost) in scene.samples.iter().zip(only) {
        let mut sample = sample.clone();
        sample.cost_per_hour_all_accelerators = cost;
        timeline.observe(*t_s, sample);
    }
    let series = timeline.series();

    let user = format!("system:serviceaccount:{OPERATOR_NAMESPACE}:tiercel");
    let writes = reaction::writes(&set.cluster.audit_log(), &user, NAMESPACE)?;
    let scrapes: Vec<_> = set
        .fleet
        .scrapes()
        .into_iter()
        .map(|it| (it.stage.1, it.at_unix_s))
        .collect();
    let deployments = scene.told().deployments;
    let mut reactions = reaction::reactions(&writes, &scrapes, logged, &deployments, &scene.stages);
    let mut samples = scene.observer.snapshot().samples().to_vec();
    samples.retain(|it| it.key.namespace == NAMESPACE);

    let (gap_percent, plan_ms, solve_ms) = scene.planning.as_ref().map(Planning::told).unwrap_or_default();
    let violations = scene.observer.violations();
    let count = |kinds: &[Kind]| violations.iter().filter(|it| kinds.contains(&it.kind)).count() as u64;
    let crossed = violations.iter().map(|it| {
        format!(
            "{} {:?}: {} where {} is the bound",
            it.key.stage, it.kind, it.seen, it.bound
        )
    });
    let crossed = crossed.collect();
    let report = Report {
        title: "tiercel demo: a support agent on five kinds of hardware".into(),
        pipeline: format!("{NAMESPACE}/{}", scene.pipeline.name_any()),
        load: format!(
            "Azure LLM inference trace 2023, conversation (CC-BY-4.0), the recorded hour at {} × speed, thinned",
            schedule.speed
        ),
        seed: SEED,
        started_at: start.to_string(),
        duration_s: schedule.load.as_secs_f64(),
        startup_s: Some(startup_s),
        objective_ms: scene.objective_ms(),
        cost_usd: series.cost_usd(),
        cost_usd_all_accelerators: series.cost_usd_all_accelerators(),
        shifts: tally::shifts(&samples),
        decisions: tally::decisions(&writes, &deployments),
        reaction_ms: Reaction::of(&mut reactions),
        gap_percent,
        plan_ms,
        solve_ms,
        floor_violations: count(&[Kind::Floor, Kind::ReadyFloor]),
        ceiling_violations: count(&[Kind::Ceiling, Kind::Budget]),
        pools: scene
            .pools
            .iter()
            .map(|pool| PoolInfo {
                name: pool.name.clone(),
                tier: match pool.tier {
                    PoolTier::Cpu => Tier::Cpu,
                    PoolTier::Accelerator => Tier::Accelerator,
                },
                cost_per_node_hour: Some(pool.price),
            })
            .collect(),
        stages: scene.stages.iter().map(|stage| stage.name.clone()).collect(),
        events: scene.events.clone(),
        decision_log: logged.iter().map(|decision| decision.line(start)).collect(),
        series,
        definitions: definitions(reactions.len()),
        ..Report::default()
    }
    .with_load(scene.recorder.summary());
    let files = report.write(folder)?;
    Ok(Verdict { report, files, crossed })
}

fn definitions(reactions: usize) -> std::collections::BTreeMap<String, String> {
    let definitions = [
        ("cost_usd_all_accelerators", accelerators::DEFINITION.to_owned()),
        (
            "reaction_ms",
            format!(
                "from the newest /metrics answer of the stage or a stage that calls it, before the write came in (the fleet's clock), to the \
                 answer of the scale write (the API server's audit log); {reactions} writes set off by a rise of demand, of stages whose pods are \
                 scraped. Every pod is scraped once a second: the load itself may have changed up to a second earlier"
            ),
        ),
        ("gap_percent", planning::GAP.to_owned()),
        ("plan_ms", planning::PLAN.to_owned()),
        ("solve_ms", planning::SOLVE.to_owned()),
        ("shifts", tally::SHIFTS.to_owned()),
        ("decisions", tally::DECISIONS.to_owned()),
        (
            "decision_log",
            "the operator's own log; of the numbers here only reaction_ms asks it, for which writes followed a rise of demand".into(),
        ),
        ("floor_violations", "times the replicas asked for or Ready fell below a stage's minimum, seen in the order of the API server's revisions".into()),
        ("ceiling_violations", "times the replicas asked for exceeded a stage's maximum, or their cost the pipeline's budget".into()),
        ("startup_s", "from kubectl apply to every stage Ready; the simulated nodes take 1 s of it per pod, more where the pipeline declares a longer start".into()),
        ("cost_usd", "replicas asked for, each at its largest share of a node, times the node's price".into()),
    ];
    definitions.map(|(key, text)| (key.to_owned(), text)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(report: Report) -> Verdict {
        Verdict {
            report,
            files: ReportFiles {
                json: "a".into(),
                html: "b".into(),
            },
            crossed: vec!["generate ReadyFloor: 1 where 2 is the bound".into()],
        }
    }

    #[test]
    fn a_run_is_good_only_with_shifts_and_bounds_that_held() {
        let good = Report {
            shifts: 3,
            ..Report::default()
        };
        assert_eq!(verdict(good.clone()).faults(), [] as [String; 0]);
        assert!(verdict(Report::default()).faults()[0].contains("no replicas moved"));
        let crossed = Report {
            floor_violations: 1,
            ..good
        };
        assert!(verdict(crossed).faults()[0].contains("generate ReadyFloor: 1 where 2"));
    }
}
