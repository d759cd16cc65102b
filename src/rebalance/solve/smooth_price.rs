//! The search for prices. The only floats of the solver: they steer, they decide nothing and never leave.
//!
//! L(λ) of [`dual`](super::dual) is concave but has a kink wherever a stage is indifferent between two pools, and at the
//! best prices many stages are. Two steps:
//!
//! 1. **Smooth.** Let every stage spread over its pools softly: with `W_p` the price of serving it from pool p alone, the
//!    share of p falls with `(W_p − min W)/(τ·min W)`. Then what is used is a smooth function of the prices, whose
//!    Jacobian is `−Σ_s (Σ_p x_p u_p u_pᵀ − ū ūᵀ)/τ_s` with `u_p` the use of that plan, `x_p` its share and `ū` the mean
//!    use. Newton's method on "use = room, or price = 0" takes a few steps per τ; τ falls from 1 to 0.01. There are only as many unknowns as short resources, so
//!    a step costs one pass over stages and a small linear system. A few thousand stages stand for all: the instance is
//!    in an order that does not depend on anything that matters here, so its front is a fair sample.
//! 2. **Polish**, in [`bundle_price`](super::bundle_price), on L itself.
//!
//! Rooms are normalised to 1 and prices to "the whole room's price". Only addition, multiplication, division and
//! comparison of floats are used, in a fixed order: the same bits on every platform.

use super::instance::{Instance, OPEN, RESOURCES};
use super::oracle::FRACTION;
use crate::rebalance::bug::{Bug, seeded};

/// Stages that stand for all in the smoothed problem.
const SAMPLE: usize = 1024;
/// The same while the temperature is high.
const SAMPLE_HOT: usize = 256;
/// Newton steps per temperature.
const STEPS: usize = 2;
/// The same at the lowest.
const STEPS_LAST: usize = 4;
/// The next temperature is this part of the last.
const COOLING: f64 = 0.35;
/// Dimensions that Newton's method sees; the others are left to the polish.
const DIMS_MAX: usize = 48;
/// Prices are cut here, 2^-[`FRACTION`] per unit.
const PRICE_CUT: f64 = 4.0e18;

/// One way to serve a stage: from one pool alone.
#[derive(Clone, Copy, Debug)]
struct Way {
    price: f64,
    /// First of its uses.
    uses: u32,
}

/// The smoothed problem and the metric that is left of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Smooth {
    /// Dimensions of the instance that take part.
    dims: Vec<usize>,
    stages: Vec<u32>,
    ways: Vec<Way>,
    uses: Vec<(u32, f64)>,
    /// All stages, of which the sample is a part.
    all: usize,
    /// A tenth of what it costs to fill a room at usual prices, by dimension.
    units: Vec<f64>,
    /// Jacobian of what is used, by pairs of dimensions, negated.
    metric: Vec<f64>,
    gradient: Vec<f64>,
    shares: Vec<f64>,
}

/// A 63-bit integer as a float; what is lost is below one part in 2^52.
#[expect(clippy::cast_precision_loss, reason = "steers only")]
pub(super) fn float(value: i64) -> f64 {
    value as f64
}

#[expect(clippy::cast_precision_loss, reason = "steers only")]
fn wide(value: i128) -> f64 {
    value as f64
}

/// How much one exact value is above another.
pub(super) fn gain(now: i128, before: i128) -> f64 {
    wide(now - before)
}

/// Falls like exp(−x), with basic operations only.
fn decay(x: f64) -> f64 {
    let base = 1.0 - x * (1.0 / 64.0);
    if base <= 0.0 {
        return 0.0;
    }
    let base = base * base;
    let base = base * base;
    let base = base * base;
    let base = base * base;
    let base = base * base;
    base * base
}

/// How a price answers to what is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Response {
    pub(super) dim: usize,
    /// Price, 2^-[`FRACTION`], per unit of use that has come since the price was made: one over the slope H.
    gain: f64,
    /// A tenth of what it costs to use the room at usual prices, per unit: farther away the slope says nothing.
    pub(super) most: i64,
}

impl Response {
    /// How far the price goes, rounded towards zero, if so much more is used than when it was made.
    pub(super) fn step(&self, more: i128) -> i64 {
        // A float that is too large or no number becomes the nearest integer or zero.
        let step = (wide(more) * self.gain) as i64;
        step.clamp(-self.most, self.most)
    }
}

