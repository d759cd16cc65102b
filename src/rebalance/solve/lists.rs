//! Lists of choices side by side: what all combinations cost at least, and which choices no good one can have.

use super::bottleneck::{Share, share};
use super::choices::Choices;
use super::instance::{Instance, OPEN, RESOURCES};
use super::oracle::FRACTION;
use super::walk_price::Point;
use crate::rebalance::bug::{Bug, seeded};

/// Choices that are laid out between two questions whether to go on.
const ASK_EVERY: usize = 1_024;
/// What prices add to a choice is cut here, which only lowers a bound.
const RENT_MAX: i64 = 1 << 61;

/// Choices of every stage that are left, by their places in its list.
pub(super) type Left = Vec<Vec<u32>>;

/// All choices of all stages.
pub(super) struct Lists<'a> {
    instance: &'a Instance,
    pub(super) choices: Vec<Choices>,
    /// What could become short.
    dims: Vec<usize>,
    /// Of these, by choice, by stage.
    uses: Vec<Vec<i64>>,
    /// Of these.
    pub(super) room: Vec<i64>,
    /// What each choice serves of its stage's demand; only where pipelines tie stages together.
    shares: Vec<Vec<Share>>,
    pub(super) constant: i128,
    /// Of the choices that are left, at the prices asked last, by stage.
    values: Vec<Vec<i64>>,
}

/// What stages would choose at some prices.
pub(super) struct Asked {
    pub(super) bound: i128,
    /// Places in the lists.
    pub(super) picks: Vec<u32>,
    /// Use minus room, by dimension.
    pub(super) excess: Vec<i64>,
}

impl<'a> Lists<'a> {
    /// None if `go_on` says no.
    pub(super) fn new(instance: &'a Instance, choices: Vec<Choices>, go_on: &mut dyn FnMut() -> bool) -> Option<Self> {
        let mut in_time = |choice: usize| !choice.is_multiple_of(ASK_EVERY) || go_on();
        let mut all = vec![0_i64; instance.room.len()];
        let mut sums = vec![0_i64; instance.room.len()];
        for (at, list) in choices.iter().enumerate() {
            let mut most = vec![0_i64; instance.room.len()];
            for choice in 0..list.len() {
                if !in_time(choice) {
                    return None;
                }
                use_of(instance, at, list.counts(choice), &mut all);
                for (most, &used) in most.iter_mut().zip(&all) {
                    *most = used.max(*most);
                }
            }
            for (sum, most) in sums.iter_mut().zip(most) {
                *sum = sum.saturating_add(most);
            }
        }
        let could_be_short = |&dim: &usize| instance.room[dim] != OPEN && sums[dim] > instance.room[dim];
        let dims: Vec<usize> = (0..instance.room.len()).filter(could_be_short).collect();
        let mut uses = Vec::with_capacity(choices.len());
        for (at, list) in choices.iter().enumerate() {
            let mut here = Vec::with_capacity(list.len() * dims.len());
            for choice in 0..list.len() {
                if !in_time(choice) {
                    return None;
                }
                use_of(instance, at, list.counts(choice), &mut all);
                here.extend(dims.iter().map(|&dim| all[dim]));
            }
            uses.push(here);
        }
        let shares = choices.iter().zip(&instance.stages).map(|(list, stage)| {
            let unserved = list.unserved.iter().filter(|_| instance.pipeline_count > 0);
            unserved.map(|&unserved| share(stage, unserved)).collect()
        });
        Some(Self {
            shares: shares.collect(),
            room: dims.iter().map(|&dim| instance.room[dim]).collect(),
            values: vec![Vec::new(); choices.len()],
            constant: instance.stages.iter().map(Instance::constant).sum(),
            uses,
            dims,
            instance,
            choices,
        })
    }

    fn use_of(&self, at: usize, choice: u32) -> &[i64] {
        let size = self.dims.len();
        &self.uses[at][choice as usize * size..(choice as usize + 1) * size]
    }

    /// Prices of what could become short.
    pub(super) fn point(&self, prices: &[u64]) -> Point {
        Point::read(self.dims.iter().map(|&dim| prices[dim]), &self.room)
    }

    /// Takes away what does not fit beside the least of the others. `false`: then nothing is left of a stage.
    pub(super) fn shrink(&self, left: &mut Left) -> bool {
        let size = self.dims.len();
        let mut least = vec![0_i64; left.len() * size];
        let mut sums = vec![0_i64; size];
        for (at, list) in left.iter().enumerate() {
            for slot in 0..size {
                let uses = list.iter().map(|&choice| self.use_of(at, choice)[slot]);
                least[at * size + slot] = uses.min().unwrap_or(0);
                sums[slot] = sums[slot].saturating_add(least[at * size + slot]);
            }
        }
        for (at, list) in left.iter_mut().enumerate() {
            list.retain(|&choice| {
                let uses = self.use_of(at, choice).iter().enumerate();
                uses.into_iter()
                    .all(|(slot, &used)| (sums[slot] - least[at * size + slot]).saturating_add(used) <= self.room[slot])
            });
            if list.is_empty() {
                return false;
            }
        }
        true
    }

    /// The most that each pipeline can serve from end to end; empty where there are none.
    fn through(&self, left: &Left) -> Vec<Share> {
        let mut through = vec![Share::WHOLE; self.instance.pipeline_count];
        for (at, list) in left.iter().enumerate() {
            let Some(whole) = through.get_mut(self.instance.stages[at].pipeline as usize) else {
                continue;
            };
            let best = list.iter().map(|&choice| self.shares[at][choice as usize]);
            let best = best.reduce(|best, one| if best.below(one) { one } else { best });
            if let Some(best) = best.filter(|best| best.is_wanted() && best.below(*whole)) {
                *whole = best;
            }
        }
        through
    }

