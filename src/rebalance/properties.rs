//! What holds for all inputs, tried on random ones; the case and its seed are in the failure message. `PROPTEST_CASES`
//! sets how many.

use proptest::prelude::*;

use super::decision::Decision;
use super::fixture::{busy, cases};
use super::judge;
use super::oracle::{Item, Need, Oracle};
use super::sim::{Random, random_world};
use super::spend::Spend;
use super::world::{Event, Key, PoolIdx, Resources, StageIdx, VariantIdx, World};
use super::{State, step};

fn item() -> impl Strategy<Value = Item> {
    let cost = (0..8_u64, 0..8_u64).prop_map(|(micros, milliwatts)| Spend { micros, milliwatts });
    let numbers = (0..30_u128, 1..12_u64, cost, any::<bool>());
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

/// Few values, so that much is alike.
fn alike() -> impl Strategy<Value = Item> {
    let numbers = (1..3_u64, 0..2_u64, any::<bool>(), 0..3_u32, 1..4_u32);
    numbers.prop_map(|(capacity, cost, reliable, current, upper)| Item {
        price: u128::from(capacity) * 20,
        capacity,
        cost: Spend {
            micros: cost,
            milliwatts: cost,
        },
        reliable,
        current,
        lower: 0,
        upper,
    })
}

/// How many were chosen of what kind of pool.
fn kinds(items: &[Item], counts: &[u32]) -> Vec<(u64, Spend, bool, u32, u32, u32)> {
    let mut all: Vec<_> = (items.iter().zip(counts))
        .map(|(item, &count)| (item.capacity, item.cost, item.reliable, item.current, item.upper, count))
        .collect();
    all.sort_unstable();
    all
}

/// Ceilings on money, on power, on both, on neither.
fn budget() -> impl Strategy<Value = Spend> {
    let part = || prop_oneof![Just(u64::MAX), 0..60_u64];
    (part(), part()).prop_map(|(micros, milliwatts)| Spend { micros, milliwatts })
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
    #![proptest_config(cases(10_000))]

    #[test]
    fn q2_the_oracle_answers_like_the_exhaustive_judge(
        items in prop::collection::vec(item(), 1..5),
        need in need(),
        budget in budget(),
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

const NOW_MS: u64 = 1_000_000;

/// What runs in a world and how busy it is, by variant.
type Seen = Vec<(u32, u32)>;

fn seen(random: &mut Random, world: &World) -> Seen {
    let one = |random: &mut Random| (random.within(0, 4), random.within(100, 1_000));
    let all = world.variants.iter().map(|_| one(random));
    all.map(|(count, used)| (u32::try_from(count).unwrap(), u32::try_from(used).unwrap()))
        .collect()
}

fn events(seen: &Seen, now_ms: u64) -> Vec<Event> {
    let one = |(at, &(count, used)): (u32, &(u32, u32))| {
        let variant = VariantIdx(at);
        let replicas = Event::Replicas {
            variant,
            desired: count,
            ready: count,
        };
        let reading = busy(now_ms, count, used);
        let reading = (count > 0).then_some(Event::Reading { variant, reading });
        std::iter::once(replicas).chain(reading)
    };
    (0..).zip(seen).flat_map(one).collect()
}

/// Decisions of the first steps: what was found, then a change of load.
fn decide(world: &World, seen: &Seen, order: impl Fn(&mut Vec<Event>)) -> Vec<Decision> {
    let mut state = State::new();
    let mut decided = step(&mut state, &[Event::World(world.clone())], NOW_MS);
    for second in 1..=3 {
        let load = |&(count, used): &(u32, u32)| (count, if second > 1 { 1_000 - used / 2 } else { used });
        let mut events = events(&seen.iter().map(load).collect(), NOW_MS + second * 1_000);
        order(&mut events);
        decided.extend(step(&mut state, &events, NOW_MS + second * 1_000));
    }
    decided
}

/// The same world with pools, stages and their variants in reverse, and where each variant is now.
fn reversed(world: &World) -> (World, Vec<u32>) {
    let mut turned = world.clone();
    turned.pools.reverse();
    turned.stages.reverse();
    turned.variants.clear();
    let mut places = vec![0; world.variants.len()];
    let (stages, pools) = (
        u32::try_from(world.stages.len()).unwrap(),
        u32::try_from(world.pools.len()).unwrap(),
    );
    for (at, stage) in (0..).zip(&mut turned.stages) {
        let start = u32::try_from(turned.variants.len()).unwrap();
        for old in (stage.variants.0..stage.variants.1).rev() {
            let mut variant = world.variants[old as usize].clone();
            variant.stage = StageIdx(at);
            variant.pool = PoolIdx(pools - 1 - variant.pool.0);
            places[old as usize] = u32::try_from(turned.variants.len()).unwrap();
            turned.variants.push(variant);
        }
        stage.variants = (start, u32::try_from(turned.variants.len()).unwrap());
    }
    assert_eq!(stages as usize, turned.stages.len());
    (turned, places)
}

/// Every move as (variant, from, to), by variant.
fn moves(decisions: &[Decision], place: impl Fn(u32) -> u32) -> Vec<(u64, u32, u32, u32)> {
    let all = decisions
        .iter()
        .flat_map(|one| one.moves.iter().map(|step| (one.at_ms, step)));
    let mut all: Vec<_> = all
        .map(|(at_ms, one)| (at_ms, place(one.variant.0), one.from, one.to))
        .collect();
    all.sort_unstable();
    all
}

fn extreme() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(u64::MAX / 2),
        Just(1 << 60),
        0..5_000_u64,
        any::<u64>()
    ]
}

fn small_or_extreme() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(1), Just(u32::MAX), 0..50_u32, any::<u32>()]
}

