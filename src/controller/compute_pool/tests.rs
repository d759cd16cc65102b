use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tower_test::mock::{Handle, pair};

use super::*;
use crate::api::compute_pool::WarmBufferStatus;
use crate::api::conditions::{Reason, Type};
use crate::controller::capacity::fixtures::World;
use crate::controller::clock::Clock;
use crate::controller::report::{Room, WarmRoom};
use crate::fixtures::ScriptedApi;
use crate::telemetry::Exposition;

fn at(second: i64) -> Time {
    Time(jiff::Timestamp::from_second(second).expect("a time"))
}

fn status_of(world: &World) -> ComputePoolStatus {
    let observed = world.observe();
    let index = observed.len() - 1;
    compute_status(
        &world.pools[index],
        &observed[index],
        &ShadowPrices::default(),
        &Room::None,
        None,
        &at(1),
    )
}

/// Conditions of the last pool as `Type=Status/Reason`.
fn conditions(status: &ComputePoolStatus) -> String {
    let each = status
        .conditions
        .iter()
        .map(|c| format!("{}={}/{}", c.type_, c.status, c.reason));
    each.collect::<Vec<_>>().join(" ")
}

fn message(status: &ComputePoolStatus, type_: Type) -> &str {
    let found = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_.as_str());
    &found.expect("the condition").message
}

/// A pool `a` with `patch` on its spec.
#[expect(
    clippy::needless_pass_by_value,
    reason = "`json!` at the call reads better without `&`"
)]
fn world(patch: Value) -> World {
    World::default().pool("a", json!({"metadata": {"resourceVersion": "1"}, "spec": patch}))
}

#[test]
fn conditions_say_where_the_pool_stands() {
    let elastic = || json!({"elastic": {"maxNodes": 3, "nodeAllocatable": {"cpu": "4", "memory": "8Gi"}}});
    let cordoned = || json!({"spec": {"unschedulable": true}});
    let full = |world: World| world.node("n", "a", json!({})).replica("n", "8", "1Gi", json!({}));
    for (what, world, expected, ready) in [
        (
            "nodes",
            world(json!({})).node("n", "a", json!({})),
            "CapacityAvailable=True/RoomLeft Ready=True/NodesAvailable",
            "1 node matches, all can take replicas",
        ),
        (
            "no nodes",
            world(json!({})),
            "Reconciling=True/NoNodes CapacityAvailable=False/NoNodes Ready=False/NoNodes",
            "no node matches `nodeSelector` and `matchExpressions`: label nodes, or set `elastic` with `nodeAllocatable` if an \
             autoscaler adds them",
        ),
        (
            "no nodes yet",
            world(elastic()),
            "CapacityAvailable=True/Elastic Ready=True/Elastic",
            "no node now; 3 nodes may come",
        ),
        (
            "all cordoned",
            world(json!({})).node("n", "a", cordoned()).node("m", "a", cordoned()),
            "Reconciling=True/NoUsableNodes CapacityAvailable=False/NoUsableNodes Ready=False/NoUsableNodes",
            "2 nodes match, none can take replicas: 2 cordoned",
        ),
        (
            "all cordoned, more to come",
            world(elastic()).node("n", "a", cordoned()),
            "CapacityAvailable=True/Elastic Ready=True/Elastic",
            "1 node matches, none can take replicas: 1 cordoned; 2 more may come",
        ),
        (
            "some set aside",
            world(json!({})).node("n", "a", json!({})).node("m", "a", cordoned()),
            "CapacityAvailable=True/RoomLeft Ready=True/NodesAvailable",
            "1 of 2 nodes can take replicas; set aside: 1 cordoned",
        ),
        (
            "full",
            full(world(json!({}))),
            "CapacityAvailable=False/Full Ready=True/NodesAvailable",
            "1 node matches, all can take replicas",
        ),
        (
            "full, more to come",
            full(world(elastic())),
            "CapacityAvailable=True/Elastic Ready=True/NodesAvailable",
            "1 node matches, all can take replicas",
        ),
        (
            "overlap",
            world(json!({}))
                .pool("b", json!({"spec": {"nodeSelector": {"pool": "a"}}}))
                .node("n", "a", json!({})),
            "Stalled=True/PoolsOverlap CapacityAvailable=False/PoolsOverlap Ready=False/PoolsOverlap",
            "node 'n' already belongs to the older pool 'a': narrow the `nodeSelector` of one of them, until then this pool gives \
             no capacity",
        ),
        (
            "invalid",
            world(json!({"costPerNodeHour": "x"})).node("n", "a", json!({})),
            "Stalled=True/Invalid CapacityAvailable=False/Invalid Ready=False/Invalid",
            "`spec.costPerNodeHour`: 'x' must be a decimal such as '0.25' or '12': at most 9 digits before the point and 6 after; \
             correct it, until then the pool gives no capacity",
        ),
        (
            "deleted in use",
            World::default()
                .pool("a", json!({"metadata": {"deletionTimestamp": "2026-01-02T00:00:00Z"}}))
                .node("n", "a", json!({}))
                .replica("n", "1", "1Gi", json!({})),
            "Reconciling=True/InUse CapacityAvailable=False/InUse Ready=False/InUse",
            "the pool is being deleted; 1 replica still on its nodes",
        ),
    ] {
        let status = status_of(&world);
        assert_eq!(conditions(&status), expected, "{what}");
        assert_eq!(message(&status, Type::Ready), ready, "{what}");
        assert!(
            status
                .conditions
                .iter()
                .all(|condition| condition.observed_generation == Some(1)),
            "{what}"
        );
        assert_eq!(status.observed_generation, Some(1), "{what}");
    }
}

