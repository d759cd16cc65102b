//! A total per stage becomes replicas per pool.

use super::{Order, View};
use crate::rebalance::world::Resources;
use crate::simulate::scenario::{Scenario, take};

/// Places totals, one stage after the other, in the room that is left.
#[derive(Debug)]
pub struct Ladder {
    room: Vec<Resources>,
}

impl Ladder {
    /// The room beside what is asked for now.
    pub fn new(view: &View<'_>) -> Self {
        let mut room = view.capacity.to_vec();
        for (at, variant) in view.scenario.world.variants.iter().enumerate() {
            take(
                &mut room[variant.pool.0 as usize],
                variant,
                view.seen[at].desired.max(view.seen[at].placed()),
            );
        }
        Self { room }
    }

    /// How many more replicas of a variant its pool has room for.
    pub fn room_for(&self, view: &View<'_>, variant: usize) -> u32 {
        let declared = &view.scenario.world.variants[variant];
        let mut room = self.room[declared.pool.0 as usize];
        let mut count = 0;
        while view.seen[variant].desired + count < declared.max && Scenario::holds(room, declared.request) {
            take(&mut room, declared, 1);
            count += 1;
        }
        count
    }

    /// Takes the room of some replicas.
    pub fn take(&mut self, view: &View<'_>, variant: usize, count: u32) {
        let declared = &view.scenario.world.variants[variant];
        take(&mut self.room[declared.pool.0 as usize], declared, count);
    }

    /// `total` replicas of a stage: what there is stays; more go to the first pools with room, fewer come from the last, down to the floors.
    /// Where no pool has room, the first has to wait for it.
    pub fn place(&mut self, view: &View<'_>, stage: usize, total: u32) -> Vec<Order> {
        let order = view.scenario.ladder(stage);
        let mut counts: Vec<u32> = order.iter().map(|&at| view.seen[at].desired).collect();
        let mut have: u32 = counts.iter().sum();
        for (&at, count) in order.iter().zip(&mut counts) {
            let variant = &view.scenario.world.variants[at];
            let room = &mut self.room[variant.pool.0 as usize];
            while have < total && *count < variant.max && Scenario::holds(*room, variant.request) {
                take(room, variant, 1);
                *count += 1;
                have += 1;
            }
        }
        if let Some(first) = counts.first_mut().filter(|_| have < total) {
            *first += total - have;
            have = total;
        }
        for (&at, count) in order.iter().zip(&mut counts).rev() {
            let fewer = count
                .saturating_sub(view.scenario.floor(at))
                .min(have.saturating_sub(total));
            *count -= fewer;
            have -= fewer;
        }
        let changed = order
            .iter()
            .zip(counts)
            .filter(|(at, count)| view.seen[**at].desired != *count);
        changed.map(|(&variant, to)| Order { variant, to }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::fixture::{Scene, two_pools};

    #[test]
    fn growth_goes_to_the_cheapest_pool_with_room_and_shrinking_starts_at_the_dearest() {
        let mut scene = Scene::new(two_pools(4, 4), &[3, 0]);
        let place = |scene: &Scene, total| {
            let view = scene.view(0);
            Ladder::new(&view).place(&view, 0, total)
        };
        let order = |variant, to| Order { variant, to };
        assert_eq!(place(&scene, 6), [order(0, 4), order(1, 2)]);
        assert_eq!(
            place(&scene, 10),
            [order(0, 6), order(1, 4)],
            "two wait for room on the first"
        );
        scene.ask(&[4, 2]);
        assert_eq!(place(&scene, 3), [order(0, 3), order(1, 0)]);
        assert_eq!(place(&scene, 6), []);
    }
}
