//! Where replicas come to rest under a load: the decision core in a loop with pods that start at once wherever their pool has
//! room.

use crate::controller::capacity::arithmetic::{fits, minus, times};
use crate::rebalance::decision::StageReport;
use crate::rebalance::world::{DryReason, Event, Reading, Resources, StageIdx, VariantIdx, World};
use crate::rebalance::{State, step};

/// Between two looks.
const TICK_MS: u64 = 5_000;
/// Pods without a place are reported after so long.
const PENDING_MS: u64 = 10_000;
/// Nothing decided for so long is rest, windows and starts aside.
const QUIET_MS: u64 = 60_000;
/// Longest part of that which windows and starts may take.
const WINDOWS_MS_MAX: u64 = 20 * 60_000;
/// After so long it is told as it stands.
const END_MS: u64 = 2 * 60 * 60_000;
/// What a stage has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// Nothing, and its signals say so.
    Idle,
    /// As much as its replicas are meant to serve.
    Steady,
    /// So many requests per second, thousandths, whatever its replicas serve. Only for stages that are rated.
    Rate(u64),
}

/// How things stand when nothing moves any more.
#[derive(Clone, Debug)]
pub(super) struct Rest {
    /// Replicas asked for, by variant.
    pub(super) desired: Vec<u32>,
    /// Those that have a place.
    pub(super) placed: Vec<u32>,
    /// What the core says of each stage.
    pub(super) reports: Vec<Option<StageReport>>,
}

/// Lets the core decide from `start` (replicas by variant) until it comes to rest.
pub(super) fn rest(world: &World, start: &[u32], load: impl Fn(StageIdx) -> Load) -> Rest {
    let mut core = State::unlearning();
    let mut desired: Vec<u32> = (0..world.variants.len())
        .map(|at| start.get(at).copied().unwrap_or_default())
        .collect();
    let mut placed = vec![0; desired.len()];
    let mut pending_since: Vec<Option<u64>> = vec![None; desired.len()];
    let mut events = vec![Event::World(world.clone())];
    let windows = world.stages.iter().map(|stage| stage.up_window_ms);
    let starts = world
        .variants
        .iter()
        .map(|variant| variant.startup_ms.saturating_mul(2));
    let quiet_ms = QUIET_MS + windows.chain(starts).max().unwrap_or_default().min(WINDOWS_MS_MAX);
    let (mut now_ms, mut decided_ms) = (TICK_MS, TICK_MS);
    let end_ms = END_MS;
    while now_ms < end_ms && now_ms - decided_ms <= quiet_ms {
        place(world, &desired, &mut placed);
        for (at, (variant, index)) in world.variants.iter().zip(0..).enumerate() {
            let (asked, ready) = (value(&desired, at), value(&placed, at));
            let index = VariantIdx(index);
            events.push(Event::Replicas {
                variant: index,
                desired: asked,
                ready,
            });
            let since = pending_since.get_mut(at);
            if let Some(since) = since {
                *since = (ready < asked).then(|| since.unwrap_or(now_ms));
                if since.is_some_and(|since| now_ms - since >= PENDING_MS) {
                    events.push(Event::Dry {
                        variant: index,
                        reason: DryReason::Unschedulable,
                    });
                }
            }
            let stage = world.stages.get(variant.stage.0 as usize);
            if let Some(stage) = stage {
                let target = stage.target_permille;
                // Requests reach the stage, not a pool.
                let load = match load(variant.stage) {
                    Load::Rate(_) if stage.variants.0 as usize != at => Load::Rate(0),
                    load => load,
                };
                let reading = reading(load, (stage.rated, target), ready, now_ms);
                events.push(Event::Reading {
                    variant: index,
                    reading,
                });
                // Signals beside the main one agree with it.
                for (signal, _) in (0_u8..).zip(&stage.also) {
                    events.push(Event::Also {
                        variant: index,
                        signal,
                        reading: Reading {
                            rate_millis: None,
                            ..reading
                        },
                    });
                }
            }
        }
        for decision in step(&mut core, &events, now_ms) {
            if decision.advisory {
                continue;
            }
            for one in decision.moves {
                if let Some(slot) = desired.get_mut(one.variant.0 as usize) {
                    *slot = one.to;
                    decided_ms = now_ms;
                }
            }
        }
        events.clear();
        now_ms += TICK_MS;
    }
    place(world, &desired, &mut placed);
    let reports = (0..)
        .zip(&world.stages)
        .map(|(at, _)| core.report(StageIdx(at)).cloned());
    Rest {
        reports: reports.collect(),
        desired,
        placed,
    }
}

fn value(counts: &[u32], at: usize) -> u32 {
    counts.get(at).copied().unwrap_or_default()
}

/// Gives replicas that are asked for a place where their pool has room; those that have one keep it.
fn place(world: &World, desired: &[u32], placed: &mut [u32]) {
    let mut room: Vec<Resources> = world.pools.iter().map(|pool| pool.capacity).collect();
    for ((variant, placed), desired) in world.variants.iter().zip(&mut *placed).zip(desired) {
        *placed = (*placed).min(*desired);
        if let Some(room) = room.get_mut(variant.pool.0 as usize) {
            *room = minus(*room, times(variant.request, *placed));
        }
    }
    for ((variant, placed), desired) in world.variants.iter().zip(placed).zip(desired) {
        let Some(room) = room.get_mut(variant.pool.0 as usize) else {
            continue;
        };
        // Node by node there may be less room than in the sum.
        let more = (*desired - *placed)
            .min(fits(*room, variant.request))
            .min(variant.max.saturating_sub(*placed));
        *room = minus(*room, times(variant.request, more));
        *placed += more;
    }
}

fn reading(load: Load, (rated, target): (bool, u32), ready: u32, now_ms: u64) -> Reading {
    let idle = Reading {
        taken_ms: now_ms,
        sampled: ready,
        expected: ready,
        running_millis: Some(0),
        waiting_millis: Some(0),
        utilization_permille: (ready > 0).then_some(0),
        rate_millis: rated.then_some(0),
    };
    match load {
        Load::Idle => idle,
        Load::Steady => Reading {
            running_millis: None,
            waiting_millis: None,
            utilization_permille: Some(target),
            rate_millis: None,
            ..idle
        },
        Load::Rate(rate_millis) => Reading {
            running_millis: None,
            waiting_millis: None,
            utilization_permille: None,
            rate_millis: Some(rate_millis),
            ..idle
        },
    }
}
