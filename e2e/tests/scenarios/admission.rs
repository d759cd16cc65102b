//! What bad input gets: every rule of `src/api` against the real API server. A refusal passes only if it names the field
//! and says what is allowed. The tables are data: `admission/*.yaml`.

use std::sync::{Arc, Weak};
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::Status;
use kube::{Api, Client};
use libtest_mimic::Trial;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tiercel_e2e::controlplane::{Cluster, Options};
use tiercel_e2e::wait::eventually;
use tokio::sync::Mutex;

use crate::suite::Suite;

const PATIENCE: Duration = Duration::from_secs(30);
const GOOD: &str = include_str!("admission/good.yaml");
const PIPELINES: &str = include_str!("admission/pipelines.yaml");
const CONTAINERS: &str = include_str!("admission/containers.yaml");
const POOLS: &str = include_str!("admission/pools.yaml");

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 6] {
    crate::scenarios![suite, admission:
        bad_pipelines_are_refused_with_the_field_and_what_is_allowed,
        bad_containers_are_refused_with_the_field_and_what_is_allowed,
        bad_pools_are_refused_with_the_field_and_what_is_allowed,
        a_repeated_key_is_refused_by_name,
        unknown_fields_are_pruned_where_the_client_does_not_ask_for_strictness,
        the_smallest_and_the_largest_objects_are_accepted,
    ]
}

/// One bad object: the change to the good one, and what the refusal must say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    set: Map<String, Value>,
    #[serde(default)]
    drop: Vec<String>,
    field: String,
    says: String,
}

pub(crate) async fn bad_pipelines_are_refused_with_the_field_and_what_is_allowed(suite: &Suite) {
    refused(suite, "pipeline", PIPELINES, "", "", 120).await;
}

pub(crate) async fn bad_containers_are_refused_with_the_field_and_what_is_allowed(suite: &Suite) {
    let (pointer, field) = ("/spec/stages/0/container", "spec.stages[0].container");
    refused(suite, "pipeline", CONTAINERS, pointer, field, 90).await;
}

pub(crate) async fn bad_pools_are_refused_with_the_field_and_what_is_allowed(suite: &Suite) {
    refused(suite, "pool", POOLS, "", "", 60).await;
}

