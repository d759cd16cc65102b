use crate::signals::presets::{Combine, Preset, Role, Source};
use crate::signals::prometheus::endpoint::Method;
use crate::signals::prometheus::template::Per;
use crate::signals::sources::{Ask, Error, Sources};

const WHOLE: &str = r#"
prometheus:
- name: main
  url: https://prometheus.monitoring.svc:9090/prom
  caFile: /etc/ca/ca.crt
  tokenFile: /var/run/secrets/token
  headers: {X-Scope-OrgID: agents}
  method: GET
  interval: 15s
  timeout: 900ms
  queriesPerSecond: 3
- {name: second, url: "http://thanos:10902", presets: [psi]}
queries:
- {name: gateway, source: second, per: pod, role: queued, kind: count, freshness: 30s,
   query: 'sum by (pod) (waiting{namespace="$namespace",pod=~"$pods"})'}
- {name: broker, source: main, per: stage, role: queued, kind: count, freshness: 1m,
   query: 'sum(rabbitmq_queue_messages{namespace="$namespace",queue="$pipeline.$stage"})'}
- {name: broker, source: main, per: stage, role: throughput, kind: perSecond, freshness: 1m, optional: true,
   query: 'sum(rate(rabbitmq_published_total{namespace="$namespace",queue="$pipeline.$stage"}[1m]))'}
- {name: gateway, source: second, per: pod, role: utilization, kind: percent, freshness: 30s, acrossPods: max,
   query: 'max by (pod) (busy{k8s_ns="$namespace"})', namespaceLabel: k8s_ns, optional: true}
customMetrics:
- {name: in-flight, metric: http_requests_in_flight, role: running, kind: count, freshness: 45s}
externalMetrics:
- {name: sqs, metric: sqs_messages_visible, selector: {queue: "$stage"}, role: queued, kind: count, freshness: 2m}
"#;

#[test]
fn a_whole_configuration_becomes_endpoints_and_presets() {
    let sources = Sources::parse("sources.yaml", WHOLE).unwrap();
    let main = &sources.endpoints[0];
    assert_eq!(
        (main.method, main.interval.as_secs(), main.timeout.as_millis()),
        (Method::Get, 15, 900)
    );
    assert_eq!((main.queries_per_second, main.headers.len()), (3, 1));
    let second = &sources.endpoints[1];
    assert_eq!(
        (second.method, second.interval.as_secs(), second.timeout.as_secs()),
        (Method::Post, 5, 4)
    );
    assert_eq!(second.queries_per_second, 10);

    let presets: Vec<&Preset> = sources.presets().collect();
    let names: Vec<&str> = presets.iter().map(|preset| preset.name()).collect();
    assert_eq!(names, ["broker", "gateway", "in-flight", "sqs"]);
    let kinds: Vec<&Source> = presets.iter().map(|preset| preset.source()).collect();
    let expected = [
        &Source::Prometheus(Per::Stage),
        &Source::Prometheus(Per::Pod),
        &Source::CustomMetrics,
        &Source::ExternalMetrics,
    ];
    assert_eq!(kinds, expected);
    let (broker, gateway) = (presets[0], presets[1]);
    assert!(broker.sees_waiting() && gateway.sees_waiting() && !presets[2].sees_waiting());
    assert_eq!(broker.required().collect::<Vec<_>>(), [Role::Queued]);
    assert_eq!(
        (broker.answer_freshness_ms(), gateway.answer_freshness_ms()),
        (60_000, 30_000)
    );
    assert_eq!(gateway.across_pods(Role::Utilization), Some(Combine::Max));

    let endpoint = |preset: &str| sources.ask(preset).map(|(_, endpoint)| endpoint);
    assert_eq!(endpoint("broker"), Some(Some(0)));
    assert_eq!(endpoint("gateway"), Some(Some(1)));
    assert_eq!(endpoint("sqs"), Some(None));
    assert_eq!(endpoint("psi"), Some(Some(1)), "where it is said to be");
    assert_eq!(endpoint("dcgm"), Some(Some(0)), "else at the first endpoint");
    assert_eq!(endpoint("vllm"), None);
    let Some((
        Ask::Queries {
            signals,
            per: Per::Stage,
            ..
        },
        _,
    )) = sources.ask("broker")
    else {
        panic!("{:?}", sources.ask("broker"))
    };
    assert_eq!(signals.len(), 2);
}

