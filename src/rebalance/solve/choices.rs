//! What a single stage could do in a plan that is better than the best known.
//!
//! At prices λ with bound L, a plan costs L, the excess of each of its stages over what that stage would do at λ, and the
//! rent of the room it leaves; no part of that is negative. So in a better plan no stage's excess reaches the gap. Listed are
//! all counts of a stage with so little excess.

use super::instance::Instance;
use super::oracle::extra;
use super::plan::{Outcome, outcome};

/// Nodes that making a list may visit for each choice that it may hold, and between two questions whether to go on.
const NODES_PER_CHOICE: usize = 20;
const ASK_EVERY: usize = 4_096;

/// Counts of one stage.
#[derive(Clone, Debug, Default)]
pub(super) struct Choices {
    /// What each costs by itself, scaled, without the stage's constant.
    pub(super) own: Vec<i64>,
    /// Demand that each leaves open, as in [`Outcome`].
    pub(super) unserved: Vec<i64>,
    counts: Vec<u32>,
    options: usize,
}

impl Choices {
    pub(super) fn len(&self) -> usize {
        self.own.len()
    }

    /// Replicas by option.
    pub(super) fn counts(&self, choice: usize) -> &[u32] {
        &self.counts[choice * self.options..(choice + 1) * self.options]
    }
}

/// All counts of stage `at` that exceed `best`, the least at `prices`, by no more than `budget`, and waste nothing; none if these
/// are more than `most` or `go_on` says no.
pub(super) fn choices(
    instance: &Instance,
    at: usize,
    prices: &[u64],
    best: i64,
    budget: i64,
    most: usize,
    go_on: &mut dyn FnMut() -> bool,
) -> Option<Choices> {
    let stage = &instance.stages[at];
    let options = stage.options.start as usize..stage.options.end as usize;
    let mut listing = Listing {
        instance,
        at,
        best,
        budget,
        most,
        found: Choices {
            options: options.len(),
            ..Choices::default()
        },
        nodes: 0,
        go_on,
        ratios: Vec::new(),
        extras: options.map(|option| extra(instance, stage, option, prices)).collect(),
    };
    listing.fill().then_some(listing.found)
}

struct Listing<'a, 'b> {
    instance: &'a Instance,
    at: usize,
    best: i64,
    budget: i64,
    most: usize,
    found: Choices,
    nodes: usize,
    go_on: &'b mut dyn FnMut() -> bool,
    /// Least price and its capacity from each option on.
    ratios: Vec<(i64, i64)>,
    /// What the prices put on a replica, by option.
    extras: Vec<i64>,
}

impl Listing<'_, '_> {
    fn fill(&mut self) -> bool {
        let stage = &self.instance.stages[self.at];
        let extras = &self.extras;
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
        self.descend(0, 0, stage.demand, &mut counts)
    }

    fn descend(&mut self, option: usize, price: i64, demand: i64, counts: &mut [u32]) -> bool {
        self.nodes += 1;
        if self.nodes > NODES_PER_CHOICE * self.most.max(ASK_EVERY)
            || (self.nodes.is_multiple_of(ASK_EVERY) && !(self.go_on)())
        {
            return false;
        }
        let stage = &self.instance.stages[self.at];
        let most = self.best.saturating_add(self.budget);
        if option == counts.len() {
            let here = outcome(self.instance, self.at, counts);
            let own = here.value(stage.penalty);
            let rent = self
                .extras
                .iter()
                .zip(counts.iter())
                .fold(0_i64, |sum, (extra, &count)| {
                    sum.saturating_add(extra.saturating_mul(i64::from(count)))
                });
            let excess = own.saturating_add(rent).saturating_sub(self.best);
            if excess <= self.budget && !self.wastes(&here, counts) {
                self.found.own.push(own);
                self.found.unserved.push(here.unserved);
                self.found.counts.extend_from_slice(counts);
            }
            return self.found.len() <= self.most;
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
            if i128::from(price) + rest <= i128::from(most) && !self.descend(option + 1, price, demand, counts) {
                return false;
            }
            // One more only adds to the price; capacities that add are no use beyond the demand, but for floors.
            let floors = stage.min > 0 || stage.reliable_min > 0;
            let Some((each, capacity)) = units.next() else { break };
            price = price.saturating_add(each).saturating_add(self.extras[option]);
            if price > most || (demand <= 0 && !floors && !stage.uniform) {
                break;
            }
            demand -= capacity;
        }
        counts[option] = 0;
        true
    }

    /// Whether all would be as good, and no dearer, with one replica less.
    fn wastes(&self, here: &Outcome, counts: &mut [u32]) -> bool {
        (0..counts.len()).any(|option| {
            if counts[option] == 0 {
                return false;
            }
            counts[option] -= 1;
            let less = outcome(self.instance, self.at, counts);
            counts[option] += 1;
            less.price <= here.price && less.unserved <= here.unserved && less.short <= here.short
        })
    }
}
