//! One step: from events to decisions.
#![allow(clippy::similar_names, reason = "`state` and `stage` are the words of the field")]

use super::decision::{Decision, Move, Reason, StageReport, Trigger};
use super::demand::{self, Range};
use super::guard;
use super::history::Dry;
use super::ledger::Ledger;
use super::moves::{self, Blocked, Site, Steps, Terms};
use super::oracle::Need;
use super::plan::{self, Ask, Bound, Plan, Problem, price, variants_of, writes};
use super::report;
use super::state::{Senses, State};
use super::verify::{Observed, verify};
use super::world::{Event, Mode, OnSignalLoss, Pipeline, Stage, StageIdx, Traffic, VariantIdx};

const MINUTE_MS: u64 = 60_000;
/// How long readings from before and after a change of Ready replicas may be left unused.
const MIXED_MS_MAX: u64 = 5_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// Absorbs `events` and decides what to write now. `now_ms` is monotonic; a step may be taken at any time, and a step
/// without events only lets time pass.
///
/// A stage is not touched before [`Event::Replicas`] has been seen for all of its variants, also for those that have no
/// Deployment yet (as `desired: 0, ready: 0`): what is not known is not zero. A decided write counts as done until it
/// is observed; if it is not observed within five seconds, the observed count holds again and the write is repeated.
pub fn step(state: &mut State, events: &[Event], now_ms: u64) -> Vec<Decision> {
    for event in events {
        state.absorb(event, now_ms);
    }
    state.age(now_ms);
    state.violations.clear();
    state.wake_ms = None;
    sense(state, now_ms);
    replan(state, now_ms);
    let Some(plan) = state.plan.take() else {
        return Vec::new();
    };
    let decisions = act(state, &plan, now_ms);
    state.plan = Some(plan);
    decisions
}

impl State {
    fn wake(&mut self, at_ms: Option<u64>) {
        self.wake_ms = match (self.wake_ms, at_ms) {
            (Some(old), Some(new)) => Some(old.min(new)),
            (old, new) => old.or(new),
        };
    }
}

/// Demand of every stage, callers before the called.
fn sense(state: &mut State, now_ms: u64) {
    let mut offered = vec![Range::default(); state.world.stages.len()];
    for at in 0..state.world.stages.len() {
        let Some((range, wake_ms)) = sense_stage(state, at, &offered, now_ms) else {
            continue;
        };
        if let Some(slot) = offered.get_mut(at) {
            *slot = range;
        }
        state.wake(wake_ms);
    }
}