#[test]
fn throughput_is_asked_per_pod_too_and_summed_over_pods() {
    let rate = r#"{name: x, source: main, per: pod, role: throughput, kind: perSecond, freshness: 30s, optional: true,
      query: 'sum by (pod) (rate(q{namespace="$namespace"}[1m]))'}"#;
    let text = format!(
        "{ENDPOINT}queries:\n- {QUERY}\n- {rate}\ncustomMetrics:\n\
         - {{name: y, metric: served_per_second, role: throughput, kind: perSecond, freshness: 30s}}\n"
    );
    let sources = Sources::parse("sources.yaml", &text).unwrap();
    for preset in sources.presets() {
        assert_eq!(
            preset.across_pods(Role::Throughput),
            Some(Combine::Sum),
            "{}",
            preset.name()
        );
        assert_eq!(preset.freshness_ms(Role::Throughput), Some(30_000));
    }
}

#[test]
fn without_a_file_nobody_answers_for_the_presets_that_ship() {
    let none = Sources::default();
    assert!(none.ask("dcgm").is_none() && none.ask("psi").is_none());
    for (name, freshness_ms) in [("dcgm", 90_000), ("psi", 60_000)] {
        let preset = Preset::named(name).unwrap();
        assert_eq!(preset.source(), &Source::Prometheus(Per::Pod));
        assert_eq!(preset.required().collect::<Vec<_>>(), [Role::Utilization], "{name}");
        assert_eq!(preset.answer_freshness_ms(), freshness_ms);
        assert!(!preset.sees_waiting(), "{name}: zero replicas would never end");
        assert!(preset.enable_hint().contains("--sources"));
    }
}

