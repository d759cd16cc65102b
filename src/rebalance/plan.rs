//! The joint plan: how many replicas of every stage on every pool.
//!
//! If the cheapest covers of all stages fit side by side, together they are the optimum and nothing else is looked at.
//! Where pools or budgets are short, floors are reserved first, by priority; then each stage takes its cheapest cover
//! from what is left, by priority and, among equals, by regret: what it would lose without the contested pools. Passes
//! of one-stage re-optimisation follow. Demand that finds no room stays unserved; there is always a plan.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::demand::{capacity, cut};
use super::ledger::Ledger;
use super::moves::covers;
use super::oracle::{Item, Need, Oracle, Value, value_of};
use super::world::{Mode, Variant, World};

/// Passes of one-stage re-optimisation after the first assignment.
const PASSES_MAX: usize = 2;

/// Unserved demand is compared in steps of this many thousandths of a stage's demand: less is not worth a reshuffle.
const UNSERVED_STEP_PERMILLE: u128 = 10;

/// Prices are cut here, so that no sum or product of the search overflows.
const PRICE_MAX: u64 = 1 << 40;

/// What a stage asks of the plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) need: Need,
    /// What this stage gets is not taken from the others: advisory pipelines write nothing.
    pub(super) aside: bool,
    /// What runs was found so: where not everybody gets the best, this stage grows or shrinks, but does not shift.
    pub(super) found: bool,
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
enum Aim {
    /// The price of the plan.
    Price,
    /// The reported cost, while a budget is short.
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
        },
        scarce: vec![false; problem.world.pools.len()],
        sticky: false,
    };
    if !build.all_at_once() {
        build.by_turns();
        build.plan.crowded = true;
    }
    build.aside();
    build.plan
}

struct Build<'a, 'b> {
    problem: Problem<'a>,
    oracle: &'b mut Oracle,
    items: Vec<Item>,
    plan: Plan,
    /// Pools that the cheapest covers together would overfill.
    scarce: Vec<bool>,
    /// What was planned is priced like what runs.
    sticky: bool,
}

/// What the stages of a pipeline, or of a class of them, miss.
#[derive(Clone, Copy, Debug, Default)]
struct Missing {
    floors: u64,
    /// Of the worst stage of each pipeline, thousandths of its demand.
    worst: u128,
    /// Of all stages.
    all: u128,
}

impl Missing {
    fn rank(self, floors_alone: bool) -> (u64, u128, u128) {
        if floors_alone {
            return (self.floors, 0, 0);
        }
        (
            self.floors,
            self.worst / UNSERVED_STEP_PERMILLE,
            self.all / UNSERVED_STEP_PERMILLE,
        )
    }
}

/// A stage's place in the queue for scarce pools; smaller is earlier.
type Turn = (
    std::cmp::Reverse<u16>,
    std::cmp::Reverse<(u64, u64, u128)>,
    std::cmp::Reverse<u64>,
    Traits,
    usize,
);

impl Build<'_, '_> {
    fn range(&self, stage: usize) -> std::ops::Range<usize> {
        variants_of(self.problem.world, stage)
    }

    fn pipeline(&self, stage: usize) -> usize {
        self.problem
            .world
            .stages
            .get(stage)
            .map_or(usize::MAX, |stage| stage.pipeline.0 as usize)
    }

    fn need(&self, stage: usize) -> Need {
        self.problem.asks.get(stage).map(|ask| ask.need).unwrap_or_default()
    }

    fn is_aside(&self, stage: usize) -> bool {
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
        Some(covers(&ask.need, usable))
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
    fn solve(&mut self, stage: usize, need: &Need, aim: Aim, avoid_scarce: bool, keep: bool) -> Value {
        self.items.clear();
        let range = self.range(stage);
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
                    Aim::Cost => u128::from(variant.cost_micros.min(PRICE_MAX)) << 16,
                },
                capacity: capacity(variant),
                cost: variant.cost_micros,
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
        let budget = self.plan.ledger.budget(self.pipeline(stage));
        self.oracle.solve(&self.items, need, budget).value
    }

