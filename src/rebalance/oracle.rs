//! Cheapest cover of one stage: a covering knapsack over its pools, solved exactly by depth-first branch and bound.
//!
//! Values are compared in order: missing floor, unserved demand, price. `Weighted` and `Pull` add capacities. Under
//! `Uniform` every replica serves at the pace of the slowest one in use, so the slowest pool is enumerated and replicas
//! are counted at that pace. A search that is cut off keeps the smallest bound of what it left open, so that the lower
//! bound it reports stays one.

use super::bug::{Bug, seeded};
use super::demand::cut;
use super::moves::serve;
use super::spend::{Spend, Sum};

/// Branches one search may look at.
const NODES_MAX: u32 = 10_000;

/// Branches that may be looked at and found useless, so that absurd counts end too.
const LOOKS_MAX: u32 = 20 * NODES_MAX;

/// Pools of one stage that are considered: those in use, then the cheapest. It bounds the depth of the search.
const ITEMS_MAX: usize = 32;

/// A pool as one stage sees it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Item {
    /// Price of a replica that would be new here, per hour, in units of its own.
    pub(super) price: u128,
    /// Capacity of one replica, above zero.
    pub(super) capacity: u64,
    /// What one replica takes of the budget.
    pub(super) cost: Spend,
    /// Counts towards the reliable floor.
    pub(super) reliable: bool,
    /// Replicas asked for now: keeping them is cheaper than adding others.
    pub(super) current: u32,
    /// Kept in any case, as far as `upper`, budget and ceiling allow.
    pub(super) lower: u32,
    /// Most that fit.
    pub(super) upper: u32,
}

impl Item {
    /// What a replica that is there already counts, and a new one: one part in twenty less, which is what a move must save
    /// at least. At least one and below the price of a new one, so that fewer and unmoved win ties even where nodes are
    /// free.
    pub(super) fn prices(price: u128) -> (u128, u128) {
        (price - price / 20 + 1, price + 2)
    }

    fn price_kept(&self) -> u128 {
        Self::prices(self.price).0
    }

    fn price_new(&self) -> u128 {
        Self::prices(self.price).1
    }

    /// Price of so many replicas here.
    pub(super) fn price_of(&self, count: u32) -> u128 {
        let kept = count.min(self.current);
        self.price_kept() * u128::from(kept) + self.price_new() * u128::from(count - kept)
    }
}

/// What one stage needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) demand: u64,
    pub(super) floor: u32,
    pub(super) reliable_floor: u32,
    pub(super) ceiling: u32,
    pub(super) uniform: bool,
}

/// How good an answer is; the order of the fields is the order of comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Value {
    /// Replicas missing from the floors.
    pub(super) short: u64,
    /// Demand that is not covered.
    pub(super) unserved: u64,
    pub(super) price: u128,
}

/// Value of given counts of one stage.
pub(super) fn value_of(items: &[Item], need: &Need, counts: &[u32]) -> Value {
    let (mut total, mut reliable, mut price) = (0_u64, 0_u64, 0_u128);
    for (item, &count) in items.iter().zip(counts) {
        total += u64::from(count);
        reliable += if item.reliable { u64::from(count) } else { 0 };
        price += item.price_of(count);
    }
    let served = serve(
        need.uniform,
        items.iter().zip(counts).map(|(item, &count)| (count, item.capacity)),
    );
    let floor = u64::from(need.floor).saturating_sub(total);
    Value {
        short: floor.max(u64::from(need.reliable_floor).saturating_sub(reliable)),
        unserved: need.demand.saturating_sub(served),
        price,
    }
}

/// The oracle's answer; the counts are left in [`Oracle::counts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) value: Value,
    /// No assignment is better than this. Equal to `value` unless the search was cut off.
    pub(super) bound: Value,
}

