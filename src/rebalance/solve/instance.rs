//! The problem as the solver reads it: dense columns, numbers that cannot overflow, an order of its own.
//!
//! # From any rows to numbers that fit
//!
//! All arithmetic of the search is on 63-bit integers. That is safe because of bounds that are established here, once:
//!
//! | quantity | bound | so that |
//! | --- | --- | --- |
//! | replicas of a stage | 2^17 | more than a cluster holds |
//! | price of a replica with everything on it | 2^44 | × 2^17 replicas = 2^61 |
//! | a missing replica of a floor | 2^44 | × 2^17 replicas = 2^61 |
//! | penalty × demand of a stage | 2^61 | the three together stay below 2^63 |
//! | capacity of a replica | 2^40 | × 2^17 replicas = 2^57 |
//!
//! What exceeds them is cut. Prices are scaled up by a power of two where there is room ([`Instance::scale`]), so that
//! small integers do not drown in the rounding of prices per unit of a resource. Costs are reported in the caller's
//! unit.
//!
//! # What stays anyway
//!
//! Replicas that must stay (`lower`) are facts, not choices. They are taken out: their room, their share of ceilings,
//! of the demand and of the floors is subtracted, their price is a constant. So the problem that is left has no lower
//! bounds on options and is never infeasible: floors and demand may be missed, at a price.
//!
//! # Pieces
//!
//! A replica that runs already is cheaper to keep than a new one (by what the moves cost), and later replicas may serve
//! less than earlier ones. Both cut an option into pieces of equal replicas, of which the earlier are never dearer and
//! never weaker. Whoever picks pieces by the best ratio therefore picks them in order without being told.

use std::ops::Range;

use super::canonical::{self, Order};
use super::rows::{OptionRow, Rows, StageRow};
use super::{Reason, Traffic};

/// Resources of a pool: CPU, memory, device.
pub(super) const RESOURCES: usize = 3;
/// Room that has no ceiling.
pub(super) const OPEN: i64 = i64::MAX;
/// Most replicas of a stage.
pub(super) const REPLICAS_MAX: u32 = 1 << 17;
/// Highest price of a replica, scaled, with the prices of all resources on it.
pub(super) const PRICE_MAX: i64 = 1 << 44;
/// Price of one replica that is missing from a floor, scaled.
pub(super) const SHORT: i64 = 1 << 44;
/// Options of one stage that can get replicas; the others of a longer list stay at their `lower`.
pub(super) const OPTIONS_MAX: usize = 32;

const ROOM_MAX: i64 = 1 << 60;
const CAPACITY_MAX: u64 = 1 << 40;
const DEMAND_MAX: u64 = 1 << 61;
/// Highest price of a replica or of its move as the caller gives it.
const GIVEN_MAX: u64 = 1 << 38;
/// Prices are scaled up to this.
const SCALED_MAX: u64 = 1 << 34;
/// Penalties are cut so that no replica's worth of unserved demand costs more, scaled.
const WORTH_MAX: u64 = 1 << 43;

/// A stage, after what stays anyway was taken out.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    /// Demand that replicas could cover.
    pub(super) demand: i64,
    /// Demand that no choice covers, beyond `demand`.
    pub(super) beyond: u64,
    /// Scaled price of one unserved thousandth.
    pub(super) penalty: i64,
    /// Replicas that still have to be added; see [`StageRow::min`].
    pub(super) min: u32,
    pub(super) reliable_min: u32,
    pub(super) max: u32,
    /// Replicas missing from floors whatever is chosen, beyond what `min` and `reliable_min` still say.
    pub(super) lost_floor: u32,
    pub(super) uniform: bool,
    /// Under `uniform`: replicas that stay, and their slowest capacity.
    pub(super) base_total: u32,
    pub(super) base_pace: i64,
    pub(super) priority: u16,
    /// Canonical pipeline, or `u32::MAX`.
    pub(super) pipeline: u32,
    pub(super) options: Range<u32>,
    pub(super) pieces: Range<u32>,
    pub(super) groups: Range<u32>,
    /// Anything runs now that a choice could keep.
    pub(super) runs: bool,
    /// Served by what stays anyway (capacities that add).
    base_served: u64,
    /// Served by all pieces together, and by one replica at most.
    reach: u64,
    fastest: i64,
    /// Scaled price of what stays anyway, and of moving away all that runs.
    constant: i128,
    given_demand: u64,
    given_penalty: u64,
}

