//! Bursts of tiny worlds, second by second.

use super::*;
use crate::rebalance::fixture::Fixture;
use crate::rebalance::step;

const START_MS: u64 = 1_000_000;
const SLOT: Resources = Resources {
    cpu_millis: 1_000,
    memory_kib: 1 << 20,
    device_millis: 1_000,
};

fn slots(count: u64) -> Resources {
    Resources {
        cpu_millis: SLOT.cpu_millis * count,
        memory_kib: SLOT.memory_kib * count,
        device_millis: SLOT.device_millis * count,
    }
}

/// A world whose replicas start within a second, and the core that runs it.
struct Run {
    fixture: Fixture,
    state: State,
    now_ms: u64,
}

impl Run {
    /// On pool 0 so many slots may be kept, on nodes of four, for bursts of two minutes.
    fn of(world: &str, most: u32) -> Self {
        let fixture = Fixture::parse(world);
        let mut state = State::new();
        state.keep_rooms(vec![Keep {
            pool: PoolIdx(0),
            node: slots(4),
            nodes: most / 4,
            within_ms: 120_000,
        }]);
        step(&mut state, &fixture.events(START_MS), START_MS);
        Self {
            fixture,
            state,
            now_ms: START_MS,
        }
    }

    /// So many replicas' worth of load on each stage, for so many seconds. A quarter of what a replica can do is its worth, so that
    /// none is ever full.
    fn load(&mut self, loads: &[u64], seconds: u64) -> &mut Self {
        for _ in 0..seconds {
            self.now_ms += 1_000;
            for (stage, &load) in self.fixture.world.stages.iter().zip(loads) {
                let range = stage.variants.0 as usize..stage.variants.1 as usize;
                let ready: u64 = self.fixture.replicas[range.clone()]
                    .iter()
                    .map(|&(_, ready)| u64::from(ready))
                    .sum();
                let used = u32::try_from(load * 250 / ready.max(1)).unwrap();
                self.fixture.utilization[range].fill(Some(used));
            }
            let mut events = self.fixture.readings(self.now_ms);
            for (at, &(desired, ready)) in (0..).zip(&self.fixture.replicas) {
                let variant = super::super::world::VariantIdx(at);
                events.push(super::super::world::Event::Replicas {
                    variant,
                    desired,
                    ready,
                });
            }
            for decision in step(&mut self.state, &events, self.now_ms) {
                for one in decision.moves {
                    self.fixture.replicas[one.variant.0 as usize] = (one.to, one.to);
                }
            }
        }
        self
    }

    fn rooms(&mut self) -> Vec<Room> {
        self.state.rooms(self.now_ms)
    }
}

const ONE: &str = "pool grown 40 cpu\n stage s target 250 tolerance 0\n grown cost 1 has 4/4 at 250";

#[test]
fn room_for_the_largest_burst_of_the_hour_is_kept_once_it_has_gone_and_none_while_it_is_there() {
    let mut run = Run::of(ONE, 40);
    assert_eq!(run.load(&[4], 300).rooms(), [], "nothing rose");
    run.load(&[14], 60);
    assert_eq!(run.rooms(), [], "what has come is served by replicas");
    let rooms = run.load(&[4], 600).rooms();
    let [room] = rooms.as_slice() else { panic!("{rooms:?}") };
    assert_eq!((room.pool, room.stage, room.part), (PoolIdx(0), StageIdx(0), SLOT));
    assert_eq!((room.parts, room.whole), (room.replicas, true));
    assert!((8..=11).contains(&room.parts), "{room:?}");
    assert!((9_000..=11_000).contains(&room.rise), "{room:?}");
    // A smaller burst changes nothing: the largest counts.
    let again = run.load(&[8], 60).load(&[4], 600).rooms();
    assert_eq!(again, rooms);
    assert_eq!(run.load(&[4], 3_600).rooms(), [], "an hour without any");
}

#[test]
fn a_rise_that_is_slower_than_a_node_comes_is_no_burst_of_its_full_height() {
    let mut run = Run::of(ONE, 40);
    run.load(&[4], 300);
    for load in 5..=24 {
        run.load(&[load], 60);
    }
    let rooms = run.load(&[4], 300).rooms();
    let [room] = rooms.as_slice() else { panic!("{rooms:?}") };
    assert!(room.parts <= 4, "two minutes of it: {room:?}");
}

