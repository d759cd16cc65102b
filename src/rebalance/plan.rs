//! The joint plan: how many replicas of every stage on every pool.
//!
//! If the cheapest covers of all stages fit side by side, together they are the optimum and nothing else is looked at.
//! Where pools or budgets are short, floors are reserved first, by priority; then each stage takes its cheapest cover
//! from what is left, by priority and, among equals, by regret: what it would lose without the contested pools. Passes
//! of one-stage re-optimisation follow. Demand that finds no room stays unserved; there is always a plan. Better ones are
//! looked for aside (`propose`).

use super::demand::capacity;
use super::ledger::Ledger;
use super::moves::covers;
use super::oracle::{Item, Need, Oracle, Value};
use super::spend::{Spend, Sum, exceeded, together};
use super::world::{Mode, Variant, World};

/// Prices are cut here, so that no sum or product of the search overflows.
const PRICE_MAX: u64 = 1 << 40;

/// What a stage asks of the plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) need: Need,
    /// What of its demand counts where it must compete, see `sustained`.
    pub(super) sustained: u64,
    /// What this stage gets is not taken from the others: advisory pipelines write nothing.
    pub(super) aside: bool,
    /// What runs was found so: where not everybody gets the best, this stage grows or shrinks, but does not shift.
    pub(super) found: bool,
    /// Some of its replicas are full, and nobody can tell how much more there is to serve: what it lacks is a guess, for
    /// which nobody else gives up anything.
    pub(super) guessed: bool,
}

impl Ask {
    /// What it needs where it must compete.
    pub(super) fn competing(&self) -> Need {
        Need {
            demand: self.sustained.min(self.need.demand),
            ..self.need
        }
    }
}

/// How many replicas a variant must keep and may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) lower: u32,
    pub(super) upper: u32,
}

/// The problem of one step. All slices are indexed as in the world.
#[derive(Clone, Copy, Debug)]
pub(super) struct Problem<'a> {
    pub(super) world: &'a World,
    pub(super) asks: &'a [Ask],
    pub(super) bounds: &'a [Bound],
    /// Replicas asked for now, by variant.
    pub(super) current: &'a [u32],
    /// The last plan, by variant; where there was none, what is asked for now.
    pub(super) previous: &'a [u32],
    /// A plan that was made aside, by variant.
    pub(super) proposal: Option<&'a [u32]>,
    /// A plan in which all had their cheapest cover, and of which stages ask, bounds and what runs are what they were.
    pub(super) last: Option<(&'a Plan, &'a [bool])>,
}

/// Wanted replicas and what they leave open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// By variant.
    pub(super) counts: Vec<u32>,
    /// By stage.
    pub(super) values: Vec<Value>,
    /// What is left of pools and budgets.
    pub(super) ledger: Ledger,
    /// The cheapest covers did not fit side by side.
    pub(super) crowded: bool,
    /// Where they did not: what is planned for the demand that lasts, by variant, before queues got what was left.
    pub(super) lasting: Vec<u32>,
}

/// Price of one replica for decisions: marginal price times hint. What a replica is reported to cost and the power it
/// draws count one part in sixteen thousand: they order pools that are paid for anyway.
pub(super) fn price(variant: &Variant) -> u128 {
    let hinted = u128::from(variant.marginal_micros.min(PRICE_MAX)) * u128::from(variant.hint_permille.min(1 << 20));
    let size = u128::from(variant.cost_micros.min(PRICE_MAX))
        + u128::from(variant.power_milliwatts.unwrap_or(0).min(PRICE_MAX));
    hinted * 16 + size
}

/// What the oracle is asked to minimise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// The price of the plan.
    Price,
    /// What is taken of the budget, while that is short.
    Cost,
}

/// Makes the plan. `oracle` is scratch space.
pub(super) fn plan(problem: &Problem<'_>, oracle: &mut Oracle) -> Plan {
    let stage_count = problem.world.stages.len();
    let mut build = Build {
        problem: *problem,
        oracle,
        items: Vec::new(),
        plan: Plan {
            counts: vec![0; problem.world.variants.len()],
            values: vec![Value::default(); stage_count],
            ledger: Ledger::new(problem.world),
            crowded: false,
            lasting: Vec::new(),
        },
        scarce: vec![false; problem.world.pools.len()],
        sticky: false,
        lasting: false,
        mates: Vec::new(),
        standing: Vec::new(),
    };
    if !build.all_at_once() {
        build.by_turns();
        build.plan.crowded = true;
    }
    build.aside();
    build.plan
}