impl Stage {
    /// The demand as the caller states it.
    pub(super) fn given_demand(&self) -> u64 {
        self.given_demand
    }

    /// What choices have to cover so that `served` of the demand are served.
    pub(super) fn coverable(&self, served: u64) -> i64 {
        let stays = if self.uniform { 0 } else { self.base_served };
        i64::try_from(served.saturating_sub(stays)).map_or(self.demand, |open| open.min(self.demand))
    }
}

/// Equal replicas of one option.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// Index of the option within its stage.
    pub(super) option: u32,
    pub(super) max: u32,
    /// Scaled price of one.
    pub(super) price: i64,
    /// Thousandths that one serves.
    pub(super) capacity: i64,
}

/// A joint problem, ready to be solved any number of times.
///
/// Stages, options, pools and groups are referred to from outside by the caller's indices.
#[derive(Clone, Debug, Default)]
pub struct Instance {
    pub(super) scale: u32,
    pub(super) pool_count: usize,
    pub(super) pipeline_count: usize,
    /// What is left of every pool's resources, then of every group's money and power.
    pub(super) room: Vec<i64>,
    pub(super) stages: Vec<Stage>,
    // Options, by stage.
    pub(super) pool: Vec<u32>,
    pub(super) request: Vec<[i64; RESOURCES]>,
    pub(super) cost: Vec<i64>,
    pub(super) power: Vec<i64>,
    pub(super) reliable: Vec<bool>,
    pub(super) upper: Vec<u32>,
    pub(super) current: Vec<u32>,
    pub(super) base: Vec<u32>,
    pub(super) pieces: Vec<Piece>,
    pub(super) group_of: Vec<u32>,
    pub(super) order: Order,
    /// Canonical position of every stage of the caller.
    pub(super) place: Vec<u32>,
    /// The caller's flat position of every option.
    pub(super) outer_option: Vec<u32>,
    pub(super) reasons: Vec<Vec<Reason>>,
    /// Stages whose penalty is not whole in the caller's unit.
    fractions: usize,
}

impl Instance {
    /// Lays out `rows`. Takes anything; what contradicts itself is resolved and reported with the solution.
    pub fn new(rows: &Rows) -> Self {
        let order = canonical::order(rows);
        let mut instance = Self {
            scale: scale(rows),
            pool_count: rows.pools.len(),
            room: rooms(rows, &order),
            stages: Vec::with_capacity(rows.stages.len()),
            place: vec![0; rows.stages.len()],
            ..Self::default()
        };
        let (pools, groups) = (inverse(&order.pools), inverse(&order.groups));
        let mut offsets = Vec::with_capacity(rows.stages.len());
        let mut offset = 0_u32;
        for row in &rows.stages {
            offsets.push(offset);
            offset += u32::try_from(row.options.len()).unwrap_or(u32::MAX);
        }
        for (inner, &outer) in order.stages.iter().enumerate() {
            instance.place[outer as usize] = inner as u32;
            let row = &rows.stages[outer as usize];
            instance.lay_out(rows, row, offsets[outer as usize], &pools, &groups);
        }
        instance.number_pipelines(rows, &order);
        instance.order = order;
        instance.cut_pieces(rows);
        instance
    }

    /// Number of stages.
    pub fn stages(&self) -> usize {
        self.stages.len()
    }

    /// Number of options of all stages.
    pub fn options(&self) -> usize {
        self.pool.len()
    }

    /// Number of pools.
    pub fn pools(&self) -> usize {
        self.pool_count
    }

    /// Changes the demand of the caller's stage number `stage`, thousandths. Unknown stages are ignored.
    pub fn set_demand(&mut self, stage: usize, demand_millis: u64) {
        if let Some(&place) = self.place.get(stage) {
            self.stages[place as usize].given_demand = demand_millis;
            self.fit_demand(place as usize);
        }
    }

