//! Samples of one pod -> its signals: pick the series, convert the unit, check the range, combine.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::{Combine, Exclude, Kind, Preset, Role, Selection, Signal};
use crate::signals::exposition::{Exposition, Label, Sample, Value};
use crate::signals::{Finite, PodSignals, Served, Why};

/// Beyond this a count is a mistake or a lie, not a queue.
const COUNT_MAX: f64 = 1e9;

/// A counter beyond this no longer counts every request: doubles end there.
const COUNTER_MAX: f64 = 9_007_199_254_740_992.0;

/// Above 1 by more than rounding and racing updates explain, a ratio is in another unit.
const RATIO_MAX: f64 = 1.2;

/// A pod that uses a hundred times its request is misread, or its request is no measure of it.
const OF_REQUEST_MAX: f64 = 100.0;

/// What the series of one role come to, in the unit of [`PodSignals`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Amount {
    pub(super) number: Finite,
    /// Requests, where `number` is the seconds that they took together.
    pub(super) requests: Option<Finite>,
    source_ms: Option<i64>,
}

impl Preset {
    /// What one answer of one pod says. `fingerprint` is that of the body the exposition was read from.
    pub fn read(&self, exposition: &Exposition<'_>, fingerprint: u64) -> PodSignals {
        let mut source_ms: Option<i64> = None;
        let mut amount = |role| {
            let amount = self.chosen(exposition, role).1?;
            source_ms = source_ms.into_iter().chain(amount.source_ms).min();
            Ok(amount)
        };
        let mut number = |role| amount(role).map(|amount: Amount| amount.number);
        PodSignals {
            running: number(Role::Running),
            waiting: number(Role::Queued),
            cache_use: number(Role::CacheUse),
            utilization: number(Role::Utilization),
            finished: number(Role::Throughput),
            rate: Err(Why::NoSeries),
            served: amount(Role::Latency).and_then(Amount::served),
            source_ms,
            fingerprint,
        }
    }

    /// The first alternative of the role that the body has anything of decides, for better or worse. Without any, the first.
    pub(super) fn chosen(&self, exposition: &Exposition<'_>, role: Role) -> (Option<&Signal>, Result<Amount, Why>) {
        let alternatives = self.signals.iter().filter(|signal| signal.role == role);
        let found = alternatives
            .map(|signal| (Some(signal), signal.read(exposition)))
            .find(|(_, result)| *result != Err(Why::NoSeries));
        found.unwrap_or((self.signal(role), Err(Why::NoSeries)))
    }
}

impl Amount {
    pub(super) fn served(self) -> Result<Served, Why> {
        let requests = self.requests.ok_or(Why::NoSeries)?;
        Ok(Served {
            seconds: self.number,
            requests,
        })
    }
}

impl Signal {
    fn read(&self, exposition: &Exposition<'_>) -> Result<Amount, Why> {
        let oldest = |samples: &[&Sample<'_>]| {
            let times = samples.iter().filter_map(|sample| exposition.timestamp_ms(sample));
            times.min()
        };
        let above = self.of.find(exposition)?;
        let below = self.over.as_ref().map(|over| over.find(exposition)).transpose()?;
        let source_ms = oldest(&above)
            .into_iter()
            .chain(below.as_deref().and_then(oldest))
            .min();
        let (number, requests) = match below {
            Some(below) if self.kind.is_time() => (
                self.combined(&above, |raw| self.kind.converted(raw))?,
                Some(self.combined(&below, counter)?),
            ),
            // Of nothing there is no share: neither NaN nor infinity is in range.
            Some(below) => {
                let share = self.combined(&above, counter)? / self.combined(&below, counter)?;
                (self.kind.converted(share)?, None)
            }
            None => (self.combined(&above, |raw| self.checked(raw))?, None),
        };
        Ok(Amount {
            number: Finite::try_from(number)?,
            requests: requests.map(Finite::try_from).transpose()?,
            source_ms,
        })
    }

    /// What one series may say, in the unit of [`PodSignals`].
    pub(super) fn checked(&self, raw: f64) -> Result<f64, Why> {
        match (self.role, &self.over) {
            (Role::Throughput, _) => counter(raw),
            (Role::Latency, _) | (_, None) => self.kind.converted(raw),
            (_, Some(_)) => counter(raw),
        }
    }

