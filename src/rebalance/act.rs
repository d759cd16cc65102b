//! From a plan to writes: moves, guards, check and report, stage by stage.
#![allow(clippy::similar_names, reason = "`state` and `stage` are the words of the field")]

use super::bug::{Bug, seeded};
use super::decision::{Decision, Move, Reason, StageReport, Trigger};
use super::demand;
use super::guard;
use super::history::Dry;
use super::ledger::Ledger;
use super::moves::{self, Blocked, Site, Steps, Terms};
use super::plan::{Plan, price, variants_of, writes};
use super::report;
use super::scarcity::{Traits, traits};
use super::spend::{Spend, Sum, exceeded, together};
use super::state::State;
use super::step::{HOUR_MS, MINUTE_MS, mode};
use super::variant_memory::VariantMemory;
use super::verify::{Books, Observed};
use super::waited::Waited;
use super::way::{Waits, Way, way};
use super::world::{Mode, StageIdx, VariantIdx};

/// Moves, guards, check and report, stage by stage, the most important first.
pub(super) fn act(state: &mut State, plan: &Plan, now_ms: u64) -> Vec<Decision> {
    let mut ledger = Ledger::new(&state.world);
    let mut asked = vec![Sum::default(); state.world.pipelines.len()];
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
        if let Some(sum) = asked.get_mut(pipeline) {
            sum.add(Spend::of(variant).known(), memory.desired());
        }
    }
    state.together = together(&state.world, &asked);
    let over = exceeded(&state.world, &asked, &state.together);
    if state.reports.len() != state.world.stages.len() {
        state.reports.clear();
        state.reports.resize_with(state.world.stages.len(), empty_report);
    }
    let waited = Waited::new(state, plan);
    let mut context = Context {
        plan,
        waited,
        ledger,
        over,
        costs: asked.iter().map(|sum| sum.micros).collect(),
        books: Books::new(&state.world, observed),
        waiting: Vec::new(),
        now_ms,
    };
    let mut decisions = Vec::new();
    for at in queue(state) {
        decisions.extend(act_stage(state, &mut context, at, None));
    }
    // Stages that wait for each other's room wait for ever: one gives way, or what they can do without it is planned anew.
    if decisions.is_empty() && state.variants.iter().all(VariantMemory::at_rest) {
        let waiting = std::mem::take(&mut context.waiting);
        let pinned = |at: usize| state.stages.get(at).is_none_or(|memory| memory.pinned);
        let free = waiting.iter().map(|(waits, ..)| *waits);
        let free: Vec<Waits> = free.filter(|waits| !pinned(waits.stage)).collect();
        if let Some(way) = way(state, plan, &free) {
            decisions.extend(act_stage(state, &mut context, way.stage, Some(way)));
            return decisions;
        }
        for (waits, left, room) in waiting {
            if let Some(memory) = state.stages.get_mut(waits.stage).filter(|memory| !memory.pinned) {
                memory.pinned = true;
                memory.try_with(left, &room);
                state.wake(waits.stage, Some(now_ms.saturating_add(1)));
            }
        }
    }
    decisions
}

/// Everybody is where the plan wants them and nothing has moved: only what is said of them may be new.
pub(super) fn rest(state: &mut State, plan: &Plan, now_ms: u64) {
    for at in state.due.stages() {
        act_stage(state, &mut Context::at_rest(plan, now_ms), at, None);
    }
}

struct Context<'a> {
    plan: &'a Plan,
    waited: Waited,
    ledger: Ledger,
    over: Vec<bool>,
    costs: Vec<u128>,
    books: Books,
    /// Stages whose next write finds no room, with the budget and room that are left.
    waiting: Vec<(Waits, Spend, Vec<u32>)>,
    now_ms: u64,
}

impl<'a> Context<'a> {
    /// For stages that write nothing.
    fn at_rest(plan: &'a Plan, now_ms: u64) -> Self {
        Self {
            plan,
            waited: Waited::default(),
            ledger: Ledger::default(),
            over: Vec::new(),
            costs: Vec::new(),
            books: Books::default(),
            waiting: Vec::new(),
            now_ms,
        }
    }
}

/// Stages by priority, then by the share of their demand that is not served now.
fn queue(state: &State) -> Vec<usize> {
    use std::cmp::Reverse;

    type Place = (Reverse<u16>, u128, Reverse<u64>, Traits, usize);
    let mut order: Vec<Place> = Vec::with_capacity(state.stages.len());
    for (at, memory) in state.stages.iter().enumerate() {
        let range = variants_of(&state.world, at);
        let ready = state
            .variants
            .get(range.clone())
            .unwrap_or_default()
            .iter()
            .map(VariantMemory::ready);
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
        let traits = traits(&state.world, at, &memory.ask.need);
        order.push((Reverse(state.world.priority(at)), share, Reverse(demand), traits, at));
    }
    order.sort_unstable();
    order.into_iter().map(|entry| entry.4).collect()
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
        signal_taken_ms: None,
        signals_fresh: false,
        signals_partial: false,
        below_hint: false,
        not_used: Vec::new(),
        silent: 0,
        driver: None,
        learned: Vec::new(),
        calls: None,
    }
}

