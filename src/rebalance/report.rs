//! Why the plan is what it is: the constraint that shaped it, and for every pool why it is not used more.

use super::decision::{Driver, NotUsed, Reason};
use super::demand;
use super::oracle::Value;
use super::plan::{Plan, price, variants_of};
use super::spend::Spend;
use super::stage_memory::StageMemory;
use super::variant_memory::VariantMemory;
use super::world::{Stage, Variant, World};

/// What shaped a stage's plan, and why each of its variants is not used more.
pub(super) fn explain(
    world: &World,
    at: usize,
    memory: &StageMemory,
    variants: &[VariantMemory],
    plan: &Plan,
    not_used: &mut Vec<Option<NotUsed>>,
) -> Reason {
    not_used.clear();
    let range = variants_of(world, at);
    let counts = plan.counts.get(range.clone()).unwrap_or_default();
    let sites = world.variants.get(range.clone()).unwrap_or_default();
    let memories = variants.get(range).unwrap_or_default();
    // Per unit of capacity, the dearest variant that carries some of the plan.
    let used = || {
        let used = sites.iter().zip(counts).filter(|&(_, &count)| count > 0);
        used.map(|(variant, _)| per_unit(variant))
    };
    let dearest = used().max();
    // Beside what it is dearer than: a pool that is used for a floor may be dearer still.
    let dearer = |variant: &Variant| {
        let own = per_unit(variant);
        own.saturating_sub(used().filter(|&other| other <= own).max().unwrap_or(own))
    };
    let total = counts.iter().fold(0_u32, |sum, &count| sum.saturating_add(count));
    let need = memory.ask.need;
    for ((variant, memory), &count) in sites.iter().zip(memories).zip(counts) {
        let limit = limit(world, at, variant, memory, count, plan);
        let cheaper = dearest.is_none_or(|dearest| per_unit(variant) < dearest);
        not_used.push(match (count, limit) {
            (0, Some(limit)) => Some(limit),
            (0, None) if total >= need.ceiling => Some(NotUsed::AtBounds),
            (0, None) if counts.iter().all(|&count| count == 0) => Some(NotUsed::Dearer(per_unit(variant))),
            (0, None) => Some(NotUsed::Dearer(dearer(variant))),
            // It carries some of the plan, and would carry more of it if it could.
            (_, Some(limit)) if cheaper => Some(limit),
            (_, _) => None,
        });
    }
    if memory.senses.fallback {
        return Reason::Fallback;
    }
    let value = plan.values.get(at).copied().unwrap_or_default();
    shaped(value, total, need.ceiling, need.floor, not_used)
}

/// Which need decided how many replicas a stage is asked to have. `held` is its demand without a latency objective;
/// `served`, whether what is planned serves all of it.
pub(super) fn driver(
    stage: &Stage,
    memory: &StageMemory,
    (planned, served): (&[u32], bool),
    held: Option<u64>,
) -> Option<Driver> {
    let need = memory.ask.need;
    let total = planned.iter().fold(0_u32, |sum, &count| sum.saturating_add(count));
    if memory.senses.fallback {
        return Some(Driver::Fallback);
    }
    let held = held?;
    if need.demand > held {
        return Some(Driver::Latency);
    }
    if served && total > 0 && total <= need.floor.max(need.reliable_floor) {
        return Some(Driver::Floor);
    }
    let wide = u128::from(1_000 + stage.tolerance_permille.min(1_000));
    if u128::from(held) * 1_000 > u128::from(memory.senses.shown) * wide {
        return (held > 0).then_some(Driver::Recent);
    }
    memory.senses.driver
}

fn shaped(value: Value, total: u32, ceiling: u32, floor: u32, not_used: &[Option<NotUsed>]) -> Reason {
    let found = |wanted: fn(&NotUsed) -> bool| not_used.iter().flatten().copied().find(wanted);
    let dry = found(|one| matches!(one, NotUsed::DryUntil(..)));
    let full = found(|one| matches!(one, NotUsed::Full));
    let budget = found(|one| matches!(one, NotUsed::OverBudget | NotUsed::OverPower | NotUsed::OverShared));
    let short = value.short > 0 || value.unserved > 0;
    match (short, dry, full, budget) {
        (true, _, _, _) if total >= ceiling => Reason::AtBounds,
        (_, _, _, Some(_)) => Reason::BudgetExhausted,
        (true, _, _, None) if total == 0 => Reason::NoCapacity,
        (_, Some(NotUsed::DryUntil(_, reason)), _, _) => Reason::PoolDry(reason),
        (_, _, Some(_), _) => Reason::PoolFull,
        (true, _, _, _) => Reason::NoCapacity,
        (false, _, _, _) if total > 0 && total <= floor => Reason::AtBounds,
        (false, _, _, _) => Reason::Cheapest,
    }
}

/// What keeps a variant from one more replica, price aside.
fn limit(
    world: &World,
    at: usize,
    variant: &Variant,
    memory: &VariantMemory,
    count: u32,
    plan: &Plan,
) -> Option<NotUsed> {
    if variant.max == 0 {
        return Some(NotUsed::Excluded);
    }
    if count >= memory.bound.upper
        && let Some(dry) = memory.dry()
    {
        return Some(NotUsed::DryUntil(dry.until_ms, dry.reason));
    }
    if count >= variant.max || plan.ledger.room(variant) == 0 {
        return Some(NotUsed::Full);
    }
    let pipeline = world
        .stages
        .get(at)
        .map_or(usize::MAX, |stage| stage.pipeline.0 as usize);
    let left = plan.ledger.budget(pipeline);
    if left.affords(Spend::of(variant)) == 0 {
        if plan.ledger.own_budget(pipeline).affords(Spend::of(variant)) > 0 {
            return Some(NotUsed::OverShared);
        }
        let paid = left.micros == u64::MAX || variant.cost_micros <= left.micros;
        return Some(if paid { NotUsed::OverPower } else { NotUsed::OverBudget });
    }
    (count >= memory.bound.upper).then_some(NotUsed::AtBounds)
}

/// Price per unit of capacity and hour, hint included, millionths of a dollar.
fn per_unit(variant: &Variant) -> u64 {
    // The price is in sixteenths of a thousandth, the capacity in thousandths.
    let micros = price(variant) / 16 / u128::from(demand::capacity(variant));
    u64::try_from(micros).unwrap_or(u64::MAX)
}
