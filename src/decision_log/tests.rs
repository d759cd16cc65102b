//! Golden logs, and what is done with logs that are not whole.

use std::io::Read as _;

use super::*;
use crate::simulate::demand::initial;
use crate::simulate::engine::{Fault, Options, run};
use crate::simulate::fixture::{chain, two_pools};
use crate::simulate::load::{Change, Load};
use crate::simulate::policy::Knobs;
use crate::simulate::policy::tiercel::Tiercel;
use crate::simulate::scenario::Scenario;

fn log(scenario: &Scenario, load: &str, faults: Vec<Fault>) -> String {
    let nowhere = std::path::Path::new("nowhere");
    let load = Load::named(
        load,
        nowhere,
        Change {
            speed: 24.0,
            ..Change::NONE
        },
        1,
    )
    .unwrap();
    let mut policy = Tiercel::new(scenario, &Knobs::new()).recording();
    let options = Options {
        faults,
        ..Options::default()
    };
    run(
        scenario,
        &load,
        &initial(scenario, &load),
        ("tiercel", &mut policy),
        &options,
    );
    let mut log = Vec::new();
    begin(&mut log).unwrap();
    for step in policy.recorded() {
        write(&mut log, step.now_ms, &step.events, &step.decisions).unwrap();
    }
    String::from_utf8(log).unwrap()
}

