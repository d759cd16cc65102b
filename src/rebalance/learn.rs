//! What a replica serves on its pool: learned per variant, from what is declared.
//!
//! # What is learned
//!
//! Capacity `μ` is what a full replica serves, in the stage's requests per second. What is declared for it is the prior; the
//! value in force is between an eighth and eight times of that ([`estimate`]). A sample is an interval of at least
//! [`SPAN_MS`] and [`REQUESTS_MIN`] requests. Over it, with rate `r`, `n` Ready replicas and mean utilization `u`:
//!
//! * **A reading with a utilization** says how full a replica is, so `μ = r / (n·u)`. Where service gets more efficient under
//!   load (batching), that is the capacity at this operating point, more than the capacity of a full replica, and it is
//!   what the plan needs: it asks for `r / (μ·target)` replicas, which is what runs exactly if they are at their target.
//!   Away from the target the estimate is off, too high where replicas are emptier; so it rises by at most half at a time, and
//!   then is measured anew where that led.
//! * **A reading of slots in use** (`running / concurrency`, no utilization) says less: how much longer a request takes in
//!   full company is not seen. As throughput grows with company, but ever more slowly, a full replica serves at least what
//!   is served now, `r / n`, and at most what as many independent slots would, `r / (n·u)`. A value in force between the two
//!   is not contradicted and stays; one outside is moved to the nearer end. So a declared rate that is far too high is found
//!   out, and one that is too low only where replicas serve more than it.
//! * **A reading without a rate, or without any of the two,** teaches nothing; nor does one of a stage that declares no
//!   requests per second, whose unit is the replica: there is no number to correct, and a rate alone knows no share.
//!
//! # When nothing is learned
//!
//! While a replica may be full (utilization of 97 %, more waiting than running, a queue that grows): the rate is what comes
//! in, not what is served; and a replica that waits for the stage behind it is full and serves little. While fewer pods report than are Ready, or a reading is stale. Until [`SETTLE_MS`] after Ready
//! replicas of the stage last changed: what starts serves, but is not warm, and load is on its way from one to the other.
//! Where replicas are nearly idle ([`BUSY_MIN_PERMILLE`]): a small number is divided by. Where what is in the system at the
//! end of an interval differs from the start by an eighth of what came. A pool on which nothing runs, or from which the plan
//! goes away again within a minute, keeps its prior: nothing is run for the sake of learning. Nothing is forgotten by time alone: no evidence is no
//! evidence that the prior was right.
//!
//! # How it acts
//!
//! The value in force *is* the capacity in the core's world ([`State::world`]), so demand, plan, moves, check and latency
//! model use one value within a step. What is told by [`Event::World`](super::world::Event::World) is compared with the
//! declared one, and another declared value starts anew.
//!
//! Demand is in requests per second at a full replica, `D = Σ max(r, n·u·μ, queue·μ/slots) / target` over the pools of a
//! stage. So what is shown by utilization or slots is measured in `μ`, and changes with it, although nothing happened. Levels, windows
//! and averages hold such values of the past. Therefore, when `μ` changes, the newest readings are converted with the
//! old and the new value, and all that is remembered of the stage's demand is multiplied by their ratio:
//!
//! * One pool, demand shown by utilization: the ratio is `μ'/μ`, and `⌈D·μ'/μ⌉` needs exactly as many replicas of `μ'` as `D`
//!   of `μ`: for `D ≤ n·μ` whole, `⌈D·μ'/μ⌉ ≤ n·μ'`, and for `D > (n−1)·μ` it is more than `(n−1)·μ'`. Nothing moves.
//! * Demand shown by a rate: the ratio is 1 and `D/μ'` replicas are planned. The plan follows the proof at once and the
//!   scale-down window has no say: load did not fall.
//! * Several pools: each counts by what it carries; the demand of the stage stays what it is worth in requests, and what
//!   changes is which pool is the cheapest.
//!
//! What callers send is in requests and is not converted. The plan is made anew, with the learned value as its cause.
//!
//! # Who lies
//!
//! A pod that understates what it serves is bought company for, one that overstates loses it, and either reaches its own
//! stage only, within that stage's bounds, budget and priority: at most eight times the replicas that its rate would have
//! had. It takes [`estimate`]'s samples of nothing but lies to get anywhere, each of them whole, and the larger of rate and
//! utilization counts, so a stage that is seen to be busy keeps its replicas whatever has been learned.
//!
//! # After a restart
//!
//! Value, prior and count are in the report of every stage and come back as [`Event::Learned`](super::world::Event::Learned):
//! the operator keeps them in the pipeline's status, which it writes anyway. A `ConfigMap` of its own would be one more object
//! per pipeline to create, watch, own and delete, with a write of its own for each change, and could be about another
//! generation than the status beside it. What pods show cannot replace it: readings say what is served now, and it
//! takes minutes to know again what they say together. Lost status costs those minutes and nothing else.
#![allow(clippy::similar_names, reason = "`state` and `stage` are the words of the field")]

