//! Simulated campaigns: many small worlds, each from one seed.
#![allow(clippy::cast_possible_truncation, reason = "small numbers by construction")]

use super::sim::{Faults, Random, Sim, random_world};

/// Campaigns run so many worlds; `SIM_WORLDS` sets another number, `SIM_SEED` a single one.
fn seeds() -> Vec<u64> {
    if let Some(seed) = std::env::var("SIM_SEED").ok().and_then(|text| text.parse().ok()) {
        return vec![seed];
    }
    let count = std::env::var("SIM_WORLDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(256);
    (1..=count).collect()
}

const FAULTS: Faults = Faults {
    readings: None,
    lost_writes: 10,
    lost_readings: 10,
    partial_readings: 20,
    drift: 2,
    capacity: 2,
    load: 3,
    restarts: 1,
    slow_writes: 0,
    crashes: 0,
    edits: 0,
};

fn start(seed: u64) -> Sim {
    let mut random = Random::new(seed);
    let world = random_world(&mut random);
    let load = world.stages.iter().map(|_| random.within(0, 10_000)).collect();
    let desired = world.variants.iter().map(|_| random.within(0, 2) as u32).collect();
    Sim::new(world, load, desired, seed)
}

fn quiet_after(sim: &mut Sim, ticks: usize) -> usize {
    for _ in 0..ticks {
        sim.tick(&Faults::default());
    }
    sim.decisions.len()
}

#[test]
fn l1_constant_input_reaches_a_fixed_point_and_stays() {
    for seed in seeds() {
        let mut sim = start(seed);
        let settled = quiet_after(&mut sim, 1_800);
        assert_eq!(sim.violations, Vec::<String>::new(), "SIM_SEED={seed}");
        let later = quiet_after(&mut sim, 1_200);
        assert_eq!(later, settled, "SIM_SEED={seed}: {:#?}", &sim.decisions[settled..]);
        let crowded = sim.state.plan.as_ref().is_some_and(|plan| plan.crowded);
        let limited = sim
            .world
            .pipelines
            .iter()
            .any(|pipeline| pipeline.budget_micros.is_some() || pipeline.shared.is_some());
        let planned: Vec<u32> = sim
            .state
            .reports
            .iter()
            .flat_map(|report| report.planned.clone())
            .collect();
        let converged = planned == sim.desired;
        sim.restart();
        let replayed = quiet_after(&mut sim, 1);
        assert!(
            !converged || replayed == settled,
            "replay, SIM_SEED={seed}: {:#?}",
            &sim.decisions[settled..]
        );
        let restarted = quiet_after(&mut sim, 1_200);
        // What a saturated stage has been seen to need is forgotten and found out again, by growing.
        assert!(
            crowded || limited || restarted == settled,
            "restart, SIM_SEED={seed}: {:#?}",
            &sim.decisions[settled..]
        );
        let later = quiet_after(&mut sim, 600);
        assert_eq!(
            later,
            restarted,
            "long after a restart, SIM_SEED={seed}: {:#?}",
            &sim.decisions[restarted..]
        );
        assert_eq!(sim.violations, Vec::<String>::new(), "SIM_SEED={seed}");
    }
}

#[test]
fn floors_and_ceilings_hold_at_every_write_under_faults_and_it_settles_after() {
    for seed in seeds() {
        let mut sim = start(seed);
        for _ in 0..900 {
            sim.tick(&FAULTS);
        }
        assert_eq!(sim.violations, Vec::<String>::new(), "SIM_SEED={seed}");
        for pool in 0..sim.world.pools.len() {
            sim.set_capacity(pool, 100);
        }
        let settled = quiet_after(&mut sim, 2_700);
        assert_eq!(sim.violations, Vec::<String>::new(), "SIM_SEED={seed}");
        let later = quiet_after(&mut sim, 1_200);
        assert_eq!(later, settled, "SIM_SEED={seed}: {:#?}", &sim.decisions[settled..]);
    }
}

/// Full replicas show that they are full, not by how much: each start-up time brings half as much again, and start-ups take up
/// to 72 s here. The longest of the first 256 worlds lasts 195 s.
const UNMET_MS_MAX: u64 = 300_000;

#[test]
fn l3_no_demand_is_unmet_for_long_beside_room_that_could_serve_it() {
    let loads = Faults {
        load: 1,
        ..Faults::default()
    };
    for seed in seeds() {
        let mut sim = start(seed);
        let mut since_ms = vec![None; sim.world.stages.len()];
        for _ in 0..1_800 {
            sim.tick(&loads);
            for (stage, since_ms) in since_ms.iter_mut().enumerate() {
                let began_ms = since_ms.unwrap_or(sim.now_ms);
                *since_ms = sim.starves(stage).then_some(began_ms);
                let lasts_ms = since_ms.map_or(0, |began_ms| sim.now_ms - began_ms);
                assert!(
                    lasts_ms <= UNMET_MS_MAX,
                    "SIM_SEED={seed}: stage {stage} at {}: {:?}",
                    sim.now_ms,
                    sim.state.reports[stage]
                );
            }
        }
    }
}