pub(crate) async fn a_repeated_key_is_refused_by_name(suite: &Suite) {
    let server = Server::new(suite).await;
    let text = good("pipeline")
        .to_string()
        .replacen(r#""spec":{"#, r#""spec":{"mode":"Paused","mode":"Paused","#, 1);
    let status = server.post("pipeline", text, true).await.unwrap_err();
    assert!(
        status.message.contains(r#"duplicate field "spec.mode""#),
        "{}",
        status.message
    );
}

pub(crate) async fn unknown_fields_are_pruned_where_the_client_does_not_ask_for_strictness(suite: &Suite) {
    let server = Server::new(suite).await;
    let mut object = good("pipeline");
    put(
        &mut object,
        "/spec/stages/0/container/securityContext",
        json!({"privileged": true}),
    );
    put(&mut object, "/spec/stages/0/nodeName", json!("control-plane"));
    let stored = server.post("pipeline", object.to_string(), false).await.unwrap();
    let stage = &stored["spec"]["stages"][0];
    assert_eq!(stage["container"].get("securityContext"), None);
    assert_eq!(stage.get("nodeName"), None);
    assert_eq!(
        stage["container"]["image"],
        object["spec"]["stages"][0]["container"]["image"]
    );
}

/// The bounds are chosen so that rules stay within the API server's budget for the largest object, not only for its
/// estimate at installation.
pub(crate) async fn the_smallest_and_the_largest_objects_are_accepted(suite: &Suite) {
    let server = Server::new(suite).await;
    let stage =
        json!({"name": "s", "container": {"image": "a", "resources": {"requests": {"cpu": 1, "memory": "1Gi"}}}});
    let mut smallest = good("pipeline");
    smallest["spec"] = json!({"stages": [stage]});
    let stored = server.post("pipeline", smallest.to_string(), true).await.unwrap();
    assert_eq!(stored["spec"]["mode"], "Automatic");
    assert_eq!(
        stored["spec"]["stages"][0]["replicas"],
        json!({"min": 1, "max": 10, "reliableMin": 0})
    );
    let mut smallest = good("pool");
    smallest["spec"] = json!({"tier": "CPU", "nodeSelector": {"a": ""}, "costPerNodeHour": "0"});
    server.post("pool", smallest.to_string(), true).await.unwrap();

    for (what, spec) in [("pipeline", largest_pipeline()), ("pool", largest_pool())] {
        let mut object = good(what);
        object["spec"] = spec;
        let text = object.to_string();
        let size = text.len();
        server
            .post(what, text, true)
            .await
            .unwrap_or_else(|status| panic!("{what} of {size} bytes: {}", status.message));
    }
}

/// Every list as long as it may be and every member set, with texts short enough for what etcd takes.
fn largest_pipeline() -> Value {
    let name = |prefix: &str, number: usize, length: usize| {
        format!("{prefix}{number:0>width$}", width = length - prefix.len())
    };
    let probe = json!({"httpGet": {"path": "/healthz", "port": 65535}, "initialDelaySeconds": 3600,
        "periodSeconds": 3600, "timeoutSeconds": 600, "failureThreshold": 1000});
    let env: Vec<_> = (0..64).map(|i| json!({"name": format!("A{i}"), "value": ""})).collect();
    let ports: Vec<_> = (0..8)
        .map(|i| json!({"name": name("p", i, 15), "containerPort": 65535}))
        .collect();
    let volumes: Vec<_> = (0..16)
        .map(|i| json!({"name": name("v", i, 63), "mountPath": if i == 0 { "/dev/shm".to_owned() } else { format!("/m{i}") }, "modelCache": {"name": "m"}}))
        .collect();
    let amounts = json!({"cpu": "4096", "memory": "64Ti", "ephemeral-storage": "99Ti", "hugepages-2Mi": "1Gi", "hugepages-1Gi": "1Gi",
        "example.com/a": 99999, "example.com/b": 99999, "example.com/c": 99999});
    let resources = json!({"requests": amounts, "limits": amounts});
    let container = json!({"image": "i".repeat(64), "command": vec!["c"; 32], "args": vec!["a"; 128], "env": env, "ports": ports,
        "resources": resources, "startupProbe": probe, "readinessProbe": probe, "livenessProbe": probe});
    let classes: Vec<_> = (0..16).map(|i| name("c", i, 12)).collect();
    let capacity = json!({"requestsPerSecond": "999999999.999999", "concurrency": 100_000});
    let profiles: Vec<_> = (0..8)
        .map(|i| {
            json!({"name": name("p", i, 30), "pools": {"tier": "CPU", "classes": classes, "architectures": ["amd64", "arm64"]},
                "container": container, "capacity": capacity, "startupSeconds": 3600, "preset": "rayserve"})
        })
        .collect();
    let mut own = container.clone();
    own["volumes"] = json!(volumes);
    let stages: Vec<_> = (0..32_usize)
        .map(|i| {
            let after: Vec<_> = (i.saturating_sub(8)..i)
                .map(|caller| json!({"stage": name("s", caller, 30), "callsPerRequest": "9999.999999"}))
                .collect();
            json!({"name": name("s", i, 30), "kind": "Inference", "tierHint": "CPUPreferred", "after": after, "container": own,
                "profiles": profiles, "capacity": capacity, "startupSeconds": 3600, "traffic": "Weighted",
                "replicas": {"min": 10_000, "max": 10_000, "reliableMin": 10_000},
                "signal": {"preset": "rayserve", "targetPercent": 100, "onSignalLoss": "Static", "staticReplicas": 10_000, "lossSeconds": 3600},
                "disruption": {"maxMovesPerHour": 10_000, "maxSurge": 1000, "drainSeconds": 3600}})
        })
        .collect();
    json!({"mode": "Advisory", "priority": 1000, "budget": {"maxCostPerHour": "999999999.999999"}, "stages": stages,
        "objective": {"latencyMilliseconds": 3_600_000, "percentile": 99}, "gateway": {"name": "g".repeat(253), "sectionName": "http"}})
}

/// The same for a pool.
fn largest_pool() -> Value {
    let key = |i: usize| format!("{}/{i:0>63}", "d".repeat(253));
    let labels: Map<_, _> = (0..16).map(|i| (key(i), json!("v".repeat(63)))).collect();
    let values: Vec<_> = (0..32).map(|i| format!("{i:0>63}")).collect();
    let expressions: Vec<_> = (0..16)
        .map(|i| json!({"key": key(i), "operator": "NotIn", "values": values}))
        .collect();
    let tolerations: Vec<_> = (0..16)
        .map(|i| json!({"key": key(i), "operator": "Equal", "value": "v".repeat(63), "effect": "NoExecute"}))
        .collect();
    json!({"tier": "Accelerator", "class": "c".repeat(63), "architecture": "arm64", "nodeSelector": labels,
        "matchExpressions": expressions, "tolerations": tolerations, "device": {"resourceName": "example.com/a"},
        "runtimeClassName": "r".repeat(253), "capacityType": "Reserved", "costPerNodeHour": "999999999.999999",
        "powerWattsPerNode": 1_000_000, "reservePercent": 90,
        "elastic": {"maxNodes": 5000, "provisionSeconds": 7200,
            "nodeAllocatable": {"cpu": "4096", "memory": "64Ti", "ephemeral-storage": "99Ti", "example.com/a": 8}},
        "allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": labels, "matchExpressions": expressions}}})
}