#[test]
fn an_accelerator_pool_with_cpu_left_and_no_device_is_full() {
    let device = "nvidia.com/gpu";
    let pool = json!({"tier": "Accelerator", "device": {"resourceName": device}});
    let gpus =
        |count: &str| json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {device: count}}}]}});
    let world = world(pool).node("n", "a", json!({"status": {"allocatable": {device: "8"}}}));
    let world = world.replica("n", "1", "1Gi", gpus("5"));
    let status = status_of(&world);
    assert_eq!(status.free.as_deref(), Some("3 of 8 nvidia.com/gpu"));
    assert_eq!(message(&status, Type::CapacityAvailable), "3 of 8 nvidia.com/gpu free");
    let status = status_of(&world.replica("n", "1", "1Gi", gpus("3")));
    assert_eq!(status.free.as_deref(), Some("0 of 8 nvidia.com/gpu"));
    let full = "no node has any nvidia.com/gpu left: add nodes, or let replicas go to other pools";
    assert_eq!(message(&status, Type::CapacityAvailable), full);
}

#[test]
fn what_is_free_is_told_of_what_is_mostly_requested() {
    let device = "nvidia.com/gpu";
    let pool = json!({"tier": "Accelerator", "device": {"resourceName": device}, "reservePercent": 10});
    let gpu = json!({"status": {"allocatable": {device: "8"}}});
    for (cpu, memory, expected) in [
        ("0", "0", "8 of 8 nvidia.com/gpu"),
        ("500m", "1Gi", "6.7 of 8 cpu"),
        ("100m", "9Gi", "19Gi of 32Gi memory"),
        ("8", "32Gi", "0 of 32Gi memory"),
    ] {
        let status = status_of(
            &world(pool.clone())
                .node("n", "a", gpu.clone())
                .foreign("n", cpu, memory, json!({})),
        );
        assert_eq!(status.free.as_deref(), Some(expected), "{cpu} {memory}");
    }
}

#[test]
fn numbers_are_quantities_and_money() {
    let spec = json!({"costPerNodeHour": "0.2415", "reservePercent": 10});
    let node = json!({"status": {"allocatable": {"cpu": "31850m", "memory": "128345524Ki"}}});
    let world = world(spec)
        .node("n", "a", node.clone())
        .node("m", "a", node)
        .node("c", "a", json!({"spec": {"unschedulable": true}}))
        .foreign("n", "350m", "1Gi", json!({}))
        .replica("m", "4", "6Gi", json!({}));
    let status = status_of(&world);
    assert_eq!((status.nodes, status.ready_nodes, status.replicas), (3, 2, 1));
    assert_eq!(
        status.cost_per_hour.as_deref(),
        Some("0.72"),
        "a cordoned node is paid for"
    );
    assert_eq!(status.shadow_price, None);
    let rows: Vec<[&str; 5]> = status
        .capacity
        .iter()
        .map(|r| {
            [
                &*r.resource,
                &r.allocatable,
                &r.requested_by_others,
                &r.requested_by_tiercel,
                &r.free,
            ]
        })
        .collect();
    assert_eq!(
        rows,
        [
            ["cpu", "63700m", "350m", "4", "52980m"],
            ["memory", "250674Mi", "1Gi", "6Gi", "218439Mi"],
        ]
    );
    for quantity in rows.iter().flat_map(|row| &row[1..]) {
        crate::quantity::Quantity::parse(quantity).expect("what is written reads back");
    }
    assert_eq!(status.free.as_deref(), Some("52 of 63 cpu"));
    assert_eq!(
        status_of(&self::world(json!({}))).cost_per_hour,
        None,
        "no node, no cost shown"
    );
}