pub(super) mod estimate;
mod restart;

use self::estimate::{Estimate, Stride};
pub(super) use self::restart::carry;
use super::bug::{Bug, seeded};
use super::decision::Trigger;
use super::demand::{self, Rescale};
use super::plan::variants_of;
use super::state::State;
use super::variant_memory::VariantMemory;
use super::world::{Reading, Variant};

/// An interval is at least so long.
const SPAN_MS: u64 = 15_000;

/// Readings further apart than this are of different intervals.
const GAP_MS_MAX: u64 = 60_000;

/// One that is not full of requests after so long is given up.
const SPAN_MS_MAX: u64 = 600_000;

/// Requests in an interval.
const REQUESTS_MIN: u128 = 20;

/// After Ready replicas of a stage changed nothing is learned for so long.
const SETTLE_MS: u64 = 20_000;

/// Below this utilization nothing is learned.
const BUSY_MIN_PERMILLE: u128 = 150;

/// Above it a replica may be full.
const BUSY_MAX_PERMILLE: u128 = 970;

/// What is in the system may change over an interval by one part in so many of what came.
const STEADY: u128 = 8;

/// Higher capacity takes replicas away; what runs then is measured before the next step.
const STRIDE: Stride = Stride {
    up_permille: 1_500,
    down_permille: 500,
};

/// Sums over readings of one variant, each weighted by the milliseconds since the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Interval {
    since_ms: u64,
    last_ms: u64,
    /// Thousandths of a request per second, times ms.
    rate: u128,
    /// Thousandths of a replica that are busy, times ms.
    busy: u128,
    /// Replicas, times ms.
    replicas: u128,
    /// Requests in the system when it began and now, thousandths.
    system: (u64, u64),
    /// Slots in use stand for utilization.
    slots: bool,
}

/// What one variant has taught.
#[derive(Clone, Debug)]
pub(super) struct Capacity {
    estimate: Estimate,
    interval: Option<Interval>,
}

impl Capacity {
    fn new(estimate: Estimate) -> Self {
        Self {
            estimate,
            interval: None,
        }
    }

    pub(super) const fn declared(&self) -> u64 {
        self.estimate.declared()
    }

    pub(super) const fn value(&self) -> u64 {
        self.estimate.value()
    }

    /// Takes a reading that may teach; true if another capacity is in force from now on.
    fn read(&mut self, variant: &Variant, reading: &Reading) -> bool {
        let Some((busy, slots)) = busy(variant, reading) else {
            self.interval = None;
            return false;
        };
        let system = reading
            .running_millis
            .unwrap_or(0)
            .saturating_add(reading.waiting_millis.unwrap_or(0));
        let replicas = u128::from(reading.sampled);
        let Some(interval) = self
            .interval
            .as_mut()
            .filter(|open| open.slots == slots && follows(open.last_ms, reading.taken_ms))
        else {
            self.interval = Some(Interval {
                since_ms: reading.taken_ms,
                last_ms: reading.taken_ms,
                system: (system, system),
                slots,
                ..Interval::default()
            });
            return false;
        };
        let passed_ms = u128::from(reading.taken_ms - interval.last_ms);
        interval.last_ms = reading.taken_ms;
        interval.rate += u128::from(reading.rate_millis.unwrap_or(0).min(demand::UNITS_MAX)) * passed_ms;
        interval.busy = interval.busy.saturating_add(busy.saturating_mul(passed_ms));
        interval.replicas += replicas * passed_ms;
        interval.system.1 = system;
        let whole = *interval;
        if !enough(whole.since_ms, whole.last_ms, whole.rate) {
            if whole.last_ms - whole.since_ms > SPAN_MS_MAX {
                self.interval = None;
            }
            return false;
        }
        // The next one begins where this one ends.
        self.interval = Some(Interval {
            since_ms: whole.last_ms,
            last_ms: whole.last_ms,
            system: (whole.system.1, whole.system.1),
            slots,
            ..Interval::default()
        });
        match sample(&whole, self.estimate.value()) {
            Some(sample) => self.estimate.add(sample, STRIDE),
            None => false,
        }
    }

