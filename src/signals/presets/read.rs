//! Samples of one pod -> its signals: pick the series, convert the unit, check the range, combine.

use std::collections::BTreeSet;

use super::{Combine, Kind, Preset, Role, Selection, Signal};
use crate::signals::exposition::{Exposition, Sample, Value};
use crate::signals::{Finite, PodSignals, Why};

/// Beyond this a count is a mistake or a lie, not a queue.
const COUNT_MAX: f64 = 1e9;

/// A counter beyond this no longer counts every request: doubles end there.
const COUNTER_MAX: f64 = 9_007_199_254_740_992.0;

/// Above 1 by more than rounding and racing updates explain, a ratio is in another unit.
const RATIO_MAX: f64 = 1.2;

/// A pod that uses a hundred times its request is misread, or its request is no measure of it.
const OF_REQUEST_MAX: f64 = 100.0;

impl Preset {
    /// What one answer of one pod says. `fingerprint` is that of the body the exposition was read from.
    pub fn read(&self, exposition: &Exposition<'_>, fingerprint: u64) -> PodSignals {
        let mut source_ms: Option<i64> = None;
        let mut role = |role| {
            let (number, time) = self.role(exposition, role)?;
            source_ms = source_ms.into_iter().chain(time).min();
            Ok(number)
        };
        PodSignals {
            running: role(Role::Running),
            waiting: role(Role::Queued),
            cache_use: role(Role::CacheUse),
            utilization: role(Role::Utilization),
            finished: role(Role::Throughput),
            source_ms,
            fingerprint,
        }
    }

    /// The first alternative of the role that the body has anything of decides, for better or worse.
    fn role(&self, exposition: &Exposition<'_>, role: Role) -> Result<(Finite, Option<i64>), Why> {
        let alternatives = self.signals.iter().filter(|signal| signal.role == role);
        let found = alternatives
            .map(|signal| signal.read(exposition))
            .find(|result| *result != Err(Why::NoSeries));
        found.unwrap_or(Err(Why::NoSeries))
    }
}

impl Signal {
    fn read(&self, exposition: &Exposition<'_>) -> Result<(Finite, Option<i64>), Why> {
        let samples = self.of.find(exposition)?;
        let mut source_ms = samples
            .iter()
            .filter_map(|sample| exposition.timestamp_ms(sample))
            .min();
        let number = if let Some(over) = &self.over {
            let below = over.find(exposition)?;
            let below_ms = below.iter().filter_map(|sample| exposition.timestamp_ms(sample)).min();
            source_ms = source_ms.into_iter().chain(below_ms).min();
            let (above, below) = (
                combine(&samples, self.within_pod, amount)?,
                combine(&below, self.within_pod, amount)?,
            );
            // Of nothing there is no share: neither NaN nor infinity is in range.
            self.kind.converted(above / below)?
        } else {
            combine(&samples, self.within_pod, |raw| self.checked(raw))?
        };
        Ok((Finite::try_from(number)?, source_ms))
    }

    fn checked(&self, raw: f64) -> Result<f64, Why> {
        match self.role {
            Role::Throughput => within(raw, COUNTER_MAX),
            _ => self.kind.converted(raw),
        }
    }
}

impl Kind {
    /// Converts to the unit of [`PodSignals`], then checks the range, then clamps.
    pub(in crate::signals) fn converted(self, raw: f64) -> Result<f64, Why> {
        match self {
            Self::Count => within(raw, COUNT_MAX),
            Self::Ratio => within(raw, RATIO_MAX).map(|ratio| ratio.min(1.0)),
            Self::Percent => within(raw / 100.0, RATIO_MAX).map(|ratio| ratio.min(1.0)),
            Self::OfRequest => within(raw, OF_REQUEST_MAX),
        }
    }
}

/// A share of a pod's request, checked as a preset of resource metrics would have it.
pub(in crate::signals) fn of_request(share: f64) -> Result<Finite, Why> {
    Kind::OfRequest.converted(share).and_then(Finite::try_from)
}

fn amount(raw: f64) -> Result<f64, Why> {
    within(raw, COUNTER_MAX)
}

fn within(number: f64, max: f64) -> Result<f64, Why> {
    // -0 is a zero that some exporters write.
    if (0.0..=max).contains(&number) {
        Ok(number.abs())
    } else {
        Err(Why::OutOfRange)
    }
}

/// One bad series spoils the number: what it would have added is unknown.
fn combine(samples: &[&Sample<'_>], how: Combine, checked: impl Fn(f64) -> Result<f64, Why>) -> Result<f64, Why> {
    let mut total = 0.0_f64;
    for sample in samples {
        let Value::Number(raw) = sample.value else {
            return Err(Why::NotFinite);
        };
        let number = checked(raw.get())?;
        total = if how == Combine::Max {
            total.max(number)
        } else {
            total + number
        };
    }
    Ok(total)
}

impl Selection {
    /// The series under the first name that the body has any of; never empty. Costs one pass over the body per name.
    fn find<'e, 'a>(&self, exposition: &'e Exposition<'a>) -> Result<Vec<&'e Sample<'a>>, Why> {
        for name in &self.names {
            let selected = |sample: &&Sample<'_>| sample.name.is(name) && self.accepts(sample);
            let samples: Vec<_> = exposition.samples().iter().filter(selected).collect();
            if exposition.errors().iter().any(|error| error.damages(name)) {
                return Err(Why::Malformed);
            }
            if samples.is_empty() {
                continue;
            }
            let mut seen = BTreeSet::new();
            for sample in &samples {
                let labels = sample
                    .labels()
                    .map(|label| (label.name.resolved(), label.value.resolved()));
                if !seen.insert(labels.collect::<BTreeSet<_>>()) {
                    return Err(Why::Ambiguous);
                }
            }
            return Ok(samples);
        }
        Err(Why::NoSeries)
    }

    fn accepts(&self, sample: &Sample<'_>) -> bool {
        self.labels.iter().all(|(name, value)| {
            sample
                .labels()
                .any(|label| label.name.is(name) && label.value.is(value))
        })
    }
}
