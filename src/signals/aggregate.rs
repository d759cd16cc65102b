//! Pods of one variant -> one reading for the rebalancing core.
//!
//! Remembers per pod what it takes to judge the next answer: whether it moves, whether its source's time advances, and
//! the points between which a rate is known. A pod that did not report is expected but not sampled; it never counts as
//! idle.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::presets::{Combine, Preset, Role};
use super::{Finite, PodSignals, Reading, Sample, Served, Why};
use crate::rebalance::world;

/// Points kept per pod for its rate; at one answer per second the oldest is as old as a fresh answer may be.
const POINTS_MAX: usize = 8;

/// Answers among which one that was there before is found to be a replay.
const RECENT_MAX: usize = 32;

/// So many answers in a row without work say that a server has come to rest: averages and loads have faded by then.
const AT_REST: u32 = 30;

/// A page that changed so often at rest does so by itself, with the process's time on the CPU, its memory, its scrapes.
const REST_MOVES: u32 = 8;

/// Such a page is not believed once it stands still for so many answers, nor before this many times its longest standstill.
const REST_STILL: (u32, u32) = (10, 4);

/// Two answers closer than this say nothing about a rate.
const RATE_SPAN_MS_MIN: u64 = 500;

/// What is remembered of all pods, by UID.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    pods: BTreeMap<Arc<str>, Track>,
}

/// One pod.
#[derive(Clone, Debug)]
struct Track {
    latest: Option<Answer>,
    /// Why the last attempt gave nothing, if it did.
    failure: Option<Why>,
    /// Identical answers in a row, the latest included.
    identical: u32,
    rest: Rest,
    /// The source's time has advanced since the pod was first seen.
    advancing: bool,
    /// Fingerprints of the last answers that count finished requests, and their counts.
    recent: VecDeque<(u64, Finite)>,
    /// The latest answer was given before, and the count of finished requests was another since.
    replayed: bool,
    points: VecDeque<Point>,
}

/// How a page behaves while its server has nothing to do. An idle server and a stuck exporter both show counters that stand still.
/// But most servers show numbers that move without any work, and a page that used to move at rest and no longer does is stuck.
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    /// Answers in a row that claim no work and count no request more.
    answers: u32,
    /// Of these, the ones at rest that differed from the one before; kept while it works.
    moves: u32,
    /// Most identical answers in a row before one of them.
    longest: u32,
}

#[derive(Clone, Debug)]
struct Answer {
    received_ms: u64,
    signals: PodSignals,
}

/// What a rate is taken between.
#[derive(Clone, Copy, Debug)]
struct Point {
    received_ms: u64,
    finished: f64,
    /// Running and waiting, as far as the server tells them apart from what is finished.
    in_flight: [Option<f64>; 2],
    served: Option<Served>,
}

/// Why a ready pod is not part of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gap {
    /// Its last answer is too old, or of unproven age.
    Stale,
    /// It gave no number.
    Absent(Why),
}

/// The pods of one variant together.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// For the core. `None` if no ready pod reported.
    pub reading: Option<world::Reading>,
    /// Share of the key-value cache in use, thousandths, combined over pods as the preset says. `None` if a sampled pod
    /// does not say.
    pub cache_use_permille: Option<u32>,
    /// Ready pods that are not part of the reading, in the order given.
    pub gaps: Vec<(Arc<str>, Gap)>,
}

impl Observations {
    /// Takes an answer, or the reason for its absence. Answers older than the last one of the pod are dropped.
    pub fn record(&mut self, uid: &Arc<str>, received_ms: u64, outcome: Result<PodSignals, Why>) {
        let track = self.pods.entry(Arc::clone(uid)).or_insert_with(|| Track {
            latest: None,
            failure: None,
            identical: 0,
            rest: Rest::default(),
            advancing: false,
            recent: VecDeque::new(),
            replayed: false,
            points: VecDeque::new(),
        });
        match outcome {
            Err(why) => track.failure = Some(why),
            Ok(signals) => track.record(received_ms, signals),
        }
    }