#[test]
fn transition_times_move_with_the_status_only_and_passing_conditions_go() {
    let empty = world(json!({}));
    let first = compute_status(
        &empty.pools[0],
        &empty.only(),
        &ShadowPrices::default(),
        &Room::None,
        None,
        &at(1),
    );
    let filled = world(json!({})).node("n", "a", json!({}));
    let second = compute_status(
        &filled.pools[0],
        &filled.only(),
        &ShadowPrices::default(),
        &Room::None,
        Some(&first),
        &at(2),
    );
    assert!(!conditions(&second).contains("Reconciling"), "{}", conditions(&second));
    assert!(
        second
            .conditions
            .iter()
            .all(|condition| condition.last_transition_time == at(2))
    );
    let grown = world(json!({})).node("n", "a", json!({})).node("m", "a", json!({}));
    let third = compute_status(
        &grown.pools[0],
        &grown.only(),
        &ShadowPrices::default(),
        &Room::None,
        Some(&second),
        &at(3),
    );
    assert!(
        third
            .conditions
            .iter()
            .all(|condition| condition.last_transition_time == at(2))
    );
    assert_ne!(message(&third, Type::Ready), message(&second, Type::Ready));
}

#[test]
fn placeholders_take_no_room_because_they_yield_to_replicas() {
    let buffered =
        || world(json!({"elastic": {"maxNodes": 3, "warmBuffer": {"maxNodes": 2}}})).node("n", "a", json!({}));
    let yields = json!({"spec": {"priorityClassName": "tiercel-warm-buffer"}});
    let (with, without) = (buffered().foreign("n", "6", "8Gi", yields).only(), buffered().only());
    assert_eq!((with.placeholders, with.warm_nodes), (1, 2));
    assert_eq!((with.totals, with.capacity()), (without.totals, without.capacity()));
}

#[test]
fn room_for_bursts_is_told_with_what_it_is_for_and_what_of_it_is_held() {
    let yields = json!({"spec": {"priorityClassName": "tiercel-warm-buffer"}});
    let world = world(json!({}))
        .node("n", "a", json!({}))
        .foreign("n", "1", "2Gi", yields);
    let (rooms, wanted) = watch::channel(Some(Arc::default()));
    let (trouble, troubles) = watch::channel(Arc::default());
    let kept = Kept {
        rooms: wanted,
        troubles,
    };
    let status = |kept: &Kept| {
        let room = kept.on("a");
        compute_status(
            &world.pools[0],
            &world.only(),
            &ShadowPrices::default(),
            &room,
            None,
            &at(1),
        )
    };
    assert_eq!(status(&kept).warm_buffer, None);
    let before = ComputePoolStatus {
        warm_buffer: Some(WarmBufferStatus::default()),
        ..ComputePoolStatus::default()
    };
    let seen = world.only();
    let unknown = compute_status(
        &world.pools[0],
        &seen,
        &ShadowPrices::default(),
        &Room::Unknown,
        Some(&before),
        &at(1),
    );
    assert_eq!(unknown.warm_buffer, before.warm_buffer, "nobody has looked yet");
    let part = crate::rebalance::world::Resources {
        cpu_millis: 1_000,
        memory_kib: 2 << 20,
        device_millis: 0,
    };
    let reason = "stage 's' bursts".to_owned();
    let room = WarmRoom { part, parts: 3, reason };
    rooms.send_replace(Some(Arc::new([("a".to_owned(), room)].into())));
    let told = status(&kept).warm_buffer.unwrap();
    assert_eq!((told.placeholders, told.held), (3, 1));
    assert_eq!(json!(told.requests), json!({"cpu": "1", "memory": "2Gi"}));
    assert_eq!(told.reason, "stage 's' bursts");
    trouble.send_replace(Arc::new([("a".to_owned(), "no such namespace".to_owned())].into()));
    let told = status(&kept).warm_buffer.unwrap();
    assert_eq!(told.reason, "stage 's' bursts; it is not held: no such namespace");
}

