use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::signals::aggregate::Observations;
use crate::signals::presets::Role;
use crate::signals::prometheus::fixture::{Asked, LIFE, Server, response, vector};

/// The presets of a configuration whose endpoint `main` is at `url`, asked every 1 s at most.
fn sources(url: &str, entries: &str) -> Arc<Sources> {
    let text = format!(
        "prometheus: [{{name: main, url: '{url}', interval: 1s, timeout: 800ms, queriesPerSecond: 100}}]\n{entries}"
    );
    Arc::new(Sources::parse("test", &text).unwrap_or_else(|error| panic!("{error}")))
}

const PER_POD: &str = r#"queries:
- {name: gateway, source: main, per: pod, role: queued, kind: count, freshness: 30s,
   query: 'q{namespace="$namespace",pod=~"$pods"}'}
"#;

const PER_STAGE: &str = r#"queries:
- {name: broker, source: main, per: stage, role: queued, kind: count, freshness: 30s,
   query: 'sum(q{namespace="$namespace",queue="$stage"})'}
"#;

/// The process keeps presets for good, and so does a test.
fn preset(sources: &Sources, name: &str) -> &'static Preset {
    let found = sources.presets().find(|preset| preset.name() == name);
    Box::leak(Box::new(found.unwrap().clone()))
}

fn target(preset: &'static Preset, namespace: &str, stage: &str, pods: &[&str]) -> Target {
    Target {
        preset,
        stage: StageKey {
            namespace: namespace.into(),
            pipeline: "support".into(),
            stage: stage.into(),
        },
        request_millis: 1_000,
        pods: pods
            .iter()
            .map(|pod| ((*pod).to_owned(), format!("uid-{pod}").into()))
            .collect(),
    }
}

/// A running poller of the first endpoint, on a clock that is 100 s old.
struct Running {
    notices: UnboundedReceiver<Notice>,
    clock: Clock,
    targets: watch::Sender<Arc<Targets>>,
    poller: JoinSet<()>,
}

fn run(sources: &Arc<Sources>, targets: Targets, age: Duration) -> Running {
    let clock = Clock::started_ago(age);
    let (wanted, asked) = watch::channel(Arc::new(targets));
    let (sender, notices) = mpsc::unbounded_channel();
    let ground = Ground {
        clock: clock.clone(),
        sources: Arc::clone(sources),
        targets: asked,
        notices: sender,
    };
    let mut poller = JoinSet::new();
    poller.spawn(prometheus::poll(0, ground));
    Running {
        notices,
        clock,
        targets: wanted,
        poller,
    }
}

const OLD: Duration = Duration::from_secs(100);

impl Running {
    async fn next(&mut self) -> Notice {
        let notice = tokio::time::timeout(LIFE, self.notices.recv()).await;
        notice.expect("a notice in time").expect("the poller runs")
    }

    async fn pods(&mut self) -> Vec<Scraped> {
        match self.next().await {
            Notice::Usage(answers) => answers,
            other => panic!("{other:?}"),
        }
    }

    async fn stages(&mut self) -> Vec<StageAnswer> {
        match self.next().await {
            Notice::StageUsage(answers) => answers,
            other => panic!("{other:?}"),
        }
    }
}

