//! Small instances to the end: which plans could still be better, and is there one?
//!
//! For every stage all counts are listed that a better plan could have ([`choices`](super::choices)). The optimum is a combination
//! of one choice of each list, or what is known is the optimum. For any prices λ,
//!
//! ```text
//! Σ over stages of the least (own cost + λ·use) in its list  −  λ·room
//! ```
//!
//! bounds every combination that fits. This is the bound of [`dual`](super::dual), of fewer choices, so it is higher, and once it
//! is known every choice that exceeds its stage's least by what is left to the best plan can go. With shorter lists other
//! prices are better, so both are repeated. What then is left is split in two, by the replicas of a stage on one of its
//! pools, and each part treated alike. Where stages waver between prices is where to split: it separates what an average
//! would blur.
//!
//! A pipeline serves what its narrowest stage serves. What a choice serves beyond the most that every stage of its pipeline still
//! could is lost, and counts as unserved at once; the rest counts when a combination is complete. That only adds to its
//! cost, so nothing that could win was pruned.
//!
//! All bounds are integers. Floats only say where to look for prices (`walk_price`).

use super::choices::{Choices, choices};
use super::dual::Evaluation;
use super::instance::Instance;
use super::lists::{Left, Lists};
use super::plan::Plan;
use super::walk_price::{Point, Walk};
use super::{bottleneck, certificate};

/// Prices that are tried on all that is left, first and after each split.
const TRIES_FIRST: u32 = 60;
const TRIES: u32 = 10;
/// Choices that are listed, at most: as many as can be looked at so often, and of all stages together so many.
const LOOKS_PER_CHOICE: u64 = 40;
const CHOICES_MAX: usize = 2_000_000;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The plan is an optimum.
    Proven,
    /// It took too long. No plan costs less than this, scaled.
    Open(i128),
}

/// Tries to make `plan` an optimum and to prove it. `cost` is what it costs, scaled and end to end. Looks at no more than
/// `looks_max` choices, one that is looked at again counted again.
pub(super) fn finish(
    instance: &Instance,
    prices: &[u64],
    answers: &Evaluation,
    plan: &mut Plan,
    cost: i128,
    looks_max: u64,
    go_on: &mut dyn FnMut() -> bool,
) -> Outcome {
    // A better plan is better by a whole unit of the caller's, where costs are whole.
    let step = if instance.is_whole() { 1 << instance.scale } else { 1 };
    let mut reach = cost - step - answers.bound;
    if reach < 0 {
        return Outcome::Proven;
    }
    let (lists, budget) = loop {
        let Ok(budget) = i64::try_from(reach) else {
            return Outcome::Open(answers.bound);
        };
        let mut most = usize::try_from(looks_max / LOOKS_PER_CHOICE).map_or(CHOICES_MAX, |most| most.min(CHOICES_MAX));
        let stages = answers.values.iter().enumerate();
        let lists: Option<Vec<Choices>> = stages
            .map(|(at, &least)| {
                let list = choices(instance, at, prices, least, budget, most, go_on)?;
                most -= list.len();
                Some(list)
            })
            .collect();
        match lists {
            Some(lists) => break (lists, i128::from(budget)),
            // What exceeds half of the gap is then left open, unless a plan that is so much better is found.
            None if go_on() && reach > 0 => reach /= 2,
            None => return Outcome::Open(answers.bound),
        }
    };
    let Some(lists) = Lists::new(instance, lists, go_on) else {
        return Outcome::Open(answers.bound);
    };
    let all = lists
        .choices
        .iter()
        .map(|list| (0..list.len() as u32).collect())
        .collect();
    let start = lists.point(prices);
    let mut search = Search {
        instance,
        lists,
        best: cost,
        step,
        best_picks: None,
        plan: Plan::default(),
        looks_left: looks_max,
        open: None,
        go_on,
    };
    search.descend(all, start, answers.bound, TRIES_FIRST);
    // What is in no list exceeds the bound by more than the budget.
    let outside = answers.bound + budget + 1;
    let open = search.open.unwrap_or(outside).min(outside);
    let best = search.best;
    if let Some(picks) = search.best_picks.take() {
        search.place(&picks);
        std::mem::swap(plan, &mut search.plan);
    }
    if open > best - step {
        Outcome::Proven
    } else {
        Outcome::Open(open)
    }
}

struct Search<'a, 'b> {
    instance: &'a Instance,
    lists: Lists<'a>,
    best: i128,
    step: i128,
    /// By stage.
    best_picks: Option<Vec<u32>>,
    plan: Plan,
    looks_left: u64,
    /// Least bound of what was left open, once something was.
    open: Option<i128>,
    go_on: &'b mut dyn FnMut() -> bool,
}

/// Two parts of what is left: by the replicas of a stage on one of its options.
struct Split {
    stage: usize,
    /// Of the stage's options.
    option: usize,
    /// So many and fewer are one part.
    most: u32,
    /// That part is looked at first.
    low_first: bool,
}