    /// What is open is worth nothing.
    fn interrupt(&mut self) {
        self.interval = None;
    }
}

/// Whether a reading taken then comes soon enough after the one before.
pub(super) fn follows(last_ms: u64, taken_ms: u64) -> bool {
    taken_ms >= last_ms && taken_ms - last_ms <= GAP_MS_MAX
}

/// Whether an interval is long enough and has seen enough requests. `rate` is thousandths per second times ms.
pub(super) fn enough(since_ms: u64, last_ms: u64, rate: u128) -> bool {
    last_ms.saturating_sub(since_ms) >= SPAN_MS && rate / 1_000_000 >= REQUESTS_MIN
}

/// Whether what was in the system at two times differs by little of what came between.
pub(super) fn steady(system: (u64, u64), rate: u128) -> bool {
    u128::from(system.0.abs_diff(system.1)).saturating_mul(STEADY) <= rate / 1_000
}

/// Thousandths of replicas that are busy, and whether they are counted in slots.
fn busy(variant: &Variant, reading: &Reading) -> Option<(u128, bool)> {
    if let Some(used) = reading.utilization_permille {
        return Some((u128::from(used) * u128::from(reading.sampled), false));
    }
    let slots = u128::from(variant.concurrency.filter(|&slots| slots > 0)?);
    Some((u128::from(reading.running_millis?.min(demand::UNITS_MAX)) / slots, true))
}

/// The capacity of a replica that an interval shows, next to the one in force.
fn sample(interval: &Interval, in_force: u64) -> Option<u64> {
    let busy_permille = interval.busy / interval.replicas.max(1);
    let full = busy_permille >= BUSY_MAX_PERMILLE && !seeded(Bug::LearnsFromSaturated);
    if full || busy_permille < BUSY_MIN_PERMILLE || !steady(interval.system, interval.rate) {
        return None;
    }
    let most = demand::cut(interval.rate.saturating_mul(1_000) / interval.busy.max(1));
    if !interval.slots {
        return Some(most);
    }
    let least = demand::cut(interval.rate / interval.replicas.max(1));
    Some(in_force.clamp(least.min(most), most))
}

/// Whether a reading is whole: every Ready replica in it, and nothing in it that says that more may wait to be served than
/// is seen.
pub(super) fn is_whole(seen: &VariantMemory, variant: &Variant, reading: &Reading) -> bool {
    let all = reading.sampled > 0 && reading.sampled == reading.expected && reading.expected == seen.ready();
    let full = seen.saturated(variant, reading)
        || reading
            .utilization_permille
            .is_some_and(|used| u128::from(used) >= BUSY_MAX_PERMILLE)
        || reading.waiting_millis.unwrap_or(0) > reading.running_millis.unwrap_or(u64::MAX).max(1_000);
    all && reading.rate_millis.is_some() && (!full || seeded(Bug::LearnsFromSaturated))
}

/// Since when nothing about a stage's Ready replicas has changed for long enough that its readings teach.
pub(super) fn settled_ms(variants: &[VariantMemory]) -> u64 {
    let changed_ms = variants.iter().map(|seen| seen.ready_since_ms).max().unwrap_or(0);
    changed_ms.saturating_add(SETTLE_MS)
}