/// Answers the question about pods: their value, and the age of their sample in seconds, evaluated at `at`.
fn about_pods(at: f64, pods: &[(&str, &str, f64)]) -> Vec<u8> {
    let mut samples = Vec::new();
    for (pod, value, age) in pods {
        let labels = |part: u8| format!(r#""tiercel_part":"{part}","pod":"{pod}""#);
        samples.push((labels(0), (*value).to_owned()));
        samples.push((labels(1), (at - age).to_string()));
    }
    response("200 OK", "", &vector(at, &samples))
}

fn waiting(answer: &Scraped) -> Result<f64, Why> {
    answer
        .outcome
        .as_ref()
        .map_err(|why| *why)
        .and_then(|signals| signals.waiting.map(crate::signals::Finite::get))
}

#[tokio::test]
async fn pods_of_all_stages_of_a_namespace_are_one_request_and_strangers_are_nobody() {
    let evaluations = AtomicUsize::new(1_000);
    let server = Server::new(move |asked: &Asked| {
        let at = evaluations.fetch_add(1, Ordering::SeqCst);
        let at = f64::from(u32::try_from(at).unwrap());
        let namespace_b = asked.query().contains("namespace=\"b\"");
        let pods = [("a-1", "3", 5.0), ("a-2", "4", 6.0), ("stranger", "900", 1.0)];
        Some(about_pods(at, if namespace_b { &[] } else { &pods }))
    });
    let sources = sources(&server.url(), PER_POD);
    let preset = preset(&sources, "gateway");
    let targets = vec![
        target(preset, "a", "embed", &["a-1"]),
        target(preset, "a", "rank", &["a-2"]),
        target(preset, "b", "embed", &["b-1"]),
    ];
    let mut running = run(&sources, targets, OLD);
    let (a, b) = (running.pods().await, running.pods().await);
    assert_eq!(server.asked().len(), 2, "one request per preset and namespace");
    assert!(server.asked()[0].query().contains("pod=~\"(?:a-1|a-2)\""));

    assert_eq!(a.len(), 2, "{a:?}");
    assert_eq!((waiting(&a[0]), waiting(&a[1])), (Ok(3.0), Ok(4.0)));
    assert_eq!((waiting(&b[0]), b[0].uid.as_ref()), (Err(Why::NoSeries), "uid-b-1"));
    let now_ms = running.clock.now_ms();
    for (answer, age_ms) in [(&a[0], 5_000), (&a[1], 6_000)] {
        let dated_back = now_ms - answer.received_ms;
        assert!(
            (age_ms..age_ms + 3_000).contains(&dated_back),
            "{dated_back} instead of {age_ms}"
        );
    }
}

#[tokio::test]
async fn the_same_sample_is_told_once_and_ages_until_it_is_stale() {
    let evaluations = AtomicUsize::new(1_000);
    let server = Server::new(move |_: &Asked| {
        let at = evaluations.fetch_add(1, Ordering::SeqCst);
        let at = f64::from(u32::try_from(at).unwrap());
        // Always the sample of 980 s, until a new one comes with the fourth answer.
        let age = if at < 1_003.0 { at - 980.0 } else { 0.5 };
        Some(about_pods(at, &[("a-1", "3", age)]))
    });
    let sources = sources(&server.url(), PER_POD);
    let preset = preset(&sources, "gateway");
    let mut running = run(&sources, vec![target(preset, "a", "embed", &["a-1"])], OLD);
    let mut observations = Observations::default();
    let first = running.pods().await.remove(0);
    let uid = Arc::clone(&first.uid);
    let received_ms = first.received_ms;
    observations.record(&first.uid, first.received_ms, first.outcome);
    let is_fresh = |observations: &Observations, now_ms| {
        let reading = observations.reading(preset, &uid, Role::Queued, now_ms);
        matches!(reading, crate::signals::Reading::Fresh(_))
    };
    assert!(is_fresh(&observations, received_ms + 30_000));
    assert!(!is_fresh(&observations, received_ms + 30_001));

    let second = running.pods().await.remove(0);
    assert_eq!(server.asked().len(), 4, "the same sample is not told again");
    assert!(second.received_ms > received_ms + 20_000);
    observations.record(&second.uid, second.received_ms, second.outcome);
    assert!(is_fresh(&observations, received_ms + 30_001));
}

#[tokio::test]
async fn an_operator_that_is_younger_than_a_number_waits_until_it_can_date_it() {
    let evaluations = AtomicUsize::new(1_000);
    let server = Server::new(move |_: &Asked| {
        let at = evaluations.fetch_add(1, Ordering::SeqCst);
        Some(about_pods(f64::from(u32::try_from(at).unwrap()), &[("a-1", "3", 1.5)]))
    });
    let sources = sources(&server.url(), PER_POD);
    let preset = preset(&sources, "gateway");
    let mut running = run(&sources, vec![target(preset, "a", "embed", &["a-1"])], Duration::ZERO);
    let first = running.pods().await.remove(0);
    assert!(server.asked().len() >= 2, "the first answer is from before the start");
    assert!(running.clock.now_ms() >= first.received_ms + 1_500);
}

#[tokio::test]
async fn a_replayed_answer_is_frozen() {
    let body = about_pods(1_000.0, &[("a-1", "3", 1.0)]);
    let server = Server::new(move |_: &Asked| Some(body.clone()));
    let sources = sources(&server.url(), PER_POD);
    let preset = preset(&sources, "gateway");
    let mut running = run(&sources, vec![target(preset, "a", "embed", &["a-1"])], OLD);
    assert_eq!(waiting(&running.pods().await[0]), Ok(3.0));
    assert_eq!(waiting(&running.pods().await[0]), Err(Why::Frozen));
}

#[tokio::test]
async fn stages_are_one_request_and_are_asked_about_without_a_pod() {
    let server = Server::new(|_: &Asked| {
        let sample = |part: u8, value: &str| (format!(r#""tiercel_part":"{part}""#), value.to_owned());
        let samples = [sample(0, "12"), sample(1, "990"), sample(2, "NaN"), sample(3, "999")];
        Some(response("200 OK", "", &vector(1_000.0, &samples)))
    });
    let sources = sources(&server.url(), PER_STAGE);
    let preset = preset(&sources, "broker");
    let targets = vec![
        target(preset, "a", "embed", &[]),
        target(preset, "a", "rank", &["rank-1"]),
        target(preset, "a", "rank", &["rank-2"]),
        target(preset, "a", "zero", &[]),
    ];
    let mut running = run(&sources, targets, OLD);
    let answers = running.stages().await;
    assert_eq!(server.asked().len(), 1);
    let told: Vec<_> = answers
        .iter()
        .map(|answer| {
            let number = answer.outcome.as_ref().map_err(|why| *why);
            let number = number.map(|numbers| {
                (
                    numbers.roles[&Role::Queued].map(crate::signals::Finite::get),
                    numbers.age_ms,
                )
            });
            (answer.stage.stage.as_ref(), number)
        })
        .collect();
    assert_eq!(
        told,
        [
            ("embed", Ok((Ok(12.0), Some(10_000)))),
            ("rank", Err(Why::NotFinite)),
            ("zero", Err(Why::NoSeries)),
        ]
    );
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_tried_once_per_round_and_everybody_is_told() {
    let server = Server::new(|_: &Asked| None);
    let sources = sources(&server.url(), PER_POD);
    let preset = preset(&sources, "gateway");
    let targets = ["a", "b", "c"].map(|namespace| target(preset, namespace, "embed", &["x"]));
    let mut running = run(&sources, targets.to_vec(), OLD);
    for _ in 0..3 {
        assert_eq!(waiting(&running.pods().await[0]), Err(Why::Unreachable));
    }
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn slow_queries_of_some_namespaces_keep_no_other_from_being_asked() {
    let evaluations = AtomicUsize::new(1_000);
    let server = Server::new(move |asked: &Asked| {
        if !asked.query().contains("namespace=\"c\"") {
            std::thread::sleep(Duration::from_secs(2));
        }
        let at = evaluations.fetch_add(1, Ordering::SeqCst);
        Some(about_pods(f64::from(u32::try_from(at).unwrap()), &[("x", "3", 1.0)]))
    });
    let sources = sources(&server.url(), PER_POD);
    let preset = preset(&sources, "gateway");
    let targets = ["a", "b", "c"].map(|namespace| target(preset, namespace, "embed", &["x"]));
    let mut running = run(&sources, targets.to_vec(), OLD);
    let mut told = Vec::new();
    for _ in 0..9 {
        told.push(waiting(&running.pods().await[0]));
    }
    assert!(told.contains(&Ok(3.0)), "{told:?}");
    assert_eq!(told[..3], [Err(Why::Timeout); 3], "two slow ones end a round");
}

#[tokio::test]
async fn a_busy_endpoint_is_left_alone_for_as_long_as_it_wants() {
    let server = Server::answering("503 Service Unavailable", "retry-after: 3\r\n", "");
    let sources = sources(&server.url(), PER_POD);
    let preset = preset(&sources, "gateway");
    let mut running = run(&sources, vec![target(preset, "a", "embed", &["x"])], OLD);
    running.pods().await;
    let first_ms = running.clock.now_ms();
    running.pods().await;
    let waited_ms = running.clock.now_ms() - first_ms;
    assert!((2_900..6_000).contains(&waited_ms), "{waited_ms}");
}

#[tokio::test]
async fn nobody_is_asked_while_nobody_wants_anything_and_the_poller_ends_with_its_listeners() {
    let server = Server::answering("500 Internal Server Error", "", "");
    let sources = sources(&server.url(), PER_POD);
    let preset = preset(&sources, "gateway");
    let mut running = run(&sources, Vec::new(), OLD);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(server.asked().is_empty());
    running
        .targets
        .send_replace(Arc::new(vec![target(preset, "a", "embed", &["x"])]));
    running.pods().await;
    let Running {
        targets, mut poller, ..
    } = running;
    drop(targets);
    let ended = tokio::time::timeout(LIFE, poller.join_next()).await;
    assert!(ended.is_ok(), "the poller outlives those who want something");
}

#[tokio::test(start_paused = true)]
async fn a_preset_that_nobody_answers_for_has_no_target() {
    let sources = Arc::new(Sources::default());
    let preset = Preset::named("dcgm").unwrap();
    let (_wanted, asked) = watch::channel(Arc::new(vec![target(preset, "a", "embed", &["x"])]));
    let (sender, mut notices) = mpsc::unbounded_channel();
    let ground = Ground {
        clock: Clock::start(),
        sources,
        targets: asked,
        notices: sender,
    };
    let poller = tokio::spawn(without_source(ground));
    let Some(Notice::Usage(answers)) = notices.recv().await else {
        panic!("pods are told")
    };
    assert_eq!(answers[0].outcome, Err(Why::NoTarget));
    poller.abort();
}

/// An API server that answers by path, and the paths that it was asked for.
fn api_server(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> (Client, Arc<std::sync::Mutex<Vec<String>>>) {
    use kube::client::Body;
    let (service, mut handle) = tower_test::mock::pair::<http::Request<Body>, http::Response<Body>>();
    let asked: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let all = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Some((request, send)) = handle.next_request().await {
            let path = request.uri().to_string();
            let (status, body) = answer(&path);
            all.lock().unwrap().push(path);
            let response = http::Response::builder().status(status);
            send.send_response(response.body(Body::from(body.into_bytes())).unwrap());
        }
    });
    (Client::new(service, "default"), asked)
}

fn ground(sources: Arc<Sources>, targets: Targets) -> (Ground, watch::Sender<Arc<Targets>>, UnboundedReceiver<Notice>) {
    let (wanted, asked) = watch::channel(Arc::new(targets));
    let (sender, notices) = mpsc::unbounded_channel();
    let ground = Ground {
        clock: Clock::start(),
        sources,
        targets: asked,
        notices: sender,
    };
    (ground, wanted, notices)
}

#[tokio::test(start_paused = true)]
async fn metrics_k8s_io_is_asked_once_per_namespace_and_strangers_are_nobody() {
    let pod = |name: &str, at: u32| {
        format!(
            r#"{{"metadata":{{"name":"{name}"}},"timestamp":"2026-11-21T03:00:{at:02}Z","window":"15s","containers":[{{"usage":{{"cpu":"500m"}}}}]}}"#
        )
    };
    let rounds = AtomicUsize::new(0);
    let (client, asked) = api_server(move |_| {
        // The source measures every 15 s and is asked every 5 s.
        let at = u32::try_from(rounds.fetch_add(1, Ordering::SeqCst) / 2 / 3 * 15).unwrap();
        (
            200,
            format!(r#"{{"items":[{},{}]}}"#, pod("one", at), pod("stranger", at)),
        )
    });
    let cpu = Preset::named("cpu").unwrap();
    let targets = vec![
        target(cpu, "a", "embed", &["one"]),
        target(cpu, "a", "rank", &["absent"]),
        target(cpu, "b", "embed", &["one"]),
        target(cpu, "c", "embed", &[]),
    ];
    let (ground, _wanted, mut notices) = ground(Arc::default(), targets);
    let clock = ground.clock.clone();
    let poller = tokio::spawn(resource::poll(client, ground));
    let mut observations = Observations::default();
    let mut fresh = Vec::new();
    for round in 0..4 {
        for namespace in ["a", "b"] {
            let Some(Notice::Usage(answers)) = notices.recv().await else {
                panic!("answers of {namespace}")
            };
            let told: Vec<_> = answers
                .iter()
                .map(|answer| (answer.uid.as_ref(), answer.outcome.as_ref().err()))
                .collect();
            let expected = if namespace == "a" {
                vec![("uid-one", None), ("uid-absent", Some(&Why::NoSeries))]
            } else {
                vec![("uid-one", None)]
            };
            assert_eq!(told, expected);
            for answer in answers {
                observations.record(&answer.uid, answer.received_ms, answer.outcome);
            }
        }
        let uid = "uid-one";
        let reading = observations.reading(cpu, uid, Role::Utilization, clock.now_ms());
        fresh.push(matches!(reading, crate::signals::Reading::Fresh(_)));
        assert_eq!(
            asked.lock().unwrap().len(),
            2 * (round + 1),
            "one request per namespace with pods"
        );
    }
    assert_eq!(
        fresh,
        [false, false, false, true],
        "fresh once the source's time has advanced"
    );
    for path in asked.lock().unwrap().iter() {
        assert!(
            path.contains("/pods?&labelSelector=app.kubernetes.io%2Fmanaged-by%3Dtiercel"),
            "{path}"
        );
    }
    poller.abort();
}

const ADAPTERS: &str = r#"customMetrics:
- {name: in-flight, metric: busy, role: running, kind: count, freshness: 45s}
- {name: in-flight, metric: waiting, role: queued, kind: count, freshness: 45s, optional: true}
externalMetrics:
- {name: sqs, metric: visible, selector: {queue: "$stage"}, role: queued, kind: count, freshness: 2m}
"#;

#[tokio::test(start_paused = true)]
async fn adapters_are_asked_once_per_metric_and_once_per_metric_and_stage() {
    let (client, asked) = api_server(|path| {
        if path.contains("/pods/*/busy") {
            let item = |name: &str, value: &str| {
                format!(
                    r#"{{"describedObject":{{"name":"{name}"}},"timestamp":"2026-11-21T03:00:15Z","value":"{value}"}}"#
                )
            };
            return (
                200,
                format!(r#"{{"items":[{},{}]}}"#, item("one", "3"), item("stranger", "900")),
            );
        }
        if path.contains("queue%3Dembed") {
            let item = r#"{"timestamp":"2026-11-21T03:00:15Z","value":"12"}"#;
            return (200, format!(r#"{{"items":[{item}]}}"#));
        }
        let status = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"no","reason":"x","code":403}"#;
        (403, status.to_owned())
    });
    let sources = Arc::new(Sources::parse("test", ADAPTERS).unwrap());
    let (pods, sqs) = (preset(&sources, "in-flight"), preset(&sources, "sqs"));
    let targets = vec![
        target(pods, "a", "chat", &["one", "two"]),
        target(pods, "a", "guard", &["three"]),
        target(sqs, "a", "embed", &[]),
        target(sqs, "a", "embed", &["x"]),
        target(sqs, "a", "rank", &[]),
    ];
    let (ground, _wanted, mut notices) = ground(sources, targets);
    let poller = tokio::spawn(adapters::poll(client, ground));
    let Some(Notice::Usage(answers)) = notices.recv().await else {
        panic!("answers of pods")
    };
    let told: Vec<_> = answers
        .iter()
        .map(|answer| {
            let signals = answer.outcome.as_ref().map_err(|why| *why);
            (
                answer.uid.as_ref(),
                signals.map(|signals| (signals.running.map(crate::signals::Finite::get), signals.waiting)),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("uid-one", Ok((Ok(3.0), Err(Why::Denied)))),
            ("uid-two", Err(Why::NoSeries)),
            ("uid-three", Err(Why::NoSeries)),
        ]
    );
    let Some(Notice::StageUsage(answers)) = notices.recv().await else {
        panic!("answers about stages")
    };
    let told: Vec<_> = answers
        .iter()
        .map(|answer| {
            let numbers = answer.outcome.as_ref().map_err(|why| *why);
            (
                answer.stage.stage.as_ref(),
                numbers.map(|numbers| (numbers.source_ms, numbers.age_ms)),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("embed", Ok((Some(1_795_230_015_000), None))),
            ("rank", Err(Why::Denied))
        ]
    );
    assert_eq!(
        asked.lock().unwrap().len(),
        4,
        "two metrics of pods, one metric of two stages"
    );
    poller.abort();
}