pub(super) struct Build<'a, 'b> {
    pub(super) problem: Problem<'a>,
    pub(super) oracle: &'b mut Oracle,
    pub(super) items: Vec<Item>,
    pub(super) plan: Plan,
    /// Pools that the cheapest covers together would overfill.
    pub(super) scarce: Vec<bool>,
    /// What was planned is priced like what runs.
    pub(super) sticky: bool,
    /// Only demand that lasts counts.
    pub(super) lasting: bool,
    /// Stages of every pipeline; filled where something is short.
    pub(super) mates: Vec<Vec<usize>>,
    /// By stage, of its floor: what runs where it can stay; filled where something is short.
    pub(super) standing: Vec<u32>,
}

impl Build<'_, '_> {
    pub(super) fn range(&self, stage: usize) -> std::ops::Range<usize> {
        variants_of(self.problem.world, stage)
    }

    pub(super) fn pipeline(&self, stage: usize) -> usize {
        self.problem
            .world
            .stages
            .get(stage)
            .map_or(usize::MAX, |stage| stage.pipeline.0 as usize)
    }

    /// What its pipeline may take.
    pub(super) fn ceilings(&self, stage: usize) -> Spend {
        Spend::ceilings(self.problem.world, self.pipeline(stage))
    }

    pub(super) fn need(&self, stage: usize) -> Need {
        let ask = self.problem.asks.get(stage).copied().unwrap_or_default();
        if self.lasting { ask.competing() } else { ask.need }
    }

    pub(super) fn is_aside(&self, stage: usize) -> bool {
        self.problem.asks.get(stage).is_some_and(|ask| ask.aside)
    }

    /// Which way a stage that was found so may go: `Some(true)` down, `Some(false)` up, `None` any.
    fn held(&self, stage: usize) -> Option<bool> {
        let ask = self.problem.asks.get(stage).filter(|ask| ask.found && self.sticky)?;
        let usable = self.range(stage).map(|at| {
            let bound = self.problem.bounds.get(at).copied().unwrap_or_default();
            let capacity = self.problem.world.variants.get(at).map_or(1, capacity);
            (
                self.problem.current.get(at).copied().unwrap_or(0).min(bound.upper),
                capacity,
            )
        });
        let need = if self.lasting { ask.competing() } else { ask.need };
        Some(covers(&need, usable))
    }

    fn bound(&self, at: usize, held: Option<bool>) -> Bound {
        let bound = self.problem.bounds.get(at).copied().unwrap_or_default();
        let here = self.problem.current.get(at).copied().unwrap_or(0).min(bound.upper);
        match held {
            Some(true) => Bound { upper: here, ..bound },
            Some(false) => Bound {
                lower: bound.lower.max(here),
                ..bound
            },
            None => bound,
        }
    }

    /// Asks the oracle about one stage with what is left. The counts stay in the oracle.
    pub(super) fn solve(&mut self, stage: usize, need: &Need, aim: Aim, avoid_scarce: bool, keep: bool) -> Value {
        self.look(stage, aim, avoid_scarce, keep);
        let budget = self.plan.ledger.budget(self.pipeline(stage));
        self.oracle.solve(&self.items, need, budget).value
    }

    /// Lists the pools of a stage as they are with what is left.
    pub(super) fn look(&mut self, stage: usize, aim: Aim, avoid_scarce: bool, keep: bool) {
        self.items.clear();
        let range = self.range(stage);
        let ceilings = self.ceilings(stage);
        let held = self.held(stage);
        for at in range.clone() {
            let Some(variant) = self.problem.world.variants.get(at) else {
                continue;
            };
            let bound = self.bound(at, held);
            let avoided = avoid_scarce && self.scarce.get(variant.pool.0 as usize).copied().unwrap_or(false);
            // A pool that a stage names twice counts once.
            let first = range.start..at;
            let twice = self
                .problem
                .world
                .variants
                .get(first)
                .is_some_and(|before| before.iter().any(|v| v.pool == variant.pool));
            let upper = if avoided || twice {
                0
            } else {
                bound.upper.min(variant.max).min(self.plan.ledger.room(variant))
            };
            self.items.push(Item {
                price: match aim {
                    Aim::Price => price(variant),
                    Aim::Cost => ceilings.weigh(Spend::of(variant)) << 16,
                },
                capacity: capacity(variant),
                cost: Spend::of(variant),
                reliable: self
                    .problem
                    .world
                    .pools
                    .get(variant.pool.0 as usize)
                    .is_some_and(|pool| pool.reliable),
                current: {
                    let previous = self.problem.previous.get(at).filter(|_| self.sticky).copied();
                    let current = self.problem.current.get(at).copied().unwrap_or(0);
                    current.max(previous.unwrap_or(0))
                },
                lower: if keep { bound.lower } else { 0 },
                upper,
            });
        }
    }