const ENDPOINT: &str = "prometheus:\n- {name: main, url: 'http://p:9090'}\n";
const QUERY: &str = r#"{name: x, source: main, per: pod, role: queued, kind: count, freshness: 30s, query: 'q{namespace="$namespace"}'}"#;

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn a_refusal_names_file_line_field_and_what_is_allowed() {
    let endpoint = |fields: &str| format!("# first line\nprometheus:\n- name: main\n  {fields}\n");
    let query = |from: &str, to: &str| {
        assert!(QUERY.contains(from), "{from}");
        format!("{ENDPOINT}queries:\n- {}\n", QUERY.replace(from, to))
    };
    let metric =
        |fields: &str| format!("externalMetrics:\n- {{name: x, metric: m, role: queued, kind: count, {fields}}}\n");
    for (text, line, field, allowed) in [
        (
            endpoint("url: ftp://p"),
            4,
            "prometheus[0].url",
            "https://host:port/path",
        ),
        (endpoint("url: http://a:b@p"), 4, "prometheus[0].url", "tokenFile"),
        (
            endpoint("url: http://p\n  tokenFile: /t"),
            5,
            "prometheus[0].tokenFile",
            "only with https",
        ),
        (
            endpoint("url: https://p\n  tokenFile: t"),
            5,
            "prometheus[0].tokenFile",
            "absolute",
        ),
        (
            endpoint("url: http://p\n  interval: 10ms"),
            5,
            "prometheus[0].interval",
            "1s to 5m",
        ),
        (
            endpoint("url: http://p\n  timeout: 2h"),
            5,
            "prometheus[0].timeout",
            "100ms to 1m",
        ),
        (
            endpoint("url: http://p\n  queriesPerSecond: 0"),
            5,
            "queriesPerSecond",
            "1 to 100",
        ),
        (
            endpoint("url: http://p\n  headers: {Authorization: x}"),
            5,
            "headers.Authorization",
            "tokenFile",
        ),
        (
            endpoint("url: http://p\n  presets: [vllm]"),
            5,
            "presets[0]",
            "dcgm or psi",
        ),
        (
            endpoint("url: http://p\n- {name: main, url: 'http://q'}"),
            5,
            "prometheus[1].name",
            "another endpoint",
        ),
        (
            endpoint("url: http://p\n  presets: [psi]\n- {name: b, url: 'http://q', presets: [psi]}"),
            6,
            "prometheus[1].presets[0]",
            "already",
        ),
        (query("main", "other"), 4, "queries[0].source", "one of [main]"),
        (query("name: x", "name: X_y"), 4, "queries[0].name", "lower-case"),
        (query("name: x", "name: vllm"), 4, "name", "ships with tiercel"),
        (query("name: x", "name: dcgm"), 4, "name", "ships with tiercel"),
        (query("name: x, ", ""), 4, "queries[0]", "say the name"),
        (query("source: main, ", ""), 4, "queries[0]", "and its source"),
        (query("count", "ratio"), 4, "queries[0].kind", "kind count"),
        (
            query("queued, kind: count", "utilization, kind: count"),
            4,
            "queries[0].kind",
            "ratio (0 to 1) or percent",
        ),
        (query("queued", "throughput"), 4, "queries[0].kind", "kind perSecond"),
        (
            query(
                "queued, kind: count, freshness: 30s",
                "throughput, kind: perSecond, freshness: 30s, acrossPods: max",
            ),
            4,
            "queries[0].acrossPods",
            "counts are summed",
        ),
        (query("queued", "latency"), 4, "queries[0].role", "from pods only"),
        (query("30s", "30"), 4, "queries[0].freshness", "1s to 10m"),
        (
            query("30s", "30s, acrossPods: max"),
            4,
            "queries[0].acrossPods",
            "counts are summed",
        ),
        (
            query("30s", "30s, podLabel: 'a) b'"),
            4,
            "queries[0].podLabel",
            "name of a label",
        ),
        (
            query("30s", "30s, namespaceLabel: 1a"),
            4,
            "queries[0].namespaceLabel",
            "name of a label",
        ),
        (query("30s", "30s, optional: true"), 4, "optional", "at least one"),
        (
            query(r#"namespace="$namespace""#, ""),
            4,
            "queries[0].query",
            r#"must hold namespace="$namespace""#,
        ),
        (
            query("per: pod", "per: stage, acrossPods: sum"),
            4,
            "queries[0].acrossPods",
            "no pods to combine",
        ),
        (
            format!("{ENDPOINT}queries:\n- {QUERY}\n- {}\n", QUERY.replace("30s", "31s")),
            4,
            "name",
            "must agree on freshness",
        ),
        (
            format!(
                "{ENDPOINT}queries:\n- {QUERY}\n- {}\n",
                QUERY.replace("per: pod", "per: stage")
            ),
            5,
            "queries[1].name",
            "same kind of source",
        ),
        (
            metric("freshness: 1s, selector: {a: 'x y'}"),
            2,
            "externalMetrics[0].selector.a",
            "letters, digits",
        ),
        (
            metric("freshness: 1s, selector: {a: '$pods'}"),
            2,
            "externalMetrics[0].selector.a",
            "$stage can be filled in",
        ),
        (
            metric("freshness: 1s, selector: {'a,b': x}"),
            2,
            "externalMetrics[0].selector.a,b",
            "name of a label",
        ),
        (
            metric("freshness: 1s").replace("metric: m", "metric: ../secrets"),
            2,
            "metric",
            "letters, digits",
        ),
        (
            metric("freshness: 1s, selector: {a: b}").replace("external", "custom"),
            2,
            "customMetrics[0].selector.a",
            "leave the selector out",
        ),
    ] {
        let error = Sources::parse("sources.yaml", &text).expect_err(&text);
        let Error::Field {
            line: found,
            field: named,
            problem,
            ..
        } = &error
        else {
            panic!("{text}\n{error}")
        };
        assert!(named.ends_with(field) && problem.contains(allowed), "{text}\n{error}");
        assert_eq!(*found, line, "{text}\n{error}");
        let message = error.to_string();
        assert!(
            message.starts_with(&format!("sources file sources.yaml, line {line}: ")),
            "{message}"
        );
    }
}

#[test]
fn what_is_not_of_the_shape_is_refused_with_its_place() {
    for (text, expected) in [
        ("prometheus: 3\n", "line 1"),
        ("prometheus:\n- {nam: main, url: 'http://p'}\n", "nam"),
        ("endpoints: []\n", "endpoints"),
        (&format!("{ENDPOINT}queries:\n- {{name: x}}\n"), "line 4"),
        (
            &format!("{ENDPOINT}queries:\n- {}\n", QUERY.replace("pod", "node")),
            "node",
        ),
        ("a: [", "line 1"),
    ] {
        let error = Sources::parse("sources.yaml", text).expect_err(text);
        assert!(matches!(error, Error::Syntax { .. }), "{text}\n{error}");
        assert!(error.to_string().contains(expected), "{text}\n{error}");
    }
}

#[test]
fn a_file_is_read_and_its_credentials_are_tried() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sources.yaml");
    let error = Sources::load(&path).unwrap_err();
    assert!(error.to_string().contains("--sources"), "{error}");
    std::fs::write(&path, ENDPOINT).unwrap();
    assert_eq!(Sources::load(&path).unwrap().endpoints.len(), 1);
    let token = folder.path().join("token");
    let text = format!(
        "prometheus:\n- {{name: main, url: 'https://p', tokenFile: '{}'}}\n",
        token.display()
    );
    std::fs::write(&path, text).unwrap();
    let error = Sources::load(&path).unwrap_err();
    assert!(
        matches!(error, Error::Credential { .. }) && error.to_string().contains("main"),
        "{error}"
    );
    std::fs::write(token, "abc").unwrap();
    Sources::load(&path).unwrap();
}
