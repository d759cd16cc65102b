//! Exact covering knapsack by depth-first branch and bound.
//!
//! Items stand by price per capacity. Taking the demand fractionally from the front is the cheapest cover there could
//! be, so at every node "price so far + fractional rest" bounds what lies below. The first descent takes as many of each
//! item as are useful, which is nearly always nearly best; lowering a count by one only raises the fractional rest, so
//! the first count whose bound reaches the incumbent ends its loop. Leaving demand unserved is one more item, of any
//! amount, at the penalty's ratio; it is the reason why nothing is ever infeasible.
//!
//! [`Search::run`] first ignores floors, ceilings and limits. If what it finds keeps them, it is the optimum with them
//! too; that is the usual case. Otherwise the search runs again with them.
//!
//! No division decides: "fraction ≥ incumbent" is compared after multiplying out, in 128 bits.
//!
//! A search that visits too many nodes is cut off. Its incumbent is then no bound; the least bound of all that was left
//! open is, and that is what is reported.

use super::instance::SHORT;
use crate::rebalance::bug::{Bug, seeded};

/// Nodes that one search may visit.
const NODES_MAX: u32 = 4_000;

/// Equal replicas that the stage may take.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Item {
    pub(super) price: i64,
    pub(super) capacity: i64,
    pub(super) max: u32,
    pub(super) option: u32,
    pub(super) reliable: bool,
}

impl Item {
    /// Strictly cheaper per capacity. What serves nothing is behind everything.
    pub(super) fn before(&self, other: &Self) -> bool {
        match (self.capacity > 0, other.capacity > 0) {
            (true, true) => product(self.price, other.capacity) < product(other.price, self.capacity),
            (true, false) => true,
            (false, true) => false,
            (false, false) => self.price < other.price,
        }
    }
}

/// What must be covered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    pub(super) demand: i64,
    pub(super) penalty: i64,
    pub(super) min: u32,
    pub(super) reliable_min: u32,
    pub(super) max: u32,
}

/// Money (0) or power (1) that all items together may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) which: usize,
    pub(super) room: i64,
}

/// Scratch and result.
#[derive(Clone, Debug, Default)]
pub(super) struct Search {
    pub(super) items: Vec<Item>,
    pub(super) limits: Vec<Limit>,
    /// Money and power of one replica by option; only where there are limits.
    pub(super) costs: Vec<[i64; 2]>,
    /// Counts by item of the best that was found.
    pub(super) best: Vec<u32>,
    pub(super) nodes: u32,
    path: Vec<u32>,
    /// What was offered.
    offered: Vec<u32>,
    /// `None` until something was found.
    found: Option<i64>,
    /// Least bound of what was left open.
    open: i64,
    /// From here on, items are dearer than leaving demand unserved.
    useful: usize,
    penalty: i64,
    /// Rest of the items from each on: replicas, reliable replicas, least price, least price of a reliable one.
    rests: Vec<Rest>,
}

#[derive(Clone, Copy, Debug)]
struct Rest {
    count: u32,
    reliable: u32,
    price: i64,
    reliable_price: i64,
}

/// What is still open at a node.
#[derive(Clone, Copy, Debug)]
struct Open {
    demand: i64,
    min: u32,
    reliable_min: u32,
    max: u32,
    price: i64,
}

pub(super) fn product(a: i64, b: i64) -> u128 {
    u128::from(a.cast_unsigned()) * u128::from(b.cast_unsigned())
}

impl Search {
    /// Makes room for so many options, items and limits.
    pub(super) fn reserve(&mut self, options: usize, items: usize, limits: usize) {
        self.items.clear();
        self.items.reserve(items);
        self.limits.clear();
        self.limits.reserve(limits);
        self.costs.clear();
        self.costs.reserve(options);
        for counts in [&mut self.best, &mut self.path, &mut self.offered] {
            counts.clear();
            counts.reserve(items);
        }
        self.rests.clear();
        self.rests.reserve(items + 1);
    }

    /// Forgets the incumbent.
    pub(super) fn begin(&mut self) {
        self.found = None;
        self.nodes = 0;
    }

    /// Value of the best that was found.
    pub(super) fn value(&self) -> i64 {
        self.found.unwrap_or(i64::MAX)
    }

    /// Offers counts by option as the first incumbent; `counts` is used up.
    pub(super) fn offer(&mut self, counts: &mut [u32], need: &Need) {
        self.path.clear();
        let (mut price, mut served, mut total, mut reliable) = (0_i64, 0_i64, 0_u32, 0_u32);
        for item in &self.items {
            let left = &mut counts[item.option as usize];
            let here = item.max.min(*left);
            *left -= here;
            price = price.saturating_add(item.price.saturating_mul(i64::from(here)));
            served = served.saturating_add(item.capacity * i64::from(here));
            total = total.saturating_add(here);
            reliable += if item.reliable { here } else { 0 };
            self.path.push(here);
        }
        let within = self.limits.iter().all(|limit| {
            let used = self.items.iter().zip(&self.path);
            let used = used.fold(0_i64, |sum, (item, &count)| {
                sum.saturating_add(self.costs[item.option as usize][limit.which].saturating_mul(i64::from(count)))
            });
            used <= limit.room
        });
        // What does not fit as it is is no incumbent; nor is what falls short of a floor that can be kept.
        if within && total <= need.max && total >= need.min && reliable >= need.reliable_min {
            self.found = Some(price.saturating_add(need.penalty * (need.demand - served).max(0)));
            self.best.clone_from(&self.path);
            self.offered.clone_from(&self.path);
        }
    }

