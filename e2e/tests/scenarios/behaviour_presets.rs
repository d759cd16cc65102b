//! Every preset that ships moves a stage, and one that the chart brings: each server's own metrics, and what Prometheus knows
//! of its pods.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tiercel_e2e::fleet::{Behaviour, Behaviours, Exposition, Load, PodSpec};
use tiercel_e2e::nodes::X86;

use crate::behaviour::{SHAPE, Scene, server};
use crate::suite::Suite;

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 2] {
    crate::scenarios![suite, behaviour_presets:
        every_server_that_is_scraped_moves_its_stage_by_its_own_metrics,
        every_preset_of_prometheus_moves_its_stage_and_a_wrong_unit_none,
    ]
}

/// Servers by the name of pipeline and stage: what they show, the preset, the port they use by themselves.
const SERVERS: [(&str, Exposition, &str, u16); 12] = [
    ("vllm", Exposition::Vllm { engines: 2 }, "vllm", 8000),
    ("sglang", Exposition::Sglang { ranks: 2 }, "sglang", 30000),
    ("trtllm", Exposition::Trtllm, "trtllm", 8000),
    ("triton", Exposition::Triton, "triton", 8002),
    ("triton-trtllm", Exposition::TritonTrtllm, "triton", 8002),
    // Its own port is 80, which not everybody may listen on.
    ("tgi", Exposition::Tgi, "tgi", 3000),
    ("llamacpp", Exposition::Llamacpp, "llamacpp", 8080),
    ("rayserve", Exposition::RayServe, "rayserve", 8080),
    ("own-server", Exposition::Vllm { engines: 2 }, "own-server", 9000),
    ("http-client", Exposition::Http, "http", 8080),
    ("http-otel", Exposition::HttpOpenTelemetry, "http", 8080),
    ("http-micrometer", Exposition::HttpMicrometer, "http", 8080),
];

/// A preset of the administrator's, YAML of the chart's `presets`.
pub(crate) const OWN_SERVER: &str = r#"  own-server:
    source: {scrape: {port: 9000, path: /metrics}}
    enableHint: start own-server with --metrics
    signals:
    - {role: queued, metric: "vllm:num_requests_waiting", type: gauge, kind: count, withinPod: sum, acrossPods: sum, freshness: 5s}
    - {role: running, metric: "vllm:num_requests_running", type: gauge, kind: count, withinPod: sum, acrossPods: sum, freshness: 5s}
"#;

/// Requests per second that a replica serves.
const SERVES: f64 = 5.0;

/// Requests that a replica works on at once.
const SLOTS: u32 = 8;

/// A stage of such replicas.
fn small(name: &str, preset: &str, max: u32) -> Value {
    let mut stage = server(name, 1, max);
    stage["capacity"] = json!({"requestsPerSecond": SERVES.to_string(), "concurrency": SLOTS});
    stage["signal"]["preset"] = json!(preset);
    stage
}

pub(crate) async fn every_server_that_is_scraped_moves_its_stage_by_its_own_metrics(suite: &Suite) {
    let playing = SERVERS
        .iter()
        .fold(Behaviours::default(), |all, &(name, exposition, preset, _)| {
            let behaviour = if preset == "http" {
                Behaviour::http(SERVES, SLOTS)
            } else {
                Behaviour::vllm(SERVES, SLOTS)
            };
            all.stage(name, behaviour.showing(exposition))
        });
    let scene = Scene::shared(suite, &[], playing).await;
    scene.tiered.space.nodes(&X86, 4).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    for (name, _, preset, port) in SERVERS {
        let mut stage = small(name, preset, 3);
        stage["container"]["ports"][0]["containerPort"] = json!(port);
        scene.tiered.create(name, &[stage]).await;
    }
    for (name, ..) in SERVERS {
        scene.settles(name, name, &[("x86", 1)]).await;
    }
    // More than two replicas serve at all: some servers show their load only by what runs and waits.
    let grown = async {
        for (name, ..) in SERVERS {
            scene.settles(name, name, &[("x86", 3)]).await;
        }
        for (name, ..) in SERVERS {
            scene.tiered.says(name, "SignalsAvailable", "True", "Fresh").await;
        }
    };
    let loads = SERVERS.map(|(name, ..)| scene.load(name, &[(0, 11.0), (240, 11.0)]));
    tokio::select! {
        () = grown => {}
        _ = futures::future::join_all(loads) => panic!("no growth within the load: {}", scene.history()),
    }
    for (name, ..) in SERVERS {
        scene.settles(name, name, &[("x86", 1)]).await;
    }
    scene.bounds_held();
}

