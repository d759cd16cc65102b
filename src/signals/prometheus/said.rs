//! Pure: what the numbers of one pod or stage amount to as one answer.

use std::collections::BTreeMap;

use super::question::{Number, Numbers, Signal};
use crate::signals::exposition::fingerprint;
use crate::signals::presets::Role;
use crate::signals::stage::StageNumbers;
use crate::signals::{Finite, PodSignals, Why};

/// The numbers of one answer that count, and how old they are together.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    roles: BTreeMap<Role, Result<Finite, Why>>,
    /// When the oldest number was measured: Unix time in milliseconds on the source's clock.
    pub source_ms: i64,
    /// How long before the answer that was, on the same clock.
    pub age_ms: u64,
    /// Differs from the last answer's as soon as one series has a new sample.
    pub fingerprint: u64,
}

impl Said {
    /// Takes the numbers together.
    ///
    /// # Errors
    /// There is none: the reason of the first that was needed.
    pub fn of(numbers: &Numbers, signals: &[Signal]) -> Result<Self, Why> {
        let terms = |role: Role| signals.iter().find(|signal| signal.role == role);
        // What may be missing must not age what may not.
        let counted = |role: Role, number: &Result<Number, Why>| match (terms(role), number) {
            (Some(terms), Ok(number)) if terms.optional && number.age_ms > terms.freshness_ms => Err(Why::Frozen),
            (_, number) => *number,
        };
        let numbers: Numbers = numbers
            .iter()
            .map(|(role, number)| (*role, counted(*role, number)))
            .collect();
        let found: Vec<&Number> = numbers.values().filter_map(|number| number.as_ref().ok()).collect();
        let (Some(source_ms), Some(age_ms)) = (
            found.iter().map(|number| number.source_ms).min(),
            found.iter().map(|number| number.age_ms).max(),
        ) else {
            let needed = |role: &Role| terms(*role).is_some_and(|terms| !terms.optional);
            let missing = numbers.iter().find(|(role, _)| needed(role)).or(numbers.iter().next());
            return Err(missing.and_then(|(_, number)| number.err()).unwrap_or(Why::NoSeries));
        };
        let measured: Vec<u8> = found
            .iter()
            .flat_map(|number| [number.source_ms.to_le_bytes(), number.value.get().to_le_bytes()])
            .flatten()
            .collect();
        Ok(Self {
            roles: numbers
                .into_iter()
                .map(|(role, number)| (role, number.map(|number| number.value)))
                .collect(),
            source_ms,
            age_ms,
            fingerprint: fingerprint(&measured),
        })
    }

    /// As the answer of a pod. It has no source time, because its age is known: it is in the time of receipt.
    pub fn of_pod(&self) -> PodSignals {
        let role = |role: Role| self.roles.get(&role).copied().unwrap_or(Err(Why::NoSeries));
        PodSignals {
            running: role(Role::Running),
            waiting: role(Role::Queued),
            cache_use: role(Role::CacheUse),
            utilization: role(Role::Utilization),
            finished: Err(Why::NoSeries),
            rate: role(Role::Throughput),
            served: Err(Why::NoSeries),
            source_ms: None,
            fingerprint: self.fingerprint,
        }
    }

    /// As the answer about a stage.
    pub fn of_stage(self) -> StageNumbers {
        StageNumbers {
            roles: self.roles,
            source_ms: Some(self.source_ms),
            age_ms: Some(self.age_ms),
        }
    }
}