    /// Forgets the pods that are not to be kept.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.pods.retain(|uid, _| keep(uid));
    }

    /// What is known of one number of one pod now.
    pub fn reading(&self, preset: &Preset, uid: &str, role: Role, now_ms: u64) -> Reading {
        self.pods.get(uid).map_or(Reading::Absent(Why::NoTarget), |track| {
            track.reading(preset, role, now_ms)
        })
    }

    /// Combines the ready pods of one variant, surge excluded by the caller.
    pub fn aggregate(&self, preset: &Preset, ready: &[Arc<str>], now_ms: u64) -> Aggregate {
        let mut gaps = Vec::new();
        let mut sampled: Vec<&Track> = Vec::with_capacity(ready.len());
        let habit = self.habit(ready);
        let gap = |track: &Track| {
            let unlike_its_mates = || habit.is_some_and(|after| track.never_moved(after));
            let gap = track.gap(preset, now_ms);
            gap.or_else(|| unlike_its_mates().then_some(Gap::Absent(Why::Frozen)))
        };
        for uid in ready {
            match self.pods.get(uid).map(|track| (track, gap(track))) {
                None => gaps.push((Arc::clone(uid), Gap::Absent(Why::NoTarget))),
                Some((_, Some(gap))) => gaps.push((Arc::clone(uid), gap)),
                Some((track, None)) => sampled.push(track),
            }
        }
        let taken_ms = sampled
            .iter()
            .filter_map(|track| track.latest.as_ref())
            .map(|answer| answer.received_ms)
            .min();
        let thousandths = |role| {
            let fresh = |track: &&Track| match track.reading(preset, role, now_ms) {
                Reading::Fresh(sample) => sample.value.thousandths(),
                Reading::Stale(_) | Reading::Absent(_) => None,
            };
            sampled.iter().map(fresh).collect::<Option<Vec<u64>>>()
        };
        let ratio = |role| {
            let permille = combine(&thousandths(role)?, preset.across_pods(role)?)?;
            u32::try_from(permille).ok()
        };
        let utilization_permille = ratio(Role::Utilization);
        let rates = sampled.iter().map(|track| track.rate(preset, now_ms));
        let rates: Vec<u64> = rates.flatten().collect();
        // A pod that has just come has no rate yet. Where rates tell the load, what the others have is not all of it, and that
        // pod counts as one that has not spoken: or each pod that is replaced would look like less load.
        let (whole, some) = (rates.len() == sampled.len(), !rates.is_empty());
        let partly = !whole && some && utilization_permille.is_none();
        let reading = taken_ms.map(|taken_ms| world::Reading {
            taken_ms,
            sampled: count(if partly { rates.len() } else { sampled.len() }),
            expected: count(ready.len()),
            running_millis: thousandths(Role::Running).and_then(|parts| combine(&parts, Combine::Sum)),
            waiting_millis: thousandths(Role::Queued).and_then(|parts| combine(&parts, Combine::Sum)),
            utilization_permille,
            rate_millis: combine(&rates, Combine::Sum).filter(|_| whole || partly),
        });
        Aggregate {
            reading,
            cache_use_permille: ratio(Role::CacheUse),
            gaps,
        }
    }

    /// So many identical answers are not believed of a pod that was never seen to move at rest, as its mates run the same server
    /// and their pages do. None, where those that do not move are more.
    fn habit(&self, ready: &[Arc<str>]) -> Option<u32> {
        let tracks = || ready.iter().filter_map(|uid| self.pods.get(uid));
        let after = tracks().filter_map(|track| track.rest.frozen_after()).max()?;
        let move_by_themselves = tracks().filter(|track| track.rest.frozen_after().is_some()).count();
        let never_moved = tracks().filter(|track| track.never_moved(after)).count();
        (never_moved <= move_by_themselves).then_some(after)
    }
}

impl Track {
    fn record(&mut self, received_ms: u64, signals: PodSignals) {
        let last = self.latest.as_ref();
        if last.is_some_and(|last| received_ms < last.received_ms) {
            return;
        }
        self.failure = None;
        if let Some((before, now)) = last.and_then(|last| last.signals.source_ms).zip(signals.source_ms) {
            // A source may be asked more often than it measures: the same answer again is not news, and ages.
            if now <= before {
                return;
            }
            self.advancing = true;
        }
        let same = last.is_some_and(|last| last.signals.fingerprint == signals.fingerprint);
        let rests = !claims_work(&signals) && last.is_some_and(|last| last.signals.finished == signals.finished);
        self.replayed = self.repeats(&signals);
        self.rest.observe(rests, !same && !self.replayed, self.identical);
        self.identical = if same { self.identical.saturating_add(1) } else { 1 };
        if !self.replayed {
            self.point(received_ms, &signals);
        }
        self.latest = Some(Answer { received_ms, signals });
    }

