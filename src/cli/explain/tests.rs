//! What people read, situation by situation: the whole text is on record in `snapshots/`.

use serde_json::json;

use super::*;
use crate::api::TieredPipeline;
use crate::controller::pipeline::verdict::hold_text;
use crate::controller::rebalancer::view::{driver_word, reason_word};
use crate::explain::{
    Alone, Bounds, Calls, Ceiling, CeilingOn, Excluded, Gap, Hold, Learned, Need, Pods, Pool, Replica, Signal, Stage,
    State, Unit, VERSION, Value,
};
use crate::rebalance::decision::Driver;

mod words;

fn value(role: &str, value: f64, unit: &str) -> Value {
    Value {
        role: role.to_owned(),
        value,
        unit: unit.to_owned(),
    }
}

fn learned(value: f64, declared: f64, samples: u32) -> Learned {
    Learned {
        value,
        declared,
        samples,
        range: [declared / 8.0, declared * 8.0],
    }
}

fn need(need: &str, asks: f64) -> Need {
    Need {
        need: need.to_owned(),
        asks,
    }
}

fn gap(why: &str, pods: Option<u32>) -> Gap {
    Gap {
        why: why.to_owned(),
        pods,
        ..Gap::default()
    }
}

fn signal() -> Signal {
    Signal {
        preset: "vllm".to_owned(),
        source: "pods".to_owned(),
        pool: Some("l4-spot".to_owned()),
        state: State::Fresh,
        pods: Some(Pods {
            sampled: 2,
            expected: 2,
        }),
        newest_seconds: Some(0.41),
        oldest_seconds: Some(0.92),
        fresh_seconds: 5.0,
        values: vec![
            value("queued", 3.0, "requests"),
            value("running", 12.0, "requests"),
            value("cacheUse", 0.41, "share"),
            value("throughput", 9.13, "requests/s"),
            value("latency", 1.24, "seconds"),
        ],
        gaps: Vec::new(),
    }
}

fn pool() -> Pool {
    Pool {
        name: "l4-spot".to_owned(),
        wanted: Some(2),
        replicas: 2,
        ready: 2,
        requests_per_second: Some(learned(10.0, 10.0, 0)),
        startup_seconds: Some(learned(60.0, 60.0, 0)),
        replica: Some(Replica {
            cost_per_hour: 0.31,
            watts: Some(90.0),
        }),
        room: Some(3),
        alone: Some(Alone {
            replicas: 2,
            cost_per_hour: 0.62,
        }),
        ..Pool::default()
    }
}

fn stage() -> Stage {
    Stage {
        name: "generate".to_owned(),
        unit: Unit::RequestsPerSecond,
        target_percent: Some(75.0),
        replicas: Some(Bounds { min: 1, max: 8 }),
        signals: vec![signal()],
        trusted: true,
        needs: vec![need("Rate", 12.17), need("Running", 18.75), need("Floor", 1.0)],
        decided: Some("Running".to_owned()),
        demand: Some(18.75),
        ready_capacity: Some(20.0),
        pools: vec![pool()],
        reason: Some("Cheapest".to_owned()),
        cost_per_hour: Some(0.62),
        minimum_cost_per_hour: Some(0.31),
        ..Stage::default()
    }
}

fn document(stages: Vec<Stage>) -> Document {
    Document {
        version: VERSION,
        namespace: "rag".to_owned(),
        pipeline: "chat".to_owned(),
        time: "2026-03-01T12:00:00.000Z".to_owned(),
        gap_percent: Some(0.0),
        ceilings: Vec::new(),
        stages,
        decisions: Vec::new(),
    }
}

fn live(stages: Vec<Stage>) -> Explained {
    Explained {
        live: true,
        unreached: None,
        document: document(stages),
    }
}

fn text(stage: Stage) -> String {
    let text = text::render(&live(vec![stage]));
    assert!(
        text.lines()
            .all(|line| line.chars().count() <= 100 && line.trim_end() == line),
        "{text}"
    );
    text
}

