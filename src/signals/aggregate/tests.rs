use proptest::prelude::*;

use super::*;
use crate::signals::exposition::{self, Exposition, Limits};

fn preset(name: &str) -> &'static Preset {
    Preset::named(name).unwrap()
}

fn pods(uids: &[&str]) -> Vec<Arc<str>> {
    uids.iter().map(|uid| Arc::from(*uid)).collect()
}

/// What a vLLM server answers; `tokens` is what moves while it works.
fn vllm(running: u32, waiting: u32, finished: u32, tokens: u32) -> PodSignals {
    let body = format!(
        "vllm:num_requests_running {running}\nvllm:num_requests_waiting {waiting}\nvllm:request_success_total {finished}\n\
         vllm:kv_cache_usage_perc 0.5\nvllm:generation_tokens_total {tokens}\n"
    );
    answer("vllm", &body)
}

fn answer(name: &str, body: &str) -> PodSignals {
    let parsed = Exposition::parse(body.as_bytes(), &Limits::SCRAPE).unwrap();
    preset(name).read(&parsed, exposition::fingerprint(body.as_bytes()))
}

fn cpu(share: f64, source_ms: i64) -> PodSignals {
    PodSignals {
        running: Err(Why::NoSeries),
        waiting: Err(Why::NoSeries),
        cache_use: Err(Why::NoSeries),
        utilization: Finite::try_from(share),
        finished: Err(Why::NoSeries),
        rate: Err(Why::NoSeries),
        served: Err(Why::NoSeries),
        source_ms: Some(source_ms),
        fingerprint: source_ms.unsigned_abs(),
    }
}

/// Answers in order: pod, milliseconds, outcome.
fn observed<const N: usize>(answers: [(&str, u64, Result<PodSignals, Why>); N]) -> Observations {
    let mut observations = Observations::default();
    for (uid, at, outcome) in answers {
        observations.record(&Arc::from(uid), at, outcome);
    }
    observations
}

#[test]
fn counts_are_summed_over_the_pods_that_reported_and_the_oldest_receipt_dates_them() {
    let seen = observed([
        ("a", 1_000, Ok(vllm(3, 1, 10, 1))),
        ("b", 1_400, Ok(vllm(5, 0, 20, 1))),
        ("gone", 1_500, Ok(vllm(9, 9, 9, 9))),
    ]);
    let aggregate = seen.aggregate(preset("vllm"), &pods(&["a", "b", "new"]), 2_000);
    let reading = aggregate.reading.unwrap();
    assert_eq!((reading.taken_ms, reading.sampled, reading.expected), (1_000, 2, 3));
    assert_eq!(
        (reading.running_millis, reading.waiting_millis),
        (Some(8_000), Some(1_000))
    );
    assert_eq!(
        (reading.utilization_permille, aggregate.cache_use_permille),
        (None, Some(500))
    );
    assert_eq!(aggregate.gaps, [(Arc::from("new"), Gap::Absent(Why::NoTarget))]);
}

#[test]
fn a_rate_that_the_source_counts_is_the_rate_while_it_is_fresh() {
    let text = r#"
prometheus: [{name: main, url: 'http://p'}]
queries:
- {name: x, source: main, per: pod, role: utilization, kind: ratio, freshness: 60s, query: 'u{namespace="$namespace"}'}
- {name: x, source: main, per: pod, role: throughput, kind: perSecond, freshness: 20s, optional: true,
   query: 'sum by (pod) (rate(n{namespace="$namespace"}[1m]))'}
"#;
    let sources = crate::signals::sources::Sources::parse("test", text).unwrap();
    let preset = sources.presets().next().unwrap();
    let rated = |rate| PodSignals {
        rate,
        source_ms: None,
        ..cpu(0.5, 1)
    };
    let seen = observed([
        ("a", 1_000, Ok(rated(Finite::try_from(4.25)))),
        ("b", 1_500, Ok(rated(Finite::try_from(3.0)))),
        ("c", 1_500, Ok(rated(Err(Why::Frozen)))),
    ]);
    let rate = |uids: &[&str], now_ms| {
        let reading = seen.aggregate(preset, &pods(uids), now_ms).reading.unwrap();
        (reading.sampled, reading.utilization_permille, reading.rate_millis)
    };
    // One answer is enough: nothing is counted between two.
    assert_eq!(rate(&["a", "b"], 2_000), (2, Some(500), Some(7_250)));
    assert_eq!(rate(&["a", "b"], 21_001), (2, Some(500), None), "too old, and optional");
    assert_eq!(
        rate(&["a", "c"], 2_000),
        (2, Some(500), None),
        "of one pod it is not known"
    );
}