    /// First dimension of a group's prices: money, then power.
    pub(super) fn group_dim(&self, group: u32) -> usize {
        self.pool_count * RESOURCES + group as usize * 2
    }

    pub(super) fn groups(&self, stage: &Stage) -> &[u32] {
        &self.group_of[stage.groups.start as usize..stage.groups.end as usize]
    }

    pub(super) fn pieces(&self, stage: &Stage) -> &[Piece] {
        &self.pieces[stage.pieces.start as usize..stage.pieces.end as usize]
    }

    /// Whether every cost is a whole number in the caller's unit.
    pub(super) fn is_whole(&self) -> bool {
        self.fractions == 0
    }

    /// Everything about a stage's cost that no choice changes, scaled.
    pub(super) fn constant(stage: &Stage) -> i128 {
        stage.constant + i128::from(stage.beyond) * i128::from(stage.penalty)
    }

    fn lay_out(&mut self, rows: &Rows, row: &StageRow, offset: u32, pools: &[u32], groups: &[u32]) {
        let first = self.pool.len();
        let first_group = self.group_of.len() as u32;
        self.group_of
            .extend(row.groups.iter().filter_map(|&group| groups.get(group as usize)));
        self.group_of[first_group as usize..].sort_unstable();
        let mut held = self.group_of.split_off(first_group as usize);
        held.dedup();
        self.group_of.append(&mut held);
        // By pool; of several on one pool the first in the caller's order is the one that counts.
        let mut positions: Vec<u32> = (0..row.options.len() as u32).collect();
        let place = |&at: &u32| {
            pools
                .get(row.options[at as usize].pool as usize)
                .copied()
                .unwrap_or(u32::MAX)
        };
        positions.sort_by_key(place);
        let mut before = u32::MAX;
        for (rank, at) in positions.iter().enumerate() {
            let option = &row.options[*at as usize];
            let pool = place(at);
            let usable = pool != u32::MAX && pool != before && rank < OPTIONS_MAX;
            before = pool;
            self.push_option(rows, option, pool, usable);
            self.outer_option.push(offset + at);
        }
        let mut stage = Stage {
            demand: 0,
            beyond: 0,
            penalty: 0,
            min: row.min.min(REPLICAS_MAX),
            reliable_min: row.reliable_min.min(REPLICAS_MAX),
            max: row.max.min(REPLICAS_MAX),
            lost_floor: 0,
            uniform: row.traffic == Traffic::Uniform,
            base_total: 0,
            base_pace: i64::MAX,
            priority: row.priority,
            pipeline: u32::MAX,
            options: first as u32..self.pool.len() as u32,
            pieces: 0..0,
            groups: first_group..self.group_of.len() as u32,
            runs: false,
            base_served: 0,
            reach: 0,
            fastest: 1,
            constant: 0,
            given_demand: row.demand_millis,
            given_penalty: row.penalty,
        };
        let mut reasons = Vec::new();
        if row.min > row.max || row.reliable_min > row.max {
            reasons.push(Reason::Contradiction);
            stage.min = stage.min.min(stage.max);
            stage.reliable_min = stage.reliable_min.min(stage.max);
        }
        self.take_base(&mut stage, &mut reasons);
        self.reasons.push(reasons);
        self.stages.push(stage);
    }

    fn push_option(&mut self, rows: &Rows, row: &OptionRow, pool: u32, usable: bool) {
        let cut = |value: u64| i64::try_from(value.min(ROOM_MAX as u64)).unwrap_or(ROOM_MAX);
        let lower = row.lower.min(REPLICAS_MAX);
        self.pool.push(if pool == u32::MAX { 0 } else { pool });
        let request = row.request;
        self.request.push(if pool == u32::MAX {
            [0; RESOURCES]
        } else {
            [
                cut(request.cpu_millis),
                cut(request.memory_kib),
                cut(request.device_millis),
            ]
        });
        self.cost.push(cut(row.cost_micros));
        self.power.push(cut(row.power_milliwatts));
        self.reliable
            .push(rows.pools.get(row.pool as usize).is_some_and(|pool| pool.reliable));
        self.upper.push(if usable {
            row.upper.min(REPLICAS_MAX).saturating_sub(lower)
        } else {
            0
        });
        self.current.push(row.current.min(REPLICAS_MAX));
        self.base.push(lower);
    }