/// Scratch space of the search, kept between calls so that they do not allocate.
#[derive(Clone, Debug, Default)]
pub(super) struct Oracle {
    /// Replicas per item after [`Oracle::solve`].
    pub(super) counts: Vec<u32>,
    order: Vec<usize>,
    /// What must be kept fits under ceiling and budget; else nothing is kept.
    keeping: bool,
    search: Search,
    paces: Vec<u64>,
    best: Vec<u32>,
}

/// One decision of the search: so many more replicas of an item at one price.
#[derive(Clone, Copy, Debug, Default)]
struct Segment {
    item: usize,
    price: u128,
    capacity: u64,
    cost: Spend,
    reliable: bool,
    max: u32,
}

/// What the segments from here to the end can do at best.
#[derive(Clone, Copy, Debug)]
struct Rest {
    capacity_sum: u64,
    capacity_max: u64,
    count: u64,
    reliable: u64,
    price_min: u128,
    reliable_price_min: u128,
    cost_min: Spend,
    /// Most capacity per money and per power: numerator and denominator.
    yield_max: [(u64, u64); 2],
}

const NOTHING: Rest = Rest {
    capacity_sum: 0,
    capacity_max: 0,
    count: 0,
    reliable: 0,
    price_min: u128::MAX,
    reliable_price_min: u128::MAX,
    cost_min: Spend::UNLIMITED,
    yield_max: [(0, 1); 2],
};

/// What is still to be done at a point of the search.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    demand: u64,
    floor: u64,
    reliable: u64,
    room: u64,
    budget: Spend,
    price: u128,
}

impl Open {
    fn value(&self) -> Value {
        Value {
            short: self.floor.max(self.reliable),
            unserved: self.demand,
            price: self.price,
        }
    }