#[test]
fn no_pod_that_reported_means_no_reading_rather_than_an_idle_one() {
    let seen = observed([("a", 1_000, Err(Why::Timeout))]);
    for ready in [pods(&["a"]), pods(&["b"]), pods(&[])] {
        assert_eq!(seen.aggregate(preset("vllm"), &ready, 1_000).reading, None);
    }
    assert_eq!(
        seen.aggregate(preset("vllm"), &pods(&["a"]), 1_000).gaps,
        [(Arc::from("a"), Gap::Absent(Why::Timeout))]
    );
}

#[test]
fn an_answer_outlives_a_failed_scrape_until_its_age_is_up() {
    let seen = observed([("a", 1_000, Ok(vllm(3, 1, 10, 1))), ("a", 2_000, Err(Why::Unreachable))]);
    let ready = pods(&["a"]);
    assert_eq!(
        seen.aggregate(preset("vllm"), &ready, 6_000).reading.unwrap().sampled,
        1
    );
    let late = seen.aggregate(preset("vllm"), &ready, 6_001);
    assert_eq!(
        (late.reading, late.gaps),
        (None, vec![(Arc::from("a"), Gap::Absent(Why::Unreachable))])
    );
    assert!(matches!(
        seen.reading(preset("vllm"), "a", Role::Running, 6_001),
        Reading::Stale(_)
    ));
}

#[test]
fn a_required_number_that_is_absent_takes_the_pod_out_and_an_optional_one_only_itself() {
    let without_queue = answer("vllm", "vllm:num_requests_running 3\n");
    let without_cache = answer("vllm", "vllm:num_requests_running 3\nvllm:num_requests_waiting 0\n");
    let seen = observed([
        ("a", 1_000, Ok(vllm(1, 0, 5, 1))),
        ("b", 1_000, Ok(without_queue)),
        ("c", 1_000, Ok(without_cache)),
    ]);
    let aggregate = seen.aggregate(preset("vllm"), &pods(&["a", "b", "c"]), 1_000);
    let reading = aggregate.reading.unwrap();
    assert_eq!(
        (reading.sampled, reading.expected, reading.running_millis),
        (2, 3, Some(4_000))
    );
    assert_eq!(aggregate.gaps, [(Arc::from("b"), Gap::Absent(Why::NoSeries))]);
    assert_eq!((aggregate.cache_use_permille, reading.rate_millis), (None, None));
}

#[test]
fn an_answer_from_before_is_no_news_once_more_was_finished() {
    let pages = [vllm(1, 0, 10, 1), vllm(4, 0, 14, 2), vllm(2, 0, 19, 3)];
    let mut seen = Observations::default();
    let ready = pods(&["a"]);
    let gaps_after = |seen: &Observations, now_ms| seen.aggregate(preset("vllm"), &ready, now_ms).gaps;
    for (at, page) in (1..).zip(&pages) {
        seen.record(&ready[0], at * 1_000, Ok(page.clone()));
        assert_eq!(gaps_after(&seen, at * 1_000), [], "the first time");
    }
    let replayed = [(Arc::clone(&ready[0]), Gap::Absent(Why::Frozen))];
    for (at, page) in (4..).zip(pages.iter().cycle().take(9)) {
        seen.record(&ready[0], at * 1_000, Ok(page.clone()));
        assert_eq!(gaps_after(&seen, at * 1_000), replayed, "second {at}");
    }
    seen.record(&ready[0], 13_000, Ok(vllm(3, 0, 30, 9)));
    assert_eq!(gaps_after(&seen, 13_000), []);
}

