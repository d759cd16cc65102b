//! What the last step went by, stage by stage, for people who ask why. Reads only: nothing here decides anything.

use super::also;
use super::decision::{Driver, HoldReason};
use super::demand;
use super::fanout;
use super::learn::estimate::SPAN;
use super::plan::variants_of;
use super::stage_memory::StageMemory;
use super::state::State;
use super::step::{HOUR_MS, MINUTE_MS};
use super::variant_memory::VariantMemory;
use super::world::{DryReason, Learned, Reading, Stage, StageIdx, Variant, VariantIdx};

/// What a stage went by in the last step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageAccount {
    /// Demand and capacity are requests per second; else replicas' worth of work.
    pub rated: bool,
    /// Utilization at which a replica counts as full, thousandths.
    pub target_permille: u32,
    /// Replicas at least and at most.
    pub bounds: (u32, u32),
    /// What each need asks for that is known now, in a fixed order; nothing for needs that are not known.
    pub needs: Vec<Need>,
    /// Replicas that there are at least whatever is needed: declared, or what runs while nothing is known.
    pub floor: u32,
    /// Of them, replicas on pools whose nodes are not taken away.
    pub reliable_floor: u32,
    /// The need that decided; absent while nothing is needed or known.
    pub decided: Option<Driver>,
    /// What is planned for, thousandths of the stage's unit; absent while no signal has ever been seen.
    pub demand_millis: Option<u64>,
    /// Demand may be more than what is seen, because replicas are full.
    pub saturated: bool,
    /// When what holds a change back ends at the latest, where that is known.
    pub held_until_ms: Option<u64>,
    /// What the planned replicas cost, millionths per hour; absent while there is no plan.
    pub planned_micros: Option<u64>,
    /// What each caller sends per request of its own.
    pub calls: Vec<Calls>,
    /// Its variants, in the world's order.
    pub variants: Vec<VariantAccount>,
}

/// A need, and what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Which.
    pub driver: Driver,
    /// Thousandths of the stage's unit, headroom included.
    pub asks: u64,
}

/// Calls along one edge, thousandths per request of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calls {
    /// The caller.
    pub from: StageIdx,
    /// What is declared, what is in force, and how many observations that rests on. Those are of all edges together.
    pub learned: Learned,
}

/// What a variant went by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VariantAccount {
    /// Replicas asked for and Ready.
    pub replicas: (u32, u32),
    /// What one replica serves, thousandths of the stage's unit.
    pub capacity: Learned,
    /// Expected time from a larger `spec.replicas` to Ready, milliseconds.
    pub startup: Learned,
    /// What nine in ten starts take at most, milliseconds.
    pub startup_slow_ms: u64,
    /// What one replica costs, millionths per hour.
    pub cost_micros: u64,
    /// By how much the tier hint makes it dearer in the plan, thousandths.
    pub hint_permille: u32,
    /// Its pool's nodes are not taken away.
    pub reliable: bool,
    /// Replicas beyond the planned ones for which its pool has room; those of others may take it first.
    pub room: u32,
    /// Replicas that all of the stage's demand would take there, were there room for them.
    pub alone: u32,
    /// Pods could not be placed or started there: until when nothing is added, and why. Once that is past, one replica tries.
    pub dry: Option<(u64, DryReason)>,
}

/// Between which values something may be learned.
pub const fn range(declared: u64) -> (u64, u64) {
    (declared.div_ceil(SPAN), declared.saturating_mul(SPAN))
}

impl State {
    /// Whether a stage adds nothing on a pool that did not deliver, but for one replica that tries again.
    pub fn is_dry(&self, variant: VariantIdx) -> bool {
        let seen = self.variants.get(variant.0 as usize);
        seen.is_some_and(|seen| seen.dry().is_some())
    }

