//! Priced pools: joint plans over all pools, each with the proof of how far from the best it can be.
//!
//! # The problem
//!
//! ```text
//! min  Σ price·n + Σ penalty·unserved + Σ moves        over whole replicas n of every stage on every pool
//! s.t. Σ request·n ≤ room                              of every pool, in CPU, memory and devices
//!      Σ cost·n ≤ ceiling                              of every group of stages, in money and power
//!      floors, ceilings, and demand or its penalty     for every stage
//! ```
//!
//! Only pools and groups tie stages together. Put a price on every unit of their room, and every stage can decide for
//! itself; find the prices at which those decisions just fit, and what stages do for themselves is what is best for all,
//! but for whole numbers. For any prices, what stages do for themselves also bounds what anything could cost. So the
//! same search yields the plan, its certificate, and an explanation: a pool's price is what more room in it would save.
//!
//! # Top to bottom
//!
//! | file | what it does |
//! | --- | --- |
//! | `rows` | the problem as callers state it |
//! | `canonical` | an order that forgets the caller's |
//! | `instance` | dense columns, numbers that cannot overflow |
//! | `oracle` | one stage at given prices |
//! | `quick` | the same for the usual stage |
//! | `search` | the same in general: an exact covering knapsack |
//! | `dual` | the bound, in integers |
//! | `smooth_price`, `bundle_price` | the search for prices: smooth first, then on the bound itself |
//! | `plan`, `build` | from prices to a plan that fits |
//! | `improve` | better plans, any time |
//! | `choices`, `lists`, `walk_price`, `branch` | small instances to the end |
//! | `warm` | solving again after a little has changed |
//! | `event` | one stage, at once |
//! | `steering` | what events need: prices that follow, whom they concern, running sums |
//! | `bottleneck` | pipelines: nothing is bought that a neighbour would waste |
//! | `certificate` | what is published |
//! | `generate` | seeded instances for tests and benchmarks |
//!
//! # Time
//!
//! There is no clock here. [`solve`] asks its caller "go on?" at short intervals and finishes soon after a no, with the
//! best it has; [`searching`] says how much of a slice to leave for that. If the answer is always yes, the result depends
//! on nothing but the instance.
#![allow(
    clippy::indexing_slicing,
    reason = "indices are made here from lengths that are known here; bounds checks everywhere would hide the algorithm"
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "`instance` bounds every number once, so that the rest needs no checks"
)]

mod bottleneck;
mod branch;
mod build;
mod bundle_price;
mod canonical;
mod certificate;
mod choices;
mod dual;
pub mod event;
#[cfg(test)]
mod event_properties;
#[cfg(test)]
mod garbage;
pub mod generate;
mod improve;
mod instance;
#[cfg(test)]
mod judge;
mod lists;
mod oracle;
mod plan;
#[cfg(test)]
mod proofs;
#[cfg(test)]
mod properties;
mod quick;
pub mod rows;
mod search;
mod smooth_price;
mod steering;
mod walk_price;
mod warm;

use std::time::Duration;

use self::build::build;
use self::bundle_price::{Bundle, Step};
pub use self::certificate::{Effort, Priced, Reason, Solution, gap_ppm, worth};
use self::dual::{Evaluation, evaluate, evaluate_front};
use self::generate::Dice;
use self::improve::Improve;
pub use self::instance::Instance;
use self::oracle::Oracle;
use self::plan::Plan;
use self::smooth_price::Smooth;
use self::steering::Steering;
pub use self::warm::resolve;
use crate::rebalance::bug::{Bug, seeded};
pub use crate::rebalance::world::Traffic;

/// How to solve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Threads to use, one or more. Does not change the result.
    pub threads: usize,
    /// Good enough: stop improving once the gap is not above this, millionths.
    pub gap_ppm: u64,
    /// Evaluations of the bound while prices are polished, at most; none: as fits the size.
    pub polish: Option<u32>,
    /// Tries of improving the plan, at most.
    pub tries: u32,
    /// Instances of at most so many stages are searched to the end, if that takes at most `branch_looks`.
    pub branch_stages: usize,
    /// Choices that this search looks at, at most, one that it looks at again counted again.
    pub branch_looks: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            threads: 1,
            gap_ppm: 100,
            polish: None,
            tries: 4_000,
            branch_stages: 30,
            branch_looks: 4_000_000,
        }
    }
}

