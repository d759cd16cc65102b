//! What kstatus reads of a pipeline in every situation, and each of them as an object on record.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::apply::{Refused, Report};
use super::dereference::Found;
use super::status::compute_status;
use super::tests::{deployed, found, kstatus, rag, serving, stage, status, unremarkable, world};
use super::validate::validate;
use super::verdict::dry_pools;
use crate::api::conditions::Type;
use crate::api::{TieredPipeline, TieredPipelineStatus, labels};
use crate::controller::by_name::ByName;
use crate::controller::capacity::fixtures::World;
use crate::controller::events::table::{self, PIPELINE};
use crate::controller::recorded;
use crate::controller::report::{Foreign, PipelineView, Prospect, Signals, StageView};
use crate::rebalance::decision::{HoldReason, NotUsed};
use crate::rebalance::world::DryReason;

const CHILD: &str = "rag--serve--cpu";

fn one_stage() -> Value {
    json!([stage("serve", json!({}))])
}

/// The pipeline with its Deployments at `ready` Ready pods each.
fn running(raw: &TieredPipeline, ready: i32, patch: &Value) -> Found {
    let before = found(&world());
    Found {
        deployments: deployed(raw, &before, ready, patch),
        ..before
    }
}

/// The view of a pipeline whose only stage `serve` wants two replicas on pool `cpu`, and has nothing else to say than this.
fn view(says: impl FnOnce(&mut StageView)) -> PipelineView {
    let mut serve = StageView {
        planned: ByName::from([("cpu", 2)]),
        ..unremarkable()
    };
    says(&mut serve);
    PipelineView {
        stages: [("serve", serve)].into(),
        ..PipelineView::default()
    }
}

/// A stage that the operator refuses: it names a Secret.
fn secret(name: &str) -> Value {
    let env = json!([{"name": "T", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]);
    stage(name, json!({"container": {"env": env}}))
}

/// Situation, the pipeline, what the operator says of it, and what kstatus is to read there.
type Row = (&'static str, TieredPipeline, TieredPipelineStatus, &'static str);

/// Before and while it comes up.
fn young() -> Vec<Row> {
    let (raw, served) = (rag(one_stage(), json!({})), rag(one_stage(), serving()));
    let two = running(&raw, 2, &json!({}));
    let refused =
        json!({"status": {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]}});
    let mut edited = served.clone();
    edited.status.as_mut().unwrap().observed_generation = Some(2);
    let lagging = running(&raw, 2, &json!({"metadata": {"generation": 6}}));
    let old = running(&raw, 2, &json!({"status": {"updatedReplicas": 1}}));
    let short = view(|serve| serve.short = true);
    let few = |refusal: &Value| running(&raw, 1, refusal);
    let at = |found: &Found, view| status(&raw, found, &[], view);
    vec![
        (
            "first-visit",
            raw.clone(),
            status(&raw, &found(&world()), &[CHILD], None),
            "Unknown Pending Reconciling",
        ),
        (
            "pods-start",
            raw.clone(),
            at(&few(&json!({})), None),
            "False RollingOut Reconciling",
        ),
        (
            "stock-out",
            raw.clone(),
            at(&few(&json!({})), Some(&short)),
            "False NoCapacity Reconciling",
        ),
        (
            "quota-refuses-pods",
            raw.clone(),
            at(&few(&refused), None),
            "False ChildRefused Reconciling",
        ),
        (
            "just-edited",
            served.clone(),
            status(&served, &two, &[CHILD], None),
            "False RollingOut Reconciling",
        ),
        (
            "edited-not-seen-below",
            edited.clone(),
            status(&edited, &lagging, &[], None),
            "False RollingOut Reconciling",
        ),
        (
            "old-pods-left",
            served.clone(),
            status(&served, &old, &[], None),
            "False RollingOut Reconciling",
        ),
        (
            "replicas-change",
            served.clone(),
            status(&served, &lagging, &[], None),
            "True AsDeclared",
        ),
    ]
}