/// Sends every case of a table and reports all that went wrong at once.
async fn refused(suite: &Suite, kind: &str, table: &str, pointer: &str, field: &str, at_least: usize) {
    let cases: Vec<Case> = serde_saphyr::from_str(table).unwrap();
    assert!(
        cases.len() >= at_least,
        "only {} cases: is the table whole?",
        cases.len()
    );
    let server = Server::new(suite).await;
    server
        .post(kind, good(kind).to_string(), true)
        .await
        .expect("the object that all cases change is good");
    let mut wrong = Vec::new();
    for case in cases {
        let mut object = good(kind);
        for path in &case.drop {
            take(&mut object, &format!("{pointer}{path}"));
        }
        for (path, value) in &case.set {
            put(&mut object, &format!("{pointer}{path}"), expand(value));
        }
        let field = format!("{field}{}", case.field);
        match server.post(kind, object.to_string(), true).await {
            Ok(_) => wrong.push(format!("{}: accepted", case.name)),
            Err(status) if tells(&status, &field, &case.says) => {}
            Err(status) => {
                wrong.push(format!(
                    "{}: {field} and {:?} are not in: {}",
                    case.name, case.says, status.message
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Whether one cause of the refusal names the field and says the words. A rule on the whole object has no path: its
/// message names the field. Strictness answers with one message for all.
fn tells(status: &Status, field: &str, says: &str) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let named = |at: &str, message: &str| at == field || (at == "<nil>" && message.contains(&format!("`{field}`")));
    let strict = status.code == 400 && status.message.contains(&format!("{says} \"{field}\""));
    strict
        || causes
            .into_iter()
            .any(|cause| named(&cause.field, &cause.message) && cause.message.contains(says))
}

fn good(kind: &str) -> Value {
    let objects: Value = serde_saphyr::from_str(GOOD).unwrap();
    objects[kind].clone()
}

/// `$repeat` and `$list` in full.
fn expand(value: &Value) -> Value {
    if let Some([text, times]) = value.get("$repeat").and_then(Value::as_array).map(Vec::as_slice) {
        return json!(
            text.as_str()
                .unwrap()
                .repeat(usize::try_from(times.as_u64().unwrap()).unwrap())
        );
    }
    if let Some([item, times]) = value.get("$list").and_then(Value::as_array).map(Vec::as_slice) {
        let item = expand(item).to_string();
        let items = (0..times.as_u64().unwrap()).map(|number| item.replace('#', &number.to_string()));
        return items
            .map(|text| serde_json::from_str::<Value>(&text).unwrap())
            .collect();
    }
    match value {
        Value::Array(items) => items.iter().map(expand).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(key, member)| (key.clone(), expand(member)))
            .collect(),
        other => other.clone(),
    }
}

/// The parent of a pointer's place, made where it is missing, and the place's own key.
fn parent<'a>(object: &'a mut Value, pointer: &str) -> (&'a mut Value, String) {
    let (above, key) = pointer.rsplit_once('/').unwrap();
    let plain = |part: &str| part.replace("~1", "/").replace("~0", "~");
    let mut node = object;
    for part in above.split('/').skip(1) {
        node = match node {
            Value::Array(items) => &mut items[part.parse::<usize>().unwrap()],
            other => other
                .as_object_mut()
                .unwrap()
                .entry(plain(part))
                .or_insert_with(|| json!({})),
        };
    }
    (node, plain(key))
}

fn put(object: &mut Value, pointer: &str, value: Value) {
    match parent(object, pointer) {
        (Value::Array(items), key) => items[key.parse::<usize>().unwrap()] = value,
        (other, key) => drop(other.as_object_mut().unwrap().insert(key, value)),
    }
}

fn take(object: &mut Value, pointer: &str) {
    let (parent, key) = parent(object, pointer);
    parent
        .as_object_mut()
        .unwrap()
        .remove(&key)
        .unwrap_or_else(|| panic!("{pointer} is not there"));
}

/// A control plane with the definitions and no operator: installing them on the shared one would be in the chart's way.
/// All scenarios here that run at the same time share it; the last one ends it.
struct Server {
    client: Client,
    _cluster: Arc<Cluster>,
}

static RUNNING: Mutex<Weak<Cluster>> = Mutex::const_new(Weak::new());

impl Server {
    async fn new(suite: &Suite) -> Self {
        let mut running = RUNNING.lock().await;
        let cluster = match running.upgrade() {
            Some(cluster) => cluster,
            None => start(suite).await,
        };
        *running = Arc::downgrade(&cluster);
        Self {
            client: cluster.client().await.unwrap(),
            _cluster: cluster,
        }
    }

    /// What a dry-run creation comes to: the object as it would be stored, or the refusal.
    async fn post(&self, kind: &str, body: String, strict: bool) -> Result<Value, Status> {
        let plural = if kind == "pool" {
            "computepools"
        } else {
            "namespaces/default/tieredpipelines"
        };
        let validation = if strict { "Strict" } else { "Ignore" };
        let request = http::Request::post(format!(
            "/apis/tiercel.dev/v1alpha1/{plural}?dryRun=All&fieldValidation={validation}"
        ))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body.into_bytes())
        .unwrap();
        match self.client.request::<Value>(request).await {
            Ok(object) => Ok(object),
            Err(kube::Error::Api(status)) => Err(*status),
            Err(error) => panic!("the API server did not answer: {error}"),
        }
    }
}

async fn start(suite: &Suite) -> Arc<Cluster> {
    let cluster = Cluster::start(&suite.tools().await, Options::default()).await.unwrap();
    let definitions: Vec<String> = tiercel::cli::crd::render()
        .unwrap()
        .into_iter()
        .map(|(_, yaml)| yaml)
        .collect();
    cluster.kubectl().apply(&definitions.join("---\n")).await.unwrap();
    let api = Api::<CustomResourceDefinition>::all(cluster.client().await.unwrap());
    for name in ["computepools.tiercel.dev", "tieredpipelines.tiercel.dev"] {
        eventually(PATIENCE, format!("{name} is served"), async || {
            let status = api
                .get(name)
                .await
                .map_err(|error| error.to_string())?
                .status
                .unwrap_or_default();
            let conditions = status.conditions.unwrap_or_default();
            let established = conditions
                .iter()
                .any(|condition| condition.type_ == "Established" && condition.status == "True");
            if established {
                Ok(())
            } else {
                Err(format!("{conditions:?}"))
            }
        })
        .await
        .unwrap();
    }
    Arc::new(cluster)
}
