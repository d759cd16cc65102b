use serde_json::{Value, json};

use super::*;
use crate::controller::capacity::fixtures::{World, filled};
use crate::fixtures::{Call, ScriptedApi, status};
use crate::rebalance::world::Resources;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/tiercel-system/deployments";

fn settings() -> Settings {
    Settings {
        namespace: "tiercel-system".to_owned(),
        image: "pause".to_owned(),
    }
}

fn room(parts: u32) -> WarmRoom {
    WarmRoom {
        part: Resources {
            cpu_millis: 1_500,
            memory_kib: 2 << 20,
            device_millis: 1_000,
        },
        parts,
        reason: "stage 's' bursts".to_owned(),
    }
}

fn gpu_pool() -> ComputePool {
    let spec = json!({
        "tier": "Accelerator", "device": {"resourceName": "nvidia.com/gpu"}, "runtimeClassName": "nvidia",
        "architecture": "arm64", "tolerations": [{"key": "nvidia.com/gpu"}],
    });
    (*World::default().pool("gpu", json!({"spec": spec})).pools[0]).clone()
}

#[test]
fn a_placeholder_asks_for_what_a_replica_would_where_a_replica_would_run() {
    let made = serde_json::to_value(deployment(&settings(), &gpu_pool(), &room(3))).unwrap();
    assert_eq!(made["metadata"]["name"], "tiercel-warm-buffer-gpu");
    assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], "uid-gpu");
    assert_eq!(made["spec"]["replicas"], 3);
    let pod = &made["spec"]["template"]["spec"];
    assert_eq!(pod["priorityClassName"], "tiercel-warm-buffer");
    assert_eq!(pod["terminationGracePeriodSeconds"], 0);
    assert_eq!(pod["runtimeClassName"], "nvidia");
    assert_eq!(
        pod["containers"][0]["resources"],
        json!({
            "requests": {"cpu": "1500m", "memory": "2097152Ki", "nvidia.com/gpu": "1"},
            "limits": {"nvidia.com/gpu": "1"},
        })
    );
    let keys: Vec<&Value> = pod["tolerations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["key"])
        .collect();
    assert_eq!(keys, ["nvidia.com/gpu", "kubernetes.io/arch"]);
    let required = &pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    assert_eq!(
        required["nodeSelectorTerms"][0]["matchExpressions"][0]["values"],
        json!(["gpu"])
    );
    // Its labels select it and make it no replica of any stage.
    let selector = &made["spec"]["selector"]["matchLabels"];
    for (key, value) in selector.as_object().unwrap() {
        assert_eq!(&made["spec"]["template"]["metadata"]["labels"][key], value);
    }
    assert!(
        made["spec"]["template"]["metadata"]["labels"]
            .get(labels::VARIANT_ID)
            .is_none()
    );
}

#[test]
fn pods_without_devices_limit_nothing() {
    let pool = (*World::default().pool("cpu", json!({})).pools[0]).clone();
    let mut small = room(1);
    small.part.device_millis = 0;
    let asked = requests(&pool, &small);
    assert_eq!((asked.limits, asked.requests.unwrap().len()), (None, 2));
}

/// The keeper of one pool's room, and the server it talks to.
struct Keeper {
    api: ScriptedApi,
    rooms: watch::Sender<Option<Arc<WarmRooms>>>,
    troubles: watch::Receiver<Arc<WarmTroubles>>,
    _changing: watch::Sender<()>,
    _stopping: watch::Sender<bool>,
}

fn keeper() -> Keeper {
    let store = filled([DeserializeGuard(Ok(gpu_pool()))]);
    let (client, api) = ScriptedApi::new();
    let (rooms, kept) = watch::channel(None);
    let (changing, changed) = watch::channel(());
    let (trouble, troubles) = watch::channel(Arc::default());
    let (stopping, stopped) = watch::channel(false);
    tokio::spawn(run(client, settings(), store, (kept, changed), trouble, stopped));
    Keeper {
        api,
        rooms,
        troubles,
        _changing: changing,
        _stopping: stopping,
    }
}

impl Keeper {
    fn want(&self, parts: u32) {
        let rooms = match parts {
            0 => WarmRooms::new(),
            parts => WarmRooms::from([("gpu".to_owned(), room(parts))]),
        };
        self.rooms.send_replace(Some(Arc::new(rooms)));
    }

