//! A slow planner that is obviously right: it looks at every assignment of a tiny world.

use super::oracle::{Item, Need, Value};
use super::spend::Spend;

/// Value of given counts of one stage, straight from the definition.
pub(super) fn value_of(items: &[Item], need: &Need, counts: &[u32]) -> Value {
    let used = || items.iter().zip(counts).filter(|&(_, &count)| count > 0);
    let total: u64 = counts.iter().map(|&count| u64::from(count)).sum();
    let reliable: u64 = used()
        .filter(|(item, _)| item.reliable)
        .map(|(_, &count)| u64::from(count))
        .sum();
    let served = if need.uniform {
        total * used().map(|(item, _)| item.capacity).min().unwrap_or(0)
    } else {
        used().map(|(item, &count)| item.capacity * u64::from(count)).sum()
    };
    let short_total = u64::from(need.floor).saturating_sub(total);
    let short_reliable = u64::from(need.reliable_floor).saturating_sub(reliable);
    Value {
        short: short_total.max(short_reliable),
        unserved: need.demand.saturating_sub(served),
        price: items
            .iter()
            .zip(counts)
            .map(|(item, &count)| item.price_of(count))
            .sum(),
    }
}

/// Every assignment of one stage within bounds, ceiling and budget.
pub(super) fn assignments(items: &[Item], need: &Need, budget: Spend) -> Vec<Vec<u32>> {
    let mut all = vec![Vec::new()];
    for item in items {
        let longer = all.iter().flat_map(|counts: &Vec<u32>| {
            (item.lower.min(item.upper)..=item.upper).map(move |count| counts.iter().copied().chain([count]).collect())
        });
        all = longer.collect();
    }
    all.retain(|counts| {
        let total: u32 = counts.iter().sum();
        let sum = |each: fn(&Spend) -> u64| -> u64 {
            let parts = items.iter().zip(counts);
            parts.map(|(item, &count)| each(&item.cost) * u64::from(count)).sum()
        };
        let (money, power) = (sum(|each| each.micros), sum(|each| each.milliwatts));
        total <= need.ceiling && money <= budget.micros && power <= budget.milliwatts
    });
    all
}

/// The best value one stage can have; absent if not even what is kept fits.
pub(super) fn best(items: &[Item], need: &Need, budget: Spend) -> Option<Value> {
    assignments(items, need, budget)
        .iter()
        .map(|counts| value_of(items, need, counts))
        .min()
}