    /// Takes what stays anyway out of the stage and out of the room.
    fn take_base(&mut self, stage: &mut Stage, reasons: &mut Vec<Reason>) {
        let (mut total, mut reliable) = (0_u32, 0_u32);
        for at in stage.options.start as usize..stage.options.end as usize {
            let count = self.base[at];
            if count == 0 {
                continue;
            }
            total = total.saturating_add(count);
            reliable = reliable.saturating_add(if self.reliable[at] { count } else { 0 });
            let pool = self.pool[at] as usize * RESOURCES;
            let mut take = |room: &mut Vec<i64>, dim: usize, each: i64| {
                let Some(room) = room.get_mut(dim).filter(|room| **room != OPEN && each > 0) else {
                    return;
                };
                let used = each.saturating_mul(i64::from(count));
                if used > *room && !reasons.contains(&Reason::KeptBeyondRoom) {
                    reasons.push(Reason::KeptBeyondRoom);
                }
                *room = room.saturating_sub(used).max(0);
            };
            for resource in 0..RESOURCES {
                take(&mut self.room, pool + resource, self.request[at][resource]);
            }
            for held in stage.groups.clone() {
                let dim = self.pool_count * RESOURCES + self.group_of[held as usize] as usize * 2;
                take(&mut self.room, dim, self.cost[at]);
                take(&mut self.room, dim + 1, self.power[at]);
            }
        }
        if total > stage.max && !reasons.contains(&Reason::Contradiction) {
            reasons.push(Reason::Contradiction);
        }
        stage.base_total = total;
        stage.min = stage.min.saturating_sub(total);
        stage.reliable_min = stage.reliable_min.saturating_sub(reliable);
        stage.max = stage.max.saturating_sub(total);
    }

    fn number_pipelines(&mut self, rows: &Rows, order: &Order) {
        let mut seen: Vec<(u32, u32)> = (0..)
            .zip(&order.stages)
            .filter_map(|(inner, &outer)| rows.stages[outer as usize].pipeline.map(|key| (key, inner)))
            .collect();
        seen.sort_unstable();
        let mut firsts: Vec<(u32, u32)> = seen.clone();
        firsts.dedup_by_key(|&mut (key, _)| key);
        firsts.sort_unstable_by_key(|&(_, first)| first);
        let mut numbers: Vec<(u32, u32)> = firsts
            .iter()
            .zip(0..)
            .map(|(&(key, _), number)| (key, number))
            .collect();
        numbers.sort_unstable();
        self.pipeline_count = numbers.len();
        for (key, inner) in seen {
            if let Ok(found) = numbers.binary_search_by_key(&key, |&(key, _)| key) {
                self.stages[inner as usize].pipeline = numbers[found].1;
            }
        }
    }