#[test]
fn a_request_that_was_given_up_or_a_restart_to_nothing_is_no_replay_for_long() {
    let (idle, busy) = (vllm(0, 0, 10, 1), vllm(1, 0, 10, 1));
    let ready = pods(&["a"]);
    let mut seen = Observations::default();
    for (at, page) in (1..).zip([&idle, &busy, &idle, &busy, &idle]) {
        seen.record(&ready[0], at * 1_000, Ok(page.clone()));
        assert_eq!(seen.aggregate(preset("vllm"), &ready, at * 1_000).gaps, []);
    }
    // The server was new, worked, and is new again: its page is the one from before.
    let (new, worked) = (vllm(0, 0, 0, 0), vllm(1, 0, 5, 5));
    let mut seen = Observations::default();
    let mut believed = None;
    for (at, page) in (1..).zip([new.clone(), worked].into_iter().chain(std::iter::repeat_n(new, 40))) {
        seen.record(&ready[0], at * 1_000, Ok(page));
        if at > 2 && seen.aggregate(preset("vllm"), &ready, at * 1_000).gaps.is_empty() {
            believed = believed.or(Some(at));
        }
    }
    assert_eq!(believed, Some(RECENT_MAX as u64 + 2), "when the first one is forgotten");
}

#[test]
fn three_identical_answers_of_a_pod_that_claims_to_work_are_frozen() {
    let mut seen = observed([("a", 1_000, Ok(vllm(3, 0, 10, 7))), ("a", 2_000, Ok(vllm(3, 0, 10, 7)))]);
    let ready = pods(&["a"]);
    assert!(seen.aggregate(preset("vllm"), &ready, 2_000).reading.is_some());
    seen.record(&ready[0], 3_000, Ok(vllm(3, 0, 10, 7)));
    let frozen = seen.aggregate(preset("vllm"), &ready, 3_000);
    assert_eq!(
        (frozen.reading, frozen.gaps),
        (None, vec![(Arc::from("a"), Gap::Absent(Why::Frozen))])
    );
    seen.record(&ready[0], 4_000, Ok(vllm(3, 0, 10, 8)));
    assert!(
        seen.aggregate(preset("vllm"), &ready, 4_000).reading.is_some(),
        "moves again"
    );
}

/// An idle server answers once a second, and once in `every` answers its page has moved by itself, for so many answers.
fn idles(seen: &mut Observations, from: u64, answers: u64, every: u64) -> u64 {
    for at in from..from + answers {
        let moves = u32::try_from(at / every).unwrap();
        seen.record(&Arc::from("a"), at * 1_000, Ok(vllm(0, 0, 10, moves)));
    }
    from + answers
}

/// The same page over and over: after how many answers it is no longer believed, if ever within two hundred.
fn stands_still(seen: &mut Observations, from: u64, page: &PodSignals) -> Option<u64> {
    (from..from + 200).find(|at| {
        seen.record(&Arc::from("a"), at * 1_000, Ok(page.clone()));
        let aggregate = seen.aggregate(preset("vllm"), &pods(&["a"]), at * 1_000);
        aggregate.gaps == [(Arc::from("a"), Gap::Absent(Why::Frozen))] && aggregate.reading.is_none()
    })
}

#[test]
fn a_page_that_never_moves_at_rest_is_that_of_an_idle_server() {
    let mut seen = Observations::default();
    assert_eq!(stands_still(&mut seen, 1, &vllm(0, 0, 10, 7)), None);
    let aggregate = seen.aggregate(preset("vllm"), &pods(&["a"]), 200_000);
    assert_eq!(aggregate.reading.unwrap().running_millis, Some(0));
}

#[test]
fn a_page_that_moves_at_rest_and_stops_is_no_proof_of_idleness() {
    for (every, most) in [(1, 10), (2, 10), (5, 25)] {
        let mut seen = Observations::default();
        let next = idles(&mut seen, 0, 120, every);
        let silent = stands_still(&mut seen, next, &vllm(0, 0, 10, 999));
        let after = silent.expect("found out") - next + 1;
        assert!(
            (10..=most).contains(&after),
            "{after} answers where one in {every} moves"
        );
        // It moves again: it is believed again.
        idles(&mut seen, silent.unwrap() + 1, 1, 1);
        let now_ms = (silent.unwrap() + 1) * 1_000;
        assert!(seen.aggregate(preset("vllm"), &pods(&["a"]), now_ms).reading.is_some());
    }
}

#[test]
fn what_moves_while_a_server_comes_to_rest_does_not_make_its_rest_suspicious() {
    let mut seen = Observations::default();
    seen.record(&Arc::from("a"), 0, Ok(vllm(3, 0, 10, 1_000)));
    // Averages fade for half a minute after the last request.
    let next = idles(&mut seen, 1, 30, 1);
    assert_eq!(stands_still(&mut seen, next, &vllm(0, 0, 10, 999)), None);
}