impl Settings {
    /// As far as it goes: for those who have the time.
    pub fn thorough() -> Self {
        Self {
            gap_ppm: 0,
            polish: Some(100),
            tries: 1_000_000,
            branch_stages: 60,
            branch_looks: 4_000_000_000,
            ..Self::default()
        }
    }
}

/// Stages that are asked again one by one after the build, at most, by each of two rankings.
const ASKED_AGAIN: usize = 20_000;

/// Tries of improving a small plan before it is searched to the end.
const TRIES_BEFORE_BRANCH: u32 = 200;
/// Instances with more stages are looked at through a sample first, and may use more than one thread.
const MANY: usize = 20_000;
/// What finishing takes, by option, nanoseconds.
const FINISHING_NS: u64 = 60;
/// Stages of that sample.
const SAMPLE: usize = 2_048;
/// Where there are many stages, prices are polished on so many of them first, in so many passes.
const FRONT: (usize, u32) = (4_000, 14);
/// The same where there are very many: some stages are so large that a few thousand misjudge what all use of a pool by a
/// tenth, and each hundredth of that is room that stays empty or stages that must go elsewhere.
const FRONTS: [(usize, u32); 2] = [(4_000, 6), (10_000, 3)];

/// What is kept from one solve to the next: scratch space, prices, the plan.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    prices: Vec<u64>,
    answers: Evaluation,
    trial: Evaluation,
    /// What every stage would cost if it were alone.
    alone: Vec<i64>,
    plan: Plan,
    oracles: Vec<Oracle>,
    smooth: Smooth,
    improve: Improve,
    /// Constant part of every stage's cost, and their sum.
    constants: Vec<i128>,
    constant: i128,
    /// Gap of the last full solve, millionths.
    bound_gap: u64,
    steering: Steering,
    solution: Solution,
}

/// The part of a time slice in which to answer "go on?" with yes: the rest is for what follows a no, checking and publishing
/// the plan, which takes 40 to 60 ns an option where they are many.
pub fn searching(options: usize, slice: Duration) -> Duration {
    let finishing = Duration::from_nanos(FINISHING_NS.saturating_mul(options as u64));
    slice.saturating_sub(finishing.min(slice / 2))
}

/// Solves from nothing. `go_on` is asked at short intervals; once it says no, the best there is gets finished.
pub fn solve(
    instance: &Instance,
    memory: &mut Memory,
    settings: &Settings,
    go_on: &mut dyn FnMut() -> bool,
) -> Solution {
    find(instance, memory, settings, go_on);
    memory.solution.clone()
}

/// The same; the solution stays where [`resolve`] goes on from it.
fn find(instance: &Instance, memory: &mut Memory, settings: &Settings, go_on: &mut dyn FnMut() -> bool) {
    let mut effort = Effort::default();
    start_over(instance, memory, settings);
    find_prices(instance, memory, settings, &mut effort, go_on);
    let Memory {
        prices,
        answers,
        alone,
        plan,
        oracles,
        improve,
        constant,
        bound_gap,
        solution,
        ..
    } = memory;
    build(instance, prices, answers, oracles, plan);
    let mut bound = answers.bound;
    let mut dice = Dice::new(instance.stages() as u64);
    // Where a search to the end will do, many tries before it are a waste.
    let is_small = instance.stages() <= settings.branch_stages;
    let mut tries = if is_small {
        settings.tries.min(TRIES_BEFORE_BRANCH)
    } else {
        settings.tries
    };
    let mut rest = settings.tries - tries;
    loop {
        better(
            instance,
            settings,
            tries,
            &mut dice,
            prices,
            answers,
            alone,
            plan,
            oracles,
            improve,
            *constant,
            &mut effort,
            go_on,
        );
        if let Some(oracle) = oracles.first_mut().filter(|_| !seeded(Bug::BottleneckIgnored)) {
            bottleneck::cut(instance, prices, oracle, plan);
        }
        if !is_small {
            break;
        }
        let cost = certificate::cost(instance, plan, &bottleneck::unserved(instance, plan));
        match branch::finish(instance, prices, answers, plan, cost, settings.branch_looks, go_on) {
            branch::Outcome::Proven => {
                bound = i128::MAX;
                break;
            }
            branch::Outcome::Open(open) => bound = bound.max(open),
        }
        if rest == 0 || !go_on() {
            break;
        }
        (tries, rest) = (rest, 0);
    }
    effort.nodes = oracles.iter().map(|oracle| oracle.nodes).sum();
    certificate::publish(instance, prices, plan, bound, *constant, effort, solution);
    *bound_gap = solution.gap_ppm.unwrap_or(u64::MAX / 2);
}