    /// One number of all series. One bad series spoils it: what it would have added is unknown.
    fn combined(&self, samples: &[&Sample<'_>], checked: impl Fn(f64) -> Result<f64, Why>) -> Result<f64, Why> {
        let mut groups: BTreeMap<Option<String>, f64> = BTreeMap::new();
        for sample in samples {
            let Value::Number(raw) = sample.value else {
                return Err(Why::NotFinite);
            };
            let number = checked(raw.get())?;
            let group = self.per.as_deref().and_then(|per| {
                let label = sample.labels().find(|label| label.name.is(per));
                label.map(|label| label.value.resolved().into_owned())
            });
            let so_far = groups.entry(group).or_default();
            *so_far = if self.within_pod == Combine::Max {
                so_far.max(number)
            } else {
                *so_far + number
            };
        }
        Ok(groups.values().sum())
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
            Self::Seconds => within(raw, COUNTER_MAX),
            Self::Milli => within(raw / 1e3, COUNTER_MAX),
            Self::Micros => within(raw / 1e6, COUNTER_MAX),
        }
    }
}

/// A share of a pod's request, checked as a preset of resource metrics would have it.
pub(in crate::signals) fn of_request(share: f64) -> Result<Finite, Why> {
    Kind::OfRequest.converted(share).and_then(Finite::try_from)
}

/// A number of things since a start, or of one kind of thing: no more is known of it than that it cannot be negative.
pub(super) fn counter(raw: f64) -> Result<f64, Why> {
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

/// The series of one name.
pub(super) struct Named<'s, 'e, 'a> {
    pub(super) name: &'s str,
    pub(super) samples: Vec<&'e Sample<'a>>,
    /// A line of the name, or of what may have been the name, cannot be read.
    pub(super) damaged: bool,
}

impl Selection {
    /// The series under the first name that the body has any of; never empty. Costs one pass over the body per name.
    fn find<'e, 'a>(&self, exposition: &'e Exposition<'a>) -> Result<Vec<&'e Sample<'a>>, Why> {
        let found = self.first(exposition).ok_or(Why::NoSeries)?;
        if found.damaged {
            return Err(Why::Malformed);
        }
        let mut seen = BTreeSet::new();
        if found.samples.iter().all(|sample| seen.insert(label_set(sample))) {
            Ok(found.samples)
        } else {
            Err(Why::Ambiguous)
        }
    }

    /// The first name that the body has a series or a bad line of.
    pub(super) fn first<'e, 'a>(&self, exposition: &'e Exposition<'a>) -> Option<Named<'_, 'e, 'a>> {
        self.names.iter().find_map(|name| {
            let selected = |sample: &&Sample<'_>| sample.name.is(name) && self.accepts(sample);
            let samples: Vec<_> = exposition.samples().iter().filter(selected).collect();
            let damaged = exposition.errors().iter().any(|error| error.damages(name));
            (damaged || !samples.is_empty()).then_some(Named { name, samples, damaged })
        })
    }

    /// Series of a name that would be taken, were they not to be left out.
    pub(super) fn excluded<'e, 'a>(
        &self,
        exposition: &'e Exposition<'a>,
        name: &str,
    ) -> impl Iterator<Item = &'e Sample<'a>> {
        let all = exposition.samples().iter();
        all.filter(move |sample| sample.name.is(name) && self.is_asked(sample) && self.is_excluded(sample))
    }

    fn accepts(&self, sample: &Sample<'_>) -> bool {
        self.is_asked(sample) && !self.is_excluded(sample)
    }

    fn is_asked(&self, sample: &Sample<'_>) -> bool {
        self.labels.iter().all(|(name, value)| {
            sample
                .labels()
                .any(|label| label.name.is(name) && label.value.is(value))
        })
    }

    fn is_excluded(&self, sample: &Sample<'_>) -> bool {
        let Exclude { labels, values } = &self.exclude;
        let has = |label: Label<'_>| {
            labels.iter().any(|name| label.name.is(name)) && values.iter().any(|value| label.value.is(value))
        };
        !labels.is_empty() && sample.labels().any(has)
    }
}

/// What tells one series of a name from another.
pub(super) fn label_set<'a>(sample: &Sample<'a>) -> BTreeSet<(Cow<'a, str>, Cow<'a, str>)> {
    sample
        .labels()
        .map(|label| (label.name.resolved(), label.value.resolved()))
        .collect()
}
