use proptest::prelude::*;
use serde_json::json;

use super::fixtures::World;
use super::*;

fn bundle() -> impl Strategy<Value = Resources> {
    let amount = || prop_oneof![Just(0), Just(u64::MAX), 0..100_000_u64, any::<u64>()];
    (amount(), amount(), amount()).prop_map(|(cpu_millis, memory_kib, device_millis)| Resources {
        cpu_millis,
        memory_kib,
        device_millis,
    })
}

fn within(small: Resources, large: Resources) -> bool {
    minus(small, large) == Resources::default()
}

/// A pool with nodes of these rooms; the rest as in an empty pool.
fn rooms(rooms: &[Resources], elastic: (u32, Resources)) -> PoolObservation {
    let mut observed = World::default().pool("a", json!({})).only();
    observed.usable = rooms
        .iter()
        .map(|room| NodeRoom {
            name: String::new(),
            allocatable: *room,
            foreign: Resources::default(),
            room: *room,
            pods: u32::MAX,
            used_by_tiercel: Resources::default(),
        })
        .collect();
    (observed.elastic_nodes, observed.elastic_room) = elastic;
    observed
}

proptest! {
    #[test]
    fn what_fits_stays_within_the_room_and_one_more_would_not(room in bundle(), request in bundle()) {
        let count = u128::from(arithmetic::fits(room, request));
        let fit = |count: u128| {
            [(room.cpu_millis, request.cpu_millis), (room.memory_kib, request.memory_kib), (room.device_millis, request.device_millis)]
                .into_iter()
                .all(|(room, request)| count * u128::from(request) <= u128::from(room))
        };
        prop_assert!(fit(count));
        prop_assert!(count == u128::from(u32::MAX) || !fit(count + 1));
    }

    #[test]
    fn more_room_or_a_smaller_request_never_fits_fewer(room in bundle(), more in bundle(), request in bundle(), less in bundle()) {
        prop_assert!(arithmetic::fits(plus(room, more), request) >= arithmetic::fits(room, request));
        prop_assert!(arithmetic::fits(room, minus(request, less)) >= arithmetic::fits(room, request));
    }

    #[test]
    fn the_reserve_is_part_of_the_offer_and_grows_with_its_share(offer in bundle(), percent in 0_u32..=100, further in 0_u32..=100) {
        prop_assert!(within(reserve(offer, percent), offer));
        prop_assert!(within(reserve(offer, percent), reserve(offer, (percent + further).min(100))));
    }

    #[test]
    fn a_further_node_never_lowers_capacity_or_fit(
        nodes in prop::collection::vec(bundle(), 0..6), further in bundle(), elastic in (0_u32..5_000, bundle()), request in bundle(),
    ) {
        let before = rooms(&nodes, elastic);
        let after = rooms(&[nodes, vec![further]].concat(), elastic);
        prop_assert!(within(before.capacity(), after.capacity()));
        prop_assert!(before.replicas_that_fit(request) <= after.replicas_that_fit(request));
    }

    #[test]
    fn a_larger_request_never_costs_less_and_a_whole_node_costs_its_price(
        price in 0_u64..1_000_000_000_000_000, shape in bundle(), request in bundle(), more in bundle(),
    ) {
        if let (Some(cost), Some(larger)) =
            (largest(price, request, shape), largest(price, plus(request, more), shape)) {
            prop_assert!(cost <= larger);
        }
        if shape != Resources::default() {
            prop_assert_eq!(largest(price, shape, shape), Some(price));
        }
    }

    #[test]
    fn room_on_a_node_is_never_more_than_it_offers(
        cpu in 0_u32..64_000, foreign in prop::collection::vec(0_u32..64_000, 0..8), percent in 0_u32..=90,
    ) {
        let pool = json!({"spec": {"reservePercent": percent}});
        let offer = json!({"status": {"allocatable": {"cpu": format!("{cpu}m")}}});
        let world = World::default().pool("a", pool).node("n", "a", offer);
        let world = foreign.iter().fold(world, |world, cpu| world.foreign("n", &format!("{cpu}m"), "1Gi", json!({})));
        let observed = world.only();
        prop_assert!(within(observed.capacity(), observed.totals.allocatable));
        let taken: u32 = foreign.iter().sum();
        let expected = (i64::from(cpu) - i64::from(taken) - (i64::from(cpu) * i64::from(percent) + 99) / 100).max(0);
        prop_assert_eq!(observed.capacity().cpu_millis, u64::try_from(expected).unwrap());
    }
}

fn largest(price: u64, request: Resources, shape: Resources) -> Option<u64> {
    arithmetic::largest_share(price, request, shape)
}