/// Returns what the stage offers to those it calls, without its own headroom.
fn sense_stage(state: &mut State, at: usize, offered: &[Range], now_ms: u64) -> Option<(Range, Option<u64>)> {
    let stage = state.world.stages.get(at)?;
    let range = variants_of(&state.world, at);
    let memory = state.stages.get_mut(at)?;
    let declared = state.world.variants.get(range.clone())?;
    let variants = state.variants.get(range)?;
    let target = demand::target(stage);
    let mut forward: Option<Range> = None;
    for edge in stage
        .after
        .iter()
        .filter(|edge| stage.rated && (edge.from.0 as usize) < at)
    {
        let rated = state
            .world
            .stages
            .get(edge.from.0 as usize)
            .is_some_and(|from| from.rated);
        if let Some(from) = offered.get(edge.from.0 as usize).filter(|_| rated) {
            let calls = from.scaled(edge.calls_millis, 1_000);
            forward = Some(forward.map_or(calls, |sum| sum.plus(calls)));
        }
    }
    let forward = forward.unwrap_or_default();
    let mut own: Option<Range> = None;
    let (mut silent, mut ready_total, mut idle) = (Range::default(), 0_u32, true);
    let mut senses = Senses {
        observed: true,
        taken_ms: None,
        ..memory.senses
    };
    let mut wake_ms = None;
    let mut mixed = false;
    let newest_ms = variants
        .iter()
        .filter_map(|seen| seen.reading)
        .map(|reading| reading.taken_ms)
        .max();
    for (variant, seen) in declared.iter().zip(variants) {
        senses.observed &= seen.is_observed();
        let ready = seen.ready();
        ready_total = ready_total.saturating_add(ready);
        senses.taken_ms = senses.taken_ms.max(seen.reading.map(|reading| reading.taken_ms));
        let stale_ms = |taken_ms: u64| taken_ms.saturating_add(stage.reading_age_ms_max).saturating_add(1);
        let fresh = seen.reading.filter(|reading| now_ms < stale_ms(reading.taken_ms));
        match fresh {
            // Whoever left took the load along to the others: their newer readings have it.
            Some(reading) if ready == 0 && Some(reading.taken_ms) < newest_ms => {}
            Some(reading) => {
                let load = seen.load(stage, variant, &reading);
                if ready > 0 || reading.sampled > 0 || load.low > 0 {
                    own = Some(own.map_or(load, |sum| sum.plus(load)));
                }
                idle &= seen.idle_readings >= demand::IDLE_READINGS;
                mixed |= ready > 0 && reading.taken_ms < memory.changed_ms;
                let stale_ms = stale_ms(reading.taken_ms);
                wake_ms = Some(wake_ms.map_or(stale_ms, |old: u64| old.min(stale_ms)));
            }
            None if ready > 0 => {
                silent = silent.plus(demand::of_silence(stage, variant, ready));
                idle = false;
            }
            None => {}
        }
    }
    senses.fresh = own.is_some();
    let own = own.map(|seen| seen.plus(silent));
    // Nobody reports where nobody runs: only the callers can say.
    let quiet = ready_total == 0 && own.is_none();
    let seen = match own {
        Some(own) => Some(own.max(forward.scaled(1_000, target))),
        None if forward.low > 0 => Some(forward.scaled(1_000, target)),
        None => None,
    };
    let desired = |variant: usize| variants.get(variant).map_or(0, super::state::VariantMemory::desired);
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
    let mixed_since_ms = *memory.mixed_since_ms.get_or_insert(now_ms);
    if !mixed {
        memory.mixed_since_ms = None;
    }
    let mixed = mixed && now_ms < mixed_since_ms.saturating_add(MIXED_MS_MAX);
    match seen {
        // Load that moves between replicas would be counted twice, or not at all.
        Some(_) if mixed && memory.level.held().is_some() => {}
        Some(seen) if senses.fresh => memory.level.follow(stage, seen, supply, grain, now_ms),
        Some(seen) => {
            memory.level.silence();
            memory.level.rise(stage, seen.low);
        }
        None => memory.level.silence(),
    }
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
        memory.cause = Some(Trigger::SignalsLost);
    }
    senses.fallback = lost;
    idle &= senses.fresh && forward.high == 0;
    let floor = if idle && stage.sees_waiting {
        0
    } else {
        u32::from(total > 0)
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
        need.floor = need.floor.max(total).min(need.ceiling);
    }
    let before = memory.ask.need;
    if before.demand != need.demand {
        memory.pinned = false;
    }
    if before.demand != need.demand {
        let trend = if need.demand > before.demand {
            Trigger::DemandRose
        } else {
            Trigger::DemandFell
        };
        memory.cause = Some(if lost { Trigger::SignalsLost } else { trend });
    }
    memory.ask.need = need;
    memory.senses = senses;
    let cooling_ms = memory.level.cooling_until_ms;
    let wake_ms = match (wake_ms, cooling_ms) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let offers = own.unwrap_or_default().scaled(target, 1_000).max(forward);
    Some((offers, wake_ms))
}