/// A pipeline with a status, as the API server has it.
fn pipeline() -> TieredPipeline {
    let container = json!({"image": "registry.example.com/server:1",
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}});
    let object = json!({
        "apiVersion": "tiercel.dev/v1alpha1",
        "kind": "TieredPipeline",
        "metadata": {"name": "chat", "namespace": "rag"},
        "spec": {"stages": [
            {"name": "embed", "kind": "Custom", "container": container},
            {"name": "generate", "kind": "Custom", "container": container},
        ]},
        "status": {
            "stages": [
                {"name": "generate", "replicas": 3, "readyReplicas": 2,
                 "message": "pool 'l4-spot' could not place pods lately",
                 "callsPerRequest": {"value": "1.3", "declared": "1", "samples": 8},
                 "pools": [
                    {"name": "l4-spot", "replicas": 2, "ready": 1,
                     "requestsPerSecond": {"value": "7.4", "declared": "10", "samples": 32},
                     "startupSeconds": {"value": "42", "declared": "60", "samples": 4}},
                    {"name": "graviton", "replicas": 1, "ready": 1},
                 ]},
            ],
            "decisions": [
                {"id": "3-17", "time": "2026-03-01T11:59:58.123Z", "trigger": "CapacityLost", "signal": "Running",
                 "summary": "generate: graviton 0->1", "costBefore": "1.60", "costAfter": "1.74", "reason": "PoolDry"},
                {"id": "3-16", "time": "2026-03-01T11:40:00.000Z", "trigger": "DemandRose", "signal": "Rate",
                 "summary": "embed: x86 1->2", "costBefore": "1.40", "costAfter": "1.60", "reason": "Cheapest"},
            ],
        },
    });
    serde_json::from_value(object).unwrap()
}

fn recorded() -> Document {
    recorded::document("rag", "chat", &pipeline())
}

#[test]
fn all_is_fresh_and_nothing_is_learned_yet() {
    insta::assert_snapshot!(text(stage()));
}

#[test]
fn all_is_stale() {
    let stale = Signal {
        state: State::Stale,
        pods: Some(Pods {
            sampled: 0,
            expected: 2,
        }),
        newest_seconds: Some(8.2),
        oldest_seconds: Some(38.4),
        gaps: vec![
            gap("stale: no new answer in time, or one of unproven age", Some(1)),
            gap("timed out: the endpoint does not answer within the deadline", Some(1)),
        ],
        ..signal()
    };
    insta::assert_snapshot!(text(Stage {
        signals: vec![stale],
        trusted: false,
        needs: vec![need("Floor", 2.0)],
        hold: Some(Hold {
            reason: "MetricsStale".to_owned(),
            message: "no fresh signal allows the change".to_owned(),
            seconds: Some(22.0),
        }),
        ..stage()
    }));
}

#[test]
fn nothing_has_ever_been_read() {
    let absent = Signal {
        state: State::Absent,
        pods: Some(Pods {
            sampled: 0,
            expected: 2,
        }),
        newest_seconds: None,
        oldest_seconds: None,
        values: Vec::new(),
        gaps: vec![gap(
            "no such series: start llama-server with --metrics, and let it listen beyond loopback with --host",
            Some(2),
        )],
        ..signal()
    };
    insta::assert_snapshot!(text(Stage {
        signals: vec![absent],
        trusted: false,
        needs: vec![need("Floor", 2.0)],
        decided: None,
        demand: None,
        ..stage()
    }));
}

#[test]
fn one_pod_of_three_is_missing() {
    let partly = Signal {
        pods: Some(Pods {
            sampled: 2,
            expected: 3,
        }),
        gaps: vec![gap(
            "unreachable: check the port and path of the signal, and network policies",
            Some(1),
        )],
        ..signal()
    };
    insta::assert_snapshot!(text(Stage {
        signals: vec![partly],
        ..stage()
    }));
}