/// Takes the newest reading of every variant.
pub(super) fn learn(state: &mut State, at: usize, now_ms: u64) {
    let range = variants_of(&state.world, at);
    let Some(stage) = state.world.stages.get(at).filter(|stage| stage.rated) else {
        return;
    };
    let age_ms_max = stage.reading_age_ms_max;
    let (Some(declared), Some(variants)) = (
        state.world.variants.get(range.clone()),
        state.variants.get_mut(range.clone()),
    ) else {
        return;
    };
    if !variants.iter().any(|seen| seen.lesson().is_some()) {
        return;
    }
    let settled_ms = settled_ms(variants);
    let mut found: Vec<(usize, u64)> = Vec::new();
    for ((site, variant), seen) in range.zip(declared).zip(variants) {
        let Some(reading) = seen.lesson() else {
            continue;
        };
        seen.taught();
        let fresh = now_ms.saturating_sub(reading.taken_ms) <= age_ms_max && reading.taken_ms >= settled_ms;
        if !fresh || variant.capacity_millis == 0 || !is_whole(seen, variant, &reading) {
            if let Some(capacity) = seen.capacity.as_mut() {
                capacity.interrupt();
            }
            continue;
        }
        let capacity =
            (seen.capacity).get_or_insert_with(|| Box::new(Capacity::new(Estimate::new(variant.capacity_millis))));
        if capacity.read(variant, &reading) {
            found.push((site, capacity.value()));
        }
    }
    if !found.is_empty() {
        take_up(state, at, &found);
    }
}

/// Puts learned capacities of a stage's variants in force, and converts what is remembered of its demand.
fn take_up(state: &mut State, at: usize, found: &[(usize, u64)]) {
    let before = shown(state, at);
    for &(site, value) in found {
        if let Some(variant) = state.world.variants.get_mut(site) {
            variant.capacity_millis = value;
        }
    }
    let ratio = before.ratio(&shown(state, at));
    if let Some(memory) = state.stages.get_mut(at) {
        if !seeded(Bug::DemandNotConverted) {
            memory.rescale(ratio);
        }
        memory.turn_over();
        memory.set_off(Trigger::Learned);
    }
    let key = state.world.stages.get(at).map(|stage| stage.key);
    if let Some(key) = key {
        state.latency.rescale(key, ratio);
    }
    state.plan = None;
    state.changed = true;
    // What is being planned aside is planned for other capacities.
    state.worlds += 1;
    (state.proposal, state.gap_ppm) = (None, None);
}

/// What the newest readings of a stage show, before rounding.
struct Shown {
    /// By variant that carries anything: what its capacity is, whether what it shows is measured in it, and that.
    parts: Vec<(u64, bool, u128)>,
}

fn shown(state: &State, at: usize) -> Shown {
    let range = variants_of(&state.world, at);
    let (Some(declared), Some(variants)) = (state.world.variants.get(range.clone()), state.variants.get(range)) else {
        return Shown { parts: Vec::new() };
    };
    let part = |(variant, seen): (&Variant, &VariantMemory)| {
        let reading = seen
            .reading()
            .filter(|reading| seen.ready() > 0 || reading.sampled > 0)?;
        let (measured, wide) = demand::worth(variant, &reading);
        (wide > 0).then_some((demand::capacity(variant), measured, wide))
    };
    Shown {
        parts: declared.iter().zip(variants).filter_map(part).collect(),
    }
}

impl Shown {
    /// What `now` is of this.
    fn ratio(&self, now: &Self) -> Rescale {
        match (self.parts.as_slice(), now.parts.as_slice()) {
            // Exactly, so that no replica more is asked for by rounding.
            (&[(old, true, _)], &[(new, true, _)]) => Rescale::new(u128::from(new), u128::from(old)),
            (before, after) => {
                let sum =
                    |parts: &[(u64, bool, u128)]| parts.iter().fold(0_u128, |sum, part| sum.saturating_add(part.2));
                Rescale::new(sum(after), sum(before))
            }
        }
    }
}

#[cfg(test)]
mod episodes;
#[cfg(test)]
mod tests;