impl Smooth {
    /// How prices answer, by the Jacobian of the last pass.
    pub(super) fn responses(&self, instance: &Instance) -> Vec<Response> {
        let size = self.dims.len();
        let known = self.metric.len() == size * size;
        let mut all = Vec::with_capacity(size);
        for (slot, (&dim, &unit)) in self.dims.iter().zip(&self.units).enumerate() {
            if unit <= 0.0 {
                continue;
            }
            let slope = if known { self.metric[slot * size + slot] } else { 0.0 };
            // Where nobody is close to indifferent, as if a tenth of the price moved everybody.
            let slope = if slope * unit > 1.0 { slope } else { 1.0 / unit };
            let raw = float(1 << FRACTION) / float(instance.room[dim]);
            all.push(Response {
                dim,
                gain: raw / slope / float(instance.room[dim]),
                most: (raw * unit) as i64,
            });
        }
        all
    }

    /// Number of dimensions.
    pub(super) fn len(&self) -> usize {
        self.dims.len()
    }

    /// Nothing has a price.
    pub(super) fn clear(&mut self) {
        self.dims.clear();
    }

    /// Whether something is short that does not take part.
    pub(super) fn lacks(&self, instance: &Instance, usage: &[i128]) -> bool {
        let full = self.dims.len() >= DIMS_MAX;
        let short = |(dim, (&used, &room)): (usize, (&i128, &i64))| {
            used > i128::from(room) && room > 0 && self.dims.binary_search(&dim).is_err()
        };
        !full && usage.iter().zip(&instance.room).enumerate().any(short)
    }

    /// Reads the instance; `usage` is what stages use at the prices that are known. Returns whether a dimension was
    /// added to those of the last time.
    pub(super) fn load(&mut self, instance: &Instance, usage: &[i128]) -> bool {
        let added = self.choose_dims(instance, usage);
        let mut slots = vec![u32::MAX; instance.room.len()];
        for (slot, &dim) in (0..).zip(&self.dims) {
            slots[dim] = slot;
        }
        self.stages.clear();
        self.ways.clear();
        self.uses.clear();
        self.stages.push(0);
        let all = instance.stages.len();
        let count = all.min(SAMPLE);
        for at in 0..count {
            self.load_stage(instance, at, &slots);
        }
        self.ways.push(Way {
            price: 0.0,
            uses: self.uses.len() as u32,
        });
        self.all = all;
        self.measure();
        added
    }

    fn measure(&mut self) {
        let (mut prices, mut parts) = (vec![0.0; self.dims.len()], vec![0.0; self.dims.len()]);
        for pair in self.ways.windows(2) {
            for &(slot, part) in &self.uses[pair[0].uses as usize..pair[1].uses as usize] {
                prices[slot as usize] += pair[0].price;
                parts[slot as usize] += part;
            }
        }
        let unit = |(&price, &part): (&f64, &f64)| if part > 0.0 { 0.1 * price / part } else { 0.0 };
        self.units.clear();
        self.units.extend(prices.iter().zip(&parts).map(unit));
    }

    /// Dimensions of which much is used, and those that take part already.
    fn choose_dims(&mut self, instance: &Instance, usage: &[i128]) -> bool {
        let before = self.dims.len();
        let short = |&dim: &usize| {
            let room = instance.room[dim];
            room != OPEN && room > 0 && usage[dim] > i128::from(room) / 10 * 7
        };
        let known = std::mem::take(&mut self.dims);
        self.dims
            .extend((0..instance.room.len()).filter(|dim| known.binary_search(dim).is_ok() || short(dim)));
        if self.dims.len() > DIMS_MAX {
            // The shortest first; ties in canonical order.
            self.dims.sort_by_key(|&dim| {
                let part = usage[dim].saturating_mul(1 << 20) / i128::from(instance.room[dim].max(1));
                (std::cmp::Reverse(part), dim)
            });
            self.dims.truncate(DIMS_MAX);
            self.dims.sort_unstable();
        }
        self.dims.len() != before
    }

    fn load_stage(&mut self, instance: &Instance, at: usize, slots: &[u32]) {
        let stage = &instance.stages[at];
        let demand = stage.demand;
        let pieces = instance.pieces(stage);
        let mut from = 0;
        while from < pieces.len() {
            let option = pieces[from].option;
            let (mut left, mut floor, mut price, mut count) = (demand, i64::from(stage.min), 0.0, 0_i64);
            let mut to = from;
            while let Some(piece) = pieces.get(to).filter(|piece| piece.option == option) {
                let full = if piece.capacity > 0 {
                    (left + piece.capacity - 1) / piece.capacity
                } else {
                    0
                };
                let here = full.max(floor).min(i64::from(piece.max));
                price += float(piece.price) * float(here);
                left = (left - here * piece.capacity).max(0);
                floor -= here;
                count += here;
                to += 1;
            }
            from = to;
            let price = price + float(stage.penalty) * float(left);
            if count == 0 {
                continue;
            }
            self.ways.push(Way {
                price,
                uses: self.uses.len() as u32,
            });
            let index = (stage.options.start + option) as usize;
            let uses = &mut self.uses;
            let mut push = |dim: usize, each: i64| {
                let slot = slots[dim];
                if slot != u32::MAX && each > 0 {
                    uses.push((slot, float(each) * float(count) / float(instance.room[dim])));
                }
            };
            for (resource, &each) in instance.request[index].iter().enumerate() {
                push(instance.pool[index] as usize * RESOURCES + resource, each);
            }
            for &group in instance.groups(stage) {
                push(instance.group_dim(group), instance.cost[index]);
                push(instance.group_dim(group) + 1, instance.power[index]);
            }
        }
        self.ways.push(Way {
            price: float(stage.penalty) * float(demand),
            uses: self.uses.len() as u32,
        });
        self.stages.push(self.ways.len() as u32);
    }