    /// A counter does not come back to what it was: the body is from before, as a cache or a stuck proxy serves it. A server
    /// that restarted into the very same body is believed when what was before it is forgotten.
    fn repeats(&mut self, signals: &PodSignals) -> bool {
        let Ok(finished) = signals.finished else {
            return false;
        };
        let before = self.recent.iter().position(|(known, _)| *known == signals.fingerprint);
        let moved = |at| self.recent.iter().skip(at).any(|(_, count)| *count != finished);
        let repeats = before.is_some_and(moved);
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((signals.fingerprint, finished));
        repeats
    }

    fn point(&mut self, received_ms: u64, signals: &PodSignals) {
        let told = |number: Result<Finite, Why>| match number {
            Ok(number) => Ok(Some(number.get())),
            // Of a server that has no such series the finished requests say enough.
            Err(Why::NoSeries) => Ok(None),
            Err(why) => Err(why),
        };
        let (Ok(finished), Ok(running), Ok(waiting)) = (signals.finished, told(signals.running), told(signals.waiting))
        else {
            return;
        };
        let in_flight = [running, waiting];
        // A counter that fell was restarted with its server: what lies between is unknown. So is what was under way before
        // a series came or went.
        let comparable = |last: &Point| {
            let same = last
                .in_flight
                .iter()
                .zip(&in_flight)
                .all(|(a, b)| a.is_some() == b.is_some());
            same && finished.get() >= last.finished
        };
        if !self.points.back().is_some_and(comparable) {
            self.points.clear();
        }
        if self.points.len() == POINTS_MAX {
            self.points.pop_front();
        }
        self.points.push_back(Point {
            received_ms,
            finished: finished.get(),
            in_flight,
            served: signals.served.ok(),
        });
    }

    /// The answer must be fresh and whole in everything that the preset requires.
    fn gap(&self, preset: &Preset, now_ms: u64) -> Option<Gap> {
        preset
            .required()
            .find_map(|role| match self.reading(preset, role, now_ms) {
                Reading::Fresh(_) => None,
                // A reason is more use than an age.
                Reading::Stale(_) => Some(self.failure.map_or(Gap::Stale, Gap::Absent)),
                Reading::Absent(why) => Some(Gap::Absent(why)),
            })
    }

    fn reading(&self, preset: &Preset, role: Role, now_ms: u64) -> Reading {
        let Some(Answer { received_ms, signals }) = &self.latest else {
            return Reading::Absent(self.failure.unwrap_or(Why::NoTarget));
        };
        let number = match role {
            Role::Queued => signals.waiting,
            Role::Running => signals.running,
            Role::CacheUse => signals.cache_use,
            Role::Utilization => signals.utilization,
            Role::Throughput => signals.throughput(),
            Role::Latency => self.latency(preset, now_ms),
        };
        let value = match number {
            Ok(_) if self.replayed => return Reading::Absent(Why::Frozen),
            Ok(_) if self.is_frozen(signals, preset) => return Reading::Absent(Why::Frozen),
            Ok(value) => value,
            Err(why) => return Reading::Absent(why),
        };
        let sample = Sample {
            value,
            received_ms: *received_ms,
            source_ms: signals.source_ms,
        };
        let Some(freshness_ms) = preset.freshness_ms(role) else {
            return Reading::Absent(Why::NoSeries);
        };
        let recent = now_ms.saturating_sub(*received_ms) <= freshness_ms;
        if recent && (signals.source_ms.is_none() || self.advancing) {
            Reading::Fresh(sample)
        } else {
            Reading::Stale(sample)
        }
    }

    /// It stands still, and an honest page would not.
    fn is_frozen(&self, signals: &PodSignals, preset: &Preset) -> bool {
        let after = if claims_work(signals) {
            Some(preset.frozen_after())
        } else {
            self.rest.frozen_after().map(|after| after.max(preset.frozen_after()))
        };
        after.is_some_and(|after| self.identical >= after)
    }

