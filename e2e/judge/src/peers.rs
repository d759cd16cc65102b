//! Simpler planners on the same rows: one stage after the other, with the room that is left. Each is tried with all its
//! knobs, and its best plan counts.

use std::time::{Duration, Instant};

use planner::rebalance::solve::Traffic;
use planner::rebalance::solve::rows::{OptionRow, Rows, StageRow};

use crate::Failure;
use crate::exact;
use crate::mip::{self, Relaxed};

/// The best plan of a planner over its knobs.
#[derive(Clone, Debug)]
pub(crate) struct Tuned {
    pub(crate) cost: i128,
    /// Seconds of the run with the best knobs.
    pub(crate) seconds: f64,
    pub(crate) knobs: String,
}

/// Room that is left.
#[derive(Clone, Debug)]
struct Room {
    pools: Vec<[i64; 3]>,
    groups: Vec<[u64; 2]>,
}

impl Room {
    fn new(rows: &Rows) -> Self {
        let most = |value: Option<u64>| value.unwrap_or(u64::MAX);
        let groups = rows.groups.iter();
        Self {
            pools: rows
                .pools
                .iter()
                .map(|pool| [pool.cpu_millis, pool.memory_kib, pool.device_millis])
                .collect(),
            groups: groups
                .map(|group| [most(group.money_max_micros), most(group.power_max_milliwatts)])
                .collect(),
        }
    }

    fn fits(&self, stage: &StageRow, option: &OptionRow) -> u64 {
        let pool = &self.pools[option.pool as usize];
        let pools = pool
            .iter()
            .zip(requests(option))
            .filter_map(|(&room, each)| u64::try_from(room.max(0)).ok()?.checked_div(each));
        let groups = stage.groups.iter().flat_map(|&group| {
            let [money, power] = self.groups[group as usize];
            let counts = [
                money.checked_div(option.cost_micros),
                power.checked_div(option.power_milliwatts),
            ];
            counts.into_iter().flatten()
        });
        pools.chain(groups).min().unwrap_or(u64::MAX)
    }

    fn take(&mut self, stage: &StageRow, option: &OptionRow, count: u32) {
        let count = u64::from(count);
        for (room, each) in self.pools[option.pool as usize].iter_mut().zip(requests(option)) {
            *room = room.saturating_sub_unsigned(each * count);
        }
        for &group in &stage.groups {
            let [money, power] = &mut self.groups[group as usize];
            *money = money.saturating_sub(option.cost_micros * count);
            *power = power.saturating_sub(option.power_milliwatts * count);
        }
    }
}

fn requests(option: &OptionRow) -> [u64; 3] {
    let request = option.request;
    [request.cpu_millis, request.memory_kib, request.device_millis]
}

/// Whose turn it is.
const ORDERS: [&str; 4] = [
    "as given",
    "dearest penalty first",
    "largest bill first",
    "most regret first",
];

fn order(rows: &Rows, which: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows.stages.len()).collect();
    let bills = |stage: &StageRow| {
        let mut bills: Vec<u64> = stage.options.iter().map(|option| bill(stage, option)).collect();
        bills.sort_unstable();
        bills
    };
    let key = |at: usize| {
        let stage = &rows.stages[at];
        let first = bills(stage).first().copied().unwrap_or(0);
        match which {
            0 => 0,
            1 => stage.penalty,
            2 => first,
            _ => bills(stage)
                .get(1)
                .map_or(u64::MAX, |second| second.saturating_sub(first)),
        }
    };
    order.sort_by_cached_key(|&at| std::cmp::Reverse(key(at)));
    order
}

/// What the stage costs on that option alone.
fn bill(stage: &StageRow, option: &OptionRow) -> u64 {
    let replicas = stage.demand_millis.div_ceil(option.capacity_millis.max(1)).max(1);
    option.price.saturating_mul(replicas)
}