/// How far each variant may go, and whether the plan's input changed.
fn bound(state: &mut State, now_ms: u64) -> bool {
    let mut changed = false;
    for at in 0..state.world.stages.len() {
        let (Some(stage), range) = (state.world.stages.get(at), variants_of(&state.world, at)) else {
            continue;
        };
        let mode = mode(state.world.pipelines.get(stage.pipeline.0 as usize));
        let Some(memory) = state.stages.get_mut(at) else {
            continue;
        };
        let (Some(declared), Some(variants)) = (state.world.variants.get(range.clone()), state.variants.get_mut(range))
        else {
            continue;
        };
        let goes = memory.senses.fallback && matches!(stage.on_signal_loss, OnSignalLoss::Static(_));
        let keep = (!memory.senses.fresh && !goes)
            || memory.senses.blind && !goes
            || mode == Mode::NoScaleIn
            || stage.down_percent_per_minute == 0;
        let mut bounds: Vec<Bound> = Vec::with_capacity(declared.len());
        for (variant, seen) in declared.iter().zip(variants.iter()) {
            let upper = match seen.dry {
                Some(dry) if dry.probing(now_ms) => dry.ready.max(seen.ready()).saturating_add(1),
                Some(_) => seen.ready(),
                None => {
                    let overdue = seen.pending.overdue(now_ms, variant.startup_ms);
                    if overdue > 0 {
                        seen.desired().saturating_sub(overdue)
                    } else {
                        u32::MAX
                    }
                }
            };
            bounds.push(Bound {
                lower: 0,
                upper: upper.min(variant.max),
            });
        }
        // A floor that only pools in trouble could hold stays where it is.
        let reach = bounds.iter().fold(0_u32, |sum, bound| sum.saturating_add(bound.upper));
        if reach < memory.ask.need.floor {
            for ((bound, variant), seen) in bounds.iter_mut().zip(declared).zip(variants.iter()) {
                bound.upper = bound.upper.max(seen.desired().min(variant.max));
            }
        }
        let reach = bounds.iter().fold(0_u32, |sum, bound| sum.saturating_add(bound.upper));
        if reach < memory.ask.need.floor {
            bounds
                .iter_mut()
                .zip(declared)
                .for_each(|(bound, variant)| bound.upper = variant.max);
        }
        memory.senses.forced = bounds
            .iter()
            .zip(variants.iter())
            .any(|(bound, seen)| seen.desired() > bound.upper);
        let spent = memory.shifts.spent(now_ms, HOUR_MS);
        memory.senses.exhausted = spent >= u64::from(stage.moves_per_hour);
        let still = memory.senses.exhausted || memory.pinned;
        let usable = bounds.iter().zip(variants.iter()).zip(declared);
        let usable = usable.map(|((bound, seen), one)| (seen.desired().min(bound.upper), demand::capacity(one)));
        let covers = moves::serve(memory.ask.need.uniform, usable) >= memory.ask.need.demand;
        for (bound, seen) in bounds.iter_mut().zip(variants.iter()) {
            let here = seen.desired();
            match mode {
                Mode::Paused => {
                    *bound = Bound {
                        lower: here,
                        upper: here,
                    }
                }
                _ if keep => bound.lower = here.min(bound.upper),
                // Without a shift left, growth and shrinking are still possible, but not both at once.
                _ if still && covers => bound.upper = bound.upper.min(here),
                _ if still => bound.lower = here.min(bound.upper),
                _ => {}
            }
            if mode == Mode::NoScaleOut {
                bound.upper = bound.upper.min(here);
            }
        }
        for (bound, seen) in bounds.iter().zip(variants.iter_mut()) {
            changed |= seen.bound != *bound;
            seen.bound = *bound;
        }
    }
    changed
}

fn mode(pipeline: Option<&Pipeline>) -> Mode {
    pipeline.map_or(Mode::Paused, |pipeline| pipeline.mode)
}

fn replan(state: &mut State, now_ms: u64) {
    let bounds_changed = bound(state, now_ms);
    let aside = |stage: &Stage| mode(state.world.pipelines.get(stage.pipeline.0 as usize)) == Mode::Advisory;
    let asks: Vec<Ask> = (state.world.stages.iter().zip(&state.stages))
        .map(|(stage, memory)| Ask {
            aside: aside(stage),
            ..memory.ask
        })
        .collect();
    let bounds: Vec<Bound> = state.variants.iter().map(|memory| memory.bound).collect();
    let current: Vec<u32> = state
        .variants
        .iter()
        .map(super::state::VariantMemory::desired)
        .collect();
    // Once a plan is reached, it is made once more from there: what runs is what a restart would start from.
    let reached = |plan: &Plan| plan.counts == current && state.planned_from != current;
    let unchanged = state.planned_asks == asks && !bounds_changed;
    if unchanged && state.plan.as_ref().is_some_and(|plan| !reached(plan)) {
        return;
    }
    let problem = Problem {
        world: &state.world,
        asks: &asks,
        bounds: &bounds,
        current: &current,
    };
    state.plan = Some(plan::plan(&problem, &mut state.oracle));
    state.planned_asks = asks;
    state.planned_from = current;
}

