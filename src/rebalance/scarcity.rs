//! The joint plan where the cheapest covers do not fit side by side: who gets what of pools and budgets that are short.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::bug::{Bug, seeded};
use super::demand::{capacity, cut};
use super::ledger::Ledger;
use super::moves::serve;
use super::oracle::{Need, Value, value_of};
use super::plan::{Aim, Build, Plan, price, variants_of};
use super::spend::{Spend, Sum};
use super::world::World;

/// Passes of one-stage re-optimisation after the first assignment.
const PASSES_MAX: usize = 6;

/// Unserved demand is compared in steps of this many thousandths of a stage's demand: less is not worth a reshuffle.
const UNSERVED_STEP_PERMILLE: u128 = 10;

/// What the stages of a pipeline, or of a class of them, miss.
#[derive(Clone, Copy, Debug, Default)]
struct Missing {
    floors: u64,
    /// Stages that serve nothing.
    idle: u64,
    /// Of the worst other stage of each pipeline, thousandths of its demand. What the rest of a pipeline could serve beyond
    /// that, it serves nobody.
    worst: u128,
    /// The same of stages whose demand is a guess: no reason to take anything from an equal.
    guessed: u128,
}

impl Missing {
    fn rank(self, floors_alone: bool) -> (u64, u64, u128, u128) {
        if floors_alone {
            return (self.floors, 0, 0, 0);
        }
        let steps = |permille: u128| permille / UNSERVED_STEP_PERMILLE;
        (self.floors, self.idle, steps(self.worst), steps(self.guessed))
    }
}