/// How a stage is filled.
#[derive(Clone, Copy, Debug)]
struct Fill<'a> {
    /// Options in the order in which they are used.
    preference: &'a [usize],
    /// Under uniform traffic: everything counts as this, what is slower is left out.
    pace: Option<u64>,
    /// The last replica is left out where the rest of the demand is worth less.
    worth: bool,
}

/// Adds replicas to `counts` until floors and demand are covered or nothing fits.
fn fill(rows: &Rows, stage: &StageRow, how: &Fill<'_>, room: &mut Room, counts: &mut [u32]) {
    let mut left = u64::from(stage.max).saturating_sub(counts.iter().map(|&count| u64::from(count)).sum());
    let capacity = |at: usize| match how.pace {
        Some(pace) if stage.options[at].capacity_millis >= pace => pace,
        Some(_) => 0,
        None => stage.options[at].capacity_millis,
    };
    let mut add = |at: usize, wanted: u64, counts: &mut [u32]| {
        let option = &stage.options[at];
        let open = u64::from(option.upper).saturating_sub(u64::from(counts[at]));
        let count = wanted.min(left).min(open).min(room.fits(stage, option));
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        room.take(stage, option, count);
        counts[at] += count;
        left -= u64::from(count);
        u64::from(count)
    };
    let reliable = |at: usize| rows.pools[stage.options[at].pool as usize].reliable;
    let usable = |at: usize| how.pace.is_none() || capacity(at) > 0;
    let all = || how.preference.iter().copied().filter(|&at| usable(at));
    let has: u64 = all().filter(|&at| reliable(at)).map(|at| u64::from(counts[at])).sum();
    let mut missing = u64::from(stage.reliable_min).saturating_sub(has);
    for at in all().filter(|&at| reliable(at)) {
        missing -= add(at, missing, counts);
    }
    let served: u64 = all().map(|at| capacity(at) * u64::from(counts[at])).sum();
    let mut open = stage.demand_millis.saturating_sub(served);
    for at in all() {
        let each = capacity(at);
        if each == 0 || open == 0 {
            continue;
        }
        let whole = open / each;
        let rest = open % each;
        let paid = u128::from(rest) * u128::from(stage.penalty) > u128::from(stage.options[at].price);
        let wanted = whole + u64::from(rest > 0 && (paid || !how.worth));
        open = open.saturating_sub(add(at, wanted, counts) * each);
    }
    let total: u64 = counts.iter().map(|&count| u64::from(count)).sum();
    let mut missing = u64::from(stage.min).saturating_sub(total);
    for at in all() {
        missing -= add(at, missing, counts);
    }
}

/// [`fill`] from `start`; under uniform traffic at the pace that comes out cheapest.
fn fill_best(rows: &Rows, stage: &StageRow, how: &Fill<'_>, room: &mut Room, start: &[u32], short: i128) -> Vec<u32> {
    if stage.traffic != Traffic::Uniform {
        let mut counts = start.to_vec();
        fill(rows, stage, how, room, &mut counts);
        return counts;
    }
    let mut best: Option<(i128, Room, Vec<u32>)> = None;
    for option in &stage.options {
        let (mut room, mut counts) = (room.clone(), start.to_vec());
        let pace = Some(option.capacity_millis);
        fill(rows, stage, &Fill { pace, ..*how }, &mut room, &mut counts);
        let cost = exact::stage_cost(rows, stage, short, &counts);
        if best.as_ref().is_none_or(|(before, ..)| cost < *before) {
            best = Some((cost, room, counts));
        }
    }
    best.map_or_else(
        || start.to_vec(),
        |(_, after, counts)| {
            *room = after;
            counts
        },
    )
}

fn by_ratio(stage: &StageRow) -> Vec<usize> {
    let mut order: Vec<usize> = (0..stage.options.len()).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (&stage.options[a], &stage.options[b]);
        let left = u128::from(a.price) * u128::from(b.capacity_millis);
        left.cmp(&(u128::from(b.price) * u128::from(a.capacity_millis)))
    });
    order
}

