//! Pure: numbers that speak of a stage as a whole and of none of its pods, such as the length of its queue at a broker.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::presets::{Preset, Role};
use super::{Finite, Reading, Sample, Why};

/// A stage by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageKey {
    /// Namespace of its pipeline.
    pub namespace: Arc<str>,
    /// Its pipeline.
    pub pipeline: Arc<str>,
    /// Its name.
    pub stage: Arc<str>,
}

/// What a source said of a stage in one answer. Counts are requests, `throughput` is requests per second, ratios are 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct StageNumbers {
    /// Each role that the preset has; no other.
    pub roles: BTreeMap<Role, Result<Finite, Why>>,
    /// When the oldest of them was measured, on the source's clock.
    pub source_ms: Option<i64>,
    /// How long before the answer that was, where the source's own clock says so. If it does not, only an advance of
    /// `source_ms` from answer to answer shows that the source is alive.
    pub age_ms: Option<u64>,
}

/// One answer about one stage, or the reason for its absence.
#[derive(Clone, Debug, PartialEq)]
pub struct StageAnswer {
    /// The stage.
    pub stage: StageKey,
    /// What it was asked by: a stage may have several presets, one per profile.
    pub preset: &'static Preset,
    /// When the question was sent, or the attempt ended.
    pub received_ms: u64,
    /// What the source said.
    pub outcome: Result<StageNumbers, Why>,
}

/// The last answer about each stage, by stage and preset.
#[derive(Clone, Debug, Default)]
pub struct StageAnswers {
    known: BTreeMap<(StageKey, &'static str), Known>,
}

#[derive(Clone, Debug)]
struct Known {
    answer: Option<(u64, StageNumbers)>,
    /// Why the last attempt gave nothing, if it did.
    failure: Option<Why>,
    /// The source's time has advanced since the stage was first asked about.
    advancing: bool,
}

impl StageAnswers {
    /// Takes an answer. One that is older than the last, or repeats it, is dropped: repetition does not make it younger.
    pub fn record(&mut self, answer: StageAnswer) {
        let key = (answer.stage, answer.preset.name());
        let known = self.known.entry(key).or_insert(Known {
            answer: None,
            failure: None,
            advancing: false,
        });
        let numbers = match answer.outcome {
            Ok(numbers) => numbers,
            Err(why) => {
                known.failure = Some(why);
                return;
            }
        };
        if let Some((received_ms, before)) = &known.answer {
            if answer.received_ms < *received_ms {
                return;
            }
            known.failure = None;
            if numbers
                .source_ms
                .zip(before.source_ms)
                .is_some_and(|(now, before)| now <= before)
            {
                return;
            }
            known.advancing |= numbers.source_ms.is_some() && before.source_ms.is_some();
        }
        known.failure = None;
        known.answer = Some((answer.received_ms, numbers));
    }

    /// Forgets the stages that are not to be kept.
    pub fn retain(&mut self, mut keep: impl FnMut(&StageKey) -> bool) {
        self.known.retain(|(stage, _), _| keep(stage));
    }

    /// What is known of one number of a stage now.
    pub fn reading(&self, stage: &StageKey, preset: &'static Preset, role: Role, now_ms: u64) -> Reading {
        let Some(known) = self.known.get(&(stage.clone(), preset.name())) else {
            return Reading::Absent(Why::NoTarget);
        };
        let Some((received_ms, numbers)) = &known.answer else {
            return Reading::Absent(known.failure.unwrap_or(Why::NoTarget));
        };
        let value = match numbers.roles.get(&role) {
            None => return Reading::Absent(Why::NoSeries),
            Some(Err(why)) => return Reading::Absent(*why),
            Some(Ok(value)) => *value,
        };
        let sample = Sample {
            value,
            received_ms: *received_ms,
            source_ms: numbers.source_ms,
        };
        let age_ms = now_ms
            .saturating_sub(*received_ms)
            .saturating_add(numbers.age_ms.unwrap_or_default());
        let dated = numbers.age_ms.is_some() || numbers.source_ms.is_none() || known.advancing;
        if dated
            && preset
                .freshness_ms(role)
                .is_some_and(|freshness_ms| age_ms <= freshness_ms)
        {
            Reading::Fresh(sample)
        } else {
            Reading::Stale(sample)
        }
    }

