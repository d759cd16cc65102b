//! Examples that only a wrong core gets wrong: for each of them there is a bug in [`bug`](super::bug) that it catches.

use super::decision::{Decision, HoldReason};
use super::fixture::{Fixture, busy};
use super::moves::serve;
use super::oracle::{Item, Need, Oracle};
use super::sim::Random;
use super::spend::Spend;
use super::state::State;
use super::step;
use super::world::{Event, Reading, StageIdx, VariantIdx};

const NOW_MS: u64 = 1_000_000;

fn start(observed: &str) -> (Fixture, State, Vec<Decision>) {
    let fixture = Fixture::parse(observed);
    let mut state = State::new();
    let decided = step(&mut state, &fixture.events(NOW_MS), NOW_MS);
    (fixture, state, decided)
}

#[test]
fn a_reading_without_any_number_is_no_reading_of_zero() {
    let (fixture, mut state, _) = start("pool gpu 8\nstage s\n gpu has 4/4 at 950");
    let empty = Event::Reading {
        variant: VariantIdx(0),
        reading: Reading {
            utilization_permille: None,
            ..busy(NOW_MS + 1_000, 4, 0)
        },
    };
    let decided = step(&mut state, &[empty], NOW_MS + 1_000);
    assert_eq!(fixture.render(&decided), "-");
    assert_eq!(state.report(StageIdx(0)).unwrap().signal_taken_ms, Some(NOW_MS));
}

#[test]
fn s6_a_variant_that_says_nothing_counts_as_full_for_shrinking() {
    let (fixture, mut state, _) = start("pool gpu 8\npool arm 8\nstage s\n gpu has 4/4 at 950\n arm has 2/2 at 950");
    // The second has been silent for longer than a reading is good for; the first has nearly nothing to do.
    let mut decided = Vec::new();
    for second in 1..=12 {
        let now_ms = NOW_MS + second * 1_000;
        let used = if second == 12 { 100 } else { 950 };
        let reading = busy(now_ms, 4, used);
        let variant = VariantIdx(0);
        decided = step(&mut state, &[Event::Reading { variant, reading }], now_ms);
    }
    // Two for those that are silent, and one for what the others say.
    assert_eq!(fixture.render(&decided), "gpu 4->3, arm 2->0");
}

#[test]
fn memory_is_a_resource_of_its_own() {
    let mut fixture =
        Fixture::parse("pool gpu 4\npool arm 8\nstage s\n gpu cost 1 has 2/2 at 1000\n arm cost 3 has 0/0");
    fixture.world.variants[0].request.memory_kib *= 2;
    let mut state = State::new();
    let decided = step(&mut state, &fixture.events(NOW_MS), NOW_MS);
    assert_eq!(fixture.render(&decided), "arm 0->1", "{:#?}", state.reports);
}

#[test]
fn replicas_that_share_a_service_serve_at_the_pace_of_the_slowest() {
    let sites = [(2, 4_000), (1, 1_000)];
    assert_eq!(serve(true, sites.into_iter()), 3_000);
    assert_eq!(serve(false, sites.into_iter()), 9_000);
}

#[test]
fn a_decision_that_fails_its_check_is_not_written() {
    let (fixture, mut state, decided) = start("pool gpu 8\nstage s max 8\n gpu max 3 has 2/2 at 950");
    assert_eq!(fixture.render(&decided), "-");
    // What a defect of the planner would look like.
    state.plan.as_mut().unwrap().counts = vec![4];
    let now_ms = NOW_MS + 1_000;
    let decided = step(&mut state, &fixture.readings(now_ms), now_ms);
    assert_eq!(fixture.render(&decided), "-", "the variant may have three");
    assert_eq!(state.report(StageIdx(0)).unwrap().hold, Some(HoldReason::PlanRejected));
    assert_eq!(state.violations.len(), 1);
}

