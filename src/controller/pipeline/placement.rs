//! Pure: how many replicas a Deployment is created with. No second opinion on replicas that live.

use super::validated::{Claim, StagePool};

/// Spreads the stage's floor over Deployments that do not exist yet: on the cheapest pool with room, of the preferred tier if it has any, and the
/// reliable floor on the cheapest reliable one. Where any Deployment of the stage lives, new ones start empty: the
/// rebalancer decides.
pub fn place(pools: &mut [StagePool], min: u32, reliable_min: u32) {
    if pools.iter().any(|pool| pool.live.is_some()) {
        return;
    }
    let floor = min.max(reliable_min);
    let reliable = cheapest(pools, true);
    let any = cheapest(pools, false);
    let on_reliable = if any == reliable {
        floor
    } else {
        reliable_min.min(floor)
    };
    if let Some(pool) = reliable.and_then(|index| pools.get_mut(index)) {
        pool.claim = Claim::Create(on_reliable);
    }
    if let Some(pool) = any.filter(|_| any != reliable).and_then(|index| pools.get_mut(index)) {
        pool.claim = Claim::Create(floor - on_reliable);
    }
}

/// Index of the pool on which one replica costs least, preferred tier first: a floor counts replicas, not capacity. Pools
/// without room, and pools whose price is not known, come last.
fn cheapest(pools: &[StagePool], reliable: bool) -> Option<usize> {
    let fitting = pools.iter().enumerate().filter_map(|(index, pool)| {
        let fit = pool.fit.as_ref()?;
        if reliable && !fit.pool.spec.capacity_type.is_reliable() {
            return None;
        }
        Some((
            index,
            pool.room == 0,
            !fit.preferred,
            pool.cost.is_none(),
            pool.cost.map(|cost| cost.marginal_micros),
        ))
    });
    fitting
        .min_by_key(|&(index, full, below, unknown, price)| (full, below, unknown, price, index))
        .map(|(index, ..)| index)
}
