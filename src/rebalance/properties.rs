//! What holds for all inputs, tried on random ones; the case and its seed are in the failure message. `PROPTEST_CASES`
//! sets how many.

use proptest::prelude::*;

use super::judge;
use super::oracle::{Item, Need, Oracle};

fn item() -> impl Strategy<Value = Item> {
    let numbers = (0..30_u128, 1..12_u64, 0..8_u64, any::<bool>());
    (numbers, 0..5_u32, 0..3_u32, 0..5_u32).prop_map(|((price, capacity, cost, reliable), current, lower, upper)| {
        Item {
            price: price * 20,
            capacity,
            cost,
            reliable,
            current,
            lower: if upper % 2 == 0 { 0 } else { lower },
            upper,
        }
    })
}

fn need() -> impl Strategy<Value = Need> {
    (0..60_u64, 0..6_u32, 0..4_u32, 0..14_u32, any::<bool>()).prop_map(
        |(demand, floor, reliable_floor, ceiling, uniform)| Need {
            demand,
            floor: floor.min(ceiling),
            reliable_floor: reliable_floor.min(ceiling),
            ceiling,
            uniform,
        },
    )
}

proptest! {
    #[test]
    fn q2_the_oracle_answers_like_the_exhaustive_judge(
        items in prop::collection::vec(item(), 1..5),
        need in need(),
        budget in prop_oneof![Just(u64::MAX), 0..60_u64],
    ) {
        let mut oracle = Oracle::default();
        let answer = oracle.solve(&items, &need, budget);
        let mut items = items;
        let best = judge::best(&items, &need, budget).or_else(|| {
            // What is kept does not fit: nothing is kept.
            for item in &mut items {
                item.lower = 0;
            }
            judge::best(&items, &need, budget)
        });
        prop_assert_eq!(Some(answer.value), best);
        prop_assert_eq!(answer.bound, answer.value, "small searches are never cut off");
        prop_assert_eq!(judge::value_of(&items, &need, &oracle.counts), answer.value);
        prop_assert!(judge::assignments(&items, &need, budget).contains(&oracle.counts));
    }
}
