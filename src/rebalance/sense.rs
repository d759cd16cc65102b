//! What every stage needs now: the input of the plan, but for bounds.
#![allow(clippy::similar_names, reason = "`state` and `stage` are the words of the field")]

use super::also;
use super::bug::{Bug, seeded};
use super::burst;
use super::decision::{Driver, Trigger};
use super::demand::{self, Range, Signal};
use super::fanout;
use super::latency;
use super::learn;
use super::moves;
use super::oracle::Need;
use super::plan::variants_of;
use super::stage_memory::Senses;
use super::state::State;
use super::sustained::{Found, unhurried};
use super::variant_memory::VariantMemory;
use super::world::{OnSignalLoss, Traffic};

/// For how long a demand that was seen whole bounds what saturation may hide.
const WHOLE_MS: u64 = 10 * 60_000;

/// What a stage sends to those it calls, without its own headroom.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Offer {
    rate: Range,
    /// What one request more adds to it.
    one: u64,
    /// Work is seen there or on its way there, whatever its unit.
    wakes: bool,
    /// Work may be there: nobody knows that there is none.
    stirs: bool,
}

/// Demand by the signal that shows most of it, over the variants of a stage.
#[derive(Clone, Copy, Debug, Default)]
struct Signals {
    rate: u64,
    utilization: u64,
    running: u64,
    waiting: u64,
}

impl Signals {
    fn add(&mut self, signal: Signal, demand: u64) {
        let sum = match signal {
            Signal::Rate => &mut self.rate,
            Signal::Utilization => &mut self.utilization,
            Signal::Running => &mut self.running,
            Signal::Waiting => &mut self.waiting,
        };
        *sum = sum.saturating_add(demand);
    }

    /// What asks for most, of a stage's own demand and what its callers send.
    fn largest(&self, own: u64, sent: u64) -> Option<Driver> {
        let parts = [
            (self.rate, Driver::Rate),
            (self.utilization, Driver::Utilization),
            (self.running, Driver::Running),
            (self.waiting, Driver::Waiting),
        ];
        let seen = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.0));
        if sent > own {
            return Some(Driver::Callers);
        }
        // What is not in any reading, although replicas are full.
        if own.saturating_sub(seen) > seen {
            return Some(Driver::Saturation);
        }
        let largest = parts
            .into_iter()
            .reduce(|most, part| if part.0 > most.0 { part } else { most })?;
        (largest.0 > 0).then_some(largest.1)
    }
}

/// Demand of every stage that this step looks at, callers before the called.
pub(super) fn sense(state: &mut State, now_ms: u64) {
    let due = state.due.stages();
    if !state.unlearning {
        for &at in &due {
            learn::learn(state, at, now_ms);
        }
        for &at in &due {
            fanout::learn(state, at, now_ms);
        }
    }
    let mut offered = std::mem::take(&mut state.offered);
    for &at in &due {
        let Some((offer, wake_ms)) = sense_stage(state, at, &offered, now_ms) else {
            continue;
        };
        if let Some(slot) = offered.get_mut(at) {
            *slot = offer;
        }
        state.wake(at, wake_ms);
    }
    state.offered = offered;
    latency::keep(state);
    burst::note(state, &due, now_ms);
}