impl Search<'_, '_> {
    /// Everything that fits and costs less than the best is a combination of what is left here, and none costs less than `known`.
    /// `at`: prices to begin with, of whole rooms.
    fn descend(&mut self, mut left: Left, mut at: Point, mut known: i128, tries: u32) {
        let mut seen: Vec<Vec<u32>> = Vec::new();
        if !self.bound(&mut left, &mut at, &mut known, tries, &mut seen) || !self.lists.shrink(&mut left) {
            return;
        }
        let Some(split) = self.split(&left, &seen) else {
            // One combination. What shrank last may have left it so that nobody has weighed it; whether it fits is what shrinking
            // it once more tells.
            if self.lists.shrink(&mut left) {
                let picks: Vec<u32> = left.iter().flatten().copied().collect();
                self.weigh(&picks);
            }
            return;
        };
        let list = std::mem::take(&mut left[split.stage]);
        let of = |choice: &u32| self.lists.choices[split.stage].counts(*choice as usize)[split.option];
        let (low, high): (Vec<u32>, Vec<u32>) = list.into_iter().partition(|choice| of(choice) <= split.most);
        for part in if split.low_first { [low, high] } else { [high, low] } {
            if self.open.is_some() {
                self.leave(known);
                return;
            }
            let mut left = left.clone();
            left[split.stage] = part;
            self.descend(left, at.clone(), known, TRIES);
        }
    }

    /// Looks for prices with a good bound, and takes away what it excludes. `false`: there is nothing left to split, or no time.
    /// `seen`: what stages chose at the prices that were tried.
    fn bound(
        &mut self,
        left: &mut Left,
        at: &mut Point,
        known: &mut i128,
        tries: u32,
        seen: &mut Vec<Vec<u32>>,
    ) -> bool {
        let mut walk = Walk::new(at.clone(), self.best - self.lists.constant);
        for attempt in 0..tries {
            if !self.lists.shrink(left) {
                return false;
            }
            let looks: u64 = left.iter().map(|list| list.len() as u64).sum();
            let allowed = self.looks_left.checked_sub(looks);
            let asked = allowed.and_then(|_| self.lists.ask(left, walk.at(), self.go_on));
            let Some(asked) = asked else {
                self.leave(*known);
                return false;
            };
            self.looks_left -= looks;
            if asked.bound > *known {
                *known = asked.bound;
                at.clone_from(walk.at());
            }
            if asked.excess.iter().all(|&excess| excess <= 0) {
                self.weigh(&asked.picks);
            }
            let gap = self.best - self.step - asked.bound;
            if gap < 0 {
                return false;
            }
            self.lists.filter(left, gap);
            let is_single = left.iter().all(|list| list.len() == 1);
            if (attempt == 0 || is_single)
                && let Some(picks) = self.lists.complete(left)
            {
                self.weigh(&picks);
            }
            if is_single {
                return false;
            }
            let goes_on = walk.learn(asked.bound, &asked.excess, &self.lists.room);
            seen.push(asked.picks);
            if !goes_on {
                break;
            }
        }
        true
    }

    /// What was not looked at has this bound.
    fn leave(&mut self, bound: i128) {
        self.open = Some(self.open.map_or(bound, |open| open.min(bound)));
    }

    /// Remembers a combination that fits if it is better than the best.
    fn weigh(&mut self, picks: &[u32]) {
        self.place(picks);
        let unserved = bottleneck::unserved(self.instance, &self.plan);
        let cost = certificate::cost(self.instance, &self.plan, &unserved);
        if cost < self.best {
            self.best = cost;
            self.best_picks = Some(picks.to_vec());
        }
    }

    /// Makes the plan that combination.
    fn place(&mut self, picks: &[u32]) {
        self.plan.reset(self.instance);
        for (at, &choice) in picks.iter().enumerate() {
            self.plan
                .place(self.instance, at, self.lists.choices[at].counts(choice as usize));
        }
    }

    /// Where choices differ most between the prices that were tried, in money; none if there is nothing to split.
    fn split(&self, left: &Left, seen: &[Vec<u32>]) -> Option<Split> {
        let mut found = None;
        let mut highest = (-1, -1);
        let tries = (seen.len() as i64).max(1);
        for (at, list) in left.iter().enumerate().filter(|(_, list)| list.len() > 1) {
            let stage = &self.instance.stages[at];
            for (slot, option) in (stage.options.start as usize..stage.options.end as usize).enumerate() {
                let of = |choice: u32| self.lists.choices[at].counts(choice as usize)[slot];
                let least = list.iter().map(|&choice| of(choice)).min()?;
                let most = list.iter().map(|&choice| of(choice)).max()?;
                if least == most {
                    continue;
                }
                let chosen = || seen.iter().map(|picks| i64::from(of(picks[at])));
                let sum = chosen().sum::<i64>();
                let apart = chosen().map(|count| (count * tries - sum).abs()).sum::<i64>();
                let each = i128::from(self.instance.cost[option].max(1));
                let score = (i128::from(apart) * each, i128::from(most - least) * each);
                if score > highest {
                    highest = score;
                    let below = u32::try_from(sum / tries).unwrap_or(u32::MAX).clamp(least, most - 1);
                    found = Some(Split {
                        stage: at,
                        option: slot,
                        most: below,
                        low_first: 2 * (sum - i64::from(below) * tries) < tries,
                    });
                }
            }
        }
        found
    }
}