/// Puts extreme numbers into a sound world, and indexes that point nowhere.
fn distort(world: &mut World, wide: &[u64], narrow: &[u32]) {
    let (mut wide, mut narrow) = (wide.iter().copied().cycle(), narrow.iter().copied().cycle());
    let mut odd = |field: &mut u64| {
        let value = wide.next().unwrap();
        if value % 3 != 1 {
            *field = value;
        }
    };
    let mut rare = |field: &mut u32| {
        let value = narrow.next().unwrap();
        if value % 3 != 1 {
            *field = value;
        }
    };
    for pool in &mut world.pools {
        odd(&mut pool.capacity.cpu_millis);
        odd(&mut pool.capacity.memory_kib);
    }
    for pipeline in &mut world.pipelines {
        let mut budget = pipeline.budget_micros.unwrap_or(1);
        odd(&mut budget);
        pipeline.budget_micros = pipeline.budget_micros.map(|_| budget);
        let mut power = pipeline.power_max_milliwatts.unwrap_or(1);
        odd(&mut power);
        pipeline.power_max_milliwatts = pipeline.power_max_milliwatts.map(|_| power);
    }
    for shared in &mut world.shared {
        shared.budget_micros.iter_mut().for_each(&mut odd);
        shared.power_max_milliwatts.iter_mut().for_each(&mut odd);
    }
    for variant in &mut world.variants {
        odd(&mut variant.cost_micros);
        odd(&mut variant.marginal_micros);
        odd(&mut variant.capacity_millis);
        odd(&mut variant.startup_ms);
        odd(&mut variant.request.cpu_millis);
        rare(&mut variant.hint_permille);
        rare(&mut variant.max);
        rare(&mut variant.pool.0);
    }
    for stage in &mut world.stages {
        odd(&mut stage.up_window_ms);
        odd(&mut stage.down_window_ms);
        odd(&mut stage.signal_loss_ms);
        odd(&mut stage.reading_age_ms_max);
        rare(&mut stage.min);
        rare(&mut stage.max);
        rare(&mut stage.reliable_min);
        rare(&mut stage.target_permille);
        rare(&mut stage.tolerance_permille);
        rare(&mut stage.down_percent_per_minute);
        rare(&mut stage.moves_per_hour);
        rare(&mut stage.max_surge);
        rare(&mut stage.pipeline.0);
        rare(&mut stage.variants.1);
    }
}

