//! Small instances to the end: which plans could still be better, and is there one?
//!
//! At prices λ with bound L, a plan costs
//!
//! ```text
//! L  +  Σ excess of its stages  +  λ · room it leaves
//! ```
//!
//! and no part of that sum is negative. So in a plan that is better than the best known, every stage's excess is below
//! the gap. For every stage, list all counts with so little excess; the optimum is a combination of such lists, or what
//! is known is the optimum. Combinations are tried depth first, stages with short lists first, the sum of excesses and
//! the room that is left ending most of them early. A new best shrinks the gap and with it what is left to try.
//!
//! Ends of pipelines are counted when a combination is complete: what stages lose through their neighbours only adds to
//! its cost, so nothing that could win was pruned.
//!
//! If the lists or the search become too long, nothing is claimed.

use super::bottleneck;
use super::dual::Evaluation;
use super::instance::{Instance, RESOURCES};
use super::oracle::extra;
use super::plan::{Plan, outcome};

/// Counts that are listed per stage, at most.
const LIST_MAX: usize = 20_000;
/// Nodes that making one list may visit.
const LIST_NODES_MAX: u32 = 400_000;
/// Combinations that are looked at between two questions whether to go on.
const ASK_EVERY: u64 = 4_096;

/// Counts of one stage and their excess.
struct Choice {
    excess: i64,
    counts: Vec<u32>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The plan is an optimum.
    Proven,
    /// It took too long.
    Open,
}

/// Tries to make `plan` an optimum and to prove it. `cost` is what it costs, scaled and end to end.
pub(super) fn finish(
    instance: &Instance,
    prices: &[u64],
    answers: &Evaluation,
    plan: &mut Plan,
    cost: i128,
    nodes_max: u64,
    go_on: &mut dyn FnMut() -> bool,
) -> Outcome {
    let Ok(budget) = i64::try_from(cost - answers.bound - 1) else {
        return Outcome::Open;
    };
    if budget < 0 {
        return Outcome::Proven;
    }
    let mut lists = Vec::with_capacity(instance.stages.len());
    for (at, &best) in answers.values.iter().enumerate() {
        let mut list = List {
            instance,
            at,
            best,
            budget,
            found: Vec::new(),
            nodes: 0,
            ratios: Vec::new(),
        };
        if !go_on() || !list.fill(prices) {
            return Outcome::Open;
        }
        list.found
            .sort_by(|a, b| a.excess.cmp(&b.excess).then_with(|| a.counts.cmp(&b.counts)));
        lists.push((at, list.found));
    }
    lists.sort_by_key(|(at, list)| (list.len(), *at));
    let mut empty = Plan::default();
    empty.reset(instance);
    let mut search = Combine {
        instance,
        lists: &lists,
        bound: answers.bound,
        best: cost,
        best_plan: None,
        plan: empty,
        nodes: 0,
        nodes_max,
        stopped: false,
        go_on,
        rest: rests(instance, prices, &lists),
    };
    search.descend(0, 0);
    let stopped = search.stopped;
    if let Some(better) = search.best_plan {
        *plan = better;
    }
    if stopped { Outcome::Open } else { Outcome::Proven }
}

/// For every dimension with a price: that price, and how much the stages from each depth on can use of it at most.
fn rests(instance: &Instance, prices: &[u64], lists: &[(usize, Vec<Choice>)]) -> Vec<(usize, u64, Vec<i64>)> {
    let mut rests = Vec::new();
    for (dim, &price) in prices.iter().enumerate().filter(|&(_, &price)| price > 0) {
        let mut most = vec![0_i64; lists.len() + 1];
        for (depth, (at, list)) in lists.iter().enumerate().rev() {
            let here = list
                .iter()
                .map(|choice| used(instance, *at, &choice.counts, dim))
                .max()
                .unwrap_or(0);
            most[depth] = most[depth + 1].saturating_add(here);
        }
        rests.push((dim, price, most));
    }
    rests
}

/// What counts of a stage take of one dimension.
fn used(instance: &Instance, at: usize, counts: &[u32], dim: usize) -> i64 {
    let stage = &instance.stages[at];
    (stage.options.start as usize..)
        .zip(counts)
        .fold(0, |sum, (option, &count)| {
            let each = if dim < instance.pool_count * RESOURCES {
                let here = instance.pool[option] as usize == dim / RESOURCES;
                if here {
                    instance.request[option][dim % RESOURCES]
                } else {
                    0
                }
            } else {
                let held = instance.groups(stage).iter().find(|&&group| {
                    let first = instance.group_dim(group);
                    first == dim || first + 1 == dim
                });
                match held {
                    Some(&group) if instance.group_dim(group) == dim => instance.cost[option],
                    Some(&group) if instance.group_dim(group) + 1 == dim => instance.power[option],
                    _ => 0,
                }
            };
            sum.saturating_add(each.saturating_mul(i64::from(count)))
        })
}

/// All counts of a stage whose excess is within the budget.
struct List<'a> {
    instance: &'a Instance,
    at: usize,
    best: i64,
    budget: i64,
    found: Vec<Choice>,
    nodes: u32,
    /// Least price and its capacity from each option on.
    ratios: Vec<(i64, i64)>,
}