    /// Writes the oracle's last counts for a stage and takes them out of the ledger.
    pub(super) fn take(&mut self, stage: usize, value: Value) -> bool {
        let pipeline = self.pipeline(stage);
        let mut fits = true;
        for (at, &count) in self.range(stage).zip(&self.oracle.counts) {
            let (Some(variant), Some(slot)) = (self.problem.world.variants.get(at), self.plan.counts.get_mut(at))
            else {
                continue;
            };
            *slot = count;
            fits &= self.plan.ledger.take(pipeline, variant, count);
        }
        if let Some(slot) = self.plan.values.get_mut(stage) {
            *slot = value;
        }
        fits
    }

    pub(super) fn give_back(&mut self, stage: usize) {
        let pipeline = self.pipeline(stage);
        for at in self.range(stage) {
            let (Some(variant), Some(slot)) = (self.problem.world.variants.get(at), self.plan.counts.get_mut(at))
            else {
                continue;
            };
            self.plan.ledger.give(pipeline, variant, *slot);
            *slot = 0;
        }
    }

    /// Takes over what a stage had in the last plan, if that would come out again.
    fn had(&mut self, stage: usize) -> bool {
        let Some((last, same)) = self.problem.last else {
            return false;
        };
        let range = self.range(stage);
        let counts = self.plan.counts.get_mut(range.clone()).zip(last.counts.get(range));
        let value = self.plan.values.get_mut(stage).zip(last.values.get(stage));
        let (Some((counts, had)), Some((value, was)), Some(true)) = (counts, value, same.get(stage)) else {
            return false;
        };
        counts.copy_from_slice(had);
        *value = *was;
        true
    }

    /// Gives every stage its cheapest cover. True if they fit side by side; else pools that are too small are marked.
    fn all_at_once(&mut self) -> bool {
        let whole = Ledger::new(self.problem.world);
        let mut used = vec![(0_u128, 0_u128, 0_u128); whole.pools.len()];
        let mut spent = vec![Sum::default(); self.problem.world.pipelines.len()];
        for stage in 0..self.plan.values.len() {
            if self.is_aside(stage) {
                self.stand_still(stage);
            } else if !self.had(stage) {
                let value = self.solve(stage, &self.need(stage), Aim::Price, false, true);
                let range = self.range(stage);
                let counts = self.plan.counts.get_mut(range).unwrap_or_default();
                for (slot, &count) in counts.iter_mut().zip(&self.oracle.counts) {
                    *slot = count;
                }
                if let Some(slot) = self.plan.values.get_mut(stage) {
                    *slot = value;
                }
            }
        }
        for (stage, declared) in self.problem.world.stages.iter().enumerate() {
            for at in variants_of(self.problem.world, stage) {
                let (Some(variant), Some(&count)) = (self.problem.world.variants.get(at), self.plan.counts.get(at))
                else {
                    continue;
                };
                if count == 0 {
                    continue;
                }
                let total = |each: u64| u128::from(each) * u128::from(count);
                if let Some(pool) = used.get_mut(variant.pool.0 as usize) {
                    pool.0 += total(variant.request.cpu_millis);
                    pool.1 += total(variant.request.memory_kib);
                    pool.2 += total(variant.request.device_millis);
                }
                if let Some(pipeline) = spent.get_mut(declared.pipeline.0 as usize) {
                    pipeline.add(Spend::of(variant).known(), count);
                }
            }
        }
        let mut fits = true;
        for ((scarce, used), pool) in self.scarce.iter_mut().zip(&used).zip(&whole.pools) {
            *scarce = used.0 > u128::from(pool.cpu_millis)
                || used.1 > u128::from(pool.memory_kib)
                || used.2 > u128::from(pool.device_millis);
            fits &= !*scarce;
        }
        fits &= pays(self.problem.world, &spent);
        fits &= !self.problem.asks.iter().any(|ask| ask.found) || self.affords_shift();
        self.plan.ledger = whole;
        if fits {
            for stage in 0..self.plan.values.len() {
                let pipeline = self.pipeline(stage);
                for at in self.range(stage) {
                    let (Some(variant), Some(&count)) = (self.problem.world.variants.get(at), self.plan.counts.get(at))
                    else {
                        continue;
                    };
                    self.plan.ledger.take(pipeline, variant, count);
                }
            }
        }
        fits
    }