fn goldens() -> [(&'static str, String); 2] {
    let fault = Fault {
        pool: 0,
        from_ms: 40_000,
        until_ms: 90_000,
        percent: 20,
    };
    [
        ("rise", log(&chain(), "step:0.15:0.6", Vec::new())),
        ("lost_pool", log(&two_pools(8, 8), "steady:0.3", vec![fault])),
    ]
}

#[test]
fn golden_logs_replay_to_the_byte() {
    for (name, now) in goldens() {
        let path = format!("{}/src/simulate/golden/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
        if std::env::var("UPDATE_GOLDEN").is_ok() {
            std::fs::write(&path, &now).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap();
        let replayed = replay(golden.as_bytes()).unwrap();
        assert!(
            replayed.decisions >= 4,
            "{name}: {} decisions say little",
            replayed.decisions
        );
        let why = "the core decides otherwise; if that is meant, UPDATE_GOLDEN=1 writes the logs anew";
        assert_eq!(
            replayed.different,
            0,
            "{name}: {why}\n{}",
            replayed.differences.join("\n")
        );
        let differs = golden.lines().zip(now.lines()).position(|(then, now)| then != now);
        assert!(
            golden == now,
            "{name}: the simulated run differs from line {differs:?} on; {why}"
        );
    }
}

#[test]
fn another_decision_is_shown_with_both_sides() {
    let (_, log) = &goldens()[0];
    let at = log.find("\"moves\":[[").unwrap() + "\"moves\":[[".len();
    let (before, after) = log.split_at(at);
    let changed = format!("{before}9{after}");
    let replayed = replay(changed.as_bytes()).unwrap();
    assert_eq!(replayed.different, 1);
    let shown = &replayed.differences[0];
    assert!(
        shown.contains("\n  - {") && shown.contains("\n  + {") && shown.contains("[[9"),
        "{shown}"
    );
}

#[test]
fn what_is_no_log_of_this_version_is_refused() {
    let fails = |text: &str| replay(text.as_bytes()).unwrap_err().to_string();
    assert!(fails("").contains("no decision log"));
    assert!(fails("{\"version\":1}").contains("no decision log"));
    assert!(fails("{\"log\":\"tiercel decision log\",\"version\":9}").contains("version 9"));
    let torn = fails("{\"log\":\"tiercel decision log\",\"version\":1}\n{\"at_ms\":1,\"even");
    assert!(torn.contains("line 2"), "{torn}");
}

/// A log of three parts: whole, with a gap in front of its third step, and whole again.
fn with_a_gap() -> (usize, String) {
    let (_, log) = &goldens()[0];
    let steps = log.lines().count() - 1;
    let mut gap = Vec::new();
    let why = Gap {
        steps: 2,
        because: "queue full".to_owned(),
    };
    write_gap(&mut gap, &why).unwrap();
    let (head, tail) = log.split_at(log.match_indices('\n').nth(2).unwrap().0 + 1);
    let gap = String::from_utf8(gap).unwrap();
    (steps, format!("{log}{head}{gap}{tail}{log}"))
}

#[test]
fn behind_a_gap_nothing_is_replayed_up_to_the_next_beginning() {
    let (steps, log) = with_a_gap();
    let replayed = replay(log.as_bytes()).unwrap();
    assert_eq!((replayed.starts, replayed.different), (3, 0), "{replayed:?}");
    assert_eq!(
        (replayed.steps, replayed.skipped),
        (2 * steps + 2, steps - 2),
        "{replayed:?}"
    );
    assert_eq!(replayed.gaps[0].1.steps, 2);
    // The line is counted over the whole log: a beginning and all steps, a beginning and two steps, the gap.
    assert_eq!(replayed.gaps[0].0, steps + 1 + 3 + 1);
}

#[test]
fn a_log_in_two_files_replays_as_one_and_its_second_half_not_alone() {
    let (_, log) = &goldens()[1];
    let whole = replay(log.as_bytes()).unwrap();
    let middle = log.match_indices('\n').nth(20).unwrap().0 + 1;
    let mut second = Vec::new();
    go_on(&mut second).unwrap();
    second.extend_from_slice(&log.as_bytes()[middle..]);
    let replayed = replay(log.as_bytes()[..middle].chain(second.as_slice())).unwrap();
    assert_eq!(replayed, whole);
    let alone = replay(second.as_slice()).unwrap_err();
    assert!(matches!(alone, Error::Continues), "{alone}");
}

#[test]
fn what_people_are_told_is_not_replayed() {
    let (_, log) = &goldens()[0];
    let told = log.replace("\"at_ms\"", "\"told\":[{\"pipeline\":\"chat\"}],\"at_ms\"");
    // Decisions have a time of their own.
    let told = told.replace(
        "{\"advisory\":false,\"told\":[{\"pipeline\":\"chat\"}],",
        "{\"advisory\":false,",
    );
    assert_eq!(replay(told.as_bytes()).unwrap(), replay(log.as_bytes()).unwrap());
}

/// Every text of a JSON value but the names of fields.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(all) => all.iter().for_each(|one| texts(one, found)),
        Value::Object(all) => all.values().for_each(|one| texts(one, found)),
        _ => {}
    }
}

#[test]
fn a_log_holds_numbers_and_closed_words_only() {
    for (name, log) in goldens() {
        for line in log.lines().skip(1) {
            let mut found = Vec::new();
            texts(&serde_json::from_str(line).unwrap(), &mut found);
            let free = found.iter().find(|text| {
                let word = |part: &str| part.chars().all(|letter| letter.is_ascii_alphanumeric());
                !text.split(['(', ')', ',', ' ']).all(word)
            });
            assert_eq!(free, None, "{name}: {line}");
        }
    }
}

#[test]
fn every_kind_of_event_comes_back_as_it_was() {
    use crate::rebalance::propose::{CeilingPrice, Certificate, Keeper, On, Proposal};
    use crate::rebalance::world::{
        DryReason, Event as Told, Learned, Objective, PipelineIdx, PoolIdx, Reading, StageIdx, Subject, VariantIdx,
    };

    let mut world = chain().world;
    world.pipelines[0].objective = Some(Objective {
        latency_ms: 1_500,
        percentile: 95,
    });
    let variant = VariantIdx(1);
    let reading = Reading {
        taken_ms: 9,
        sampled: 1,
        expected: 2,
        running_millis: Some(3),
        waiting_millis: None,
        utilization_permille: Some(4),
        rate_millis: Some(5),
    };
    let proposal = Proposal {
        world: 7,
        counts: vec![(variant, 3)],
        certificate: Certificate {
            gap_ppm: Some(1_000),
            gap_in_force_ppm: None,
            prices: vec![(PoolIdx(1), 2, 30)],
            ceilings: [
                (Keeper::Pipeline(PipelineIdx(3)), On::Cost),
                (Keeper::Shared(0), On::Power),
            ]
            .map(|(of, on)| CeilingPrice { of, on, micros: 40 })
            .to_vec(),
        },
    };
    let learned = Learned {
        declared: 2_000,
        value: 1_500,
        samples: 40,
    };
    let of = |subject| Told::Learned { subject, learned };
    let events = [
        Told::World(world),
        of(Subject::Capacity(variant)),
        of(Subject::Startup(variant)),
        of(Subject::Calls(StageIdx(2))),
        Told::Replicas {
            variant,
            desired: 2,
            ready: 1,
        },
        Told::Leaving { variant, count: 1 },
        Told::Reading { variant, reading },
        Told::Dry {
            variant,
            reason: DryReason::CannotStart,
        },
        Told::Proposal(Box::new(proposal)),
    ];
    for told in events {
        let text = serde_json::to_string(&Event::from(&told)).unwrap();
        let back: Event = serde_json::from_str(&text).unwrap();
        assert_eq!(Told::from(back), told, "{text}");
    }
}