#[test]
fn a_change_is_worth_what_people_wait_for() {
    let before = status_of(&world(json!({})).node("n", "a", json!({})));
    assert_eq!(urgency(None, &before), Urgency::Conditions, "the first visit");
    assert_eq!(urgency(Some(&before), &before), Urgency::Nothing);
    let priced = ComputePoolStatus {
        shadow_price: Some("0.11".to_owned()),
        ..before.clone()
    };
    assert_eq!(urgency(Some(&priced), &before), Urgency::Numbers, "not short any more");
    let numbers = status_of(
        &world(json!({}))
            .node("n", "a", json!({}))
            .foreign("n", "1", "1Gi", json!({})),
    );
    assert_eq!(urgency(Some(&before), &numbers), Urgency::Numbers);
    let reason = status_of(
        &world(json!({}))
            .node("n", "a", json!({}))
            .foreign("n", "8", "1Gi", json!({})),
    );
    assert_eq!(urgency(Some(&before), &reason), Urgency::Conditions);
    let generation = ComputePoolStatus {
        observed_generation: Some(2),
        ..before.clone()
    };
    assert_eq!(urgency(Some(&before), &generation), Urgency::Conditions);
}

/// A context over a world, and the far end of its client. Nobody hears its Events.
fn context(world: &World) -> (Arc<Context>, Handle<Request<Body>, Response<Body>>) {
    let (nobody, _) = pair::<Request<Body>, Response<Body>>();
    telling(world, Client::new(nobody, "default"))
}

/// A context over a world whose Events go to a client of their own.
fn telling(world: &World, told: Client) -> (Arc<Context>, Handle<Request<Body>, Response<Body>>) {
    let (service, handle) = pair();
    let client = Client::new(service, "default");
    let (events, _) = Events::start(told, "tiercel-0", Clock::start(), Metrics::default());
    (
        Arc::new(Context::new(
            client,
            world.stores(),
            (ShadowPrices::default(), kept()),
            events,
            Metrics::default(),
        )),
        handle,
    )
}

/// Nothing is to be kept.
fn kept() -> Kept {
    Kept {
        rooms: watch::channel(None).1,
        troubles: watch::channel(Arc::default()).1,
    }
}

/// Takes over what the other context remembers: the world changed, the operator did not.
fn remembering(ctx: &Context, other: &Context) {
    std::mem::swap(
        &mut *ctx.memory.lock().expect("a lock"),
        &mut *other.memory.lock().expect("a lock"),
    );
    ctx.own.swap(&other.own);
}

fn guard(pool: &ComputePool) -> Arc<DeserializeGuard<ComputePool>> {
    Arc::new(DeserializeGuard(Ok(pool.clone())))
}

/// Answers one status write with the pool as it would be stored; returns path and body.
async fn accept(handle: &mut Handle<Request<Body>, Response<Body>>, pool: &ComputePool) -> (String, Value) {
    let (request, send) = handle.next_request().await.expect("a request");
    let (head, body) = request.into_parts();
    assert_eq!(head.method, http::Method::PATCH);
    assert_eq!(head.headers[http::header::CONTENT_TYPE], "application/apply-patch+yaml");
    let body: Value = serde_json::from_slice(&body.collect_bytes().await.expect("a body")).expect("JSON");
    let mut stored = serde_json::to_value(pool).expect("JSON");
    stored["status"] = body["status"].clone();
    stored["metadata"]["resourceVersion"] = json!("1000");
    send.send_response(Response::new(Body::from(serde_json::to_vec(&stored).expect("JSON"))));
    (head.uri.to_string(), body)
}

fn quiet(handle: &mut Handle<Request<Body>, Response<Body>>) {
    assert!(handle.next_request().now_or_never().is_none(), "no further request");
}