#[test]
fn a_standstill_that_ended_well_is_waited_for_the_next_time() {
    let mut seen = Observations::default();
    let next = idles(&mut seen, 0, 120, 1);
    let first = stands_still(&mut seen, next, &vllm(0, 0, 10, 9_999)).unwrap() - next + 1;
    let next = idles(&mut seen, next + 20, 40, 1);
    let second = stands_still(&mut seen, next, &vllm(0, 0, 10, 8_888)).unwrap() - next + 1;
    assert!(second >= 4 * first, "{second} after {first}");
}

#[test]
fn a_page_that_stood_still_from_the_first_look_is_judged_by_those_of_its_mates() {
    // (pods that move at rest, pods that never do): who is silent after forty answers
    let cases: [(&[&str], &[&str], &[&str]); 5] = [
        (&[], &["x"], &[]),
        (&["a"], &["x"], &["x"]),
        (&["a", "b"], &["x"], &["x"]),
        (&["a"], &["x", "y"], &[]),
        (&["a", "b"], &["x", "y"], &["x", "y"]),
    ];
    for (move_at_rest, stand, silent) in cases {
        let mut seen = Observations::default();
        let (ready, stand) = (pods(&[move_at_rest, stand].concat()), pods(stand));
        for at in 0..80 {
            for uid in pods(move_at_rest) {
                seen.record(&uid, at * 1_000, Ok(vllm(0, 0, 10, u32::try_from(at).unwrap())));
            }
            // They come later, and never say anything else.
            for uid in stand.iter().filter(|_| at >= 40) {
                seen.record(uid, at * 1_000, Ok(vllm(0, 0, 0, 0)));
            }
        }
        let told = seen.aggregate(preset("vllm"), &ready, 79_000);
        let expected: Vec<_> = pods(silent)
            .into_iter()
            .map(|uid| (uid, Gap::Absent(Why::Frozen)))
            .collect();
        assert_eq!(told.gaps, expected, "{move_at_rest:?} move, {stand:?} do not");
        // A page that moves once is one that moves.
        if let Some(uid) = expected.first().map(|(uid, _)| uid) {
            seen.record(uid, 80_000, Ok(vllm(0, 0, 0, 1)));
            let told = seen.aggregate(preset("vllm"), &ready, 80_000);
            assert!(told.gaps.iter().all(|(silent, _)| silent != uid), "{uid} moved");
        }
    }
}

#[test]
fn the_rate_is_what_finished_and_what_came_in_on_top() {
    let seen = observed([
        ("a", 1_000, Ok(vllm(3, 0, 10, 1))),
        ("a", 2_000, Ok(vllm(4, 1, 14, 2))),
        ("a", 3_000, Ok(vllm(5, 3, 20, 3))),
    ]);
    let rate = |now| {
        seen.aggregate(preset("vllm"), &pods(&["a"]), now)
            .reading
            .unwrap()
            .rate_millis
    };
    assert_eq!(rate(3_000), Some(7_500), "(20 - 10 + 8 - 3) in 2 s");
    assert_eq!(rate(6_500), Some(9_000), "the first point is no longer fresh");
    assert_eq!(rate(7_500), None, "one fresh point is no rate");
}

#[test]
fn a_pod_too_young_for_a_rate_is_one_that_has_not_spoken_beside_those_that_have_one() {
    let mut seen = observed([
        ("a", 1_000, Ok(vllm(3, 0, 10, 1))),
        ("a", 2_000, Ok(vllm(4, 1, 14, 2))),
        ("b", 1_900, Ok(vllm(2, 0, 0, 3))),
    ]);
    let told = |seen: &Observations, now| {
        let reading = seen.aggregate(preset("vllm"), &pods(&["a", "b"]), now).reading.unwrap();
        let running = reading.running_millis;
        ((reading.sampled, reading.expected), reading.rate_millis, running)
    };
    assert_eq!(
        told(&seen, 2_000),
        ((1, 2), Some(6_000), Some(6_000)),
        "it is busy, and may be busier"
    );
    seen.record(&"b".into(), 2_900, Ok(vllm(2, 0, 5, 4)));
    assert_eq!(told(&seen, 2_900), ((2, 2), Some(11_000), Some(6_000)));
    // Where nobody has one, there is none to miss.
    let young = observed([("a", 1_000, Ok(vllm(3, 0, 10, 1))), ("b", 1_000, Ok(vllm(2, 0, 0, 3)))]);
    assert_eq!(told(&young, 1_000), ((2, 2), None, Some(5_000)));
}

