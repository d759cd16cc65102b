//! B9: what every write does, seen by somebody outside of the core: floors, ceilings, room, budget.
//!
//! Nodes of pools are lost without notice, writes get lost, and the core is started anew with nothing in its memory. The
//! checks know the declared world and the replicas there are; they share no code with the core.

use serde_json::{Value, json};
use tiercel::rebalance::solve::generate::Dice;
use tiercel::rebalance::world::{Edge, StageIdx, Traffic};
use tiercel::simulate::cluster::Seen;
use tiercel::simulate::demand::initial;
use tiercel::simulate::engine::{self, Fault, Options};
use tiercel::simulate::load::{Change, Load};
use tiercel::simulate::policy::{Order, Policy, Spec, View};
use tiercel::simulate::scenario::Scenario;

use crate::build::{Place, empty, pipeline, pool, stage};

const EPISODES: u64 = 2_000;
/// Length of each, seconds.
const SECONDS: u64 = 600;
/// tiercel, and those of the others that move replicas between pools: what the watch says of them shows that it sees.
const POLICIES: [&str; 4] = ["tiercel", "cost-greedy", "melange", "kthena"];

/// What was broken, how often.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    writes: u64,
    lost_writes: u64,
    starts: u64,
    floor: u64,
    reliable_floor: u64,
    ceiling: u64,
    room: u64,
    budget: u64,
}

impl Counts {
    fn broken(&self) -> u64 {
        self.floor + self.reliable_floor + self.ceiling + self.room + self.budget
    }
}

struct Watch<'a> {
    spec: Spec,
    load: &'a Load,
    inner: Box<dyn Policy>,
    dice: Dice,
    lost_percent: u64,
    restart_permille: u64,
    counts: Counts,
}

/// Desired and Ready of a stage, on all pools and on reliable ones.
fn tally(scenario: &Scenario, seen: &[Seen], stage: usize) -> [u32; 4] {
    let mut sums = [0; 4];
    for at in scenario.variants_of(stage) {
        let reliable = scenario.world.pools[scenario.world.variants[at].pool.0 as usize].reliable;
        sums[0] += seen[at].desired;
        sums[1] += seen[at].ready;
        sums[2] += if reliable { seen[at].desired } else { 0 };
        sums[3] += if reliable { seen[at].ready } else { 0 };
    }
    sums
}

/// What the Deployment controller makes of a write: those that serve the least go first.
fn scale(seen: &mut Seen, to: u32) {
    let mut surplus = (seen.pending + seen.starting + seen.ready).saturating_sub(to);
    for (count, leaves) in [
        (&mut seen.pending, false),
        (&mut seen.starting, false),
        (&mut seen.ready, true),
    ] {
        let gone = surplus.min(*count);
        *count -= gone;
        surplus -= gone;
        seen.leaving += if leaves { gone } else { 0 };
    }
    seen.desired = to;
}

impl Watch<'_> {
    fn check(&mut self, view: &View<'_>, seen: &mut [Seen], order: Order) {
        let scenario = view.scenario;
        let variant = &scenario.world.variants[order.variant];
        let at = variant.stage.0 as usize;
        let declared = &scenario.world.stages[at];
        let before = tally(scenario, seen, at);
        let grows = order.to > seen[order.variant].desired;
        scale(&mut seen[order.variant], order.to);
        let after = tally(scenario, seen, at);
        let counts = &mut self.counts;
        counts.writes += 1;
        let kept = |which: usize, floor: u32| after[which] >= floor.min(before[which]);
        counts.floor += u64::from(!kept(0, declared.min) || !kept(1, declared.min));
        counts.reliable_floor += u64::from(!kept(2, declared.reliable_min) || !kept(3, declared.reliable_min));
        counts.ceiling += u64::from(after[0] > before[0] && after[0] > declared.max + declared.max_surge.max(1));
        if !grows {
            return;
        }
        // Old and new side by side: what is asked for, and what is on its way out.
        let held = |other: usize| u64::from(seen[other].desired + seen[other].leaving);
        let all = scenario.world.variants.iter().enumerate();
        let used = all
            .filter(|(_, other)| other.pool == variant.pool)
            .fold([0, 0], |sum, (other, here)| {
                [
                    sum[0] + held(other) * here.request.cpu_millis,
                    sum[1] + held(other) * here.request.memory_kib,
                ]
            });
        let room = view.capacity[variant.pool.0 as usize];
        counts.room += u64::from(used[0] > room.cpu_millis || used[1] > room.memory_kib);
        let mine = scenario.world.variants.iter().enumerate();
        let mine =
            mine.filter(|(_, other)| scenario.world.stages[other.stage.0 as usize].pipeline == declared.pipeline);
        let cost: u64 = mine
            .map(|(other, here)| here.cost_micros * u64::from(seen[other].desired))
            .sum();
        let budget = scenario.world.pipelines[declared.pipeline.0 as usize].budget_micros;
        counts.budget += u64::from(budget.is_some_and(|budget| cost > budget));
    }
}