proptest! {
    #![proptest_config(cases(10_000))]

    #[test]
    fn s12_naming_and_the_order_of_events_do_not_change_a_decision(seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let world = random_world(&mut random);
        let seen = seen(&mut random, &world);
        let expected = decide(&world, &seen, |_| {});
        prop_assert_eq!(&decide(&world, &seen, |events| events.reverse()), &expected);
        let mut renamed = world.clone();
        let keys = renamed.pools.iter_mut().map(|one| &mut one.key);
        let keys = keys.chain(renamed.stages.iter_mut().map(|one| &mut one.key));
        for key in keys.chain(renamed.variants.iter_mut().map(|one| &mut one.key)) {
            *key = Key(!key.0.rotate_left(17));
        }
        prop_assert_eq!(&decide(&renamed, &seen, |_| {}), &expected);
    }

    #[test]
    fn s12_the_order_of_pools_stages_and_variants_does_not_change_a_move(seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let world = random_world(&mut random);
        let seen = seen(&mut random, &world);
        // Where pools or budgets are short, equals that are served one after the other do not all get the same.
        let mut world = world;
        world.pools.iter_mut().for_each(|pool| pool.capacity.cpu_millis *= 100);
        world.pools.iter_mut().for_each(|pool| pool.capacity.memory_kib *= 100);
        for pipeline in &mut world.pipelines {
            (pipeline.budget_micros, pipeline.power_max_milliwatts, pipeline.shared) = (None, None, None);
        }
        let expected = moves(&decide(&world, &seen, |_| {}), |at| at);
        let (turned, places) = reversed(&world);
        let mut moved = seen.clone();
        for (old, &new) in places.iter().enumerate() {
            moved[new as usize] = seen[old];
        }
        let back = |at: u32| u32::try_from(places.iter().position(|&new| new == at).unwrap()).unwrap();
        prop_assert_eq!(moves(&decide(&turned, &moved, |_| {}), back), expected);
    }

    #[test]
    fn s14_no_panic_and_no_overflow_for_any_input(
        seed in any::<u64>(),
        wide in prop::collection::vec(extreme(), 7..40),
        narrow in prop::collection::vec(small_or_extreme(), 7..40),
        times in prop::collection::vec(extreme(), 1..6),
    ) {
        let mut random = Random::new(seed);
        let mut world = random_world(&mut random);
        let sound = seen(&mut random, &world);
        let mut state = State::new();
        if seed % 2 == 0 {
            step(&mut state, &[Event::World(world.clone())], NOW_MS);
        }
        distort(&mut world, &wide, &narrow);
        step(&mut state, &[Event::World(world.clone())], NOW_MS);
        for (at, &now_ms) in times.iter().enumerate() {
            let mut all = events(&sound, now_ms);
            for event in &mut all {
                if let Event::Reading { variant, reading } = event {
                    variant.0 = variant.0.wrapping_add(u32::from(at == 3) * 1_000);
                    reading.waiting_millis = Some(wide[at % wide.len()]);
                    reading.running_millis = Some(wide[(at + 1) % wide.len()]);
                    reading.rate_millis = Some(wide[(at + 2) % wide.len()]);
                    reading.expected = narrow[at % narrow.len()];
                }
                if let Event::Replicas { desired, ready, .. } = event
                    && at % 2 == 1
                {
                    (*desired, *ready) = (narrow[at % narrow.len()], narrow[(at + 1) % narrow.len()]);
                }
            }
            step(&mut state, &all, now_ms);
        }
    }

    #[test]
    fn s12_the_order_of_items_does_not_change_what_is_chosen(items in prop::collection::vec(alike(), 2..6), need in need()) {
        let mut oracle = Oracle::default();
        let answer = oracle.solve(&items, &need, Spend::UNLIMITED);
        let chosen = kinds(&items, &oracle.counts);
        let turned: Vec<Item> = items.iter().rev().copied().collect();
        prop_assert_eq!(oracle.solve(&turned, &need, Spend::UNLIMITED).value, answer.value);
        prop_assert_eq!(kinds(&turned, &oracle.counts), chosen);
    }

    #[test]
    fn s11_a_cover_that_is_reached_or_on_its_way_is_chosen_again(
        items in prop::collection::vec(item(), 1..5),
        need in need(),
        way in prop::collection::vec(0..=4_u32, 5),
    ) {
        let mut oracle = Oracle::default();
        let items: Vec<Item> = items.into_iter().map(|item| Item { lower: 0, ..item }).collect();
        oracle.solve(&items, &need, Spend::UNLIMITED);
        let chosen = oracle.counts.clone();
        // Any state between what runs and what was chosen, as a shift goes through them.
        let between = |(item, (&to, &step)): (&Item, (&u32, &u32))| {
            let from = item.current;
            let current = if to >= from { from + (to - from) * step / 4 } else { from - (from - to) * step / 4 };
            Item { current, ..*item }
        };
        let moved: Vec<Item> = items.iter().zip(chosen.iter().zip(&way)).map(between).collect();
        let best = oracle.solve(&moved, &need, Spend::UNLIMITED).value;
        prop_assert_eq!(judge::value_of(&moved, &need, &chosen), best, "another is better on the way: {:?}", &oracle.counts);
    }

    #[test]
    fn q3_scaling_demand_and_capacities_scales_nothing_else(
        items in prop::collection::vec(item(), 1..5),
        need in need(),
        factor in 2..1_000_u64,
    ) {
        let mut oracle = Oracle::default();
        oracle.solve(&items, &need, Spend::UNLIMITED);
        let counts = oracle.counts.clone();
        let larger: Vec<Item> = items.iter().map(|item| Item { capacity: item.capacity * factor, ..*item }).collect();
        let need = Need { demand: need.demand * factor, ..need };
        oracle.solve(&larger, &need, Spend::UNLIMITED);
        prop_assert_eq!(&oracle.counts, &counts);
    }

    #[test]
    fn q1_more_demand_never_lowers_what_is_served_and_more_room_never_worsens_a_stage(
        items in prop::collection::vec(item(), 1..5),
        need in need(),
        more in 1..20_u64,
    ) {
        let mut oracle = Oracle::default();
        let items: Vec<Item> = items.into_iter().map(|item| Item { lower: 0, ..item }).collect();
        let answer = oracle.solve(&items, &need, Spend::UNLIMITED).value;
        let larger = Need { demand: need.demand + more, ..need };
        let after = oracle.solve(&items, &larger, Spend::UNLIMITED).value;
        prop_assert!(after.short == answer.short);
        prop_assert!(larger.demand - after.unserved >= need.demand - answer.unserved);
        let roomier: Vec<Item> = items.iter().map(|item| Item { upper: item.upper + 1, ..*item }).collect();
        prop_assert!(oracle.solve(&roomier, &need, Spend::UNLIMITED).value <= answer);
    }
}

#[test]
fn a_pool_of_nothing_and_a_stage_of_nothing_are_planned_for() {
    let mut world = random_world(&mut Random::new(1));
    world
        .pools
        .iter_mut()
        .for_each(|pool| pool.capacity = Resources::default());
    world.stages.iter_mut().for_each(|stage| stage.variants = (0, 0));
    let mut state = State::new();
    assert_eq!(step(&mut state, &[Event::World(world)], NOW_MS), []);
}