/// The prices alone, of what is short: what more room in it would save, and the plan forgotten.
pub fn price_rooms(
    instance: &Instance,
    memory: &mut Memory,
    settings: &Settings,
    go_on: &mut dyn FnMut() -> bool,
) -> Vec<(Priced, u64)> {
    start_over(instance, memory, settings);
    memory.solution = Solution::default();
    find_prices(instance, memory, settings, &mut Effort::default(), go_on);
    certificate::priced(instance, &memory.prices)
}

fn start_over(instance: &Instance, memory: &mut Memory, settings: &Settings) {
    let threads = if instance.stages() <= MANY {
        1
    } else {
        settings.threads.clamp(1, 64)
    };
    memory.oracles.resize_with(threads, Oracle::default);
    for oracle in &mut memory.oracles {
        oracle.nodes = 0;
    }
    memory.prices.clear();
    memory.prices.resize(instance.room.len(), 0);
    memory.constants.clear();
    memory.constants.extend(instance.stages.iter().map(Instance::constant));
    memory.constant = memory.constants.iter().sum();
    memory.steering.ready = false;
}

/// Finds prices with a good bound; leaves them, what stages do at them, and what stages would do without any.
fn find_prices(
    instance: &Instance,
    memory: &mut Memory,
    settings: &Settings,
    effort: &mut Effort,
    go_on: &mut dyn FnMut() -> bool,
) {
    let Memory {
        prices,
        answers,
        trial,
        alone,
        oracles,
        smooth,
        ..
    } = memory;
    smooth.clear();
    alone.clear();
    // Where a sample shows that something is short, what all would do without prices is not worth a pass.
    let short = if instance.stages() > MANY {
        short_by_sample(instance, oracles)
    } else {
        None
    };
    if short.is_none() {
        evaluate(instance, prices, oracles, answers);
        effort.evaluations += 1;
        alone.clone_from(&answers.values);
    } else {
        answers.bound = i128::MIN;
    }
    if short.is_some() || !answers.fits(instance) {
        smooth.load(instance, short.as_ref().unwrap_or(&answers.usage));
        let mut point = vec![0.0; smooth.len()];
        smooth.descend(&mut point, 1.0, 0.01);
        let fronts: &[(usize, u32)] = match instance.stages() {
            stages if stages > MANY => &FRONTS,
            stages if stages > 2 * FRONT.0 => &[FRONT],
            _ => &[],
        };
        if !fronts.is_empty() {
            smooth.publish(instance, &point, prices);
            for &(stages, passes) in fronts {
                evaluate_front(instance, prices, stages, oracles, answers);
                // What is nearly full takes part before it is full.
                smooth.load(instance, &answers.usage);
                polish(
                    instance, passes, stages, smooth, prices, answers, trial, oracles, effort, go_on,
                );
            }
            point = smooth.read(instance, prices);
            answers.bound = i128::MIN;
        }
        for _ in 0..2 {
            smooth.publish(instance, &point, prices);
            evaluate(instance, prices, oracles, trial);
            effort.evaluations += 1;
            // What was displaced may crowd pools that had room before.
            if !smooth.lacks(instance, &trial.usage) || !smooth.load(instance, &trial.usage) {
                break;
            }
            point = smooth.read(instance, prices);
            smooth.descend(&mut point, 0.1, 0.01);
        }
        if trial.bound > answers.bound {
            std::mem::swap(trial, answers);
        } else {
            prices.fill(0);
        }
    }
    polish(
        instance,
        settings.polish.unwrap_or_else(|| passes(instance.stages())),
        instance.stages(),
        smooth,
        prices,
        answers,
        trial,
        oracles,
        effort,
        go_on,
    );
}