#[test]
fn stages_share_one_room_as_large_as_the_largest_of_their_bursts() {
    let world = "pool grown 60 cpu
        stage a target 250 tolerance 0\n grown cost 1 has 4/4 at 250
        stage b target 250 tolerance 0\n grown cost 2 slots 2 has 4/4 at 250";
    let mut run = Run::of(world, 60);
    run.load(&[4, 4], 300).load(&[14, 4], 60).load(&[4, 4], 300);
    let alone = run.rooms();
    assert_eq!((alone[0].part, alone[0].stage), (SLOT, StageIdx(0)));
    run.load(&[4, 10], 60).load(&[4, 4], 300);
    let both = run.rooms();
    let [room] = both.as_slice() else { panic!("{both:?}") };
    // Two replicas of `a` fit into a part for one of `b`: about five for `a`, about six for `b`.
    assert_eq!((room.part, room.stage), (slots(2), StageIdx(1)));
    assert!((5..=7).contains(&room.parts), "{room:?}");
}

#[test]
fn no_more_is_kept_than_the_pool_allows_and_the_stage_may_have() {
    let mut little = Run::of(ONE, 4);
    let rooms = little.load(&[4], 300).load(&[14], 60).load(&[4], 300).rooms();
    assert_eq!((rooms[0].parts, rooms[0].whole), (4, false));
    assert!(rooms[0].replicas > 4, "{rooms:?}");
    let mut bounded = Run::of(&ONE.replace("tolerance 0", "tolerance 0 max 6"), 40);
    let rooms = bounded.load(&[4], 300).load(&[6], 60).load(&[4], 300).rooms();
    assert_eq!(rooms[0].parts, 2, "{rooms:?}");
}

#[test]
fn a_burst_that_another_pool_takes_for_less_needs_no_room_here() {
    let world = "pool grown 40 cpu\n pool fixed 40 cpu
        stage s target 250 tolerance 0\n grown cost 3 has 0/0\n fixed cost 1 has 4/4 at 250";
    let mut run = Run::of(world, 40);
    assert_eq!(run.load(&[4], 300).load(&[14], 60).load(&[4], 300).rooms(), []);
    // Where that one has too little, the rest of it does.
    let mut run = Run::of(&world.replace("fixed 40", "fixed 10"), 40);
    let rooms = run.load(&[4], 300).load(&[14], 60).load(&[4], 300).rooms();
    assert!((3..=5).contains(&rooms[0].parts), "{rooms:?}");
}

#[test]
fn room_is_kept_only_for_pipelines_that_may_grow_and_within_their_ceilings() {
    for (pipe, most) in [("mode no-scale-out", 0), ("mode paused", 0), ("budget 9", 5)] {
        let mut run = Run::of(ONE, 40);
        run.load(&[4], 300).load(&[14], 60).load(&[4], 300);
        let world = Fixture::parse(&format!("pipe p {pipe}\n{ONE}")).world;
        run.now_ms += 1_000;
        step(&mut run.state, &[super::super::world::Event::World(world)], run.now_ms);
        let parts: u32 = run.load(&[4], 5).rooms().iter().map(|room| room.parts).sum();
        assert_eq!(parts, most, "{pipe}");
    }
}

#[test]
fn bursts_decide_nothing() {
    let world = "pool grown 12 cpu\n pool fixed 10 cpu
        stage a target 250 tolerance 0\n grown cost 3 has 2/2 at 250\n fixed cost 1 has 4/4 at 900
        stage b target 250 tolerance 0\n grown cost 3 has 2/2 at 250\n fixed cost 1 has 4/4 at 900";
    let (mut with, mut without) = (Run::of(world, 40), Run::of(world, 40));
    without.state.keep_rooms(Vec::new());
    for loads in [[6, 6], [14, 3], [2, 16], [5, 5]] {
        with.load(&loads, 90).rooms();
        without.load(&loads, 90).rooms();
        assert_eq!(without.state.plan, with.state.plan, "{loads:?}");
        assert!(with.state.plan.is_some(), "asking for rooms leaves the plan in force");
        assert_eq!(with.fixture.replicas, without.fixture.replicas, "{loads:?}");
    }
}

#[test]
fn a_demand_that_is_looked_at_rarely_has_been_what_it_was() {
    let mut burst = Burst::new(4_000);
    burst.note(4_000, 120_000, START_MS);
    // Half an hour without a word: it rose now, not half an hour ago.
    burst.note(9_000, 120_000, START_MS + 1_800_000);
    assert_eq!(burst.ahead(4_000, START_MS + 1_800_000), (5_000, 5_000));
    burst.scale(|value| value / 2);
    assert_eq!(burst.ahead(2_000, START_MS + 1_800_000), (2_500, 2_500));
}
