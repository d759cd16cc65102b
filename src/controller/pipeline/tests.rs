//! Children and conditions of small pipelines, without a cluster.
#![allow(
    clippy::needless_pass_by_value,
    clippy::too_many_lines,
    reason = "tables and fixtures of tests"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::apply::Report;
use super::build::build;
use super::dereference::{Found, pool_facts};
use super::status::compute_status;
use super::validate::validate;
use crate::api::{TieredPipeline, TieredPipelineStatus};
use crate::controller::by_name::ByName;
use crate::controller::capacity::fixtures::{World, object};
use crate::controller::live::Live;
use crate::controller::rebalancer::view::driver_word;
use crate::controller::report::{PipelineView, Prospect, Signals, Silence, StageView};
use crate::rebalance::decision;
use crate::rebalance::world::Also;
use crate::signals::presets::Preset;

/// Pipeline `rag`, generation 3, in a namespace labelled `team: agents`.
pub(super) fn rag(stages: Value, patch: Value) -> TieredPipeline {
    let base = json!({
        "apiVersion": "tiercel.dev/v1alpha1", "kind": "TieredPipeline",
        "metadata": {"name": "rag", "namespace": "agents", "uid": "uid-rag", "generation": 3},
        "spec": {"stages": stages},
    });
    Arc::unwrap_or_clone(object(base, patch))
}

pub(super) fn stage(name: &str, patch: Value) -> Value {
    let base = json!({
        "name": name, "kind": "Custom",
        "container": {
            "image": "registry.example.com/stage:1",
            "ports": [{"name": "http", "containerPort": 8000}],
            "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
        },
        "replicas": {"min": 2, "max": 8},
    });
    Arc::unwrap_or_clone(object(base, patch))
}

pub(super) fn found(world: &World) -> Found {
    let labels = [("team".to_owned(), "agents".to_owned())].into();
    Found {
        pools: pool_facts(&world.pools, &world.observe(), &labels),
        ..Found::default()
    }
}

/// One pool `cpu` with one node.
pub(super) fn world() -> World {
    World::default().pool("cpu", json!({})).node("n", "cpu", json!({}))
}

/// The Deployments that the pipeline asks for, as a cluster has them once `ready` pods of each run.
pub(super) fn deployed(
    raw: &TieredPipeline,
    found: &Found,
    ready: i32,
    patch: &Value,
) -> BTreeMap<String, Arc<Live<Deployment>>> {
    let wanted = build(&validate(raw, found)).deployments;
    let live = wanted.into_iter().map(|(deployment, claim)| {
        let replicas = claim.to_send().unwrap_or_default();
        let name = deployment.name_any();
        let mut base = serde_json::to_value(deployment).unwrap();
        base["metadata"]["generation"] = json!(5);
        base["metadata"]["uid"] = json!(format!("uid-{name}"));
        base["spec"]["replicas"] = json!(replicas);
        base["status"] = json!({
            "observedGeneration": 5, "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": ready.min(replicas),
        });
        (name, object(base, patch.clone()))
    });
    live.collect()
}

pub(super) fn status(
    raw: &TieredPipeline,
    found: &Found,
    written: &[&str],
    view: Option<&PipelineView>,
) -> TieredPipelineStatus {
    let valid = validate(raw, found);
    let report = Report {
        written: written
            .iter()
            .map(|name| ("Deployment".to_owned(), (*name).to_owned()))
            .collect(),
        pruned: Vec::new(),
        refused: Vec::new(),
    };
    let now = Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
    compute_status(&valid, &report, view, raw.status.as_ref(), &now)
}

/// `Ready`'s status and reason, and which of kstatus's conditions are there.
pub(super) fn kstatus(status: &TieredPipelineStatus) -> String {
    let find = |type_: &str| status.conditions.iter().find(|condition| condition.type_ == type_);
    let ready = find("Ready").unwrap();
    let shown = ["Reconciling", "Stalled"]
        .into_iter()
        .filter(|type_| find(type_).is_some());
    shown.fold(format!("{} {}", ready.status, ready.reason), |text, type_| {
        format!("{text} {type_}")
    })
}