/// Use of all stages without prices, estimated, if it is well beyond some room.
fn short_by_sample(instance: &Instance, oracles: &mut [Oracle]) -> Option<Vec<i128>> {
    let mut front = Evaluation::default();
    evaluate_front(
        instance,
        &vec![0; instance.room.len()],
        SAMPLE,
        oracles.get_mut(..1)?,
        &mut front,
    );
    let usage = front.usage;
    let short = usage
        .iter()
        .zip(&instance.room)
        .any(|(&used, &room)| used / 11 * 10 > i128::from(room));
    short.then_some(usage)
}

/// Evaluations that the polish may take if nobody says how many: about a third of the time of a solve.
fn passes(stages: usize) -> u32 {
    match stages {
        0..=300 => 20,
        301..=3_000 => 7,
        3_001..=6_000 => 4,
        6_001..=30_000 => 2,
        _ => 0,
    }
}

/// Steps on the bound of the first `stages` stages; the best bound and its prices stay.
#[expect(clippy::too_many_arguments, reason = "parts of one memory, borrowed apart")]
fn polish(
    instance: &Instance,
    passes: u32,
    stages: usize,
    smooth: &mut Smooth,
    prices: &mut Vec<u64>,
    answers: &mut Evaluation,
    trial: &mut Evaluation,
    oracles: &mut [Oracle],
    effort: &mut Effort,
    go_on: &mut dyn FnMut() -> bool,
) {
    if smooth.len() == 0 {
        return;
    }
    let mut bundle = Bundle::default();
    bundle.start(
        &smooth.read(instance, prices),
        smooth.excess(instance, &answers.usage),
        smooth.units(),
    );
    let mut tried = prices.clone();
    // The centre is the best point but for the part of a promise that a serious step must keep.
    let mut centre = answers.bound;
    for _ in 0..passes {
        if !go_on() {
            return;
        }
        let Some(next) = bundle.propose() else { return };
        smooth.publish(instance, &next, &mut tried);
        evaluate_front(instance, &tried, stages, oracles, trial);
        effort.evaluations += u32::from(stages == instance.stages());
        let slope = smooth.excess(instance, &trial.usage);
        if bundle.learn(next, smooth_price::gain(trial.bound, centre), slope) == Step::Serious {
            centre = trial.bound;
        }
        let lacks = smooth.lacks(instance, &trial.usage);
        if lacks {
            smooth.load(instance, &trial.usage);
        }
        if trial.bound > answers.bound {
            std::mem::swap(trial, answers);
            prices.clone_from(&tried);
        }
        if lacks {
            // A new dimension: the planes know nothing of it.
            let slope = smooth.excess(instance, &answers.usage);
            bundle.start(&smooth.read(instance, prices), slope, smooth.units());
            centre = answers.bound;
        }
    }
}

/// Improves the plan until it is good enough, nothing helps, or nobody waits.
#[expect(clippy::too_many_arguments, reason = "parts of one memory, borrowed apart")]
fn better(
    instance: &Instance,
    settings: &Settings,
    tries: u32,
    dice: &mut Dice,
    prices: &[u64],
    answers: &Evaluation,
    alone: &[i64],
    plan: &mut Plan,
    oracles: &mut [Oracle],
    improve: &mut Improve,
    constant: i128,
    effort: &mut Effort,
    go_on: &mut dyn FnMut() -> bool,
) {
    let Some(oracle) = oracles.first_mut() else { return };
    let mut total = plan.total() + constant;
    let good = |total: i128| certificate::gap_ppm(total, answers.bound).is_some_and(|gap| gap <= settings.gap_ppm);
    if good(total) || !go_on() {
        return;
    }
    improve.rank(instance, prices, answers, plan);
    improve.one_by_one(instance, ASKED_AGAIN, oracle, plan, go_on);
    if alone.len() == instance.stages() && go_on() {
        improve.rank_by_loss(instance, alone, plan, ASKED_AGAIN);
        improve.one_by_one(instance, ASKED_AGAIN, oracle, plan, go_on);
    }
    total = plan.total() + constant;
    for attempt in 0..tries {
        if attempt % 16 == 0 {
            if good(total) || !go_on() {
                return;
            }
            if attempt % 128 == 0 {
                improve.rank(instance, prices, answers, plan);
            }
        }
        let gain = improve.ruin(instance, prices, dice, oracle, plan);
        effort.tries += 1;
        if gain > 0 {
            effort.successes += 1;
            total -= gain;
        }
    }
}
