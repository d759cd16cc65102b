use proptest::prelude::*;

use super::super::dual::evaluate;
use super::super::generate::{Dice, Fleet, fleet};
use super::super::properties::small;
use super::*;
use crate::rebalance::fixture::cases;

/// Prices that make some of what is short worth something, by dice.
fn priced(instance: &Instance, usage: &[i128], dice: &mut Dice) -> Vec<u64> {
    let short = usage
        .iter()
        .zip(&instance.room)
        .map(|(&used, &room)| used > i128::from(room));
    short
        .map(|short| {
            if short && dice.chance(70) {
                dice.between(1, 1 << 34)
            } else {
                0
            }
        })
        .collect()
}

/// The plan where the crowd is walked in its order to the end.
fn in_order(instance: &Instance, prices: &[u64], answers: &Evaluation, oracle: &mut Oracle) -> (Plan, Vec<u32>) {
    let mut plan = Plan::default();
    plan.reset(instance);
    let crowd = crowd(instance, answers);
    let order = order(instance, prices, answers, &crowd, std::slice::from_mut(oracle));
    let others = (0..instance.stages.len()).filter(|&at| !crowd[at]);
    for at in others.chain(order.iter().map(|&at| at as usize)) {
        give(instance, at, prices, answers, oracle, &mut plan);
    }
    (plan, order)
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn whom_the_others_leave_room_for_may_be_placed_in_any_order(seed in any::<u64>(), large in any::<bool>()) {
        let mut dice = Dice::new(seed);
        let rows = if large {
            fleet(&Fleet { stages: 60, pools: 5, scarce: true, running: dice.chance(50), seed })
        } else {
            small(&mut dice, 12, 4, 4)
        };
        let instance = Instance::new(&rows);
        let mut oracles = [Oracle::default()];
        let (mut free, mut answers, mut plan) = (Evaluation::default(), Evaluation::default(), Plan::default());
        evaluate(&instance, &vec![0; instance.room.len()], &mut oracles, &mut free);
        let prices = priced(&instance, &free.usage, &mut dice);
        evaluate(&instance, &prices, &mut oracles, &mut answers);
        let (expected, order) = in_order(&instance, &prices, &answers, &mut oracles[0]);
        let missed = (0..instance.stages.len()).any(|at| expected.values[at] >= SHORT && answers.values[at] < SHORT);
        let last = last(&instance, &answers, &order);
        prop_assert!(order.ends_with(last));
        build(&instance, &prices, &answers, &mut oracles, &mut plan);
        prop_assert!(missed || plan.counts == expected.counts);
    }

    #[test]
    fn what_a_stage_costs_aside_is_no_less_than_the_best_without_what_has_a_price(seed in any::<u64>()) {
        let mut dice = Dice::new(seed);
        let instance = Instance::new(&small(&mut dice, 6, 4, 4));
        let mut oracle = Oracle::default();
        let prices: Vec<u64> = instance.room.iter().map(|_| if dice.chance(40) { dice.between(1, 1 << 30) } else { 0 }).collect();
        let closed: Vec<i64> = instance.room.iter().zip(&prices).map(|(&room, &price)| if price > 0 { 0 } else { room }).collect();
        for at in 0..instance.stages.len() {
            let answer = oracle.solve(&instance, at, &Ask { prices: &prices, ..Ask::default() });
            let aside = oracle.aside;
            if aside == UNKNOWN {
                continue;
            }
            prop_assert!(aside >= answer.value);
            // Prices are rounded down, so what has one may cost nothing more.
            let options = instance.stages[at].options.start as usize..instance.stages[at].options.end as usize;
            let told = options.clone().all(|option| {
                let first = instance.pool[option] as usize * RESOURCES;
                let uses = (0..RESOURCES).any(|at| prices[first + at] > 0 && instance.request[option][at] > 0);
                let groups = instance.groups(&instance.stages[at]).iter();
                let pays = groups.map(|&group| instance.group_dim(group)).any(|dim| {
                    prices[dim] > 0 && instance.cost[option] > 0 || prices[dim + 1] > 0 && instance.power[option] > 0
                });
                (extra(&instance, &instance.stages[at], option, &prices) > 0) == (uses || pays)
            });
            if told && instance.groups(&instance.stages[at]).is_empty() {
                let without = oracle.solve(&instance, at, &Ask { prices: &prices, room: &closed, ..Ask::default() });
                prop_assert!(aside >= without.value, "aside {} without {}", aside, without.value);
            }
        }
    }
}