/// What a metric is for a replica of this load.
type Measure = fn(Load) -> f64;
/// Presets of Prometheus by the name of pipeline and stage: the metric, the target in per cent, and its measure.
const MEASURED: [(&str, &str, u32, Measure); 3] = [
    ("dcgm", "DCGM_FI_PROF_GR_ENGINE_ACTIVE", 75, busy),
    // In pressure while nobody has a core to spare.
    ("psi", "container_pressure_cpu_waiting_seconds_total", 15, |load| {
        if load.running >= SLOTS { 0.8 } else { 0.0 }
    }),
    ("gateway", "gateway_busy", 75, busy),
];

fn busy(load: Load) -> f64 {
    Behaviour::vllm(SERVES, SLOTS).capacity.utilization(load.running)
}

/// Tells Prometheus what the replicas do until it is dropped; what `gateway` reads is `scale` times too much.
async fn measured(scene: &Scene, scale: &Mutex<f64>) {
    let source = &scene.tiered.installed.prometheus;
    loop {
        let scale = *scale.lock().unwrap();
        for (
            PodSpec {
                namespace, name, stage, ..
            },
            load,
        ) in scene.fleet.loads()
        {
            if let Some((name_of, metric, _, measure)) = MEASURED.iter().find(|it| it.0 == stage) {
                let unit = if *name_of == "gateway" { scale } else { 1.0 };
                source.set(metric, &namespace, &name, Some(measure(load) * unit));
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

pub(crate) async fn every_preset_of_prometheus_moves_its_stage_and_a_wrong_unit_none(suite: &Suite) {
    let scene = Scene::shared(suite, &[], Behaviours::new(Behaviour::vllm(SERVES, SLOTS))).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    for (name, _, target, _) in MEASURED {
        let mut stage = small(name, name, 2);
        stage["signal"]["targetPercent"] = json!(target);
        scene.tiered.create(name, &[stage]).await;
    }
    for (name, ..) in MEASURED {
        scene.settles(name, name, &[("x86", 1)]).await;
    }
    let scale = Mutex::new(1.0);
    let under_load = async {
        for (name, ..) in MEASURED {
            scene.total(name, name, "grows", |total| total == 2).await;
        }
        for (name, ..) in MEASURED {
            scene.tiered.says(name, "SignalsAvailable", "True", "Fresh").await;
        }
        scene.settles("gateway", "gateway", &[("x86", 2)]).await;
        // Per cent where a share was promised.
        *scale.lock().unwrap() = 100.0;
        let message = scene
            .tiered
            .says("gateway", "SignalsAvailable", "False", "MetricsStale")
            .await;
        assert!(message.contains("'gateway'"), "{message}");
        scene.stays("gateway", "gateway", Duration::from_secs(10)).await;
        *scale.lock().unwrap() = 1.0;
        scene.tiered.says("gateway", "SignalsAvailable", "True", "Fresh").await;
    };
    let loads = futures::future::join_all(MEASURED.map(|(name, ..)| scene.load(name, &[(0, 9.0), (300, 9.0)])));
    tokio::select! {
        () = under_load => {}
        () = measured(&scene, &scale) => {}
        _ = loads => panic!("not done within the load: {}", scene.history()),
    }
    let idle = async {
        for (name, ..) in MEASURED {
            scene.settles(name, name, &[("x86", 1)]).await;
        }
    };
    tokio::select! {
        () = idle => {}
        () = measured(&scene, &scale) => {}
    }
    scene.bounds_held();
}