/// Moves, guards, check and report, stage by stage, the most important first.
fn act(state: &mut State, plan: &Plan, now_ms: u64) -> Vec<Decision> {
    let mut ledger = Ledger::new(&state.world);
    let mut over = vec![false; state.world.pipelines.len()];
    let mut costs = vec![0_u128; state.world.pipelines.len()];
    let mut observed: Vec<Observed> = Vec::with_capacity(state.variants.len());
    for (variant, memory) in state.world.variants.iter().zip(&state.variants) {
        observed.push(Observed {
            desired: memory.desired(),
            certain: memory.certain(),
            most: memory.most(),
            ready: memory.ready(),
            held: memory.held(),
        });
        let stage = state.world.stages.get(variant.stage.0 as usize);
        let pipeline = stage.map_or(usize::MAX, |stage| stage.pipeline.0 as usize);
        ledger.take(pipeline, variant, memory.held());
        let cost = u128::from(variant.cost_micros) * u128::from(memory.desired());
        if let (Some(sum), Some(over)) = (costs.get_mut(pipeline), over.get_mut(pipeline)) {
            *sum += cost;
            let budget = state
                .world
                .pipelines
                .get(pipeline)
                .and_then(|pipeline| pipeline.budget_micros);
            *over = budget.is_some_and(|budget| *sum > u128::from(budget));
        }
    }
    if state.reports.len() != state.world.stages.len() {
        state.reports.clear();
        state.reports.resize_with(state.world.stages.len(), empty_report);
    }
    let mut context = Context {
        plan,
        ledger,
        over,
        costs,
        observed,
        now_ms,
    };
    let mut decisions = Vec::new();
    for at in queue(state) {
        decisions.extend(act_stage(state, &mut context, at));
    }
    decisions
}

struct Context<'a> {
    plan: &'a Plan,
    ledger: Ledger,
    over: Vec<bool>,
    costs: Vec<u128>,
    observed: Vec<Observed>,
    now_ms: u64,
}

/// Stages by priority, then by the share of their demand that is not served now.
fn queue(state: &State) -> Vec<usize> {
    use std::cmp::Reverse;
    let mut order: Vec<(Reverse<u16>, u128, Reverse<u64>, usize)> = Vec::with_capacity(state.stages.len());
    for (at, (stage, memory)) in state.world.stages.iter().zip(&state.stages).enumerate() {
        let priority = state
            .world
            .pipelines
            .get(stage.pipeline.0 as usize)
            .map_or(0, |pipeline| pipeline.priority);
        let range = variants_of(&state.world, at);
        let ready = state
            .variants
            .get(range.clone())
            .unwrap_or_default()
            .iter()
            .map(super::state::VariantMemory::ready);
        let capacity = state
            .world
            .variants
            .get(range)
            .unwrap_or_default()
            .iter()
            .map(demand::capacity);
        let served = moves::serve(memory.ask.need.uniform, ready.zip(capacity));
        let demand = memory.ask.need.demand;
        let share = u128::from(served.min(demand)) * 1_000 / u128::from(demand.max(1));
        order.push((Reverse(priority), share, Reverse(demand), at));
    }
    order.sort_unstable();
    order.into_iter().map(|entry| entry.3).collect()
}

fn empty_report() -> StageReport {
    StageReport {
        demand_millis: None,
        ready_capacity_millis: 0,
        pending_capacity_millis: 0,
        planned: Vec::new(),
        unserved_millis: 0,
        hold: None,
        reason: Reason::Cheapest,
        signal_age_ms: None,
        signals_fresh: false,
        below_hint: false,
        not_used: Vec::new(),
    }
}