/// Fills all stages in an order; `one` does a stage.
fn plan(
    rows: &Rows,
    order: &[usize],
    mut one: impl FnMut(usize, &StageRow, &mut Room) -> Result<Vec<u32>, Failure>,
) -> Result<i128, Failure> {
    let mut room = Room::new(rows);
    let mut all: Vec<Vec<u32>> = vec![Vec::new(); rows.stages.len()];
    for &at in order {
        all[at] = one(at, &rows.stages[at], &mut room)?;
    }
    Ok(exact::cost(rows, &all.concat())?)
}

/// The best over orders, and over leaving out or not the last replica that is not worth its price.
fn tuned(mut run: impl FnMut(usize, bool) -> Result<i128, Failure>) -> Result<Tuned, Failure> {
    let mut best: Option<Tuned> = None;
    for (which, name) in ORDERS.iter().enumerate() {
        for worth in [false, true] {
            let start = Instant::now();
            let cost = run(which, worth)?;
            let seconds = start.elapsed().as_secs_f64();
            if best.as_ref().is_none_or(|before| cost < before.cost) {
                let last = if worth {
                    "last replica if worth it"
                } else {
                    "always rounded up"
                };
                let knobs = format!("{name}, {last}");
                best = Some(Tuned { cost, seconds, knobs });
            }
        }
    }
    best.ok_or_else(|| "there are no knobs".into())
}

/// Every stage uses its options by price per capacity, rounded up to whole replicas, after the floors of all.
pub(crate) fn cheapest_ratio(rows: &Rows) -> Result<Tuned, Failure> {
    let short = exact::short_price(rows);
    let mut after_floors = Room::new(rows);
    let mut floors: Vec<Vec<u32>> = Vec::with_capacity(rows.stages.len());
    for stage in &rows.stages {
        let how = Fill {
            preference: &by_ratio(stage),
            pace: None,
            worth: false,
        };
        let mut counts = vec![0; stage.options.len()];
        fill(rows, &idle(stage), &how, &mut after_floors, &mut counts);
        floors.push(counts);
    }
    tuned(|which, worth| {
        let mut begun = false;
        plan(rows, &order(rows, which), |at, stage, room| {
            if !begun {
                room.clone_from(&after_floors);
                begun = true;
            }
            let how = Fill {
                preference: &by_ratio(stage),
                pace: None,
                worth,
            };
            Ok(fill_best(rows, stage, &how, room, &floors[at], short))
        })
    })
}

/// Every stage goes to the one pool where it costs least with the room that is left, unserved demand counted.
pub(crate) fn single_pool(rows: &Rows) -> Result<Tuned, Failure> {
    let short = exact::short_price(rows);
    tuned(|which, worth| {
        plan(rows, &order(rows, which), |_, stage, room| {
            let mut best: Option<(i128, Room, Vec<u32>)> = None;
            for option in 0..stage.options.len() {
                let (mut room, mut counts) = (room.clone(), vec![0; stage.options.len()]);
                let how = Fill {
                    preference: &[option],
                    pace: None,
                    worth,
                };
                fill(rows, stage, &how, &mut room, &mut counts);
                let cost = exact::stage_cost(rows, stage, short, &counts);
                if best.as_ref().is_none_or(|(before, ..)| cost < *before) {
                    best = Some((cost, room, counts));
                }
            }
            Ok(best.map_or_else(Vec::new, |(_, after, counts)| {
                *room = after;
                counts
            }))
        })
    })
}

