use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::*;
use crate::{
    fixtures::{ScriptedApi, status},
    telemetry::Exposition,
};

/// A gated client over a scripted server.
fn gated(name: &'static str, bounds: Option<Bounds>) -> (Api<ConfigMap>, ScriptedApi, Clock, Metrics) {
    let (inner, api) = ScriptedApi::new();
    let (clock, metrics) = (Clock::start(), Metrics::default());
    let gate = Gate {
        name,
        bounds,
        clock: clock.clone(),
        metrics: metrics.clone(),
    };
    (
        Api::default_namespaced(Client::new(Gated { inner, gate }, "default")),
        api,
        clock,
        metrics,
    )
}

fn bounds(per_second: u32, burst: u32) -> Bounds {
    Bounds::new(FAST_DEADLINE, Rate { per_second, burst })
}

fn config_map() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})
}

async fn write(maps: &Api<ConfigMap>) -> Result<ConfigMap, kube::Error> {
    maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({}))).await
}

fn has_line(metrics: &Metrics, line: &str) -> bool {
    metrics
        .encode(Exposition::OpenMetrics)
        .lines()
        .any(|found| found == line)
}

#[tokio::test(start_paused = true)]
async fn writes_take_turns_and_reads_do_not() {
    let (maps, mut api, clock, metrics) = gated("fast", Some(bounds(10, 1)));
    let server = async {
        for at_ms in [0, 100, 200] {
            let call = api.call().await;
            assert_eq!((call.method.as_str(), clock.now_ms()), ("PATCH", at_ms));
            call.reply(200, &config_map());
        }
    };
    let (first, second, third, ()) = tokio::join!(write(&maps), write(&maps), write(&maps), server);
    assert!(first.is_ok() && second.is_ok() && third.is_ok());
    for _ in 0..50 {
        let (read, ()) = tokio::join!(maps.get("a"), async { api.call().await.reply(200, &config_map()) });
        read.unwrap();
    }
    assert_eq!(clock.now_ms(), 200);
    assert!(has_line(
        &metrics,
        "tiercel_api_requests_total{client=\"fast\",verb=\"patch\",code=\"200\"} 3"
    ));
    assert!(has_line(
        &metrics,
        "tiercel_api_requests_total{client=\"fast\",verb=\"get\",code=\"200\"} 50"
    ));
    let text = metrics.encode(Exposition::OpenMetrics);
    assert!(
        text.contains("tiercel_api_throttle_wait_seconds_total{client=\"fast\"} 0.3000"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_write_slows_the_next_ones_and_is_not_repeated_behind_our_back() {
    let (maps, mut api, clock, metrics) = gated("fast", Some(bounds(10, 10)));
    let (refused, ()) = tokio::join!(write(&maps), async {
        let body = status(429, "TooManyRequests");
        api.call().await.reply_with(429, &[("retry-after", "2")], &body);
    });
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.code == 429));
    assert!(api.call_within(Duration::from_millis(500)).await.is_none());
    let (written, ()) = tokio::join!(write(&maps), async { api.call().await.reply(200, &config_map()) });
    written.unwrap();
    assert!((2_150..=2_200).contains(&clock.now_ms()), "{}", clock.now_ms());
    assert!(has_line(
        &metrics,
        "tiercel_api_requests_total{client=\"fast\",verb=\"patch\",code=\"429\"} 1"
    ));
}

/// Of those that come in one second the first is refused while the others wait for their turn.
#[tokio::test(start_paused = true)]
async fn a_refusal_slows_the_writes_that_wait_already_and_they_go_in_the_order_they_came_in() {
    let (maps, mut api, clock, _) = gated("fast", Some(bounds(10, 1)));
    let write = async |name: &'static str| {
        maps.patch(name, &PatchParams::default(), &Patch::Merge(json!({})))
            .await
    };
    let server = async {
        let refused = api.call().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        refused.reply_with(429, &[("retry-after", "1")], &status(429, "TooManyRequests"));
        let mut went = Vec::new();
        for _ in 0..3 {
            let call = api.call().await;
            went.push((call.path.rsplit(['/', '?']).nth(1).unwrap().to_owned(), clock.now_ms()));
            call.reply(200, &config_map());
        }
        went
    };
    let (first, .., went) = tokio::join!(biased; write("a"), write("b"), write("c"), write("d"), server);
    assert!(
        matches!(&first, Err(kube::Error::Api(status)) if status.code == 429),
        "{first:?}"
    );
    let (names, times_ms): (Vec<String>, Vec<u64>) = went.into_iter().unzip();
    assert_eq!(names, ["b", "c", "d"]);
    // A pause of a second, then half the rate and a little more with every moment.
    assert!((1_150..=1_250).contains(&times_ms[0]), "{times_ms:?}");
    assert!(
        times_ms[1] - times_ms[0] > 150 && times_ms[2] - times_ms[1] > 150,
        "{times_ms:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_given_up_while_it_waits_takes_nobodys_turn() {
    let (maps, mut api, clock, _) = gated("fast", Some(bounds(10, 1)));
    let answer = async |api: &mut ScriptedApi| api.call().await.reply(200, &config_map());
    let (first, ()) = tokio::join!(write(&maps), answer(&mut api));
    first.unwrap();
    for _ in 0..5 {
        let given_up = tokio::time::timeout(Duration::from_millis(1), write(&maps)).await;
        assert!(given_up.is_err());
    }
    let (second, ()) = tokio::join!(write(&maps), answer(&mut api));
    second.unwrap();
    assert!(clock.now_ms() <= 110, "{}", clock.now_ms());
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_ends_at_the_deadline() {
    let (maps, mut api, clock, metrics) = gated("fast", Some(bounds(10, 10)));
    let (answer, _call) = tokio::join!(write(&maps), api.call());
    let error = answer.unwrap_err();
    assert!(deadline_exceeded(&error), "{error}");
    assert!(error.to_string().contains("within 5s"), "{error}");
    assert_eq!(clock.now_ms(), 5_000);
    assert!(has_line(
        &metrics,
        "tiercel_api_requests_total{client=\"fast\",verb=\"patch\",code=\"0\"} 1"
    ));
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_is_told_apart_from_a_missed_deadline() {
    let (maps, mut api, ..) = gated("calls", Some(bounds(10, 10)));
    let (answer, ()) = tokio::join!(write(&maps), async { api.call().await.reset() });
    assert!(!deadline_exceeded(&answer.unwrap_err()));
}

#[tokio::test(start_paused = true)]
async fn the_watch_client_has_no_deadline_and_no_turns() {
    let (maps, mut api, clock, metrics) = gated("watch", None);
    let (answer, ()) = tokio::join!(maps.get("a"), async {
        let call = api.call().await;
        tokio::time::sleep(Duration::from_mins(10)).await;
        call.reply(200, &config_map());
    });
    answer.unwrap();
    assert_eq!(clock.now_ms(), 600_000);
    for _ in 0..100 {
        let (written, ()) = tokio::join!(write(&maps), async { api.call().await.reply(200, &config_map()) });
        written.unwrap();
    }
    assert_eq!(clock.now_ms(), 600_000);
    assert!(has_line(
        &metrics,
        "tiercel_api_requests_total{client=\"watch\",verb=\"get\",code=\"200\"} 1"
    ));
}

#[test]
fn debug_variables_are_refused_in_a_pod_and_only_there() {
    let set = |names: &'static [&str]| move |name: &str| names.contains(&name);
    assert!(refuse_debug_variables(set(&["KUBE_RS_DEBUG_OVERRIDE_URL"])).is_ok());
    assert!(refuse_debug_variables(set(&["KUBERNETES_SERVICE_HOST"])).is_ok());
    for name in DEBUG_VARIABLES {
        let error = refuse_debug_variables(|asked| asked == "KUBERNETES_SERVICE_HOST" || asked == name).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{name} is set")), "{error}");
    }
}

#[tokio::test]
async fn one_configuration_makes_three_clients() {
    install_tls_provider();
    install_tls_provider();
    let config = Config::new("https://127.0.0.1:1".parse().unwrap());
    let metrics = Metrics::default();
    let clients = Clients::new(&config, Limits::default(), &Clock::start(), &metrics).unwrap();
    for client in [&clients.watch, &clients.calls, &clients.fast] {
        let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
        maps.get("a").await.unwrap_err();
    }
    for client in ["watch", "calls", "fast"] {
        let line = format!("tiercel_api_requests_total{{client=\"{client}\",verb=\"get\",code=\"0\"}} 1");
        assert!(has_line(&metrics, &line), "{}", metrics.encode(Exposition::OpenMetrics));
    }
}