#[tokio::test(start_paused = true)]
async fn a_pass_writes_once_and_not_again_while_nothing_changes() {
    let world = world(json!({})).node("n", "a", json!({}));
    let (ctx, mut handle) = context(&world);
    let pool = &world.pools[0];
    let (pass, (path, body)) = tokio::join!(reconcile(guard(pool), ctx.clone()), accept(&mut handle, pool));
    let action = pass.expect("a pass");
    assert_ne!(action, Action::await_change(), "a missed event is repaired");
    assert_eq!(
        path,
        "/apis/tiercel.dev/v1alpha1/computepools/a/status?&force=true&fieldManager=tiercel"
    );
    assert_eq!(
        body["metadata"],
        json!({"uid": "uid-a"}),
        "only while it is the pool that was looked at"
    );
    assert_eq!(body["spec"], Value::Null);
    assert_eq!(body["status"]["readyNodes"], 1);
    let shown = ctx.metrics.encode(Exposition::Text);
    let series = shown
        .lines()
        .filter(|line| line.starts_with("tiercel_pool_") && line.contains("pool=\"a\""));
    assert_eq!(
        series.count(),
        9,
        "price, nodes of two kinds, two conditions, room and use of CPU and memory: {shown}"
    );

    // The watch has not shown the write yet: the object at hand is the old one, or has an edit from in between.
    assert_eq!(reconcile(guard(pool), ctx.clone()).await.expect("a pass"), action);
    let mut edited = (**pool).clone();
    edited.metadata.resource_version = Some("900".to_owned());
    assert_eq!(reconcile(guard(&edited), ctx.clone()).await.expect("a pass"), action);
    // And now it has.
    let mut stored = (**pool).clone();
    stored.metadata.resource_version = Some("1000".to_owned());
    stored.status = serde_json::from_value(body["status"].clone()).expect("a status");
    assert_eq!(reconcile(guard(&stored), ctx).await.expect("a pass"), action);
    quiet(&mut handle);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_loses_its_nodes_tells_people_once() {
    let (client, mut told) = ScriptedApi::new();
    let there = world(json!({})).node("n", "a", json!({}));
    let mut pool = (*there.pools[0]).clone();
    let (ctx, mut handle) = telling(&there, client);
    let (_, (_, body)) = tokio::join!(reconcile(guard(&pool), ctx.clone()), accept(&mut handle, &pool));
    let call = told.call().await;
    assert_eq!(call.path, "/apis/events.k8s.io/v1/namespaces/default/events?");
    let words = ["type", "reason", "note"].map(|key| call.body[key].as_str().unwrap_or_default().to_owned());
    assert_eq!(
        words,
        ["Normal", "NodesAvailable", "1 node matches, all can take replicas"]
    );
    assert_eq!(call.body["regarding"]["name"], "a");
    call.reply(201, &json!({"metadata": {}}));

    let (client, mut told) = ScriptedApi::new();
    pool.status = serde_json::from_value(body["status"].clone()).expect("a status");
    let (ctx, mut handle) = telling(&world(json!({})), client);
    let (_, (_, body)) = tokio::join!(reconcile(guard(&pool), ctx.clone()), accept(&mut handle, &pool));
    let call = told.call().await;
    let words = ["type", "reason"].map(|key| call.body[key].as_str().unwrap_or_default().to_owned());
    assert_eq!(words, ["Warning", "NoNodes"]);
    call.reply(201, &json!({"metadata": {}}));
    pool.status = serde_json::from_value(body["status"].clone()).expect("a status");
    reconcile(guard(&pool), ctx).await.expect("a pass");
    assert!(told.call_within(Duration::from_secs(20)).await.is_none(), "told twice");
}

#[tokio::test(start_paused = true)]
async fn what_a_pool_that_is_short_would_save_with_one_more_node_is_shown_while_it_is_short() {
    let world = world(json!({})).node("n", "a", json!({}));
    let (ctx, mut handle) = context(&world);
    let pool = &world.pools[0];
    let shown = |ctx: &Context| {
        let text = ctx.metrics.encode(Exposition::Text);
        let mut lines = text.lines();
        lines.find_map(|line| {
            Some(
                line.strip_prefix("tiercel_pool_shadow_price_dollars_per_hour{")?
                    .to_owned(),
            )
        })
    };
    // A core, a GiB and a device.
    ctx.prices.set([("a".to_owned(), [10_000, 1_000, 0])].into());
    let (_, (_, body)) = tokio::join!(reconcile(guard(pool), ctx.clone()), accept(&mut handle, pool));
    let price = shown(&ctx).expect("a series");
    let (_, dollars) = price.split_once("} ").expect("a value");
    let said: f64 = body["status"]["shadowPrice"].as_str().unwrap().parse().unwrap();
    let dollars: f64 = dollars.parse().unwrap();
    assert!(dollars > 0.0 && (dollars - said).abs() < 0.01, "{price} {said}");
    ctx.prices.set([].into());
    reconcile(guard(pool), ctx.clone()).await.expect("a pass");
    assert_eq!(shown(&ctx), None);
}

#[tokio::test(start_paused = true)]
async fn numbers_settle_and_conditions_do_not_wait() {
    let calm = world(json!({})).node("n", "a", json!({}));
    let (ctx, mut handle) = context(&calm);
    let pool = &calm.pools[0];
    let (pass, _) = tokio::join!(reconcile(guard(pool), ctx.clone()), accept(&mut handle, pool));
    pass.expect("a pass");

    let before = ctx;
    let busier = world(json!({}))
        .node("n", "a", json!({}))
        .foreign("n", "1", "1Gi", json!({}));
    let (ctx, mut handle) = context(&busier);
    remembering(&ctx, &before);
    tokio::time::advance(Duration::from_millis(500)).await;
    let action = reconcile(guard(pool), ctx.clone()).await.expect("a pass");
    assert_eq!(action, Action::requeue(Duration::from_millis(1_500)));
    quiet(&mut handle);
    tokio::time::advance(Duration::from_millis(1_500)).await;
    let (pass, (_, body)) = tokio::join!(reconcile(guard(pool), ctx.clone()), accept(&mut handle, pool));
    pass.expect("a pass");
    assert_eq!(body["status"]["capacity"][0]["requestedByOthers"], "1");

    let before = ctx;
    let cordoned = world(json!({})).node("n", "a", json!({"spec": {"unschedulable": true}}));
    let (ctx, mut handle) = context(&cordoned);
    remembering(&ctx, &before);
    let (pass, (_, body)) = tokio::join!(reconcile(guard(pool), ctx), accept(&mut handle, pool));
    pass.expect("a pass");
    assert!(body["status"].to_string().contains(Reason::NoUsableNodes.as_str()));
}

#[tokio::test]
async fn a_refused_write_is_an_error_and_a_vanished_pool_is_none() {
    for (code, gone) in [(404, true), (409, true), (403, false), (500, false)] {
        let world = world(json!({}));
        let (ctx, mut handle) = context(&world);
        let refuse = async {
            let (_, send) = handle.next_request().await.expect("a request");
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "no",
                                "reason": match code { 404 => "NotFound", 409 => "Conflict", _ => "Other" }});
            let body = Body::from(serde_json::to_vec(&status).expect("JSON"));
            send.send_response(Response::builder().status(code).body(body).expect("a response"));
        };
        let (pass, ()) = tokio::join!(reconcile(guard(&world.pools[0]), ctx.clone()), refuse);
        assert_eq!(pass.is_ok(), gone, "{code}: {pass:?}");
        if let Ok(action) = &pass {
            assert_eq!(*action, Action::requeue(Duration::from_secs(10)), "{code}");
        }
        if let Err(error) = pass {
            let object = guard(&world.pools[0]);
            let waits: Vec<Action> = (0..8)
                .map(|_| error_policy(object.clone(), &error, ctx.clone()))
                .collect();
            let expected = [1, 2, 4, 8, 16, 32, 60, 60].map(|seconds| Action::requeue(Duration::from_secs(seconds)));
            assert_eq!(waits, expected);
        }
    }
}

#[tokio::test]
async fn an_object_that_does_not_decode_is_reported_and_waits_for_an_edit() {
    let raw = json!({"apiVersion": "tiercel.dev/v1alpha1", "kind": "ComputePool", "metadata": {"name": "a", "uid": "u"},
                     "spec": {"tier": "Quantum", "costPerNodeHour": "1"}});
    let object: DeserializeGuard<ComputePool> = serde_json::from_value(raw).expect("a guard");
    let (ctx, mut handle) = context(&World::default());
    let error = reconcile(Arc::new(object.clone()), ctx.clone())
        .await
        .expect_err("an error");
    assert!(error.to_string().contains("Quantum"), "{error}");
    assert_eq!(error_policy(Arc::new(object), &error, ctx), Action::await_change());
    quiet(&mut handle);
}

#[tokio::test]
async fn pools_that_are_gone_are_forgotten() {
    let world = world(json!({}));
    let (ctx, _handle) = context(&world);
    ctx.remember("uid-gone", |_| ());
    ctx.remember("uid-a", |_| ());
    ctx.forget_all_but(&world.pools);
    assert_eq!(ctx.memory.lock().expect("a lock").keys().collect::<Vec<_>>(), ["uid-a"]);
}