/// A status of generation 3 that says that the pipeline serves.
pub(super) fn serving() -> Value {
    json!({"status": {"observedGeneration": 3, "replicas": 2, "readyReplicas": 2, "conditions": [{
        "type": "Ready", "status": "True", "reason": "AsDeclared", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]}})
}

#[test]
fn the_children_of_a_pipeline_are_as_recorded() {
    let world = world()
        .pool(
            "gpu",
            json!({"spec": {
                "tier": "Accelerator", "class": "nvidia-l4", "device": {"resourceName": "nvidia.com/gpu"},
                "runtimeClassName": "nvidia", "capacityType": "Spot",
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
            }}),
        )
        .pool("arm", json!({"spec": {"architecture": "arm64"}}))
        .node("g", "gpu", json!({"status": {"allocatable": {"nvidia.com/gpu": "1"}}}));
    let raw = rag(
        json!([
            stage("retrieve", json!({"replicas": {"min": 1}})),
            stage(
                "generate",
                json!({
                    "kind": "Inference", "after": [{"stage": "retrieve"}],
                    "profiles": [
                        {"name": "gpu", "pools": {"classes": ["nvidia-l4"]},
                         "container": {"image": "registry.example.com/gpu:1", "resources": {
                            "requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"nvidia.com/gpu": "1"}}}},
                        {"name": "cpu", "pools": {"tier": "CPU"}},
                    ],
                })
            ),
        ]),
        json!({}),
    );
    let desired = build(&validate(&raw, &found(&world)));
    let mut children: Vec<Value> = Vec::new();
    children.extend(desired.accounts.iter().map(|it| serde_json::to_value(it).unwrap()));
    children.extend(desired.services.iter().map(|it| serde_json::to_value(it).unwrap()));
    children.extend(desired.budgets.iter().map(|it| serde_json::to_value(it).unwrap()));
    children.extend(
        desired
            .deployments
            .iter()
            .map(|(it, _)| serde_json::to_value(it).unwrap()),
    );
    let claims: Vec<String> = desired
        .deployments
        .iter()
        .map(|(it, claim)| format!("{} {claim:?}", it.name_any()))
        .collect();
    let yaml: Vec<String> = children
        .iter()
        .map(|child| serde_saphyr::to_string(child).unwrap())
        .collect();
    insta::assert_snapshot!(format!("{}\n---\n{}", claims.join("\n"), yaml.join("---\n")));
}

/// A stage of which there is nothing to say.
pub(super) fn unremarkable() -> StageView {
    StageView {
        planned: ByName::default(),
        short: false,
        bottleneck: false,
        hold: None,
        reason: decision::Reason::Cheapest,
        signals: Signals::Fresh,
        missing: Vec::new(),
        partial: false,
        silence: Vec::new(),
        learned: ByName::default(),
        calls: None,
        not_used: ByName::default(),
        foreign: None,
    }
}

/// Status and message of the condition that speaks of the latency objective; empty if there is none.
fn objective(status: &TieredPipelineStatus) -> String {
    let mut all = status.conditions.iter();
    let condition = all.find(|condition| condition.type_ == "WithinObjective");
    condition.map_or_else(String::new, |it| format!("{} {}: {}", it.status, it.reason, it.message))
}

#[test]
fn a_latency_objective_says_what_becomes_of_it() {
    let stages = json!([stage("serve", json!({}))]);
    let declared = json!({"spec": {"objective": {"latencyMilliseconds": 800, "percentile": 95}}});
    let raw = rag(stages.clone(), declared.clone());
    let found = found(&world());
    let says = |prospect: Option<Prospect>| {
        let view = PipelineView {
            objective: prospect,
            ..PipelineView::default()
        };
        objective(&status(&raw, &found, &[], Some(&view)))
    };
    assert_eq!(
        says(Some(Prospect::Kept)),
        "True HeadroomPlanned: capacity is planned for 800 ms at the 95th percentile"
    );
    let reach = says(Some(Prospect::OutOfReach(1_200)));
    assert!(
        reach.starts_with("False OutOfReach: ") && reach.contains("about 1200 ms"),
        "{reach}"
    );
    let lack = says(Some(Prospect::Undeclared("serve".into(), decision::Lack::Concurrency)));
    assert!(
        lack.starts_with("Unknown NotDeclared: stage 'serve' declares no `capacity.concurrency`"),
        "{lack}"
    );
    let silent = says(Some(Prospect::Unseen("serve".into())));
    assert!(
        silent.starts_with("Unknown MetricsStale: the demand of stage 'serve'"),
        "{silent}"
    );
    assert!(says(None).starts_with("Unknown Pending"));
    let secret =
        json!({"container": {"env": [{"name": "T", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}});
    let refused = rag(json!([stage("serve", json!({})), stage("secret", secret)]), declared);
    let refused = objective(&status(&refused, &found, &[], Some(&PipelineView::default())));
    assert!(refused.starts_with("Unknown Refused"), "{refused}");
    // Nobody asks for it any more: the condition goes with the objective.
    let mut before = raw;
    before.status = Some(status(&before, &found, &[], Some(&PipelineView::default())));
    before.spec.objective = None;
    assert_eq!(
        objective(&status(&before, &found, &[], Some(&PipelineView::default()))),
        ""
    );
}

#[test]
fn a_stage_without_signals_tells_source_pods_age_and_reason() {
    let raw = rag(json!([stage("serve", json!({}))]), serving());
    let found = found(&world());
    let says = |silence: Vec<Silence>| {
        let serve = StageView {
            signals: Signals::Stale,
            silence,
            ..unremarkable()
        };
        let view = PipelineView {
            stages: [("serve", serve)].into(),
            ..PipelineView::default()
        };
        let status = status(&raw, &found, &[], Some(&view));
        let mut all = status.conditions.into_iter();
        all.find(|condition| condition.type_ == "SignalsAvailable")
            .unwrap()
            .message
    };
    assert_eq!(
        says(Vec::new()),
        "no fresh signal from stage 'serve': nothing shrinks there"
    );
    let silence = Silence {
        preset: "vllm".to_owned(),
        source: "pods".to_owned(),
        pool: Some("l4".to_owned()),
        pods: Some((1, 4)),
        why: Some("unreachable: check the port".to_owned()),
        named: vec!["serve-a".to_owned(), "serve-b".to_owned()],
        about: 3,
        newest: Some("2026-11-21T12:00:00Z".to_owned()),
    };
    let whole = Silence {
        pool: None,
        pods: None,
        named: Vec::new(),
        about: 0,
        newest: None,
        ..silence.clone()
    };
    assert_eq!(
        says(vec![silence, whole]),
        "no fresh signal from stage 'serve': nothing shrinks there. serve: preset 'vllm' (pods) on pool 'l4' has 1 of 4 pods, the newest of \
         2026-11-21T12:00:00Z; serve-a, serve-b and 1 more: unreachable: check the port; preset 'vllm' (pods); unreachable: check the port"
    );
}

#[test]
fn a_new_pool_keeps_nobody_waiting() {
    let raw = rag(json!([stage("serve", json!({}))]), serving());
    let before = found(&world());
    let deployments = deployed(&raw, &before, 2, &json!({}));
    let more = world().pool("new", json!({})).node("m", "new", json!({}));
    let after = Found {
        deployments,
        ..found(&more)
    };
    assert_eq!(validate(&raw, &after).stages[0].pools.len(), 2);
    assert_eq!(
        kstatus(&status(&raw, &after, &["rag--serve--new"], None)),
        "True AsDeclared"
    );
}

#[test]
fn a_pool_that_is_not_used_says_what_alone_stands_in_the_way() {
    let closed = json!({"from": "Selector", "selector": {"matchLabels": {"team": "other"}}});
    let gpu = json!({"tier": "Accelerator", "device": {"resourceName": "nvidia.com/gpu"}});
    let world = World::default()
        .pool("closed", json!({"spec": {"allowedNamespaces": closed}}))
        .pool(
            "closed-gpu",
            json!({"spec": {"allowedNamespaces": closed, "tier": "Accelerator"}}),
        )
        .pool("gpu", json!({"spec": gpu}))
        .pool("twin", json!({"spec": {"nodeSelector": {"pool": "open"}}}))
        .pool("open", json!({}))
        .node("n", "open", json!({}));
    let told = |patch: Value| {
        let valid = validate(&rag(json!([stage("serve", patch)]), json!({})), &found(&world));
        let excluded = valid.stages[0].excluded.iter();
        excluded.map(|(pool, why)| format!("{pool}: {why}")).collect::<Vec<_>>()
    };
    let hint = "tierHint 'CPUSufficient' forbids accelerator pools";
    let overlap = "open: the pool is not usable: it selects node 'n', which pool 'twin' has";
    assert_eq!(
        told(json!({})),
        [
            "closed: the pool does not admit this namespace".to_owned(),
            format!("closed-gpu: {hint}"),
            format!("gpu: {hint}"),
            overlap.to_owned(),
        ]
    );
    assert_eq!(
        told(
            json!({"tierHint": "AcceleratorPreferred", "profiles": [{"name": "open", "pools": {"classes": ["open", "gpu"]}}]})
        ),
        [
            "closed: no profile of the stage is for this pool",
            "closed-gpu: no profile of the stage is for this pool",
            "gpu: the container does not request 'nvidia.com/gpu', the pool's device",
            "twin: no profile of the stage is for this pool",
            overlap,
        ]
    );
}

#[test]
fn a_reason_that_many_pools_share_is_said_once_and_names_the_first_of_them() {
    let pools = (0..6).fold(World::default(), |world, at| {
        world
            .pool(&format!("cpu-{at}"), json!({}))
            .node(&format!("n{at}"), &format!("cpu-{at}"), json!({}))
    });
    let gpu = json!({"spec": {"tier": "Accelerator", "device": {"resourceName": "nvidia.com/gpu"}}});
    let raw = rag(
        json!([stage("serve", json!({"tierHint": "AcceleratorRequired"}))]),
        serving(),
    );
    let told = status(&raw, &found(&pools.pool("gpu", gpu)), &[], None);
    let message = &told.conditions.iter().find(|it| it.type_ == "Stalled").unwrap().message;
    assert_eq!(
        message,
        "no pool is left for stage 'serve': 'gpu': the container does not request 'nvidia.com/gpu', the pool's device; \
         'cpu-0', 'cpu-1', 'cpu-2', 'cpu-3' and 2 more: tierHint 'AcceleratorRequired' forbids CPU pools"
    );
}

#[test]
fn a_preset_that_does_not_exist_is_refused_with_the_ones_that_do() {
    let world = world();
    let refusals = |patch: Value| {
        let valid = validate(&rag(json!([stage("guard", patch)]), json!({})), &found(&world));
        valid
            .refusals
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    };
    for (patch, says) in [
        (json!({}), ""),
        (json!({"signal": {"preset": "ollama"}}), "signal.preset"),
        (
            json!({"signal": {"preset": "ollama"}}),
            "'ollama' is not a preset: use 'cpu', 'dcgm', 'http'",
        ),
        (
            json!({"profiles": [{"name": "gpu", "preset": "vlm"}]}),
            "'vlm' of profile 'gpu' is not a preset",
        ),
        (
            json!({"signal": {"preset": "http"}, "replicas": {"min": 0}}),
            "it does not see waiting work",
        ),
        (json!({"signal": {"also": [{"preset": "psi"}]}}), ""),
        (
            json!({"signal": {"also": [{"preset": "ollama"}]}}),
            "`signal.also.preset`: 'ollama' is not a preset",
        ),
        (
            json!({"signal": {"also": [{"preset": "http"}]}}),
            "'http' is read from the pods themselves",
        ),
        (
            json!({"signal": {"preset": "vllm", "also": [{"preset": "psi"}, {"preset": "psi"}]}}),
            "'psi' is named twice",
        ),
        (
            json!({"signal": {"preset": "http", "also": [{"preset": "psi"}]}, "replicas": {"min": 0}}),
            "it does not see waiting work, nor does any in `signal.also`",
        ),
    ] {
        let refused = refusals(patch.clone());
        assert!(
            refused.contains(says) && refused.is_empty() == says.is_empty(),
            "{patch}: {refused}"
        );
    }
}

#[test]
fn an_unknown_preset_refuses_its_stage_and_where_no_other_is_left_the_whole_pipeline() {
    let unknown = stage("guard", json!({"signal": {"preset": "ollama"}}));
    let ready = |stages: Value| kstatus(&status(&rag(stages, json!({})), &found(&world()), &[], None));
    assert_eq!(ready(json!([unknown])), "False Invalid Stalled");
    assert_eq!(
        ready(json!([unknown, stage("serve", json!({}))])),
        "False Refused Stalled"
    );
}

#[test]
fn signals_beside_the_main_one_reach_the_core_with_their_own_targets() {
    let signal = json!({"preset": "vllm", "targetPercent": 75, "also": [{"preset": "psi", "targetPercent": 15}]});
    let world = world();
    let observed = world.observe();
    let raw = rag(json!([stage("serve", json!({"signal": signal}))]), json!({}));
    let valid = validate(&raw, &found(&world));
    let (world, index) = crate::controller::rebalancer::world::world(&[valid], &observed);
    let psi = Preset::named("psi").unwrap();
    assert_eq!(
        world.stages[0].also,
        [Also {
            target_permille: 150,
            reading_age_ms_max: psi.answer_freshness_ms(),
            sees_waiting: false,
        }]
    );
    let named: Vec<&str> = index.stages[0].also.iter().map(|preset| preset.name()).collect();
    assert_eq!(named, ["psi"]);
    assert_eq!(driver_word(decision::Driver::Also(0), index.stages.first()), "psi");
}

#[test]
fn signals_and_pods_that_are_missing_beside_others_are_named() {
    let raw = rag(json!([stage("serve", json!({}))]), json!({}));
    let mut view = PipelineView {
        stages: [("serve", unremarkable())].into(),
        ..PipelineView::default()
    };
    let mut says = |missing, partial| {
        let serve = view.stages.get_mut("serve").unwrap();
        (serve.missing, serve.partial) = (missing, partial);
        let told = status(&raw, &found(&world()), &[], Some(&view));
        let condition = told
            .conditions
            .into_iter()
            .find(|it| it.type_ == "SignalsAvailable")
            .unwrap();
        format!("{}: {}", condition.status, condition.message)
    };
    assert_eq!(says(vec![], false), "True: every stage has fresh signals");
    assert_eq!(
        says(vec!["signal.preset", "psi"], true),
        "False: some signals are missing of 'serve' (signal.preset, psi): nothing shrinks there"
    );
    assert_eq!(
        says(vec![], true),
        "False: pods of stage 'serve' are silent beside others: what they may serve is kept"
    );
}

#[test]
fn a_stage_whose_successor_is_refused_keeps_its_pods() {
    let secret =
        json!({"container": {"env": [{"name": "T", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}});
    let with = |patch: Value| {
        let second: Arc<Value> = object(json!({"after": [{"stage": "first"}]}), patch);
        let second = stage("second", Arc::unwrap_or_clone(second));
        let third = stage("third", json!({"after": [{"stage": "second"}]}));
        validate(
            &rag(json!([stage("first", json!({})), second, third]), json!({})),
            &found(&world()),
        )
    };
    let template = |valid: &super::validated::ValidatedPipeline| {
        let first = build(valid).deployments.into_iter().next().unwrap().0;
        serde_json::to_value(first.spec.unwrap().template).unwrap()
    };
    let (before, after) = (with(json!({})), with(secret));
    assert!(template(&before).to_string().contains("TIERCEL_STAGE_SECOND_URL"));
    assert_eq!(template(&before), template(&after));
    let told: Vec<_> = after.refusals.iter().map(ToString::to_string).collect();
    assert!(told[0].contains("secretKeyRef"), "{told:?}");
    assert_eq!(
        told[1],
        "stage 'third': `after.stage`: 'second' is refused itself; this stage stays as it is until that is mended"
    );
}

#[test]
fn a_replica_that_needs_a_new_node_starts_when_that_has_come() {
    let startup_ms = |world: World| {
        let raw = rag(json!([stage("serve", json!({}))]), json!({}));
        let observed = world.observe();
        let valid = validate(&raw, &found(&world));
        crate::controller::rebalancer::world::world(&[valid], &observed)
            .0
            .variants[0]
            .startup_ms
    };
    let elastic = json!({"spec": {"elastic": {"maxNodes": 3, "provisionSeconds": 90}}});
    let pool = || {
        World::default()
            .pool("cpu", elastic.clone())
            .node("n", "cpu", json!({}))
    };
    let full = pool().foreign("n", "7500m", "1Gi", json!({}));
    assert_eq!(startup_ms(full), startup_ms(pool()) + 90_000);
}

#[test]
fn plans_count_on_a_deployment_that_is_about_to_be_there_and_on_no_other_that_is_not() {
    let world = world();
    let observed = world.observe();
    let valid = validate(&rag(json!([stage("serve", json!({}))]), json!({})), &found(&world));
    let room = |coming: &str| {
        let mut builder = crate::controller::rebalancer::world::Builder::new(&observed);
        builder.add(&valid, |child| child == coming);
        builder.done().0.variants[0].max
    };
    assert_eq!(room(&valid.stages[0].pools[0].child), 8, "`replicas.max`");
    assert_eq!(room("rag--serve--other"), 0);
}

#[test]
fn what_the_rebalancer_saw_before_a_restart_stands_until_it_has_looked_again() {
    let known = json!({"status": {
        "observedGeneration": 3,
        "stages": [{"name": "serve", "replicas": 2, "readyReplicas": 2, "bottleneck": true, "message": "as before"}],
        "conditions": [{"type": "Balanced", "status": "False", "reason": "CoolingDown", "message": "as before",
            "observedGeneration": 3, "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }});
    let raw = rag(json!([stage("serve", json!({}))]), known);
    let found = found(&world());
    let before = raw.status.clone().unwrap();
    let after = status(&raw, &found, &[], None);
    let balanced = |status: &TieredPipelineStatus| {
        let found = status.conditions.iter().find(|it| it.type_ == "Balanced");
        serde_json::to_value(found.unwrap()).unwrap()
    };
    assert_eq!(balanced(&after), balanced(&before));
    assert_eq!(
        (after.stages[0].bottleneck, after.stages[0].message.as_deref()),
        (true, Some("as before"))
    );
    let signals = after
        .conditions
        .iter()
        .find(|it| it.type_ == "SignalsAvailable")
        .unwrap();
    assert_eq!(signals.reason, "Pending", "nothing was on record about it");
    let looked = status(&raw, &found, &[], Some(&PipelineView::default()));
    assert_ne!(balanced(&looked), balanced(&before));
    assert_eq!(looked.stages[0].message, None);
}

#[test]
fn replicas_that_cannot_move_are_named_before_pools_that_others_closed() {
    let closed =
        json!({"spec": {"allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "other"}}}}});
    let raw = rag(json!([stage("serve", json!({}))]), serving());
    let deployments = deployed(&raw, &found(&world()), 2, &json!({}));
    let others = (0..9).fold(World::default(), |world, index| {
        world.pool(&format!("other-{index}"), closed.clone())
    });
    let gone = Found {
        deployments,
        ..found(&others)
    };
    let status = status(&raw, &gone, &[], None);
    assert_eq!(kstatus(&status), "False PoolClosed Stalled");
    let message = &status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Ready")
        .unwrap()
        .message;
    assert!(
        message.starts_with(
            "no pool is left for stage 'serve': 2 replicas on the deleted pool 'cpu' cannot move; 'other-0', "
        ),
        "{message}"
    );
    assert!(
        message.ends_with("and 5 more: the pool does not admit this namespace"),
        "{message}"
    );
}
