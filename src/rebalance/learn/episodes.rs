//! Runs in which what is declared is wrong, under faults and without: every write is checked as in
//! [`episodes`](super::super::episodes), and what is learned comes to rest.
#![allow(clippy::cast_possible_truncation, reason = "small numbers by construction")]

use crate::rebalance::sim::{Faults, Random, Sim, random_world};

/// Episodes; `LEARN_EPISODES` sets another number, `SIM_SEED` a single one.
fn seeds(count: u64) -> std::ops::RangeInclusive<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("SIM_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("LEARN_EPISODES").unwrap_or(count),
    }
}

/// A world of rates whose replicas serve between a third and three times of what is declared, or a tenth more or less.
fn start(seed: u64) -> Sim {
    let mut random = Random::new(seed ^ 0x001e_a121);
    let mut world = random_world(&mut random);
    for stage in &mut world.stages {
        stage.rated = true;
        stage.down_window_ms = random.within(5, 60) * 1_000;
        stage.min = stage.min.max(1);
    }
    for variant in &mut world.variants {
        // Enough requests in an interval.
        variant.capacity_millis *= 10;
        variant.startup_ms = random.within(2, 15) * 1_000;
    }
    let load = world.stages.iter().map(|_| random.within(1_000, 80_000)).collect();
    let desired = world.variants.iter().map(|_| random.within(0, 3) as u32).collect();
    let wide = random.chance(70);
    let truth = |random: &mut Random| {
        if wide {
            random.within(333, 3_000)
        } else {
            random.within(900, 1_100)
        }
    };
    let truth_permille = world.variants.iter().map(|_| truth(&mut random)).collect();
    let mut sim = Sim::new(world, load, desired, seed);
    sim.truth_permille = truth_permille;
    sim
}

fn in_force(sim: &Sim) -> Vec<u64> {
    sim.state
        .world()
        .variants
        .iter()
        .map(|variant| variant.capacity_millis)
        .collect()
}

#[test]
fn no_write_breaks_a_promise_while_capacities_are_learned_under_faults() {
    let mut changes = 0;
    for seed in seeds(400) {
        let mut random = Random::new(seed);
        let mut sim = start(seed);
        sim.noise_permille = random.within(0, 60);
        let faults = Faults {
            lost_writes: random.within(0, 20),
            lost_readings: random.within(0, 10),
            partial_readings: random.within(0, 5),
            drift: random.within(0, 1),
            capacity: random.within(0, 1),
            load: random.within(0, 2),
            ..Faults::default()
        };
        let calm = Faults {
            lost_writes: 5,
            ..Faults::default()
        };
        let mut before = in_force(&sim);
        for tick in 0..900_u64 {
            // Whole minutes without faults, or nothing would be learned.
            sim.tick(if tick / 60 % 4 == 3 { &faults } else { &calm });
            changes += u64::from(before != in_force(&sim));
            before = in_force(&sim);
        }
        assert_eq!(sim.violations, Vec::<String>::new(), "SIM_SEED={seed}");
    }
    assert!(changes > seeds(400).count() as u64 / 2, "{changes} changes say little");
}

#[test]
fn l1_with_wrong_priors_capacities_and_writes_come_to_rest() {
    let (mut restless, mut changed) = (Vec::new(), 0);
    for seed in seeds(200) {
        let mut sim = start(seed);
        let declared = in_force(&sim);
        for _ in 0..3_600 {
            sim.tick(&Faults::default());
        }
        let (known, written) = (in_force(&sim), sim.decisions.len());
        changed += u64::from(known != declared);
        for _ in 0..1_200 {
            sim.tick(&Faults::default());
        }
        assert_eq!(sim.violations, Vec::<String>::new(), "SIM_SEED={seed}");
        if sim.decisions.len() != written || in_force(&sim) != known {
            restless.push((seed, sim.decisions.len() - written));
        }
    }
    assert!(
        changed > seeds(200).count() as u64 / 4,
        "{changed} changed worlds say little"
    );
    assert_eq!(restless, [], "seeds and writes after an hour");
}
