//! What is left of pools and budgets while replicas are handed out.

use super::bug::{Bug, seeded};
use super::spend::Spend;
use super::world::{Resources, Variant, World};

/// What is left of every pool and of every pipeline's budget.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    pub(super) pools: Vec<Resources>,
    pub(super) budgets: Vec<Spend>,
}

/// Replicas of which each takes `request` that fit into `left`.
pub(super) fn fit(left: &Resources, request: &Resources) -> u32 {
    let fit = |left: u64, each: u64| left.checked_div(each).unwrap_or(u64::MAX);
    let fits = fit(left.cpu_millis, request.cpu_millis)
        .min(fit(
            left.memory_kib,
            if seeded(Bug::MemoryForgotten) {
                0
            } else {
                request.memory_kib
            },
        ))
        .min(fit(left.device_millis, request.device_millis));
    u32::try_from(fits).unwrap_or(u32::MAX)
}

impl Ledger {
    pub(super) fn new(world: &World) -> Self {
        Self {
            pools: world.pools.iter().map(|pool| pool.capacity).collect(),
            budgets: world.pipelines.iter().map(Spend::ceilings).collect(),
        }
    }

    /// Replicas of a variant for which its pool has room.
    pub(super) fn room(&self, variant: &Variant) -> u32 {
        let Some(pool) = self.pools.get(variant.pool.0 as usize) else {
            return 0;
        };
        fit(pool, &variant.request)
    }

    /// What is left of a pipeline's budget.
    pub(super) fn budget(&self, pipeline: usize) -> Spend {
        self.budgets.get(pipeline).copied().unwrap_or(Spend::UNLIMITED)
    }

    /// Stops counting a pipeline's budget.
    pub(super) fn lift_budget(&mut self, pipeline: usize) {
        if let Some(budget) = self.budgets.get_mut(pipeline) {
            *budget = Spend::UNLIMITED;
        }
    }

    /// Takes replicas out. More than there is leaves nothing, and says so.
    pub(super) fn take(&mut self, pipeline: usize, variant: &Variant, count: u32) -> bool {
        let mut fits = true;
        let mut take = |left: &mut u64, each: u64| {
            let amount = each.saturating_mul(u64::from(count));
            fits &= amount <= *left;
            *left = left.saturating_sub(amount);
        };
        if let Some(pool) = self.pools.get_mut(variant.pool.0 as usize) {
            take(&mut pool.cpu_millis, variant.request.cpu_millis);
            take(&mut pool.memory_kib, variant.request.memory_kib);
            take(&mut pool.device_millis, variant.request.device_millis);
        }
        if let Some(budget) = self.budgets.get_mut(pipeline) {
            let each = Spend::of(variant).known();
            fits &= u64::from(count) <= budget.affords(each);
            *budget = budget.less(each, u64::from(count));
        }
        fits
    }

    /// Gives back what `take` took. Only right if that had fitted.
    pub(super) fn give(&mut self, pipeline: usize, variant: &Variant, count: u32) {
        let give = |left: &mut u64, each: u64| *left = left.saturating_add(each.saturating_mul(u64::from(count)));
        if let Some(pool) = self.pools.get_mut(variant.pool.0 as usize) {
            give(&mut pool.cpu_millis, variant.request.cpu_millis);
            give(&mut pool.memory_kib, variant.request.memory_kib);
            give(&mut pool.device_millis, variant.request.device_millis);
        }
        if let Some(budget) = self.budgets.get_mut(pipeline) {
            *budget = budget.more(Spend::of(variant).known(), u64::from(count));
        }
    }
}
