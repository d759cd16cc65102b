use std::collections::BTreeMap;

use crate::signals::Why;
use crate::signals::presets::Role;
use crate::signals::prometheus::answer::{Answer, Error};
use crate::signals::prometheus::question::{Numbers, QUERY_BYTES_MAX, Question, Signal};
use crate::signals::prometheus::said::Said;
use crate::signals::prometheus::template::Names;
use crate::signals::sources::{Ask, Sources};

/// The signals of the preset `x` with these entries.
fn signals(entries: &[&str]) -> Vec<Signal> {
    let entries: Vec<String> = entries
        .iter()
        .map(|entry| format!("- {{name: x, source: main, freshness: 30s, {entry}}}\n"))
        .collect();
    let text = format!(
        "prometheus: [{{name: main, url: 'http://p'}}]\nqueries:\n{}",
        entries.concat()
    );
    let sources = Sources::parse("test", &text).unwrap_or_else(|error| panic!("{error}"));
    match sources.ask("x") {
        Some((Ask::Queries { signals, .. }, Some(0))) => signals.clone(),
        other => panic!("{other:?}"),
    }
}

const QUEUE: &str = r#"per: pod, role: queued, kind: count, query: 'q{namespace="$namespace",pod=~"$pods"}'"#;
const RATE: &str = r#"per: pod, role: throughput, kind: perSecond, optional: true,
    query: 'sum by (pod) (rate(done_total{namespace="$namespace"}[1m]))'"#;
const BUSY: &str = r#"per: pod, role: utilization, kind: percent, optional: true,
    query: 'sum by (pod) (a{namespace="$namespace"}) / on () group_left () limit{namespace="$namespace"}'"#;