#[test]
fn a_server_without_queue_gives_its_rate_and_mean_latency() {
    let http = |body: &str| Ok(answer("http", body));
    let seen = observed([
        (
            "a",
            1_000,
            http(
                "http_requests_total 10\nhttp_request_duration_seconds_sum 4\nhttp_request_duration_seconds_count 10\n",
            ),
        ),
        (
            "a",
            3_000,
            http(
                "http_requests_total 16\nhttp_request_duration_seconds_sum 7\nhttp_request_duration_seconds_count 16\n",
            ),
        ),
    ]);
    let reading = seen.aggregate(preset("http"), &["a".into()], 3_000).reading.unwrap();
    assert_eq!((reading.rate_millis, reading.running_millis), (Some(3_000), None));
    let latency = |now| match seen.reading(preset("http"), "a", Role::Latency, now) {
        Reading::Fresh(sample) => Some(sample.value.get()),
        Reading::Stale(_) | Reading::Absent(_) => None,
    };
    assert_eq!((latency(3_000), latency(7_500)), (Some(0.5), None));
}

#[test]
fn a_gauge_that_appears_between_two_answers_is_no_arrival() {
    let http = |body: &str| Ok(answer("http", body));
    let seen = observed([
        ("a", 1_000, http("http_requests_total 10\n")),
        ("a", 2_000, http("http_requests_total 11\nhttp_requests_in_flight 8\n")),
        ("a", 3_000, http("http_requests_total 12\nhttp_requests_in_flight 9\n")),
    ]);
    let reading = seen.aggregate(preset("http"), &["a".into()], 3_000).reading.unwrap();
    assert_eq!(reading.rate_millis, Some(2_000), "(12 - 11 + 9 - 8) in 1 s");
}

#[test]
fn a_counter_that_falls_is_a_restart_and_gives_no_rate() {
    let mut seen = observed([
        ("a", 1_000, Ok(vllm(3, 0, 10, 1))),
        ("a", 2_000, Ok(vllm(3, 0, 20, 2))),
        ("a", 3_000, Ok(vllm(3, 0, 1, 3))),
    ]);
    let ready = pods(&["a"]);
    assert_eq!(
        seen.aggregate(preset("vllm"), &ready, 3_000)
            .reading
            .unwrap()
            .rate_millis,
        None
    );
    seen.record(&ready[0], 4_000, Ok(vllm(3, 0, 3, 4)));
    assert_eq!(
        seen.aggregate(preset("vllm"), &ready, 4_000)
            .reading
            .unwrap()
            .rate_millis,
        Some(2_000)
    );
}

#[test]
fn abandoned_requests_give_no_rate_instead_of_a_negative_one() {
    let seen = observed([("a", 1_000, Ok(vllm(9, 0, 10, 1))), ("a", 2_000, Ok(vllm(2, 0, 10, 2)))]);
    assert_eq!(
        seen.aggregate(preset("vllm"), &pods(&["a"]), 2_000)
            .reading
            .unwrap()
            .rate_millis,
        None
    );
}

#[test]
fn a_source_time_must_advance_and_the_first_one_proves_nothing() {
    let mut seen = observed([("a", 1_000, Ok(cpu(0.5, 500)))]);
    let ready = pods(&["a"]);
    let preset = preset("cpu");
    assert_eq!(
        seen.aggregate(preset, &ready, 1_000).gaps,
        [(Arc::from("a"), Gap::Stale)]
    );
    seen.record(&ready[0], 6_000, Ok(cpu(0.5, 500)));
    assert_eq!(
        seen.aggregate(preset, &ready, 6_000).gaps,
        [(Arc::from("a"), Gap::Stale)],
        "the same one again"
    );
    seen.record(&ready[0], 11_000, Ok(cpu(1.5, 15_500)));
    let reading = seen.aggregate(preset, &ready, 11_000).reading.unwrap();
    assert_eq!((reading.taken_ms, reading.utilization_permille), (11_000, Some(1_500)));
    for at in [16_000, 21_000, 55_000] {
        seen.record(&ready[0], at, Ok(cpu(0.1, if at == 21_000 { 14_000 } else { 15_500 })));
    }
    let replayed = seen.aggregate(preset, &ready, 56_000).reading.unwrap();
    assert_eq!(
        (replayed.taken_ms, replayed.utilization_permille),
        (11_000, Some(1_500)),
        "old news do not renew it"
    );
    assert_eq!(seen.aggregate(preset, &ready, 56_001).reading, None);
}