    /// The next call, as method and number of placeholders.
    async fn call(&mut self) -> (Call, String) {
        let call = self.api.call().await;
        assert!(call.path.starts_with(DEPLOYMENTS), "{}", call.path);
        let parts = call.body["spec"]["replicas"].as_i64();
        let told = format!(
            "{} {}",
            call.method,
            parts.map_or_else(String::new, |parts| parts.to_string())
        );
        (call, told.trim_end().to_owned())
    }

    /// The next call, which is to be this one.
    async fn expect(&mut self, told: &str, code: u16, answer: &Value) {
        let (call, seen) = self.call().await;
        assert_eq!(seen, told);
        call.reply(code, answer);
    }

    async fn nothing_for(&mut self, seconds: u64) {
        let call = self.api.call_within(Duration::from_secs(seconds)).await;
        assert!(call.is_none(), "{:?}", call.map(|call| call.path));
    }
}

/// What the server has: a Deployment of this generation, or none.
fn list(generations: &[i64]) -> Value {
    let items: Vec<Value> = generations.iter().map(|&generation| stored(generation)).collect();
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": items})
}

fn stored(generation: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "tiercel-warm-buffer-gpu", "generation": generation},
    })
}

#[tokio::test(start_paused = true)]
async fn room_is_written_once_when_it_changes_and_taken_away_when_none_is_wanted() {
    let mut keeper = keeper();
    keeper.nothing_for(60).await;
    keeper.want(0);
    keeper.expect("GET", 200, &list(&[])).await;
    keeper.nothing_for(3_600).await;
    keeper.want(2);
    keeper.expect("GET", 200, &list(&[])).await;
    keeper.expect("PATCH 2", 201, &stored(1)).await;
    keeper.nothing_for(200).await;
    keeper.want(3);
    keeper.expect("PATCH 3", 200, &stored(2)).await;
    keeper.want(0);
    keeper.expect("DELETE", 200, &status(200, "Success")).await;
    keeper.nothing_for(3_600).await;
}

#[tokio::test(start_paused = true)]
async fn what_somebody_changed_or_deleted_is_written_again_within_minutes() {
    let mut keeper = keeper();
    keeper.want(2);
    keeper.expect("GET", 200, &list(&[])).await;
    keeper.expect("PATCH 2", 201, &stored(1)).await;
    keeper
        .api
        .call_within(COMPARE_EVERY + RETRY)
        .await
        .unwrap()
        .reply(200, &list(&[1]));
    let compared = keeper.api.call_within(COMPARE_EVERY + RETRY).await.unwrap();
    assert_eq!(compared.method, "GET", "unchanged: nothing was written");
    compared.reply(200, &list(&[7]));
    keeper.expect("PATCH 2", 200, &stored(8)).await;
    keeper
        .api
        .call_within(COMPARE_EVERY + RETRY)
        .await
        .unwrap()
        .reply(200, &list(&[]));
    keeper.expect("PATCH 2", 201, &stored(1)).await;
}

#[tokio::test(start_paused = true)]
async fn what_another_process_left_is_deleted() {
    let mut keeper = keeper();
    keeper.want(0);
    keeper.expect("GET", 200, &list(&[4])).await;
    keeper.expect("DELETE", 404, &status(404, "NotFound")).await;
    keeper.nothing_for(3_600).await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_and_tried_again() {
    let mut keeper = keeper();
    keeper.want(2);
    keeper.expect("GET", 403, &status(403, "Forbidden")).await;
    keeper.expect("PATCH 2", 403, &status(403, "Forbidden")).await;
    keeper.troubles.changed().await.unwrap();
    let told = keeper.troubles.borrow_and_update()["gpu"].clone();
    assert!(told.contains("Forbidden"), "{told}");
    keeper.expect("GET", 200, &list(&[])).await;
    keeper.expect("PATCH 2", 201, &stored(1)).await;
    keeper.troubles.changed().await.unwrap();
    assert!(keeper.troubles.borrow().is_empty());
}

#[tokio::test(start_paused = true)]
async fn whoever_wants_no_room_need_not_have_the_right_to_look_for_it() {
    let mut keeper = keeper();
    keeper.want(0);
    keeper.expect("GET", 403, &status(403, "Forbidden")).await;
    keeper.nothing_for(240).await;
    assert!(keeper.troubles.borrow().is_empty());
}