/// While it serves, whatever else there is to say.
fn serving_anyway() -> Vec<Row> {
    let served = rag(one_stage(), serving());
    let steady = |spec: Value, view: &PipelineView| {
        let mut patch = serving();
        patch["spec"] = spec;
        let raw = rag(one_stage(), patch);
        let status = status(&raw, &running(&raw, 2, &json!({})), &[], Some(view));
        (raw, status)
    };
    let plain = |view: &PipelineView| steady(json!({}), view);
    let held = |hold: HoldReason| {
        plain(&view(|serve| {
            serve.planned = ByName::from([("cpu", 3)]);
            serve.hold = Some(hold);
        }))
    };
    let as_declared = "True AsDeclared";
    let row = |name, (raw, status): (TieredPipeline, TieredPipelineStatus)| (name, raw, status, as_declared);
    let slow = json!({"objective": {"latencyMilliseconds": 800, "percentile": 95}});
    let out_of_reach = PipelineView {
        objective: Some(Prospect::OutOfReach(1_200)),
        ..view(|_| ())
    };
    let front = stage("front", json!({"replicas": {"min": 1}}));
    let sleeper = json!({"after": [{"stage": "front"}], "replicas": {"min": 0}, "signal": {"preset": "vllm"}});
    let asleep = rag(json!([front, stage("serve", sleeper)]), serving());
    let none = running(&asleep, 1, &json!({}));
    let elsewhere = view(|serve| serve.foreign = Some(Foreign::Autoscaler("keda".to_owned())));
    let (raw, foreign) = plain(&elsewhere);
    vec![
        row("steady", plain(&view(|_| ()))),
        row(
            "operator-restarted",
            (
                served.clone(),
                status(&served, &running(&served, 2, &json!({})), &[], None),
            ),
        ),
        row("replicas-shift", held(HoldReason::AwaitingReady)),
        row("cooling-down", held(HoldReason::CoolingDown)),
        row("advisory", held(HoldReason::Advisory)),
        row("budget-binds", held(HoldReason::BudgetExhausted)),
        row(
            "over-budget",
            steady(json!({"budget": {"maxCostPerHour": "0.1"}}), &view(|_| ())),
        ),
        row("short-above-floor", plain(&view(|serve| serve.short = true))),
        row("signals-lost", plain(&view(|serve| serve.signals = Signals::Stale))),
        row(
            "contested",
            plain(&view(|serve| {
                serve.foreign = Some(Foreign::Contested("kubectl".to_owned()));
            })),
        ),
        row("objective-out-of-reach", steady(slow, &out_of_reach)),
        row(
            "asleep",
            (
                asleep.clone(),
                status(
                    &asleep,
                    &none,
                    &[],
                    Some(&view(|serve| serve.planned = ByName::default())),
                ),
            ),
        ),
        ("replicas-owned-elsewhere", raw, foreign, "False ReplicasOwnedElsewhere"),
    ]
}