fn act_stage(state: &mut State, context: &mut Context<'_>, at: usize) -> Option<Decision> {
    let now_ms = context.now_ms;
    let stage = state.world.stages.get(at)?.clone();
    let range = variants_of(&state.world, at);
    let pipeline = stage.pipeline.0 as usize;
    let mode = mode(state.world.pipelines.get(pipeline));
    let memory = state.stages.get_mut(at)?;
    let senses = memory.senses;
    let declared = state.world.variants.get(range.clone())?;
    let variants = state.variants.get(range.clone())?;
    let planned = context.plan.counts.get(range.clone())?;
    let mut sites = Vec::with_capacity(declared.len());
    let mut overdue_ms = None;
    for ((variant, seen), &planned) in declared.iter().zip(variants).zip(planned) {
        let reliable = state
            .world
            .pools
            .get(variant.pool.0 as usize)
            .is_some_and(|pool| pool.reliable);
        sites.push(Site {
            desired: seen.desired(),
            certain: seen.certain(),
            most: seen.most(),
            in_flight: seen.in_flight(),
            ready: seen.ready(),
            planned,
            capacity: demand::capacity(variant),
            price: price(variant),
            reliable,
            dry: seen.dry.is_some(),
        });
        let due = seen.pending.overdue_ms(now_ms, variant.startup_ms);
        let dry = seen
            .dry
            .map(|dry: Dry| dry.until_ms)
            .filter(|&until_ms| until_ms > now_ms);
        overdue_ms = [overdue_ms, due, dry, seen.grace_ms()].into_iter().flatten().min();
    }
    let need = memory.ask.need;
    let base: u64 = sites.iter().map(|site| u64::from(site.desired)).sum();
    let removed = memory.shrinks.spent(now_ms, MINUTE_MS);
    let share = base
        .saturating_add(removed)
        .saturating_mul(u64::from(stage.down_percent_per_minute))
        / 100;
    let terms = Terms {
        demand: need.demand,
        floor: need.floor.min(stage.max),
        reliable_floor: need.reliable_floor,
        ceiling: stage.max,
        uniform: need.uniform,
        blind: senses.blind,
        over_budget: context.over.get(pipeline).copied().unwrap_or(false),
        surge: stage.max_surge,
        shrink_max: share.max(1).saturating_sub(removed),
    };
    let differs = sites.iter().any(|site| site.desired != site.planned);
    let mut steps = Steps::default();
    if differs && senses.observed && mode != Mode::Paused {
        let mut apart = (mode == Mode::Advisory).then(|| context.ledger.clone());
        let ledger = apart.as_mut().unwrap_or(&mut context.ledger);
        steps = moves::next(&sites, declared, &terms, ledger, pipeline);
        match mode {
            Mode::NoScaleIn => steps
                .writes
                .retain(|&(site, to)| sites.get(site).is_some_and(|site| to > site.desired)),
            Mode::NoScaleOut => steps
                .writes
                .retain(|&(site, to)| sites.get(site).is_some_and(|site| to < site.desired)),
            _ => {}
        }
    }
    let mut report = state
        .reports
        .get_mut(at)
        .map_or_else(empty_report, |slot| std::mem::replace(slot, empty_report()));
    let memory_ref: &_ = memory;
    let reason = report::explain(
        &state.world,
        at,
        memory_ref,
        &state.variants,
        context.plan,
        &mut report.not_used,
    );
    let repeated = mode == Mode::Advisory && memory.advised.as_deref() == Some(planned);
    let decided = if steps.writes.is_empty() || repeated {
        Ok(None)
    } else {
        let start = range.start;
        let moves: Vec<Move> = (steps.writes.iter())
            .filter_map(|&(site, to)| {
                let variant = VariantIdx(u32::try_from(start + site).ok()?);
                Some(Move {
                    variant,
                    from: sites.get(site)?.desired,
                    to,
                })
            })
            .collect();
        let grows = moves.iter().any(|one| one.to > one.from);
        let probing = moves.iter().any(|one| {
            let memory = state.variants.get(one.variant.0 as usize);
            one.to > one.from && memory.is_some_and(|memory| memory.dry.is_some_and(|dry| dry.probing(now_ms)))
        });
        let rejected = report
            .not_used
            .iter()
            .enumerate()
            .filter_map(|(site, why)| Some((VariantIdx(u32::try_from(start + site).ok()?), (*why)?)));
        let before = context.costs.get(pipeline).copied().unwrap_or(0);
        let after = moves.iter().fold(before, |cost, one| {
            let each = u128::from(
                state
                    .world
                    .variants
                    .get(one.variant.0 as usize)
                    .map_or(0, |variant| variant.cost_micros),
            );
            (cost + each * u128::from(one.to)).saturating_sub(each * u128::from(one.from))
        });
        let second_half = !grows && steps.ready_removed > 0 && sites.iter().any(|site| site.planned > 0);
        let shifted = second_half && !matches!(memory.cause, Some(Trigger::DemandFell | Trigger::SignalsLost));
        let decision = Decision {
            id: state.next_id,
            at_ms: now_ms,
            stage: StageIdx(u32::try_from(at).unwrap_or(u32::MAX)),
            trigger: if shifted {
                Trigger::ReplicaReady
            } else {
                memory.cause.unwrap_or(Trigger::SpecChanged)
            },
            reason: match (probing, shifted) {
                (true, _) => Reason::Probe,
                (_, true) => Reason::MakeBeforeBreak,
                _ => reason,
            },
            moves,
            demand_millis: need.demand,
            cost_before_micros: u64::try_from(before).unwrap_or(u64::MAX),
            cost_after_micros: u64::try_from(after).unwrap_or(u64::MAX),
            advisory: mode == Mode::Advisory,
            rejected: rejected.collect(),
        };
        let checked = verify(&state.world, &context.observed, &decision, need.floor);
        checked.map(|()| Some((decision, after)))
    };
    let pins = !memory.pinned && steps.blocked.budget && steps.writes.is_empty();
    memory.pinned |= pins;
    let rejected = decided.is_err();
    state
        .violations
        .extend(decided.as_ref().err().map(|&violation| (at, violation)));
    let decided = decided.unwrap_or_default();
    let covers = |sites: &[Site]| {
        moves::serve(need.uniform, sites.iter().map(|site| (site.desired, site.capacity))) >= need.demand
    };
    if let Some((decision, after)) = &decided {
        state.next_id += 1;
        if writes(mode) {
            let grows = decision.moves.iter().any(|one| one.to > one.from);
            if grows && !senses.forced && covers(&sites) && sites.iter().any(|site| site.desired > site.planned) {
                memory.shifts.spend(now_ms, 1);
            }
            if steps.ready_removed > 0 {
                memory.shrinks.spend(now_ms, steps.ready_removed);
            }
            if let Some(cost) = context.costs.get_mut(pipeline) {
                *cost = *after;
            }
            for one in &decision.moves {
                if let Some(seen) = state.variants.get_mut(one.variant.0 as usize) {
                    seen.ask(one.to, now_ms);
                }
                if let Some(slot) = context.observed.get_mut(one.variant.0 as usize) {
                    *slot = Observed {
                        desired: one.to,
                        certain: slot.certain.min(one.to),
                        most: slot.most.max(one.to),
                        ready: slot.ready.min(one.to),
                        held: slot.held.max(one.to),
                    };
                }
            }
        } else {
            memory.advised = Some(planned.to_vec());
        }
    }
    let waits = sites.iter().any(|site| site.desired != site.planned) || !steps.writes.is_empty();
    if !waits && sites.iter().all(|site| site.ready == site.desired) {
        memory.cause = None;
    }
    let expires = [
        overdue_ms,
        steps.blocked.rate.then(|| memory.shrinks.frees_ms(MINUTE_MS)).flatten(),
        senses.exhausted.then(|| memory.shifts.frees_ms(HOUR_MS)).flatten(),
        pins.then(|| now_ms.saturating_add(1)),
    ];
    let level = &memory.level;
    let input = guard::Input {
        rejected,
        paused: mode == Mode::Paused,
        advisory: mode == Mode::Advisory,
        pending: waits,
        stale: !senses.observed || (senses.taken_ms.is_some() && !senses.fresh),
        cooling: level.cooling_until_ms.is_some(),
        exhausted: senses.exhausted && waits,
        tolerated: level.within_tolerance,
        blocked: if differs { steps.blocked } else { Blocked::default() },
    };
    report.demand_millis = level.held();
    let counts =
        |count: fn(&Site) -> u32| moves::serve(need.uniform, sites.iter().map(|site| (count(site), site.capacity)));
    report.ready_capacity_millis = counts(|site| site.ready);
    report.pending_capacity_millis = counts(|site| site.desired).saturating_sub(report.ready_capacity_millis);
    report.planned.clear();
    report.planned.extend_from_slice(planned);
    report.unserved_millis = context.plan.values.get(at).map_or(0, |value| value.unserved);
    report.hold = guard::hold(&input);
    report.reason = reason;
    report.signal_age_ms = senses.taken_ms.map(|taken_ms| now_ms.saturating_sub(taken_ms));
    report.signals_fresh = senses.fresh;
    report.below_hint = declared
        .iter()
        .zip(planned)
        .any(|(variant, &count)| count > 0 && variant.hint_permille > 1_000);
    if let Some(slot) = state.reports.get_mut(at) {
        *slot = report;
    }
    state.wake(expires.into_iter().flatten().min());
    decided.map(|(decision, _)| decision)
}
