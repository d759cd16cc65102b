//! How many calls a stage gets per request of its callers: learned per stage, from what its edges declare.
//!
//! One number per stage: a factor on all of its edges. What comes in is one rate, and in a steady state one rate does not
//! tell how several callers share in it; so the declared calls say how, and the factor says how much. It is the rate of the
//! called over the sum of its callers' rates times their declared calls, over intervals and with a median as in
//! [`learn`](super::learn), between an eighth and eight times. Calls from elsewhere are in it, as long as they keep in step.
//!
//! Both sides must be whole, fresh and settled, their replicas not full, and what is in their systems steady: a caller that
//! falls behind passes on less than reaches it, and whoever is full sees what its clients still dare to send. So a
//! shortage never teaches that fewer calls follow a request, which would hide it from the stages behind.
//!
//! A factor changes what callers send ahead ([`sense`](super::sense)), and nothing else: in the steady state that it was
//! learned in, the called sees as much itself. More is prepared for at once when a rise comes, less is let go through the
//! scale-down window like any demand that falls.
#![allow(clippy::similar_names, reason = "`state` and `stage` are the words of the field")]

use super::bug::{Bug, seeded};
use super::learn::estimate::{Estimate, Stride};
use super::learn::{enough, follows, is_whole, settled_ms, steady};
use super::plan::variants_of;
use super::state::State;
use super::variant_memory::VariantMemory;
use super::world::{Edge, Key, Learned, Reading};

/// Nothing that is learned here comes back on what it is learned from: it may go as far as it is found to be.
const STRIDE: Stride = Stride {
    up_permille: 64_000,
    down_permille: 1,
};

/// What one stage's calls have taught.
#[derive(Clone, Debug)]
pub(super) struct FanOut {
    /// Callers and declared calls; others start anew.
    edges: Vec<(Key, u64)>,
    estimate: Estimate,
    interval: Option<Interval>,
    taught_ms: u64,
}

/// Sums over readings of the called, each weighted by the milliseconds since the one before.
#[derive(Clone, Copy, Debug)]
struct Interval {
    since_ms: u64,
    last_ms: u64,
    /// Thousandths of a request per second times ms: what came, and what was declared to come.
    came: u128,
    declared: u128,
    /// Requests in the systems of both sides when it began and now, thousandths.
    system: (u64, u64),
}

/// What a stage shows as a whole.
#[derive(Clone, Copy, Debug)]
struct Seen {
    taken_ms: u64,
    rate: u64,
    system: u64,
}

impl FanOut {
    fn new(edges: Vec<(Key, u64)>, estimate: Estimate) -> Self {
        Self {
            edges,
            estimate,
            interval: None,
            taught_ms: 0,
        }
    }

    pub(super) const fn learned(&self) -> Learned {
        self.estimate.learned()
    }

    fn read(&mut self, called: Seen, declared: u64, system: u64) {
        let Some(interval) = self
            .interval
            .as_mut()
            .filter(|open| follows(open.last_ms, called.taken_ms))
        else {
            self.interval = Some(Interval::begin(called.taken_ms, system));
            return;
        };
        let passed_ms = u128::from(called.taken_ms - interval.last_ms);
        interval.last_ms = called.taken_ms;
        interval.came += u128::from(called.rate) * passed_ms;
        interval.declared += u128::from(declared) * passed_ms;
        interval.system.1 = system;
        let whole = *interval;
        if !enough(whole.since_ms, whole.last_ms, whole.came.min(whole.declared)) {
            return;
        }
        self.interval = Some(Interval::begin(called.taken_ms, system));
        if steady(whole.system, whole.came.min(whole.declared)) || seeded(Bug::FanOutFromQueue) {
            let scaled = whole.came.saturating_mul(u128::from(self.estimate.declared())) / whole.declared.max(1);
            let _sense_asks_for_the_value = self.estimate.add(u64::try_from(scaled).unwrap_or(u64::MAX), STRIDE);
        }
    }
}

impl Interval {
    const fn begin(at_ms: u64, system: u64) -> Self {
        Self {
            since_ms: at_ms,
            last_ms: at_ms,
            came: 0,
            declared: 0,
            system: (system, system),
        }
    }
}