    /// Writes the oracle's last counts for a stage and takes them out of the ledger.
    fn take(&mut self, stage: usize, value: Value) -> bool {
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

    fn give_back(&mut self, stage: usize) {
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

    /// Gives every stage its cheapest cover. True if they fit side by side; else pools that are too small are marked.
    fn all_at_once(&mut self) -> bool {
        let whole = Ledger::new(self.problem.world);
        let mut used = vec![(0_u128, 0_u128, 0_u128); whole.pools.len()];
        let mut spent = vec![0_u128; whole.budgets.len()];
        for stage in 0..self.plan.values.len() {
            if self.is_aside(stage) {
                self.stand_still(stage);
                continue;
            }
            self.plan.ledger.clone_from(&whole);
            let value = self.solve(stage, &self.need(stage), Aim::Price, false, true);
            let _fits_alone = self.take(stage, value);
        }
        for (stage, declared) in self.problem.world.stages.iter().enumerate() {
            for at in variants_of(self.problem.world, stage) {
                let (Some(variant), Some(&count)) = (self.problem.world.variants.get(at), self.plan.counts.get(at))
                else {
                    continue;
                };
                let total = |each: u64| u128::from(each) * u128::from(count);
                if let Some(pool) = used.get_mut(variant.pool.0 as usize) {
                    pool.0 += total(variant.request.cpu_millis);
                    pool.1 += total(variant.request.memory_kib);
                    pool.2 += total(variant.request.device_millis);
                }
                if let Some(pipeline) = spent.get_mut(declared.pipeline.0 as usize) {
                    *pipeline += total(variant.cost_micros);
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
        fits &= spent
            .iter()
            .zip(&whole.budgets)
            .all(|(&spent, &budget)| spent <= u128::from(budget));
        fits &= !self.problem.asks.iter().any(|ask| ask.found) || self.affords_shift(&whole);
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
    fn affords_shift(&self, whole: &Ledger) -> bool {
        let mut spent = vec![0_u128; whole.budgets.len()];
        for stage in 0..self.plan.values.len() {
            for at in self.range(stage) {
                let both = self
                    .plan
                    .counts
                    .get(at)
                    .max(self.problem.current.get(at))
                    .copied()
                    .unwrap_or(0);
                let cost = self
                    .problem
                    .world
                    .variants
                    .get(at)
                    .map_or(0, |variant| variant.cost_micros);
                if let Some(sum) = spent.get_mut(self.pipeline(stage)) {
                    *sum += u128::from(cost) * u128::from(both);
                }
            }
        }
        spent
            .iter()
            .zip(&whole.budgets)
            .all(|(&spent, &budget)| spent <= u128::from(budget))
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

    /// Two candidates: the last plan, brought up to date stage by stage, and one built from nothing, in order of need. Both
    /// are priced alike, what runs and what was planned a little lower. The new one must be better: as long as nothing
    /// that goes into it changes, every change of plan is an improvement by the same measure, so there is an end to them.
    fn by_turns(&mut self) {
        let whole = Ledger::new(self.problem.world);
        self.sticky = true;
        let turns = self.turns(&whole);
        let stages: Vec<usize> = turns.iter().map(|turn| turn.4).collect();
        self.build_anew(&stages, whole.clone());
        let fresh = std::mem::take(&mut self.plan);
        let all = self.keep_previous(&stages, whole);
        let found = all && self.problem.asks.iter().any(|ask| ask.found);
        if self.is_better(&turns, &fresh, found) {
            self.plan = fresh;
        }
    }

    fn clear(&mut self, ledger: Ledger) {
        self.plan.counts.clear();
        self.plan.counts.resize(self.problem.world.variants.len(), 0);
        self.plan.values.clear();
        self.plan
            .values
            .resize(self.problem.world.stages.len(), Value::default());
        self.plan.ledger = ledger;
        for stage in (0..self.plan.values.len())
            .filter(|&stage| self.is_aside(stage))
            .collect::<Vec<_>>()
        {
            self.take_given(stage, false);
        }
    }

    /// Hands a stage what was planned for it, or, not `bounded`, what it has, as far as that fits.
    fn take_given(&mut self, stage: usize, bounded: bool) {
        let pipeline = self.pipeline(stage);
        let ceiling = if bounded { self.need(stage).ceiling } else { u32::MAX };
        let mut left = ceiling;
        self.oracle.counts.clear();
        for at in self.range(stage) {
            let Some(variant) = self.problem.world.variants.get(at) else {
                continue;
            };
            let bound = self.problem.bounds.get(at).copied().unwrap_or_default();
            let given = if bounded {
                self.problem.previous
            } else {
                self.problem.current
            };
            let here = given
                .get(at)
                .copied()
                .unwrap_or(0)
                .min(self.plan.ledger.room(variant))
                .min(left);
            let here = if bounded {
                here.min(bound.upper).min(variant.max)
            } else {
                here
            };
            let budget = self
                .plan
                .ledger
                .budget(pipeline)
                .checked_div(variant.cost_micros)
                .unwrap_or(u64::MAX);
            let here = here.min(u32::try_from(budget).unwrap_or(u32::MAX));
            left -= here;
            self.plan.ledger.take(pipeline, variant, here);
            if let Some(slot) = self.plan.counts.get_mut(at) {
                *slot = here;
            }
        }
    }

    fn build_anew(&mut self, stages: &[usize], whole: Ledger) {
        self.clear(whole);
        self.assign(stages, Aim::Price, 1_000);
        for pipeline in 0..self.problem.world.pipelines.len() {
            let short = |value: &Value| value.short > 0 || value.unserved > 0;
            let mine: Vec<usize> = stages
                .iter()
                .copied()
                .filter(|&stage| self.pipeline(stage) == pipeline)
                .collect();
            let limited = self
                .problem
                .world
                .pipelines
                .get(pipeline)
                .is_some_and(|p| p.budget_micros.is_some());
            if limited && mine.iter().any(|&stage| self.plan.values.get(stage).is_some_and(short)) {
                // Move to cheaper pools before anything shrinks; what then is left of the budget buys back.
                self.share(pipeline, &mine);
            }
        }
        self.improve_all(stages);
    }

    /// Hands out a budget that is too small: a pipeline serves what its worst stage serves, so all stages get the same
    /// share of their demand, the largest that can be paid. What is left goes where it buys the most.
    fn share(&mut self, pipeline: usize, mine: &[usize]) {
        let clear = |build: &mut Self| mine.iter().for_each(|&stage| build.give_back(stage));
        clear(self);
        let budget = self.plan.ledger.budget(pipeline);
        let whole = self.plan.ledger.clone();
        let (mut fits, mut exceeds) = (0, 1_000_u64);
        while fits + 1 < exceeds {
            let middle = u64::midpoint(fits, exceeds);
            self.plan.ledger.lift_budget(pipeline);
            self.assign(mine, Aim::Cost, middle);
            let cost: u128 = mine.iter().map(|&stage| self.cost(stage)).sum();
            clear(self);
            self.plan.ledger.clone_from(&whole);
            if cost <= u128::from(budget) {
                fits = middle;
            } else {
                exceeds = middle;
            }
        }
        self.assign(mine, Aim::Cost, fits);
        let mut gains = Vec::with_capacity(mine.len());
        for &stage in mine {
            let (before, spent) = (
                self.plan.values.get(stage).copied().unwrap_or_default(),
                self.cost(stage),
            );
            let kept: Vec<u32> = self
                .plan
                .counts
                .get(self.range(stage))
                .map(<[u32]>::to_vec)
                .unwrap_or_default();
            let need = self.need(stage);
            self.give_back(stage);
            let value = self.solve(stage, &need, Aim::Cost, false, true);
            let range = self.range(stage);
            let costs = self.problem.world.variants.get(range).unwrap_or_default().iter();
            let cost: u128 = (costs.zip(&self.oracle.counts))
                .map(|(variant, &count)| u128::from(variant.cost_micros) * u128::from(count))
                .sum();
            let missing =
                |value: Value, demand: u64| u128::from(value.unserved) * 1_000_000 / u128::from(demand.max(1));
            let open = need
                .demand
                .saturating_sub(scaled(need.demand, fits))
                .saturating_add(before.unserved);
            let gained = missing(
                Value {
                    unserved: open,
                    ..before
                },
                need.demand,
            )
            .saturating_sub(missing(value, need.demand));
            gains.push((Reverse(gained * 1_000_000 / cost.saturating_sub(spent).max(1)), stage));
            self.oracle.counts.clone_from(&kept);
            self.take(stage, before);
        }
        gains.sort_unstable();
        for (_, stage) in gains {
            self.give_back(stage);
            let need = self.need(stage);
            let value = self.solve(stage, &need, Aim::Cost, false, true);
            self.take(stage, value);
        }
    }

    /// What a stage's part of the plan costs.
    fn cost(&self, stage: usize) -> u128 {
        let (declared, counts) = (&self.problem.world.variants, &self.plan.counts);
        let parts = self
            .range(stage)
            .filter_map(|at| Some((declared.get(at)?, *counts.get(at)?)));
        parts
            .map(|(variant, count)| u128::from(variant.cost_micros) * u128::from(count))
            .sum()
    }

    /// Takes what was planned before and improves it. Whether all of it could be taken.
    fn keep_previous(&mut self, stages: &[usize], whole: Ledger) -> bool {
        self.clear(whole);
        let mut all = true;
        for &stage in stages {
            self.take_given(stage, true);
            all &= self
                .range(stage)
                .all(|at| self.plan.counts.get(at) == self.problem.previous.get(at));
        }
        self.improve_all(stages);
        all
    }

    fn improve_all(&mut self, stages: &[usize]) {
        for _ in 0..PASSES_MAX {
            let mut better = false;
            for &stage in stages {
                better |= self.improve(stage);
            }
            if !better {
                break;
            }
        }
    }

    /// Whether `other` beats the plan at hand: class by class in what is missing, then in price; or in floors alone.
    fn is_better(&self, turns: &[Turn], other: &Plan, floors_alone: bool) -> bool {
        // A pipeline lacks what its worst stage lacks.
        let mut worst: BTreeMap<(Reverse<u16>, usize), [Missing; 2]> = BTreeMap::new();
        let mut prices = [0_u128; 2];
        for &(priority, _, Reverse(demand), _, stage) in turns {
            let both = worst.entry((priority, self.pipeline(stage))).or_default();
            for ((plan, lacks), price) in [&self.plan, other].iter().zip(both).zip(&mut prices) {
                let value = plan.values.get(stage).copied().unwrap_or_default();
                let share = u128::from(value.unserved) * 1_000 / u128::from(demand.max(1));
                lacks.floors = lacks.floors.saturating_add(value.short);
                lacks.worst = lacks.worst.max(share);
                lacks.all += share;
                *price += value.price;
            }
        }
        let mut classes: BTreeMap<Reverse<u16>, [Missing; 2]> = BTreeMap::new();
        for ((priority, _), both) in worst {
            for (class, lacks) in classes.entry(priority).or_default().iter_mut().zip(both) {
                class.floors = class.floors.saturating_add(lacks.floors);
                class.worst += lacks.worst;
                class.all += lacks.all;
            }
        }
        for [mine, theirs] in classes.into_values() {
            let (mine, theirs) = (mine.rank(floors_alone), theirs.rank(floors_alone));
            if mine != theirs {
                return theirs < mine;
            }
        }
        prices[1] < prices[0] && !floors_alone
    }

    /// Floors first, then covers, in the order given, of so many thousandths of the demand.
    fn assign(&mut self, stages: &[usize], aim: Aim, share_permille: u64) {
        for &stage in stages {
            let need = Need {
                demand: 0,
                ..self.need(stage)
            };
            if need.floor == 0 && need.reliable_floor == 0 {
                continue;
            }
            let mut value = self.solve(stage, &need, Aim::Cost, true, false);
            if value.short > 0 {
                value = self.solve(stage, &need, Aim::Cost, false, false);
            }
            self.take(stage, value);
        }
        for &stage in stages {
            self.give_back(stage);
            let whole = self.need(stage);
            let need = Need {
                demand: scaled(whole.demand, share_permille),
                ..whole
            };
            let value = self.solve(stage, &need, aim, false, true);
            self.take(stage, value);
        }
    }

    /// Re-optimises one stage with everything else as it is. Keeps what it has unless something is better.
    fn improve(&mut self, stage: usize) -> bool {
        let before: Vec<u32> = self
            .plan
            .counts
            .get(self.range(stage))
            .map(<[u32]>::to_vec)
            .unwrap_or_default();
        let need = self.need(stage);
        self.give_back(stage);
        let best = self.solve(stage, &need, Aim::Price, false, true);
        let kept = value_of(&self.items, &need, &before);
        let allowed = self
            .items
            .iter()
            .zip(&before)
            .all(|(item, &count)| count >= item.lower.min(item.upper));
        let better = best < kept || !allowed;
        if !better {
            self.oracle.counts.clone_from(&before);
        }
        self.take(stage, if better { best } else { kept });
        better
    }

    /// The order in which stages take from scarce pools.
    fn turns(&mut self, whole: &Ledger) -> Vec<Turn> {
        let mut turns = Vec::with_capacity(self.plan.values.len());
        for stage in 0..self.plan.values.len() {
            if self.is_aside(stage) {
                continue;
            }
            let need = self.need(stage);
            let with = self.plan.values.get(stage).copied().unwrap_or_default();
            self.plan.ledger.clone_from(whole);
            let without = self.solve(stage, &need, Aim::Price, true, true);
            let lost =
                u128::from(without.unserved.saturating_sub(with.unserved)) * 1_000 / u128::from(need.demand.max(1));
            let regret = (
                without.short.saturating_sub(with.short),
                u64::try_from(lost).unwrap_or(u64::MAX),
                without.price.saturating_sub(with.price),
            );
            let pipeline = self.problem.world.pipelines.get(self.pipeline(stage));
            let priority = pipeline.map_or(0, |pipeline| pipeline.priority);
            let traits = traits(self.problem.world, stage, &need);
            turns.push((Reverse(priority), Reverse(regret), Reverse(need.demand), traits, stage));
        }
        turns.sort_unstable();
        turns
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

/// So many thousandths of a demand.
fn scaled(demand: u64, permille: u64) -> u64 {
    cut(u128::from(demand) * u128::from(permille) / 1_000)
}

/// What tells two stages apart that need the same; the order of their declaration must not.
pub(super) type Traits = (Reverse<u32>, Reverse<u32>, u32, u128, u64);

pub(super) fn traits(world: &World, stage: usize, need: &Need) -> Traits {
    let variants = world.variants.get(variants_of(world, stage)).unwrap_or_default();
    let price_sum = variants.iter().map(price).fold(0, u128::saturating_add);
    let capacity_sum = variants.iter().map(capacity).fold(0, u64::saturating_add);
    (
        Reverse(need.floor),
        Reverse(need.reliable_floor),
        need.ceiling,
        price_sum,
        capacity_sum,
    )
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