#[expect(
    clippy::too_many_lines,
    reason = "one pass over one stage, told in the order it happens"
)]
fn act_stage(state: &mut State, context: &mut Context<'_>, at: usize, way: Option<Way>) -> Option<Decision> {
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
            dry: seen.dry().is_some(),
            contested: context.waited.contests(variant.pool, pipeline),
        });
        let due = (seen.pending).overdue_ms(now_ms, seen.patience_ms(variant, state.pace_permille));
        let dry = seen
            .dry()
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
        untouched: removed == 0,
    };
    let room: Vec<u32> = (declared.iter())
        .map(|variant| context.ledger.room(variant).min(stage.max))
        .collect();
    let left = context.ledger.budget(pipeline);
    let differs = sites.iter().any(|site| site.desired != site.planned);
    let mut steps = Steps::default();
    if let Some(way) = way {
        let here = sites.get(way.site)?.desired;
        steps.writes.push((way.site, here.checked_sub(way.count)?));
        steps.ready_removed = way.count;
    } else if differs && senses.observed && mode != Mode::Paused {
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
            one.to > one.from && memory.is_some_and(|memory| memory.dry().is_some_and(|dry| dry.probing(now_ms)))
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
        let shifted = second_half
            && way.is_none()
            && !matches!(
                memory.cause,
                Some(Trigger::DemandFell | Trigger::SignalsLost | Trigger::Learned)
            );
        let decision = Decision {
            id: state.next_id,
            at_ms: now_ms,
            stage: StageIdx(u32::try_from(at).unwrap_or(u32::MAX)),
            trigger: if shifted {
                Trigger::ReplicaReady
            } else {
                memory.trigger(grows)
            },
            reason: match (probing, shifted) {
                _ if way.is_some() => Reason::GivesWay,
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
        let checked = context.books.verify(&state.world, &decision, need.floor, planned);
        let checked = if seeded(Bug::VerifySkipped) { Ok(()) } else { checked };
        checked.map(|()| Some((decision, after)))
    };
    let pins = !memory.pinned && steps.blocked.budget && steps.writes.is_empty();
    let unpins = memory.pinned && memory.has_more(left, &room);
    memory.pinned = (memory.pinned || pins) && !unpins;
    if unpins || pins {
        memory.try_with(left, &room);
    }
    if steps.blocked.room && steps.writes.is_empty() {
        let spent = memory.shifts.spent(now_ms, HOUR_MS);
        let waits = Waits {
            stage: at,
            shrinks: terms.shrink_max,
            shifts: u64::from(stage.moves_per_hour).saturating_sub(spent),
        };
        context.waiting.push((waits, left, room));
    }
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
            let shifts = grows && covers(&sites) && sites.iter().any(|site| site.desired > site.planned);
            if way.is_some() || (shifts && !senses.forced) {
                memory.shifts.spend(now_ms, 1);
            }
            if steps.ready_removed > 0 {
                memory.shrinks.spend(now_ms, steps.ready_removed);
            }
            if let Some(cost) = context.costs.get_mut(pipeline) {
                *cost = *after;
            }
            context.books.enter(&state.world, decision);
            for one in &decision.moves {
                if let Some(seen) = state.variants.get_mut(one.variant.0 as usize) {
                    seen.ask(one.to, now_ms);
                }
            }
        } else {
            memory.advised = Some(planned.to_vec());
        }
    }
    let waits = sites.iter().any(|site| site.desired != site.planned) || !steps.writes.is_empty();
    if !waits && sites.iter().all(|site| site.ready == site.desired) {
        memory.arrive();
    }
    let expires = [
        overdue_ms,
        steps.blocked.rate.then(|| memory.shrinks.frees_ms(MINUTE_MS)).flatten(),
        senses.exhausted.then(|| memory.shifts.frees_ms(HOUR_MS)).flatten(),
        (pins || unpins).then(|| now_ms.saturating_add(1)),
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
    report.signal_taken_ms = senses.taken_ms;
    report.signals_fresh = senses.fresh;
    report.signals_partial = senses.partial;
    report.silent = senses.silent;
    report.below_hint = declared
        .iter()
        .zip(planned)
        .any(|(variant, &count)| count > 0 && variant.hint_permille > 1_000);
    report.driver = report::driver(&stage, memory, (planned, report.unserved_millis == 0), level.held());
    report.learned.clear();
    let known = state.variants.get(range).unwrap_or_default().iter().zip(declared);
    report
        .learned
        .extend(known.map(|(seen, variant)| seen.learned(variant)));
    report.calls = memory.fan_out.as_ref().map(|calls| calls.learned());
    if let Some(slot) = state.reports.get_mut(at) {
        *slot = report;
    }
    state.wake(at, expires.into_iter().flatten().min());
    decided.map(|(decision, _)| decision)
}
