//! Seeded instances for tests and benchmarks: fleets of stages over pools, of which some are short.
//!
//! The same seed gives the same instance everywhere: integers only, splitmix64.

use super::Traffic;
use super::canonical::mix;
use super::instance::Instance;
use super::oracle::{Ask, Oracle};
use super::rows::{OptionRow, PoolRow, Rows, StageRow};
use crate::rebalance::world::Resources;

/// Pseudo-random numbers (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(mix(seed.wrapping_add(0x5851_f42d_4c95_7f2d)))
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Uniform in `from..=to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        let span = to.saturating_sub(from).saturating_add(1);
        from + u64::try_from((u128::from(self.roll()) * u128::from(span.max(1))) >> 64).unwrap_or(0)
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.between(0, 99) < percent
    }
}

/// What to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// Number of stages.
    pub stages: usize,
    /// Number of pools.
    pub pools: usize,
    /// About half of the pools have room for only 1/1.2 to 1/1.5 of what the cheapest covers together ask of them;
    /// without it, every pool has twice the room.
    pub scarce: bool,
    /// Replicas run already (the cheapest cover of an earlier demand), and moving them has a price.
    pub running: bool,
    /// Makes the instance.
    pub seed: u64,
}

/// Kinds of nodes: millicores, GiB, devices, price per node and hour in micro-dollars, speed in thousandths.
const KINDS: [(u64, u64, u64, u64, u64); 8] = [
    (16_000, 64, 0, 770_000, 60),
    (16_000, 64, 0, 616_000, 55),
    (32_000, 128, 1, 980_000, 100),
    (48_000, 192, 4, 4_600_000, 420),
    (96_000, 1_152, 8, 32_770_000, 3_600),
    (192_000, 2_048, 8, 55_040_000, 5_600),
    (16_000, 32, 2, 1_970_000, 230),
    (64_000, 256, 0, 2_900_000, 210),
];

/// Makes the rows of a fleet: three resources, every stage on up to `pools` pools, prices from shares of nodes.
pub fn fleet(fleet: &Fleet) -> Rows {
    let mut dice = Dice::new(fleet.seed);
    let pools = (0..fleet.pools)
        .map(|at| PoolRow {
            reliable: at % 3 != 2,
            ..roomy()
        })
        .collect();
    let mut rows = Rows {
        pools,
        ..Rows::default()
    };
    for _ in 0..fleet.stages {
        let stage = stage(fleet, &mut dice);
        rows.stages.push(stage);
    }
    let cheapest = Instance::new(&rows);
    let (usage, counts) = usage_of_cheapest(&rows, &cheapest);
    for (at, pool) in rows.pools.iter_mut().enumerate() {
        let short = fleet.scarce && at % 2 == 0;
        let percent = if !fleet.scarce {
            200
        } else if short {
            10_000 / dice.between(120, 150)
        } else {
            300
        };
        // Somewhere to go: together, the pools that are not short could take the whole fleet.
        let refuge = if short { [0; 3] } else { usage_alone(&rows.stages, at) };
        let room = |resource: usize| usage[at * 3 + resource] / 100 * percent as i64 + refuge[resource] / 5 * 2;
        (pool.cpu_millis, pool.memory_kib, pool.device_millis) = (room(0), room(1), room(2));
    }
    if fleet.running {
        run(&mut rows, &counts, &mut dice);
    }
    rows
}

fn roomy() -> PoolRow {
    PoolRow {
        reliable: true,
        cpu_millis: i64::MAX,
        memory_kib: i64::MAX,
        device_millis: i64::MAX,
    }
}

fn stage(fleet: &Fleet, dice: &mut Dice) -> StageRow {
    // Thousandths of a request per second that a whole node of speed 1.0 serves.
    let pace = 1_000 * dice.between(20, 400);
    let size = dice.between(1, 4);
    let mut options = Vec::new();
    for pool in 0..fleet.pools {
        if fleet.pools > 2 && dice.chance(12) {
            continue;
        }
        let (cpu, memory, devices, price, speed) = KINDS[pool % KINDS.len()];
        let share = (size.min(devices) * 1_000).checked_div(devices).unwrap_or(250 * size);
        let fits = dice.between(60, 150);
        let cost_micros = price * share / 1_000;
        options.push(OptionRow {
            pool: pool as u32,
            request: Resources {
                cpu_millis: cpu * share / 1_000 * dice.between(50, 100) / 100,
                memory_kib: (memory << 20) * share / 1_000 * dice.between(40, 100) / 100,
                device_millis: size.min(devices) * 1_000,
            },
            price: cost_micros * 1_000,
            cost_micros,
            power_milliwatts: cost_micros / 10,
            capacity_millis: (pace * speed * share / 1_000_000 * fits / 100).max(1),
            ..OptionRow::default()
        });
    }
    let mut capacities: Vec<u64> = options.iter().map(|option| option.capacity_millis).collect();
    capacities.sort_unstable();
    let middle = capacities.get(capacities.len() / 2).copied().unwrap_or(1);
    let demand_millis = middle * dice.between(40, 1_600) / 100;
    let dearest = options
        .iter()
        .map(|option| option.price.div_ceil(option.capacity_millis))
        .max()
        .unwrap_or(1);
    let class = dice.between(0, 2);
    StageRow {
        demand_millis,
        min: 1,
        max: 100_000,
        reliable_min: u32::from(dice.chance(20)),
        traffic: if dice.chance(15) {
            Traffic::Uniform
        } else {
            Traffic::Pull
        },
        penalty: dearest * 4 * (class + 1),
        priority: (class * 100) as u16,
        options,
        ..StageRow::default()
    }
}

/// What a pool would be asked for if every stage that can run there ran there alone.
fn usage_alone(stages: &[StageRow], pool: usize) -> [i64; 3] {
    let mut usage = [0; 3];
    for stage in stages {
        for option in stage.options.iter().filter(|option| option.pool as usize == pool) {
            let count = stage.demand_millis.div_ceil(option.capacity_millis.max(1));
            let request = &option.request;
            let each = [request.cpu_millis, request.memory_kib, request.device_millis];
            for (sum, each) in usage.iter_mut().zip(each) {
                *sum += (count * each) as i64;
            }
        }
    }
    usage
}

/// What each pool is asked for if every stage takes its cheapest cover, and those covers by the caller's options.
fn usage_of_cheapest(rows: &Rows, instance: &Instance) -> (Vec<i64>, Vec<u32>) {
    let mut oracle = Oracle::default();
    let mut usage = vec![0_i64; rows.pools.len() * 3];
    let mut counts = vec![0; instance.options()];
    let flat: Vec<&OptionRow> = rows.stages.iter().flat_map(|stage| &stage.options).collect();
    for at in 0..instance.stages() {
        oracle.solve(instance, at, &Ask::default());
        for (option, &count) in (instance.stages[at].options.start as usize..).zip(&oracle.counts) {
            let outer = instance.outer_option[option] as usize;
            let row = flat[outer];
            counts[outer] = count;
            let request = [
                row.request.cpu_millis,
                row.request.memory_kib,
                row.request.device_millis,
            ];
            for (resource, each) in request.into_iter().enumerate() {
                usage[row.pool as usize * 3 + resource] += each as i64 * i64::from(count);
            }
        }
    }
    (usage, counts)
}

/// Lets the cheapest covers run, three quarters of them, and puts a price on moves.
fn run(rows: &mut Rows, counts: &[u32], dice: &mut Dice) {
    let options = rows.stages.iter_mut().flat_map(|stage| &mut stage.options);
    for (option, &count) in options.zip(counts) {
        option.current = if dice.chance(75) { count } else { 0 };
        option.move_up = option.price / 30;
        option.move_down = option.price / 60;
    }
}