    /// Whether every budget pays for what runs and what is planned side by side.
    fn affords_shift(&self) -> bool {
        let mut spent = vec![Sum::default(); self.problem.world.pipelines.len()];
        for stage in 0..self.plan.values.len() {
            for at in self.range(stage) {
                let both = self
                    .plan
                    .counts
                    .get(at)
                    .max(self.problem.current.get(at))
                    .copied()
                    .unwrap_or(0);
                let variant = self.problem.world.variants.get(at);
                if let (Some(sum), Some(variant)) = (spent.get_mut(self.pipeline(stage)), variant) {
                    sum.add(Spend::of(variant).known(), both);
                }
            }
        }
        pays(self.problem.world, &spent)
    }

    /// An advisory stage holds what it has, as far as the others are concerned.
    fn stand_still(&mut self, stage: usize) {
        for at in self.range(stage) {
            let current = self.problem.current.get(at).copied().unwrap_or(0);
            let Some(variant) = self.problem.world.variants.get(at) else {
                continue;
            };
            if let Some(slot) = self.plan.counts.get_mut(at) {
                *slot = current.min(self.plan.ledger.room(variant));
            }
        }
    }

    /// Plans advisory stages each on its own: what it would do if it were allowed to.
    fn aside(&mut self) {
        for stage in 0..self.plan.values.len() {
            if !self.is_aside(stage) {
                continue;
            }
            let ledger = self.plan.ledger.clone();
            self.give_back(stage);
            let value = self.solve(stage, &self.need(stage), Aim::Price, false, true);
            self.take(stage, value);
            self.plan.ledger = ledger;
        }
    }
}

/// Whether all budgets, own and shared, pay for what every pipeline takes.
fn pays(world: &World, spent: &[Sum]) -> bool {
    let over = exceeded(world, spent, &together(world, spent));
    !over.into_iter().any(|over| over)
}

/// A stage's variants, cut to what exists.
pub(super) fn variants_of(world: &World, stage: usize) -> std::ops::Range<usize> {
    let (start, end) = world.stages.get(stage).map_or((0, 0), |stage| stage.variants);
    let end = (end as usize).min(world.variants.len());
    (start as usize).min(end)..end
}

/// Whether a pipeline's mode lets anything be written.
pub(super) fn writes(mode: Mode) -> bool {
    matches!(mode, Mode::Automatic | Mode::NoScaleIn | Mode::NoScaleOut)
}

#[cfg(test)]
mod tests {
    use super::super::sim::{Faults, Random, Sim, random_world};
    use super::super::variant_memory::VariantMemory;
    use super::*;

    /// Changes of load, pools, others' hands and edits, while events come one pipeline at a time.
    const FAULTS: Faults = Faults {
        lost_writes: 5,
        lost_readings: 5,
        partial_readings: 5,
        drift: 5,
        capacity: 3,
        load: 25,
        restarts: 1,
        slow_writes: 0,
        crashes: 0,
        edits: 3,
        readings: None,
    };

    #[test]
    fn a_plan_for_which_only_what_changed_was_asked_again_is_the_plan_of_all() {
        let mut ample = 0;
        for seed in (1..160).step_by(2) {
            let mut random = Random::new(seed);
            let mut world = random_world(&mut random);
            for pool in &mut world.pools {
                pool.capacity.cpu_millis *= 4;
                pool.capacity.memory_kib *= 4;
            }
            let load = world.stages.iter().map(|_| random.within(0, 10_000)).collect();
            let desired = vec![1; world.variants.len()];
            let mut sim = Sim::new(world, load, desired, seed);
            for tick in 0..200 {
                sim.tick(&FAULTS);
                let state = &sim.state;
                let Some(made) = state.plan.as_ref().filter(|plan| !plan.crowded) else {
                    continue;
                };
                let bounds: Vec<Bound> = state
                    .variants
                    .iter()
                    .map(|memory: &VariantMemory| memory.bound)
                    .collect();
                let problem = Problem {
                    world: &state.world,
                    asks: &state.planned_asks,
                    bounds: &bounds,
                    current: &state.planned_from,
                    previous: &state.planned_from,
                    proposal: None,
                    last: None,
                };
                assert_eq!(
                    &plan(&problem, &mut Oracle::default()),
                    made,
                    "SIM_SEED={seed}, tick {tick}"
                );
                ample += usize::from(state.world.pipelines.len() > 1);
            }
        }
        assert!(ample > 2_000, "only {ample} plans of more than one pipeline were ample");
    }
}