    /// It has stood still for so many answers, and nobody knows whether it would move by itself.
    fn never_moved(&self, after: u32) -> bool {
        self.rest.frozen_after().is_none() && self.identical >= after
    }

    /// Requests arriving per second, thousandths: as the source counts them, else what finished, plus what is in the pod more
    /// than before. Between the oldest and the newest fresh point; `None` where that comes out negative, as it does when
    /// requests are abandoned.
    fn rate(&self, preset: &Preset, now_ms: u64) -> Option<u64> {
        if self.latest.as_ref().is_some_and(|answer| answer.signals.rate.is_ok()) {
            return match self.reading(preset, Role::Throughput, now_ms) {
                Reading::Fresh(sample) => sample.value.thousandths(),
                Reading::Stale(_) | Reading::Absent(_) => None,
            };
        }
        let (oldest, newest) = self.span(preset.freshness_ms(Role::Throughput)?, now_ms)?;
        let under_way = |point: &Point| point.in_flight.iter().flatten().sum::<f64>();
        let arrived = (newest.finished - oldest.finished) + (under_way(newest) - under_way(oldest));
        let span_ms = newest.received_ms - oldest.received_ms;
        let seconds = f64::from(u32::try_from(span_ms).ok()?) / 1_000.0;
        // Thousandths refuse the negative, and a whole number of requests never rounds to zero.
        Finite::try_from(arrived / seconds).ok()?.thousandths()
    }

    /// Seconds that a request took on average, of those finished between the oldest and the newest fresh point.
    fn latency(&self, preset: &Preset, now_ms: u64) -> Result<Finite, Why> {
        let freshness_ms = preset.freshness_ms(Role::Latency).ok_or(Why::NoSeries)?;
        let (oldest, newest) = self.span(freshness_ms, now_ms).ok_or(Why::NoSeries)?;
        let (before, now) = oldest.served.zip(newest.served).ok_or(Why::NoSeries)?;
        now.mean_since(&before).ok_or(Why::NoSeries)
    }

    /// The oldest and the newest fresh point, if they are apart enough.
    fn span(&self, freshness_ms: u64, now_ms: u64) -> Option<(&Point, &Point)> {
        let newest = self.points.back()?;
        if self.latest.as_ref()?.received_ms != newest.received_ms {
            return None;
        }
        let fresh = |point: &&Point| now_ms.saturating_sub(point.received_ms) <= freshness_ms;
        let oldest = self.points.iter().find(fresh)?;
        let span_ms = newest.received_ms.checked_sub(oldest.received_ms)?;
        (span_ms >= RATE_SPAN_MS_MIN).then_some((oldest, newest))
    }
}

impl Rest {
    /// Takes in an answer: whether it is one of rest, whether it differs from the one before, and how many identical ones came
    /// before it.
    fn observe(&mut self, rests: bool, moves: bool, identical: u32) {
        self.answers = if rests { self.answers.saturating_add(1) } else { 0 };
        if moves && self.answers > AT_REST {
            self.moves = self.moves.saturating_add(1);
            self.longest = self.longest.max(identical);
        }
    }

    /// Identical answers at rest that are not believed; none are refused of a page that was not seen to move by itself.
    fn frozen_after(&self) -> Option<u32> {
        let (least, times) = REST_STILL;
        (self.moves >= REST_MOVES).then(|| self.longest.saturating_mul(times).max(least))
    }
}

fn claims_work(signals: &PodSignals) -> bool {
    let positive = |number: Result<Finite, Why>| number.is_ok_and(|number| number.get() > 0.0);
    positive(signals.running) || positive(signals.waiting)
}

/// `None` of no parts: nothing is known, which is not zero.
fn combine(parts: &[u64], how: Combine) -> Option<u64> {
    if parts.is_empty() {
        return None;
    }
    let sum = || parts.iter().try_fold(0_u64, |sum, part| sum.checked_add(*part));
    match how {
        Combine::Sum => sum(),
        Combine::Max => parts.iter().copied().max(),
        Combine::Avg => {
            let many = u64::try_from(parts.len()).ok()?;
            Some(sum()?.checked_add(many / 2)? / many)
        }
    }
}

fn count(many: usize) -> u32 {
    u32::try_from(many).unwrap_or(u32::MAX)
}