    /// Adds an item where it belongs.
    pub(super) fn insert(&mut self, item: Item) {
        let mut to = self.items.len();
        while to > 0 && item.before(&self.items[to - 1]) {
            to -= 1;
        }
        self.items.insert(to, item);
    }

    /// Covers the demand for less than `best`, if that is possible, floors and limits aside. Returns the least value and
    /// the least bound of what was left open.
    pub(super) fn beat(&mut self, best: i64, need: &Need) -> (i64, i64) {
        self.found = Some(best);
        self.best.clear();
        self.best.resize(self.items.len(), 0);
        self.path.clear();
        self.path.resize(self.items.len(), 0);
        self.open = i64::MAX;
        self.penalty = need.penalty;
        self.useful = self.items.len();
        while self.useful > 0 && !self.is_useful(self.items[self.useful - 1]) {
            self.useful -= 1;
        }
        self.cover(0, need.demand, 0);
        (self.value(), self.left_open())
    }

    /// Least bound of what was left open.
    fn left_open(&self) -> i64 {
        if seeded(Bug::IncumbentIsBound) {
            i64::MAX
        } else {
            self.open
        }
    }

    /// Finds the cheapest counts; returns a bound that holds whether or not the search was cut off.
    pub(super) fn run(&mut self, need: &Need) -> i64 {
        let offered = self.found;
        let count = self.items.len();
        if self.best.len() != count || offered.is_none() {
            self.best.clear();
            self.best.resize(count, 0);
        }
        self.path.clear();
        self.path.resize(count, 0);
        self.open = i64::MAX;
        self.penalty = need.penalty;
        self.useful = count;
        while self.useful > 0 && !self.is_useful(self.items[self.useful - 1]) {
            self.useful -= 1;
        }
        self.cover(0, need.demand, 0);
        let relaxed = self.value().min(self.left_open());
        if self.keeps(need) {
            return relaxed;
        }
        self.found = offered;
        if offered.is_some() {
            self.best.clone_from(&self.offered);
        } else {
            self.best.fill(0);
        }
        self.open = i64::MAX;
        self.nodes = 0;
        self.path.iter_mut().for_each(|count| *count = 0);
        self.sum_rests();
        self.descend(
            0,
            Open {
                demand: need.demand,
                min: need.min,
                reliable_min: need.reliable_min,
                max: need.max,
                price: 0,
            },
        );
        self.value().min(self.left_open()).max(relaxed)
    }

    fn is_useful(&self, item: Item) -> bool {
        item.capacity > 0 && i128::from(item.price) < i128::from(self.penalty) * i128::from(item.capacity)
    }

    fn keeps(&self, need: &Need) -> bool {
        let (mut total, mut reliable) = (0_u64, 0_u64);
        for (item, &count) in self.items.iter().zip(&self.best) {
            total += u64::from(count);
            reliable += if item.reliable { u64::from(count) } else { 0 };
        }
        total >= u64::from(need.min)
            && total <= u64::from(need.max)
            && reliable >= u64::from(need.reliable_min)
            && self.limits.iter().all(|limit| {
                let used = self.items.iter().zip(&self.best);
                let used = used.fold(0_i64, |sum, (item, &count)| {
                    sum.saturating_add(self.costs[item.option as usize][limit.which].saturating_mul(i64::from(count)))
                });
                used <= limit.room
            })
    }

    fn record(&mut self, value: i64, depth: usize) {
        self.found = Some(value);
        let (taken, rest) = self.best.split_at_mut(depth);
        taken.copy_from_slice(&self.path[..depth]);
        rest.fill(0);
    }