#[test]
fn what_was_learned_stands_beside_what_is_declared() {
    let taught = Pool {
        requests_per_second: Some(learned(7.412, 10.0, 37)),
        startup_seconds: Some(learned(42.4, 60.0, 5)),
        startup_slow_seconds: Some(84.8),
        ..pool()
    };
    let left = Pool {
        name: "graviton".to_owned(),
        wanted: Some(0),
        replicas: 0,
        ready: 0,
        not_more: Some("dearer by 0.12 per hour and request/s".to_owned()),
        requests_per_second: Some(learned(1.9, 2.0, 12)),
        ..pool()
    };
    let never = Pool {
        name: "h100".to_owned(),
        not_more: Some("could not place pods lately; tried again in 34 s".to_owned()),
        wanted: Some(0),
        replicas: 0,
        ready: 0,
        ..pool()
    };
    insta::assert_snapshot!(text(Stage {
        pools: vec![taught, left, never],
        calls: vec![
            Calls {
                from: Some("embed".to_owned()),
                calls_per_request: learned(2.6, 2.0, 41),
            },
            Calls {
                from: Some("rerank".to_owned()),
                calls_per_request: learned(1.3, 1.0, 41),
            },
        ],
        needs: vec![
            need("Rate", 12.17),
            need("Running", 18.75),
            need("Callers", 21.0),
            need("Floor", 1.0)
        ],
        decided: Some("Callers".to_owned()),
        demand: Some(21.0),
        saturated: true,
        ..stage()
    }));
}

#[test]
fn the_stabilization_window_holds() {
    insta::assert_snapshot!(text(Stage {
        decided: Some("Recent".to_owned()),
        needs: vec![
            need("Rate", 4.0),
            need("Running", 5.0),
            need("Recent", 18.75),
            need("Floor", 1.0)
        ],
        // Said once.
        message: Some("the stabilization window has not passed".to_owned()),
        hold: Some(Hold {
            reason: "CoolingDown".to_owned(),
            message: "the stabilization window has not passed".to_owned(),
            seconds: Some(184.2),
        }),
        ..stage()
    }));
}

/// A stage on one pool, with others that are full, dear and closed to it.
fn choice() -> Stage {
    Stage {
        pools: vec![
            Pool {
                below_hint: true,
                ..pool()
            },
            Pool {
                name: "graviton".to_owned(),
                wanted: Some(0),
                replicas: 0,
                ready: 0,
                not_more: Some("dearer by 0.12 per hour and request/s".to_owned()),
                requests_per_second: Some(learned(4.0, 4.0, 0)),
                replica: Some(Replica {
                    cost_per_hour: 0.0725,
                    watts: None,
                }),
                room: Some(0),
                alone: Some(Alone {
                    replicas: 5,
                    cost_per_hour: 0.3625,
                }),
                ..pool()
            },
        ],
        excluded: vec![Excluded {
            pool: "h100".to_owned(),
            why: "the pool does not admit this namespace".to_owned(),
        }],
        hold: Some(Hold {
            reason: "MovesExhausted".to_owned(),
            message: "the moves of this hour are used up".to_owned(),
            seconds: Some(1_260.0),
        }),
        ..stage()
    }
}

#[test]
fn a_stage_says_what_each_pool_costs_and_which_it_may_not_use() {
    insta::assert_snapshot!(text(choice()));
}

#[test]
fn a_pool_says_whether_it_was_chosen_and_what_it_would_cost() {
    let on = |name| pool::render(&live(vec![choice()]).on(name).unwrap());
    insta::assert_snapshot!(["l4-spot", "graviton", "h100"].map(on).join("\n---\n\n"));
}

#[test]
fn a_pool_that_no_stage_knows_is_an_error_that_names_those_there_are() {
    let error = live(vec![choice()]).on("tpu").unwrap_err();
    assert_eq!(error.code(), 3);
    assert_eq!(
        error.to_string(),
        "no stage asked for knows a pool 'tpu'; there is 'graviton', 'h100', 'l4-spot'"
    );
}

#[test]
fn the_proof_of_the_plan_is_told_as_far_as_there_is_one() {
    let line = |gap_percent| {
        let mut explained = live(Vec::new());
        explained.document.gap_percent = gap_percent;
        text::render(&explained).lines().nth(2).unwrap().to_owned()
    };
    insta::assert_snapshot!([None, Some(0.0), Some(0.0312)].map(line).join("\n"));
}