    /// What a choice serves beyond that, at the price of leaving it unserved.
    fn lost(&self, at: usize, choice: u32, through: &[Share]) -> i64 {
        let stage = &self.instance.stages[at];
        let Some(&through) = through.get(stage.pipeline as usize) else {
            return 0;
        };
        let beyond = self.shares[at][choice as usize].beyond(through);
        stage.penalty.saturating_mul(i64::try_from(beyond).unwrap_or(i64::MAX))
    }

    /// What stages would do at these prices; none if there is no time left.
    pub(super) fn ask(&mut self, left: &Left, at: &Point, go_on: &mut dyn FnMut() -> bool) -> Option<Asked> {
        let prices = at.publish(&self.room);
        let through = self.through(left);
        let mut sum = self.constant;
        let mut picks = Vec::with_capacity(left.len());
        let mut excess: Vec<i64> = self.room.iter().map(|&room| -room).collect();
        for (stage, list) in left.iter().enumerate() {
            if !go_on() {
                return None;
            }
            let mut values = std::mem::take(&mut self.values[stage]);
            values.clear();
            let (mut least, mut pick) = (i64::MAX, 0);
            for &choice in list {
                let uses = prices.iter().zip(self.use_of(stage, choice));
                let rent = uses.fold(0_u128, |sum, (&price, &used)| {
                    sum.saturating_add(u128::from(price) * u128::from(used.cast_unsigned()))
                });
                let rent = i64::try_from(rent >> FRACTION).map_or(RENT_MAX, |rent| rent.min(RENT_MAX));
                let own = self.choices[stage].own[choice as usize];
                let value = own
                    .saturating_add(rent)
                    .saturating_add(self.lost(stage, choice, &through));
                if value < least {
                    (least, pick) = (value, choice);
                }
                values.push(value);
            }
            self.values[stage] = values;
            sum += i128::from(least);
            picks.push(pick);
            for (excess, &used) in excess.iter_mut().zip(self.use_of(stage, pick)) {
                *excess = excess.saturating_add(used);
            }
        }
        let rent = prices.iter().zip(&self.room).fold(0_u128, |sum, (&price, &room)| {
            sum.saturating_add(u128::from(price) * u128::from(room.max(0).cast_unsigned()))
        });
        let rent = i128::try_from(rent.div_ceil(1 << FRACTION)).unwrap_or(i128::MAX);
        Some(Asked {
            bound: sum.saturating_sub(rent),
            picks,
            excess,
        })
    }

    /// Takes away what exceeds the least of its stage by more than `most`, at the prices asked last.
    pub(super) fn filter(&mut self, left: &mut Left, most: i128) {
        let most = if seeded(Bug::GapHalved) { most / 2 } else { most };
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        for (list, values) in left.iter_mut().zip(&mut self.values) {
            let least = values.iter().copied().min().unwrap_or(0);
            let mut each = values.iter();
            list.retain(|_| each.next().is_some_and(|&value| value - least <= most));
            values.retain(|&value| value - least <= most);
        }
    }

    /// One choice after the other, of those that fit beside the least of the rest the one that is cheapest at the prices asked
    /// last; none if a stage finds none.
    pub(super) fn complete(&self, left: &Left) -> Option<Vec<u32>> {
        let mut order: Vec<usize> = (0..left.len()).collect();
        order.sort_by_key(|&at| (left[at].len(), at));
        let least = |at: usize, slot: usize| {
            let uses = left[at].iter().map(|&choice| self.use_of(at, choice)[slot]);
            uses.min().unwrap_or(0)
        };
        let mut room = self.room.clone();
        for at in 0..left.len() {
            for (slot, room) in room.iter_mut().enumerate() {
                *room = room.saturating_sub(least(at, slot));
            }
        }
        let mut picks = vec![0_u32; left.len()];
        for at in order {
            for (slot, room) in room.iter_mut().enumerate() {
                *room = room.saturating_add(least(at, slot));
            }
            let valued = left[at].iter().zip(&self.values[at]);
            let fits = valued.filter(|&(&choice, _)| {
                let mut uses = self.use_of(at, choice).iter().zip(&room);
                uses.all(|(&used, &room)| used <= room)
            });
            let (&choice, _) = fits.min_by_key(|&(_, &value)| value)?;
            picks[at] = choice;
            for (room, &used) in room.iter_mut().zip(self.use_of(at, choice)) {
                *room = room.saturating_sub(used);
            }
        }
        Some(picks)
    }
}

/// What counts of a stage take, by dimension.
fn use_of(instance: &Instance, at: usize, counts: &[u32], uses: &mut [i64]) {
    uses.fill(0);
    let stage = &instance.stages[at];
    for (option, &count) in (stage.options.start as usize..)
        .zip(counts)
        .filter(|(_, count)| **count > 0)
    {
        let mut add = |dim: usize, each: i64| {
            uses[dim] = uses[dim].saturating_add(each.saturating_mul(i64::from(count)));
        };
        let first = instance.pool[option] as usize * RESOURCES;
        for (resource, &each) in instance.request[option].iter().enumerate() {
            add(first + resource, each);
        }
        for &group in instance.groups(stage) {
            let dim = instance.group_dim(group);
            add(dim, instance.cost[option]);
            add(dim + 1, instance.power[option]);
        }
    }
}
