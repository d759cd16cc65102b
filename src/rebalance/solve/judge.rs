//! An obviously correct second opinion: what a plan is worth, from the caller's rows alone, and the best of all plans by
//! trying each.

use super::instance::{Instance, SHORT};
use super::rows::{OptionRow, Rows, StageRow};
use super::{Solution, Traffic};

/// What the judge found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Objective, scaled like the instance.
    pub(super) cost: i128,
    pub(super) unserved: Vec<u64>,
    pub(super) broken: Vec<String>,
}

fn capacities(option: &OptionRow, count: u32) -> Vec<u64> {
    let mut capacity = option.capacity_millis;
    let mut all = Vec::new();
    for number in 0..count {
        for &(from, further) in &option.further {
            if from == number {
                capacity = capacity.min(further);
            }
        }
        all.push(capacity);
    }
    all
}

/// What a stage's replicas serve.
fn serves(stage: &StageRow, counts: &[u32]) -> u64 {
    let all: Vec<u64> = stage
        .options
        .iter()
        .zip(counts)
        .flat_map(|(option, &count)| capacities(option, count))
        .collect();
    match stage.traffic {
        Traffic::Uniform => all.iter().min().map_or(0, |slowest| slowest * all.len() as u64),
        Traffic::Weighted | Traffic::Pull => all.iter().sum(),
    }
}

/// Judges `counts` (flat, by the caller's options). Only for rows without absurd numbers and without `lower`.
pub(super) fn judge(rows: &Rows, instance: &Instance, counts: &[u32]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut used = vec![[0_i128; 3]; rows.pools.len()];
    let mut held = vec![[0_i128; 2]; rows.groups.len()];
    let mut at = 0;
    let (mut served, mut price) = (Vec::new(), 0_i128);
    for (number, stage) in rows.stages.iter().enumerate() {
        let counts = &counts[at..at + stage.options.len()];
        at += stage.options.len();
        let total: u32 = counts.iter().sum();
        if total > stage.max {
            verdict
                .broken
                .push(format!("stage {number} has {total} replicas, more than {}", stage.max));
        }
        let mut reliable = 0;
        for (option, &count) in stage.options.iter().zip(counts) {
            let (wide, pool) = (i128::from(count), option.pool as usize);
            if count > option.upper {
                verdict
                    .broken
                    .push(format!("stage {number} on pool {pool}: {count} above {}", option.upper));
            }
            let down = option.move_down.min(option.price);
            price += wide * i128::from(option.price)
                + i128::from(option.move_up) * i128::from(count.saturating_sub(option.current))
                + i128::from(down) * i128::from(option.current.saturating_sub(count));
            let request = [
                option.request.cpu_millis,
                option.request.memory_kib,
                option.request.device_millis,
            ];
            for (used, each) in used[pool].iter_mut().zip(request) {
                *used += wide * i128::from(each);
            }
            for &group in &stage.groups {
                held[group as usize][0] += wide * i128::from(option.cost_micros);
                held[group as usize][1] += wide * i128::from(option.power_milliwatts);
            }
            reliable += if rows.pools[pool].reliable { count } else { 0 };
        }
        let floor = stage.min.min(stage.max).saturating_sub(total);
        let short = floor.max(stage.reliable_min.min(stage.max).saturating_sub(reliable));
        verdict.cost += i128::from(SHORT) * i128::from(short);
        served.push(serves(stage, counts).min(stage.demand_millis));
    }
    verdict.cost += price << instance.scale;
    for (number, stage) in rows.stages.iter().enumerate() {
        let mut through = served[number];
        for (other, neighbour) in rows.stages.iter().enumerate() {
            if stage.pipeline.is_some() && neighbour.pipeline == stage.pipeline && neighbour.demand_millis > 0 {
                let part =
                    u128::from(stage.demand_millis) * u128::from(served[other]) / u128::from(neighbour.demand_millis);
                through = through.min(part as u64);
            }
        }
        let unserved = stage.demand_millis - through;
        let penalty = instance.stages[instance.place[number] as usize].penalty;
        verdict.cost += i128::from(penalty) * i128::from(unserved);
        verdict.unserved.push(unserved);
    }
    for (number, (pool, used)) in rows.pools.iter().zip(&used).enumerate() {
        let rooms = [pool.cpu_millis, pool.memory_kib, pool.device_millis];
        for (resource, (&used, room)) in used.iter().zip(rooms).enumerate() {
            if used > i128::from(room.max(0)) {
                verdict
                    .broken
                    .push(format!("pool {number} resource {resource}: {used} of {room}"));
            }
        }
    }
    for (number, (group, held)) in rows.groups.iter().zip(&held).enumerate() {
        for (&held, most) in held.iter().zip([group.money_max_micros, group.power_max_milliwatts]) {
            if most.is_some_and(|most| held > i128::from(most)) {
                verdict.broken.push(format!("group {number}: {held} of {most:?}"));
            }
        }
    }
    verdict
}

/// Least cost over all plans that break nothing, scaled: every count from 0 to what its option allows.
pub(super) fn optimum(rows: &Rows, instance: &Instance) -> i128 {
    let uppers: Vec<u32> = rows
        .stages
        .iter()
        .flat_map(|stage| &stage.options)
        .map(|option| option.upper)
        .collect();
    let mut counts = vec![0; uppers.len()];
    let mut best = i128::MAX;
    loop {
        let verdict = judge(rows, instance, &counts);
        if verdict.broken.is_empty() {
            best = best.min(verdict.cost);
        }
        let Some(at) = (0..counts.len()).find(|&at| counts[at] < uppers[at]) else {
            return best;
        };
        counts[at] += 1;
        counts[..at].fill(0);
    }
}

/// Asserts all that must hold of any solution.
pub(super) fn check(rows: &Rows, instance: &Instance, solution: &Solution) {
    let verdict = judge(rows, instance, &solution.counts);
    assert!(verdict.broken.is_empty(), "{:?}\n{rows:?}", verdict.broken);
    assert_eq!(
        verdict.unserved, solution.unserved,
        "unserved is what the rows say\n{rows:?}"
    );
    assert_eq!(
        verdict.cost,
        solution.cost << instance.scale,
        "the cost is what the rows say\n{rows:?}"
    );
    assert!(solution.bound <= solution.cost, "the bound is one\n{rows:?}");
    for (stage, &open) in solution.unserved.iter().enumerate() {
        let explained = solution
            .reasons
            .iter()
            .any(|(at, reasons)| *at as usize == stage && !reasons.is_empty());
        assert!(
            open == 0 || explained,
            "stage {stage} leaves {open} without a reason\n{rows:?}"
        );
    }
}