/// Where a stage's counts are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    /// What runs, whatever its bounds.
    Running,
    /// What runs, within bounds.
    Kept,
    Planned,
    Proposed,
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
    /// Candidates: the last plan, brought up to date stage by stage, so what runs, one built from nothing, in order of need, and
    /// what was proposed. All are priced alike, what runs and what was planned a little lower. A new one must be better: as long as
    /// nothing that goes into it changes, every change of plan is an improvement by the same measure, so there is an end
    /// to them.
    pub(super) fn by_turns(&mut self) {
        let whole = Ledger::new(self.problem.world);
        self.sticky = true;
        self.lasting = true;
        let turns = self.turns(&whole);
        let stages: Vec<usize> = turns.iter().map(|turn| turn.4).collect();
        self.mates.resize(self.problem.world.pipelines.len(), Vec::new());
        for &stage in &stages {
            let pipeline = self.pipeline(stage);
            if let Some(mates) = self.mates.get_mut(pipeline) {
                mates.push(stage);
            }
        }
        self.standing = self.standing(&stages, whole.clone());
        let mut others = Vec::with_capacity(3);
        if self.problem.proposal.is_some() {
            self.start_from(Given::Proposed, &stages, whole.clone());
            others.push(std::mem::take(&mut self.plan));
        }
        if self.problem.previous != self.problem.current {
            // What was planned may be out of reach by now.
            self.start_from(Given::Kept, &stages, whole.clone());
            others.push(std::mem::take(&mut self.plan));
        }
        self.build_anew(&stages, whole.clone());
        others.push(std::mem::take(&mut self.plan));
        let all = self.start_from(Given::Planned, &stages, whole);
        let found = all && self.problem.asks.iter().any(|ask| ask.found);
        for other in others {
            if self.is_better(&turns, &other, found) {
                self.plan = other;
            }
        }
        self.plan.lasting.clone_from(&self.plan.counts);
        self.lasting = false;
        self.fill(&stages);
    }

    /// What is left goes to queues, as far as their pipelines can use it.
    fn fill(&mut self, stages: &[usize]) {
        for &stage in stages {
            self.rate(stage);
        }
        for &stage in stages {
            let hurried = self
                .problem
                .asks
                .get(stage)
                .is_some_and(|ask| ask.sustained < ask.need.demand);
            if hurried {
                self.improve(stage);
            }
        }
    }

    /// Of every stage's floor, what runs where it can stay. Nobody's floor is met at its expense, so no plan may count on it.
    fn standing(&mut self, stages: &[usize], whole: Ledger) -> Vec<u32> {
        self.clear(whole);
        let mut standing = vec![0; self.problem.world.stages.len()];
        for &stage in stages {
            self.take_given(stage, Given::Kept);
            let stays = self.replicas(stage, &self.plan.counts);
            if let (Some(slot), Some(declared)) = (standing.get_mut(stage), self.problem.world.stages.get(stage)) {
                // Whoever is blind asks for more than its declared floor, and is held by its bounds.
                *slot = stays.min(declared.min).min(self.need(stage).floor);
            }
        }
        standing
    }

    /// Replicas of a stage on all pools.
    fn replicas(&self, stage: usize, counts: &[u32]) -> u32 {
        let counts = counts.get(self.range(stage)).unwrap_or_default();
        counts.iter().fold(0, |sum: u32, &count| sum.saturating_add(count))
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
            self.take_given(stage, Given::Running);
        }
    }

    fn counts(&self, given: Given) -> &[u32] {
        match given {
            Given::Running | Given::Kept => self.problem.current,
            Given::Planned => self.problem.previous,
            Given::Proposed => self.problem.proposal.unwrap_or_default(),
        }
    }

    /// Hands a stage what is given, as far as that fits.
    fn take_given(&mut self, stage: usize, given: Given) {
        let bounded = given != Given::Running;
        let pipeline = self.pipeline(stage);
        let ceiling = if bounded { self.need(stage).ceiling } else { u32::MAX };
        let mut left = ceiling;
        self.oracle.counts.clear();
        for at in self.range(stage) {
            let Some(variant) = self.problem.world.variants.get(at) else {
                continue;
            };
            let bound = self.problem.bounds.get(at).copied().unwrap_or_default();
            let here = self
                .counts(given)
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
            let paid = self.plan.ledger.budget(pipeline).affords(Spend::of(variant));
            let here = here.min(u32::try_from(paid).unwrap_or(u32::MAX));
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
            let limited = Spend::ceilings(self.problem.world, pipeline) != Spend::UNLIMITED;
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
            let mut cost = Sum::default();
            for &stage in mine {
                self.spend(stage, &mut cost);
            }
            clear(self);
            self.plan.ledger.clone_from(&whole);
            if cost.within(budget) {
                fits = middle;
            } else {
                exceeds = middle;
            }
        }
        self.assign(mine, Aim::Cost, fits);
        let mut gains = Vec::with_capacity(mine.len());
        for &stage in mine {
            let before = self.plan.values.get(stage).copied().unwrap_or_default();
            let spent = self.weight(stage, self.plan.counts.get(self.range(stage)).unwrap_or_default());
            let kept: Vec<u32> = self
                .plan
                .counts
                .get(self.range(stage))
                .map(<[u32]>::to_vec)
                .unwrap_or_default();
            let need = self.need(stage);
            self.give_back(stage);
            let value = self.solve(stage, &need, Aim::Cost, false, true);
            let cost = self.weight(stage, &self.oracle.counts);
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

    /// Adds what a stage's part of the plan takes of the budget.
    fn spend(&self, stage: usize, sum: &mut Sum) {
        let (declared, counts) = (&self.problem.world.variants, &self.plan.counts);
        let parts = self
            .range(stage)
            .filter_map(|at| Some((declared.get(at)?, *counts.get(at)?)));
        parts.for_each(|(variant, count)| sum.add(Spend::of(variant).known(), count));
    }

    /// How much so many replicas of a stage weigh against what its pipeline may take.
    fn weight(&self, stage: usize, counts: &[u32]) -> u128 {
        let ceilings = self.ceilings(stage);
        let declared = self.problem.world.variants.get(self.range(stage)).unwrap_or_default();
        (declared.iter().zip(counts))
            .map(|(variant, &count)| ceilings.weigh(Spend::of(variant)) * u128::from(count))
            .sum()
    }

    /// Takes what is given and improves it. Whether all of it could be taken.
    fn start_from(&mut self, given: Given, stages: &[usize], whole: Ledger) -> bool {
        self.clear(whole);
        let mut all = true;
        for &stage in stages {
            self.take_given(stage, given);
            all &= self
                .range(stage)
                .all(|at| self.plan.counts.get(at) == self.counts(given).get(at));
            self.rate(stage);
        }
        self.improve_all(stages);
        all
    }

    /// Notes what a stage's counts are worth.
    fn rate(&mut self, stage: usize) {
        self.look(stage, Aim::Price, false, true);
        let counts = self.plan.counts.get(self.range(stage)).unwrap_or_default();
        let value = value_of(&self.items, &self.need(stage), counts);
        if let Some(slot) = self.plan.values.get_mut(stage) {
            *slot = value;
        }
    }

    /// What a stage can use: of its demand, the share that every other stage of its pipeline passes on. Those that serve
    /// nothing at all are left out: it says more about them than about what arrives here. So are those whose demand is a
    /// guess. After a start less is known, which is no reason to serve less than what runs does.
    fn usable(&self, stage: usize) -> Need {
        let need = self.need(stage);
        let mut demand = need.demand;
        for &mate in self.mates.get(self.pipeline(stage)).into_iter().flatten() {
            let asks = self.need(mate).demand;
            let open = self.plan.values.get(mate).map_or(0, |value| value.unserved);
            let guessed = self.problem.asks.get(mate).is_some_and(|ask| ask.guessed);
            if mate == stage || open == 0 || open >= asks || guessed {
                continue;
            }
            let passed = (u128::from(need.demand) * u128::from(asks - open)).div_ceil(u128::from(asks));
            demand = demand.min(cut(passed));
        }
        if self.problem.asks.get(stage).is_some_and(|ask| ask.found) {
            let declared = self.problem.world.variants.get(self.range(stage)).unwrap_or_default();
            let runs = self.problem.current.get(self.range(stage)).unwrap_or_default();
            let runs = runs.iter().copied().zip(declared.iter().map(capacity));
            demand = demand.max(serve(need.uniform, runs)).min(need.demand);
        }
        Need { demand, ..need }
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
    ///
    /// Floors that are met by what runs come before all classes. A floor that is not met waits for room that is free:
    /// a plan that gives it what others stand on would leave that room to nobody.
    ///
    /// Floors of pipelines that share a ceiling come before all classes: what runs there goes no lower than its floor for
    /// anybody, so the ceiling would not be kept by a plan that counts on it.
    fn is_better(&self, turns: &[Turn], other: &Plan, floors_alone: bool) -> bool {
        // A pipeline lacks what its worst stage lacks.
        let mut worst: BTreeMap<(Reverse<u16>, usize), [Missing; 2]> = BTreeMap::new();
        let mut prices = [0_u128; 2];
        let mut shared = [0_u64; 2];
        let mut fallen = [0_u64; 2];
        for &(priority, _, Reverse(demand), _, stage) in turns {
            let both = worst.entry((priority, self.pipeline(stage))).or_default();
            let pipeline = self.problem.world.pipelines.get(self.pipeline(stage));
            let is_member = pipeline.is_some_and(|pipeline| pipeline.shared.is_some());
            let plans = [&self.plan, other];
            let standing = self.standing.get(stage).copied().unwrap_or(0);
            for (plan, fallen) in plans.iter().zip(&mut fallen) {
                *fallen += u64::from(standing.saturating_sub(self.replicas(stage, &plan.counts)));
            }
            for (((plan, lacks), price), shared) in plans.iter().zip(both).zip(&mut prices).zip(&mut shared) {
                let value = plan.values.get(stage).copied().unwrap_or_default();
                *shared += if is_member { value.short } else { 0 };
                let share = u128::from(value.unserved) * 1_000 / u128::from(demand.max(1));
                lacks.floors = lacks.floors.saturating_add(value.short);
                if demand > 0 && value.unserved >= demand {
                    lacks.idle += 1;
                } else if self.problem.asks.get(stage).is_some_and(|ask| ask.guessed) {
                    lacks.guessed = lacks.guessed.max(share);
                } else {
                    lacks.worst = lacks.worst.max(share);
                }
                *price += value.price;
            }
        }
        let mut classes: BTreeMap<Reverse<u16>, [Missing; 2]> = BTreeMap::new();
        for ((priority, _), both) in worst {
            for (class, lacks) in classes.entry(priority).or_default().iter_mut().zip(both) {
                class.floors = class.floors.saturating_add(lacks.floors);
                class.idle += lacks.idle;
                class.worst += lacks.worst;
                class.guessed += lacks.guessed;
            }
        }
        if fallen[0] != fallen[1] {
            return fallen[1] < fallen[0];
        }
        if shared[0] != shared[1] {
            return shared[1] < shared[0];
        }
        for [mine, theirs] in classes.into_values() {
            let (mine, theirs) = (mine.rank(floors_alone), theirs.rank(floors_alone));
            if mine != theirs {
                return theirs < mine;
            }
        }
        prices[1] < prices[0] && !floors_alone
    }

    /// Floors first, those that stand before the others, then covers, in the order given, of so many thousandths of the demand.
    fn assign(&mut self, stages: &[usize], aim: Aim, share_permille: u64) {
        let standing: Vec<(usize, bool)> = stages.iter().map(|&stage| (stage, true)).collect();
        let all = stages.iter().map(|&stage| (stage, false));
        for (stage, stands) in standing.into_iter().chain(all) {
            let need = Need {
                demand: 0,
                ..self.need(stage)
            };
            let stays = self.standing.get(stage).copied().unwrap_or(0);
            let need = Need {
                floor: if stands { stays } else { need.floor },
                reliable_floor: if stands {
                    need.reliable_floor.min(stays)
                } else {
                    need.reliable_floor
                },
                ..need
            };
            if need.floor == 0 && need.reliable_floor == 0 {
                continue;
            }
            self.give_back(stage);
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

    /// Re-optimises one stage with everything else as it is, for what its pipeline lets it serve. Keeps what it has unless
    /// something is better.
    fn improve(&mut self, stage: usize) -> bool {
        let before: Vec<u32> = self
            .plan
            .counts
            .get(self.range(stage))
            .map(<[u32]>::to_vec)
            .unwrap_or_default();
        let need = self.usable(stage);
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
        let value = value_of(&self.items, &self.need(stage), &self.oracle.counts);
        self.take(stage, value);
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
            self.plan.ledger.clone_from(whole);
            let with = if need.demand == self.problem.asks.get(stage).map_or(0, |ask| ask.need.demand) {
                self.plan.values.get(stage).copied().unwrap_or_default()
            } else {
                self.solve(stage, &need, Aim::Price, false, true)
            };
            let without = self.solve(stage, &need, Aim::Price, true, true);
            let lost =
                u128::from(without.unserved.saturating_sub(with.unserved)) * 1_000 / u128::from(need.demand.max(1));
            let regret = (
                without.short.saturating_sub(with.short),
                u64::try_from(lost).unwrap_or(u64::MAX),
                without.price.saturating_sub(with.price),
            );
            let pipeline = self.problem.world.pipelines.get(self.pipeline(stage));
            let priority = pipeline
                .filter(|_| !seeded(Bug::PriorityIgnored))
                .map_or(0, |pipeline| pipeline.priority);
            let traits = traits(self.problem.world, stage, &need);
            turns.push((Reverse(priority), Reverse(regret), Reverse(need.demand), traits, stage));
        }
        turns.sort_unstable();
        if seeded(Bug::TieByName) {
            turns.sort_by_key(|turn| self.problem.world.stages.get(turn.4).map(|stage| stage.key));
        }
        turns
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