/// An answer evaluated at 1000 s: (part, pod, value).
fn answer(samples: &[(usize, &str, &str)]) -> Answer {
    let samples: Vec<String> = samples
        .iter()
        .map(|(part, pod, value)| {
            let pod = if pod.is_empty() {
                String::new()
            } else {
                format!(r#","pod":"{pod}""#)
            };
            format!(r#"{{"metric":{{"tiercel_part":"{part}"{pod}}},"value":[1000,"{value}"]}}"#)
        })
        .collect();
    let body = format!(
        r#"{{"status":"success","data":{{"resultType":"vector","result":[{}]}}}}"#,
        samples.join(",")
    );
    Answer::parse(body.as_bytes()).unwrap()
}

/// Value and age in milliseconds.
fn number(numbers: &Numbers, role: Role) -> Result<(f64, u64), Why> {
    numbers[&role].map(|number| (number.value.get(), number.age_ms))
}

fn first(signals: &[Signal], samples: &[(usize, &str, &str)]) -> Numbers {
    let questions = Question::per_pod(signals, "rag", &["one", "two"]);
    questions[0].0.pods(&answer(samples), &["one", "two"]).remove(0)
}

#[test]
fn one_expression_asks_for_every_number_and_its_age() {
    let signals = signals(&[QUEUE, BUSY]);
    let questions = Question::per_pod(&signals, "rag", &["one", "two"]);
    assert_eq!(questions.len(), 1);
    assert_eq!(
        questions[0].0.text,
        [
            r#"label_replace(q{namespace="rag",pod=~"(?:one|two)"}, "tiercel_part", "0", "", "")"#,
            r#"label_replace(min by (pod) (timestamp(q{namespace="rag",pod=~"(?:one|two)"})), "tiercel_part", "1", "", "")"#,
            r#"label_replace(sum by (pod) (a{namespace="rag"}) / on () group_left () limit{namespace="rag"}, "tiercel_part", "2", "", "")"#,
            r#"label_replace(min by (pod) (timestamp(a{namespace="rag"})), "tiercel_part", "3", "", "")"#,
            r#"label_replace(min by (pod) (timestamp(limit{namespace="rag"})), "tiercel_part", "4", "", "")"#,
        ]
        .join(" or ")
    );
}

#[test]
fn a_number_is_as_old_as_its_oldest_sample_by_the_servers_clock() {
    let numbers = first(
        &signals(&[QUEUE, BUSY]),
        &[
            (0, "one", "3"),
            (1, "one", "995.5"),
            (2, "one", "50"),
            (3, "one", "990"),
            // Of no pod, so of all.
            (4, "", "970"),
            (0, "two", "8"),
            (0, "stranger", "9"),
        ],
    );
    assert_eq!(number(&numbers, Role::Queued), Ok((3.0, 4_500)));
    assert_eq!(number(&numbers, Role::Utilization), Ok((0.5, 30_000)));
    assert_eq!(numbers[&Role::Queued].unwrap().source_ms, 995_500);
}

#[test]
fn what_is_no_number_of_the_pod_says_why() {
    let signals = signals(&[QUEUE]);
    for (samples, expected) in [
        (&[][..], Why::NoSeries),
        (&[(0, "two", "1"), (1, "two", "999")][..], Why::NoSeries),
        (&[(0, "one", "NaN"), (1, "one", "999")][..], Why::NotFinite),
        (&[(0, "one", "+Inf"), (1, "one", "999")][..], Why::NotFinite),
        (&[(0, "one", "-Inf"), (1, "one", "999")][..], Why::NotFinite),
        (&[(0, "one", "-1"), (1, "one", "999")][..], Why::OutOfRange),
        (&[(0, "one", "1e12"), (1, "one", "999")][..], Why::OutOfRange),
        (&[(0, "one", "nan"), (1, "one", "999")][..], Why::Malformed),
        (&[(0, "one", "infinity"), (1, "one", "999")][..], Why::Malformed),
        (&[(0, "one", ""), (1, "one", "999")][..], Why::Malformed),
        (
            &[(0, "one", "1"), (0, "one", "1"), (1, "one", "999")][..],
            Why::Ambiguous,
        ),
        // A number made of nothing, such as by `or vector(0)`.
        (&[(0, "one", "0")][..], Why::NoSeries),
        (&[(0, "one", "0"), (1, "two", "999")][..], Why::NoSeries),
        (&[(0, "one", "0"), (1, "one", "NaN")][..], Why::Malformed),
        // From the future of the server that says so.
        (&[(0, "one", "0"), (1, "one", "1001")][..], Why::Malformed),
        // Parts that were not asked for.
        (&[(7, "one", "1"), (1, "one", "999")][..], Why::NoSeries),
    ] {
        let numbers = first(&signals, samples);
        assert_eq!(number(&numbers, Role::Queued), Err(expected), "{samples:?}");
    }
}

#[test]
fn the_first_alternative_with_a_series_decides_for_better_or_worse() {
    let signals = signals(&[
        QUEUE,
        r#"per: pod, role: queued, kind: count, podLabel: exported_pod, namespaceLabel: exported_namespace,
            query: 'q{exported_namespace="$namespace",exported_pod=~"$pods"}'"#,
    ]);
    let exported = |answer: &mut Answer| {
        for sample in &mut answer.samples {
            if sample.labels["tiercel_part"] == "2" || sample.labels["tiercel_part"] == "3" {
                let pod = sample.labels.remove("pod").unwrap();
                sample.labels.insert("exported_pod".to_owned(), pod);
            }
        }
    };
    for (samples, expected) in [
        (&[(2, "one", "5"), (3, "one", "999")][..], Ok((5.0, 1_000))),
        (
            &[(0, "one", "4"), (1, "one", "998"), (2, "one", "5"), (3, "one", "999")][..],
            Ok((4.0, 2_000)),
        ),
        (
            &[(0, "one", "NaN"), (1, "one", "998"), (2, "one", "5"), (3, "one", "999")][..],
            Err(Why::NotFinite),
        ),
    ] {
        let mut answer = answer(samples);
        exported(&mut answer);
        let questions = Question::per_pod(&signals, "rag", &["one"]);
        let numbers = questions[0].0.pods(&answer, &["one"]).remove(0);
        assert_eq!(number(&numbers, Role::Queued), expected, "{samples:?}");
    }
}

#[test]
fn all_stages_of_a_namespace_share_one_request() {
    let signals = signals(&[
        r#"per: stage, role: queued, kind: count, query: 'sum(q{namespace="$namespace",queue="$pipeline.$stage"})'"#,
    ]);
    let stage = |stage| Names {
        namespace: "rag",
        pipeline: "support",
        stage,
        pods: &[],
    };
    let names = [stage("embed"), stage("rank"), stage("answer")];
    let questions = Question::per_stage(&signals, &names);
    assert_eq!(questions.len(), 1);
    let (question, asked) = &questions[0];
    assert_eq!(
        question.text.matches("queue=\"support.rank\"").count(),
        2,
        "{}",
        question.text
    );
    assert!(
        question
            .text
            .contains("min(timestamp(q{namespace=\"rag\",queue=\"support.embed\"}))")
    );
    let found = question.stages(
        &answer(&[(0, "", "7"), (1, "", "990"), (4, "", "0"), (5, "", "999")]),
        asked.len(),
    );
    let queued: Vec<_> = found.iter().map(|numbers| number(numbers, Role::Queued)).collect();
    assert_eq!(queued, [Ok((7.0, 10_000)), Err(Why::NoSeries), Ok((0.0, 1_000))]);
}

#[test]
fn a_question_that_grows_too_long_is_put_in_parts_that_miss_nobody() {
    let signals = signals(&[QUEUE]);
    let pods: Vec<String> = (0..2_000)
        .map(|index| format!("embed-arm-7d9c5b6f4-{index:05}"))
        .collect();
    let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
    let questions = Question::per_pod(&signals, "rag", &pods);
    assert!((9..=18).contains(&questions.len()), "{} questions", questions.len());
    assert!(
        questions
            .iter()
            .all(|(question, _)| question.text.len() <= QUERY_BYTES_MAX)
    );
    let asked: Vec<&str> = questions.iter().flat_map(|(_, asked)| asked.iter().copied()).collect();
    assert_eq!(asked, pods);
    assert!(Question::per_pod(&signals, "rag", &[]).is_empty());

    let signals = self::signals(&[
        r#"per: stage, role: queued, kind: count, query: 'sum(q{namespace="$namespace",queue="$stage"})'"#,
    ]);
    let stages: Vec<String> = (0..200).map(|index| format!("stage-{index}")).collect();
    let names: Vec<Names<'_>> = stages
        .iter()
        .map(|stage| Names {
            namespace: "rag",
            pipeline: "p",
            stage,
            pods: &[],
        })
        .collect();
    let questions = Question::per_stage(&signals, &names);
    assert!((2..=5).contains(&questions.len()), "{} questions", questions.len());
    assert!(
        questions
            .iter()
            .all(|(question, _)| question.text.len() <= QUERY_BYTES_MAX)
    );
    let asked: Vec<&str> = questions
        .iter()
        .flat_map(|(_, asked)| asked.iter().map(|names| names.stage))
        .collect();
    assert_eq!(asked, stages);
}

#[test]
fn numbers_of_a_pod_are_one_answer_as_old_as_the_oldest_that_counts() {
    let signals = signals(&[QUEUE, BUSY]);
    let said = |samples: &[(usize, &str, &str)]| Said::of(&first(&signals, samples), &signals);
    let both = [
        (0, "one", "3"),
        (1, "one", "995"),
        (2, "one", "50"),
        (3, "one", "990"),
        (4, "", "990"),
    ];
    let whole = said(&both).unwrap();
    assert_eq!((whole.age_ms, whole.source_ms), (10_000, 990_000));
    let pod = whole.of_pod();
    assert_eq!(pod.waiting.map(crate::signals::Finite::get), Ok(3.0));
    assert_eq!(pod.utilization.map(crate::signals::Finite::get), Ok(0.5));
    assert_eq!((pod.running, pod.source_ms), (Err(Why::NoSeries), None));

    // An optional number that is too old goes, instead of making the needed one old.
    let mut old = both;
    old[3].2 = "900";
    let said_old = said(&old).unwrap();
    assert_eq!(
        (said_old.age_ms, said_old.of_pod().utilization),
        (5_000, Err(Why::Frozen))
    );
    // The needed one stays, and is what it is.
    let mut old = both;
    old[1].2 = "900";
    assert_eq!(said(&old).unwrap().age_ms, 100_000);

    // A new sample is news even where its value is the same.
    let mut newer = both;
    newer[1].2 = "996";
    assert_ne!(said(&newer).unwrap().fingerprint, whole.fingerprint);
    assert_eq!(said(&both).unwrap().fingerprint, whole.fingerprint);

    // A rate is the server's own: no counter is made of it.
    assert_eq!(pod.rate, Err(Why::NoSeries));
    let rated = self::signals(&[QUEUE, RATE]);
    let samples = [(0, "one", "3"), (1, "one", "995"), (2, "one", "2.5"), (3, "one", "990")];
    let pod = Said::of(&first(&rated, &samples), &rated).unwrap().of_pod();
    assert_eq!(pod.rate.map(crate::signals::Finite::get), Ok(2.5));
    assert_eq!(pod.finished, Err(Why::NoSeries));

    assert_eq!(said(&[]).map(|_| ()), Err(Why::NoSeries));
    assert_eq!(
        said(&[(0, "one", "NaN"), (1, "one", "999")]).map(|_| ()),
        Err(Why::NotFinite)
    );
}

#[test]
fn a_body_that_is_no_whole_vector_is_no_answer() {
    let vector = |result: &str, rest: &str| {
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{result}]}}{rest}}}"#)
    };
    let parse = |body: &str| Answer::parse(body.as_bytes());
    let empty = parse(&vector("", "")).unwrap();
    assert_eq!(empty.samples, []);
    assert!(parse(&vector("", r#","infos":["fine"],"warnings":[]"#)).is_ok());
    for (body, expected) in [
        (
            vector("", r#","warnings":["half of it is away"]"#),
            "half of it is away",
        ),
        (
            vector(r#"{"metric":{},"value":[1,"2"]}"#, r#","warnings":["x\ny"]"#),
            r"x\ny",
        ),
    ] {
        let error = parse(&body).unwrap_err();
        assert!(
            matches!(error, Error::Partial(_)) && error.to_string().contains(expected),
            "{error}"
        );
    }
    for body in [
        "",
        "null",
        "[]",
        "{}",
        "<html>",
        r#"{"status":"success"}"#,
        r#"{"status":"error","errorType":"bad_data","error":"no"}"#,
        r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#,
        r#"{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}"#,
        r#"{"status":"success","data":{"resultType":"vector","result":{}}}"#,
        &vector(r#"{"metric":{},"value":[1]}"#, ""),
        &vector(r#"{"metric":{},"value":[1,2]}"#, ""),
        &vector(r#"{"metric":{},"value":["1","2"]}"#, ""),
        &vector(r#"{"metric":{},"value":[-1,"2"]}"#, ""),
        &vector(r#"{"metric":{},"value":[1e300,"2"]}"#, ""),
        &vector(r#"{"metric":{},"value":[1,"2"]},{"metric":{},"value":[2,"2"]}"#, ""),
        &vector("", "")[..30],
    ] {
        let error = parse(body).expect_err(body);
        assert!(matches!(error, Error::Malformed(_)), "{body}: {error}");
    }
    let histogram = parse(&vector(r#"{"metric":{},"histogram":[1,{}]}"#, "")).unwrap();
    assert_eq!(histogram.samples[0].value, Err(Why::NotFinite));
    let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let found = parse(&vector(r#"{"metric":{"a":"b"},"value":[1.5,"2"]}"#, "")).unwrap();
    assert_eq!((found.evaluated_ms, &found.samples[0].labels), (1_500, &labels));
}
