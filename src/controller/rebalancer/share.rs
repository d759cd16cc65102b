//! Pure: what a source says of a stage as a whole, divided over its variants: the core hears of load by variant.
//!
//! Workers take from one queue as fast as they can, so each variant has the share that its Ready replicas have of what all
//! of them serve. Where nobody is Ready all of it is the first one's: it says that there is work, which wakes the stage.

use crate::rebalance::world::Reading;
use crate::signals::presets::{Preset, Role};
use crate::signals::stage::{StageAnswers, StageKey};
use crate::signals::{Finite, Reading as Known};

/// A variant that has a part in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Ready replicas.
    pub(super) ready: u32,
    /// What one serves.
    pub(super) capacity_millis: u64,
}

/// What each part has to do with the last answer; nothing if something that the preset requires is not fresh.
pub(super) fn readings(
    answers: &StageAnswers,
    stage: &StageKey,
    preset: &'static Preset,
    parts: &[Part],
    now_ms: u64,
) -> Option<Vec<Reading>> {
    let fresh = |role| match answers.reading(stage, preset, role, now_ms) {
        Known::Fresh(sample) => Some(sample.value),
        Known::Stale(_) | Known::Absent(_) => None,
    };
    if preset.required().any(|role| fresh(role).is_none()) {
        return None;
    }
    let taken_ms = answers.taken_ms(stage, preset)?;
    let total = |role| fresh(role).and_then(Finite::thousandths);
    let (waiting, running, rate) = (total(Role::Queued), total(Role::Running), total(Role::Throughput));
    let utilization = total(Role::Utilization).and_then(|permille| u32::try_from(permille).ok());
    let weights: Vec<u128> = parts.iter().map(weight).collect();
    let sum: u128 = weights.iter().sum();
    let mut before = 0_u128;
    let readings = parts.iter().zip(&weights).enumerate().map(|(at, (part, weight))| {
        // Differences of rounded running sums: no part of a request is lost or counted twice.
        let after = before + weight;
        let share = |whole: u64| {
            let upto = |weight: u128| (u128::from(whole) * weight).checked_div(sum);
            match (upto(after), upto(before)) {
                (Some(after), Some(before)) => u64::try_from(after - before).unwrap_or(u64::MAX),
                _ if at == 0 => whole,
                _ => 0,
            }
        };
        let reading = Reading {
            taken_ms,
            sampled: part.ready,
            expected: part.ready,
            running_millis: running.map(share),
            waiting_millis: waiting.map(share),
            utilization_permille: utilization,
            rate_millis: rate.map(share),
        };
        before = after;
        reading
    });
    Some(readings.collect())
}

fn weight(part: &Part) -> u128 {
    u128::from(part.ready) * u128::from(part.capacity_millis.max(1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::signals::Why;
    use crate::signals::stage::{StageAnswer, StageNumbers};

    /// Queued and running; fresh for some seconds.
    fn preset() -> &'static Preset {
        Preset::named("vllm").unwrap()
    }

    fn answers(waiting: f64, running: Result<f64, Why>) -> (StageAnswers, StageKey) {
        let stage = StageKey {
            namespace: "rag".into(),
            pipeline: "support".into(),
            stage: "embed".into(),
        };
        let mut answers = StageAnswers::default();
        let mut roles = BTreeMap::from([
            (Role::Queued, Finite::try_from(waiting)),
            (Role::Running, running.and_then(Finite::try_from)),
        ]);
        for role in preset().required() {
            roles.entry(role).or_insert(Finite::try_from(0.0));
        }
        answers.record(StageAnswer {
            stage: stage.clone(),
            preset: preset(),
            received_ms: 10_000,
            outcome: Ok(StageNumbers {
                roles,
                source_ms: None,
                age_ms: Some(2_000),
            }),
        });
        (answers, stage)
    }

    fn parts(parts: &[(u32, u64)]) -> Vec<Part> {
        let parts = parts.iter();
        parts
            .map(|&(ready, capacity_millis)| Part { ready, capacity_millis })
            .collect()
    }

    #[test]
    fn a_queue_is_shared_by_what_ready_replicas_serve_and_nothing_of_it_is_lost() {
        let (answers, stage) = answers(10.0, Ok(3.0));
        let parts = parts(&[(1, 1_000), (1, 2_000), (0, 9_000)]);
        let readings = readings(&answers, &stage, preset(), &parts, 10_500).unwrap();
        let waiting: Vec<u64> = readings.iter().map(|reading| reading.waiting_millis.unwrap()).collect();
        assert_eq!(waiting, [3_333, 6_667, 0]);
        let running: u64 = readings.iter().map(|reading| reading.running_millis.unwrap()).sum();
        assert_eq!(running, 3_000);
        assert!(
            readings.iter().all(|reading| reading.taken_ms == 8_000),
            "two seconds old when it came"
        );
    }

    #[test]
    fn work_without_a_replica_is_the_first_ones_and_proves_itself() {
        let (answers, stage) = answers(5.0, Ok(0.0));
        let readings = readings(&answers, &stage, preset(), &parts(&[(0, 1_000), (0, 1_000)]), 10_500).unwrap();
        assert_eq!(readings[0].waiting_millis, Some(5_000));
        assert_eq!((readings[0].sampled, readings[0].expected), (0, 0));
        assert_eq!(readings[1].waiting_millis, Some(0));
    }

    #[test]
    fn a_number_that_is_missing_or_old_is_no_reading() {
        let parts = parts(&[(1, 1_000)]);
        let (missing, stage) = answers(5.0, Err(Why::NoSeries));
        assert_eq!(readings(&missing, &stage, preset(), &parts, 10_500), None);
        let (old, stage) = answers(5.0, Ok(1.0));
        assert_eq!(readings(&old, &stage, preset(), &parts, 10_000 + 600_000), None);
        assert_eq!(readings(&StageAnswers::default(), &stage, preset(), &parts, 0), None);
    }
}