    /// Cuts every option into pieces; afterwards the room is final, so upper bounds can be tightened by it.
    fn cut_pieces(&mut self, rows: &Rows) {
        for inner in 0..self.stages.len() {
            let row = &rows.stages[self.order.stages[inner] as usize];
            let options = self.stages[inner].options.clone();
            let first_piece = self.pieces.len() as u32;
            let offset = self.outer_option[options.start as usize..options.end as usize]
                .iter()
                .min()
                .copied();
            let (mut constant, mut served, mut pace, mut runs) = (0_i128, 0_u64, i64::MAX, false);
            for at in options.start as usize..options.end as usize {
                let option = &row.options[(self.outer_option[at] - offset.unwrap_or(0)) as usize];
                self.upper[at] = self.upper[at].min(self.alone(inner, at)).min(self.stages[inner].max);
                let priced = Priced::of(option, self.scale);
                let (base, current) = (self.base[at], self.current[at]);
                constant += i128::from(priced.price) * i128::from(base)
                    + i128::from(priced.up) * i128::from(base.saturating_sub(current))
                    + i128::from(priced.down) * i128::from(current.saturating_sub(base));
                for (count, capacity) in steps(option, 0, base) {
                    served = served.saturating_add(capacity.saturating_mul(u64::from(count)));
                    pace = pace.min(capacity as i64);
                }
                runs |= current > base && self.upper[at] > 0;
                let option_in_stage = at as u32 - options.start;
                self.push_pieces(option, &priced, option_in_stage, (base, self.upper[at], current));
            }
            let last_piece = self.pieces.len() as u32;
            let (all, reliable) = self.reachable(inner);
            let pieces = &self.pieces[first_piece as usize..];
            let fastest = pieces.iter().map(|piece| piece.capacity).max().unwrap_or(0);
            let reach = pieces.iter().fold(0_i64, |sum, piece| {
                sum.saturating_add(piece.capacity.saturating_mul(i64::from(piece.max)))
            });
            let stage = &mut self.stages[inner];
            stage.pieces = first_piece..last_piece;
            // Floors out of reach are taken out, or a search that is cut off would not see that they cost.
            let lost = stage
                .min
                .saturating_sub(all)
                .max(stage.reliable_min.saturating_sub(reliable));
            stage.lost_floor = lost;
            stage.min = stage.min.saturating_sub(lost);
            stage.reliable_min = stage.reliable_min.saturating_sub(lost);
            stage.constant = constant + i128::from(SHORT) * i128::from(lost);
            stage.base_served = served;
            stage.base_pace = pace;
            stage.runs = runs;
            stage.reach = reach.min(DEMAND_MAX as i64) as u64;
            stage.fastest = fastest.max(1);
            self.fit_demand(inner);
        }
    }

    fn push_pieces(&mut self, row: &OptionRow, priced: &Priced, option: u32, (base, upper, current): (u32, u32, u32)) {
        let kept = current.saturating_sub(base).min(upper);
        let mut done = 0;
        for (count, capacity) in steps(row, base, upper) {
            for (price, from, to) in [
                (priced.price - priced.down, done, (done + count).min(kept)),
                (priced.price + priced.up, done.max(kept), done + count),
            ] {
                if to > from {
                    let (max, capacity) = (to - from, capacity as i64);
                    self.pieces.push(Piece {
                        option,
                        max,
                        price,
                        capacity,
                    });
                }
            }
            done += count;
        }
    }

    /// Most replicas, and most reliable ones, that a stage could add.
    fn reachable(&self, inner: usize) -> (u32, u32) {
        let stage = &self.stages[inner];
        let (mut all, mut reliable) = (0_u32, 0_u32);
        for option in stage.options.start as usize..stage.options.end as usize {
            all = all.saturating_add(self.upper[option]);
            reliable = reliable.saturating_add(if self.reliable[option] { self.upper[option] } else { 0 });
        }
        (all.min(stage.max), reliable.min(stage.max))
    }

    /// How many replicas the room takes if nothing else is there.
    fn alone(&self, stage: usize, option: usize) -> u32 {
        let mut most = i64::from(REPLICAS_MAX);
        let mut limit = |dim: usize, each: i64| {
            let room = self.room.get(dim).copied().unwrap_or(0);
            if each > 0 && room != OPEN {
                most = most.min(room / each);
            }
        };
        for resource in 0..RESOURCES {
            limit(
                self.pool[option] as usize * RESOURCES + resource,
                self.request[option][resource],
            );
        }
        for &group in self.groups(&self.stages[stage]) {
            limit(self.group_dim(group), self.cost[option]);
            limit(self.group_dim(group) + 1, self.power[option]);
        }
        u32::try_from(most.max(0)).unwrap_or(REPLICAS_MAX)
    }