impl List<'_> {
    fn fill(&mut self, prices: &[u64]) -> bool {
        let stage = &self.instance.stages[self.at];
        let options = stage.options.start as usize..stage.options.end as usize;
        let extras: Vec<i64> = options
            .map(|option| extra(self.instance, stage, option, prices))
            .collect();
        let mut ratio = (stage.penalty, 1);
        self.ratios = vec![ratio; extras.len() + 1];
        for piece in self.instance.pieces(stage).iter().rev() {
            let price = piece.price.saturating_add(extras[piece.option as usize]);
            if i128::from(price) * i128::from(ratio.1) < i128::from(ratio.0) * i128::from(piece.capacity) {
                ratio = (price, piece.capacity);
            }
            self.ratios[piece.option as usize] = ratio;
        }
        // Options without pieces take the ratio of what follows them.
        for option in (0..extras.len()).rev() {
            let (here, after) = (self.ratios[option], self.ratios[option + 1]);
            if i128::from(after.0) * i128::from(here.1) < i128::from(here.0) * i128::from(after.1) {
                self.ratios[option] = after;
            }
        }
        let mut counts = vec![0; extras.len()];
        self.descend(0, 0, stage.demand, &extras, &mut counts)
    }

    fn descend(&mut self, option: usize, price: i64, demand: i64, extras: &[i64], counts: &mut Vec<u32>) -> bool {
        self.nodes += 1;
        if self.nodes > LIST_NODES_MAX {
            return false;
        }
        let stage = &self.instance.stages[self.at];
        let most = self.best.saturating_add(self.budget);
        if option == counts.len() {
            let own = outcome(self.instance, self.at, counts).value(stage.penalty);
            let rent = extras.iter().zip(counts.iter()).fold(0_i64, |sum, (extra, &count)| {
                sum.saturating_add(extra.saturating_mul(i64::from(count)))
            });
            let excess = own.saturating_add(rent).saturating_sub(self.best);
            if excess <= self.budget {
                self.found.push(Choice {
                    excess: excess.max(0),
                    counts: counts.clone(),
                });
            }
            return self.found.len() <= LIST_MAX;
        }
        let taken: u32 = counts[..option].iter().sum();
        let upper = self.instance.upper[stage.options.start as usize + option].min(stage.max - taken);
        let pieces = self
            .instance
            .pieces(stage)
            .iter()
            .filter(|piece| piece.option as usize == option);
        let mut units = pieces.flat_map(|piece| (0..piece.max).map(move |_| (piece.price, piece.capacity)));
        let (mut price, mut demand) = (price, demand);
        for count in 0..=upper {
            counts[option] = count;
            let (rate, capacity) = self.ratios[option + 1];
            let rest = i128::from(rate) * i128::from(demand.max(0)) / i128::from(capacity);
            if i128::from(price) + rest <= i128::from(most) && !self.descend(option + 1, price, demand, extras, counts)
            {
                return false;
            }
            // One more only adds to the price; capacities that add are no use beyond the demand, but for floors.
            let floors = stage.min > 0 || stage.reliable_min > 0;
            let Some((each, capacity)) = units.next() else { break };
            price = price.saturating_add(each).saturating_add(extras[option]);
            if price > most || (demand <= 0 && !floors && !stage.uniform) {
                break;
            }
            demand -= capacity;
        }
        counts[option] = 0;
        true
    }
}

struct Combine<'a, 'b> {
    instance: &'a Instance,
    lists: &'a [(usize, Vec<Choice>)],
    bound: i128,
    best: i128,
    best_plan: Option<Plan>,
    plan: Plan,
    nodes: u64,
    nodes_max: u64,
    stopped: bool,
    go_on: &'b mut dyn FnMut() -> bool,
    rest: Vec<(usize, u64, Vec<i64>)>,
}

impl Combine<'_, '_> {
    /// Rent of room that nobody can use any more, rounded down.
    fn idle(&self, depth: usize) -> i128 {
        let sum = self.rest.iter().fold(0_u128, |sum, (dim, price, most)| {
            let idle = self.plan.room[*dim].saturating_sub(most[depth]).max(0);
            sum.saturating_add(u128::from(*price) * u128::from(idle.cast_unsigned()))
        });
        i128::try_from(sum >> super::oracle::FRACTION).unwrap_or(i128::MAX)
    }

    fn descend(&mut self, depth: usize, excess: i128) {
        self.nodes += 1;
        if self.nodes > self.nodes_max || (self.nodes.is_multiple_of(ASK_EVERY) && !(self.go_on)()) {
            self.stopped = true;
            return;
        }
        let Some((at, list)) = self.lists.get(depth) else {
            let unserved = bottleneck::unserved(self.instance, &self.plan);
            let cost = super::certificate::cost(self.instance, &self.plan, &unserved);
            if cost < self.best {
                self.best = cost;
                self.best_plan = Some(self.plan.clone());
            }
            return;
        };
        for choice in list {
            let excess = excess + i128::from(choice.excess);
            if self.bound + excess >= self.best {
                return; // lists are sorted
            }
            if !self.plan.fits(self.instance, *at, &choice.counts) {
                continue;
            }
            self.plan.place(self.instance, *at, &choice.counts);
            if self.bound + excess + self.idle(depth + 1) < self.best {
                self.descend(depth + 1, excess);
            }
            let mut scratch = Vec::new();
            self.plan.free(self.instance, *at, &mut scratch);
            if self.stopped {
                return;
            }
        }
    }
}