    /// Demand only. `demand` is above zero unless this is the root.
    fn cover(&mut self, at: usize, demand: i64, price: i64) {
        let alone = price + self.penalty * demand;
        if alone < self.value() {
            self.record(alone, at);
        }
        if at >= self.useful || demand == 0 {
            return;
        }
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            self.open = self.open.min(self.fill(at, demand, price));
            return;
        }
        let item = self.items[at];
        let full = (demand + item.capacity - 1) / item.capacity;
        let mut count = full.min(i64::from(item.max));
        while count >= 0 {
            let here = price + item.price * count;
            let left = demand - item.capacity * count;
            if left <= 0 {
                if here < self.value() {
                    self.path[at] = count as u32;
                    self.record(here, at + 1);
                }
            } else {
                if self.reaches(at + 1, left, here) {
                    break;
                }
                self.path[at] = count as u32;
                self.cover(at + 1, left, here);
                if self.nodes > NODES_MAX {
                    if count > 0 {
                        let next = self.fill(at + 1, left + item.capacity, here - item.price);
                        self.open = self.open.min(next);
                    }
                    return;
                }
            }
            count -= 1;
        }
    }

    /// Whether the fractional cover of `demand` from item `at` on, on top of `price`, rounds up to the incumbent.
    fn reaches(&self, at: usize, demand: i64, price: i64) -> bool {
        let Some(best) = self.found else { return false };
        let mut spare = best - 1 - price;
        let mut left = demand;
        for item in &self.items[at.min(self.useful)..self.useful] {
            if spare < 0 {
                return true;
            }
            let whole = item.capacity * i64::from(item.max);
            if whole >= left {
                return product(item.price, left) > product(spare, item.capacity);
            }
            left -= whole;
            spare -= item.price * i64::from(item.max);
        }
        spare < 0 || self.penalty * left > spare
    }

    /// Price of the fractional cover, rounded up.
    fn fill(&self, at: usize, demand: i64, price: i64) -> i64 {
        let (mut left, mut price) = (demand, price);
        for item in &self.items[at.min(self.useful)..self.useful] {
            let whole = item.capacity * i64::from(item.max);
            if whole >= left {
                let part = product(item.price, left).div_ceil(u128::from(item.capacity.cast_unsigned()));
                return price + i64::try_from(part).unwrap_or(0);
            }
            left -= whole;
            price += item.price * i64::from(item.max);
        }
        price + self.penalty * left
    }

    fn sum_rests(&mut self) {
        self.rests.clear();
        let mut rest = Rest {
            count: 0,
            reliable: 0,
            price: SHORT,
            reliable_price: SHORT,
        };
        self.rests.push(rest);
        for item in self.items.iter().rev() {
            rest.count = rest.count.saturating_add(item.max);
            rest.price = rest.price.min(item.price);
            if item.reliable {
                rest.reliable = rest.reliable.saturating_add(item.max);
                rest.reliable_price = rest.reliable_price.min(item.price);
            }
            self.rests.push(rest);
        }
        self.rests.reverse();
    }

    /// Replicas missing from floors bound what lies below a node, whatever the demand.
    fn floor_reaches(&self, at: usize, open: &Open) -> bool {
        let Some(best) = self.found else { return false };
        let rest = self.rests[at];
        let price = |missing: u32, count: u32, each: i64| {
            let there = missing.min(count).min(open.max);
            open.price + each * i64::from(there) + SHORT * i64::from(missing - there)
        };
        price(open.min, rest.count, rest.price) >= best
            || price(open.reliable_min, rest.reliable, rest.reliable_price) >= best
    }

    /// Everything: floors, ceiling, limits.
    fn descend(&mut self, at: usize, open: Open) {
        let missing = open.min.max(open.reliable_min);
        let alone = open.price + self.penalty * open.demand + SHORT * i64::from(missing);
        if alone < self.value() {
            self.record(alone, at);
        }
        if at == self.items.len() || (open.demand == 0 && missing == 0) {
            return;
        }
        self.nodes += 1;
        let item = self.items[at];
        let useful = if item.capacity > 0 {
            (open.demand + item.capacity - 1) / item.capacity
        } else {
            0
        };
        let useful = useful
            .max(i64::from(open.min))
            .max(if item.reliable { i64::from(open.reliable_min) } else { 0 });
        let mut most = useful.min(i64::from(item.max)).min(i64::from(open.max));
        for limit in &self.limits {
            if self.costs[item.option as usize][limit.which] > 0 {
                most = most.min(limit.room / self.costs[item.option as usize][limit.which]);
            }
        }
        let mut count = most;
        while count >= 0 {
            if self.nodes > NODES_MAX {
                self.open = self.open.min(self.fill(at, open.demand, open.price));
                return;
            }
            let taken = count as u32;
            let next = Open {
                demand: (open.demand - item.capacity * count).max(0),
                min: open.min.saturating_sub(taken),
                reliable_min: open.reliable_min.saturating_sub(if item.reliable { taken } else { 0 }),
                max: open.max - taken,
                price: open.price + item.price * count,
            };
            if self.reaches(at + 1, next.demand, next.price) {
                // Without waste, fewer of the best ratio only raise the fractional rest; unless leaving demand unserved
                // is cheaper still.
                if at < self.useful && item.capacity * count <= open.demand {
                    return;
                }
                self.nodes += 1;
            } else if self.floor_reaches(at + 1, &next) {
                self.nodes += 1;
            } else {
                self.path[at] = taken;
                self.take(item, count);
                self.descend(at + 1, next);
                self.take(item, -count);
            }
            count -= 1;
        }
    }

    fn take(&mut self, item: Item, count: i64) {
        for limit in &mut self.limits {
            limit.room -= self.costs[item.option as usize][limit.which] * count;
        }
    }
}