/// Calls per request along an edge as learned, thousandths.
pub(super) fn calls_millis(known: Option<&FanOut>, edge: &Edge) -> u64 {
    let Some(estimate) = known
        .map(|known| &known.estimate)
        .filter(|estimate| estimate.samples() > 0)
    else {
        return edge.calls_millis;
    };
    let scaled = u128::from(edge.calls_millis) * u128::from(estimate.value()) / u128::from(estimate.declared());
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// Compares every stage that is called with its callers.
pub(super) fn learn(state: &mut State, at: usize, now_ms: u64) {
    let Some(edges) = edges(state, at) else {
        if let Some(memory) = state.stages.get_mut(at) {
            memory.fan_out = None;
        }
        return;
    };
    let Some(memory) = state.stages.get(at) else { return };
    let newest_ms = newest_ms(state, at);
    let taught_ms = memory
        .fan_out
        .as_ref()
        .filter(|known| known.edges == edges)
        .map(|known| known.taught_ms);
    if newest_ms.is_none() || newest_ms <= taught_ms {
        return;
    }
    let sides = sides(state, at, now_ms);
    let Some(memory) = state.stages.get_mut(at) else { return };
    let known = memory.fan_out.take().filter(|known| known.edges == edges);
    let mut known = known.unwrap_or_else(|| {
        let declared = edges.iter().fold(0_u64, |sum, edge| sum.saturating_add(edge.1));
        Box::new(FanOut::new(edges, Estimate::new(declared)))
    });
    known.taught_ms = newest_ms.unwrap_or(0);
    match sides {
        Some((called, declared, system)) => known.read(called, declared, system),
        None => known.interval = None,
    }
    memory.fan_out = Some(known);
}

/// Callers by key with declared calls, if their rates say what reaches the stage.
fn edges(state: &State, at: usize) -> Option<Vec<(Key, u64)>> {
    let stage = state
        .world
        .stages
        .get(at)
        .filter(|stage| stage.rated && !stage.after.is_empty())?;
    let edge = |edge: &Edge| {
        let from = state.world.stages.get(edge.from.0 as usize)?;
        (from.rated && (edge.from.0 as usize) < at).then_some((from.key, edge.calls_millis))
    };
    stage.after.iter().map(edge).collect()
}

fn newest_ms(state: &State, at: usize) -> Option<u64> {
    let variants = state.variants.get(variants_of(&state.world, at))?;
    variants
        .iter()
        .filter_map(VariantMemory::reading)
        .map(|reading| reading.taken_ms)
        .max()
}

/// What the stage shows, what its callers' rates would declare it to, and what is in the systems of both.
fn sides(state: &State, at: usize, now_ms: u64) -> Option<(Seen, u64, u64)> {
    let stage = state.world.stages.get(at)?;
    let called = seen(state, at, now_ms)?;
    let (mut declared, mut system) = (0_u128, called.system);
    for edge in &stage.after {
        let from = seen(state, edge.from.0 as usize, now_ms)?;
        declared += u128::from(from.rate) * u128::from(edge.calls_millis) / 1_000;
        system = system.saturating_add(from.system);
    }
    Some((called, u64::try_from(declared).ok()?, system))
}

/// A stage's rate over all of its variants, if every one that serves says it.
fn seen(state: &State, at: usize, now_ms: u64) -> Option<Seen> {
    let stage = state.world.stages.get(at)?;
    let range = variants_of(&state.world, at);
    let (declared, variants) = (state.world.variants.get(range.clone())?, state.variants.get(range)?);
    let settled_ms = settled_ms(variants);
    let mut sum: Option<Seen> = None;
    for (variant, seen) in declared.iter().zip(variants).filter(|(_, seen)| seen.ready() > 0) {
        let fresh = |reading: &Reading| {
            now_ms.saturating_sub(reading.taken_ms) <= stage.reading_age_ms_max && reading.taken_ms >= settled_ms
        };
        let reading = seen.reading().filter(fresh)?;
        let whole = is_whole(seen, variant, &reading) || seeded(Bug::FanOutFromQueue);
        let rate = reading.rate_millis.filter(|_| whole)?.min(super::demand::UNITS_MAX);
        let system = reading
            .running_millis
            .unwrap_or(0)
            .saturating_add(reading.waiting_millis.unwrap_or(0));
        let before = sum.unwrap_or(Seen {
            taken_ms: 0,
            rate: 0,
            system: 0,
        });
        sum = Some(Seen {
            taken_ms: before.taken_ms.max(reading.taken_ms),
            rate: before.rate.saturating_add(rate),
            system: before.system.saturating_add(system),
        });
    }
    sum
}

/// Takes back what was learned before a restart.
pub(super) fn recall(state: &mut State, at: usize, learned: &Learned) {
    let Some(edges) = edges(state, at) else { return };
    let declared = edges.iter().fold(0_u64, |sum, edge| sum.saturating_add(edge.1));
    let Some(memory) = state.stages.get_mut(at) else { return };
    if memory
        .fan_out
        .as_ref()
        .is_some_and(|known| known.estimate.samples() > 0)
    {
        return;
    }
    if let Some(estimate) = Estimate::restored(declared, learned) {
        memory.fan_out = Some(Box::new(FanOut::new(edges, estimate)));
    }
}

#[cfg(test)]
mod tests;
