//! What a load asks of every stage, known in advance: for the start of a run, for the clairvoyant and for the bound.

use super::cover::{Item, cheapest, cheapest_uniform};
use super::load::Load;
use super::scenario::{Scenario, take};
use crate::rebalance::world::{Resources, Traffic};

/// Share of full throughput that the replicas of the start are planned for.
const START_TARGET: f64 = 0.7;
/// The start is planned for the mean of so long.
const START_S: usize = 300;

/// Units of work by stage and second of the load: arrivals times mean calls, by size where the stage goes by size.
pub fn work(scenario: &Scenario, load: &Load) -> Vec<Vec<f64>> {
    let seconds = (load.span_ms() / 1_000 + 1) as usize;
    let visits = scenario.visits();
    let (mut plain, mut sized) = (vec![0.0; seconds], vec![0.0; seconds]);
    for arrival in &load.arrivals {
        let second = (arrival.at_ms / 1_000) as usize;
        plain[second] += 1.0;
        sized[second] += arrival.work;
    }
    let scaled = |(stage, visits): (usize, &f64)| {
        let of = if scenario.stages[stage].sized { &sized } else { &plain };
        of.iter().map(|work| work * visits).collect()
    };
    visits.iter().enumerate().map(scaled).collect()
}

/// Mean over the last `window` values, each place by itself: what has to be served if nothing may wait longer.
pub fn smoothed(values: &[f64], window: usize) -> Vec<f64> {
    let window = window.max(1);
    let mut sum = 0.0;
    let mut smooth = Vec::with_capacity(values.len());
    for (at, value) in values.iter().enumerate() {
        sum += value;
        if at >= window {
            sum -= values[at - window];
        }
        smooth.push((sum / window as f64).max(0.0));
    }
    smooth
}

/// Seconds that a request of mean size may wait in all.
pub fn slack_s(scenario: &Scenario, pipeline: usize) -> f64 {
    (scenario.objective_ms(pipeline) - scenario.full_latency_ms(pipeline)).max(1_000.0) / 1e3
}

/// The cheapest replicas by variant that serve `rates` (units per second and stage) in the room there is, tier hints priced
/// as in the core. Stages with the least choice choose first; each for itself exactly. What does not fit is left out.
pub fn cover(scenario: &Scenario, rates: &[f64]) -> Vec<u32> {
    let capacity: Vec<Resources> = scenario.world.pools.iter().map(|pool| pool.capacity).collect();
    cover_on(scenario, rates, &capacity)
}

/// The same in the room that the pools have now.
pub fn cover_on(scenario: &Scenario, rates: &[f64], capacity: &[Resources]) -> Vec<u32> {
    let mut counts = vec![0; scenario.world.variants.len()];
    let mut room = capacity.to_vec();
    let mut stages: Vec<(usize, Vec<usize>)> = (0..rates.len()).map(|stage| (stage, scenario.ladder(stage))).collect();
    stages.sort_by_key(|(_, ladder)| ladder.len());
    for (stage, ladder) in stages {
        for (&at, count) in ladder
            .iter()
            .zip(cover_stage(scenario, stage, &ladder, rates[stage], &room))
        {
            let variant = &scenario.world.variants[at];
            take(&mut room[variant.pool.0 as usize], variant, count);
            counts[at] = count;
        }
    }
    counts
}

/// The same for one stage: counts along its ladder.
pub fn cover_stage(scenario: &Scenario, stage: usize, ladder: &[usize], rate: f64, room: &[Resources]) -> Vec<u32> {
    let declared = &scenario.world.stages[stage];
    let item = |&at: &usize| {
        let variant = &scenario.world.variants[at];
        let (has, needs) = (room[variant.pool.0 as usize], variant.request);
        let fits = |has: u64, needs: u64| has.checked_div(needs).unwrap_or(u64::MAX);
        let fits = fits(has.cpu_millis, needs.cpu_millis)
            .min(fits(has.memory_kib, needs.memory_kib))
            .min(fits(has.device_millis, needs.device_millis));
        Item {
            price: f64::from(variant.hint_permille) * variant.marginal_micros as f64,
            capacity: scenario.per_second(at),
            max: variant.max.min(u32::try_from(fits).unwrap_or(u32::MAX)),
        }
    };
    let mut items: Vec<Item> = ladder.iter().map(item).collect();
    let solve = if declared.traffic == Traffic::Pull {
        cheapest
    } else {
        cheapest_uniform
    };
    let floors: Vec<u32> = ladder
        .iter()
        .zip(&items)
        .map(|(&at, item)| scenario.floor(at).min(item.max))
        .collect();
    let floor: u32 = floors.iter().sum();
    if floor == 0 {
        return solve(&items, rate, declared.min, declared.max);
    }
    // What must be there anyway serves its part.
    let mut left = rate;
    for (item, floor) in items.iter_mut().zip(&floors) {
        item.max -= floor;
        left -= item.capacity * f64::from(*floor);
    }
    let (least, most) = (declared.min.saturating_sub(floor), declared.max.saturating_sub(floor));
    let rest = solve(&items, left.max(0.0), least, most);
    rest.iter().zip(&floors).map(|(count, floor)| count + floor).collect()
}