#[test]
fn ceilings_that_bind_are_told_with_what_more_of_them_would_save() {
    let mut explained = live(Vec::new());
    explained.document.gap_percent = Some(0.0312);
    explained.document.ceilings = vec![
        Ceiling {
            set_by: "budget.maxCostPerHour".to_owned(),
            on: CeilingOn::Cost,
            saves_per_hour: 0.3,
        },
        Ceiling {
            set_by: "tiercel.dev/max-power-watts".to_owned(),
            on: CeilingOn::Power,
            saves_per_hour: 0.0021,
        },
    ];
    let told: Vec<_> = text::render(&explained)
        .lines()
        .skip(3)
        .take(3)
        .map(str::to_owned)
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    budget.maxCostPerHour binds: 1.00 more per hour would be worth 0.30, tier hints weighed in
    tiercel.dev/max-power-watts binds: one more watt would save 0.0021 per hour

    ");
}

#[test]
fn a_guard_holds_a_shift_until_what_is_new_is_ready() {
    let grows = Pool {
        name: "graviton".to_owned(),
        wanted: Some(4),
        replicas: 4,
        ready: 1,
        ..pool()
    };
    let goes = Pool {
        wanted: Some(0),
        not_more: Some("nodes are being taken away; is being tried again".to_owned()),
        ..pool()
    };
    insta::assert_snapshot!(text(Stage {
        pools: vec![goes, grows],
        hold: Some(Hold {
            reason: "AwaitingReady".to_owned(),
            message: "new replicas must be Ready before old ones go".to_owned(),
            seconds: None,
        }),
        ..stage()
    }));
}

#[test]
fn a_source_that_speaks_of_the_whole_stage_and_pods_beside_it() {
    let broker = Signal {
        preset: "broker".to_owned(),
        source: "Prometheus".to_owned(),
        pool: None,
        pods: None,
        newest_seconds: Some(14.0),
        oldest_seconds: Some(14.0),
        values: vec![value("queued", 1_240.0, "requests")],
        ..signal()
    };
    let used = Signal {
        preset: "cpu".to_owned(),
        source: "metrics.k8s.io".to_owned(),
        values: vec![value("utilization", 0.655, "share")],
        ..signal()
    };
    insta::assert_snapshot!(text(Stage {
        unit: Unit::Replicas,
        signals: vec![broker, used],
        needs: vec![need("Waiting", 6.2), need("Utilization", 1.75), need("Floor", 1.0)],
        decided: Some("Waiting".to_owned()),
        demand: Some(6.2),
        ready_capacity: Some(2.0),
        pools: vec![Pool {
            requests_per_second: None,
            ..pool()
        }],
        ..stage()
    }));
}

#[test]
fn what_is_planned_for_and_what_is_asked_for_now_are_told_apart() {
    let of = |decided: &str, asks: f64, demand: f64| {
        text::headline(&Stage {
            decided: Some(decided.to_owned()),
            needs: vec![need(decided, asks), need("Rate", 1.0)],
            demand: Some(demand),
            ..stage()
        })
    };
    assert_eq!(
        of("Callers", 49.02, 33.31),
        "Callers decides: 33.3 requests/s of capacity needed after averaging, tolerance and windows (49 at this moment), \
         Ready replicas serve 20"
    );
    // Nothing is said twice, and replicas are not held against requests.
    for same in [of("Callers", 33.33, 33.31), of("Floor", 2.0, 33.31)] {
        assert!(!same.contains("at this moment"), "{same}");
    }
}