#[test]
fn s8_a_higher_class_is_served_before_one_that_needs_more() {
    let (fixture, _, decided) = start(
        "pool gpu 4\npipe low priority 100\nstage a min 1\n gpu has 2/2 at 1000
         pipe high priority 900\nstage b min 1\n gpu has 1/1 at 1000",
    );
    assert_eq!(fixture.render(&decided), "b/gpu 1->2");
}

#[test]
fn a_write_that_may_be_lost_holds_no_floor() {
    // A shift to the cheaper pool, of which nothing is observed: the write may be on its way, or lost.
    let (fixture, mut state, decided) =
        start("pool a 8\npool b 8\nstage s min 3 surge 9\n a cost 9 has 3/3 at 950\n b cost 1 has 0/0");
    assert_eq!(fixture.render(&decided), "b 0->3");
    let mut now_ms = NOW_MS;
    for second in 1..=4 {
        now_ms = NOW_MS + second * 1_000;
        let decided = step(&mut state, &fixture.readings(now_ms), now_ms);
        assert_eq!(fixture.render(&decided), "-");
    }
    let site = &state.variants[1];
    assert_eq!((site.desired(), site.certain(), site.most()), (3, 0, 3));
    // It never arrived, and holds again what was observed.
    let decided = step(&mut state, &fixture.readings(now_ms + 1_000), now_ms + 1_000);
    assert_eq!(fixture.render(&decided), "b 0->3");
}

/// Least price of covering a demand with items, by looking at every amount that is left: (price, capacity, most).
pub(super) fn cheapest(items: &[(u64, u64, u32)], demand: usize) -> u64 {
    let mut best = vec![u64::MAX; demand + 1];
    best[demand] = 0;
    for &(price, capacity, most) in items {
        let capacity = usize::try_from(capacity).unwrap();
        for _ in 0..most {
            let before = best.clone();
            for (left, &paid) in before.iter().enumerate().skip(1) {
                let after = left.saturating_sub(capacity);
                best[after] = best[after].min(paid.saturating_add(price));
            }
        }
    }
    best[0]
}

/// Items whose prices all but follow their capacities: the kind that a search by bounds cannot finish.
pub(super) fn hard(random: &mut Random, count: usize) -> Vec<(u64, u64, u32)> {
    let item = |_| {
        let capacity = random.within(100, 200);
        (capacity * 1_000 + random.within(0, 30), capacity, 3)
    };
    (0..count).map(item).collect()
}

#[test]
fn a_search_that_is_cut_off_reports_what_it_left_open() {
    let mut cut_off = 0;
    for seed in 1..=40 {
        let mut random = Random::new(seed);
        let all = hard(&mut random, 24);
        let demand = random.within(1_500, 4_000);
        let items: Vec<Item> = (all.iter())
            .map(|&(price, capacity, upper)| Item {
                price: u128::from(price) * 1_000,
                capacity,
                upper,
                ..Item::default()
            })
            .collect();
        let need = Need {
            demand,
            ceiling: 1_000,
            ..Need::default()
        };
        let mut oracle = Oracle::default();
        let answer = oracle.solve(&items, &need, Spend::UNLIMITED);
        // A replica that is new costs two more than its price, however it is counted.
        let priced: Vec<_> = all
            .iter()
            .map(|&(price, capacity, upper)| (price * 1_000 + 2, capacity, upper))
            .collect();
        let best = u128::from(cheapest(&priced, usize::try_from(demand).unwrap()));
        assert_eq!(answer.value.unserved, 0, "seed {seed}");
        assert!(answer.value.price >= best, "seed {seed}: {answer:?}, best {best}");
        assert!(answer.bound.price <= best, "seed {seed}: {answer:?}, best {best}");
        cut_off += u32::from(answer.bound < answer.value && answer.value.price > best);
    }
    assert!(
        cut_off > 0,
        "no search was cut off above the optimum, so nothing was shown"
    );
}