    /// What a stage went by, as of `now_ms`; absent for an index the world does not have.
    pub fn account(&self, stage: StageIdx, now_ms: u64) -> Option<StageAccount> {
        let at = stage.0 as usize;
        let (stage, memory, report) = (self.world.stages.get(at)?, self.stages.get(at)?, self.reports.get(at)?);
        let range = variants_of(&self.world, at);
        let declared = self.world.variants.get(range.clone())?;
        let seen = self.variants.get(range)?;
        Some(StageAccount {
            rated: stage.rated,
            target_permille: stage.target_permille,
            bounds: (stage.min, stage.max),
            needs: needs(stage, memory, report.driver, declared, seen, now_ms),
            floor: memory.ask.need.floor.max(memory.ask.need.reliable_floor),
            reliable_floor: memory.ask.need.reliable_floor,
            decided: report.driver,
            demand_millis: report.demand_millis,
            saturated: self.saturated(at),
            held_until_ms: self.held_until_ms(at, now_ms).filter(|&until_ms| until_ms > now_ms),
            planned_micros: self.plan.as_ref().map(|_| {
                let planned = report.planned.iter().zip(declared);
                planned.fold(0, |sum, (&count, variant)| {
                    variant.cost_micros.saturating_mul(u64::from(count)).saturating_add(sum)
                })
            }),
            calls: calls(stage, memory),
            variants: declared
                .iter()
                .zip(seen)
                .map(|(variant, seen)| {
                    let room = self.plan.as_ref().map_or(0, |plan| plan.ledger.room(variant));
                    let (floor, demand) = (memory.ask.need.floor, memory.ask.need.demand);
                    let whole = u32::try_from(demand.div_ceil(demand::capacity(variant))).unwrap_or(u32::MAX);
                    let pool = self.world.pools.get(variant.pool.0 as usize);
                    VariantAccount {
                        room,
                        reliable: pool.is_some_and(|pool| pool.reliable),
                        alone: whole.max(floor),
                        ..of_variant(variant, seen)
                    }
                })
                .collect(),
        })
    }

    /// When what holds a stage back ends by itself.
    fn held_until_ms(&self, at: usize, now_ms: u64) -> Option<u64> {
        let (stage, memory) = (self.world.stages.get(at)?, self.stages.get(at)?);
        let range = variants_of(&self.world, at);
        let variants = self
            .world
            .variants
            .get(range.clone())?
            .iter()
            .zip(self.variants.get(range)?);
        match self.reports.get(at)?.hold? {
            // A window, or what may go in one minute.
            HoldReason::CoolingDown => (memory.level.cooling_until_ms).or_else(|| memory.shrinks.frees_ms(MINUTE_MS)),
            HoldReason::MovesExhausted => memory.shifts.frees_ms(HOUR_MS),
            // Then `onSignalLoss` applies.
            HoldReason::MetricsStale => Some(memory.silent_since_ms?.saturating_add(stage.signal_loss_ms)),
            // Then a pool is tried again.
            HoldReason::NoCapacity => {
                let dry = variants.filter_map(|(_, seen)| Some(seen.dry()?.until_ms));
                dry.filter(|&until_ms| until_ms > now_ms).min()
            }
            // Then the pool counts as dry.
            HoldReason::AwaitingReady => {
                let due = variants.filter_map(|(variant, seen)| {
                    let patience_ms = seen.patience_ms(variant, self.pace_permille);
                    seen.pending.overdue_ms(now_ms, patience_ms)
                });
                due.min()
            }
            HoldReason::Paused
            | HoldReason::Advisory
            | HoldReason::BudgetExhausted
            | HoldReason::WithinTolerance
            | HoldReason::AtFloor
            | HoldReason::PlanRejected => None,
        }
    }
}

fn of_variant(variant: &Variant, seen: &VariantMemory) -> VariantAccount {
    let learned = seen.learned(variant);
    VariantAccount {
        replicas: (seen.desired(), seen.ready()),
        capacity: learned.capacity,
        startup: learned.startup,
        startup_slow_ms: seen.startup_slow_ms(variant),
        cost_micros: variant.cost_micros,
        hint_permille: variant.hint_permille,
        reliable: false,
        room: 0,
        alone: 0,
        dry: seen.dry().map(|dry| (dry.until_ms, dry.reason)),
    }
}