    /// Use minus room at prices `at` and temperature, into `gradient`; the Jacobian into `metric`. Looks at the first
    /// `most` stages of the sample. Returns the dual value without smoothing, and what smoothing may take of it.
    fn pass(&mut self, at: &[f64], temperature: f64, most: usize) -> (f64, f64) {
        let size = self.dims.len();
        self.gradient.clear();
        self.gradient.resize(size, 0.0);
        self.metric.clear();
        self.metric.resize(size * size, 0.0);
        let count = most.min(self.stages.len() - 1);
        let weight = float(self.all as i64) / float(count.max(1) as i64);
        let (mut value, mut blur) = (0.0, 0.0);
        let mut mean = vec![0.0; size];
        let mut touched: Vec<usize> = Vec::with_capacity(size);
        for stage in self.stages[..=count].windows(2) {
            let (from, to) = (stage[0] as usize, stage[1] as usize);
            let mut least = f64::MAX;
            self.shares.clear();
            for way in from..to {
                let uses = &self.uses[self.ways[way].uses as usize..self.ways[way + 1].uses as usize];
                let price = uses.iter().fold(self.ways[way].price, |sum, &(slot, part)| {
                    if seeded(Bug::Fused) {
                        return at[slot as usize].mul_add(part, sum);
                    }
                    sum + at[slot as usize] * part
                });
                least = if price < least { price } else { least };
                self.shares.push(price);
            }
            value += least;
            let soft = temperature * least;
            blur += soft;
            if soft <= 0.0 {
                continue;
            }
            let inverse = 1.0 / soft;
            let mut total = 0.0;
            for share in &mut self.shares {
                *share = decay((*share - least) * inverse);
                total += *share;
            }
            let scale = weight / total;
            touched.clear();
            for (way, &share) in (from..to).zip(&self.shares) {
                if share == 0.0 {
                    continue;
                }
                let share = share * scale;
                let uses = &self.uses[self.ways[way].uses as usize..self.ways[way + 1].uses as usize];
                for &(slot, part) in uses {
                    let slot = slot as usize;
                    if mean[slot] == 0.0 {
                        touched.push(slot);
                    }
                    for &(other, second) in uses {
                        self.metric[slot * size + other as usize] += share * part * second * inverse;
                    }
                    mean[slot] += share * part;
                    self.gradient[slot] += share * part;
                }
            }
            let back = inverse / weight;
            for &one in &touched {
                for &other in &touched {
                    self.metric[one * size + other] -= mean[one] * mean[other] * back;
                }
            }
            for &slot in &touched {
                mean[slot] = 0.0;
            }
        }
        self.gradient.iter_mut().for_each(|part| *part -= 1.0);
        (value * weight - at.iter().sum::<f64>(), blur * weight)
    }

    /// Moves `prices` towards where use meets room, from temperature `hot` down to `cold`. Hot steps look at a part of
    /// the sample only.
    ///
    /// Newton's method may overshoot where stages are few. What the stages would do without any smoothing is a concave
    /// function of the prices and comes with every pass; a step that makes it worse than smoothing explains is taken
    /// back by half.
    pub(super) fn descend(&mut self, prices: &mut [f64], hot: f64, cold: f64) {
        let mut temperature = hot;
        let (mut best, mut best_value, mut looked) = (prices.to_vec(), -f64::MAX, 0);
        loop {
            let last = temperature <= cold;
            let look = if last { SAMPLE } else { SAMPLE_HOT };
            if look != looked {
                (looked, best_value) = (look, -f64::MAX);
            }
            for _ in 0..if last { STEPS_LAST } else { STEPS } {
                let (value, blur) = self.pass(prices, temperature, look);
                if value > best_value {
                    best_value = value;
                    best.copy_from_slice(prices);
                } else if value < best_value - blur {
                    for (price, &best) in prices.iter_mut().zip(&best) {
                        *price = (*price + best) * 0.5;
                    }
                    continue;
                }
                let gradient = std::mem::take(&mut self.gradient);
                let step = self.newton(prices, &gradient, 1e-3);
                let mut moved = false;
                for ((price, &step), &unit) in prices.iter_mut().zip(&step).zip(&self.units) {
                    // Far from where it was made, the Jacobian says little: a price at most doubles or halves, and
                    // starts from a share of what filling the room costs.
                    let (up, down) = (if *price > unit { *price } else { unit }, *price * -0.6);
                    let step = if step > up { up } else { step };
                    let step = if step < down { down } else { step };
                    let next = *price + step;
                    let next = if next > unit * 1e-3 { next } else { 0.0 };
                    moved |= (next - *price).abs() > *price * 1e-3;
                    *price = next;
                }
                self.gradient = gradient;
                if !moved {
                    break;
                }
            }
            if last {
                break;
            }
            temperature *= COOLING;
            if temperature < cold {
                temperature = cold;
            }
        }
        let (value, _) = self.pass(prices, temperature, SAMPLE);
        if value < best_value {
            prices.copy_from_slice(&best);
        }
    }