/// The linear relaxation rounded down, then filled: options with the largest fraction first.
pub(crate) fn rounded(rows: &Rows, relaxed: &Relaxed) -> Result<Tuned, Failure> {
    let short = exact::short_price(rows);
    let mut firsts = Vec::with_capacity(rows.stages.len());
    let mut first = 0;
    for stage in &rows.stages {
        firsts.push(first);
        first += stage.options.len();
    }
    // What is rounded down fits for all together; room is taken for all of it before anything is added.
    let mut after_floors = Room::new(rows);
    let mut floors: Vec<Vec<u32>> = Vec::with_capacity(rows.stages.len());
    for (at, stage) in rows.stages.iter().enumerate() {
        let counts: Vec<u32> = (0..stage.options.len())
            .map(|option| {
                // Shares of several paces do not add up to one: such stages are left to the filling.
                let usable = stage.traffic != Traffic::Uniform;
                let count = floor(relaxed.counts[firsts[at] + option]);
                let count = u64::from(if usable { count } else { 0 });
                let count = count.min(after_floors.fits(stage, &stage.options[option]));
                let count = u32::try_from(count).unwrap_or(0);
                after_floors.take(stage, &stage.options[option], count);
                count
            })
            .collect();
        floors.push(counts);
    }
    // Floors of late stages must not fall to the demand of early ones.
    for (at, stage) in rows.stages.iter().enumerate() {
        let how = Fill {
            preference: &by_ratio(stage),
            pace: None,
            worth: false,
        };
        fill(rows, &idle(stage), &how, &mut after_floors, &mut floors[at]);
    }
    let mut tuned = tuned(|which, worth| {
        let mut begun = false;
        plan(rows, &order(rows, which), |at, stage, room| {
            if !begun {
                room.clone_from(&after_floors);
                begun = true;
            }
            let mut preference = by_ratio(stage);
            let fraction = |option: &usize| relaxed.counts[firsts[at] + option].fract();
            preference.sort_by(|a, b| fraction(b).total_cmp(&fraction(a)));
            let how = Fill {
                preference: &preference,
                pace: None,
                worth,
            };
            Ok(fill_best(rows, stage, &how, room, &floors[at], short))
        })
    })?;
    tuned.seconds += relaxed.seconds;
    Ok(tuned)
}

/// The stage without demand: only its floors are left.
fn idle(stage: &StageRow) -> StageRow {
    StageRow {
        demand_millis: 0,
        ..stage.clone()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are small and not negative"
)]
fn floor(count: f64) -> u32 {
    (count + 1e-6).floor().max(0.0) as u32
}

/// An exact program per stage (as Mélange solves one per model), one after the other with the room that is left.
pub(crate) fn program_per_stage(rows: &Rows) -> Result<Tuned, Failure> {
    let mut best: Option<Tuned> = None;
    for (which, name) in ORDERS.iter().enumerate() {
        let start = Instant::now();
        let cost = plan(rows, &order(rows, which), |_, stage, room| {
            let alone = alone(rows, stage, room);
            let mip = mip::run(&alone, Duration::from_secs(2), 0.0)?;
            let counts = mip.counts.filter(|_| mip.cost.is_some());
            let counts = counts.unwrap_or_else(|| vec![0; stage.options.len()]);
            for (option, &count) in stage.options.iter().zip(&counts) {
                room.take(stage, option, count);
            }
            Ok(counts)
        })?;
        let seconds = start.elapsed().as_secs_f64();
        if best.as_ref().is_none_or(|before| cost < before.cost) {
            let knobs = (*name).to_owned();
            best = Some(Tuned { cost, seconds, knobs });
        }
    }
    best.ok_or_else(|| "there are no knobs".into())
}

/// One stage with what is left of the rooms.
fn alone(rows: &Rows, stage: &StageRow, room: &Room) -> Rows {
    let mut alone = Rows {
        pools: rows.pools.clone(),
        groups: rows.groups.clone(),
        stages: vec![stage.clone()],
    };
    for (pool, left) in alone.pools.iter_mut().zip(&room.pools) {
        [pool.cpu_millis, pool.memory_kib, pool.device_millis] = *left;
    }
    for (group, [money, power]) in alone.groups.iter_mut().zip(&room.groups) {
        group.money_max_micros = group.money_max_micros.map(|_| *money);
        group.power_max_milliwatts = group.power_max_milliwatts.map(|_| *power);
    }
    alone
}