/// Where somebody has stopped it, or must help.
fn stopped() -> Vec<Row> {
    let (raw, served) = (rag(one_stage(), json!({})), rag(one_stage(), serving()));
    let two = |raw: &TieredPipeline| running(raw, 2, &json!({}));
    let paused = rag(one_stage(), json!({"spec": {"mode": "Paused"}}));
    let annotated = rag(
        one_stage(),
        json!({"metadata": {"annotations": {(labels::PAUSE): "all"}}}),
    );
    let both = rag(json!([stage("serve", json!({})), secret("secret")]), json!({}));
    let all = rag(json!([secret("secret")]), json!({}));
    let closed = World::default().pool(
        "cpu",
        json!({"spec": {"allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "other"}}}}}),
    );
    let foreign = running(&raw, 2, &json!({"metadata": {"ownerReferences": null}}));
    let turned_away = || {
        let report = Report {
            refused: vec![Refused {
                kind: "Deployment".to_owned(),
                name: CHILD.to_owned(),
                message: "admission webhook \"policy\" denied the request".to_owned(),
                transient: false,
            }],
            written: Vec::new(),
            pruned: Vec::new(),
        };
        let now = Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        compute_status(&validate(&raw, &found(&world())), &report, None, None, &now)
    };
    let at = |name, raw: &TieredPipeline, found: &Found, kstatus| {
        (name, raw.clone(), status(raw, found, &[], None), kstatus)
    };
    vec![
        at("paused", &paused, &two(&paused), "True Paused"),
        at(
            "paused-while-pods-start",
            &paused,
            &running(&paused, 1, &json!({})),
            "False RollingOut Reconciling",
        ),
        at("paused-by-annotation", &annotated, &two(&annotated), "True Paused"),
        at("no-pool-yet", &raw, &Found::default(), "Unknown Pending Reconciling"),
        at("no-pool", &served, &Found::default(), "False NoPoolMatches Stalled"),
        at("pool-closed", &served, &found(&closed), "False PoolClosed Stalled"),
        at("name-taken", &raw, &foreign, "False NameTaken Stalled"),
        at("one-stage-refused", &both, &two(&raw), "False Refused Stalled"),
        at("all-refused", &all, &found(&world()), "False Invalid Stalled"),
        (
            "child-refused",
            raw.clone(),
            turned_away(),
            "False ChildRefused Stalled",
        ),
    ]
}

fn rows() -> Vec<Row> {
    [young(), serving_anyway(), stopped()].concat()
}

#[test]
fn what_kstatus_reads_in_every_situation() {
    for (what, _, status, expected) in rows() {
        assert_eq!(kstatus(&status), expected, "{what}: {:?}", status.conditions);
        assert_eq!(status.observed_generation, Some(3), "{what}");
    }
}

#[test]
fn what_is_lost_in_any_situation_has_an_event_and_so_has_its_end() {
    let told = [
        Type::Ready,
        Type::SignalsAvailable,
        Type::CapacityAvailable,
        Type::WithinBudget,
        Type::PreferredTier,
        Type::WithinObjective,
    ];
    for (what, _, status, _) in rows() {
        for condition in &status.conditions {
            let Some(type_) = told.into_iter().find(|type_| type_.as_str() == condition.type_) else {
                continue;
            };
            let known = type_ == Type::Ready || condition.status != "Unknown";
            let row = table::find(PIPELINE, type_, &condition.reason);
            assert!(!known || row.is_some(), "{what}: {condition:?} is not told");
        }
    }
}

#[test]
fn dry_pools_are_named_with_their_stage_and_what_is_merely_full_is_not() {
    let not_used = ByName::from([
        ("arm", NotUsed::Full),
        ("l4", NotUsed::DryUntil(0, DryReason::Unschedulable)),
        ("spot", NotUsed::DryUntil(0, DryReason::Reclaimed)),
    ]);
    assert_eq!(dry_pools(&view(|_| ())), None);
    assert_eq!(
        dry_pools(&view(|serve| serve.not_used = not_used)).as_deref(),
        Some("stage 'serve': pool 'l4' could not place pods lately, nodes of pool 'spot' are being taken away")
    );
}

#[test]
fn a_new_pipeline_without_a_pool_is_stalled_once_its_pools_have_had_time_to_come() {
    let mut raw = rag(one_stage(), json!({}));
    let nothing = Found::default();
    let report = Report {
        written: Vec::new(),
        pruned: Vec::new(),
        refused: Vec::new(),
    };
    let mut at = |second: i64| {
        let now = Time(k8s_openapi::jiff::Timestamp::from_second(second).unwrap());
        let status = compute_status(&validate(&raw, &nothing), &report, None, raw.status.as_ref(), &now);
        raw.status = Some(status.clone());
        kstatus(&status)
    };
    let pending = "Unknown Pending Reconciling";
    assert_eq!([at(10), at(11)], [pending, pending]);
    let stalled = "False NoPoolMatches Stalled";
    assert_eq!([at(12), at(13)], [stalled, stalled]);
}

#[test]
fn every_situation_is_on_record_for_argo_cd_and_flux() {
    let mut recorded: Vec<(&str, Value)> = rows()
        .into_iter()
        .map(|(name, mut raw, status, _)| {
            raw.status = Some(status);
            (name, serde_json::to_value(raw).unwrap())
        })
        .collect();
    let of = |name: &str| {
        let found = recorded.iter().find(|(situation, _)| *situation == name);
        found.unwrap().1.clone()
    };
    // What no pass has seen, or none will see again: the status is about something else.
    let edited = |mut object: Value| {
        object["metadata"]["generation"] = json!(4);
        object
    };
    let mut deleted = of("steady");
    deleted["metadata"]["deletionTimestamp"] = json!("2026-01-02T00:00:00Z");
    deleted["metadata"]["finalizers"] = json!(["foregroundDeletion"]);
    let created = serde_json::to_value(rag(one_stage(), json!({"metadata": {"generation": 1}}))).unwrap();
    let unseen = [
        ("created", recorded::unseen(created, "tieredpipelines.yaml")),
        ("steady-then-edited", edited(of("steady"))),
        ("stalled-then-edited", edited(of("no-pool"))),
        ("paused-then-edited", edited(of("paused"))),
        ("deleted", deleted),
    ];
    recorded.extend(unseen);
    recorded::hold("TieredPipeline", &recorded);
}