impl Policy for Watch<'_> {
    fn step(&mut self, view: &View<'_>) -> Vec<Order> {
        if self.dice.between(1, 1_000) <= self.restart_permille {
            self.inner = self.spec.build(view.scenario, self.load);
            self.counts.starts += 1;
        }
        let mut orders = self.inner.step(view);
        orders.retain(|order| view.seen[order.variant].desired != order.to);
        let mut seen = view.seen.to_vec();
        let mut arrived = Vec::with_capacity(orders.len());
        for order in orders {
            if self.dice.chance(self.lost_percent) {
                self.counts.lost_writes += 1;
                continue;
            }
            self.check(view, &mut seen, order);
            arrived.push(order);
        }
        arrived
    }
}

/// Two to four pools, a chain of one to four stages, everything drawn.
fn scenario(dice: &mut Dice) -> Scenario {
    let mut scenario = empty();
    let pools = dice.between(2, 4);
    for at in 0..pools {
        pool(&mut scenario, dice.between(4, 20), at == 0 || dice.chance(60));
    }
    let budget = dice.chance(30).then(|| dice.between(100, 500) * 10_000);
    pipeline(&mut scenario, 500, budget);
    for at in 0..dice.between(1, 4) {
        let mut places: Vec<Place> = Vec::new();
        for pool in 0..pools {
            if pool == 0 || dice.chance(70) {
                places.push((pool as u32, dice.between(500, 4_000), dice.between(5, 60)));
            }
        }
        let traffic = if dice.chance(40) {
            Traffic::Uniform
        } else {
            Traffic::Pull
        };
        let edge = |dice: &mut Dice| Edge {
            from: StageIdx(at as u32 - 1),
            calls_millis: dice.between(300, 2_000),
        };
        let after = if at > 0 { vec![edge(dice)] } else { Vec::new() };
        stage(&mut scenario, traffic, after, &places);
        let declared = scenario.world.stages.last_mut().expect("a stage was just added");
        declared.min = dice.between(1, 3) as u32;
        declared.reliable_min = dice.between(0, u64::from(declared.min)) as u32;
        declared.max = declared.min + dice.between(2, 20) as u32;
        declared.max_surge = dice.between(0, 3) as u32;
        declared.down_window_ms = dice.between(0, 60) * 1_000;
    }
    scenario
}

fn faults(dice: &mut Dice, pools: usize) -> Vec<Fault> {
    let one = |dice: &mut Dice| {
        let from_ms = dice.between(60, SECONDS - 120) * 1_000;
        Fault {
            pool: dice.between(0, pools as u64 - 1) as usize,
            from_ms,
            until_ms: from_ms + dice.between(10, 200) * 1_000,
            percent: dice.between(0, 3) * 25,
        }
    };
    (0..dice.between(0, 3)).map(|_| one(dice)).collect()
}

fn episode(policy: &str, seed: u64) -> Counts {
    let mut dice = Dice::new(seed);
    let scenario = scenario(&mut dice);
    let faults = faults(&mut dice, scenario.world.pools.len());
    let (low, high) = (dice.between(1, 3), dice.between(2, 9));
    let shape = format!("step:{low}:{high}");
    // An hour's steps within the episode.
    let change = Change {
        speed: 3_600.0 / SECONDS as f64,
        scale: SECONDS as f64 / 3_600.0,
        seconds: None,
    };
    let load = Load::named(&shape, std::path::Path::new("."), change, seed).expect("a synthetic load");
    let spec: Spec = policy.parse().expect("a known policy");
    let mut watch = Watch {
        inner: spec.build(&scenario, &load),
        spec,
        load: &load,
        lost_percent: dice.between(0, 30),
        restart_permille: dice.between(0, 20),
        dice,
        counts: Counts::default(),
    };
    let start = initial(&scenario, &load);
    let options = Options {
        seed,
        faults,
        ..Options::default()
    };
    engine::run(&scenario, &load, &start, (policy, &mut watch), &options);
    watch.counts
}

pub(crate) fn run() -> (Value, bool) {
    let mut rows = Vec::new();
    let mut sound = false;
    println!(
        "| policy | episodes | writes | lost writes | restarts | floor | reliable floor | ceiling | room | budget | first seed |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for policy in POLICIES {
        let (mut sum, mut first) = (Counts::default(), None);
        for seed in 1..=EPISODES {
            let counts = episode(policy, seed);
            if counts.broken() > 0 {
                first = first.or(Some(seed));
            }
            sum.writes += counts.writes;
            sum.lost_writes += counts.lost_writes;
            sum.starts += counts.starts;
            sum.floor += counts.floor;
            sum.reliable_floor += counts.reliable_floor;
            sum.ceiling += counts.ceiling;
            sum.room += counts.room;
            sum.budget += counts.budget;
        }
        sound |= policy == "tiercel" && sum.broken() == 0 && sum.writes > EPISODES;
        println!(
            "| {policy} | {EPISODES} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            sum.writes,
            sum.lost_writes,
            sum.starts,
            sum.floor,
            sum.reliable_floor,
            sum.ceiling,
            sum.room,
            sum.budget,
            first.map_or_else(|| "–".to_owned(), |seed| seed.to_string())
        );
        rows.push(
            json!({ "policy": policy, "writes": sum.writes, "lost_writes": sum.lost_writes, "restarts": sum.starts,
            "floor": sum.floor, "reliable_floor": sum.reliable_floor, "ceiling": sum.ceiling, "room": sum.room,
            "budget": sum.budget, "first_seed": first }),
        );
    }
    (
        json!({ "episodes": EPISODES, "seconds": SECONDS, "policies": rows }),
        sound,
    )
}