    /// When the last numbers of a stage were measured, on the local clock: as long before the answer as the source says.
    pub fn taken_ms(&self, stage: &StageKey, preset: &'static Preset) -> Option<u64> {
        let (received_ms, numbers) = self.known.get(&(stage.clone(), preset.name()))?.answer.as_ref()?;
        Some(received_ms.saturating_sub(numbers.age_ms.unwrap_or_default()))
    }

    /// Why the last attempt at a stage gave nothing, if it did.
    pub fn failure(&self, stage: &StageKey, preset: &'static Preset) -> Option<Why> {
        self.known.get(&(stage.clone(), preset.name()))?.failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> StageKey {
        StageKey {
            namespace: "rag".into(),
            pipeline: "support".into(),
            stage: "embed".into(),
        }
    }

    /// Fresh for 45 s, with utilization as its only role.
    fn preset() -> &'static Preset {
        Preset::named("cpu").unwrap()
    }

    fn answer(received_ms: u64, source_ms: Option<i64>, age_ms: Option<u64>, value: f64) -> StageAnswer {
        let roles = BTreeMap::from([(Role::Utilization, Finite::try_from(value))]);
        StageAnswer {
            stage: key(),
            preset: preset(),
            received_ms,
            outcome: Ok(StageNumbers {
                roles,
                source_ms,
                age_ms,
            }),
        }
    }

    fn failed(received_ms: u64, why: Why) -> StageAnswer {
        StageAnswer {
            outcome: Err(why),
            ..answer(received_ms, None, None, 0.0)
        }
    }

    fn word(answers: &StageAnswers, now_ms: u64) -> String {
        match answers.reading(&key(), preset(), Role::Utilization, now_ms) {
            Reading::Fresh(sample) => format!("fresh {}", sample.value.get()),
            Reading::Stale(sample) => format!("stale {}", sample.value.get()),
            Reading::Absent(why) => format!("{why:?}"),
        }
    }

    #[test]
    fn a_number_is_fresh_while_both_its_ages_together_are() {
        let mut answers = StageAnswers::default();
        assert_eq!(word(&answers, 0), "NoTarget");
        answers.record(answer(1_000, Some(500_000), Some(30_000), 0.5));
        assert_eq!(word(&answers, 16_000), "fresh 0.5");
        assert_eq!(word(&answers, 16_001), "stale 0.5");
        // The same sample again is no younger.
        answers.record(answer(6_000, Some(500_000), Some(0), 0.5));
        assert_eq!(word(&answers, 16_001), "stale 0.5");
        answers.record(answer(20_000, Some(515_000), Some(34_000), 0.6));
        assert_eq!(word(&answers, 31_000), "fresh 0.6");
    }

    #[test]
    fn a_source_of_unknown_age_has_to_advance_first() {
        let mut answers = StageAnswers::default();
        answers.record(answer(1_000, Some(7), None, 0.5));
        assert_eq!(word(&answers, 1_000), "stale 0.5");
        answers.record(answer(2_000, Some(7), None, 0.9));
        assert_eq!(word(&answers, 2_000), "stale 0.5");
        answers.record(answer(3_000, Some(8), None, 0.6));
        assert_eq!(word(&answers, 3_000), "fresh 0.6");
    }

    #[test]
    fn a_failure_leaves_the_last_number_to_age_and_is_told() {
        let mut answers = StageAnswers::default();
        answers.record(failed(500, Why::Denied));
        assert_eq!(word(&answers, 500), "Denied");
        answers.record(answer(1_000, None, None, 0.5));
        assert_eq!(answers.failure(&key(), preset()), None);
        answers.record(failed(2_000, Why::Timeout));
        assert_eq!(word(&answers, 46_000), "fresh 0.5");
        assert_eq!(word(&answers, 46_001), "stale 0.5");
        assert_eq!(answers.failure(&key(), preset()), Some(Why::Timeout));
        let queued = answers.reading(&key(), preset(), Role::Queued, 2_000);
        assert_eq!(queued, Reading::Absent(Why::NoSeries));
        answers.retain(|_| false);
        assert_eq!(word(&answers, 46_001), "NoTarget");
    }

    #[test]
    fn an_answer_that_comes_late_does_not_replace_a_newer_one() {
        let mut answers = StageAnswers::default();
        answers.record(answer(2_000, None, None, 0.5));
        answers.record(answer(1_000, None, None, 0.9));
        assert_eq!(word(&answers, 2_000), "fresh 0.5");
    }
}