#[test]
fn utilization_is_averaged_and_rounded_to_the_nearest_thousandth() {
    let seen = observed([
        ("a", 1_000, Ok(cpu(0.5, 1))),
        ("a", 2_000, Ok(cpu(0.5, 2))),
        ("b", 1_000, Ok(cpu(0.9, 1))),
        ("b", 2_000, Ok(cpu(0.9, 2))),
        ("c", 1_000, Ok(cpu(0.9, 1))),
        ("c", 2_000, Ok(cpu(0.9, 2))),
    ]);
    let of = |uids: &[&str]| {
        seen.aggregate(preset("cpu"), &pods(uids), 2_000)
            .reading
            .unwrap()
            .utilization_permille
    };
    assert_eq!((of(&["a", "b"]), of(&["a", "b", "c"])), (Some(700), Some(767)));
}

#[test]
fn an_answer_that_arrives_late_does_not_replace_a_newer_one() {
    let seen = observed([("a", 2_000, Ok(vllm(3, 0, 10, 2))), ("a", 1_000, Ok(vllm(9, 0, 5, 1)))]);
    assert_eq!(
        seen.aggregate(preset("vllm"), &pods(&["a"]), 2_000)
            .reading
            .unwrap()
            .running_millis,
        Some(3_000)
    );
}

#[test]
fn a_pod_asked_for_ever_takes_no_more_memory() {
    let mut seen = Observations::default();
    for at in 0..1_000 {
        seen.record(&Arc::from("a"), u64::from(at) * 100, Ok(vllm(3, 0, at, at)));
    }
    assert_eq!(seen.pods["a"].points.len(), POINTS_MAX);
    assert_eq!(
        seen.aggregate(preset("vllm"), &pods(&["a"]), 99_900)
            .reading
            .unwrap()
            .rate_millis,
        Some(10_000)
    );
}

#[test]
fn forgotten_pods_start_anew() {
    let mut seen = observed([("a", 1_000, Ok(vllm(3, 0, 10, 2))), ("b", 1_000, Ok(vllm(3, 0, 10, 2)))]);
    seen.retain(|uid| uid == "b");
    let aggregate = seen.aggregate(preset("vllm"), &pods(&["a", "b"]), 1_000);
    assert_eq!((aggregate.reading.unwrap().sampled, aggregate.gaps.len()), (1, 1));
}

proptest! {
    #[test]
    fn every_ready_pod_is_sampled_or_a_gap_and_no_number_comes_from_a_gap(
        answers in proptest::collection::vec((0_usize..4, 0_u64..2_000, 0_u8..4, 0_u32..5), 0..40),
        now_after in 0_u64..10_000,
    ) {
        let uids = pods(&["a", "b", "c", "d"]);
        let mut seen = Observations::default();
        let mut now = 0;
        for (pod, wait, what, number) in answers {
            now += wait;
            let outcome = match what {
                0 => Err(Why::Timeout),
                1 => Ok(answer("vllm", &format!("vllm:num_requests_running {number}\n"))),
                _ => Ok(vllm(number, number, number, u32::try_from(now).unwrap() / 700)),
            };
            seen.record(&uids[pod], now, outcome);
        }
        now += now_after;
        let aggregate = seen.aggregate(preset("vllm"), &uids, now);
        let sampled = aggregate.reading.map_or(0, |reading| reading.sampled);
        let silent = |uid: &Arc<str>| aggregate.gaps.iter().any(|(gap, _)| gap == uid);
        let spoke: Vec<&Arc<str>> = uids.iter().filter(|uid| !silent(uid)).collect();
        let rated = spoke.iter().filter(|uid| {
            let alone = seen.aggregate(preset("vllm"), &[Arc::clone(uid)], now).reading;
            alone.is_some_and(|reading| reading.rate_millis.is_some())
        });
        // Where some have a rate, who has none yet counts as one that has not spoken.
        let counted = match rated.count() {
            0 => spoke.len(),
            rated => rated,
        };
        prop_assert_eq!(usize::try_from(sampled).unwrap(), counted);
        if let Some(reading) = aggregate.reading {
            prop_assert!(now - reading.taken_ms <= 5_000);
            prop_assert!(reading.running_millis.is_some() && reading.running_millis == reading.waiting_millis);
        }
    }
}
