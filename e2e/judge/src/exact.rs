//! What a plan is worth, in integers, from the caller's rows alone. Shares no code with the solver.

use planner::rebalance::solve::Traffic;
use planner::rebalance::solve::rows::{OptionRow, Rows, StageRow};

/// What the solver documents as the limits of its numbers (`solve/instance.rs`): the price of a replica that is missing
/// from a floor, and what prices are scaled up to, both as powers of two.
const SHORT_BITS: u32 = 44;
const SCALED_BITS: u32 = 34;

/// Price of a replica that is missing from a floor, in the unit of the rows' prices.
pub(crate) fn short_price(rows: &Rows) -> i128 {
    (1_i128 << SHORT_BITS) >> scale(rows)
}

fn scale(rows: &Rows) -> u32 {
    let options = rows.stages.iter().flat_map(|stage| &stage.options);
    let highest = options.map(|option| option.price.max(option.move_up)).max();
    ((1_u64 << SCALED_BITS) / highest.unwrap_or(1).max(1))
        .checked_ilog2()
        .unwrap_or(0)
}

/// Lowers penalties to what the solver's arithmetic takes, so that both sides solve the same problem. Says how many.
pub(crate) fn cut_penalties(rows: &mut Rows) -> usize {
    let scale = scale(rows);
    let mut cut = 0;
    for stage in &mut rows.stages {
        let fastest = stage.options.iter().map(|option| option.capacity_millis).max();
        let by_demand = (1_u64 << 61) / stage.demand_millis.max(1);
        let by_pace = (1_u64 << 43) / fastest.unwrap_or(1).max(1);
        // Half of it, so that demands may change a little without another cut.
        let most = (by_demand.min(by_pace) >> scale) / 2;
        if stage.penalty > most {
            stage.penalty = most;
            cut += 1;
        }
    }
    cut
}

/// Thousandths that `counts` of a stage serve.
pub(crate) fn serves(stage: &StageRow, counts: &[u32]) -> u64 {
    let used = || stage.options.iter().zip(counts).filter(|&(_, &count)| count > 0);
    if stage.traffic == Traffic::Uniform {
        let slowest = used().map(|(option, _)| option.capacity_millis).min();
        slowest.unwrap_or(0) * used().map(|(_, &count)| u64::from(count)).sum::<u64>()
    } else {
        used()
            .map(|(option, &count)| option.capacity_millis * u64::from(count))
            .sum()
    }
}

/// Price of `count` replicas of an option and of the moves that lead there.
fn price(option: &OptionRow, count: u32) -> i128 {
    i128::from(count) * i128::from(option.price)
        + i128::from(option.move_up) * i128::from(count.saturating_sub(option.current))
        + i128::from(option.move_down.min(option.price)) * i128::from(option.current.saturating_sub(count))
}

/// What `counts` of one stage cost: replicas, moves, unserved demand, missing floors.
pub(crate) fn stage_cost(rows: &Rows, stage: &StageRow, short_price: i128, counts: &[u32]) -> i128 {
    let pairs = || stage.options.iter().zip(counts);
    let total: u32 = counts.iter().sum();
    let reliable: u32 = pairs()
        .filter(|(option, _)| rows.pools[option.pool as usize].reliable)
        .map(|(_, &count)| count)
        .sum();
    let floor = stage.min.min(stage.max).saturating_sub(total);
    let short = floor.max(stage.reliable_min.min(stage.max).saturating_sub(reliable));
    let open = stage.demand_millis.saturating_sub(serves(stage, counts));
    pairs().map(|(option, &count)| price(option, count)).sum::<i128>()
        + i128::from(stage.penalty) * i128::from(open)
        + short_price * i128::from(short)
}

/// What a plan costs, by the flat counts of all options, or what it breaks.
pub(crate) fn cost(rows: &Rows, counts: &[u32]) -> Result<i128, String> {
    let short_price = short_price(rows);
    let mut used = vec![[0_i128; 3]; rows.pools.len()];
    let mut held = vec![[0_i128; 2]; rows.groups.len()];
    let mut rest = counts;
    let mut sum = 0;
    for (number, stage) in rows.stages.iter().enumerate() {
        let Some((here, after)) = rest.split_at_checked(stage.options.len()) else {
            return Err("the plan has too few counts".to_owned());
        };
        rest = after;
        sum += stage_cost(rows, stage, short_price, here);
        if here.iter().sum::<u32>() > stage.max {
            return Err(format!("stage {number} has more replicas than {}", stage.max));
        }
        for (option, &count) in stage.options.iter().zip(here) {
            if count > option.upper {
                return Err(format!("stage {number} on pool {}: {count} replicas", option.pool));
            }
            let count = i128::from(count);
            let request = option.request;
            let each = [request.cpu_millis, request.memory_kib, request.device_millis];
            for (used, each) in used[option.pool as usize].iter_mut().zip(each) {
                *used += count * i128::from(each);
            }
            for &group in &stage.groups {
                held[group as usize][0] += count * i128::from(option.cost_micros);
                held[group as usize][1] += count * i128::from(option.power_milliwatts);
            }
        }
    }
    for (number, (pool, used)) in rows.pools.iter().zip(&used).enumerate() {
        let room = [pool.cpu_millis, pool.memory_kib, pool.device_millis];
        if let Some(at) = (0..3).find(|&at| used[at] > i128::from(room[at].max(0))) {
            return Err(format!("pool {number}, resource {at}: {} of {}", used[at], room[at]));
        }
    }
    for (number, (group, held)) in rows.groups.iter().zip(&held).enumerate() {
        let most = [group.money_max_micros, group.power_max_milliwatts];
        if (0..2).any(|at| most[at].is_some_and(|most| held[at] > i128::from(most))) {
            return Err(format!("group {number} is above its ceiling: {held:?}"));
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use planner::rebalance::solve::rows::PoolRow;

    fn two_pools(traffic: Traffic) -> Rows {
        let pool = PoolRow {
            reliable: true,
            cpu_millis: 10,
            memory_kib: 0,
            device_millis: 0,
        };
        let option = |pool: u32, capacity_millis: u64, price: u64| {
            let mut option = OptionRow {
                pool,
                price,
                capacity_millis,
                ..OptionRow::default()
            };
            option.request.cpu_millis = 4;
            option
        };
        Rows {
            pools: vec![pool.clone(), pool],
            groups: Vec::new(),
            stages: vec![StageRow {
                demand_millis: 20,
                penalty: 100,
                traffic,
                options: vec![option(0, 10, 7), option(1, 2, 1)],
                ..StageRow::default()
            }],
        }
    }

    #[test]
    fn uniform_traffic_runs_at_the_slowest_pace_and_room_is_held() {
        assert_eq!(cost(&two_pools(Traffic::Pull), &[1, 2]), Ok(7 + 2 + 6 * 100));
        assert_eq!(cost(&two_pools(Traffic::Uniform), &[1, 2]), Ok(7 + 2 + 14 * 100));
        assert!(cost(&two_pools(Traffic::Pull), &[3, 0]).is_err());
    }
}
