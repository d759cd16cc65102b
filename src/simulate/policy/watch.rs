//! A simulated cluster as the core hears of it: only what changed since the last second, as from a watch.

use super::{Order, View};
use crate::rebalance::decision::Decision;
use crate::rebalance::world::{DryReason, Event, Reading, VariantIdx, World};
use crate::simulate::cluster::Seen;

/// A pod without room is reported after so long, and again.
const DRY_MS: u64 = 10_000;

/// What the core has been told so far.
#[derive(Debug)]
pub(super) struct Watch {
    world: World,
    told_world: bool,
    told: Vec<Option<Seen>>,
    /// Starts that have been told.
    started: usize,
    readings: Vec<Option<Reading>>,
}

impl Watch {
    /// The world to tell; its pools become those of the cluster.
    pub(super) fn new(world: World) -> Self {
        Self {
            told: vec![None; world.variants.len()],
            started: 0,
            readings: vec![None; world.variants.len()],
            world,
            told_world: false,
        }
    }

    /// What is new. `reading` is what a variant shows.
    pub(super) fn events(
        &mut self,
        view: &View<'_>,
        reading: impl Fn(&View<'_>, usize) -> Option<Reading>,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        let mut pools = self.world.pools.iter().zip(view.capacity);
        if !self.told_world || pools.any(|(pool, live)| pool.capacity != *live) {
            for (pool, live) in self.world.pools.iter_mut().zip(view.capacity) {
                pool.capacity = *live;
            }
            self.told_world = true;
            events.push(Event::World(self.world.clone()));
        }
        let new = view.started.iter().skip(self.started);
        events.extend(new.map(|&(at, took_ms)| Event::Started {
            variant: VariantIdx(at as u32),
            took_ms,
            found: false,
        }));
        self.started = view.started.len();
        for (at, &seen) in view.seen.iter().enumerate() {
            let variant = VariantIdx(at as u32);
            let told = self.told[at];
            if told.map(|told| told.leaving) != Some(seen.leaving) {
                events.push(Event::Leaving {
                    variant,
                    count: seen.leaving,
                });
            }
            if told.map(|told| (told.desired, told.ready)) != Some((seen.desired, seen.ready)) {
                events.push(Event::Replicas {
                    variant,
                    desired: seen.desired,
                    ready: seen.ready,
                });
            }
            self.told[at] = Some(seen);
            let dry_ms = seen.pending_since_ms.map(|since_ms| view.now_ms - since_ms);
            if dry_ms.is_some_and(|dry_ms| dry_ms >= DRY_MS && dry_ms.is_multiple_of(DRY_MS)) {
                events.push(Event::Dry {
                    variant,
                    reason: DryReason::Unschedulable,
                });
            }
            if let Some(reading) = reading(view, at).filter(|reading| self.readings[at] != Some(*reading)) {
                self.readings[at] = Some(reading);
                events.push(Event::Reading { variant, reading });
            }
        }
        events
    }
}

/// What is written of decisions.
pub(super) fn orders(decisions: &[Decision]) -> Vec<Order> {
    let written = decisions.iter().filter(|decision| !decision.advisory);
    let moves = written.flat_map(|decision| &decision.moves);
    moves
        .map(|one| Order {
            variant: one.variant.0 as usize,
            to: one.to,
        })
        .collect()
}
