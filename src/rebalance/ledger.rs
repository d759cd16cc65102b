//! What is left of pools and budgets while replicas are handed out.

use super::bug::{Bug, seeded};
use super::spend::Spend;
use super::world::{Resources, Variant, World};

/// What is left of every pool, of every pipeline's budget, and of those that pipelines share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    pub(super) pools: Vec<Resources>,
    budgets: Vec<Spend>,
    /// Left of what is shared.
    pub(super) shared: Vec<Spend>,
    /// By pipeline: its place in `shared`, or none. Empty where nothing is shared.
    shares: Vec<Option<u32>>,
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
            budgets: world.pipelines.iter().map(Spend::own).collect(),
            shared: world.shared.iter().map(Spend::shared).collect(),
            shares: if world.shared.is_empty() {
                Vec::new()
            } else {
                world.pipelines.iter().map(|pipeline| pipeline.shared).collect()
            },
        }
    }

    /// Replicas of a variant for which its pool has room.
    pub(super) fn room(&self, variant: &Variant) -> u32 {
        let Some(pool) = self.pools.get(variant.pool.0 as usize) else {
            return 0;
        };
        fit(pool, &variant.request)
    }

    fn share(&self, pipeline: usize) -> Option<usize> {
        Some((*self.shares.get(pipeline)?)? as usize)
    }

    /// What is left of a pipeline's own budget.
    pub(super) fn own_budget(&self, pipeline: usize) -> Spend {
        self.budgets.get(pipeline).copied().unwrap_or(Spend::UNLIMITED)
    }

    /// What is left of a pipeline's budget: of its own, and of what it shares.
    pub(super) fn budget(&self, pipeline: usize) -> Spend {
        let own = self.own_budget(pipeline);
        let shared = self.share(pipeline).and_then(|at| self.shared.get(at));
        shared.map_or(own, |&shared| own.min(shared))
    }

    /// Stops counting a pipeline's budget, and what it shares.
    pub(super) fn lift_budget(&mut self, pipeline: usize) {
        self.each_budget(pipeline, |budget| *budget = Spend::UNLIMITED);
    }

    fn each_budget(&mut self, pipeline: usize, mut change: impl FnMut(&mut Spend)) {
        if let Some(own) = self.budgets.get_mut(pipeline) {
            change(own);
        }
        let shared = self.share(pipeline).filter(|_| !seeded(Bug::SharedForgotten));
        if let Some(shared) = shared.and_then(|at| self.shared.get_mut(at)) {
            change(shared);
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
        let each = Spend::of(variant).known();
        self.each_budget(pipeline, |budget| {
            fits &= u64::from(count) <= budget.affords(each);
            *budget = budget.less(each, u64::from(count));
        });
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
        let each = Spend::of(variant).known();
        self.each_budget(pipeline, |budget| *budget = budget.more(each, u64::from(count)));
    }
}
