//! How often the operator decided and shifted, told by the API server: its audit log and what the observer saw. The
//! operator's own log has no say in it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::reaction::Write;
use crate::observe::{Sample, StageKey};

/// Scale writes to one stage that came in within so long of the first are one decision.
const ONE_DECISION: f64 = 0.1;
/// Replicas that are given up are taken for the other half of a shift for so long after the new ones were asked for.
const ONE_SHIFT: Duration = Duration::from_mins(1);

/// How `decisions` is counted.
pub const DECISIONS: &str = "acknowledged scale writes of the operator in the API server's audit log, from kubectl apply on; writes to one stage that \
                             came in within 100 ms of the first of them are one decision";
/// How `shifts` is counted.
pub const SHIFTS: &str = "times the replicas asked for fell on one pool of a stage after they had risen on another pool of that stage within the \
                          minute before, seen by the observer; each risen replica answers for one fallen replica at most";

/// Groups of writes to one stage that came in within 100 ms of the group's first. `deployments` says which stage and pool
/// a Deployment is; one that is not there is a stage of its own. Writes may be in any order.
pub fn decisions(writes: &[Write], deployments: &BTreeMap<String, (String, String)>) -> u64 {
    let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for write in writes {
        let name = &write.deployment;
        let stage = deployments.get(name).map_or(name, |(stage, _)| stage);
        times.entry(stage).or_default().push(write.received_unix_s);
    }
    let groups = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        let mut first = f64::NEG_INFINITY;
        times.retain(|at| {
            let opens = at - first > ONE_DECISION;
            if opens {
                first = *at;
            }
            opens
        });
        times.len() as u64
    };
    times.into_values().map(groups).sum()
}

/// What one stage has done lately.
#[derive(Default)]
struct Recent {
    /// Replicas asked for by pool.
    now: BTreeMap<String, i64>,
    /// Rises that nothing answers for yet, oldest first: when, on which pool, how many replicas.
    risen: VecDeque<(Duration, String, i64)>,
}

impl Recent {
    /// Whether a fall of `replicas` on `pool` gives up what has risen on another pool; takes that out.
    fn answers(&mut self, at: Duration, pool: &str, replicas: i64) -> bool {
        self.risen.retain(|(since, ..)| at.saturating_sub(*since) <= ONE_SHIFT);
        let mut left = replicas;
        for (_, _, count) in self.risen.iter_mut().filter(|(_, other, _)| other != pool) {
            let taken = left.min(*count);
            *count -= taken;
            left -= taken;
        }
        self.risen.retain(|(.., count)| *count > 0);
        left < replicas
    }
}

/// Times replicas of a stage were given up on one pool for replicas that had been asked for on another pool within the
/// minute before. Samples in the order seen.
pub fn shifts(samples: &[Sample]) -> u64 {
    let mut stages: BTreeMap<&StageKey, Recent> = BTreeMap::new();
    let mut shifts = 0;
    for Sample {
        at, key, pool, spec, ..
    } in samples
    {
        let recent = stages.entry(key).or_default();
        let before = recent.now.insert(pool.clone(), *spec).unwrap_or(0);
        if *spec > before {
            recent.risen.push_back((*at, pool.clone(), spec - before));
        } else if *spec < before && recent.answers(*at, pool, before - spec) {
            shifts += 1;
        }
    }
    shifts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(deployment: &str, received_unix_s: f64) -> Write {
        Write {
            deployment: deployment.to_owned(),
            received_unix_s,
            answered_unix_s: received_unix_s + 0.01,
        }
    }

    #[test]
    fn writes_to_one_stage_within_a_tenth_of_a_second_are_one_decision() {
        let of = |stage: &str, pool: &str| (stage.to_owned(), pool.to_owned());
        let deployments = [
            ("gen-l4".to_owned(), of("generate", "l4")),
            ("gen-h100".to_owned(), of("generate", "h100")),
            ("tools-x86".to_owned(), of("tools", "x86")),
        ]
        .into();
        let count = |writes: &[Write]| decisions(writes, &deployments);
        assert_eq!(count(&[]), 0);
        assert_eq!(count(&[write("gen-h100", 10.09), write("gen-l4", 10.0)]), 1);
        assert_eq!(count(&[write("gen-h100", 10.0), write("gen-l4", 10.2)]), 2);
        assert_eq!(
            count(&[write("gen-l4", 10.0), write("tools-x86", 10.0)]),
            2,
            "two stages"
        );
        // A group does not grow by its last member.
        let chain = [10.0, 10.08, 10.16].map(|at| write("gen-l4", at));
        assert_eq!(count(&chain), 2);
        assert_eq!(
            count(&[write("gone", 10.0), write("gen-l4", 10.0)]),
            2,
            "no stage is known"
        );
    }

    fn shifted(changes: &[(u64, &str, &str, i64)]) -> u64 {
        let sample = |(second, stage, pool, spec): &(u64, &str, &str, i64)| Sample {
            at: Duration::from_secs(*second),
            key: StageKey {
                namespace: "agents".into(),
                pipeline: "chat".into(),
                stage: (*stage).to_owned(),
            },
            pool: (*pool).to_owned(),
            spec: *spec,
            ready: 0,
            revision: *second,
            unit_cost_micros: None,
        };
        shifts(&changes.iter().map(sample).collect::<Vec<_>>())
    }

    #[test]
    fn a_shift_gives_up_replicas_for_ones_that_had_come_on_another_pool() {
        let moved = [(0, "g", "l4", 2), (100, "g", "h100", 2), (130, "g", "l4", 0)];
        assert_eq!(shifted(&moved), 1);
        let late = [(0, "g", "l4", 2), (100, "g", "h100", 2), (161, "g", "l4", 0)];
        assert_eq!(shifted(&late), 0, "more than a minute later");
        let scaled = [(0, "g", "l4", 2), (100, "g", "l4", 4), (130, "g", "l4", 2)];
        assert_eq!(shifted(&scaled), 0, "the same pool");
        let elsewhere = [(0, "g", "l4", 2), (100, "t", "h100", 2), (130, "g", "l4", 0)];
        assert_eq!(shifted(&elsewhere), 0, "another stage");
        let breaks_first = [(0, "g", "l4", 2), (100, "g", "l4", 0), (101, "g", "h100", 2)];
        assert_eq!(shifted(&breaks_first), 0, "nothing had come yet");
        let ready_only = [
            (0, "g", "l4", 2),
            (100, "g", "h100", 2),
            (101, "g", "h100", 2),
            (102, "g", "l4", 2),
        ];
        assert_eq!(shifted(&ready_only), 0, "nothing was given up");
    }

    #[test]
    fn a_risen_replica_answers_for_one_fallen_replica() {
        let two_steps = [
            (0, "g", "l4", 2),
            (100, "g", "h100", 2),
            (110, "g", "l4", 1),
            (120, "g", "l4", 0),
        ];
        assert_eq!(shifted(&two_steps), 2, "one of two each");
        let one_risen = [
            (0, "g", "l4", 2),
            (100, "g", "h100", 1),
            (110, "g", "l4", 1),
            (120, "g", "l4", 0),
        ];
        assert_eq!(shifted(&one_risen), 1, "the second has no counterpart");
        let at_once = [(0, "g", "l4", 2), (100, "g", "h100", 1), (110, "g", "l4", 0)];
        assert_eq!(shifted(&at_once), 1, "one time, though one of two has no counterpart");
    }
}