    /// Splits the demand into what replicas could cover and the rest, and cuts the penalty to what arithmetic takes.
    fn fit_demand(&mut self, place: usize) {
        let scale = self.scale;
        let stage = &mut self.stages[place];
        let fraction = |penalty: i64| usize::from(penalty.trailing_zeros() < scale && penalty != 0);
        self.fractions -= fraction(stage.penalty);
        // Under `uniform` what stays does not add up: its pace is only known with the rest.
        let base = if stage.uniform { 0 } else { stage.base_served };
        let alone = if stage.uniform { stage.base_served } else { 0 };
        let open = stage.given_demand.saturating_sub(base);
        let coverable = open.min(stage.reach.saturating_add(alone).min(DEMAND_MAX));
        stage.demand = coverable as i64;
        stage.beyond = open - coverable;
        let most = ((1_i64 << 61) / stage.demand.max(1))
            .min((1_i64 << 43) / stage.fastest.min(1 << 43))
            .max(1);
        let scaled = u128::from(stage.given_penalty) << scale;
        stage.penalty = i64::try_from(scaled).map_or(most, |penalty| penalty.min(most));
        self.fractions += fraction(stage.penalty);
    }
}

/// Prices of an option, cut and scaled.
struct Priced {
    price: i64,
    up: i64,
    down: i64,
}

impl Priced {
    fn of(row: &OptionRow, scale: u32) -> Self {
        let fit = |value: u64| (value.min(GIVEN_MAX) << scale) as i64;
        Self {
            price: fit(row.price),
            up: fit(row.move_up),
            down: fit(row.move_down.min(row.price)),
        }
    }
}

/// Replicas from number `from` on, `count` of them, by capacity: (how many, what each serves).
fn steps(row: &OptionRow, from: u32, count: u32) -> impl Iterator<Item = (u32, u64)> {
    let end = from.saturating_add(count);
    let starts = std::iter::once((0, row.capacity_millis)).chain(row.further.iter().copied());
    let ends = row
        .further
        .iter()
        .map(|&(start, _)| start)
        .chain(std::iter::once(u32::MAX));
    let mut before = CAPACITY_MAX;
    let mut reached = from;
    starts.zip(ends).filter_map(move |((_, capacity), stop)| {
        before = before.min(capacity);
        let stop = stop.min(end);
        let here = stop.saturating_sub(reached);
        reached = reached.max(stop);
        (here > 0).then_some((here, before))
    })
}

fn scale(rows: &Rows) -> u32 {
    let options = rows.stages.iter().flat_map(|stage| &stage.options);
    let highest = options
        .map(|option| option.price.max(option.move_up))
        .max()
        .unwrap_or(0);
    let highest = highest.clamp(1, GIVEN_MAX);
    // What a replica's worth of unserved demand costs must fit as well, or classes could no longer be told apart.
    let worth = rows.stages.iter().map(|stage| {
        let fastest = stage
            .options
            .iter()
            .map(|option| option.capacity_millis.min(CAPACITY_MAX))
            .max();
        u128::from(stage.penalty) * u128::from(fastest.unwrap_or(0).max(1))
    });
    let worth = u64::try_from(worth.max().unwrap_or(0)).unwrap_or(u64::MAX).max(1);
    let by_price = (SCALED_MAX / highest).checked_ilog2().unwrap_or(0);
    by_price.min((WORTH_MAX / worth).checked_ilog2().unwrap_or(0))
}

fn rooms(rows: &Rows, order: &Order) -> Vec<i64> {
    let mut room = Vec::with_capacity(rows.pools.len() * RESOURCES + rows.groups.len() * 2);
    for &at in &order.pools {
        let pool = &rows.pools[at as usize];
        let all = [pool.cpu_millis, pool.memory_kib, pool.device_millis];
        room.extend(all.map(|value| value.clamp(0, ROOM_MAX)));
    }
    for &at in &order.groups {
        let group = &rows.groups[at as usize];
        let ceiling = |value: Option<u64>| value.map_or(OPEN, |value| value.min(ROOM_MAX as u64) as i64);
        room.extend([ceiling(group.money_max_micros), ceiling(group.power_max_milliwatts)]);
    }
    room
}

fn inverse(order: &[u32]) -> Vec<u32> {
    let mut places = vec![0; order.len()];
    for (place, &at) in (0..).zip(order) {
        places[at as usize] = place;
    }
    places
}