/// Replicas that run when a simulation begins: enough for the first minutes, so that no policy pays for a cold start that
/// none of them decided.
pub fn initial(scenario: &Scenario, load: &Load) -> Vec<u32> {
    let mean = |work: &Vec<f64>| {
        let first = &work[..work.len().min(START_S)];
        first.iter().sum::<f64>() / first.len() as f64 / START_TARGET
    };
    let rates: Vec<f64> = work(scenario, load).iter().map(mean).collect();
    cover(scenario, &rates)
}

/// Least dollars for a load: the work of every stage at full throughput, averaged over what a request may wait, on the
/// cheapest pools as if each stage had them alone, in fractions of replicas, the least replicas included. No start-up, no
/// headroom: nobody can be this cheap, and how far somebody is from it can be compared.
pub fn bound(scenario: &Scenario, load: &Load) -> f64 {
    let mut micro_seconds = 0.0;
    for (stage, work) in work(scenario, load).iter().enumerate() {
        let declared = &scenario.world.stages[stage];
        let mut order: Vec<usize> = scenario.ladder(stage);
        let price = |at: usize| scenario.world.variants[at].cost_micros as f64 / scenario.per_second(at);
        order.sort_by(|&a, &b| price(a).total_cmp(&price(b)));
        let least = order
            .iter()
            .map(|&at| scenario.world.variants[at].cost_micros)
            .min()
            .unwrap_or(0);
        let floor = f64::from(declared.min) * least as f64;
        for rate in smoothed(work, slack_s(scenario, declared.pipeline.0 as usize) as usize) {
            let (mut left, mut cost) = (rate, 0.0);
            for &at in &order {
                let variant = &scenario.world.variants[at];
                let takes = left.min(f64::from(variant.max) * scenario.per_second(at));
                cost += takes * price(at);
                left -= takes;
            }
            micro_seconds += f64::max(cost, floor);
        }
    }
    micro_seconds / 3_600.0 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::fixture::{chain, one_stage, two_pools};
    use crate::simulate::load::Arrival;

    fn load(per_second: u64, seconds: u64) -> Load {
        let arrivals = (0..per_second * seconds).map(|at| Arrival {
            at_ms: at * 1_000 / per_second,
            work: 1.0,
        });
        Load {
            name: "even".to_owned(),
            arrivals: arrivals.collect(),
        }
    }

    #[test]
    fn work_follows_the_edges() {
        let work = work(&chain(), &load(10, 60));
        let total = |stage: usize| work[stage].iter().sum::<f64>();
        assert_eq!((total(0), total(1)), (600.0, 1_200.0));
        assert!((total(2) - 480.0).abs() < 1e-6);
    }

    #[test]
    fn a_smoothed_curve_holds_the_same_work_and_no_more_than_a_window_later() {
        let smooth = smoothed(&[8.0, 0.0, 0.0, 0.0, 0.0], 4);
        assert_eq!(smooth, [2.0, 2.0, 2.0, 2.0, 0.0]);
    }

    #[test]
    fn a_cover_keeps_the_reliable_floor_and_counts_what_it_serves() {
        let mut scenario = two_pools(9, 9);
        scenario.world.pools[0].reliable = false;
        scenario.world.stages[0].reliable_min = 1;
        assert_eq!((scenario.floor(0), scenario.floor(1)), (0, 1));
        assert_eq!(cover(&scenario, &[7.0]), [3, 1]);
        assert_eq!(cover(&scenario, &[1.0]), [0, 1]);
    }

    #[test]
    fn a_cover_takes_the_cheap_pool_first_and_the_bound_is_its_work_at_full_throughput() {
        assert_eq!(cover(&two_pools(2, 9), &[7.0]), [2, 2]);
        assert_eq!(initial(&two_pools(9, 9), &load(7, 60)), [5, 0]);
        // 4 per second are two replicas for ten cents an hour each.
        let hour = bound(&one_stage(100), &load(4, 3_600));
        assert!((hour - 0.2).abs() < 0.001, "{hour}");
    }
}