fn needs(
    stage: &Stage,
    memory: &StageMemory,
    decided: Option<Driver>,
    declared: &[Variant],
    seen: &[VariantMemory],
    now_ms: u64,
) -> Vec<Need> {
    let mut needs = Vec::new();
    let mut add = |driver, asks| needs.push(Need { driver, asks });
    let fresh: Vec<(&Variant, Reading)> = (declared.iter().zip(seen))
        .filter_map(|(variant, seen)| Some((variant, seen.reading()?)))
        .filter(|(_, reading)| now_ms.saturating_sub(reading.taken_ms) <= stage.reading_age_ms_max)
        .collect();
    let sum = |part: &dyn Fn(&Reading) -> Option<Reading>| {
        let parts = fresh
            .iter()
            .filter_map(|(variant, reading)| Some((variant, part(reading)?)));
        let asked = parts.map(|(variant, part)| demand::of_reading(stage, variant, &part).low);
        asked.reduce(u64::saturating_add)
    };
    let rate = |reading: &Reading| {
        (reading.rate_millis.is_some() && stage.rated).then(|| {
            only(reading, |part| {
                part.rate_millis = reading.rate_millis;
            })
        })
    };
    let used = |reading: &Reading| {
        reading.utilization_permille.is_some().then(|| {
            only(reading, |part| {
                part.utilization_permille = reading.utilization_permille;
            })
        })
    };
    let queue = |reading: &Reading| {
        let known = reading.running_millis.is_some() || reading.waiting_millis.is_some();
        known.then(|| {
            only(reading, |part| {
                part.running_millis = reading.running_millis;
                part.waiting_millis = reading.waiting_millis;
            })
        })
    };
    if let Some(asks) = sum(&rate) {
        add(Driver::Rate, asks);
    }
    if let Some(asks) = sum(&used) {
        add(Driver::Utilization, asks);
    }
    // Without slots nobody knows how much of a replica a request takes.
    if declared.iter().any(|variant| variant.concurrency.is_some())
        && let Some(asks) = sum(&queue)
    {
        let total = |part: fn(&Reading) -> Option<u64>| {
            fresh
                .iter()
                .filter_map(|(_, reading)| part(reading))
                .fold(0, u64::saturating_add)
        };
        let waits = total(|reading| reading.waiting_millis) > total(|reading| reading.running_millis);
        add(if waits { Driver::Waiting } else { Driver::Running }, asks);
    }
    for at in (0_u8..).take(stage.also.len()) {
        if let Some(asks) = also::asks(stage, usize::from(at), (declared, seen), now_ms) {
            add(Driver::Also(at), asks);
        }
    }
    let shown = |driver| (decided == Some(driver)).then_some(memory.senses.shown);
    if let Some(asks) = shown(Driver::Saturation) {
        add(Driver::Saturation, asks);
    }
    let sent = shown(Driver::Callers).or_else(|| memory.called.mean.map(|sent| sent.low));
    if let Some(asks) = sent.filter(|_| !stage.after.is_empty()) {
        add(Driver::Callers, asks);
    }
    let held = memory.level.held();
    if let Some(asks) = held.filter(|_| decided == Some(Driver::Recent)) {
        add(Driver::Recent, asks);
    }
    let need = memory.ask.need;
    if held.is_some_and(|held| need.demand > held) {
        add(Driver::Latency, need.demand);
    }
    needs
}

/// A reading of which only a part is known.
fn only(reading: &Reading, keep: impl FnOnce(&mut Reading)) -> Reading {
    let mut part = Reading {
        expected: reading.sampled,
        running_millis: None,
        waiting_millis: None,
        utilization_permille: None,
        rate_millis: None,
        ..*reading
    };
    keep(&mut part);
    part
}

fn calls(stage: &Stage, memory: &StageMemory) -> Vec<Calls> {
    if !stage.rated {
        return Vec::new();
    }
    let known = memory.fan_out.as_deref();
    let samples = known.map_or(0, |known| known.learned().samples);
    let edges = stage.after.iter().map(|edge| Calls {
        from: edge.from,
        learned: Learned {
            declared: edge.calls_millis,
            value: fanout::calls_millis(known, edge),
            samples,
        },
    });
    edges.collect()
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