    /// Solves metric · step = gradient over the prices that may move.
    fn newton(&self, prices: &[f64], gradient: &[f64], ridge: f64) -> Vec<f64> {
        let size = self.dims.len();
        let mut step = vec![0.0; size];
        let mut free: Vec<usize> = (0..size).filter(|&at| prices[at] > 0.0 || gradient[at] > 0.0).collect();
        for _ in 0..3 {
            let solved = self.solve(&free, gradient, ridge);
            step.fill(0.0);
            for (&at, &part) in free.iter().zip(&solved) {
                step[at] = part;
            }
            // What would fall below zero from zero is held there, and the others are solved again.
            let before = free.len();
            free.retain(|&at| prices[at] > 0.0 || step[at] > 0.0);
            if free.len() == before {
                break;
            }
        }
        step
    }

    /// Cholesky on the free part, with a ridge that keeps it definite.
    fn solve(&self, free: &[usize], gradient: &[f64], ridge: f64) -> Vec<f64> {
        let (size, count) = (self.dims.len(), free.len());
        let mut matrix = vec![0.0; count * count];
        for (row, &one) in free.iter().enumerate() {
            for (column, &other) in free.iter().enumerate() {
                matrix[row * count + column] = self.metric[one * size + other];
            }
            let own = matrix[row * count + row];
            matrix[row * count + row] = own + own * ridge + 1e-30;
        }
        let mut right: Vec<f64> = free.iter().map(|&at| gradient[at]).collect();
        // LDLᵀ: no square roots.
        for pivot in 0..count {
            let head = matrix[pivot * count + pivot];
            if head <= 0.0 {
                right[pivot] = 0.0;
                continue;
            }
            for row in pivot + 1..count {
                let factor = matrix[row * count + pivot] / head;
                if factor == 0.0 {
                    continue;
                }
                for column in pivot..count {
                    matrix[row * count + column] -= factor * matrix[pivot * count + column];
                }
                right[row] -= factor * right[pivot];
            }
        }
        for pivot in (0..count).rev() {
            let head = matrix[pivot * count + pivot];
            if head <= 0.0 {
                right[pivot] = 0.0;
                continue;
            }
            let known =
                (pivot + 1..count).fold(0.0, |sum, column| sum + matrix[pivot * count + column] * right[column]);
            right[pivot] = (right[pivot] - known) / head;
        }
        right
    }

    /// Integer prices from normalised ones; dimensions that do not take part keep what is in `into`.
    pub(super) fn publish(&self, instance: &Instance, prices: &[f64], into: &mut [u64]) {
        for (&dim, &price) in self.dims.iter().zip(prices) {
            let unit = price * float(1 << FRACTION) / float(instance.room[dim]);
            // A float that is too large or no number becomes the nearest integer or zero.
            into[dim] = if unit > 0.0 {
                (if unit < PRICE_CUT { unit } else { PRICE_CUT }) as u64
            } else {
                0
            };
        }
    }

    /// Normalised prices from integer ones.
    pub(super) fn read(&self, instance: &Instance, prices: &[u64]) -> Vec<f64> {
        let read = |&dim: &usize| {
            let price = prices.get(dim).copied().unwrap_or(0);
            float(price.min(1 << 62).cast_signed()) * float(instance.room[dim]) / float(1 << FRACTION)
        };
        self.dims.iter().map(read).collect()
    }

    /// What a tenth of a room costs at usual prices, by dimension: the scale on which prices move.
    pub(super) fn units(&self) -> &[f64] {
        &self.units
    }

    /// Use minus room from exact use, normalised.
    pub(super) fn excess(&self, instance: &Instance, usage: &[i128]) -> Vec<f64> {
        let part = |&dim: &usize| wide(usage[dim]) / float(instance.room[dim]) - 1.0;
        self.dims.iter().map(part).collect()
    }
}