#[expect(
    clippy::too_many_lines,
    reason = "one pass over one stage, told in the order it happens"
)]
fn sense_stage(state: &mut State, at: usize, offered: &[Offer], now_ms: u64) -> Option<(Offer, Option<u64>)> {
    let stage = state.world.stages.get(at)?;
    let range = variants_of(&state.world, at);
    let memory = state.stages.get_mut(at)?;
    let declared = state.world.variants.get(range.clone())?;
    let variants = state.variants.get(range)?;
    let target = demand::target(stage);
    let mut forward: Option<Range> = None;
    let mut one = demand::one_request(stage, declared);
    // How much a caller sends is known where both count requests; that it may send something always is.
    let (mut woken, mut stirred) = (false, false);
    let callers = stage.after.iter().filter(|edge| (edge.from.0 as usize) < at);
    for edge in callers.filter(|_| !seeded(Bug::FanOutDropped)) {
        let caller = edge.from.0 as usize;
        let Some(from) = offered.get(caller) else { continue };
        woken |= from.wakes && edge.calls_millis > 0;
        stirred |= from.stirs && edge.calls_millis > 0;
        if stage.rated && state.world.stages.get(caller).is_some_and(|from| from.rated) {
            let calls_millis = fanout::calls_millis(memory.fan_out.as_deref(), edge);
            let calls = from.rate.scaled(calls_millis, 1_000);
            one = one.max(Range { low: from.one, high: 0 }.scaled(calls_millis, target).low);
            forward = Some(forward.map_or(calls, |sum| sum.plus(calls)));
        }
    }
    let forward = forward.unwrap_or_default();
    let mut own: Option<Range> = None;
    // The same without the haste of working off queues.
    let mut lasting = Range::default();
    // What arrives per second, as long as every reading says so.
    let mut arriving = Some(Range::default());
    let mut startup_ms = 0;
    let (mut silent, mut ready_total, mut idle) = (Range::default(), 0_u32, true);
    // Ready replicas that are no part of what is known.
    let mut unheard = 0_u32;
    let mut senses = Senses {
        observed: true,
        taken_ms: None,
        ..memory.senses
    };
    let mut wake_ms = None;
    let mut hidden = 0_u64;
    let mut signals = Signals::default();
    // Whether any variant, and whether every one that speaks, may see only part of its demand.
    let (mut partly, mut wholly) = (false, true);
    let newest_ms = variants
        .iter()
        .filter_map(VariantMemory::reading)
        .map(|reading| reading.taken_ms)
        .max();
    for (variant, seen) in declared.iter().zip(variants) {
        senses.observed &= seen.is_observed();
        let ready = seen.ready();
        if seen.desired() > 0 {
            startup_ms = seen.startup_ms(variant).max(startup_ms);
        }
        ready_total = ready_total.saturating_add(ready);
        senses.taken_ms = senses.taken_ms.max(seen.reading().map(|reading| reading.taken_ms));
        let stale_ms = |taken_ms: u64| taken_ms.saturating_add(stage.reading_age_ms_max).saturating_add(1);
        let fresh = seen
            .reading()
            .filter(|reading| now_ms < stale_ms(reading.taken_ms) || seeded(Bug::StaleIsFresh));
        match fresh {
            // Whoever left took the load along to the others: their newer readings have it.
            Some(reading) if ready == 0 && Some(reading.taken_ms) < newest_ms => {}
            Some(reading) => {
                let load = demand::of_reading(stage, variant, &reading);
                unheard = unheard.saturating_add(reading.expected.saturating_sub(reading.sampled));
                if let Some(signal) = demand::signal_of(stage, variant, &reading) {
                    signals.add(signal, load.low);
                }
                hidden = hidden.saturating_add(seen.hidden(variant, &reading, load.low));
                let saturated = seen.saturated(variant, &reading);
                partly |= saturated;
                wholly &= saturated || reading.sampled == 0;
                if ready > 0 || reading.sampled > 0 || load.low > 0 {
                    let unhurried = unhurried(stage, variant, reading);
                    lasting = lasting.plus(demand::of_reading(stage, variant, &unhurried));
                    own = Some(own.map_or(load, |sum| sum.plus(load)));
                    let rate = demand::rate(stage, &reading, load);
                    arriving = arriving.zip(rate).map(|(sum, rate)| sum.plus(rate));
                }
                idle &= seen.idle_readings()
                    >= if seeded(Bug::IdleAtOnce) {
                        1
                    } else {
                        demand::IDLE_READINGS
                    };
                let stale_ms = stale_ms(reading.taken_ms);
                wake_ms = Some(wake_ms.map_or(stale_ms, |old: u64| old.min(stale_ms)));
            }
            None if ready > 0 => {
                silent = silent.plus(demand::of_silence(stage, variant, ready));
                unheard = unheard.saturating_add(ready);
                idle = false;
            }
            None => {}
        }
    }
    let own = own.map(|seen| seen.plus(silent));
    let lasting = own.map(|_| lasting.plus(silent));
    // What saturation hides is known where it has been seen lately: less capacity is no more demand.
    let known = memory
        .whole
        .filter(|&(_, at_ms)| now_ms < at_ms.saturating_add(WHOLE_MS))
        .map(|(demand, _)| demand);
    let own = own.map(|seen| {
        hidden = match known {
            Some(known) if known >= seen.low => hidden.min(known - seen.low),
            _ => hidden,
        };
        seen.plus(Range {
            low: hidden,
            high: hidden,
        })
    });
    let lasting = lasting.map(|seen| {
        seen.plus(Range {
            low: hidden,
            high: hidden,
        })
    });
    if let Some(own) = own.filter(|own| !partly && own.low == own.high) {
        memory.whole = Some((own.low, now_ms));
    }
    senses.driver = signals.largest(own.map_or(0, |own| own.low), forward.scaled(1_000, target).low);
    senses.silent = u16::from(own.is_none() && ready_total > 0);
    let by_own = own;
    let mut own = own;
    let mut lasting = lasting;
    if let Some(heard) = also::hear(stage, declared, variants, idle, now_ms) {
        senses.silent |= u16::from(heard.silent) << 1;
        if let Some(need) = heard.need {
            let others = own.unwrap_or_default().max(forward.scaled(1_000, target));
            if need.low > others.low {
                senses.driver = Some(Driver::Also(heard.largest));
            }
            own = Some(own.map_or(need, |own| own.max(need)));
            lasting = Some(lasting.map_or(heard.lasting, |lasting| lasting.max(heard.lasting)));
        }
        if senses.silent != 0 {
            let unknown = also::of_ignorance(stage, declared, variants);
            own = own.map(|own| own.max(unknown));
            lasting = lasting.map(|lasting| lasting.max(unknown));
        }
        idle &= heard.idle;
        senses.taken_ms = senses.taken_ms.max(heard.taken_ms);
        wake_ms = wake_ms.into_iter().chain(heard.stale_ms).min();
    }
    senses.fresh = own.is_some();
    let (own, lasting) = (own, lasting);
    senses.shown = own.unwrap_or_default().max(forward.scaled(1_000, target)).high;
    // Where all are busy, what is seen follows what runs: it proves no fall.
    let proven = memory.level.settled().filter(|_| partly && wholly).unwrap_or(0);
    let proven = Range { low: 0, high: proven };
    let now = own.map(|own| own.max(proven));
    let window_ms = demand::average_ms(stage, startup_ms);
    let mut outstanding = 0;
    let own = if let Some(now) = now {
        let average = memory.own.follow(now_ms, window_ms, now);
        if memory.own.stands_out(now.low, one) {
            outstanding = now.low;
        }
        Some(average.max(proven))
    } else {
        memory.own.pause();
        None
    };
    // Nobody reports where nobody runs: only the callers can say.
    let quiet = ready_total == 0 && own.is_none();
    // What silent pods of a caller may hide is doubt about that caller. A stage that has been heard whole itself knows
    // what reaches it: there only what is proven of the callers counts, because it is on its way.
    let called = forward;
    let forward = match now {
        Some(now) if now.low == now.high => Range {
            high: forward.low,
            ..forward
        },
        _ => forward,
    };
    let sent = forward.scaled(1_000, target);
    let forward = memory.called.follow(now_ms, window_ms, sent);
    let called_more = memory.called.stands_out(sent.low, one);
    if called_more {
        outstanding = outstanding.max(sent.low);
    }
    let seen = match own {
        Some(own) => Some(own.max(forward)),
        None if forward.low > 0 => Some(forward),
        None => None,
    };
    let desired = |variant: usize| variants.get(variant).map_or(0, VariantMemory::desired);
    let total = (0..variants.len()).fold(0_u32, |sum, variant| sum.saturating_add(desired(variant)));
    let uniform = stage.traffic == Traffic::Uniform;
    let counts = declared
        .iter()
        .enumerate()
        .map(|(variant, one)| (desired(variant), demand::capacity(one)));
    let supply = moves::serve(uniform, counts.clone());
    let grain = counts
        .filter(|&(count, _)| count > 0)
        .map(|(_, capacity)| capacity)
        .max()
        .unwrap_or(1);
    match seen {
        Some(seen) if senses.fresh => {
            memory.level.follow(stage, seen, supply, grain, now_ms);
            let lasting_ms = demand::rise_ms(startup_ms);
            let newest = now.map_or(0, |now| now.low).max(sent.low);
            memory.level.stand_out(stage, outstanding, newest, lasting_ms, now_ms);
        }
        Some(seen) => {
            memory.level.silence();
            memory.level.rise(stage, seen.low);
        }
        None => memory.level.silence(),
    }
    let found = Found {
        own: lasting.map(|lasting| lasting.max(proven)),
        called: forward,
        sent: (sent.low, called_more),
        one,
        supply,
        grain,
        startup_ms,
    };
    memory.sustained.follow(stage, found, now_ms);
    if senses.fresh || quiet {
        memory.silent_since_ms = None;
    } else {
        let since_ms = *memory.silent_since_ms.get_or_insert(senses.taken_ms.unwrap_or(now_ms));
        let lost_ms = since_ms.saturating_add(stage.signal_loss_ms);
        if now_ms < lost_ms {
            wake_ms = Some(wake_ms.map_or(lost_ms, |old| old.min(lost_ms)));
        }
    }
    let lost = memory
        .silent_since_ms
        .is_some_and(|since_ms| now_ms >= since_ms.saturating_add(stage.signal_loss_ms));
    if lost && !senses.fallback {
        memory.set_off(Trigger::SignalsLost);
    }
    senses.fallback = lost;
    // Fewer than the tolerance covers are too few to move a plan, and in a large stage somebody always starts.
    let many = u64::from(unheard) * 1_000 > u64::from(ready_total) * u64::from(stage.tolerance_permille);
    memory.partial_since_ms = (senses.fresh && many).then(|| memory.partial_since_ms.unwrap_or(now_ms));
    let told_ms = memory
        .partial_since_ms
        .map(|since_ms| since_ms.saturating_add(stage.signal_loss_ms));
    senses.partial = told_ms.is_some_and(|told_ms| now_ms >= told_ms);
    wake_ms = wake_ms.into_iter().chain(told_ms.filter(|_| !senses.partial)).min();
    idle &= senses.fresh && called.high == 0 && !stirred;
    // Who sleeps sees nothing: its callers wake it.
    let floor = if idle && stage.sees_waiting {
        0
    } else {
        u32::from(total > 0 || woken)
    };
    let hold = memory.level.held();
    let mut need = Need {
        demand: hold.unwrap_or(0),
        floor: stage.min.max(floor).min(stage.max),
        reliable_floor: stage.reliable_min.min(stage.max),
        ceiling: stage.max,
        uniform,
    };
    senses.blind = hold.is_none();
    if lost {
        match stage.on_signal_loss {
            OnSignalLoss::CurrentIfHigher => {}
            OnSignalLoss::Hold => {
                need.demand = 0;
                senses.blind = true;
            }
            OnSignalLoss::Static(count) => {
                need.floor = count.max(need.floor).min(stage.max);
                need.ceiling = need.floor;
                need.demand = 0;
                senses.blind = true;
            }
        }
    }
    let goes = lost && matches!(stage.on_signal_loss, OnSignalLoss::Static(_));
    if senses.blind && !goes {
        // What a shift holds twice for a while is not what runs: while blind, the count never rises by our own doing.
        let held = if memory.senses.blind && memory.ask.need.floor > 0 {
            total.min(memory.ask.need.floor)
        } else {
            total
        };
        need.floor = need.floor.max(held).min(need.ceiling);
    }
    let before = state.latency.without(stage.key, memory.ask.need);
    // The first demand that is seen is no change.
    let first = memory.senses.blind || !memory.senses.observed;
    if before.demand != need.demand && !first {
        memory.turn_over();
        // Where the level of before the start is found again, it is from above.
        state.changed |= need.demand > before.demand;
    }
    if before.demand != need.demand {
        let trend = if need.demand > before.demand {
            Trigger::DemandRose
        } else {
            Trigger::DemandFell
        };
        memory.set_off(if lost { Trigger::SignalsLost } else { trend });
    }
    memory.ask.need = need;
    memory.ask.sustained = memory.sustained.of(need.demand);
    memory.senses = senses;
    // What is averaged goes on changing while nothing new is seen.
    let averaging = now.is_some_and(|now| Some(now) != own) || sent != forward;
    let later = [
        wake_ms,
        memory.level.cooling_until_ms,
        memory.level.rise_until_ms(),
        memory.sustained.wake_ms(),
        (averaging && window_ms > 0).then(|| now_ms.saturating_add(window_ms / 16 + 1)),
    ];
    let wake_ms = later.into_iter().flatten().min();
    // Where arrivals are counted, a queue is no part of what goes on to others.
    let own_rate = match (arriving.filter(|_| silent.high == 0), by_own) {
        (Some(rate), Some(_)) => rate,
        (_, Some(own)) => own.max(proven).scaled(target, 1_000),
        (_, None) => now.unwrap_or_default().scaled(target, 1_000),
    };
    let rate = own_rate.max(called);
    let offer = Offer {
        wakes: rate.low > 0 || woken,
        stirs: rate.high > 0 || stirred || (!senses.fresh && !quiet),
        rate,
        one: Range { low: one, high: 0 }.scaled(target, 1_000).low,
    };
    Some((offer, wake_ms))
}
