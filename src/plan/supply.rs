//! What replicas serve, what is left of pools, and what one more would meet.

use std::cmp::Reverse;

use crate::controller::capacity::arithmetic::{fits, minus, times};
use crate::rebalance::world::{Resources, Stage, Traffic, Variant, World};

/// Loads are cut here: no product with a share or a factor overflows.
pub(super) const LOAD_MAX: u64 = 1 << 50;

/// What is left of each pool.
pub(super) fn room(world: &World, placed: &[u32]) -> Vec<Resources> {
    let mut room: Vec<Resources> = world.pools.iter().map(|pool| pool.capacity).collect();
    for (variant, count) in world.variants.iter().zip(placed) {
        if let Some(room) = room.get_mut(variant.pool.0 as usize) {
            *room = minus(*room, times(variant.request, *count));
        }
    }
    room
}

/// Whether one replica more finds no place there.
pub(super) fn is_full(variant: &Variant, count: u32, room: &[Resources]) -> bool {
    let left = room.get(variant.pool.0 as usize).copied().unwrap_or_default();
    count >= variant.max || fits(left, variant.request) == 0
}

/// What replicas serve at the target, thousandths of the stage's unit per second.
pub(super) fn serves(stage: &Stage, replicas: impl Iterator<Item = (u32, u64)>) -> u64 {
    let used: Vec<(u32, u64)> = replicas.filter(|(count, _)| *count > 0).collect();
    let whole: u128 = if stage.traffic == Traffic::Uniform {
        let count: u128 = used.iter().map(|(count, _)| u128::from(*count)).sum();
        count * u128::from(used.iter().map(|(_, each)| *each).min().unwrap_or(0))
    } else {
        used.iter()
            .map(|(count, each)| u128::from(*count) * u128::from(*each))
            .sum()
    };
    u64::try_from(whole * u128::from(stage.target_permille) / 1_000)
        .unwrap_or(LOAD_MAX)
        .min(LOAD_MAX)
}

/// The most that a stage could serve if all pools were its own: the fastest of its replicas, as many as it may have. Where
/// all of them get the same share, slow ones are worth it only if they are many.
pub(super) fn end(world: &World, at: usize) -> u64 {
    let Some(stage) = world.stages.get(at) else { return 0 };
    let (first, last) = (stage.variants.0 as usize, stage.variants.1 as usize);
    let mut sites: Vec<&Variant> = world.variants.iter().take(last).skip(first).collect();
    sites.sort_by_key(|one| Reverse(one.capacity_millis));
    let mut left = stage.max;
    let mut used: Vec<(u32, u64)> = Vec::new();
    let mut best = 0;
    for one in sites {
        let capacity = world
            .pools
            .get(one.pool.0 as usize)
            .map(|pool| pool.capacity)
            .unwrap_or_default();
        let count = one.max.min(fits(capacity, one.request)).min(left);
        left -= count;
        used.push((count, one.capacity_millis));
        best = best.max(serves(stage, used.iter().copied()));
    }
    best
}

/// What a unit of capacity is taken to cost there, hint included; only to compare pools.
pub(super) fn per_unit(variant: &Variant) -> u128 {
    let hinted = u128::from(variant.marginal_micros) * u128::from(variant.hint_permille);
    (hinted * 16 + u128::from(variant.cost_micros)) * 1_000 / u128::from(variant.capacity_millis.max(1))
}