#[test]
fn every_word_of_the_operator_has_a_text_of_its_own() {
    let mut lines = Vec::new();
    for reason in words::reasons() {
        let word = reason_word(reason);
        assert_ne!(
            text::shaped(word),
            text::ELSE_SHAPED,
            "{word} is told as a word of another version"
        );
        lines.push(format!("planned {word}: {}", text::shaped(word)));
    }
    for driver in words::drivers() {
        let word = driver_word(driver, None);
        let own = matches!(driver, Driver::Also(_));
        assert_eq!(
            text::cause(word) == text::ALSO,
            own,
            "{word} is told as the name of a preset"
        );
        lines.push(format!("need {word}: {}", text::cause(word)));
        let headline = text::headline(&Stage {
            decided: Some(word.to_owned()),
            needs: Vec::new(),
            ..stage()
        });
        lines.push(format!("  {headline}"));
    }
    for hold in words::holds() {
        lines.push(format!("held {hold:?}: {}", hold_text(Some(hold))));
    }
    // Headlines differ by their word alone.
    let own = lines.iter().filter(|line| !line.starts_with(' '));
    let mut texts: Vec<&str> = own
        .filter_map(|line| line.split_once(": "))
        .map(|(_, text)| text)
        .collect();
    let all = texts.len();
    texts.sort_unstable();
    texts.dedup();
    // What is declared for lost signals is a reason and a need.
    assert_eq!(texts.len() + 1, all, "two words have one text");
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn the_operator_cannot_be_reached() {
    let unreached = asking::Unreached::NotPermitted(
        "pods \"tiercel-7d9f\" is forbidden: User \"ann\" cannot get resource \"pods/proxy\" in API group \"\" in the \
         namespace \"tiercel-system\""
            .to_owned(),
    );
    let explained = joined(Err(unreached), recorded());
    assert!(!explained.live);
    insta::assert_snapshot!(text::render(&explained));
}

#[test]
fn one_stage_is_explained_without_the_others_and_their_decisions() {
    let text = text::render(&joined(Err(asking::Unreached::Late), recorded()).of(Some("generate")));
    assert!(
        text.contains("stage generate") && text.contains("graviton 0->1"),
        "{text}"
    );
    assert!(!text.contains("embed"), "{text}");
}

#[test]
fn what_the_operator_says_is_told_in_the_order_of_the_spec_with_the_messages_of_the_status() {
    let other = Stage {
        name: "other".to_owned(),
        ..stage()
    };
    let explained = joined(Ok(document(vec![other, stage()])), recorded());
    let stages: Vec<(&str, bool)> = explained
        .document
        .stages
        .iter()
        .map(|stage| (stage.name.as_str(), stage.trusted))
        .collect();
    // `embed` is refused: the operator does not plan it.
    assert_eq!(stages, [("embed", false), ("generate", true)]);
    let message = explained.document.stages[1].message.as_deref();
    assert_eq!(message, Some("pool 'l4-spot' could not place pods lately"));
}

#[test]
fn a_document_for_programs_reads_back_as_it_was_written() {
    let explained = live(vec![stage()]);
    let text = serde_json::to_string(&explained).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["live"], true);
    assert_eq!(value["stages"][0]["signals"][0]["newestSeconds"], 0.41);
    assert_eq!(serde_json::from_str::<Document>(&text).unwrap(), explained.document);
}

#[test]
fn a_stage_is_named_behind_a_slash_or_by_itself() {
    let parsed = |name: &str, stage: Option<&str>| {
        Subject::parse(name, stage).map(|subject| (subject.name, subject.stage.unwrap_or_default()))
    };
    assert_eq!(parsed("chat", None).unwrap(), ("chat".to_owned(), String::new()));
    let both = ("chat".to_owned(), "generate".to_owned());
    assert_eq!(parsed("chat/generate", None).unwrap(), both);
    assert_eq!(parsed("chat", Some("generate")).unwrap(), both);
    let wrong = [
        ("", None),
        ("/", None),
        ("chat/", None),
        ("a/b/c", None),
        ("a/b", Some("b")),
        ("a?b", None),
        ("A", None),
    ];
    for (name, stage) in wrong {
        let error = parsed(name, stage).unwrap_err();
        assert_eq!(error.code(), 2, "{name}: {error}");
    }
}

#[test]
fn messages_name_what_there_is() {
    let unknown = |known: &[&str]| Error::UnknownStage {
        stage: "generat".to_owned(),
        pipeline: "chat".to_owned(),
        known: known.iter().map(|&name| name.to_owned()).collect(),
    };
    assert_eq!(
        unknown(&["embed", "generate"]).to_string(),
        "pipeline 'chat' has no stage 'generat'; there is 'embed', 'generate'"
    );
    let many: Vec<String> = (0..12).map(|at| format!("s{at}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(
        unknown(&many).to_string().ends_with(", 's9' and 2 more"),
        "{}",
        unknown(&many)
    );
    let codes = [
        unknown(&[]).code(),
        cluster::Error::NotInstalled.code(),
        cluster::Error::NoCluster(String::new()).code(),
    ];
    assert_eq!(codes, [3, 5, 6]);
}