    fn after(&self, segment: &Segment, count: u32) -> Self {
        let wide = u64::from(count);
        Self {
            demand: self.demand.saturating_sub(segment.capacity.saturating_mul(wide)),
            floor: self.floor.saturating_sub(wide),
            reliable: if segment.reliable {
                self.reliable.saturating_sub(wide)
            } else {
                self.reliable
            },
            room: self.room.saturating_sub(wide),
            budget: self.budget.less(segment.cost, wide),
            price: self.price + segment.price * u128::from(count),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Search {
    segments: Vec<Segment>,
    rests: Vec<Rest>,
    path: Vec<u32>,
    best: Vec<u32>,
    best_value: Option<Value>,
    nodes: u32,
    /// Smallest bound of a branch that was left open.
    cut_off: Option<Value>,
}

impl Oracle {
    /// Finds the cheapest counts for `need` within `budget`.
    pub(super) fn solve(&mut self, items: &[Item], need: &Need, budget: Spend) -> Answer {
        self.sort(items);
        self.keeping = keepable(items, need, budget);
        self.counts.clear();
        self.counts.resize(items.len(), 0);
        if !need.uniform {
            return self.cover(items, need, budget, 0);
        }
        // A kept replica on a slow pool already sets the pace, whatever else is chosen.
        let kept = items
            .iter()
            .filter(|item| self.keeping && item.lower.min(item.upper) > 0);
        let kept_pace = kept.map(|item| item.capacity).min();
        self.paces.clear();
        let usable = self
            .order
            .iter()
            .filter_map(|&at| items.get(at))
            .filter(|item| item.upper > 0);
        self.paces.extend(
            usable
                .map(|item| item.capacity)
                .filter(|&pace| kept_pace.is_none_or(|kept| pace <= kept)),
        );
        self.paces.sort_unstable();
        self.paces.dedup();
        let mut found: Option<Answer> = None;
        for at in (0..self.paces.len()).rev() {
            let Some(&pace) = self.paces.get(at) else { continue };
            self.counts.iter_mut().for_each(|count| *count = 0);
            let answer = self.cover(items, need, budget, pace);
            let bound = found.map_or(answer.bound, |before| before.bound.min(answer.bound));
            match found {
                Some(before) if before.value <= answer.value => found = Some(Answer { bound, ..before }),
                _ => {
                    self.best.clone_from(&self.counts);
                    found = Some(Answer { bound, ..answer });
                }
            }
        }
        match found {
            Some(answer) => {
                self.counts.clone_from(&self.best);
                answer
            }
            None => self.cover(items, need, budget, 0),
        }
    }

    /// Items by price per capacity; every tie is broken by what the items are, never by where they stand.
    fn sort(&mut self, items: &[Item]) {
        self.order.clear();
        self.order.extend(0..items.len());
        let by_ratio = |left: &Item, right: &Item| {
            let (a, b) = (
                left.price_new() * u128::from(right.capacity),
                right.price_new() * u128::from(left.capacity),
            );
            let kind = |item: &Item| (item.current, item.capacity, item.reliable, item.lower, item.upper);
            if seeded(Bug::TieByPlace) {
                return a.cmp(&b);
            }
            a.cmp(&b)
                .then(left.cost.cmp(&right.cost))
                .then(kind(right).cmp(&kind(left)))
        };
        let item = |at: usize| items.get(at).copied().unwrap_or_default();
        if items.len() > ITEMS_MAX {
            let in_use = |at: usize| item(at).current > 0 || item(at).lower > 0;
            self.order
                .sort_by(|&a, &b| in_use(b).cmp(&in_use(a)).then(by_ratio(&item(a), &item(b))));
            self.order.truncate(ITEMS_MAX);
        }
        self.order.sort_by(|&a, &b| by_ratio(&item(a), &item(b)));
    }

    /// Covers `need` with capacities that add, or, with a `pace`, with replicas that each serve at that pace on pools
    /// at least so fast.
    fn cover(&mut self, items: &[Item], need: &Need, budget: Spend, pace: u64) -> Answer {
        let units = if pace > 0 {
            (need.demand - u64::from(seeded(Bug::PaceRoundedDown)).min(need.demand)).div_ceil(pace)
        } else {
            need.demand
        };
        let start = Open {
            demand: units,
            floor: u64::from(need.floor.saturating_sub(u32::from(seeded(Bug::FloorOffByOne)))),
            reliable: u64::from(need.reliable_floor) * u64::from(!seeded(Bug::ReliableFloorIgnored)),
            room: u64::from(need.ceiling),
            budget,
            price: 0,
        };
        let kept = self.keep(items, start, pace);
        self.search.arrange(items, &self.order, &self.counts, pace);
        let (value, bound) = self.search.run(kept);
        for (segment, &count) in self.search.segments.iter().zip(&self.search.best) {
            if let Some(total) = self.counts.get_mut(segment.item) {
                *total = total.saturating_add(count);
            }
        }
        let served = |value: Value| {
            let covered = units.saturating_sub(value.unserved);
            let unserved = if pace > 0 {
                need.demand.saturating_sub(covered.saturating_mul(pace))
            } else {
                value.unserved
            };
            Value { unserved, ..value }
        };
        Answer {
            value: served(value),
            bound: served(bound),
        }
    }

    /// Takes what is kept in any case.
    fn keep(&mut self, items: &[Item], start: Open, pace: u64) -> Open {
        let mut open = start;
        if !self.keeping {
            return open;
        }
        for &at in &self.order {
            let (Some(item), Some(total)) = (items.get(at), self.counts.get_mut(at)) else {
                continue;
            };
            *total = item.lower.min(item.upper);
            let segment = Segment {
                price: 0,
                capacity: if pace > 0 { 1 } else { item.capacity },
                cost: item.cost.known(),
                reliable: item.reliable,
                ..Segment::default()
            };
            open = open.after(&segment, *total);
            open.price += item.price_of(*total);
        }
        open
    }
}

fn keepable(items: &[Item], need: &Need, budget: Spend) -> bool {
    let (mut count, mut cost) = (0_u64, Sum::default());
    for item in items {
        let kept = item.lower.min(item.upper);
        count = count.saturating_add(u64::from(kept));
        cost.add(item.cost.known(), kept);
    }
    count <= u64::from(need.ceiling) && cost.within(budget)
}

impl Search {
    fn arrange(&mut self, items: &[Item], order: &[usize], kept: &[u32], pace: u64) {
        self.segments.clear();
        for &at in order {
            let (Some(item), Some(&kept)) = (items.get(at), kept.get(at)) else {
                continue;
            };
            if item.upper <= kept || item.capacity < pace {
                continue;
            }
            let here = item.current.min(item.upper);
            let capacity = if pace > 0 { 1 } else { item.capacity };
            let segment = |price, max| Segment {
                item: at,
                price,
                capacity,
                cost: item.cost,
                reliable: item.reliable,
                max,
            };
            if here > kept {
                self.segments.push(segment(item.price_kept(), here - kept));
            }
            if item.upper > here.max(kept) {
                self.segments
                    .push(segment(item.price_new(), item.upper - here.max(kept)));
            }
        }
        // Stable: what is equal here keeps the order of the items.
        self.segments
            .sort_by(|a, b| (a.price * u128::from(b.capacity)).cmp(&(b.price * u128::from(a.capacity))));
        self.rests.clear();
        self.rests.resize(self.segments.len() + 1, NOTHING);
        let mut rest = NOTHING;
        for (at, segment) in self.segments.iter().enumerate().rev() {
            let count = u64::from(segment.max);
            let better = |(most, per): (u64, u64), each: u64| {
                let more = u128::from(segment.capacity) * u128::from(per) > u128::from(most) * u128::from(each);
                if more { (segment.capacity, each) } else { (most, per) }
            };
            let [by_money, by_power] = rest.yield_max;
            rest = Rest {
                capacity_sum: rest.capacity_sum.saturating_add(segment.capacity.saturating_mul(count)),
                capacity_max: rest.capacity_max.max(segment.capacity),
                count: rest.count.saturating_add(count),
                reliable: rest.reliable.saturating_add(if segment.reliable { count } else { 0 }),
                price_min: rest.price_min.min(segment.price),
                reliable_price_min: rest.reliable_price_min.min(if segment.reliable {
                    segment.price
                } else {
                    u128::MAX
                }),
                cost_min: rest.cost_min.min(segment.cost),
                yield_max: [
                    better(by_money, segment.cost.micros),
                    better(by_power, segment.cost.milliwatts),
                ],
            };
            if let Some(slot) = self.rests.get_mut(at) {
                *slot = rest;
            }
        }
        self.path.clear();
        self.path.resize(self.segments.len(), 0);
    }

    fn run(&mut self, start: Open) -> (Value, Value) {
        self.best.clear();
        self.best.resize(self.segments.len(), 0);
        self.best_value = None;
        self.nodes = 0;
        self.cut_off = None;
        self.descend(0, start);
        let value = self.best_value.unwrap_or_default();
        let cut_off = self.cut_off.filter(|_| !seeded(Bug::IncumbentIsBound));
        (value, cut_off.map_or(value, |open| open.min(value)))
    }

    fn descend(&mut self, at: usize, open: Open) {
        let value = open.value();
        if self.best_value.is_none_or(|best| value < best) {
            self.best_value = Some(value);
            self.best.clone_from(&self.path);
        }
        if value.short == 0 && value.unserved == 0 {
            return; // every further replica only costs
        }
        let Some(&segment) = self.segments.get(at) else { return };
        let useful = open.demand.div_ceil(segment.capacity).max(open.floor);
        let useful = if segment.reliable {
            useful.max(open.reliable)
        } else {
            useful
        };
        let affordable = open.budget.affords(segment.cost);
        let most = u64::from(segment.max).min(useful).min(open.room).min(affordable);
        for count in (0..=u32::try_from(most).unwrap_or(u32::MAX)).rev() {
            self.nodes += 1;
            let next = open.after(&segment, count);
            let bound = self.bound(at + 1, &next);
            let Some(best) = self.best_value else { return };
            if self.nodes > NODES_MAX && (bound < best || self.nodes > LOOKS_MAX) {
                // Everything below this point stays open: what could still be reached from here bounds it.
                let reach = self.bound_open(at, &open);
                let left = Value {
                    price: self.fill(at, open.demand - reach.unserved, open.price),
                    ..reach
                };
                self.cut_off = Some(self.cut_off.map_or(left, |before| before.min(left)));
                return;
            }
            if bound >= best {
                // Without waste, fewer of the best ratio are only dearer, once the price is all that is left to win.
                let exact = segment.capacity.saturating_mul(u64::from(count)) <= open.demand;
                let complete = best.short == 0 && best.unserved == 0;
                if exact && complete && self.fill(at + 1, next.demand, next.price) >= best.price {
                    break;
                }
                continue;
            }
            if let Some(slot) = self.path.get_mut(at) {
                *slot = count;
            }
            self.descend(at + 1, next);
            if let Some(slot) = self.path.get_mut(at) {
                *slot = 0;
            }
        }
    }

    /// What is missing at least, whatever is done with the segments from `at` on.
    fn bound_open(&self, at: usize, open: &Open) -> Value {
        let rest = self.rests.get(at).copied().unwrap_or(NOTHING);
        let count = rest.count.min(open.room).min(open.budget.affords(rest.cost_min));
        let bought = |left: u64, (most, per): (u64, u64)| match left {
            u64::MAX => u64::MAX,
            left => (u128::from(left) * u128::from(most))
                .checked_div(u128::from(per))
                .map_or(u64::MAX, cut),
        };
        let [by_money, by_power] = rest.yield_max;
        let bought = bought(open.budget.micros, by_money).min(bought(open.budget.milliwatts, by_power));
        let reach = rest
            .capacity_sum
            .min(count.saturating_mul(rest.capacity_max))
            .min(bought.saturating_add(1));
        let floor = open.floor.saturating_sub(count);
        let reliable = open.reliable.saturating_sub(rest.reliable.min(count));
        Value {
            short: floor.max(reliable),
            unserved: open.demand.saturating_sub(reach),
            price: open.price,
        }
    }

    /// A value that nothing below this point beats. The price part is only right together with the other two, which is
    /// how it is compared.
    fn bound(&self, at: usize, open: &Open) -> Value {
        let mut bound = self.bound_open(at, open);
        let best = self.best_value.unwrap_or_default();
        if bound.short == best.short && bound.unserved == best.unserved {
            let rest = self.rests.get(at).copied().unwrap_or(NOTHING);
            let by_demand = self.fill(at, open.demand - bound.unserved, open.price);
            let missing = |count: u64, price: u128| open.price.saturating_add(price.saturating_mul(u128::from(count)));
            let by_floor = missing(open.floor.saturating_sub(bound.short), rest.price_min);
            let by_reliable = missing(open.reliable.saturating_sub(bound.short), rest.reliable_price_min);
            bound.price = by_demand.max(by_floor).max(by_reliable);
        }
        bound
    }

    /// Price of the fractional cover of `demand` by the segments from `at` on, rounded up, on top of `price`.
    fn fill(&self, at: usize, demand: u64, price: u128) -> u128 {
        let (mut left, mut price) = (demand, price);
        for segment in self.segments.iter().skip(at) {
            if left == 0 {
                break;
            }
            let whole = segment.capacity.saturating_mul(u64::from(segment.max));
            if whole < left {
                price += segment.price * u128::from(segment.max);
                left -= whole;
            } else {
                price += (segment.price * u128::from(left)).div_ceil(u128::from(segment.capacity));
                left = 0;
            }
        }
        price
    }
}
